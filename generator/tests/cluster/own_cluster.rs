//! A cluster that a test has for itself.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A cluster of this test's own, whose parts can be stopped.
pub struct OwnCluster {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub kubeconfig: PathBuf,
    _directory: tempfile::TempDir,
}

impl OwnCluster {
    pub fn up() -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e-tests/cluster/bin/cluster");
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["up", "--dir", directory.path().join("cluster").to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; build it with e2e-tests/cluster/build.sh"));
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let kubeconfig = ready["kubeconfig"].as_str().unwrap().into();
        Self { child, stdin, stdout, kubeconfig, _directory: directory }
    }

    pub fn command(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["ok"], true, "{command}: {line}");
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
