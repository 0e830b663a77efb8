//! The command `run`, from its files to what it prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use image_pull_secrets_e2e::modules;
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &str = "
{apiVersion: v1, kind: Secret, metadata: {name: regcred, namespace: shop,
  annotations: {kubectl.kubernetes.io/last-applied-configuration: not-a-real-password}},
  spec: {}, data: {password: bm90LWEtcmVhbC1wYXNzd29yZA==}, stringData: {other: not-a-real-password}}";

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: []}}";

struct Fixture {
    directory: TempDir,
    command: Command,
}

/// The command over a directory that holds these files, with the module named.
fn run(module: &[u8], files: &[(&str, &str)]) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(directory.path().join("module.wasm"), module).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-e2e"));
    command.current_dir(directory.path()).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.args(["run", "--module", "module.wasm", "--metadata"]).arg(metadata());
    Fixture { directory, command }
}

/// The command over these files, with a module that adds a reference to whatever has a spec.
fn run_mutating(files: &[(&str, &str)]) -> Fixture {
    let mut fixture = run(&modules::probe_module(), files);
    let settings = json!({"validate": {"addReference": "registry-credentials"}});
    fs::write(fixture.directory.path().join("settings.yaml"), settings.to_string()).unwrap();
    fixture.command.args(["--settings", "settings.yaml"]);
    fixture
}

