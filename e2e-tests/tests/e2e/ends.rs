//! `with-cluster`: nothing is left of its cluster, however it ends, and it says why if it cannot start.

use crate::harness::PATIENCE;
use image_pull_secrets_e2e::modules;
use rstest::rstest;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn with_cluster(logs: &Path, command: &[&str]) -> Command {
    let mut with_cluster = Command::new("env");
    with_cluster
        // A shell makes its background jobs ignore this signal, and everything that they start.
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_image-pull-secrets-e2e")])
        .env_remove("KUBECONFIG_E2E")
        .args(["with-cluster", "--logs", logs.to_str().unwrap(), "--"])
        .args(command);
    with_cluster
}

/// How many processes have this text in their command lines.
fn processes_of(directory: &str) -> usize {
    let output = Command::new("ps").args(["-A", "-ww", "-o", "args="]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(directory)).count()
}

#[rstest]
#[case::ctrl_c("-INT", true)]
#[case::a_signal_to_end("-TERM", false)]
#[case::a_kill("-KILL", false)]
fn nothing_is_left_after(#[case] signal: &str, #[case] to_the_whole_group: bool) {
    let logs = tempfile::tempdir().unwrap();
    let mut child = with_cluster(logs.path(), &["sh", "-c", "echo \"$KUBECONFIG\"; exec sleep 600"])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = format!("-{}", child.id());
    let mut kubeconfig = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut kubeconfig).unwrap();
    let directory = Path::new(kubeconfig.trim()).parent().unwrap().to_str().unwrap().to_owned();
    assert!(processes_of(&directory) >= 3, "etcd, kube-apiserver and kube-controller-manager run");

    let target = if to_the_whole_group { group.clone() } else { child.id().to_string() };
    assert!(Command::new("kill").args([signal, "--", &target]).status().unwrap().success());
    assert!(!child.wait().unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    while processes_of(&directory) > 0 || Path::new(&directory).exists() {
        assert!(Instant::now() < deadline, "there is still something of {directory}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The command itself, if nothing has ended it.
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
}

#[test]
fn a_command_that_fails_leaves_the_logs_of_every_part() {
    let logs = tempfile::tempdir().unwrap();
    let output = with_cluster(logs.path(), &["false"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        let log = logs.path().join(format!("{part}.log"));
        assert!(fs::metadata(&log).unwrap().len() > 0, "{part}");
        assert!(said.contains(&format!("--- the end of {}", log.display())), "{said}");
    }
}

#[test]
fn without_go_the_build_says_what_to_install() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["build.sh", "go.mod"] {
        fs::copy(modules::root().join("e2e-tests/cluster").join(file), directory.path().join(file)).unwrap();
    }
    let output = Command::new(directory.path().join("build.sh")).env("GO", "no-such-go").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("'no-such-go' is not installed") && said.contains("install Go 1."), "{said}");
}
