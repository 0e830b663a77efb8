//! Secrets that are for some namespaces only: copies and references follow the labels of Namespaces.

use crate::harness::{Corner, Generator, PATIENCE, eventually, stays};
use serde_json::{Value, json};

/// The secret of this corner, for the namespaces of team a only.
fn for_team_a(corner: &Corner) -> Value {
    let mut settings = corner.settings();
    settings["secrets"][0]["namespaceSelector"] = json!({"matchLabels": {"team": "a"}});
    settings
}

async fn label(corner: &Corner, namespace: &str, team: Option<&str>) {
    corner.label_namespace(namespace, json!({"labels": {"team": team}})).await;
}

async fn has_neither(corner: &Corner, namespace: &str) {
    eventually(&format!("{namespace} has neither copy nor reference"), PATIENCE, || async {
        corner.copy(namespace).await.is_none() && corner.references(namespace).await.is_empty()
    })
    .await;
}

async fn in_state(corner: &Corner, generator: &Generator, state: &str, count: f64) {
    let metric = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"{state}\"}}", corner.name);
    generator.counts(&metric, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_and_reference_come_with_the_label_and_go_with_it() {
    let corner = Corner::new("labelled").await;
    let (always, sometimes) = (corner.namespace("always").await, corner.namespace("sometimes").await);
    label(&corner, &always, Some("a")).await;
    corner.put_source("1").await;
    let generator = corner.run(&for_team_a(&corner), &[]);
    corner.settled(&always, "1").await;
    in_state(&corner, &generator, "unselected", 1.0).await;
    has_neither(&corner, &sometimes).await;

    label(&corner, &sometimes, Some("a")).await;
    corner.settled(&sometimes, "1").await;
    in_state(&corner, &generator, "in-sync", 2.0).await;
    label(&corner, &sometimes, Some("b")).await;
    has_neither(&corner, &sometimes).await;
    label(&corner, &sometimes, Some("a")).await;
    corner.settled(&sometimes, "1").await;
    label(&corner, &sometimes, None).await;
    has_neither(&corner, &sometimes).await;
    // Nothing else moves it.
    corner.put_source("2").await;
    corner.settled(&always, "2").await;
    corner.patch_account(&sometimes, json!({"metadata": {"labels": {"x": "y"}}})).await;
    stays("there is nothing", || async {
        corner.copy(&sometimes).await.is_none() && corner.references(&sometimes).await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_its_label_while_nobody_looked_is_an_orphan_and_status_tells_it_apart() {
    let corner = Corner::new("relabelled").await;
    let (stays, leaves) = (corner.namespace("stays").await, corner.namespace("leaves").await);
    label(&corner, &stays, Some("a")).await;
    label(&corner, &leaves, Some("a")).await;
    corner.put_source("1").await;
    let settings = for_team_a(&corner);
    assert!(corner.once(&settings, &[]).status.success());
    label(&corner, &leaves, Some("b")).await;

    let file = corner.write_settings(&settings);
    let status = || corner.finish(&["status", "--settings", file.to_str().unwrap()]);
    let row = |out: &str, namespace: &str| {
        let line = out.lines().find(|line| line.starts_with(&format!("{namespace} "))).map(str::to_owned);
        line.unwrap().split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = status();
    assert_eq!(row(&before.out, &leaves), ["leftover", "default"], "{}", before.out);
    assert_eq!(before.status.code(), Some(1));
    assert!(corner.once(&settings, &[]).status.success());
    assert!(corner.copy(&leaves).await.is_none() && corner.references(&leaves).await.is_empty());
    let after = status();
    assert_eq!(row(&after.out, &leaves), ["unselected", "-"], "{}", after.out);
    assert_eq!(row(&after.out, &stays), ["in-sync", "-"], "{}", after.out);
    assert!(after.status.success(), "{}", after.out);

    // Somebody else's Secret is nobody's orphan.
    corner.put_secret(&leaves, "kubernetes.io/dockerconfigjson", "{}").await;
    assert!(corner.once(&settings, &[]).status.success());
    assert_eq!(corner.content(&leaves).await.as_deref(), Some("{}"));
    assert_eq!(row(&status().out, &leaves), ["unselected", "-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_choose_other_namespaces_move_the_copies() {
    let corner = Corner::new("chosen").await;
    let (a, b) = (corner.namespace("a").await, corner.namespace("b").await);
    corner.put_source("1").await;
    let by_name = |pattern: &str| {
        let mut settings = corner.settings();
        settings["secrets"][0]["namespaces"] = json!([pattern]);
        settings
    };
    let generator = corner.run(&by_name("*-a"), &[]);
    corner.settled(&a, "1").await;
    assert!(corner.copy(&b).await.is_none());
    corner.write_settings(&by_name("*-b"));
    corner.settled(&b, "1").await;
    has_neither(&corner, &a).await;
    drop(generator);
    // The right to it needs no record of who was selected when.
    let cleanup = corner.finish(&["cleanup", "--yes"]);
    assert!(cleanup.status.success(), "{}", cleanup.log);
    has_neither(&corner, &b).await;
}
