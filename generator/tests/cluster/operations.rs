//! Signals, namespaces that go, and Pods that are stuck.

use crate::admission::{refuse_by_webhook, webhook};
use crate::harness::{Corner, PATIENCE, docker_config, eventually, stays};
use crate::proxy::{Mood, Proxy};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_with_0() {
    let corner = Corner::new("sigterm").await;
    let generator = corner.run(&corner.settings(), &[]);
    generator.logs("the source is missing").await;
    let finished = generator.terminate();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.log);
    assert!(finished.log.trim_end().ends_with("stopped"), "{}", finished.log);
}

/// How soon it ends, for a loaded machine. What it waits for would take a minute.
const AT_ONCE: Duration = Duration::from_secs(30);

/// A webhook that says nothing has a say in the record, which is the last thing to be written.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_while_its_record_cannot_be_written() {
    let corner = Corner::new("sigterm-record").await;
    let namespace = corner.namespace("a").await;
    let args = ["--lease-namespace", &namespace];
    assert!(corner.once(&json!({"secrets": [{"name": "a"}, {"name": "b"}]}), &args).status.success());
    let silent = Proxy::to("127.0.0.1:1".parse().unwrap()).await;
    silent.change(Mood::Stalled);
    let address = silent.address.to_string();
    let webhook = webhook(&corner, &address, "UPDATE", "leases", &json!({"corner": corner.name})).await;
    // The API server takes a moment to hear of it: until then the answer is immediate.
    let leases = Api::<Lease>::namespaced(corner.client.clone(), &namespace);
    eventually("the webhook is asked", PATIENCE, || async {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let nothing = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
        let _ = tokio::time::timeout(Duration::from_secs(1), leases.patch(&corner.name, &dry, &nothing)).await;
        silent.connections() > 0
    })
    .await;
    let asked = silent.connections();
    let generator = corner.run_ready(&json!({"secrets": [{"name": "a"}]}), &args).await;
    eventually("the webhook is asked about the record", PATIENCE, || async { silent.connections() > asked }).await;
    let told = Instant::now();
    let finished = generator.terminate();
    assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
    assert_eq!(finished.status.code(), Some(0), "{}", finished.log);
    webhook.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_amid_a_single_run_lets_what_was_begun_finish() {
    let corner = Corner::new("sigterm-once").await;
    let names = corner.namespaces(12).await;
    corner.put_source("1").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    proxy.change(Mood::Slow(Duration::from_millis(700)));
    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--once", "--concurrency", "2", "--settings", settings.to_str().unwrap()];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    generator.logs("create Secret").await;
    let finished = generator.terminate();
    assert_eq!(finished.status.code(), Some(3), "{}", finished.log);
    assert!(finished.log.contains("interrupted by a signal: not everything was done"), "{}", finished.log);
    let copies = join_all(names.iter().map(|name| corner.copy(name))).await.into_iter().flatten().count();
    assert!(copies < names.len(), "{copies}");
    assert_eq!(finished.log.matches("create Secret").count(), copies, "it knows of each: {}", finished.log);
}

#[rstest]
#[case::run_once(&["run", "--once"])]
#[case::dry_run(&["run", "--dry-run"])]
#[case::cleanup(&["cleanup", "--yes"])]
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_what_waits_for_the_api_server(#[case] args: &[&str]) {
    let corner = Corner::new("sigterm-waits").await;
    let (proxy, kubeconfig) = corner.proxy().await;
    proxy.change(Mood::Stalled);
    let settings = corner.write_settings(&corner.settings());
    let args = [args, &["--settings", settings.to_str().unwrap()]].concat();
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    eventually("it asks", PATIENCE, || async { proxy.connections() > 0 }).await;
    let told = Instant::now();
    let finished = generator.terminate();
    assert_eq!(finished.status.code(), Some(3), "{}", finished.log);
    assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
}

/// One Pod of a controller, which cannot pull.
struct Stuck {
    pods: Api<Pod>,
    first: Pod,
}

