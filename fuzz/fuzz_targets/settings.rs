//! Any text as settings: no panic, and what is valid stays valid when written out and read again as a value.
#![no_main]

use image_pull_secrets::settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Settings::from_json(text) {
        Ok(settings) => {
            let _ = (settings.excludes_namespace("kube-system"), settings.selects_service_account("default"));
            // Half a surrogate pair is U+FFFD to us, as to the API server, and an error to serde_json.
            match serde_json::from_str(text) {
                Ok(value) => assert_eq!(Settings::from_value(&value).as_ref(), Ok(&settings)),
                Err(_) => assert!(text.contains("\\u") || text.contains('\u{fffd}'), "what was read is JSON"),
            }
        }
        Err(faults) => assert!(!faults.0.is_empty() && !faults.to_string().is_empty()),
    }
});
