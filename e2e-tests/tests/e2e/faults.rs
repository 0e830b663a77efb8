//! What happens to requests if something is missing, broken or slow.

use crate::harness::{Registration, Stage, WEBHOOKS, eventually, pod, send_as};
use crate::proxy::{Mood, Proxy};
use image_pull_secrets_e2e::control_plane::ControlPlane;
use image_pull_secrets_e2e::modules;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_can_be_asked_says_so() {
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}]})).await;
    let mut config = kube::Config::new(format!("https://{}", stage.webhook_address()).parse().unwrap());
    config.accept_invalid_certs = true;
    let client = kube::Client::try_from(config).unwrap();
    assert_eq!(send_as(&client, "GET", "/readiness").await.status, 200);
}

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

/// After how many bytes the connection is cut. The TLS handshake before the answer has less than 2,000.
const WITHIN_THE_ANSWER: usize = 2500;

/// A stage whose API server reaches the webhook through a proxy. All secrets but one are missing, so that there is an
/// answer of some 4 kB to cut through.
async fn behind_a_proxy(ignore_failures: bool, timeout: u8) -> (Stage, Proxy) {
    let names = (0..20).map(|number| json!({"name": format!("missing-{number}")}));
    let secrets: Vec<_> = [json!({"name": "creds"})].into_iter().chain(names).collect();
    let mut stage = Stage::empty(json!({ "secrets": secrets })).await;
    stage.create_secret("creds").await;
    stage.register(Registration { ignore_failures, ..Registration::default() }).await;
    let proxy = Proxy::to(stage.webhook_address()).await;
    let url = format!("https://{}/validate/{}", proxy.address, stage.id);
    let patch = json!([
        {"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": url},
        {"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": timeout},
    ]);
    stage.send("PATCH", &format!("{WEBHOOKS}/{}", stage.id), "application/json-patch+json", patch).await.ok();
    eventually("the proxy is asked", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.ok();
        proxy.connections() > 0
    })
    .await;
    (stage, proxy)
}

#[rstest]
#[case::dropped(Mood::Down)]
#[case::cut_off_within_the_handshake(Mood::Cutting(300))]
#[case::cut_off_within_the_answer(Mood::Cutting(WITHIN_THE_ANSWER))]
#[case::never_answered(Mood::Stalled)]
#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_webhook_that_is(#[case] mood: Mood, #[values(true, false)] ignore_failures: bool) {
    let (stage, proxy) = behind_a_proxy(ignore_failures, if mood == Mood::Stalled { 10 } else { 30 }).await;
    stage.create_pod(pod("before")).await.ok();
    proxy.change(mood);
    let is_asked = mood == Mood::Cutting(WITHIN_THE_ANSWER);
    stage.forget();
    if is_asked {
        // The first request may still die with the connection that the API server had.
        eventually("the policy is asked over a new connection", || async {
            stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await;
            !stage.asked().is_empty()
        })
        .await;
        stage.forget();
    }
    let created = stage.create_pod(pod("meanwhile")).await;
    assert_eq!(stage.asked().len(), usize::from(is_asked));
    if ignore_failures {
        assert_eq!(created.ok().listed(), [""; 0]);
    } else {
        assert!(created.status == 500 && created.message().contains("failed calling webhook"), "{created:?}");
    }
    // The webhook is not called for these.
    let path = format!("{}/before", stage.pods());
    stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    stage.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    proxy.change(Mood::Fine);
    eventually("Pods are given the secret again", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.listed().len() == 21
    })
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_delayed_by_less_than_the_timeout_is_decided_as_ever(
    #[values(true, false)] ignore_failures: bool,
) {
    let (stage, proxy) = behind_a_proxy(ignore_failures, 30).await;
    let late = Duration::from_millis(700);
    proxy.change(Mood::Slow(late));
    let sent = Instant::now();
    assert_eq!(stage.create_pod(pod("web")).await.ok().listed().len(), 21);
    assert!(sent.elapsed() > 2 * late, "{:?}", sent.elapsed());
}

/// The webhook as a process that can be killed.
struct Served {
    child: Child,
    configuration: Value,
}

impl Served {
    fn start(stage: &Stage, settings: &Value) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), settings.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-e2e"))
            .args(["serve", "--name", &stage.id, "--settings", file.path().to_str().unwrap()])
            .args(["--kubeconfig", stage.kubeconfig.to_str().unwrap()])
            .current_dir(modules::root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, configuration: serde_json::from_str(&line).unwrap() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[rstest]
#[case::ignore("Ignore")]
#[case::fail("Fail")]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_killed_while_pods_are_created(#[case] failure_policy: &str) {
    let settings = json!({"secrets": [{"name": "creds"}]});
    let stage = Stage::empty(settings.clone()).await;
    stage.create_secret("creds").await;
    let mut served = Served::start(&stage, &settings);
    let mut configuration = served.configuration.clone();
    configuration["webhooks"][0]["namespaceSelector"] = stage.selector();
    configuration["webhooks"][0]["failurePolicy"] = json!(failure_policy);
    stage.create(WEBHOOKS, configuration).await.ok();
    eventually("Pods are given the secret", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.listed() == ["creds"]
    })
    .await;
    let answered = AtomicUsize::new(0);
    let creating = futures::future::join_all((0..4).map(|stream| {
        let (stage, answered) = (&stage, &answered);
        async move {
            let mut answers = Vec::new();
            for number in 0..25 {
                answers.push(stage.create_pod(pod(&format!("web-{stream}-{number}"))).await);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            answers
        }
    }));
    let killing = async {
        while answered.load(Ordering::Relaxed) < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        served.child.kill().unwrap();
    };
    let (created, ()) = tokio::join!(creating, killing);
    let answers: Vec<_> = created.into_iter().flatten().collect();
    let injected = answers.iter().filter(|answer| answer.status == 201 && answer.listed() == ["creds"]).count();
    let untouched = answers.iter().filter(|answer| answer.status == 201 && answer.listed().is_empty()).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.status == 500 && answer.message().contains("failed calling webhook"))
        .count();
    assert_eq!(injected + untouched + refused, 100, "{answers:?}");
    let without = if failure_policy == "Ignore" { (untouched, refused) } else { (refused, untouched) };
    assert!(
        injected >= 20 && without.0 > 0 && without.1 == 0,
        "injected {injected}, untouched {untouched}, refused {refused}"
    );
}

/// On a cluster of its own: its API server is away for a minute, and has forgotten its history when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_minute_without_the_api_server_the_webhook_and_its_rights_work_as_before() {
    let mut cluster = ControlPlane::start_own(0).unwrap_or_else(|error| panic!("{error:#}"));
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
    // The webhook reconnects to the API server later. Until then, it warns about what it could not check.
    eventually("Pods are given the secret without a warning", || async {
        let created = stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.ok();
        created.listed() == ["creds"] && created.warnings.is_empty()
    })
    .await;
    drop(stage);
}
