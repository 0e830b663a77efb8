//! The SDK as the measure: what the policy tells its host, and what the embedded host reads, is what the SDK writes.

use image_pull_secrets_e2e::{
    AdmissionRequest, Cluster, Manifests, modules,
    response::{SettingsValidationResponse, ValidationResponse},
};
use kubewarden_policy_sdk::{
    host_capabilities::kubernetes::GetResourceRequest, protocol_version_guest, response, settings,
};
use rstest::rstest;
use serde_json::{Value, json};

fn told(operation: &str, payload: &[u8]) -> Vec<u8> {
    modules::policy().call(operation, payload, &Cluster::Absent).answer.unwrap()
}

#[test]
fn the_policys_protocol_version_is_the_sdks() {
    assert_eq!(told("protocol_version", b""), protocol_version_guest(b"").unwrap());
}

#[rstest]
#[case::valid(br#"{"secrets":[{"name":"a"}]}"#)]
#[case::not_valid(b"{}")]
fn the_policys_answer_about_settings_is_the_sdks(#[case] settings: &[u8]) {
    let ours = told("validate_settings", settings);
    let theirs: settings::SettingsValidationResponse = serde_json::from_slice(&ours).unwrap();
    assert_eq!(theirs.valid, theirs.message.is_none());
    assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(&theirs).unwrap());
}

#[test]
fn the_policys_questions_are_the_sdks() {
    let settings = json!({"secrets": [{"name": "a"}], "exclude": {"annotation": "example.com/excluded"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "image": "ghcr.io/acme/app"}]}});
    let request = AdmissionRequest::create(pod, 0).unwrap();
    let evaluation = modules::policy().evaluate(&settings, &request, &Cluster::of(Manifests::default()));
    let questions: Vec<_> = evaluation.host_calls.iter().map(|call| &call.request).collect();
    assert_eq!(questions.len(), 2, "one about the Namespace, one about the Secret: {questions:?}");
    for question in questions {
        let theirs: GetResourceRequest = serde_json::from_value(question.clone()).unwrap();
        assert_eq!(&serde_json::to_value(theirs).unwrap(), question);
    }
}

#[rstest]
#[case::every_field(
    json!({"accepted": true, "message": "m", "code": 403, "mutated_object": {"a": 1}, "audit_annotations": {"k": "v"},
        "warnings": ["w"]})
)]
#[case::no_field_but_the_verdict(json!({"accepted": false}))]
#[case::nulls(json!({"accepted": false, "message": null, "warnings": null, "mutated_object": null}))]
#[case::a_field_of_another_host(json!({"accepted": true, "unheardOf": 1}))]
fn the_host_reads_an_answer_as_the_sdk_writes_it(#[case] answer: Value) {
    let ours: ValidationResponse = serde_json::from_value(answer.clone()).unwrap();
    let theirs: response::ValidationResponse = serde_json::from_value(answer).unwrap();
    let theirs = serde_json::from_value(serde_json::to_value(theirs).unwrap()).unwrap();
    assert_eq!(ours, theirs);
}

#[rstest]
#[case::no_verdict(json!({}))]
#[case::a_code_that_is_none(json!({"accepted": true, "code": -1}))]
#[case::a_warning_that_is_no_text(json!({"accepted": true, "warnings": [1]}))]
fn the_host_refuses_what_the_sdk_could_not_have_written(#[case] answer: Value) {
    assert!(serde_json::from_value::<ValidationResponse>(answer.clone()).is_err());
    assert!(serde_json::from_value::<response::ValidationResponse>(answer).is_err());
}

#[rstest]
#[case::valid(true, None)]
#[case::not_valid(false, Some("secrets: at least one".to_owned()))]
fn the_host_reads_an_answer_about_settings_as_the_sdk_writes_it(#[case] valid: bool, #[case] message: Option<String>) {
    let theirs = settings::SettingsValidationResponse { valid, message: message.clone() };
    let ours: SettingsValidationResponse = serde_json::from_value(serde_json::to_value(theirs).unwrap()).unwrap();
    assert_eq!(ours, SettingsValidationResponse { valid, message });
}
