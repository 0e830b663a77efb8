//! Any bytes as a payload: an answer, always; and a Pod's answer is that of a plain edit of the parsed value.
//!
//! Outside wasm every host call fails without a word, so that the policy is unsure of each Secret, and injects.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| {
    let answer: Value = serde_json::from_slice(&image_pull_secrets_policy::validate(input)).expect("an answer is JSON");
    assert_eq!(answer["accepted"], true);
    let settings: Value = serde_json::from_slice(&image_pull_secrets_policy::validate_settings(input)).expect("JSON");
    assert!(settings["valid"].is_boolean());

    let Ok(object) = std::str::from_utf8(input) else { return };
    let Ok(parsed) = serde_json::from_str::<Value>(object) else { return };
    let payload = format!(
        r#"{{"settings":{{"secrets":[{{"name":"one"}},{{"name":"two"}}]}},"request":{{"kind":{{"group":"","version":"v1","kind":"Pod"}},"operation":"CREATE","namespace":"shop","object":{object}}}}}"#
    );
    let answer: Value =
        serde_json::from_slice(&image_pull_secrets_policy::validate(payload.as_bytes())).expect("an answer is JSON");
    let mutated = &answer["mutated_object"];
    match plainly_edited(parsed.clone()) {
        Some(edited) if edited != parsed => assert_eq!(mutated, &edited),
        _ => assert!(mutated.is_null(), "{mutated}"),
    }
});

/// What a policy would do that edits the parsed value; `None` where there is nothing to edit.
fn plainly_edited(mut object: Value) -> Option<Value> {
    if object.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some_and(Value::is_string) {
        return None;
    }
    let spec = object.as_object_mut()?.get_mut("spec")?.as_object_mut()?;
    let list = spec.entry("imagePullSecrets").or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut()?;
    for name in ["one", "two"] {
        if !list.iter().any(|entry| entry["name"] == name) {
            list.push(json!({"name": name}));
        }
    }
    Some(object)
}