impl Stuck {
    /// Of a Deployment, which makes another in its place.
    async fn of_deployment(corner: &Corner, namespace: &str) -> Self {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "app", "image": "ghcr.io/acme/app"}]},
                },
            },
        }))
        .unwrap();
        Api::namespaced(corner.client.clone(), namespace).create(&PostParams::default(), &deployment).await.unwrap();
        Self::first(Api::namespaced(corner.client.clone(), namespace)).await
    }

    /// The first Pod that there is.
    async fn first(pods: Api<Pod>) -> Self {
        eventually("there is a Pod", PATIENCE, || async { only(&pods).await.is_some() }).await;
        let first = only(&pods).await.unwrap();
        let stuck = Self { pods, first };
        stuck.cannot_pull(&stuck.first).await;
        stuck
    }

    /// As the kubelet would, which the test cluster does not run.
    async fn cannot_pull(&self, pod: &Pod) {
        self.becomes(pod, "Pending", json!({"waiting": {"reason": "ImagePullBackOff", "message": "x"}})).await;
    }

    async fn becomes(&self, pod: &Pod, phase: &str, state: Value) {
        let container = json!({
            "name": "app", "image": "ghcr.io/acme/app", "imageID": "", "ready": phase == "Running", "restartCount": 0,
            "state": state,
        });
        let status = Patch::Merge(json!({"status": {"phase": phase, "containerStatuses": [container]}}));
        let name = pod.metadata.name.as_ref().unwrap();
        self.pods.patch_status(name, &PatchParams::default(), &status).await.unwrap();
    }

    /// Waits for another Pod in place of the first.
    async fn next(&self) -> Pod {
        eventually("there is another Pod", PATIENCE, || async {
            only(&self.pods).await.is_some_and(|pod| pod.metadata.uid != self.first.metadata.uid)
        })
        .await;
        only(&self.pods).await.unwrap()
    }

    async fn is_left_alone(&self, pod: &Pod) {
        stays("the Pod is left alone", || async {
            only(&self.pods).await.is_some_and(|it| it.metadata.uid == pod.metadata.uid)
        })
        .await;
    }
}

async fn only(pods: &Api<Pod>) -> Option<Pod> {
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none())
}

const EVICTIONS: &str = "image_pull_secrets_evictions_total";

