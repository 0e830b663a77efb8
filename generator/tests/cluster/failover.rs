//! Replicas: one writes, and another takes over, whatever the one was doing when it was killed.

use crate::admission::{Made, refuse_by_webhook};
use crate::harness::{Corner, Generator, PATIENCE, content_of, docker_config, eventually, stays};
use crate::proxy::{Mood, Proxy};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_after_a_kill_and_at_once_after_a_clean_end() {
    let corner = Corner::new("replicas").await;
    corner.put_source("1").await;
    let first = corner.namespace("a").await;
    let settings = corner.write_settings(&corner.settings());
    let start = || corner.start(&["run", "--settings", settings.to_str().unwrap()]);
    let mut leader = start();
    corner.settled(&first, "1").await;
    let standby = start();
    standby.ready().await;
    assert_eq!(standby.metric("image_pull_secrets_leader").await, Some(0.0));

    leader.kill();
    let second = corner.namespace("b").await;
    corner.settled(&second, "1").await;
    assert_eq!(standby.metric("image_pull_secrets_leader").await, Some(1.0));

    let next = start();
    next.ready().await;
    let finished = standby.terminate();
    assert!(finished.status.success(), "{}", finished.log);
    // It has given up the Lease, which nobody has to wait for then.
    let lease = Api::<Lease>::namespaced(corner.client.clone(), "default").get(&corner.name).await.unwrap();
    assert!(lease.spec.unwrap().holder_identity.is_none_or(|holder| !finished.log.contains(&holder)));
    let third = corner.namespace("c").await;
    corner.settled(&third, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_replica_whose_clock_is_wrong_is_neither_stolen_nor_stuck() {
    let corner = Corner::new("skew").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let leases = Api::<Lease>::namespaced(corner.client.clone(), "default");
    // Its holder lives in 2001, and renews every second for longer than the Lease lasts. That is long enough for renewals that
    // are late on a loaded machine.
    let mut lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": corner.name},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "2001-01-01T00:00:00.000000Z"},
    }))
    .unwrap();
    lease = leases.create(&PostParams::default(), &lease).await.unwrap();
    let settings = corner.write_settings(&corner.settings());
    let _generator = corner.start(&["run", "--settings", settings.to_str().unwrap()]);
    for second in 1..25 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let renewed = serde_json::from_value(json!(format!("2001-01-01T00:00:{second:02}.000000Z"))).unwrap();
        lease.spec.as_mut().unwrap().renew_time = Some(renewed);
        lease = leases.replace(&corner.name, &PostParams::default(), &lease).await.expect("nobody else may write it");
    }
    assert!(corner.copy(&namespace).await.is_none());
    corner.settled(&namespace, "1").await;
    leases.delete(&corner.name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_ready_only_once_it_knows_who_leads() {
    let corner = Corner::new("knows").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    proxy.change(Mood::Down);
    corner.put_source("1").await;
    let namespace = corner.namespace("a").await;
    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--settings", settings.to_str().unwrap()];
    let _leader = corner.start(&args);
    corner.settled(&namespace, "1").await;
    let cut_off = corner.start_as(&args, &kubeconfig, &[]);
    cut_off.logs("cannot take the Lease").await;
    stays("it is not ready", || async { cut_off.get("/readyz").await.is_some_and(|(status, _)| status == 503) }).await;
    assert_eq!(cut_off.get("/healthz").await.unwrap().0, 200);
    proxy.change(Mood::Fine);
    cut_off.ready().await;
    assert_eq!(cut_off.metric("image_pull_secrets_leader").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_counts_only_while_it_leads_and_only_what_its_settings_name() {
    let corner = Corner::new("counts").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let mut settings = corner.settings();
    let path = corner.write_settings(&settings);
    let generator = corner.start(&["run", "--settings", path.to_str().unwrap()]);
    corner.settled(&namespace, "1").await;
    let version = |secret: &str| format!("image_pull_secrets_source_resource_version{{secret=\"{secret}\"}}");
    let in_sync = |secret: &str| format!("image_pull_secrets_copies{{secret=\"{secret}\",state=\"in-sync\"}}");
    let shows = async |secret: &str| {
        (generator.metric(&version(secret)).await.is_some(), generator.metric(&in_sync(secret)).await.is_some())
    };
    eventually("it counts", PATIENCE, || async { shows(&corner.name).await == (true, true) }).await;

    // The same source, under another name.
    let renamed = format!("{}-renamed", corner.name);
    settings["secrets"][0]["source"]["name"] = json!(corner.name);
    settings["secrets"][0]["name"] = json!(renamed);
    corner.write_settings(&settings);
    eventually("it counts the other", PATIENCE, || async { shows(&renamed).await == (true, true) }).await;
    assert_eq!(shows(&corner.name).await, (false, false));

    let leases = Api::<Lease>::namespaced(corner.client.clone(), "default");
    let other = Patch::Merge(json!({"spec": {"holderIdentity": "other"}}));
    leases.patch(&corner.name, &PatchParams::default(), &other).await.unwrap();
    eventually("it counts no more", PATIENCE, || async { shows(&renamed).await == (false, false) }).await;
    generator.counts("image_pull_secrets_leader", 0.0).await;
}

/// Two replicas, and namespaces whose ServiceAccounts have entries of somebody else's.
struct Pair {
    names: Vec<String>,
    leader: Generator,
    /// Between the leader and the API server.
    proxy: Proxy,
    standby: Generator,
    /// Refuses every change of a ServiceAccount.
    webhook: Option<Made>,
    // Last: its directory, with the logs, is dropped with it.
    corner: Corner,
}

const THEIRS: [&str; 2] = ["zzz-theirs", "aaa-theirs"];

impl Pair {
    async fn new(name: &str, settings: impl FnOnce(&Corner) -> Value, before: &str) -> Self {
        let corner = Corner::new(name).await;
        let names = corner.namespaces(12).await;
        let theirs = json!({"imagePullSecrets": THEIRS.map(|name| json!({"name": name}))});
        for namespace in &names {
            corner.patch_account(namespace, theirs.clone()).await;
            if before == "opaque" {
                corner.put_secret(namespace, "Opaque", &docker_config("0")).await;
            }
        }
        let webhook = match before {
            "refusals" => Some(refuse_references(&corner, &names[0]).await),
            _ => None,
        };
        let settings = corner.write_settings(&settings(&corner));
        // One namespace after the other, so that there is a middle.
        let args = ["run", "--concurrency", "1", "--settings", settings.to_str().unwrap()];
        let (proxy, kubeconfig) = corner.proxy().await;
        let leader = corner.start_as(&args, &kubeconfig, &[]);
        eventually("it leads", PATIENCE, || async { leader.metric("image_pull_secrets_leader").await == Some(1.0) })
            .await;
        let standby = corner.start(&args);
        standby.ready().await;
        let pair = Self { corner, names, leader, proxy, standby, webhook };
        if before == "copies" {
            pair.corner.put_source("1").await;
            join_all(pair.names.iter().map(|name| pair.corner.settled(name, "1"))).await;
        }
        // One write takes half a second now: it can be killed between any two.
        pair.proxy.change(Mood::Slow(Duration::from_millis(250)));
        pair
    }

    /// How many namespaces have a Secret of the name that is so.
    async fn count(&self, is_so: impl Fn(&Secret) -> bool) -> usize {
        let by_name = ListParams::default().fields(&format!("metadata.name={}", self.corner.name));
        let secrets = Api::<Secret>::all(self.corner.client.clone()).list(&by_name).await.unwrap();
        let here = |secret: &&Secret| self.names.contains(secret.metadata.namespace.as_ref().unwrap());
        secrets.iter().filter(here).filter(|secret| is_so(secret)).count()
    }

    async fn kill_leader_when(&mut self, is_so: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self).await {
            assert!(Instant::now() < deadline, "{}: never came to that:\n{}", self.corner.name, self.leader.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.leader.kill();
    }

    /// Kills it when in at least three namespaces there is such a Secret, or is no such Secret any more, and not in all.
    async fn kill_leader_amid(&mut self, is_so: impl Fn(&Secret) -> bool) {
        let all = self.names.len();
        let before = self.count(&is_so).await;
        self.kill_leader_when(async |pair| pair.count(&is_so).await.abs_diff(before) >= 3).await;
        let done = self.count(&is_so).await.abs_diff(before);
        assert!(done < all, "{}: it was done with all of {all}", self.corner.name);
    }

    /// Waits until every namespace has this version, or no copy; and refers to it, or not, besides what was there before.
    async fn ends_with(self, version: Option<&str>) {
        let Self { corner, names, standby, .. } = &self;
        let content = version.map(docker_config);
        let references: Vec<&str> = THEIRS.into_iter().chain(version.map(|_| corner.name.as_str())).collect();
        eventually(&format!("{} is as it should be", corner.name), PATIENCE, || async {
            join_all(names.iter().map(|name| async {
                corner.content(name).await == content && corner.references(name).await == references
            }))
            .await
            .iter()
            .all(|is_so| *is_so)
        })
        .await;
        assert_eq!(standby.metric("image_pull_secrets_leader").await, Some(1.0), "{}", corner.name);
    }
}

async fn refuse_references(corner: &Corner, namespace: &str) -> Made {
    let webhook = refuse_by_webhook(corner, "UPDATE", "serviceaccounts", &json!({"corner": corner.name})).await;
    eventually("the webhook is asked", PATIENCE, || async {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let nothing = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
        corner.accounts(namespace).patch("default", &dry, &nothing).await.is_err()
    })
    .await;
    webhook
}

async fn before_the_first_copy() {
    let mut pair = Pair::new("kill-first", Corner::settings, "nothing").await;
    pair.corner.put_source("1").await;
    pair.kill_leader_when(async |_| true).await;
    pair.ends_with(Some("1")).await;
}

async fn amid_the_first_copies() {
    let mut pair = Pair::new("kill-copy", Corner::settings, "nothing").await;
    pair.corner.put_source("1").await;
    pair.kill_leader_amid(|_| true).await;
    pair.ends_with(Some("1")).await;
}

async fn amid_a_rotation() {
    let mut pair = Pair::new("kill-rotate", Corner::settings, "copies").await;
    pair.corner.put_source("2").await;
    let new = Some(docker_config("2"));
    pair.kill_leader_amid(|copy| content_of(copy) == new).await;
    pair.ends_with(Some("2")).await;
}

async fn between_the_secrets_and_the_service_accounts() {
    let mut pair = Pair::new("kill-between", Corner::settings, "refusals").await;
    // Here it is the webhook that keeps it from the next step.
    pair.proxy.change(Mood::Fine);
    pair.corner.put_source("1").await;
    pair.kill_leader_when(async |pair| pair.count(|_| true).await == pair.names.len()).await;
    assert_eq!(pair.corner.references(&pair.names[0]).await, THEIRS);
    pair.webhook.take().expect("there is one").remove().await;
    pair.ends_with(Some("1")).await;
}

async fn amid_the_removal_of_what_left_the_settings() {
    let mut pair = Pair::new("kill-leave", Corner::settings, "copies").await;
    pair.corner.write_settings(&json!({"secrets": [{"name": "another"}], "serviceAccounts": []}));
    pair.kill_leader_amid(|_| true).await;
    pair.ends_with(None).await;
}

async fn amid_the_removal_from_excluded_namespaces() {
    let mut pair = Pair::new("kill-exclude", Corner::settings, "copies").await;
    let mut settings = pair.corner.settings();
    settings["exclude"] = json!({"namespaces": [format!("{}-n*", pair.corner.name)]});
    pair.corner.write_settings(&settings);
    pair.kill_leader_amid(|_| true).await;
    pair.ends_with(None).await;
}

async fn amid_an_adoption_that_recreates() {
    let adopting = |corner: &Corner| {
        let mut settings = corner.settings();
        settings["conflicts"] = json!("adopt");
        settings
    };
    let mut pair = Pair::new("kill-adopt", adopting, "opaque").await;
    pair.corner.put_source("1").await;
    let is_opaque = |secret: &Secret| secret.type_.as_deref() == Some("Opaque");
    pair.kill_leader_amid(is_opaque).await;
    pair.ends_with(Some("1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_at_any_step_leaves_nothing_half_done() {
    tokio::join!(
        before_the_first_copy(),
        amid_the_first_copies(),
        amid_a_rotation(),
        between_the_secrets_and_the_service_accounts(),
        amid_the_removal_of_what_left_the_settings(),
        amid_the_removal_from_excluded_namespaces(),
        amid_an_adoption_that_recreates(),
    );
}
