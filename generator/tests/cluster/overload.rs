//! An API server that is overloaded.

use crate::admission::{Made, webhook};
use crate::harness::{Corner, PATIENCE, eventually};
use crate::rights::limited;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";
const REFUSED: &str = "image_pull_secrets_request_errors_total{verb=\"create\",resource=\"secrets\",code=\"429\"}";
const CREATED: &str = "image_pull_secrets_requests_total{verb=\"create\",resource=\"secrets\",code=\"2xx\"}";

/// A client that shows what the API server answers, instead of trying again by itself.
async fn impatient(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_api_server_is_given_the_time_that_it_asks_for() {
    let corner = Corner::new("overload").await;
    let names = corner.namespaces(20).await;
    corner.put_source("1").await;
    let kubeconfig = limited(&corner, |_| ()).await;
    let level = Made::new(
        &corner,
        FLOW_CONTROL,
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
        }}}),
    )
    .await;
    let source = corner.ns("source");
    let subject = json!({"kind": "ServiceAccount", "serviceAccount": {"name": "generator", "namespace": source}});
    let writes =
        json!({"verbs": ["create", "patch"], "apiGroups": [""], "resources": ["secrets"], "namespaces": ["*"]});
    let schema = Made::new(
        &corner,
        FLOW_CONTROL,
        "FlowSchema",
        json!({"spec": {
            "matchingPrecedence": 2, "priorityLevelConfiguration": {"name": corner.name},
            "rules": [{"subjects": [subject], "resourceRules": [writes]}],
        }}),
    )
    .await;
    // Without any share one request at a time is let in all the same. So there is one that waits for a webhook which takes
    // calls, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    corner.label_namespace(&source, json!({"labels": {"holds": corner.name}})).await;
    let address = silent.local_addr().unwrap().to_string();
    let webhook = webhook(&corner, &address, "CREATE", "secrets", &json!({"holds": corner.name})).await;
    let secrets = Api::<Secret>::namespaced(impatient(&kubeconfig).await, &source);
    let probe: Secret = serde_json::from_value(json!({"metadata": {"name": corner.name}})).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let block = || {
        let (secrets, probe, dry) = (secrets.clone(), probe.clone(), dry.clone());
        tokio::spawn(async move {
            loop {
                let _ = secrets.create(&dry, &probe).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    let refuses = || {
        eventually("the API server refuses", PATIENCE, || async {
            let answer = tokio::time::timeout(Duration::from_secs(1), secrets.create(&dry, &probe)).await;
            matches!(answer, Ok(Err(kube::Error::Api(status))) if status.code == 429)
        })
    };
    let blocker = block();
    refuses().await;
    // From now on for another 10 s, after which the API server gives up its handshake with the webhook.
    blocker.abort();
    let blocker = block();
    refuses().await;

    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--no-leader-elect", "--concurrency", "4", "--settings", settings.to_str().unwrap()];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    let start = Instant::now();
    generator.logs("Too many requests, please try again later. (429)").await;
    eventually("the ServiceAccounts are served meanwhile", PATIENCE, || async {
        join_all(names.iter().map(|name| corner.references(name))).await.iter().all(|r| r.len() == 1)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let errors = generator.metric(REFUSED).await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    // It asks for a second at least: 4 at the start, and 4 after each.
    assert!(errors <= 4.0 * (seconds + 1.0), "{errors} refusals in {seconds} s");

    schema.remove().await;
    blocker.abort();
    webhook.remove().await;
    join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    generator.counts(CREATED, 20.0).await;
    level.remove().await;
}
