//! `--interval`: everything is looked at anew, besides watching.

use crate::harness::{Corner, PATIENCE, docker_config, eventually};
use crate::rights::limited;
use serde_json::{Value, json};

const LAST_FULL_SYNC: &str = "image_pull_secrets_last_full_sync_timestamp_seconds";

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_where_nothing_differs_is_counted_writes_nothing_and_is_quiet() {
    let corner = Corner::new("interval").await;
    let names = corner.namespaces(3).await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    let generator = corner.run(&corner.settings(), &["--interval", "1s"]);
    for name in &names {
        corner.settled(name, "1").await;
    }
    generator.ready().await;
    let in_sync = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"in-sync\"}}", corner.name);
    generator.counts(&in_sync, 3.0).await;
    let (log, mut last) = (generator.log(), generator.metric(LAST_FULL_SYNC).await.unwrap());
    for _ in 0..3 {
        eventually("there is another full sync", PATIENCE, || async {
            // While everything is listed anew, what was counted before stands.
            assert_eq!(generator.metric(&in_sync).await, Some(3.0));
            generator.metric(LAST_FULL_SYNC).await.unwrap() > last
        })
        .await;
        last = generator.metric(LAST_FULL_SYNC).await.unwrap();
    }
    let said: Vec<String> =
        generator.log()[log.len()..].lines().filter(|line| !line.contains("DEBUG")).map(str::to_owned).collect();
    assert_eq!(said, Vec::<String>::new());
    let metrics = generator.get("/metrics").await.unwrap().1;
    for verb in ["create", "delete"] {
        assert!(!metrics.contains(&format!("requests_total{{verb=\"{verb}\"")), "{metrics}");
    }
    assert_eq!(generator.get("/readyz").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_between_two_resyncs_ends_it_at_once() {
    let corner = Corner::new("interval-end").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let generator = corner.run_ready(&corner.settings(), &["--interval", "1h"]).await;
    corner.settled(&namespace, "1").await;
    let finished = generator.terminate();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_watch_tells_is_put_right_at_the_next_resync() {
    let corner = Corner::new("unwatched").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    // It may list everything, and watch nothing.
    let without_watch = |role: &mut Value| {
        for rule in role["rules"].as_array_mut().unwrap() {
            rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "watch");
        }
    };
    let kubeconfig = limited(&corner, without_watch).await;
    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--no-leader-elect", "--settings", settings.to_str().unwrap(), "--interval", "2s"];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    generator.logs("cannot watch namespaces: the RBAC rule is missing").await;
    corner.settled(&namespace, "1").await;
    let uid = corner.copy(&namespace).await.unwrap().metadata.uid;
    corner.patch_secret(&namespace, json!({"stringData": {".dockerconfigjson": docker_config("x")}})).await;
    corner.patch_account(&namespace, json!({"imagePullSecrets": []})).await;
    corner.settled(&namespace, "1").await;
    assert_eq!(corner.copy(&namespace).await.unwrap().metadata.uid, uid);
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
    let new = corner.namespace("b").await;
    corner.settled(&new, "2").await;
}
