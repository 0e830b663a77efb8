use super::*;
use crate::cluster::fake_api;
use crate::model::label_selector::parse_selector;
use crate::model::observed::{SecretSeen, ServiceAccountSeen};
use crate::model::pod_seen::tests::pod;
use crate::model::selection::Selection;
use image_pull_secrets::settings::Settings;
use k8s_openapi::ByteString;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Mutex;

const SECRET: &str = "creds";

/// Where ServiceAccount `default` refers to `mine` and to the secret, which was created then.
fn index(usable: bool, created: &str) -> Index {
    let mut index = Index::default();
    index.put_namespace("team-a", Some(NamespaceFacts::default()));
    index.put_service_account("team-a", "default", account());
    let config = if usable { "{\"auths\": {}}" } else { "{" };
    let secret = json!({
        "metadata": {"creationTimestamp": created},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": ByteString(config.into())},
    });
    index.put_secret("team-a", SECRET, SecretSeen::of(&serde_json::from_value(secret).unwrap(), &Default::default()));
    index
}

fn account() -> ServiceAccountSeen {
    let account = json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "mine"}, {"name": SECRET}]});
    ServiceAccountSeen::of(&serde_json::from_value(account).unwrap(), &settings())
}

fn settings() -> Settings {
    Settings::from_value(&json!({"secrets": [{"name": SECRET}], "exclude": {"annotation": "example.com/exclude"}}))
        .unwrap()
}

fn rules() -> Rules {
    Rules::of(Arc::new(settings()))
}

#[rstest]
#[case::it_lists_nothing(&[], "2026-01-01T00:00:10Z", true, true)]
#[case::it_lists_nothing_and_is_younger_than_the_secret(&[], "2026-01-01T00:00:01Z", true, true)]
#[case::the_secret_is_not_usable(&[], "2026-01-01T00:00:10Z", false, false)]
#[case::it_lists_the_secret(&["mine", SECRET], "2026-01-01T00:00:10Z", true, false)]
#[case::it_inherited_a_list_before_there_was_the_secret(&["mine"], "2026-01-01T00:00:10Z", true, true)]
#[case::it_is_as_old_as_the_secret(&["mine"], "2026-01-01T00:00:05Z", true, false)]
#[case::it_is_younger_than_the_secret(&["mine"], "2026-01-01T00:00:01Z", true, false)]
#[case::it_has_a_list_of_its_own(&["another"], "2026-01-01T00:00:10Z", true, false)]
fn a_stuck_pod_is_helped(
    #[case] references: &[&str],
    #[case] created: &str,
    #[case] usable: bool,
    #[case] expected: bool,
) {
    let mut pod = pod();
    pod["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:05Z");
    pod["spec"]["imagePullSecrets"] = references.iter().map(|name| json!({"name": name})).collect();
    let pod = PodSeen::of(&serde_json::from_value(pod).unwrap(), &settings());
    assert_eq!(is_helped(&pod, &index(usable, created), &rules()), expected);
}

fn namespace(index: &mut Index, facts: NamespaceFacts) {
    index.put_namespace("team-a", Some(facts));
}

#[rstest]
#[case::its_namespace_is_excluded(|index: &mut Index, _: &mut Rules| namespace(index, NamespaceFacts { excluded: true, ..Default::default() }))]
#[case::its_namespace_is_being_deleted(|index: &mut Index, _: &mut Rules| namespace(index, NamespaceFacts { terminating: true, ..Default::default() }))]
#[case::its_namespace_is_excluded_by_name(|_: &mut Index, rules: &mut Rules| {
    let exclude = json!({"namespaces": ["team-*"]});
    rules.settings =
        Arc::new(Settings::from_value(&json!({"secrets": [{"name": SECRET}], "exclude": exclude})).unwrap());
})]
#[case::its_namespace_is_not_selected(|_: &mut Index, rules: &mut Rules| {
    rules.selection = Selection::Matching(vec![parse_selector("pull=yes").unwrap()]);
})]
#[case::its_service_account_is_excluded(|index: &mut Index, _: &mut Rules| {
    index.put_service_account("team-a", "default", ServiceAccountSeen { excluded: true, ..account() });
})]
#[case::its_service_account_is_not_selected(|_: &mut Index, rules: &mut Rules| {
    let settings = json!({"secrets": [{"name": SECRET}], "serviceAccounts": ["builder"]});
    rules.settings = Arc::new(Settings::from_value(&settings).unwrap());
})]
fn a_stuck_pod_is_left_alone_where(#[case] change: fn(&mut Index, &mut Rules)) {
    let pod = PodSeen::of(&serde_json::from_value(pod()).unwrap(), &settings());
    let (mut index, mut rules) = (index(true, "2026-01-01T00:00:10Z"), rules());
    assert!(is_helped(&pod, &index, &rules));
    change(&mut index, &mut rules);
    assert!(!is_helped(&pod, &index, &rules));
}

