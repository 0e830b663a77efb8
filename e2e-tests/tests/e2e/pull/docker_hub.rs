//! Docker Hub's names: under which a Secret's entry is for its images.

use crate::harness::Stage;
use crate::pull::explain::agrees_in;
use crate::registry::{Registry, bearer, docker_config, password, pod_of};
use serde_json::json;

/// As docs/kubelet.md has it.
const SERVERS: [(&str, bool); 8] = [
    ("https://index.docker.io/v1/", true),
    ("index.docker.io", true),
    ("docker.io", true),
    ("docker.io/ORG", true),
    ("https://index.docker.io/v1", false),
    ("registry-1.docker.io", false),
    ("hub.docker.com", false),
    ("*.docker.io", false),
];

/// How people write the image's name.
const PREFIXES: [&str; 3] = ["", "docker.io/", "index.docker.io/"];

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_pulls_from_docker_hub_under_the_names_that_the_kubelet_knows() {
    let registry = Registry::named("docker.io", bearer(json!({"hub": password("hub")}))).await;
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}]})).await;
    let (mut images, mut namespaces) = (Vec::new(), Vec::new());
    for (number, (server, works)) in SERVERS.iter().enumerate() {
        let namespace = stage.create_namespace(&format!("hub-{number}")).await;
        let server = server.replace("ORG", &stage.id);
        let config = docker_config(&server, "hub", &password("hub"));
        stage.create_pull_secret(&namespace, "creds", &config).await;
        for (written, prefix) in PREFIXES.iter().enumerate() {
            let repository = format!("{}/app-{number}-{written}", stage.id);
            registry.push(&repository).await;
            let image = format!("{prefix}{repository}:1");
            let pod = pod_of(&format!("web-{written}"), &image);
            let created = stage.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await.ok();
            assert_eq!(created.listed(), ["creds"]);
            images.push((server.clone(), image, works));
        }
        namespaces.push(namespace);
    }
    for (server, image, works) in images {
        let used = if *works {
            registry.pulled(&image).await.pop().unwrap().user == "hub"
        } else {
            registry.refused(&image, "", 1).await.iter().any(|pull| pull.user == "hub")
        };
        assert_eq!(used, *works, "{server}, {image}");
    }
    for namespace in namespaces {
        agrees_in(&stage, &namespace).await;
    }
}
