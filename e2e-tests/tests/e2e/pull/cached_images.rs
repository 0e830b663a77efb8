//! Images that a Node has already: who may use them (`KubeletEnsureSecretPulledImages`).

use crate::harness::{Registration, eventually_within};
use crate::product::Product;
use crate::pull::explain::agrees_in;
use crate::registry::{PATIENCE, Registry, basic, node, password, pod_on, pulls_in, runs, stuck};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

const EXCLUDE: &str = "example.com/no-pull-secrets";

#[tokio::test(flavor = "multi_thread")]
async fn equal_copies_pull_once_an_excluded_namespace_is_refused_and_a_rotation_needs_no_pull() {
    let registry = Registry::new(basic(json!({"acme": password("0")}))).await;
    let mut product = Product::for_server(&registry.host, json!({"exclude": {"annotation": EXCLUDE}})).await;
    product.stage.register(Registration::default()).await;
    let _generator = product.start_generator();
    let stage = &product.stage;
    let (node, image) = (node(), registry.push("acme/app").await);
    let namespaces = [stage.create_namespace("a").await, stage.create_namespace("b").await];
    for namespace in &namespaces {
        product.settled(namespace, "0").await;
    }
    let run = async |namespace: &str, name: &str| {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        stage.post(&pods, pod_on(&node, name, &image)).await.ok();
        runs(stage, &format!("{pods}/{name}")).await;
        agrees_in(stage, namespace).await;
    };
    let times_pulled = async || registry.pulls(&image).await.iter().filter(|pull| pull.succeeded()).count();

    run(&namespaces[0], "first").await;
    assert_eq!(times_pulled().await, 1);
    let attempts = registry.pulls(&image).await.len();
    // An equal copy is as good as the first: nobody has to show it.
    run(&namespaces[1], "another-namespace").await;
    let pulls = registry.pulls(&image).await;
    assert!(pulls[attempts..].iter().all(|pull| pull.user.is_empty()), "{pulls:?}");

    let mut excluded = stage.namespace_object("excluded");
    excluded["metadata"]["annotations"] = json!({EXCLUDE: "true"});
    let name = excluded["metadata"]["name"].as_str().unwrap().to_owned();
    stage.post("/api/v1/namespaces", excluded).await.ok();
    stage.has_account(&name).await;
    let created = stage.post(&format!("/api/v1/namespaces/{name}/pods"), pod_on(&node, "web", &image)).await.ok();
    assert_eq!(created.listed(), [""; 0]);
    stuck(stage, &name).await;
    agrees_in(stage, &name).await;
    let pulls = pulls_in(&name).await;
    assert!(!pulls.is_empty());
    assert!(pulls.iter().all(|pull| pull.user.is_empty() && pull.outcome == "refused"), "{pulls:?}");

    registry.accept(basic(json!({"acme": password("1")}))).await;
    product.rotate("1").await;
    for namespace in &namespaces {
        product.settled(namespace, "1").await;
        run(namespace, "after-the-rotation").await;
    }
    assert_eq!(times_pulled().await, 1);
    // The new credential would do: who asks for it, pulls.
    let mut always = pod_on(&node, "always", &image);
    always["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let pods = format!("/api/v1/namespaces/{}/pods", namespaces[0]);
    stage.post(&pods, always).await.ok();
    runs(stage, &format!("{pods}/always")).await;
    agrees_in(stage, &namespaces[0]).await;
    assert_eq!(times_pulled().await, 2);
    assert!(registry.pulls(&image).await.iter().all(|pull| pull.node == node));
}

/// What the generator never does to its copies: the new Secret has another UID, and the Node knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_deleted_and_made_anew_with_another_credential_needs_a_pull() {
    let accounts = |version: &str| basic(json!({"acme": password(version)}));
    let registry = Registry::new(accounts("0")).await;
    let product = Product::for_server(&registry.host, json!({})).await;
    let (stage, node, image) = (&product.stage, node(), registry.push("acme/app").await);
    let pods = stage.pods();
    let run = async |name: &str, version: &str| {
        stage.delete(&format!("/api/v1/namespaces/{}/secrets/own", stage.namespace)).await;
        stage.create_pull_secret(&stage.namespace, "own", &product.docker_config(version)).await;
        let mut pod = pod_on(&node, name, &image);
        pod["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
        stage.post(&pods, pod).await.ok();
        runs(stage, &format!("{pods}/{name}")).await;
        agrees_in(stage, &stage.namespace).await;
        registry.pulls(&image).await.iter().filter(|pull| pull.succeeded()).count()
    };
    assert_eq!(run("first", "0").await, 1);
    assert_eq!(run("the-same-content", "0").await, 1);
    registry.accept(accounts("1")).await;
    // The Node may still have the old Secret in mind, and let a Pod pass with that.
    let number = AtomicUsize::new(0);
    eventually_within(PATIENCE, "a Pod with the new Secret needs a pull", || async {
        run(&format!("another-content-{}", number.fetch_add(1, Ordering::Relaxed)), "1").await == 2
    })
    .await;
}
