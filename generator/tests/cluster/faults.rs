//! An API server that goes away, cuts off or delays what it says, says nothing any more, or has forgotten where a watch was.

use crate::control_plane::ControlPlane;
use crate::harness::{Corner, PATIENCE, docker_config, eventually, stays};
use crate::proxy::Mood;
use futures::{StreamExt as _, future::join_all};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn args(settings: &Path) -> Vec<&str> {
    vec!["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_deletes_nothing_and_what_happened_meanwhile_is_made_good() {
    let corner = Corner::new("outage").await;
    let names = corner.namespaces(10).await;
    corner.put_source("1").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start_as(&args(&settings), &kubeconfig, &[]);
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    proxy.change(Mood::Down);
    corner.put_source("2").await;
    corner.delete_secret(&names[0]).await;
    let new = corner.namespace("new").await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(corner.copy(&names[1]).await.is_some());
    }
    proxy.change(Mood::Fine);
    join_all(names.iter().chain([&new]).map(|name| corner.settled(name, "2"))).await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
    assert!(proxy.connections() < 500, "it must not hammer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_is_over_is_forgotten_also_where_nothing_happens() {
    const LAST_FULL_SYNC: &str = "image_pull_secrets_last_full_sync_timestamp_seconds";
    let corner = Corner::new("over").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start_as(&args(&settings), &kubeconfig, &[]);
    corner.settled(&namespace, "1").await;
    generator.ready().await;
    let is_told = || {
        let log = generator.log();
        let of_source = format!("cannot watch secrets {}/{}", corner.ns("source"), corner.name);
        log.lines().filter(|line| line.contains(&of_source)).count()
    };
    for _ in 0..2 {
        let told = is_told();
        proxy.change(Mood::Down);
        eventually("the outage is told", PATIENCE, || async { is_told() > told }).await;
        // The time is told in whole seconds.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let over = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        proxy.change(Mood::Fine);
        eventually("all is well again", PATIENCE, || async {
            generator.metric(LAST_FULL_SYNC).await.unwrap() >= over as f64
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_off_delete_nothing() {
    let corner = Corner::new("cut").await;
    let names = corner.namespaces(30).await;
    corner.put_source("1").await;
    assert!(corner.once(&corner.settings(), &[]).status.success());
    let (proxy, kubeconfig) = corner.proxy().await;
    let settings = corner.write_settings(&corner.settings());
    // The certificates alone are some 3 kB: lists are cut in the middle.
    proxy.change(Mood::Cutting(12_000));
    let generator = corner.start_as(&[args(&settings), vec!["--delete-with-source"]].concat(), &kubeconfig, &[]);
    for bytes in [5_000, 8_000, 20_000, 40_000, 80_000] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.change(Mood::Cutting(bytes));
    }
    stays("every copy is there", || async {
        join_all(names.iter().map(|name| corner.content(name))).await.iter().all(|c| *c == Some(docker_config("1")))
    })
    .await;
    proxy.change(Mood::Fine);
    corner.put_source("2").await;
    join_all(names.iter().map(|name| corner.settled(name, "2"))).await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_forgot_everything_is_listed_anew() {
    let mut cluster = ControlPlane::start_own(0).unwrap_or_else(|error| panic!("{error:#}"));
    let corner = Corner::on("forgot", cluster.kubeconfig().to_owned()).await;
    let names = corner.namespaces(5).await;
    corner.put_source("1").await;
    let settings = corner.write_settings(&corner.settings());
    let generator = corner.start(&args(&settings));
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    let secrets = corner.secrets(&names[0]);
    let version = secrets.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    cluster.command("stop apiserver").unwrap();
    cluster.command("compact").unwrap();
    cluster.command("start apiserver").unwrap();
    // So it is for every watch that is resumed.
    let watched = secrets.watch(&WatchParams::default(), &version).await.unwrap().boxed().next().await;
    assert!(matches!(&watched, Some(Ok(WatchEvent::Error(status))) if status.code == 410), "{watched:?}");
    corner.put_source("2").await;
    corner.delete_secret(&names[0]).await;
    eventually("everything is as it should be", PATIENCE, || async {
        join_all(names.iter().map(|name| corner.content(name))).await.iter().all(|c| *c == Some(docker_config("2")))
    })
    .await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
}

/// The generator and the API server lose sight of each other; meanwhile the source rotates, a copy goes and a namespace comes.
async fn after_a_mood(corner: &str, mood: Mood, lasts: Duration, elects: bool) {
    let corner = Corner::new(corner).await;
    let names = corner.namespaces(5).await;
    corner.put_source("1").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    let settings = corner.write_settings(&corner.settings());
    let mut args = vec!["run", "--delete-with-source", "--settings", settings.to_str().unwrap()];
    args.extend((!elects).then_some("--no-leader-elect"));
    let mut generator = corner.start_as(&args, &kubeconfig, &[]);
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    generator.ready().await;

    proxy.change(mood);
    corner.put_source("2").await;
    corner.delete_secret(&names[0]).await;
    let new = corner.namespace("new").await;
    tokio::time::sleep(lasts).await;
    proxy.change(Mood::Fine);
    let fine = Instant::now();
    let wanted = Some(docker_config("2"));
    eventually("everything is as it should be", PATIENCE, || async {
        let all: Vec<_> = names.iter().chain([&new]).collect();
        join_all(all.iter().map(|name| corner.content(name))).await.iter().all(|content| *content == wanted)
    })
    .await;
    eprintln!("in sync {:?} after the network was fine again", fine.elapsed());
    corner.settled(&new, "2").await;
    assert!(!generator.log().contains("delete Secret"), "{}", generator.log());
    assert!(generator.is_running(), "{}", generator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_delays_everything_loses_nothing() {
    after_a_mood("slow", Mood::Slow(Duration::from_millis(700)), Duration::from_secs(15), false).await;
}

/// The client's own limit would be five minutes, for which nobody waits here.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_without_a_word_are_given_up() {
    // Long enough for every connection to have something to say.
    let dead = after_a_mood("dead", Mood::Stalled, Duration::from_secs(1), false);
    let dead_and_elects = after_a_mood("elects", Mood::Stalled, Duration::from_secs(1), true);
    let longer_than_any_timeout = after_a_mood("stalled", Mood::Stalled, Duration::from_secs(62), true);
    tokio::join!(dead, dead_and_elects, longer_than_any_timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_stopped_for_a_minute_finds_everything_as_it_was() {
    let mut cluster = ControlPlane::start_own(0).unwrap_or_else(|error| panic!("{error:#}"));
    let corner = Corner::on("stopped", cluster.kubeconfig().to_owned()).await;
    let names = corner.namespaces(5).await;
    corner.put_source("1").await;
    let settings = corner.write_settings(&corner.settings());
    let mut generator = corner.start(&["run", "--delete-with-source", "--settings", settings.to_str().unwrap()]);
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    generator.ready().await;

    cluster.command("stop apiserver").unwrap();
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(60) {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(generator.get(path).await.expect("it answers").0, 200, "{path}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(generator.metric("image_pull_secrets_leader").await, Some(0.0), "its Lease ran out");
    cluster.command("start apiserver").unwrap();
    // It would come back by itself, after its own longest wait.
    cluster.command("kill controller-manager").unwrap();
    cluster.command("start controller-manager").unwrap();

    let back = Instant::now();
    corner.delete_secret(&names[0]).await;
    corner.patch_secret(&names[1], json!({"stringData": {".dockerconfigjson": docker_config("x")}})).await;
    corner.put_source("2").await;
    let new = corner.namespace("new").await;
    join_all(names.iter().chain([&new]).map(|name| corner.settled(name, "2"))).await;
    eprintln!("in sync {:?} after the API server was back", back.elapsed());
    assert_eq!(generator.metric("image_pull_secrets_leader").await, Some(1.0));
    let lease = Api::<Lease>::namespaced(corner.client.clone(), "default").get(&corner.name).await.unwrap();
    assert!(lease.spec.unwrap().holder_identity.is_some_and(|holder| !holder.is_empty()));
    let log = generator.log();
    assert!(!log.contains("delete Secret"), "{log}");
    assert!(log.lines().filter(|line| line.contains(" WARN ")).count() < 20, "{log}");
    assert!(generator.is_running());
}
