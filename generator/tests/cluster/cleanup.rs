//! `cleanup` leaves the cluster as it was.

use crate::harness::{Corner, docker_config, eventually};
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use std::time::Duration;

async fn dump(corner: &Corner, namespaces: &[String]) -> Vec<Value> {
    async fn all<K>(api: Api<K>) -> Vec<Value>
    where
        K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
    {
        let list = api.list(&ListParams::default()).await.unwrap();
        let objects = list.items.into_iter().map(|mut object| {
            object.meta_mut().managed_fields = None;
            object.meta_mut().resource_version = None;
            serde_json::to_value(object).unwrap()
        });
        objects.collect()
    }
    let mut objects = Vec::new();
    for namespace in namespaces {
        objects.extend(all(Api::<Secret>::namespaced(corner.client.clone(), namespace)).await);
        objects.extend(all(Api::<ServiceAccount>::namespaced(corner.client.clone(), namespace)).await);
    }
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_as_it_was_before() {
    let corner = Corner::new("cleanup").await;
    let mut namespaces = corner.namespaces(5).await;
    namespaces.push(corner.ns("source"));
    for namespace in &namespaces {
        eventually("there is a ServiceAccount", Duration::from_secs(10), || async {
            corner.accounts(namespace).get_opt("default").await.unwrap().is_some()
        })
        .await;
    }
    corner.put_source("1").await;
    corner.put_secret(&namespaces[0], "kubernetes.io/dockerconfigjson", &docker_config("theirs")).await;
    corner.patch_account(&namespaces[1], json!({"imagePullSecrets": [{"name": "mine"}]})).await;
    corner.patch_account(&namespaces[2], json!({"imagePullSecrets": [{"name": corner.name}]})).await;
    let before = dump(&corner, &namespaces).await;

    assert!(corner.once(&corner.settings(), &[]).status.success());
    assert_ne!(dump(&corner, &namespaces).await, before);
    let seen = corner.finish(&["cleanup", "--dry-run"]);
    assert_eq!(seen.out.lines().filter(|line| line.starts_with("delete Secret")).count(), 4, "{}", seen.out);
    let refused = corner.finish(&["cleanup"]);
    assert_eq!(refused.status.code(), Some(2), "without a terminal it wants --yes");
    let finished = corner.finish(&["cleanup", "--yes"]);
    assert!(finished.status.success(), "{}", finished.log);
    assert_eq!(dump(&corner, &namespaces).await, before);
    let again = corner.finish(&["cleanup", "--yes"]);
    assert!(again.out.contains("There is nothing to remove"), "{}", again.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_that_still_runs_does_not_put_it_back() {
    let corner = Corner::new("running").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let settings = corner.write_settings(&corner.settings());
    let _generator = corner.start(&["run", "--settings", settings.to_str().unwrap()]);
    corner.settled(&namespace, "1").await;
    let finished = corner.finish(&["cleanup", "--yes"]);
    assert!(finished.status.success(), "{}", finished.log);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty());
    }
}

/// Puts a reference back in the request that removes it, as the policy does.
async fn policy_at_work(corner: &Corner, namespace: &str) {
    let name = &corner.name;
    let policy: MutatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["serviceaccounts"],
            }]},
            "matchConditions": [
                {"name": "here", "expression": format!("object.metadata.namespace == '{namespace}'")},
                {"name": "lacks-it", "expression": format!(
                    "has(object.imagePullSecrets) && !object.imagePullSecrets.exists(r, r.name == '{name}')")},
            ],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!(
                "[JSONPatch{{op: 'add', path: '/imagePullSecrets/-', value: Object.imagePullSecrets{{name: '{name}'}}}}]")}}],
        },
    }))
    .unwrap();
    let binding: MutatingAdmissionPolicyBinding =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"policyName": name}})).unwrap();
    Api::all(corner.client.clone()).create(&PostParams::default(), &policy).await.unwrap();
    Api::all(corner.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    eventually("the policy is at work", Duration::from_secs(30), || async {
        corner.patch_account(namespace, json!({"imagePullSecrets": [{"name": "mine"}]})).await;
        corner.references(namespace).await == ["mine", name.as_str()]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_puts_references_back_is_told() {
    let corner = Corner::new("at-work").await;
    let namespace = corner.namespace("a").await;
    eventually("there is a ServiceAccount", Duration::from_secs(10), || async {
        corner.accounts(&namespace).get_opt("default").await.unwrap().is_some()
    })
    .await;
    corner.patch_account(&namespace, json!({"imagePullSecrets": [{"name": "mine"}]})).await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    policy_at_work(&corner, &namespace).await;
    let finished = corner.finish(&["cleanup", "--yes"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.log);
    assert!(
        finished.log.contains("a policy is still at work; delete its ClusterAdmissionPolicy first"),
        "{}",
        finished.log
    );
    let policies = Api::<MutatingAdmissionPolicy>::all(corner.client.clone());
    policies.delete(&corner.name, &DeleteParams::default()).await.unwrap();
    let bindings = Api::<MutatingAdmissionPolicyBinding>::all(corner.client.clone());
    bindings.delete(&corner.name, &DeleteParams::default()).await.unwrap();
    eventually("cleanup succeeds", Duration::from_secs(30), || async {
        corner.finish(&["cleanup", "--yes"]).status.success()
    })
    .await;
    assert_eq!(corner.references(&namespace).await, ["mine"]);
}
