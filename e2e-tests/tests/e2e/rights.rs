//! The rights that are shipped, in `deploy/` and in docs/install.md: they suffice, and they are no more than that.
//!
//! Every other test here runs under them too.

use crate::harness::{Registration, Stage, pod, send_as};
use image_pull_secrets_e2e::Cluster;
use image_pull_secrets_e2e::cluster::live::Live;
use kube::{Client, Config};
use serde_json::json;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn those_of_the_documentation_suffice_for_the_secret_and_for_the_annotation_of_a_namespace() {
    let annotation = "example.com/leave-alone";
    let stage = Stage::new(json!({"secrets": [{"name": "creds", "matchCredentials": true}],
                                  "exclude": {"annotation": annotation}}))
    .await;
    stage.create_secret("creds").await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec!["creds"], 0));

    let excluded = format!("{}-excluded", stage.id);
    let namespace =
        json!({"metadata": {"name": excluded, "labels": {"stage": stage.id}, "annotations": {annotation: "true"}}});
    stage.create("/api/v1/namespaces", namespace).await.ok();
    let path = format!("/api/v1/namespaces/{excluded}");
    crate::harness::eventually("its ServiceAccount", || async {
        stage.get(&format!("{path}/serviceaccounts/default")).await.status == 200
    })
    .await;
    let left = stage.post(&format!("{path}/pods"), pod("web")).await.ok();
    assert_eq!((left.listed(), left.warnings.len()), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_secret_can_be_read_and_nothing_written() {
    let annotation = "example.com/leave-alone";
    let stage = Stage::empty(json!({"secrets": [{"name": "creds"}], "exclude": {"annotation": annotation}})).await;
    stage.create_secret("creds").await;
    stage.create_secret("other").await;
    let server = stage.policy_server().await;
    let secrets = format!("/api/v1/namespaces/{}/secrets", stage.namespace);
    let namespace = format!("/api/v1/namespaces/{}", stage.namespace);
    let status = async |method: &str, path: &str| send_as(&server, method, path).await.status;
    assert_eq!(status("GET", &format!("{secrets}/creds")).await, 200);
    assert_eq!(status("GET", &namespace).await, 200);
    for (method, path) in [
        ("GET", format!("{secrets}/other")),
        ("GET", secrets.clone()),
        ("GET", format!("{secrets}?watch=true")),
        ("GET", "/api/v1/secrets".to_owned()),
        ("GET", format!("{secrets}?fieldSelector=metadata.name%3Dcreds")),
        ("DELETE", format!("{secrets}/creds")),
        ("PUT", format!("{secrets}/creds")),
        ("PATCH", format!("{secrets}/creds")),
        ("POST", secrets.clone()),
        ("GET", "/api/v1/namespaces".to_owned()),
        ("DELETE", namespace.clone()),
        ("GET", stage.pods()),
        ("GET", format!("{}/default", stage.accounts())),
    ] {
        assert_eq!(status(method, &path).await, 403, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_to_the_client() {
    let mut stage = Stage::empty(json!({"secrets": [{"name": "creds"}]})).await;
    stage.rights(&["another"]);
    stage.register(Registration::default()).await;
    stage.create_secret("creds").await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!(created.listed(), ["creds"]);
    let expected = format!(
        "Secret {}/creds was not checked: policy-server may not read it. It was added anyway; grant its ServiceAccount get \
         on secrets, resourceNames [\"creds\"]",
        stage.namespace
    );
    assert_eq!(created.warnings, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_denies_where_missing_secrets_are_rejected() {
    let mut stage = Stage::empty(json!({"secrets": [{"name": "creds"}], "onMissingSecret": "reject"})).await;
    stage.rights(&["another"]);
    stage.register(Registration::default()).await;
    let refused = stage.create_pod(pod("web")).await;
    let expected = "was not checked: policy-server may not read it: grant its ServiceAccount get on secrets, \
                    resourceNames [\"creds\"].";
    assert!(refused.status >= 400 && refused.message().contains(expected), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_ignores_missing_secrets_needs_no_right_at_all() {
    let settings = json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"], "onMissingSecret": "ignore"});
    let mut stage = Stage::empty(settings).await;
    stage.rights(&["another"]);
    stage.register(Registration::default()).await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec!["creds"], 0));
    let account = stage.post(&stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    assert_eq!((account.listed(), account.warnings.len()), (vec!["creds"], 0));
    assert!(stage.asked().iter().all(|asked| asked.host_calls == 0), "{:?}", stage.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_reach_the_api_server_adds_the_reference_and_says_so() {
    let mut stage = Stage::empty(json!({"secrets": [{"name": "creds"}]})).await;
    // Port 1 is nobody's.
    let nowhere = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    stage.register_with(Registration::default(), Cluster::Live(Arc::new(Live::new(nowhere)))).await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!(created.listed(), ["creds"]);
    let expected = format!(
        "Secret {}/creds was not checked: the API server did not answer. It was added anyway; check policy-server's \
         connection to it",
        stage.namespace
    );
    assert_eq!(created.warnings, [expected]);
}
