//! The edit is made on the object's own text: every other byte stays, and the value is that of a plain edit.

use super::outcome::cluster;
use image_pull_secrets_e2e::modules;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json, value::RawValue};

#[derive(serde::Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    mutated_object: Option<&'a RawValue>,
}

/// The text of the mutated object that the module answers with, for a Pod or a ServiceAccount as text.
fn mutated(kind: &str, object: &str, secrets: &[&str]) -> Option<String> {
    let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
    let settings = json!({"secrets": secrets, "serviceAccounts": ["*"]});
    let payload = format!(
        r#"{{"settings":{settings},"request":{{"kind":{{"group":"","version":"v1","kind":"{kind}"}},"operation":"CREATE","namespace":"shop","object":{object}}}}}"#
    );
    let answer = modules::policy().call("validate", payload.as_bytes(), &cluster()).answer.unwrap();
    let answer: Answer<'_> = serde_json::from_slice(&answer).unwrap();
    answer.mutated_object.map(|object| object.get().to_owned())
}

#[rstest]
#[case::numbers_as_written(
    r#"{"spec":{"a":1e3,"b":18446744073709551615,"c":-0.0,"d":1.10,"e":123456789012345678901234567890}}"#,
    r#"{"spec":{"imagePullSecrets":[{"name":"usable"}],"a":1e3,"b":18446744073709551615,"c":-0.0,"d":1.10,"e":123456789012345678901234567890}}"#
)]
#[case::white_space(
    "{ \"spec\" :\n { \"a\" : [ ] , \"b\":null }\t}",
    "{ \"spec\" :\n {\"imagePullSecrets\":[{\"name\":\"usable\"}], \"a\" : [ ] , \"b\":null }\t}"
)]
#[case::an_empty_spec(r#"{"spec":{}}"#, r#"{"spec":{"imagePullSecrets":[{"name":"usable"}]}}"#)]
#[case::an_empty_spec_with_a_space("{\"spec\":{ }}", "{\"spec\":{\"imagePullSecrets\":[{\"name\":\"usable\"}] }}")]
#[case::an_empty_list(
    "{\"spec\":{\"imagePullSecrets\":[ ]}}",
    "{\"spec\":{\"imagePullSecrets\":[ {\"name\":\"usable\"}]}}"
)]
#[case::a_list(
    r#"{"spec":{"imagePullSecrets":[ {"name":"own","x":1} ],"z":1}}"#,
    r#"{"spec":{"imagePullSecrets":[ {"name":"own","x":1} ,{"name":"usable"}],"z":1}}"#
)]
#[case::a_null_list(
    r#"{"spec":{"a":1,"imagePullSecrets":null}}"#,
    r#"{"spec":{"a":1,"imagePullSecrets":[{"name":"usable"}]}}"#
)]
#[case::escapes(
    r#"{"metadata":{"annotations":{"\u0073pec":"\"imagePullSecrets\":[]","é\n😀":"\\"}},"spec":{"a":"}{"}}"#,
    r#"{"metadata":{"annotations":{"\u0073pec":"\"imagePullSecrets\":[]","é\n😀":"\\"}},"spec":{"imagePullSecrets":[{"name":"usable"}],"a":"}{"}}"#
)]
#[case::an_escaped_member(
    r#"{"sp\u0065c":{"image\u0050ullSecrets":[{"n\u0061me":"own"}]}}"#,
    r#"{"sp\u0065c":{"image\u0050ullSecrets":[{"n\u0061me":"own"},{"name":"usable"}]}}"#
)]
#[case::keys_that_contain_the_word(
    r#"{"imagePullSecrets":[],"spec":{"imagePullSecretsX":[],"x":{"imagePullSecrets":[]}}}"#,
    r#"{"imagePullSecrets":[],"spec":{"imagePullSecrets":[{"name":"usable"}],"imagePullSecretsX":[],"x":{"imagePullSecrets":[]}}}"#
)]
#[case::the_last_of_two_specs(
    r#"{"spec":{"a":1},"spec":{"b":2}}"#,
    r#"{"spec":{"a":1},"spec":{"imagePullSecrets":[{"name":"usable"}],"b":2}}"#
)]
#[case::the_last_of_two_lists(
    r#"{"spec":{"imagePullSecrets":[{"name":"usable"}],"imagePullSecrets":[]}}"#,
    r#"{"spec":{"imagePullSecrets":[{"name":"usable"}],"imagePullSecrets":[{"name":"usable"}]}}"#
)]
#[case::the_last_of_two_lists_is_null(
    r#"{"spec":{"imagePullSecrets":[{"name":"usable"}],"imagePullSecrets":null}}"#,
    r#"{"spec":{"imagePullSecrets":[{"name":"usable"}],"imagePullSecrets":[{"name":"usable"}]}}"#
)]
fn every_other_byte_stays(#[case] object: &str, #[case] expected: &str) {
    assert_eq!(mutated("Pod", object, &["usable"]).as_deref(), Some(expected));
}

#[test]
fn a_service_accounts_list_is_at_the_top() {
    assert_eq!(
        mutated(
            "ServiceAccount",
            r#"{"metadata":{"name":"default"},"secrets":[{"name":"t"}]}"#,
            &["usable", "usable-2"]
        )
        .as_deref(),
        Some(
            r#"{"imagePullSecrets":[{"name":"usable"},{"name":"usable-2"}],"metadata":{"name":"default"},"secrets":[{"name":"t"}]}"#
        )
    );
}

/// What the policy would do if it edited the parsed value.
fn plain_edit(mut object: Value, secrets: &[&str]) -> Value {
    let list = &mut object["spec"]["imagePullSecrets"];
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().unwrap();
    for name in secrets {
        if !list.iter().any(|entry| entry["name"] == *name) {
            list.push(json!({"name": name}));
        }
    }
    object
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("imagePullSecrets")),
    ];
    let name = prop_oneof!["[a-z\"\\\\é{}]{0,6}", Just("imagePullSecrets".to_owned()), Just("spec".to_owned())];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_reference() -> impl Strategy<Value = Value> {
    prop_oneof![prop_oneof!["[a-z]{1,4}", Just("usable".to_owned())].prop_map(|name| json!({"name": name})), any_json(),]
}

fn any_pod() -> impl Strategy<Value = Value> {
    let list = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        prop::collection::vec(any_reference(), 0..5).prop_map(|list| Some(Value::from(list))),
    ];
    (any_json(), prop::collection::btree_map("[a-z]{1,5}", any_json(), 0..5), list).prop_map(|(other, spec, list)| {
        let mut spec: serde_json::Map<String, Value> = spec.into_iter().collect();
        spec.extend(list.map(|list| ("imagePullSecrets".to_owned(), list)));
        json!({"apiVersion": "v1", "kind": "Pod", "status": other, "spec": spec})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_pod_survives_as_in_a_plain_edit(pod in any_pod(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&pod) } else { serde_json::to_string(&pod) }.unwrap();
        let secrets = ["usable", "usable-2"];
        let expected = plain_edit(pod.clone(), &secrets);
        let edited = match mutated("Pod", &text, &secrets) {
            Some(edited) => serde_json::from_str(&edited).unwrap(),
            None => pod.clone(),
        };
        if expected != pod || !pod["spec"]["imagePullSecrets"].is_null() {
            prop_assert_eq!(&edited, &expected);
        }
        let again = mutated("Pod", &edited.to_string(), &secrets);
        prop_assert_eq!(again, None, "the second time there is nothing to add");
    }
}
