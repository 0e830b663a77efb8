//! Any bytes as a docker config, and any text as a credential in one: no panic, and no error that quotes a value.
#![no_main]

use image_pull_secrets::docker_config::DockerConfig;
use image_pull_secrets::image::{Image, Images};
use image_pull_secrets::keyring::attempts;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// All that may be said about an entry, so that nothing of the entry can be in it.
const FAULTS: [&str; 5] = [
    "is not an object",
    "has a \"username\" that is not a string",
    "has a \"password\" that is not a string",
    "has an \"auth\" that is not base64",
    "has an \"auth\" that is not base64 of user:password",
];

fuzz_target!(|document: &[u8]| {
    let images = ["nginx", "ghcr.io/acme/app", "localhost/x", "host:5000/x"].map(|name| Image::parse(name).unwrap());
    for config in [DockerConfig::parse(document), DockerConfig::parse_legacy(document)].into_iter().flatten() {
        for image in &images {
            assert_eq!(config.covers(image), !attempts(&[&config], image).is_empty());
            let alone = [image.clone()];
            assert_eq!(config.covers(image), config.covers_any(&Images::new(&alone)));
        }
    }
    let Ok(secret) = std::str::from_utf8(document) else { return };
    if secret.len() < 12 {
        return;
    }
    for entry in
        [json!({"auth": secret}), json!(secret), json!({"username": [secret]}), json!({"password": {"a": secret}})]
    {
        // Not through a map of serde_json's, which would sort the two.
        let server = json!(format!("https://{secret}@ghcr.io"));
        let config = format!(r#"{{"auths":{{"ghcr.io":{entry},{server}:{entry}}}}}"#);
        if let Err(error) = DockerConfig::parse(config.as_bytes()) {
            let said = error.to_string();
            let fault = said.strip_prefix("its entry \"ghcr.io\" ").or(said.strip_prefix("its entry number 2 "));
            assert!(fault.is_some_and(|fault| FAULTS.contains(&fault)), "{said}");
        }
    }
});
