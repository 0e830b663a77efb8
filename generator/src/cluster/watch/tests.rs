use super::*;
use crate::cluster::fake_api;
use futures::stream;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{Receiver, channel};

const NAME: &str = "creds";

fn failed() -> watcher::Result<Event<Secret>> {
    Err(watcher::Error::NoResourceVersion)
}

fn secret() -> Secret {
    serde_json::from_value(json!({
        "metadata": {"name": NAME, "namespace": "source"}, "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "e30="},
    }))
    .unwrap()
}

/// A watcher that asks `client` for a source by name where a watch misses it, and what it reports.
fn watcher_of(client: Client, confirm_missing: bool) -> (Watcher, Receiver<Report>) {
    let (reports, received) = channel(512);
    let settings = Arc::new(Settings::from_value(&json!({"secrets": [{"name": NAME}]})).unwrap());
    (Watcher { client, settings, keep_labels: false, extras: Arc::default(), confirm_missing, reports }, received)
}

/// What is reported about the source within ten minutes of these events, which nothing follows, by an API server that gives
/// these answers when it is asked by name; and how often it was asked.
async fn reported(events: Vec<watcher::Result<Event<Secret>>>, answers: &[Value]) -> (Vec<(u64, String)>, usize) {
    let (asked, client) = fake_api::answering(answers);
    let (watcher, mut reports) = watcher_of(client, true);
    let watched = Watched::Source { of: NAME.to_owned(), namespace: "source".to_owned(), name: "registry".to_owned() };
    let stream = stream::iter(events).chain(stream::pending());
    let following = watcher.follow(&watched, stream, source_reports(NAME));
    let start = Instant::now();
    let mut told = Vec::new();
    let receiving = async {
        while let Some(report) = reports.recv().await {
            let what = match report {
                Report::WatchFailed(_, error) => error.message,
                Report::WatchRecovered(_) => "works".to_owned(),
                Report::Source(_, SourceState::Missing) => "missing".to_owned(),
                Report::Source(_, SourceState::Gone) => "gone".to_owned(),
                Report::Source(..) => "there".to_owned(),
                Report::Asked(..) | Report::Verified(..) | Report::Observed(_) | Report::Pod(_) | Report::Pods(_) => {
                    "something else".to_owned()
                }
            };
            told.push((start.elapsed().as_secs(), what));
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(600), async { tokio::join!(following, receiving) }).await;
    let count = asked.lock().unwrap().len();
    (told, count)
}

fn without_times(told: &[(u64, String)]) -> Vec<&str> {
    told.iter().map(|(_, what)| what.as_str()).collect()
}

const ERROR: &str = "cannot watch secrets source/registry: ";

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_repeated_lapses() {
    let (told, _) = reported(vec![failed(), failed()], &[json!({})]).await;
    let (seconds, last) = told.last().unwrap();
    assert_eq!(last, "works");
    assert!((80..=82).contains(seconds), "{told:?}");
    assert_eq!(told.iter().filter(|(_, what)| what == "works").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_does_not_lapse_while_the_api_server_is_given_the_time_that_it_asked_for() {
    let status = json!({"code": 429, "message": "busy", "details": {"retryAfterSeconds": 60}});
    let status: Status = serde_json::from_value(status).unwrap();
    let busy = watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()));
    let (told, _) = reported(vec![Err(busy)], &[json!({})]).await;
    let (seconds, last) = told.last().unwrap();
    assert_eq!(last, "works");
    assert!((140..=142).contains(seconds), "{told:?}");
}

#[rstest]
#[case::an_event(vec![failed(), Ok(Event::Apply(secret()))], &["works", "there"])]
#[case::the_end_of_a_list(
    vec![failed(), Ok(Event::Init), Ok(Event::InitApply(secret())), Ok(Event::InitDone)],
    &["there", "works"]
)]
#[case::not_the_beginning_of_a_list(
    vec![failed(), Ok(Event::Init), Ok(Event::InitApply(secret())), failed()],
    &["there", ERROR, "works"]
)]
#[tokio::test(start_paused = true)]
async fn an_error_is_over_with(#[case] events: Vec<watcher::Result<Event<Secret>>>, #[case] expected: &[&str]) {
    let (told, _) = reported(events, &[json!({})]).await;
    let told = without_times(&told);
    assert!(told[0].starts_with(ERROR), "{told:?}");
    let is_as_expected = |(told, expected): (&&str, &&str)| told.starts_with(expected);
    assert!(told[1..].iter().zip(expected).all(is_as_expected) && told.len() > expected.len(), "{told:?}");
}

fn not_found(name: &str) -> Value {
    json!({"code": 404, "reason": "NotFound", "message": "not found", "details": {"name": name, "kind": "secrets"}})
}