fn metadata() -> PathBuf {
    fs::canonicalize(modules::root().join("metadata.yml")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn output(fixture: &mut Fixture, args: &[&str]) -> Output {
    fixture.command.args(args).output().unwrap()
}

/// The times of a verdict are its own: `0.07 ms` becomes `T`.
fn without_times(text: &str) -> String {
    let words = text.split_inclusive(' ').collect::<Vec<_>>().concat();
    let mut result = String::new();
    let mut rest = words.as_str();
    while let Some(end) = rest.find(" ms") {
        let number =
            rest[..end].rfind(|character: char| !character.is_ascii_digit() && character != '.').map_or(0, |at| at + 1);
        result.push_str(&rest[..number]);
        result.push('T');
        rest = &rest[end + " ms".len()..];
    }
    result + rest
}

#[test]
fn each_object_gets_a_verdict_a_diff_and_its_costs() {
    let files =
        [("a.yaml", POD), ("b.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: shop}}")];
    let output = output(&mut run_mutating(&files), &["a.yaml", "b.yaml"]);
    assert!(output.status.success());
    assert_eq!(
        without_times(&text(&output.stdout)),
        "Pod shop/web mutated
  no host call, start T, validate T
  @@ -5,3 +5,5 @@
     namespace: shop
   spec:
     containers: []
  +  imagePullSecrets:
  +  - name: registry-credentials

ConfigMap shop/c accepted untouched
  no rule in metadata.yml selects it: an API server would not ask
  no host call, start T, validate T

2 objects: 1 accepted untouched, 1 mutated, 0 rejected; 0 host calls; medians on wasmtime: start T, validate T
"
    );
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let mut plain = run_mutating(&[("a.yaml", POD)]);
    assert!(!text(&output(&mut plain, &["a.yaml"]).stdout).contains('\u{1b}'));
    let mut forced = run_mutating(&[("a.yaml", POD)]);
    forced.command.env("CLICOLOR_FORCE", "1");
    assert!(text(&output(&mut forced, &["a.yaml"]).stdout).contains("\u{1b}[32m+  imagePullSecrets:"));
    let mut refused = run_mutating(&[("a.yaml", POD)]);
    refused.command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert!(!text(&output(&mut refused, &["a.yaml"]).stdout).contains('\u{1b}'));
}

#[test]
fn a_secret_among_the_manifests_is_not_shown() {
    for format in ["text", "json"] {
        let mut fixture = run_mutating(&[("a.yaml", SECRET)]);
        let output = output(&mut fixture, &["--output", format, "a.yaml"]);
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success() && shown.contains("mutated"), "{shown}");
        assert!(!shown.contains("not-a-real-password") && !shown.contains("bm90LWEtcmVhbC1wYXNzd29yZA"), "{shown}");
    }
}

#[test]
fn json_is_one_line_an_object_with_the_response_as_an_api_server_gets_it() {
    let mut fixture = run_mutating(&[("a.yaml", POD)]);
    let output = text(&output(&mut fixture, &["--output", "json", "a.yaml", "a.yaml"]).stdout);
    assert_eq!(output.lines().count(), 2);
    let mut line: Value = serde_json::from_str(output.lines().next().unwrap()).unwrap();
    for time in ["startMicroseconds", "validateMicroseconds"] {
        assert!(line.as_object_mut().unwrap().remove(time).unwrap().is_u64());
    }
    assert!(line["response"]["patch"].take().is_string());
    assert_eq!(
        line,
        json!({"kind": "Pod", "namespace": "shop", "name": "web", "operation": "CREATE", "selectedByRules": true,
            "verdict": "mutated", "failure": null, "hostCalls": [], "logs": [],
            "response": {"uid": "00000000-0000-4000-8000-000000000000", "allowed": true, "patchType": "JSONPatch",
                "patch": null, "auditAnnotations": null, "warnings": null}})
    );
}

#[test]
fn a_recorded_session_replays_to_the_same_verdict() {
    let order = json!({"validate": {"hostCall": {"binding": "kubewarden", "namespace": "kubernetes",
        "operation": "get_resource", "payload": {"api_version": "v1", "kind": "Secret", "namespace": "shop",
        "name": "regcred", "disable_cache": false, "field_masks": ["type"]}}}});
    let files = [("a.yaml", POD), ("settings.yaml", &order.to_string()), ("cluster/secret.yaml", SECRET)];
    let mut first = run(&modules::probe_module(), &files);
    let arguments = ["--settings", "settings.yaml", "--output", "json", "a.yaml"];
    let recorded =
        first.command.args(["--cluster", "cluster", "--record", "session.yaml"]).args(arguments).output().unwrap();
    let session = read(first.directory.path(), "session.yaml");
    assert!(!session.contains("bm90"), "{session}");

    let mut second = run(&modules::probe_module(), &files);
    fs::write(second.directory.path().join("session.yaml"), &session).unwrap();
    let replayed = second.command.args(["--cluster", "session.yaml"]).args(arguments).output().unwrap();
    let message = |output: &Output| {
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        line["response"]["status"]["message"].as_str().unwrap().to_owned()
    };
    assert!(message(&recorded).starts_with("ok: {"), "{}", message(&recorded));
    assert_eq!(message(&recorded), message(&replayed));
    assert_eq!(text(&replayed.stderr), "");
}

#[test]
fn what_a_session_holds_beyond_the_questions_is_reported() {
    let session = "- {type: Exchange, request: \"!KubernetesGetResource {api_version: v1, kind: Secret, name: a, namespace: b, disable_cache: false, field_masks: null}\", response: {type: Error, message: m}}";
    let mut fixture = run_mutating(&[("a.yaml", POD), ("session.yaml", session)]);
    let output = output(&mut fixture, &["--cluster", "session.yaml", "a.yaml"]);
    assert_eq!(text(&output.stderr), "warning: 1 recorded exchanges have not been asked for\n");
}

#[test]
fn a_policy_that_fails_fails_the_run_once_all_objects_are_through() {
    let settings = json!({"validate": {"fail": "told to"}}).to_string();
    let mut fixture = run(&modules::probe_module(), &[("a.yaml", POD), ("settings.yaml", &settings)]);
    let output = output(&mut fixture, &["--settings", "settings.yaml", "a.yaml", "a.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    assert!(shown.contains("Pod shop/web failed\n  internal server error: Guest call failure: told to"), "{shown}");
    assert!(shown.contains("2 objects: 0 accepted untouched, 0 mutated, 0 rejected, 2 failed"), "{shown}");
}

#[test]
fn a_rejection_is_an_answer_and_no_failure() {
    let answer = json!({"accepted": false, "message": "create the Secret first", "warnings": ["careful"]}).to_string();
    let settings = json!({"validate": {"answer": answer}}).to_string();
    let mut fixture = run(&modules::probe_module(), &[("a.yaml", POD), ("settings.yaml", &settings)]);
    let output = output(&mut fixture, &["--settings", "settings.yaml", "a.yaml"]);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    assert!(shown.starts_with("Pod shop/web rejected\n  create the Secret first\n  warning: careful\n"), "{shown}");
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let invalid = json!({"validateSettings": {"answer": r#"{"valid": false, "message": "secrets: at least one"}"#}});
    let files = [
        ("a.yaml", POD),
        ("broken.yaml", "kind: [hunter2"),
        ("list.yaml", "[1]"),
        ("invalid.yaml", &invalid.to_string()),
        ("cluster/broken.yaml", "kind: Secret"),
    ];
    for (args, message) in [
        (&["--settings", "invalid.yaml", "a.yaml"][..], "Error: Policy settings are invalid: secrets: at least one\n"),
        (&["--settings", "list.yaml", "a.yaml"], "Error: the settings list.yaml are not an object\n"),
        (&["--settings", "nope.yaml", "a.yaml"], "Error: cannot read the settings nope.yaml\n"),
        (
            &["--cluster", "cluster", "a.yaml"],
            "Error: cluster/broken.yaml\n\nCaused by:\n    document 1 is not a Kubernetes object",
        ),
        (
            &["--cluster", "nope", "a.yaml"],
            "Error: cannot read the recorded session nope\n\nCaused by:\n    No such file",
        ),
        (&["nope.yaml"], "Error: cannot read nope.yaml\n"),
        (&["broken.yaml"], "Error: broken.yaml\n\nCaused by:\n    neither JSON nor YAML at line"),
    ] {
        let output = output(&mut run(&modules::probe_module(), &files), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let shown = text(&output.stderr);
        assert!(shown.starts_with(message), "{args:?}: {shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap()
}