#[rstest]
#[case::and_lists_nothing("stuck", &[], false)]
#[case::and_inherited_what_there_was("heir", &["mine"], false)]
#[case::and_no_disruption_is_allowed("budget", &[], true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_older_than_its_reference_is_evicted_once(
    #[case] corner: &str,
    #[case] inherited: &[&str],
    #[case] has_budget: bool,
) {
    let corner = Corner::new(corner).await;
    let namespace = corner.namespace("a").await;
    let list: Vec<_> = inherited.iter().map(|name| json!({"name": name})).collect();
    corner.patch_account(&namespace, json!({"imagePullSecrets": list})).await;
    if has_budget {
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "web"}, "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}},
        }))
        .unwrap();
        Api::namespaced(corner.client.clone(), &namespace).create(&PostParams::default(), &budget).await.unwrap();
    }
    let stuck = Stuck::of_deployment(&corner, &namespace).await;
    // Ages are told in whole seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &["--restart-stuck-pods"]);
    let new = stuck.next().await;
    let list = new.spec.as_ref().unwrap().image_pull_secrets.iter().flatten();
    let listed: Vec<_> = list.map(|entry| entry.name.as_str()).collect();
    assert_eq!(listed, [inherited, &[corner.name.as_str()]].concat());
    stuck.cannot_pull(&new).await;
    stuck.is_left_alone(&new).await;
    assert_eq!(generator.metric(EVICTIONS).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_took_the_place_of_a_stuck_one_is_not_evicted_for_it() {
    let corner = Corner::new("successor").await;
    let namespace = corner.namespace("a").await;
    // As of a StatefulSet: the next one has the same name.
    let owner: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "web"}})).unwrap();
    let owners = Api::<ConfigMap>::namespaced(corner.client.clone(), &namespace);
    let owner = owners.create(&PostParams::default(), &owner).await.unwrap().metadata.uid;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web-0", "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "web", "uid": owner, "controller": true},
        ]},
        "spec": {"containers": [{"name": "app", "image": "ghcr.io/acme/app"}]},
    }))
    .unwrap();
    let pods = Api::<Pod>::namespaced(corner.client.clone(), &namespace);
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let stuck = Stuck::first(pods).await;
    corner.label_namespace(&namespace, json!({"labels": {"refuses": corner.name}})).await;
    let webhook = refuse_by_webhook(&corner, "CREATE", "pods/eviction", &json!({"refuses": corner.name})).await;
    let dry = EvictParams { post_options: PostParams { dry_run: true, ..PostParams::default() }, delete_options: None };
    eventually("the webhook is asked", PATIENCE, || async { stuck.pods.evict("web-0", &dry).await.is_err() }).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &["--restart-stuck-pods"]);
    generator.logs("cannot evict Pod").await;
    stuck.pods.delete("web-0", &DeleteParams::default().grace_period(0)).await.unwrap();
    let successor = stuck.pods.create(&PostParams::default(), &pod).await.unwrap();
    stuck.becomes(&successor, "Running", json!({"running": {}})).await;
    webhook.remove().await;
    // The next try would be within 4 s.
    stuck.is_left_alone(&successor).await;
    stuck.is_left_alone(&successor).await;
    stuck.is_left_alone(&successor).await;
    assert_eq!(generator.metric(EVICTIONS).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_pod_in_an_excluded_namespace_is_left_alone() {
    let corner = Corner::new("left-alone").await;
    let namespace = corner.namespace("a").await;
    let stuck = Stuck::of_deployment(&corner, &namespace).await;
    // What the administrators of that namespace made themselves.
    corner.put_secret(&namespace, "kubernetes.io/dockerconfigjson", &docker_config("theirs")).await;
    corner.patch_account(&namespace, json!({"imagePullSecrets": [{"name": corner.name}]})).await;
    corner.put_source("1").await;
    let mut settings = corner.settings();
    settings["exclude"] = json!({"namespaces": [namespace]});
    let generator = corner.run_ready(&settings, &["--restart-stuck-pods"]).await;
    stuck.cannot_pull(&stuck.first).await;
    stuck.is_left_alone(&stuck.first).await;
    assert_eq!(generator.metric(EVICTIONS).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_stays_terminating_is_left_alone_and_served_when_it_is_made_anew() {
    let corner = Corner::new("terminating").await;
    let (namespace, other) = (corner.namespace("a").await, corner.namespace("b").await);
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    corner.settled(&other, "1").await;
    generator.ready().await;
    let holds: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "holds", "finalizers": ["example.com/hold"]}})).unwrap();
    let config_maps = Api::<ConfigMap>::namespaced(corner.client.clone(), &namespace);
    config_maps.create(&PostParams::default(), &holds).await.unwrap();

    let namespaces = Api::<Namespace>::all(corner.client.clone());
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    eventually("the namespace controller has emptied it", PATIENCE, || async {
        corner.copy(&namespace).await.is_none()
            && corner.accounts(&namespace).get_opt("default").await.unwrap().is_none()
    })
    .await;
    let log = generator.log();
    corner.put_source("2").await;
    corner.settled(&other, "2").await;
    stays("nothing is made there", || async { corner.copy(&namespace).await.is_none() }).await;
    let about_it: Vec<String> = generator.log()[log.len()..]
        .lines()
        .filter(|line| line.contains(&namespace) && !line.contains("DEBUG"))
        .map(str::to_owned)
        .collect();
    assert_eq!(about_it, Vec::<String>::new());
    let terminating = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"terminating\"}}", corner.name);
    // Other tests have some too.
    eventually("it is counted", PATIENCE, || async { generator.metric(&terminating).await.is_some_and(|n| n >= 1.0) })
        .await;
    assert!(!generator.get("/metrics").await.unwrap().1.contains("image_pull_secrets_request_errors_total{"));

    config_maps
        .patch("holds", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    eventually("the namespace is gone", PATIENCE, || async { namespaces.get_opt(&namespace).await.unwrap().is_none() })
        .await;
    corner.namespace("a").await;
    corner.settled(&namespace, "2").await;
}
