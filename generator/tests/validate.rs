//! `validate`, as a check of a change in review runs it: without a cluster, and without a kubeconfig.

use rstest::rstest;
use std::fs;
use std::process::Command;

#[rstest]
#[case::valid("secrets:\n- name: creds\n", 0, &["settings.yaml: the settings are valid"])]
#[case::several_faults(
    "secrets:\n- name: Creds\n- name: a\n  surce: {}\n",
    1,
    &["settings.yaml: secrets[0].name: ", "settings.yaml: secrets[1].surce: "]
)]
#[case::no_yaml("secrets: [", 1, &["the settings "])]
fn a_file_is(#[case] settings: &str, #[case] code: i32, #[case] lines: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("settings.yaml"), settings).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-generator"))
        .args(["validate", "--settings", "settings.yaml"])
        .current_dir(directory.path())
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{printed}");
    let found: Vec<_> = printed.lines().collect();
    assert!(
        found.len() >= lines.len() && found.iter().zip(lines).all(|(found, line)| found.starts_with(line)),
        "{printed}"
    );
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-generator"))
        .args(["validate", "--settings", "/nonexistent"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("cannot read the settings /nonexistent"), "{told}");
}
