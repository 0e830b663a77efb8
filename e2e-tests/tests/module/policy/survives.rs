//! Requests that no API server sends, and the answers chosen for them: never a guest error.

use super::outcome::cluster;
use image_pull_secrets_e2e::modules;
use rstest::rstest;
use serde_json::Value;

/// The policy's own answer to a payload as it stands.
fn answer(payload: &[u8]) -> Value {
    let call = modules::policy().call("validate", payload, &cluster());
    serde_json::from_slice(&call.answer.expect("an answer, whatever comes")).unwrap()
}

fn payload(settings: &str, object: &str) -> String {
    let kind = r#"{"group":"","version":"v1","kind":"Pod"}"#;
    format!(
        r#"{{"settings":{settings},"request":{{"uid":"1","kind":{kind},"operation":"CREATE","namespace":"shop","object":{object}}}}}"#
    )
}

const SETTINGS: &str = r#"{"secrets":[{"name":"usable"}],"onMissingSecret":"reject"}"#;

#[rstest]
#[case::nothing("")]
#[case::no_json("{")]
#[case::a_list("[]")]
#[case::no_request(r#"{"settings":{}}"#)]
#[case::a_request_of_another_kind(r#"{"settings":{},"request":[]}"#)]
#[case::no_kind(r#"{"settings":{},"request":{"operation":"CREATE"}}"#)]
#[case::a_kind_of_another_kind(r#"{"settings":{},"request":{"kind":"Pod"}}"#)]
fn an_unreadable_payload_is_accepted_with_a_warning(#[case] payload: &str) {
    let answer = answer(payload.as_bytes());
    assert_eq!(answer["accepted"], true);
    assert_eq!(
        answer["warnings"][0],
        "The admission request could not be read: accepted unchanged; see policy-server's log"
    );
}

#[test]
fn a_payload_that_is_no_utf8_is_accepted_with_a_warning() {
    assert_eq!(answer(b"\xff\xfe")["accepted"], true);
}

#[rstest]
#[case::null("null", "The request has no Pod in it: accepted unchanged; send the whole object")]
#[case::a_text("\"hunter2\"", "The request has no Pod in it: accepted unchanged; send the whole object")]
#[case::an_empty_object("{}", "The Pod has no spec: accepted unchanged; give it one")]
#[case::no_spec(r#"{"metadata":{"name":"web"}}"#, "The Pod has no spec: accepted unchanged; give it one")]
#[case::a_spec_of_null(r#"{"spec":null}"#, "The Pod has no spec: accepted unchanged; give it one")]
#[case::a_spec_of_another_kind(r#"{"spec":["hunter2"]}"#, "The Pod has no spec: accepted unchanged; give it one")]
#[case::references_that_are_a_text(
    r#"{"spec":{"imagePullSecrets":"hunter2"}}"#,
    "The Pod's spec.imagePullSecrets is not a list: accepted unchanged; make it one"
)]
#[case::references_that_are_an_object(
    r#"{"spec":{"imagePullSecrets":{"name":"a"}}}"#,
    "The Pod's spec.imagePullSecrets is not a list: accepted unchanged; make it one"
)]
fn an_object_that_cannot_be_edited_is_accepted_with_a_warning(#[case] object: &str, #[case] warning: &str) {
    let answer = answer(payload(SETTINGS, object).as_bytes());
    assert_eq!((&answer["accepted"], &answer["mutated_object"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(answer["warnings"], Value::from(vec![warning]));
}

#[rstest]
#[case::null("null")]
#[case::no_secrets("{}")]
#[case::a_text("\"hunter2\"")]
fn settings_that_are_not_valid_leave_everything_alone(#[case] settings: &str) {
    let answer = answer(payload(settings, r#"{"spec":{}}"#).as_bytes());
    assert_eq!((&answer["accepted"], &answer["mutated_object"]), (&Value::Bool(true), &Value::Null));
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("The policy's settings are not valid: accepted unchanged; correct s"), "{warning}");
    assert!(!warning.contains("hunter2"), "{warning}");
}

#[rstest]
#[case::metadata_of_another_kind(r#"{"metadata":3,"spec":{}}"#)]
#[case::annotations_of_another_kind(r#"{"metadata":{"annotations":[1]},"spec":{}}"#)]
#[case::an_annotation_of_another_kind(r#"{"metadata":{"annotations":{"a":1}},"spec":{}}"#)]
#[case::containers_of_another_kind(r#"{"spec":{"containers":{"a":1},"volumes":3}}"#)]
#[case::containers_that_are_texts(r#"{"spec":{"containers":["a",null],"initContainers":null}}"#)]
#[case::entries_that_are_texts(r#"{"spec":{"imagePullSecrets":["a",3,null]}}"#)]
fn what_is_odd_elsewhere_does_not_matter(#[case] object: &str) {
    let answer = answer(payload(SETTINGS, object).as_bytes());
    let list = answer["mutated_object"]["spec"]["imagePullSecrets"].as_array().unwrap();
    assert_eq!(list.last().unwrap()["name"], "usable");
}

#[rstest]
#[case::null_namespace(r#""namespace":null"#)]
#[case::null_options(r#""namespace":"shop","options":null,"dryRun":null,"oldObject":null,"subResource":null"#)]
fn nulls_are_what_is_not_there(#[case] fields: &str) {
    let kind = r#"{"group":"","version":"v1","kind":"Pod"}"#;
    let object = r#"{"metadata":{"namespace":"shop"},"spec":{}}"#;
    let payload = format!(
        r#"{{"settings":{SETTINGS},"request":{{"kind":{kind},"operation":"CREATE",{fields},"object":{object}}}}}"#
    );
    assert_eq!(answer(payload.as_bytes())["mutated_object"]["spec"]["imagePullSecrets"][0]["name"], "usable");
}

#[test]
fn deep_nesting_is_passed_over() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let answer = modules::policy().call(
        "validate",
        payload(SETTINGS, &format!(r#"{{"spec":{{"x":{deep}}}}}"#)).as_bytes(),
        &cluster(),
    );
    let text = String::from_utf8(answer.answer.unwrap()).unwrap();
    assert!(text.contains(r#"{"imagePullSecrets":[{"name":"usable"}],"x":[["#), "{}", &text[..200]);
}
