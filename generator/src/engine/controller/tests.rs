use super::*;
use crate::cluster::fake_api::{self, refusal};
use crate::cluster::record::Record;
use crate::cluster::registry::Registries;
use crate::engine::provider::Asking;
use crate::model::content::Content;
use crate::model::observed::NamespaceFacts;
use crate::model::verification::Verdict;
use crate::telemetry::server::Health;
use hyper::Method;
use image_pull_secrets::settings::Settings;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use rstest::rstest;
use serde_json::{Value, json};
use std::future::pending;
use tokio::sync::mpsc::{Sender, channel};

const SECRET: &str = "creds";

/// What a test sees of a controller that runs.
struct Seen {
    metrics: Arc<crate::telemetry::metrics::Metrics>,
    sync_status: watch::Receiver<SyncStatus>,
    /// What is reported to the controller.
    reports: Sender<Report>,
}

impl Seen {
    fn copies(&self, state: &str) -> Option<usize> {
        let name = format!("image_pull_secrets_copies{{secret=\"{SECRET}\",state=\"{state}\"}} ");
        let printed = self.metrics.print();
        printed.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }
}

/// A controller for one secret, which knows nothing yet, and where it is told what there is.
fn controller(
    client: Client,
    former: Footprint,
    sync_status: watch::Sender<SyncStatus>,
) -> (Controller, Sender<Report>) {
    let document = json!({"secrets": [{"name": SECRET, "source": {"namespace": "source"}}], "serviceAccounts": []});
    let settings = Settings::from_value(&document).unwrap();
    let footprint = Footprint::of(&settings).and(former);
    let rules = Rules { own_sources: footprint.sources.clone(), ..Rules::of(Arc::new(settings)) };
    let context = Context {
        record: Record { client: client.clone(), namespace: "default".to_owned(), lease: "lease".to_owned() },
        client,
        identity: "test".to_owned(),
        health: Health::default(),
        recorder: EventRecorder::default(),
        selector: None,
        extras: Arc::default(),
        credential_providers: None,
        asking: Asking::Never,
        registries: None,
        delete_with_source: false,
        restart_stuck_pods: false,
        concurrency: 2,
    };
    let (reports, received) = channel(512);
    (Controller::new(&context, rules, footprint, received, sync_status), reports)
}

/// A controller that runs for one secret whose source is there, and sees these namespaces.
async fn start(client: Client, namespaces: &[String], former: Footprint) -> Seen {
    let (sender, sync_status) = watch::channel(SyncStatus::default());
    let (mut controller, reports) = controller(client, former, sender);
    let (metrics, secrets) = (controller.writer.metrics.clone(), controller.footprint.secrets.clone());
    tokio::spawn(async move { controller.run(CancellationToken::new()).await });
    let tell = async |observation| reports.send(Report::Observed(observation)).await.ok().unwrap();
    for secret in secrets {
        tell(Observation::Secrets(secret, BTreeSet::new())).await;
    }
    let document = br#"{"auths": {"ghcr.io": {"username": "acme", "password": "hunter2"}}}"#;
    let content = Content::of_docker_config(document.to_vec()).ok().unwrap();
    let source = SourceState::Ready(Arc::new(content));
    reports.send(Report::Source(SECRET.to_owned(), source)).await.ok().unwrap();
    for namespace in namespaces {
        tell(Observation::Namespace(namespace.clone(), Some(NamespaceFacts::default()))).await;
    }
    // The last thing that is to be known.
    tell(Observation::Namespaces(namespaces.iter().cloned().collect())).await;
    Seen { metrics, sync_status, reports }
}

fn namespaces(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n:03}")).collect()
}

