//! The generator as its own process, beside the policy.

use crate::harness::{PASSWORD, PATIENCE, Stage};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A generator that runs until it is dropped.
pub struct Generator {
    child: Child,
    log: PathBuf,
    _directory: TempDir,
}

impl Generator {
    /// Starts it as the only replica on the stage, with these settings and these further flags.
    pub fn start(stage: &Stage, settings: &Value, flags: &[&str]) -> Self {
        Self::start_in(stage, settings, flags, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_in(stage: &Stage, settings: &Value, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let flags = [&["--no-leader-elect"], flags].concat();
        Self::start_with(stage, settings, &stage.kubeconfig, &flags, environment)
    }

    /// Starts it as one of several replicas, which reach the API server with this kubeconfig.
    pub fn start_replica(stage: &Stage, settings: &Value, kubeconfig: &Path) -> Self {
        Self::start_with(stage, settings, kubeconfig, &[], &[])
    }

    fn start_with(
        stage: &Stage,
        settings: &Value,
        kubeconfig: &Path,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let child = command("run", stage, settings, kubeconfig, &directory)
            .args(["--listen", "127.0.0.1:0", "--log-level", "debug"])
            .args(more)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log, _directory: directory }
    }

    /// Ends it with SIGTERM, as the kubelet does first.
    pub fn terminate(mut self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{}", self.log());
    }

    /// How often it put a reference into ServiceAccount `default` of this namespace, so far.
    pub fn references_added(&self, namespace: &str) -> usize {
        let line = format!("update ServiceAccount namespace=\"{namespace}\"");
        self.log().lines().filter(|said| said.contains(&line)).count()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs `cleanup` on the stage. Gives whether it succeeded, and what it printed.
pub fn cleanup(stage: &Stage, settings: &Value, args: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let output =
        command("cleanup", stage, settings, &stage.kubeconfig, &directory).arg("--yes").args(args).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains(PASSWORD), "a credential was told: {said}");
    (output.status.success(), said)
}

/// The generator's binary.
pub fn program() -> PathBuf {
    let program =
        PathBuf::from(env!("CARGO_BIN_EXE_image-pull-secrets-e2e")).with_file_name("image-pull-secrets-generator");
    assert!(program.is_file(), "run `cargo test --workspace --no-run --test cluster` first: there is no {program:?}");
    program
}

fn command(name: &str, stage: &Stage, settings: &Value, kubeconfig: &Path, directory: &TempDir) -> Command {
    let file = directory.path().join("settings.json");
    fs::write(&file, settings.to_string()).unwrap();
    let mut command = Command::new(program());
    command
        .arg(name)
        .args(["--lease-namespace", "default", "--lease-name", &stage.id])
        .arg("--settings")
        .arg(file)
        .arg("--kubeconfig")
        .arg(kubeconfig);
    // Everything is removed, even from a namespace that has lost its label.
    if name != "cleanup" {
        command.args(["--namespace-selector", &format!("stage={}", stage.id)]);
    }
    command
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- the generator's log\n{log}");
        } else {
            assert!(!log.contains(PASSWORD), "a credential was logged: {log}");
        }
    }
}
