//! The whole product: the policy and the generator on one cluster.

use crate::harness::{PATIENCE, Stage, WEBHOOKS, eventually, listed, pod};
use crate::product::Product;
use rstest::rstest;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is there first in a new namespace.
#[derive(PartialEq)]
enum First {
    AsItComes,
    Copy,
    Pod,
}

#[rstest]
#[case::whichever_comes_first(First::AsItComes)]
#[case::and_the_copy_comes_first(First::Copy)]
#[case::and_the_pod_comes_first(First::Pod)]
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_and_at_once_a_deployment_in_it(#[case] first: First) {
    let product = Product::with_policy(json!({})).await;
    let _generator = product.start_generator();
    let (stage, secret) = (&product.stage, product.secret.as_str());
    product.settled(&stage.namespace, "0").await;
    let no_secrets = format!("{WEBHOOKS}/{}-no-secrets", stage.id);
    if first == First::Pod {
        refuse_secrets(stage).await;
    }
    let names: Vec<_> = (0..5).map(|number| format!("{}-team-{number}", stage.id)).collect();
    for namespace in &names {
        stage.create_namespace_only(namespace).await;
        if first == First::Copy {
            product.settled(namespace, "0").await;
        }
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
    }
    if first == First::Pod {
        for namespace in &names {
            assert_eq!(stage.get(&product.path_in(namespace)).await.status, 404);
        }
        stage.delete(&no_secrets).await.ok();
    }
    for namespace in &names {
        let path = format!("/api/v1/namespaces/{namespace}");
        eventually("the copy", || async { stage.get(&format!("{path}/secrets/{secret}")).await.status == 200 }).await;
        eventually("the reference", || async {
            stage.get(&format!("{path}/serviceaccounts/default")).await.listed() == [secret]
        })
        .await;
    }
}

/// Lets nobody create a Secret in the stage's namespaces: by a webhook that nobody answers.
async fn refuse_secrets(stage: &Stage) {
    let webhook = json!({
        "name": "nobody.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:1/"}, "namespaceSelector": stage.selector(),
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}],
    });
    let configuration = json!({"metadata": {"name": format!("{}-no-secrets", stage.id)}, "webhooks": [webhook]});
    stage.create(WEBHOOKS, configuration).await.ok();
    let path = format!("/api/v1/namespaces/{}/secrets?dryRun=All", stage.namespace);
    eventually("Secrets are refused", || async {
        stage.post(&path, json!({"metadata": {"name": "probe"}})).await.status == 500
    })
    .await;
}

/// As OpenShift's controller does: every entry under the version that it read. The policy is at work for the first half.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_appends_as_fast_as_it_can_loses_nothing_to_policy_and_generator() {
    let product = Product::with_policy(json!({})).await;
    let (stage, secret) = (&product.stage, product.secret.as_str());
    let path = format!("{}/default", stage.accounts());
    let (done, mut wanted) = (AtomicBool::new(false), Vec::new());
    let generator = product.start_generator();
    product.settled(&stage.namespace, "0").await;
    let writer = async {
        let deadline = Instant::now() + PATIENCE;
        for number in 0.. {
            if number >= 100 {
                if generator.references_added(&stage.namespace) >= 3 {
                    break;
                }
                assert!(Instant::now() < deadline, "the generator does not put it back: {}", generator.log());
                // So that the generator is faster now and then.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            if number == 50 {
                assert!(stage.asked().len() > 50, "the policy was not asked about every write");
                stage.delete(&format!("{WEBHOOKS}/{}", stage.id)).await.ok();
            }
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
    // Somebody who takes our reference out all the time: the policy puts it back, and once it is gone the generator.
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
    eventually("our reference is back", || async {
        product.references(&stage.namespace).await.iter().any(|name| name == secret)
    })
    .await;
    let account = stage.get(&path).await.ok().body;
    let listed = listed(&account);
    let theirs: Vec<_> = listed.iter().filter(|name| **name != secret).collect();
    assert_eq!(theirs, wanted.iter().collect::<Vec<_>>());
    assert_eq!(listed.iter().filter(|name| **name == secret).count(), 1);
}
