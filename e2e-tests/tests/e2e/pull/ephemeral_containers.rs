//! Ephemeral containers, which come when the Pod's list of secrets cannot change any more.

use crate::harness::{Stage, eventually_within};
use crate::pull::explain::agrees_in;
use crate::registry::{PATIENCE, Registry, cannot_pull, docker_config, password, pod_of, runs};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn one_from_a_registry_whose_secret_the_pod_lacks_is_warned_of_and_does_not_pull() {
    let accounts = json!({"acme": password("0")});
    let registry = Registry::new(json!({"auth": "basic", "accounts": accounts, "public": ["public"]})).await;
    let private = format!("{}/acme", registry.host);
    let stage = Stage::new(json!({"secrets": [{"name": "creds", "matchImages": [private]}]})).await;
    let namespace = stage.create_namespace("team").await;
    let path = format!("/api/v1/namespaces/{namespace}");
    let config = docker_config(&registry.host, "acme", &password("0"));
    stage.create_pull_secret(&namespace, "creds", &config).await;
    let debug = registry.push("acme/debug").await;
    let attach = async |pod: &str| {
        let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": debug}]}});
        let path = format!("{path}/pods/{pod}/ephemeralcontainers");
        stage.send("PATCH", &path, "application/strategic-merge-patch+json", debugger).await.ok()
    };
    for (name, repository, listed) in [("public", "public/app", vec![]), ("private", "acme/app", vec!["creds"])] {
        let image = registry.push(repository).await;
        let created = stage.post(&format!("{path}/pods"), pod_of(name, &image)).await.ok();
        assert_eq!(created.listed(), listed);
        runs(&stage, &format!("{path}/pods/{name}")).await;
    }

    let warned = attach("public").await;
    assert_eq!(warned.listed(), [""; 0]);
    assert_eq!(warned.warnings.len(), 1, "{warned:?}");
    assert!(warned.warnings[0].contains("creds"), "{warned:?}");
    registry.refused(&debug, "", 1).await;
    eventually_within(PATIENCE, "the container waits", || async {
        let pod = stage.get(&format!("{path}/pods/public")).await.ok().body;
        cannot_pull(&pod)
    })
    .await;

    // Where the Pod lists the secret, there is nothing to say, and the image is pulled.
    assert_eq!(attach("private").await.warnings, [""; 0]);
    registry.pulled(&debug).await;
    agrees_in(&stage, &namespace).await;
}
