//! A credential that a program mints, as the kubelet's credential provider plugins do, and mints anew.

use crate::generator::Generator;
use crate::harness::{Registration, eventually};
use crate::product::Product;
use crate::registry::{Registry, basic, deployment, docker_config, kubectl_apply, password, pod_of};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

/// A program that mints a credential.
struct Mint {
    directory: TempDir,
}

impl Mint {
    fn new() -> Self {
        let mint = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(mint.program(), "#!/bin/sh\nexec cat \"$0.answer\"\n").unwrap();
        fs::set_permissions(mint.program(), fs::Permissions::from_mode(0o755)).unwrap();
        mint
    }

    fn program(&self) -> String {
        format!("{}/mint", self.directory.path().display())
    }

    /// From now on it mints this one, which holds for ten seconds.
    fn mints(&self, host: &str, user: &str, password: &str) {
        let answer = json!({
            "kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "cacheKeyType": "Registry", "cacheDuration": "10s",
            "auth": {host: {"username": user, "password": password}},
        });
        let next = self.directory.path().join("next");
        fs::write(&next, answer.to_string()).unwrap();
        fs::rename(next, format!("{}.answer", self.program())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_pull_with_what_a_program_mints_and_with_what_it_mints_next() {
    let (old, new) = (password("0"), password("1"));
    let registry = Registry::new(basic(json!({"first": old}))).await;
    let mint = Mint::new();
    mint.mints(&registry.host, "first", &old);
    let source = json!({"exec": {"command": mint.program(), "images": [registry.host]}});
    let mut product = Product::from(&registry.host, source).await;
    product.stage.register(Registration::default()).await;
    let flags = ["--credential-providers", mint.directory.path().to_str().unwrap()];
    let _generator = Generator::start(&product.stage, &product.settings, &flags);
    let stage = &product.stage;

    // A namespace with what runs in it, in one go; and another Pod of it later.
    let apply = async |short: &str| {
        let image = registry.push(&format!("acme/{short}")).await;
        let object = stage.namespace_object(short);
        let namespace = object["metadata"]["name"].as_str().unwrap().to_owned();
        kubectl_apply(stage, &[object, deployment(&namespace, &image)]);
        (namespace, image)
    };
    let pod = async |namespace: &str, name: &str| {
        let image = registry.push(&format!("acme/{name}")).await;
        stage.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod_of(name, &image)).await.ok();
        image
    };
    let pulled_by = async |image: &str| {
        let pulls = registry.pulled(image).await;
        pulls.iter().find(|pull| pull.succeeded()).unwrap().user.clone()
    };
    let (namespace, image) = apply("team-a").await;
    assert_eq!(pulled_by(&image).await, "first");

    // The registry knows both until the new one is everywhere.
    registry.accept(basic(json!({"first": old, "second": new}))).await;
    mint.mints(&registry.host, "second", &new);
    eventually("the copy has the new credential", || async {
        user_of(&stage.get(&product.path_in(&namespace)).await.body, &registry.host).as_deref() == Some("second")
    })
    .await;
    registry.accept(basic(json!({"second": new}))).await;
    let image = pod(&namespace, "after").await;
    assert_eq!(pulled_by(&image).await, "second");
    let (_, image) = apply("team-b").await;
    assert_eq!(pulled_by(&image).await, "second");

    // The one before is dead: in a namespace that nobody looks after, it is refused.
    let image = registry.push("acme/old").await;
    let config = docker_config(&registry.host, "first", &old);
    stage.create_pull_secret(&product.source, "old", &config).await;
    let mut object = pod_of("old", &image);
    object["spec"]["imagePullSecrets"] = json!([{"name": "old"}]);
    stage.post(&format!("/api/v1/namespaces/{}/pods", product.source), object).await.ok();
    registry.refused(&image, "first", 1).await;
}

/// Whose credential for a server a Secret has.
fn user_of(secret: &Value, server: &str) -> Option<String> {
    let config = STANDARD.decode(secret["data"][".dockerconfigjson"].as_str()?).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    Some(config["auths"][server]["username"].as_str()?.to_owned())
}
