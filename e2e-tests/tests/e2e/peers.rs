//! Other webhooks and policies that change the same objects.

use crate::harness::{Registration, Stage, WEBHOOKS, eventually, pod};
use crate::native::newest_version;
use image_pull_secrets_e2e::native;
use rstest::rstest;
use serde_json::json;

/// The other webhook adds a secret of its own. Webhooks are called in the order of their names.
#[rstest]
#[case::before_ours("a-", &["theirs", "creds"])]
#[case::after_ours("z-", &["creds", "theirs"])]
#[tokio::test(flavor = "multi_thread")]
async fn another_webhook_adds_its_secret(#[case] prefix: &'static str, #[case] expected: &[&str]) {
    let ours = Stage::new(json!({"secrets": [{"name": "creds"}]})).await;
    ours.create_secret("creds").await;
    ours.create_secret("theirs").await;
    let mut theirs = Stage::empty(json!({"secrets": [{"name": "theirs"}]})).await;
    theirs.register(Registration { prefix, ..Registration::default() }).await;
    // Both are called for one namespace.
    let name = format!("{prefix}{}", theirs.id);
    let path = format!("{WEBHOOKS}/{name}");
    let patch =
        json!([{"op": "add", "path": "/webhooks/0/namespaceSelector/matchExpressions/0/values/-", "value": ours.id}]);
    theirs.send("PATCH", &path, "application/json-patch+json", patch).await.ok();
    theirs.forget();
    eventually("both are asked", || async {
        ours.post(&format!("{}?dryRun=All", ours.pods()), pod("probe")).await.ok();
        !theirs.asked().is_empty()
    })
    .await;
    assert_eq!(ours.create_pod(pod("web")).await.ok().listed(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_admission_policy_adds_another_secret() {
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}]})).await;
    stage.create_secret("creds").await;
    let version = newest_version(&stage).await;
    let constraints = json!({"namespaceSelector": {"matchLabels": {"stage": stage.id}}});
    let (policy, binding) = native::policy(&version, &stage.id, "theirs", constraints);
    stage.create(&format!("{}/{version}/mutatingadmissionpolicies", native::GROUP), policy).await.ok();
    stage.create(&format!("{}/{version}/mutatingadmissionpolicybindings", native::GROUP), binding).await.ok();
    eventually("the policy is at work", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.ok().listed().contains(&"theirs")
    })
    .await;
    // Policies come before webhooks.
    assert_eq!(stage.create_pod(pod("web")).await.ok().listed(), ["theirs", "creds"]);
}
