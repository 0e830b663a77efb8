//! Any text as settings: no panic, and what is valid stays valid when written out and read again as a value.
#![no_main]

use image_pull_secrets::settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Settings::from_json(text) {
        Ok(settings) => {
            let _ = (settings.excludes_namespace("kube-system"), settings.selects_service_account("default"));
            let value = serde_json::from_str(text).expect("what was read is JSON");
            assert_eq!(Settings::from_value(&value).as_ref(), Ok(&settings));
        }
        Err(faults) => assert!(!faults.0.is_empty() && !faults.to_string().is_empty()),
    }
});