/// What an API server makes of what it is asked to create.
fn created(mut secret: Value) -> (u16, Value) {
    secret["metadata"]["uid"] = json!("u");
    secret["metadata"]["resourceVersion"] = json!("7");
    (201, secret)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Each write takes half a minute, and two are on their way at a time.
#[tokio::test(start_paused = true)]
async fn what_is_seen_from_outside_is_up_to_date_while_namespaces_fail_slowly() {
    let client = fake_api::client(|_, _| pending());
    let seen = start(client, &namespaces(100), Footprint::default()).await;
    pass(2).await;
    assert_eq!(seen.copies("missing"), Some(100));
    assert!(seen.sync_status.borrow().remaining.is_some(), "what there is can be recorded");
    assert!(!seen.sync_status.borrow().has_tried_all);
    let facts = NamespaceFacts { terminating: true, ..NamespaceFacts::default() };
    seen.reports.send(Report::Observed(Observation::Namespace("n099".to_owned(), Some(facts)))).await.ok().unwrap();
    pass(2).await;
    assert_eq!((seen.copies("missing"), seen.copies("terminating")), (Some(99), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_once_everything_has_been_tried_also_where_a_quota_is_full() {
    let client = fake_api::client_by_path(|method, path, secret| async move {
        assert_eq!(method, Method::POST);
        if path.contains("/n000/") { refusal(403) } else { created(secret) }
    });
    let mut seen = start(client, &namespaces(5), Footprint::default()).await;
    let ready = seen.sync_status.wait_for(|sync_status| sync_status.has_tried_all);
    tokio::time::timeout(Duration::from_secs(1), ready).await.unwrap().unwrap();
    assert_eq!(seen.copies("missing"), Some(1));
    assert_eq!(seen.copies("in-sync"), Some(4), "what is told then is counted already");
    assert_eq!(seen.metrics.last_full_sync.get(), 0, "all is not well");
    assert_eq!((seen.metrics.failing_objects.get(), seen.metrics.waiting_objects.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_is_counted_until_it_works_again() {
    let client = fake_api::client(|_, secret| std::future::ready(created(secret)));
    let seen = start(client, &namespaces(1), Footprint::default()).await;
    let error = WatchError { message: "cannot watch namespaces: no".to_owned(), forbidden: false };
    seen.reports.send(Report::WatchFailed(Watched::Namespaces, error)).await.ok().unwrap();
    pass(20).await;
    assert_eq!(seen.metrics.failing_watches.get(), 1);
    seen.reports.send(Report::WatchRecovered(Watched::Namespaces)).await.ok().unwrap();
    pass(20).await;
    assert_eq!(seen.metrics.failing_watches.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_ready_before_a_write_that_hangs_has_been_given_up() {
    let client = fake_api::client_by_path(|_, path, secret| async move {
        if path.contains("/n000/") { pending().await } else { created(secret) }
    });
    let seen = start(client, &namespaces(5), Footprint::default()).await;
    pass(25).await;
    assert_eq!(seen.copies("in-sync"), Some(4));
    assert!(!seen.sync_status.borrow().has_tried_all);
    pass(10).await;
    assert!(seen.sync_status.borrow().has_tried_all);
}

/// A copy of a former secret was gone when it was looked for, and one namespace takes no copy of the present one.
#[tokio::test(start_paused = true)]
async fn what_is_gone_leaves_the_record_also_where_something_else_fails() {
    let client = fake_api::client(|_, _| std::future::ready(refusal(403)));
    let former = Footprint {
        secrets: BTreeSet::from(["former".to_owned()]),
        sources: BTreeSet::from(["source/former".to_owned()]),
        ..Footprint::default()
    };
    let seen = start(client, &namespaces(2), former).await;
    pass(2).await;
    let remaining = seen.sync_status.borrow().remaining.clone().unwrap();
    assert_eq!(remaining.secrets, BTreeSet::from([SECRET.to_owned()]));
    assert_eq!(remaining.sources, BTreeSet::from([format!("source/{SECRET}")]));
}

#[rstest]
#[case::nothing(
    &[],
    "namespaces have not been listed yet; secrets named creds have not been listed yet; \
     the source source/creds of creds has not been read yet"
)]
#[case::the_namespaces(
    &[Observation::Namespaces(BTreeSet::new())],
    "secrets named creds have not been listed yet; the source source/creds of creds has not been read yet"
)]
#[tokio::test(start_paused = true)]
async fn what_has_not_been_read_in_time_is_named_where_only_this_was(
    #[case] seen: &[Observation],
    #[case] expected: &str,
) {
    let client = fake_api::client(|_, _| pending());
    let (mut controller, reports) = controller(client, Footprint::default(), watch::Sender::default());
    for observation in seen {
        reports.send(Report::Observed(observation.clone())).await.ok().unwrap();
    }
    let error = controller.snapshot().await.unwrap_err().to_string();
    assert_eq!(error, format!("not everything could be read within 60 s: {expected}"));
}

#[tokio::test(start_paused = true)]
async fn what_has_not_been_read_because_its_watch_fails_is_named_once() {
    let client = fake_api::client(|_, _| pending());
    let (mut controller, reports) = controller(client, Footprint::default(), watch::Sender::default());
    for (watched, message) in [
        (Watched::Namespaces, "cannot watch namespaces: no"),
        (
            Watched::Source { of: SECRET.to_owned(), namespace: "source".to_owned(), name: SECRET.to_owned() },
            "cannot watch secrets source/creds: no",
        ),
    ] {
        let error = WatchError { message: message.to_owned(), forbidden: false };
        reports.send(Report::WatchFailed(watched, error)).await.ok().unwrap();
    }
    let error = controller.snapshot().await.unwrap_err().to_string();
    let expected = "cannot watch namespaces: no; cannot watch secrets source/creds: no; \
                    secrets named creds have not been listed yet";
    assert_eq!(error, format!("not everything could be read within 60 s: {expected}"));
}

/// A source whose only server has a glob: no registry is asked about it.
fn content(version: &str) -> Arc<Content> {
    let document = json!({"auths": {"*.example.com": {"username": "acme", "password": format!("hunter2-{version}")}}});
    Arc::new(Content::of_docker_config(document.to_string().into_bytes()).ok().unwrap())
}

#[tokio::test]
async fn a_changed_source_that_is_refused_is_held_back_until_it_is_accepted() {
    let client = fake_api::client(|_, _| pending());
    let (mut controller, _reports) = controller(client, Footprint::default(), watch::Sender::default());
    let secret = json!({"name": SECRET, "source": {"namespace": "source"}});
    let settings = Settings::from_value(&json!({"secrets": [secret], "verifyCredentials": "hold"})).unwrap();
    controller.rules = Arc::new(Rules::of(Arc::new(settings)));
    let (reports, _) = channel(1);
    let verifier = Verifier { registries: Registries::new(None).unwrap(), entries: None, reports };
    controller = controller.verifying_by(Some(verifier), false);
    let log = fake_api::log();
    let say = |controller: &mut Controller, version: &str, verdict: Verdict| {
        let servers = BTreeMap::from([("quay.io".to_owned(), verdict)]);
        let digest = content(version).digest.to_string();
        controller.observe_verified(SECRET.to_owned(), Verification { digest, at: Timestamp::now(), servers });
    };
    let change = |controller: &mut Controller, version: &str| {
        controller.observe_source(SECRET.to_owned(), SourceState::Ready(content(version)));
    };
    let is = |controller: &Controller, version: &str| match controller.rules.sources.get(SECRET) {
        Some(SourceState::Ready(copied)) => copied.digest == content(version).digest,
        _ => false,
    };

    change(&mut controller, "1");
    assert!(controller.rules.sources.is_empty(), "nothing is copied before the registry has answered");
    say(&mut controller, "1", Verdict::Refused);
    let told = "the source source/creds of creds: quay.io refuses its credential: put the right one into the source";
    assert_eq!(controller.source_faults(), [told]);
    say(&mut controller, "1", Verdict::Accepted);
    assert!(is(&controller, "1") && controller.source_faults().is_empty());

    change(&mut controller, "mistyped");
    assert!(is(&controller, "1"));
    say(&mut controller, "mistyped", Verdict::Refused);
    assert!(is(&controller, "1"), "the copies stay as they are");
    assert_eq!(controller.source_faults(), [told]);
    assert!(log.text().contains("quay.io refuses its credential: put the right one into the source; it is held back"));
    let refused = "image_pull_secrets_source_credential{secret=\"creds\",server=\"quay.io\",verdict=\"refused\"} 1";
    assert!(controller.writer.metrics.print().contains(refused), "{}", controller.writer.metrics.print());
    // What is said of the one before is no longer about it.
    say(&mut controller, "1", Verdict::Accepted);
    assert!(is(&controller, "1"));
    say(&mut controller, "mistyped", Verdict::Accepted);
    assert!(is(&controller, "mistyped"), "it goes out by itself");
    assert!(!controller.writer.metrics.print().contains(refused));

    change(&mut controller, "2");
    say(&mut controller, "2", Verdict::Unknown);
    assert!(is(&controller, "2"), "a registry that cannot be asked holds nothing back");
    assert!(!log.text().contains("hunter2"));
}