/// What the API server was asked, and stuck Pods that it answers about with these codes, one after the other.
fn api_server(codes: &[u16]) -> (Arc<Mutex<Vec<Value>>>, StuckPods) {
    let answers: Vec<_> = codes.iter().map(|code| json!({"code": code, "message": "m"})).collect();
    let (asked, client) = fake_api::answering(&answers);
    (asked, StuckPods::new(client, Arc::default()))
}

fn seen(uid: &str, version: &str, is_stuck: bool) -> PodSeen {
    let pod = PodSeen::of(&serde_json::from_value(pod()).unwrap(), &settings());
    PodSeen { uid: uid.to_owned(), resource_version: version.to_owned(), is_stuck, ..pod }
}

/// As the controller does, for so many seconds.
async fn go_on(stuck: &mut StuckPods, seconds: u64) {
    let (index, rules) = (index(true, "2026-01-01T00:00:10Z"), rules());
    let _ = tokio::time::timeout(Duration::from_secs(seconds), async {
        loop {
            stuck.evict(&index, &rules);
            stuck.changed().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_evicted_once_and_only_as_it_was_seen() {
    let (asked, mut stuck) = api_server(&[201]);
    stuck.observe(seen("u1", "7", true));
    go_on(&mut stuck, 1).await;
    // Between the answer and its end it is still seen.
    stuck.observe(seen("u1", "8", true));
    go_on(&mut stuck, 3).await;
    let expected = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web-1"},
        "deleteOptions": {"preconditions": {"uid": "u1", "resourceVersion": "7"}},
    });
    assert_eq!(*asked.lock().unwrap(), [expected]);
    assert_eq!(stuck.metrics.evictions.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_error_of_the_api_server_it_is_tried_again_as_it_is_then() {
    let (asked, mut stuck) = api_server(&[500, 201]);
    stuck.observe(seen("u1", "7", true));
    go_on(&mut stuck, 0).await;
    stuck.observe(seen("u1", "8", true));
    go_on(&mut stuck, 3).await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[1]["deleteOptions"]["preconditions"]["resourceVersion"], "8");
}

#[rstest]
#[case::it_has_started(&[seen("u1", "8", false)])]
#[case::it_was_replaced_by_one_that_is_not_stuck(&[seen("u1", "8", false), seen("u2", "9", false)])]
#[tokio::test(start_paused = true)]
async fn after_an_error_of_the_api_server_it_is_left_alone_if(#[case] seen_then: &[PodSeen]) {
    let (asked, mut stuck) = api_server(&[500]);
    stuck.observe(seen("u1", "7", true));
    go_on(&mut stuck, 1).await;
    seen_then.iter().for_each(|pod| stuck.observe(pod.clone()));
    go_on(&mut stuck, 3).await;
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_a_complete_list_does_not_have_is_left_alone() {
    let (asked, mut stuck) = api_server(&[500]);
    stuck.observe(seen("u1", "7", true));
    go_on(&mut stuck, 1).await;
    stuck.retain(&BTreeSet::new());
    go_on(&mut stuck, 3).await;
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[rstest]
#[case::it_is_another_version(409)]
#[case::it_is_gone(404)]
#[tokio::test(start_paused = true)]
async fn one_that_is_not_what_was_seen_is_tried_again_only_once_it_is_seen_anew(#[case] code: u16) {
    let (asked, mut stuck) = api_server(&[code, 201]);
    stuck.observe(seen("u1", "7", true));
    go_on(&mut stuck, 4).await;
    assert_eq!(asked.lock().unwrap().len(), 1);
    stuck.observe(seen("u1", "8", true));
    go_on(&mut stuck, 3).await;
    assert_eq!(asked.lock().unwrap()[1]["deleteOptions"]["preconditions"]["resourceVersion"], "8");
}

#[rstest]
#[case::a_budget(json!({"code": 429, "details": {"causes": [{"reason": "DisruptionBudget", "message": ""}]}}), true)]
#[case::priority_and_fairness(json!({"code": 429, "details": {"retryAfterSeconds": 1}}), false)]
#[case::a_conflict(json!({"code": 409}), true)]
#[case::a_webhook_that_does_not_answer(json!({"code": 500}), false)]
fn a_refusal_says_that_the_pod_is_another_by_now(#[case] status: Value, #[case] expected: bool) {
    let status: Status = serde_json::from_value(status).unwrap();
    assert_eq!(is_outdated(&kube::Error::Api(status.boxed())), expected);
}
