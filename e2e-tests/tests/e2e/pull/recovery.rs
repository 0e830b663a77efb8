//! Pods that were there before what they need.

use crate::harness::{Registration, eventually_within, listed};
use crate::pull::explain::agrees_in;
use crate::pull::new_namespace;
use crate::registry::{PATIENCE, deployment, pods_in, print, stuck};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// One Pod lists a Secret that is not there yet, the other was made before anybody was at work and lists none. When the
/// generator starts, the first has only to wait, and the second is evicted for another.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_the_reference_waits_and_a_pod_without_it_is_replaced() {
    let (registry, mut product) = new_namespace::before(json!({})).await;
    let old = product.stage.create_namespace("old").await;
    let path = |namespace: &str| format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let for_old = registry.push("acme/old").await;
    product.stage.post(&path(&old), deployment(&old, &for_old)).await.ok();
    product.stage.register(Registration::default()).await;
    let stage = &product.stage;
    let new = stage.create_namespace("new").await;
    let for_new = registry.push("acme/new").await;
    stage.post(&path(&new), deployment(&new, &for_new)).await.ok();
    // Twice, so that both wait for their next attempt.
    for image in [&for_old, &for_new] {
        registry.refused(image, "", 2).await;
    }
    let (without, with) = (stuck(stage, &old).await, stuck(stage, &new).await);
    assert_eq!((listed(&without), listed(&with)), (vec![], vec![product.secret.as_str()]));

    for namespace in [&old, &new] {
        agrees_in(stage, namespace).await;
    }

    let start = Timestamp::now();
    let generator = product.start_generator_with(&["--restart-stuck-pods"]);
    let waited = registry.pulled(&for_new).await;
    let replaced = registry.pulled(&for_old).await;
    for (what, pulls) in [("the reference before the Secret", &waited), ("the Pod before the reference", &replaced)] {
        let pulled = pulls.iter().find(|pull| pull.succeeded()).unwrap();
        assert_eq!(pulled.user, "acme");
        let seconds = pulled.since(start).as_secs_f64();
        print(&format!(
            "{what}: pulled {seconds:.1} s after the generator started, {} attempts failed",
            pulls.len() - 1
        ));
    }
    let uid = |pod: &Value| pod["metadata"]["uid"].clone();
    assert_eq!(pods_in(stage, &new).await.iter().map(uid).collect::<Vec<_>>(), [uid(&with)]);
    eventually_within(PATIENCE, "only the successor is left", || async {
        let pods = pods_in(stage, &old).await;
        matches!(&pods[..], [successor] if uid(successor) != uid(&without) && listed(successor) == [&product.secret])
    })
    .await;
    for namespace in [&old, &new] {
        agrees_in(stage, namespace).await;
    }
    let log = generator.log();
    let is_evicted = |namespace: &str| log.contains(&format!("evict Pod {namespace}/"));
    assert!(is_evicted(&old) && !is_evicted(&new), "{log}");
}
