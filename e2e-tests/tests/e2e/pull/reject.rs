//! `onMissingSecret: reject`: no Pod starts that could not pull.

use crate::harness::{Registration, Stage, eventually_within, listed};
use crate::pull::explain::agrees_in;
use crate::pull::new_namespace;
use crate::registry::{PATIENCE, deployment, kubectl_apply, pods_in, print};
use rstest::rstest;
use serde_json::{Value, json};

async fn events_say(stage: &Stage, namespace: &str, text: &str) -> bool {
    let answer = stage.get(&format!("/api/v1/namespaces/{namespace}/events")).await.ok();
    let events = answer.body["items"].as_array().unwrap();
    events.iter().any(|event| event["message"].as_str().is_some_and(|message| message.contains(text)))
}

/// The policy adds the reference to the Pod, or the Pod has it from its ServiceAccount.
#[rstest]
#[case::which_lists_nothing(json!([]))]
#[case::which_inherits_the_reference(json!(["default"]))]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_denied_while_the_secret_is_missing_and_pulls_once_it_is_there(#[case] service_accounts: Value) {
    let settings = json!({"onMissingSecret": "reject", "serviceAccounts": service_accounts});
    let (registry, mut product) = new_namespace::before(settings).await;
    product.stage.register(Registration::default()).await;
    let stage = &product.stage;
    let image = registry.push("acme/app").await;
    let object = stage.namespace_object("team");
    let namespace = object["metadata"]["name"].as_str().unwrap().to_owned();
    kubectl_apply(stage, &[object, deployment(&namespace, &image)]);
    eventually_within(PATIENCE, "the ReplicaSet is told that its Pod is denied", || {
        events_say(stage, &namespace, "is denied because of its image pull secrets")
    })
    .await;
    assert_eq!(pods_in(stage, &namespace).await.len(), 0);
    assert_eq!(registry.pulls(&image).await.len(), 0);

    let _generator = product.start_generator();
    let pulls = registry.pulled(&image).await;
    assert_eq!(pulls[pulls.len() - 1].user, "acme");
    print(&format!("under reject: pulled, {} attempts failed", pulls.len() - 1));
    assert_eq!(pods_in(stage, &namespace).await.iter().map(listed).collect::<Vec<_>>(), [[&product.secret]]);
    agrees_in(stage, &namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_and_a_deployment_in_one_go_pull_once_the_generator_has_copied() {
    let (registry, mut product) = new_namespace::before(json!({"onMissingSecret": "reject"})).await;
    product.stage.register(Registration::default()).await;
    let _generator = new_namespace::generator(&product, &[]).await;
    let applied = new_namespace::apply(&registry, &product, None).await;
    new_namespace::all_pull("policy and generator, under reject", &registry, &product, &applied).await;
}
