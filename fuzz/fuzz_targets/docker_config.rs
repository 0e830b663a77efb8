//! Any bytes as a docker config, and any text as a credential in one: no panic, and no error that quotes a value.
#![no_main]

use image_pull_secrets::docker_config::DockerConfig;
use image_pull_secrets::image::Image;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|document: &[u8]| {
    let images = ["nginx", "ghcr.io/acme/app", "localhost/x", "host:5000/x"].map(|name| Image::parse(name).unwrap());
    for config in [DockerConfig::parse(document), DockerConfig::parse_legacy(document)].into_iter().flatten() {
        for image in &images {
            assert_eq!(config.covers(image), !config.servers_for(image).is_empty());
        }
    }
    let Ok(secret) = std::str::from_utf8(document) else { return };
    if secret.len() < 12 {
        return;
    }
    for entry in [json!({"auth": secret}), json!(secret), json!({"username": [secret]}), json!({"password": {"a": secret}})] {
        let config = json!({"auths": {"ghcr.io": entry, format!("https://{secret}@ghcr.io"): entry}}).to_string();
        if let Err(error) = DockerConfig::parse(config.as_bytes()) {
            let said = error.to_string();
            assert!(!said.contains(secret) || "its entry \"ghcr.io\" has an ".contains(secret), "{said}");
        }
    }
});
