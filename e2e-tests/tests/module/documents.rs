//! What README and the settings page show is what happens.

use image_pull_secrets_e2e::modules;
use serde_json::Value;
use std::fs;
use std::process::Command;

fn read(name: &str) -> String {
    fs::read_to_string(modules::root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The code blocks of a language, in order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

fn yaml_documents(block: &str) -> Vec<Value> {
    block.split("\n---\n").map(|document| yaml_serde::from_str(document).unwrap()).collect()
}

fn assert_valid(settings: &Value) {
    let answer = modules::policy().validate_settings(settings.to_string().as_bytes());
    assert_eq!(answer.message, None, "{settings}");
}

#[test]
fn the_readme_shows_what_make_run_prints() {
    let root = modules::root();
    let output = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-e2e"))
        .current_dir(&root)
        .env("NO_COLOR", "1")
        .args(["run", "--metadata", "metadata.yml", "--settings", "examples/settings.yaml"])
        .args(["--cluster", "examples/cluster", "--module"])
        .arg(std::env::var_os("POLICY_WASM").unwrap_or_else(|| "policy.wasm".into()))
        .arg("examples/manifests.yaml")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let is_timeless = |line: &&str| !line.contains(" ms") && !line.trim().is_empty();
    let mut printed_lines = printed.lines().filter(is_timeless);

    let readme = read("README.md");
    let console = blocks(&readme, "console").remove(0);
    let shown = console.split("$ make test").next().unwrap();
    let shown: Vec<_> = shown.lines().skip(1).filter(is_timeless).filter(|line| *line != "…").collect();
    assert!(shown.len() > 8, "{shown:?}");
    for line in shown {
        assert!(printed_lines.any(|printed| printed == line), "not printed, or not in this order: {line}\n{printed}");
    }
    let summary = console.lines().find(|line| line.contains("objects: ")).unwrap();
    let counts = summary.split("; medians").next().unwrap();
    assert!(printed.contains(counts), "{counts}\n{printed}");
}

#[test]
fn settings_that_are_shown_are_valid() {
    let mut seen = 0;
    for block in blocks(&read("docs/settings.md"), "yaml").iter().chain(&[read("examples/settings.yaml")]) {
        assert_valid(&yaml_serde::from_str(block).unwrap());
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn the_policy_without_the_chart_is_what_metadata_yml_asks_for() {
    let policy =
        blocks(&read("docs/install.md"), "yaml").iter().flat_map(|block| yaml_documents(block)).next().unwrap();
    assert_eq!(policy["kind"], "ClusterAdmissionPolicy");
    let metadata: Value = yaml_serde::from_str(&read("metadata.yml")).unwrap();
    for field in ["mutating", "backgroundAudit"] {
        assert_eq!(policy["spec"][field], metadata[field], "{field}");
    }
    assert_eq!(policy["spec"]["contextAwareResources"], metadata["contextAwareResources"]);
    assert_eq!(policy["spec"]["rules"], metadata["rules"]);
    assert_valid(&policy["spec"]["settings"]);
}

#[test]
fn every_page_that_is_linked_is_there() {
    let readme = read("README.md");
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
        if !link.starts_with("http") {
            assert!(modules::root().join(link).exists(), "{link}");
        }
    }
}
