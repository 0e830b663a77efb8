//! ServiceAccounts: nothing that another writer put there is ever lost.

use crate::harness::{Corner, PATIENCE, eventually, stays};
use crate::proxy::Mood;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often our reference is taken out meanwhile.
const REMOVALS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_appends_as_fast_as_it_can_loses_nothing() {
    let corner = Corner::new("appender").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    let accounts = corner.accounts(&namespace);
    let removed = AtomicUsize::new(0);
    let appending = async {
        let (mut count, deadline) = (0, Instant::now() + PATIENCE);
        while count < 150 || removed.load(Ordering::Relaxed) < REMOVALS {
            assert!(Instant::now() < deadline, "the generator does not put it back: {}", generator.log());
            if count >= 150 {
                // So that the generator is faster now and then.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            // As the OpenShift controller and client-go's users do: read, append, update, and again after a conflict.
            loop {
                let mut account = accounts.get("default").await.unwrap();
                account
                    .image_pull_secrets
                    .get_or_insert_default()
                    .push(k8s_openapi::api::core::v1::LocalObjectReference { name: format!("dockercfg-{count}") });
                match accounts.replace("default", &PostParams::default(), &account).await {
                    Ok(_) => break,
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => panic!("{error}"),
                }
            }
            count += 1;
        }
        count
    };
    let removing = async {
        // Takes our reference out again and again, so that the generator has something to write meanwhile.
        while removed.load(Ordering::Relaxed) < REMOVALS {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let account = accounts.get("default").await.unwrap();
            let position = account.image_pull_secrets.iter().flatten().position(|r| r.name == corner.name);
            let Some(position) = position else { continue };
            let patch = json!([
                {"op": "test", "path": format!("/imagePullSecrets/{position}/name"), "value": corner.name},
                {"op": "remove", "path": format!("/imagePullSecrets/{position}")},
            ]);
            let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
            let is_removed = accounts.patch("default", &PatchParams::default(), &patch).await.is_ok();
            removed.fetch_add(usize::from(is_removed), Ordering::Relaxed);
        }
    };
    let (count, ()) = tokio::join!(appending, removing);
    eventually("our reference is back", PATIENCE, || async {
        corner.references(&namespace).await.contains(&corner.name)
    })
    .await;
    let references = corner.references(&namespace).await;
    for n in 0..count {
        assert!(references.contains(&format!("dockercfg-{n}")), "{n} is lost");
    }
    assert_eq!(references.len(), count + 1, "{references:?}");
    assert!(generator.log().matches("update ServiceAccount").count() > REMOVALS, "{}", generator.log());
}

/// Over a slow network whatever the generator plans is outdated when it arrives, for as long as somebody else writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_arrives_late_takes_nothing_of_somebody_elses() {
    let corner = Corner::new("late").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let mut settings = corner.settings();
    settings["exclude"] = json!({"annotation": "example.com/exclude"});
    let (proxy, kubeconfig) = corner.proxy().await;
    let path = corner.write_settings(&settings);
    let args = ["run", "--no-leader-elect", "--settings", path.to_str().unwrap()];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    proxy.change(Mood::Slow(Duration::from_millis(700)));
    let accounts = corner.accounts(&namespace);
    let mut theirs: Vec<String> = Vec::new();
    for number in 0..60 {
        let exclude = |value: &str| json!({"annotations": {"example.com/exclude": value}});
        match number {
            5 | 35 => corner.label_namespace(&namespace, exclude("true")).await,
            20 => corner.label_namespace(&namespace, exclude("false")).await,
            _ => {}
        }
        // Before what is there, so that every position that the generator read is another's now.
        let name = format!("theirs-{number}");
        let has_list = accounts.get("default").await.unwrap().image_pull_secrets.is_some();
        let patch = if has_list {
            json!([{"op": "add", "path": "/imagePullSecrets/0", "value": {"name": name}}])
        } else {
            json!([{"op": "add", "path": "/imagePullSecrets", "value": [{"name": name}]}])
        };
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
        accounts.patch("default", &PatchParams::default(), &patch).await.unwrap();
        theirs.insert(0, name);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    proxy.change(Mood::Fine);
    eventually("only theirs are left", PATIENCE, || async { corner.references(&namespace).await == theirs }).await;
    assert!(generator.log().contains("cannot patch serviceaccounts"), "no write came too late: {}", generator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_select_service_accounts_and_one_created_later_gets_its_reference() {
    let corner = Corner::new("globs").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let mut settings = corner.settings();
    settings["serviceAccounts"] = json!(["build*"]);
    let _generator = corner.run_ready(&settings, &[]).await;
    let accounts = corner.accounts(&namespace);
    for name in ["builder", "deployer"] {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        accounts
            .create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() })
            .await
            .unwrap();
    }
    let has_reference = |name: &'static str| {
        let accounts = accounts.clone();
        async move { accounts.get(name).await.unwrap().image_pull_secrets.is_some() }
    };
    eventually("builder refers to it", PATIENCE, || has_reference("builder")).await;
    assert!(!has_reference("deployer").await && corner.references(&namespace).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_somebody_elses_is_never_removed() {
    let corner = Corner::new("theirs").await;
    let namespace = corner.namespace("a").await;
    // The policy adds the reference at admission, before the generator sees the ServiceAccount.
    corner.patch_account(&namespace, json!({"imagePullSecrets": [{"name": corner.name}]})).await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    corner.settled(&namespace, "1").await;
    let finished = corner.finish(&["cleanup", "--yes"]);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(corner.copy(&namespace).await.is_none());
    assert_eq!(corner.references(&namespace).await, [corner.name.as_str()]);

    assert!(corner.once(&corner.settings(), &[]).status.success());
    let finished = corner.finish(&["cleanup", "--yes", "--all-references"]);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(corner.references(&namespace).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn under_skip_a_reference_is_added_once_its_secret_is_there() {
    let corner = Corner::new("skip").await;
    let namespace = corner.namespace("a").await;
    let mut settings = corner.settings();
    settings["onMissingSecret"] = json!("skip");
    let generator = corner.run_ready(&settings, &[]).await;
    stays("there is no reference", || async { corner.references(&namespace).await.is_empty() }).await;
    corner.put_source("1").await;
    corner.settled(&namespace, "1").await;
    // A copy that is made again keeps its reference meanwhile.
    corner.delete_secret(&namespace).await;
    corner.settled(&namespace, "1").await;
    assert!(!generator.log().contains("remove=[\""), "{}", generator.log());
}