fn forbidden() -> Value {
    let message = "secrets \"registry\" is forbidden: User \"u\" cannot get resource \"secrets\" in API group \"\"";
    json!({"code": 403, "reason": "Forbidden", "message": message})
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_missing_is_gone_once_the_api_server_says_so() {
    let broken = json!({"code": 500, "message": "broken"});
    let page_of_something_in_between = json!({"code": 404, "message": "no such page"});
    let answers = [broken, page_of_something_in_between, forbidden(), not_found("other"), not_found("registry")];
    let (told, asked) = reported(vec![Ok(Event::Init), Ok(Event::InitDone)], &answers).await;
    let told = without_times(&told);
    let error = "cannot tell whether the source source/registry was deleted: broken (500)";
    assert_eq!(told[..5], ["missing", error, "missing", "missing", "missing"]);
    assert_eq!(told[5..], ["gone", "works"]);
    assert_eq!(asked, 6, "the last answer is asked for twice");
}

#[tokio::test(start_paused = true)]
async fn a_source_is_gone_once_the_api_server_has_said_so_for_ten_seconds() {
    let (told, asked) = reported(vec![Ok(Event::Delete(secret()))], &[not_found("registry")]).await;
    assert_eq!((told, asked), (vec![(10, "gone".to_owned())], 2));
}

/// As `kubectl replace --force` does.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_deleted_and_made_anew_is_never_gone() {
    let events = vec![Ok(Event::Delete(secret())), Ok(Event::Apply(secret()))];
    let (told, asked) = reported(events, &[not_found("registry")]).await;
    assert_eq!((without_times(&told), asked), (vec!["there"], 1));
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_to_ask_for_it_is_told_with_its_rule() {
    let (told, asked) = reported(vec![Ok(Event::Delete(secret()))], &[forbidden()]).await;
    let watch_errors: Vec<_> = told.iter().filter(|(_, what)| what != "missing").collect();
    let rule = "cannot tell whether the source source/registry was deleted: the RBAC rule is missing: \
                {apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"get\"], resourceNames: [\"registry\"]} \
                in a ClusterRole, or in a Role of namespace source";
    assert_eq!(watch_errors, [&(0, rule.to_owned())], "once, in ten minutes");
    assert!((60..200).contains(&asked), "{asked} times");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_back_is_not_asked_for_any_more() {
    let events = vec![Ok(Event::Delete(secret())), Ok(Event::Apply(secret()))];
    let (told, asked) = reported(events, &[forbidden()]).await;
    assert_eq!(without_times(&told)[2..], ["works", "there"]);
    assert_eq!(asked, 1);
}

fn forbidden_list() -> Value {
    let message = "namespaces is forbidden: User \"u\" cannot list resource \"namespaces\" in API group \"\"";
    json!({"code": 403, "reason": "Forbidden", "message": message})
}

fn broken() -> Value {
    json!({"code": 503, "message": "starting"})
}

fn half_of_a_list() -> Value {
    json!({"metadata": {"continue": "more", "resourceVersion": "1"}, "items": [{"metadata": {"name": "a"}}]})
}

/// How often an API server is asked within ten minutes that gives these answers again and again.
async fn requests_in_ten_minutes(answers: &'static [fn() -> Value]) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    let client = fake_api::client(move |_, _| {
        let answer = answers[asked.fetch_add(1, Ordering::Relaxed) % answers.len()]();
        let code = u16::try_from(answer["code"].as_u64().unwrap_or(200)).unwrap();
        std::future::ready((code, answer))
    });
    let (watcher, mut reports) = watcher_of(client, false);
    let reading = async { while reports.recv().await.is_some() {} };
    let both = async { tokio::join!(watcher.watch(Watched::Namespaces), reading) };
    let _ = tokio::time::timeout(Duration::from_secs(600), both).await;
    count.load(Ordering::Relaxed)
}

#[rstest]
#[case::is_forbidden(&[forbidden_list as fn() -> Value])]
#[case::fails(&[broken as fn() -> Value])]
#[case::breaks_off_after_a_page(&[half_of_a_list as fn() -> Value, broken])]
#[tokio::test(start_paused = true)]
async fn a_list_is_tried_again_after_longer_and_longer_waits_where_it(#[case] answers: &'static [fn() -> Value]) {
    let requests = requests_in_ten_minutes(answers).await;
    let tries = requests / answers.len();
    // Each wait is 5 s to 10 s in the end.
    assert!((60..135).contains(&tries), "{tries} tries in ten minutes");
}

#[rstest]
#[case::one_literal_name(&["default"], &[Some("default")])]
#[case::two_names(&["default", "builder"], &[Some("builder"), Some("default")])]
#[case::a_pattern(&["build*"], &[None])]
#[case::a_name_and_a_pattern(&["default", "build?r"], &[None])]
#[case::none(&[], &[])]
fn service_accounts_are_watched_as_narrowly_as_possible(#[case] patterns: &[&str], #[case] expected: &[Option<&str>]) {
    let service_accounts = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let footprint = Footprint { service_accounts, ..Footprint::default() };
    let mut watches = Watched::all_of(&footprint);
    assert!(watches.remove(&Watched::Namespaces));
    let expected = expected.iter().map(|name| Watched::ServiceAccounts(name.map(str::to_owned))).collect();
    assert_eq!(watches, expected);
}
