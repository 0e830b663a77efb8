//! Secrets that the generator did not make.

use crate::harness::{Corner, PATIENCE, docker_config, eventually, stays};
use crate::proxy::Mood;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_is_kept_and_told() {
    let corner = Corner::new("foreign").await;
    let namespace = corner.namespace("a").await;
    let theirs = docker_config("theirs");
    corner.put_secret(&namespace, "kubernetes.io/dockerconfigjson", &theirs).await;
    let before = corner.copy(&namespace).await.unwrap();
    corner.put_source("1").await;
    let generator = corner.run_ready(&corner.settings(), &[]).await;
    corner.put_source("2").await;
    stays("the foreign Secret is as it was", || async { corner.copy(&namespace).await.as_ref() == Some(&before) })
        .await;
    generator.logs("was not made by the generator").await;
    let foreign = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"foreign\"}}", corner.name);
    generator.counts(&foreign, 1.0).await;
    let events = Api::<Event>::namespaced(corner.client.clone(), &namespace);
    eventually("there is one Event on it", PATIENCE, || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        let on_it: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("ForeignSecret")).collect();
        on_it.len() == 1 && on_it[0].involved_object.uid == before.metadata.uid
    })
    .await;
    drop(generator);

    let mut adopting = corner.settings();
    adopting["conflicts"] = json!("adopt");
    let _generator = corner.run(&adopting, &[]);
    corner.settled(&namespace, "2").await;
    assert_eq!(corner.copy(&namespace).await.unwrap().metadata.uid, before.metadata.uid, "taken over in place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_is_told_once_also_where_a_resync_takes_long() {
    let corner = Corner::new("resync").await;
    let namespace = corner.namespace("a").await;
    corner.put_secret(&namespace, "kubernetes.io/dockerconfigjson", &docker_config("theirs")).await;
    corner.put_source("1").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--no-leader-elect", "--interval", "8s", "--settings", settings.to_str().unwrap()];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    generator.logs("was not made by the generator").await;
    proxy.change(Mood::Slow(Duration::from_millis(700)));
    eventually("there is a resync", PATIENCE, || async { generator.log().matches("source read").count() > 2 }).await;
    let log = generator.log();
    assert_eq!(log.matches("was not made by the generator").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_generators_with_a_secret_of_one_name_for_different_namespaces_leave_each_other_alone() {
    let corner = Corner::new("two").await;
    let (a, b) = (corner.namespace("a").await, corner.namespace("b").await);
    let other_source = corner.create_namespace("other-source", json!({})).await;
    corner.put_source("1").await;
    corner.put_secret(&other_source, "kubernetes.io/dockerconfigjson", &docker_config("other")).await;
    let file = |name: &str, source: &str, excluded: &str| {
        let settings = json!({
            "secrets": [{"name": corner.name, "source": {"namespace": source}}], "exclude": {"namespaces": [excluded]},
        });
        let path = corner.directory.path().join(name);
        std::fs::write(&path, settings.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (for_a, for_b) = (file("a.json", &corner.ns("source"), &b), file("b.json", &other_source, &a));
    let lease = format!("{}-other", corner.name);
    let ours = corner.start(&["run", "--no-leader-elect", "--settings", &for_a]);
    let theirs = corner.start(&["run", "--no-leader-elect", "--settings", &for_b, "--lease-name", &lease]);
    corner.settled(&a, "1").await;
    corner.settled(&b, "other").await;
    stays("both are as they should be", || async {
        corner.content(&a).await == Some(docker_config("1"))
            && corner.content(&b).await == Some(docker_config("other"))
            && corner.references(&b).await == [corner.name.as_str()]
    })
    .await;
    assert!(!ours.log().contains("delete Secret") && !theirs.log().contains("delete Secret"));
    drop(ours);
    let finished = corner.finish(&["cleanup", "--yes", "--all-references", "--settings", &for_a]);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(corner.copy(&a).await.is_none() && corner.references(&a).await.is_empty());
    assert_eq!(corner.content(&b).await, Some(docker_config("other")));
    assert_eq!(corner.references(&b).await, [corner.name.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_in_a_selected_namespace_is_not_overwritten() {
    let corner = Corner::new("own").await;
    let namespace = corner.namespace("a").await;
    corner.put_secret(&namespace, "kubernetes.io/dockerconfigjson", &docker_config("1")).await;
    let before = corner.copy(&namespace).await.unwrap();
    let settings = json!({
        "secrets": [{"name": corner.name, "source": {"namespace": namespace}}], "conflicts": "adopt",
    });
    let _generator = corner.run_ready(&settings, &[]).await;
    stays("the source is as it was", || async { corner.copy(&namespace).await.as_ref() == Some(&before) }).await;
    let again = corner.finish(&["cleanup", "--yes"]);
    assert!(again.status.success(), "{}", again.log);
    assert_eq!(corner.copy(&namespace).await.unwrap(), before);
}
