//! The whole product: the policy and the generator on one cluster.

use crate::harness::{eventually, listed, pod};
use crate::product::Product;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_and_at_once_a_deployment_in_it() {
    let product = Product::with_policy(json!({})).await;
    let _generator = product.start_generator();
    let (stage, secret) = (&product.stage, product.secret.as_str());
    let names: Vec<_> = (0..5).map(|number| format!("{}-team-{number}", stage.id)).collect();
    for namespace in &names {
        stage.create_namespace_only(namespace).await;
        let deployment = json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("")["spec"]},
            },
        });
        stage.post(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), deployment).await.ok();
    }
    for namespace in &names {
        let path = format!("/api/v1/namespaces/{namespace}");
        let pods = format!("{path}/pods?labelSelector=app%3Dweb");
        eventually("the Pod", || async { !stage.get(&pods).await.body["items"].as_array().unwrap().is_empty() }).await;
        // imagePullSecrets cannot change: what is there now was there from the first moment.
        for pod in stage.get(&pods).await.body["items"].as_array().unwrap() {
            assert_eq!(listed(pod), [secret]);
        }
        eventually("the copy", || async { stage.get(&format!("{path}/secrets/{secret}")).await.status == 200 }).await;
        eventually("the reference", || async {
            stage.get(&format!("{path}/serviceaccounts/default")).await.listed() == [secret]
        })
        .await;
    }
}

/// As OpenShift's controller does: every entry under the version that it read.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_appends_as_fast_as_it_can_loses_nothing_to_policy_and_generator() {
    let product = Product::with_policy(json!({})).await;
    let (stage, secret) = (&product.stage, product.secret.as_str());
    let path = format!("{}/default", stage.accounts());
    let (done, mut wanted) = (AtomicBool::new(false), Vec::new());
    let _generator = product.start_generator();
    let writer = async {
        for number in 0..100 {
            let name = format!("default-dockercfg-{number:03}");
            loop {
                let mut account = stage.get(&path).await.ok().body;
                if !account["imagePullSecrets"].is_array() {
                    account["imagePullSecrets"] = json!([]);
                }
                account["imagePullSecrets"].as_array_mut().unwrap().push(json!({"name": name}));
                let answer = stage.send("PUT", &path, "application/json", account).await;
                if answer.status == 409 {
                    continue;
                }
                answer.ok();
                break;
            }
            wanted.push(name);
        }
        done.store(true, Ordering::Relaxed);
    };
    // Somebody who takes our reference out all the time: the policy and the generator both put it back.
    let vandal = async {
        while !done.load(Ordering::Relaxed) {
            let account = stage.get(&path).await.ok().body;
            let kept: Vec<_> =
                listed(&account).into_iter().filter(|name| *name != secret).map(|n| json!({"name": n})).collect();
            let version = &account["metadata"]["resourceVersion"];
            stage.merge(&path, json!({"metadata": {"resourceVersion": version}, "imagePullSecrets": kept})).await;
        }
    };
    tokio::join!(writer, vandal);
    let account = stage.get(&path).await.ok().body;
    let listed = listed(&account);
    let theirs: Vec<_> = listed.iter().filter(|name| **name != secret).collect();
    assert_eq!(theirs, wanted.iter().collect::<Vec<_>>());
    assert_eq!(listed.iter().filter(|name| **name == secret).count(), 1);
}
