use super::*;
use crate::cluster::fake_api::{self, refusal};
use crate::model::content::Content;
use crate::model::observed::NamespaceFacts;
use crate::model::plan::Removal;
use crate::model::selection::Selection;
use hyper::Method;
use image_pull_secrets::settings::Settings;
use kube::Client;
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

/// A controller that runs for one secret whose source is there, and sees these namespaces.
async fn start(client: Client, namespaces: &[String], sought: Footprint) -> Seen {
    let document = json!({"secrets": [{"name": SECRET, "source": {"namespace": "source"}}], "serviceAccounts": []});
    let settings = Arc::new(Settings::from_value(&document).unwrap());
    let metrics = Arc::<crate::telemetry::metrics::Metrics>::default();
    let everything = Footprint::of(&settings).and(sought);
    let required = Watched::all_of(&Footprint::of(&settings));
    let rules = Rules {
        settings,
        selection: Selection::Matching(vec![]),
        removal: Removal::Recorded,
        delete_with_source: false,
        sources: BTreeMap::new(),
        extras: Arc::default(),
        own_sources: everything.sources.clone(),
    };
    let (sync_status, seen) = watch::channel(SyncStatus::default());
    let setup = Setup {
        writer: Writer::new(client.clone(), metrics.clone()),
        rules: Arc::new(rules),
        leftovers: Watched::all_of(&everything).difference(&required).cloned().collect(),
        required,
        sources_matter: true,
        concurrency: 2,
        recorder: EventRecorder::default(),
        stuck_pods: None,
        sought: everything.clone(),
        sync_status,
    };
    let (reports, received) = channel(512);
    let mut controller = Controller::new(setup, received);
    tokio::spawn(async move { controller.run(CancellationToken::new()).await });
    let tell = async |observation| reports.send(Report::Observed(observation)).await.ok().unwrap();
    for secret in everything.secrets {
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
    Seen { metrics, sync_status: seen, reports }
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
    assert!(seen.sync_status.borrow().left.is_some(), "what there is can be recorded");
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
async fn a_watch_in_trouble_is_counted_until_it_works_again() {
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
    let left = seen.sync_status.borrow().left.clone().unwrap();
    assert_eq!(left.secrets, BTreeSet::from([SECRET.to_owned()]));
    assert_eq!(left.sources, BTreeSet::from([format!("source/{SECRET}")]));
}
