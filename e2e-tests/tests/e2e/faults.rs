//! What becomes of requests when something is not there.

use crate::harness::{Registration, Stage, eventually, pod};
use image_pull_secrets_e2e::control_plane::ControlPlane;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_webhook_failure_policy_ignore_lets_pods_pass_as_they_are() {
    let mut stage = Stage::empty(json!({"secrets": [{"name": "creds"}]})).await;
    stage.register(Registration { ignore_failures: true, ..Registration::default() }).await;
    stage.create_secret("creds").await;
    assert_eq!(stage.create_pod(pod("before")).await.ok().listed(), ["creds"]);
    stage.kill_webhook().await;
    assert_eq!(stage.create_pod(pod("after")).await.ok().listed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_webhook_failure_policy_fail_refuses_pods_and_lets_them_be_changed_and_deleted() {
    let mut stage = Stage::new(json!({"secrets": [{"name": "creds"}]})).await;
    stage.create_pod(pod("before")).await.ok();
    stage.kill_webhook().await;
    let refused = stage.create_pod(pod("after")).await;
    assert!(refused.status == 500 && refused.message().contains("failed calling webhook"), "{refused:?}");
    let path = format!("{}/before", stage.pods());
    stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    stage.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
}

/// On a cluster of its own: its API server is away for a minute, and has forgotten its history when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_minute_without_the_api_server_the_webhook_and_its_rights_work_as_before() {
    let mut cluster = ControlPlane::start_own().unwrap_or_else(|error| panic!("{error:#}"));
    let kubeconfig = cluster.kubeconfig().to_owned();
    let mut stage = Stage::on(&kubeconfig, json!({"secrets": [{"name": "creds"}]})).await;
    stage.register(Registration::default()).await;
    stage.create_secret("creds").await;
    assert_eq!(stage.create_pod(pod("before")).await.ok().listed(), ["creds"]);
    cluster.command("stop apiserver").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.command("compact").unwrap();
    cluster.command("start apiserver").unwrap();
    eventually("Pods are admitted", || async { stage.try_create_pod(pod("probe")).await }).await;
    let created = stage.create_pod(pod("after")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec!["creds"], 0));
    drop(stage);
}
