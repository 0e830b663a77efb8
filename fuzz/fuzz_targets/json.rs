//! The members and parts of JSON text against serde_json's values: the same texts are JSON, the same members have the same
//! values.
#![no_main]

use image_pull_secrets::json::{self, Field, Part};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

const FIELDS: &[Field] =
    &[Field::Object("a", &[Field::Any("b"), Field::Object("c", &[Field::Any("d")])]), Field::Any("e")];

fuzz_target!(|text: &str| {
    let is_json = serde_json::from_str::<Box<RawValue>>(text).is_ok();
    let is_object = is_json && text.trim_ascii_start().starts_with('{');
    assert_eq!(json::pick(text, ["a"]).is_ok(), is_object);
    assert_eq!(Part::read(text, FIELDS).is_ok(), is_object);
    let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(text) else { return };
    let mut seen = std::collections::BTreeMap::new();
    json::members(text, &mut |name, value| {
        seen.insert(name.into_owned(), value);
    })
    .expect("an object");
    let object = value.as_object().expect("an object");
    assert_eq!(seen.len(), object.len());
    for (name, value) in object {
        assert_eq!(serde_json::from_str::<Value>(seen[name]).ok().as_ref(), Some(value));
        if let Value::String(string) = value {
            assert_eq!(json::string(seen[name]).as_deref(), Some(string.as_str()));
        }
    }
    check(&Part::read(text, FIELDS).expect("an object"), &value, FIELDS);
});

/// A part is the value that serde_json reads, and so are its members.
fn check(part: &Part<'_>, value: &Value, fields: &[Field]) {
    assert_eq!(serde_json::from_str::<Value>(part.text).ok().as_ref(), Some(value));
    for field in fields {
        let (name, is_right, within): (_, fn(&Value) -> bool, &[Field]) = match field {
            Field::Any(name) => (name, |_| true, &[]),
            Field::Object(name, fields) => (name, Value::is_object, fields),
        };
        let value = value.get(name).filter(|value| is_right(value));
        assert_eq!(part.member(name).is_some(), value.is_some());
        if let (Some(part), Some(value)) = (part.member(name), value) {
            check(part, value, within);
        }
    }
}
