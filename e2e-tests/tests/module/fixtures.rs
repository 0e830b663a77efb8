//! The cases of `e2e.bats`, in the embedded host: the same requests, settings, recorded sessions and expectations.

use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Session, Verdict, modules};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Deserialize)]
struct Case {
    name: String,
    request: String,
    settings: String,
    session: String,
    verdict: Verdict,
    added: Vec<String>,
    warnings: Vec<String>,
    message: String,
}

fn path(relative: &str) -> PathBuf {
    modules::root().join("e2e-tests").join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&read("fixtures/cases.json")).unwrap()
}

#[test]
fn every_case_comes_out_as_in_kwctl() {
    for case in cases() {
        let request =
            AdmissionRequest::read(&read(&format!("fixtures/requests/{}.json", case.request))).unwrap().remove(0);
        let settings: Value =
            yaml_serde::from_str(&read(&format!("fixtures/settings/{}.yaml", case.settings))).unwrap();
        let session = Session::read(&path(&format!("fixtures/sessions/{}.yaml", case.session))).unwrap();
        let cluster = Cluster::Session(Arc::new(session));
        let evaluation = modules::policy().evaluate(&settings, &request, &cluster);

        assert_eq!(evaluation.failure, None, "{}", case.name);
        assert_eq!(evaluation.verdict(), case.verdict, "{}", case.name);
        assert_eq!(evaluation.response.warnings.clone().unwrap_or_default(), case.warnings, "{}", case.name);
        assert_eq!(evaluation.response.message(), case.message, "{}", case.name);
        let after = evaluation.response.apply(request.object.as_ref().unwrap()).unwrap();
        let names = |object: &Value| -> Vec<String> {
            let list = object.pointer("/spec/imagePullSecrets").or_else(|| object.get("imagePullSecrets"));
            let entries = list.and_then(Value::as_array).into_iter().flatten();
            entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
        };
        let before = names(request.object.as_ref().unwrap());
        assert_eq!(names(&after), [before, case.added].concat(), "{}", case.name);
    }
}

#[test]
fn kwctl_is_asked_about_every_case() {
    let bats = read("e2e.bats");
    for case in cases() {
        assert!(bats.contains(&format!("  check {}\n", case.name)), "{}", case.name);
    }
}
