//! What everybody sees: copies arrive, follow their source, and cost one write each.

use crate::harness::{Corner, PATIENCE, docker_config, eventually};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn whichever_of_source_and_namespace_comes_first() {
    let corner = Corner::new("first").await;
    let before = corner.namespace("before").await;
    let generator = corner.run(&corner.settings(), &[]);
    generator.logs("the source is missing").await;
    corner.put_source("1").await;
    corner.settled(&before, "1").await;
    let after = corner.namespace_only("after").await;
    corner.settled(&after, "1").await;
    let copy = corner.copy(&after).await.unwrap();
    assert_eq!(copy.metadata.labels.unwrap()["app.kubernetes.io/managed-by"], "image-pull-secrets-generator");
    let source = format!("{}/{}", corner.ns("source"), corner.name);
    assert_eq!(copy.metadata.annotations.unwrap()["image-pull-secrets.kubewarden.io/source"], source);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_one_write_a_namespace_in_place_and_a_restart_is_none() {
    let corner = Corner::new("rotate").await;
    let names = corner.namespaces(20).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    generator.ready().await;
    let created = "image_pull_secrets_requests_total{verb=\"create\",resource=\"secrets\",code=\"2xx\"}";
    assert_eq!(generator.metric(created).await, Some(20.0));
    let uid = |name: String| {
        let corner = &corner;
        async move { corner.copy(&name).await.unwrap().metadata.uid.unwrap() }
    };
    let uids = join_all(names.iter().cloned().map(uid)).await;

    corner.put_source("2").await;
    join_all(names.iter().map(|name| corner.settled(name, "2"))).await;
    assert_eq!(join_all(names.iter().cloned().map(uid)).await, uids);
    let patched = "image_pull_secrets_requests_total{verb=\"patch\",resource=\"secrets\",code=\"2xx\"}";
    generator.counts(patched, 20.0).await;
    assert_eq!(generator.metric(created).await, Some(20.0));
    drop(generator);

    let generator = corner.run_ready(&corner.settings(), &[]).await;
    assert_eq!(generator.metric(patched).await, None);
    assert_eq!(generator.metric(created).await, None);
    let in_sync = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"in-sync\"}}", corner.name);
    generator.counts(&in_sync, 20.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_200_namespaces_with_a_rotation_in_it() {
    let corner = Corner::new("storm").await;
    corner.put_source("0").await;
    let generator = corner.run_ready(&corner.settings(), &[]).await;
    let storm = async {
        let mut names = Vec::new();
        for batch in 0..10 {
            let batch = (0..20).map(|n| {
                let corner = &corner;
                async move { corner.namespace_only(&format!("s{batch}-{n:02}")).await }
            });
            names.extend(join_all(batch).await);
            // Half of the batch before goes again at once.
            let namespaces = Api::<Namespace>::all(corner.client.clone());
            let doomed: Vec<_> = names.iter().rev().take(10).cloned().collect();
            names.retain(|name| !doomed.contains(name));
            join_all(doomed.iter().map(|name| {
                let namespaces = namespaces.clone();
                async move { namespaces.delete(name, &DeleteParams::default()).await.unwrap() }
            }))
            .await;
        }
        names
    };
    let rotation = async {
        for version in ["1", "2", "3"] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            corner.put_source(version).await;
        }
    };
    let (names, ()) = tokio::join!(storm, rotation);
    assert_eq!(names.len(), 100);
    join_all(names.iter().map(|name| corner.settled(name, "3"))).await;
    // What went has left nothing that is still tried.
    eventually("nothing is left to do", PATIENCE, || async {
        let in_sync = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"in-sync\"}}", corner.name);
        generator.metric(&in_sync).await == Some(100.0)
    })
    .await;
    assert!(!generator.log().contains(" WARN "), "{}", generator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_what_a_run_then_does() {
    let corner = Corner::new("dry").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let dry =
        corner.finish(&["run", "--dry-run", "--settings", corner.write_settings(&corner.settings()).to_str().unwrap()]);
    let expected = format!(
        "create Secret {namespace}/{name}\nupdate ServiceAccount {namespace}/default: +{name}\n",
        name = corner.name
    );
    assert_eq!(dry.out, expected);
    assert!(corner.copy(&namespace).await.is_none());
    assert!(corner.once(&corner.settings(), &[]).status.success());
    assert_eq!(corner.content(&namespace).await, Some(docker_config("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_whether_all_is_well() {
    let corner = Corner::new("status").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let settings = corner.write_settings(&corner.settings());
    let status = || corner.finish(&["status", "-o", "json", "--settings", settings.to_str().unwrap()]);
    let before = status();
    assert_eq!(before.status.code(), Some(1), "{}", before.log);
    assert!(corner.once(&corner.settings(), &[]).status.success());
    let after = status();
    assert_eq!(after.status.code(), Some(0), "{}", after.out);
    let document: serde_json::Value = serde_json::from_str(&after.out).unwrap();
    let row = document["secrets"].as_array().unwrap().iter().find(|row| row["namespace"] == *namespace).unwrap();
    assert_eq!(row["state"], "in-sync");
    assert!(document["unseen"].as_array().unwrap().is_empty());
    // Nothing is left of it but the reference.
    corner.write_settings(&json!({"secrets": [{"name": "another"}], "serviceAccounts": []}));
    corner.delete_secret(&namespace).await;
    let former = status();
    assert_eq!(former.status.code(), Some(1), "{}", former.out);
    let document: serde_json::Value = serde_json::from_str(&former.out).unwrap();
    let expected = json!({
        "namespace": namespace, "secret": corner.name, "state": "leftover", "serviceAccountsToChange": ["default"],
        "why": null,
    });
    assert!(document["secrets"].as_array().unwrap().contains(&expected), "{document:#}");
}
