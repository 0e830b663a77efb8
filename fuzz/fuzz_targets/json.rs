//! The reader of JSON text against serde_json: the same texts are JSON, the same members have the same values.
#![no_main]

use image_pull_secrets::json::{self, Reader};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    // serde_json's raw values nest without end; ours, as Go's, do not. No input of this size gets there.
    let ours = Reader::whole(text, &mut |reader| reader.value().map(|_| true)).is_ok();
    let theirs = serde_json::from_str::<Box<RawValue>>(text).is_ok();
    assert_eq!(ours, theirs);
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else { return };
    let mut seen = std::collections::BTreeMap::new();
    json::members(text, &mut |name, value| {
        seen.insert(name.into_owned(), value);
    })
    .expect("an object");
    assert_eq!(seen.len(), object.len());
    for (name, value) in object {
        assert_eq!(serde_json::from_str::<Value>(seen[&name]).ok(), Some(value.clone()));
        if let Value::String(string) = value {
            assert_eq!(json::string(seen[&name]).as_deref(), Some(string.as_str()));
        }
    }
});
