//! Every row of the decision table, in its order.

use super::outcome::{SECRETS, cluster, evaluate, manifests, names, request, settings, summary, warnings};
use image_pull_secrets_e2e::{Cluster, Fault, Manifests, ObjectRef};
use rstest::rstest;
use serde_json::json;
use std::time::Duration;

const PLAIN_POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: [{name: web, image: nginx}]}}";
const DEFAULT_ACCOUNT: &str = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}}";

/// An AdmissionRequest for `object`, with `changes` to the request itself.
fn changed(object: &str, changes: serde_json::Value) -> image_pull_secrets_e2e::AdmissionRequest {
    let mut review = serde_json::to_value(request(object)).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        review[field] = value.clone();
    }
    serde_json::from_value(review).unwrap()
}

#[rstest]
#[case::a_deployment_is_left_alone(
    "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop},
      spec: {template: {spec: {containers: [{name: web, image: nginx}]}}}}",
    json!({})
)]
#[case::a_pod_template_is_left_alone(
    "{apiVersion: v1, kind: PodTemplate, metadata: {name: web, namespace: shop}, template: {spec: {containers: []}}}",
    json!({})
)]
#[case::a_kind_of_that_name_in_another_group(PLAIN_POD, json!({"kind": {"group": "x", "version": "v1", "kind": "Pod"}}))]
#[case::an_eviction(PLAIN_POD, json!({"subResource": "eviction"}))]
#[case::no_ephemeral_container(PLAIN_POD, json!({"subResource": "ephemeralcontainers", "operation": "UPDATE"}))]
#[case::a_token_request(DEFAULT_ACCOUNT, json!({"subResource": "token"}))]
#[case::a_deletion_of_a_pod(PLAIN_POD, json!({"operation": "DELETE", "oldObject": {}, "object": null}))]
#[case::a_deletion_of_a_service_account(DEFAULT_ACCOUNT, json!({"operation": "DELETE"}))]
#[case::an_update_of_a_pod(PLAIN_POD, json!({"operation": "UPDATE"}))]
#[case::a_connection_to_a_pod(PLAIN_POD, json!({"operation": "CONNECT"}))]
#[case::a_mirror_pod(
    "{apiVersion: v1, kind: Pod, metadata: {name: etcd, namespace: shop, annotations: {kubernetes.io/config.mirror: x}},
      spec: {containers: [{name: etcd, image: etcd}]}}",
    json!({})
)]
#[case::an_excluded_namespace(PLAIN_POD, json!({"namespace": "kube-system"}))]
#[case::an_annotated_pod(
    "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, annotations: {example.com/exclude: 'true'}},
      spec: {containers: [{name: web, image: nginx}]}}",
    json!({})
)]
#[case::an_annotated_service_account(
    "{apiVersion: v1, kind: ServiceAccount,
      metadata: {name: default, namespace: shop, annotations: {example.com/exclude: 'true'}}}",
    json!({})
)]
#[case::a_service_account_that_is_not_selected(
    "{apiVersion: v1, kind: ServiceAccount, metadata: {name: builder, namespace: shop}}",
    json!({})
)]
#[case::a_service_account_that_is_being_deleted(
    "{apiVersion: v1, kind: ServiceAccount,
      metadata: {name: default, namespace: shop, deletionTimestamp: '2026-01-01T00:00:00Z'}}",
    json!({"operation": "UPDATE"})
)]
#[case::a_service_account_that_lists_everything(
    "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop}, imagePullSecrets: [{name: usable}]}",
    json!({"operation": "UPDATE"})
)]
fn untouched_without_a_host_call(#[case] object: &str, #[case] changes: serde_json::Value) {
    let settings = settings(
        "{secrets: [{name: usable}], exclude: {namespaces: ['kube-*'], annotation: example.com/exclude},
          onMissingSecret: reject}",
    );
    let request = changed(object, changes);
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!(summary(&request, &evaluation), "untouched");
    assert_eq!(evaluation.host_calls.len(), 0);
    assert_eq!(warnings(&evaluation), [""; 0]);
}

fn pod_that_lists(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}},
          spec: {{imagePullSecrets: [{{name: own}}, {{name: {name}}}], containers: [{{name: web, image: nginx}}]}}}}"
    )
}

/// Of Secrets in every state, two of which cannot be read.
fn cluster_in_trouble() -> Cluster {
    Cluster::of(
        manifests()
            .fail(ObjectRef::secret("shop", "forbidden"), Fault::Forbidden)
            .fail(ObjectRef::secret("shop", "unreachable"), Fault::Unreachable),
    )
}

#[rstest]
#[case::usable("usable", "untouched")]
#[case::missing("nope", "denied")]
#[case::of_another_type("opaque", "denied")]
#[case::malformed("malformed", "denied")]
#[case::forbidden("forbidden", "denied")]
fn what_a_pod_lists_already_is_asked_about_under_reject_and_nowhere_else(#[case] name: &str, #[case] expected: &str) {
    let request = request(&pod_that_lists(name));
    for (on_missing, expected, calls) in
        [("reject", expected, 1), ("warn", "untouched", 0), ("skip", "untouched", 0), ("ignore", "untouched", 0)]
    {
        let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: {on_missing}}}"));
        let evaluation = evaluate(&settings, &request, &cluster_in_trouble());
        assert_eq!(summary(&request, &evaluation), expected, "{on_missing}");
        assert_eq!(evaluation.host_calls.len(), calls, "{on_missing}");
        assert_eq!(warnings(&evaluation), [""; 0], "{on_missing}");
    }
}

#[test]
fn an_excluded_namespace_is_not_denied_what_its_pods_list() {
    let settings =
        settings("{secrets: [{name: nope}], exclude: {annotation: example.com/exclude}, onMissingSecret: reject}");
    let request = changed(&pod_that_lists("nope"), json!({"namespace": "left-alone"}));
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!(summary(&request, &evaluation), "untouched");
    let kinds: Vec<_> = evaluation.host_calls.iter().map(|call| call.request["kind"].clone()).collect();
    assert_eq!(kinds, ["Namespace"]);
}

#[rstest]
#[case::usable_and_for_the_image("usable", "ghcr.io/acme/app", "added usable", "untouched", false)]
#[case::usable_and_not_for_the_image("usable", "nginx", "untouched", "untouched", false)]
#[case::missing("nope", "nginx", "added nope", "untouched", true)]
#[case::malformed("malformed", "nginx", "untouched", "untouched", true)]
#[case::forbidden("forbidden", "nginx", "added forbidden", "untouched", true)]
fn a_secret_that_only_its_own_credentials_ask_for_never_denies(
    #[case] name: &str,
    #[case] image: &str,
    #[case] plain: &str,
    #[case] listed: &str,
    #[case] warns: bool,
) {
    let settings =
        settings(&format!("{{secrets: [{{name: {name}, matchCredentials: true}}], onMissingSecret: reject}}"));
    for (pod, expected) in [(PLAIN_POD.to_owned(), plain), (pod_that_lists(name), listed)] {
        let request = request(&pod.replace("nginx", image));
        let evaluation = evaluate(&settings, &request, &cluster_in_trouble());
        assert_eq!(summary(&request, &evaluation), expected, "{pod}");
        assert_eq!(!warnings(&evaluation).is_empty(), warns, "{pod}");
        assert_eq!(evaluation.host_calls.len(), 1, "{pod}");
    }
}

#[test]
fn what_cannot_deny_is_warned_of_where_something_else_denies() {
    let settings =
        settings("{secrets: [{name: nope}, {name: nope-2, matchCredentials: true}], onMissingSecret: reject}");
    let evaluation = evaluate(&settings, &request(PLAIN_POD), &cluster());
    assert!(evaluation.response.message().contains("Missing in namespace shop: nope. "), "{:?}", evaluation.response);
    assert_eq!(
        warnings(&evaluation),
        ["Secret shop/nope-2 does not exist. It was not added; create it, then recreate the Pod"]
    );
}

#[rstest]
#[case::a_pod(PLAIN_POD, "added usable, nope, opaque, forbidden")]
#[case::a_pod_that_lists_one(
    "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {imagePullSecrets: [{name: nope}]}}",
    "added usable, opaque, forbidden"
)]
#[case::a_service_account(DEFAULT_ACCOUNT, "added usable, nope, opaque, forbidden")]
fn ignore_adds_what_is_wanted_and_asks_nobody(#[case] object: &str, #[case] expected: &str) {
    let settings = settings(
        "{secrets: [{name: usable}, {name: nope}, {name: opaque}, {name: forbidden},
          {name: elsewhere, matchImages: [quay.io]}], onMissingSecret: ignore}",
    );
    let request = request(object);
    let evaluation = evaluate(&settings, &request, &cluster_in_trouble());
    assert_eq!(summary(&request, &evaluation), expected);
    assert_eq!(evaluation.host_calls.len(), 0);
    assert_eq!(warnings(&evaluation), [""; 0]);
}

#[rstest]
#[case::annotated_namespace("left-alone", "untouched")]
#[case::no_annotation("shop", "added nope")]
fn ignore_still_asks_whether_the_namespace_is_excluded(#[case] namespace: &str, #[case] expected: &str) {
    let settings =
        settings("{secrets: [{name: nope}], exclude: {annotation: example.com/exclude}, onMissingSecret: ignore}");
    let request = changed(PLAIN_POD, json!({"namespace": namespace}));
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!(summary(&request, &evaluation), expected);
    let kinds: Vec<_> = evaluation.host_calls.iter().map(|call| call.request["kind"].clone()).collect();
    assert_eq!(kinds, ["Namespace"]);
}

fn debugged(image: &str, listed: &str) -> image_pull_secrets_e2e::AdmissionRequest {
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}},
          spec: {{imagePullSecrets: {listed}, containers: [{{name: web, image: 'quay.io/x'}}],
                  ephemeralContainers: [{{name: debug-0, image: busybox}}, {{name: debug-1, image: '{image}'}}]}}}}"
    );
    changed(&pod, json!({"subResource": "ephemeralcontainers", "operation": "UPDATE"}))
}

#[rstest]
#[case::a_pattern_matches("{name: nope, matchImages: [ghcr.io]}", "ghcr.io/acme/debug:1", "[]", true, 0)]
#[case::no_pattern_matches("{name: nope, matchImages: [quay.io]}", "ghcr.io/acme/debug:1", "[]", false, 0)]
#[case::it_is_listed("{name: nope, matchImages: [ghcr.io]}", "ghcr.io/acme/debug:1", "[{name: nope}]", false, 0)]
#[case::its_credentials_cover("{name: usable, matchCredentials: true}", "ghcr.io/acme/debug:1", "[]", true, 1)]
#[case::its_credentials_are_for_others("{name: usable, matchCredentials: true}", "gcr.io/debug", "[]", false, 1)]
#[case::a_secret_for_every_pod_covers("{name: usable}", "ghcr.io/acme/debug:1", "[{name: own}]", true, 1)]
#[case::a_secret_for_every_pod_is_for_others("{name: usable}", "gcr.io/debug", "null", false, 1)]
#[case::a_secret_for_every_pod_is_listed("{name: usable}", "ghcr.io/acme/debug:1", "[{name: usable}]", false, 0)]
#[case::a_missing_secret_would_be_of_no_use("{name: nope}", "ghcr.io/acme/debug:1", "[]", false, 1)]
#[case::nor_would_a_malformed_one("{name: malformed}", "ghcr.io/acme/debug:1", "[]", false, 1)]
#[case::nor_one_that_cannot_be_read("{name: forbidden}", "ghcr.io/acme/debug:1", "[]", false, 1)]
#[case::no_image("{name: nope, matchImages: [ghcr.io]}", "GHCR.io/No", "[]", false, 0)]
fn an_ephemeral_container_that_lacks_a_secret_is_warned_of_and_nothing_else(
    #[case] secret: &str,
    #[case] image: &str,
    #[case] listed: &str,
    #[case] warns: bool,
    #[case] calls: usize,
) {
    for on_missing in ["warn", "reject", "skip"] {
        let settings = settings(&format!("{{secrets: [{secret}], onMissingSecret: {on_missing}}}"));
        let request = debugged(image, listed);
        let evaluation = evaluate(&settings, &request, &cluster_in_trouble());
        assert_eq!(summary(&request, &evaluation), "untouched", "{on_missing}");
        assert_eq!(warnings(&evaluation).len(), usize::from(warns), "{on_missing}: {:?}", warnings(&evaluation));
        assert_eq!(evaluation.host_calls.len(), calls, "{on_missing}");
    }
}

#[test]
fn an_ephemeral_container_is_not_asked_about_under_ignore() {
    let settings =
        settings("{secrets: [{name: usable}, {name: nope, matchImages: [ghcr.io]}], onMissingSecret: ignore}");
    let evaluation = evaluate(&settings, &debugged("ghcr.io/acme/debug:1", "[]"), &cluster());
    assert_eq!((warnings(&evaluation).len(), evaluation.host_calls.len()), (1, 0), "{:?}", warnings(&evaluation));
}

#[rstest]
#[case::by_its_name("kube-system", 0)]
#[case::by_its_annotation("left-alone", 1)]
fn an_ephemeral_container_in_an_excluded_namespace_is_left_alone(#[case] namespace: &str, #[case] calls: usize) {
    let settings = settings(
        "{secrets: [{name: nope, matchImages: [ghcr.io]}],
          exclude: {namespaces: [kube-system], annotation: example.com/exclude}}",
    );
    let mut request = debugged("ghcr.io/acme/debug:1", "[]");
    request.namespace = Some(namespace.to_owned());
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!((warnings(&evaluation).len(), evaluation.host_calls.len()), (0, calls));
}

/// Longer than the policy goes on asking.
const LONG: Duration = Duration::from_millis(600);

#[rstest]
#[case::warn("warn", "added slow, usable, nope")]
#[case::skip("skip", "added slow, usable, nope")]
#[case::reject("reject", "denied")]
fn nothing_more_is_asked_when_half_the_time_is_over(#[case] on_missing: &str, #[case] expected: &str) {
    let secret = r#"{"auths":{}}"#;
    let slow = format!(
        "{SECRETS}\n---\n{{apiVersion: v1, kind: Secret, metadata: {{name: slow, namespace: shop}},
           type: kubernetes.io/dockerconfigjson, stringData: {{.dockerconfigjson: '{secret}'}}}}"
    );
    let cluster =
        Cluster::of(Manifests::parse(&slow).unwrap().fail(ObjectRef::secret("shop", "slow"), Fault::Slow(LONG)));
    let settings = settings(&format!(
        "{{secrets: [{{name: slow}}, {{name: usable}}, {{name: nope}}], onMissingSecret: {on_missing}}}"
    ));
    let request = request(PLAIN_POD);
    let evaluation = evaluate(&settings, &request, &cluster);
    assert_eq!(summary(&request, &evaluation), expected);
    let asked: Vec<_> = evaluation.host_calls.iter().map(|call| call.request["name"].clone()).collect();
    assert_eq!(asked, ["slow"]);
}

#[rstest]
#[case::annotated_namespace("left-alone", "untouched", 1)]
#[case::annotated_with_something_else("said-false", "added usable", 2)]
#[case::no_annotation("shop", "added usable", 2)]
#[case::no_such_namespace("nowhere", "added usable", 2)]
fn the_namespaces_annotation_is_asked_for_last(#[case] namespace: &str, #[case] expected: &str, #[case] calls: usize) {
    let settings = settings("{secrets: [{name: usable}], exclude: {annotation: example.com/exclude}}");
    let request = changed(PLAIN_POD, json!({"namespace": namespace}));
    let evaluation = evaluate(&settings, &request, &cluster());
    assert_eq!(summary(&request, &evaluation), expected);
    assert_eq!(evaluation.host_calls.len(), calls);
}

#[test]
fn without_an_annotation_in_the_settings_the_namespace_is_not_asked_for() {
    let request = request(PLAIN_POD);
    let evaluation = evaluate(&settings("{secrets: [{name: usable}]}"), &request, &cluster());
    let kinds: Vec<_> = evaluation.host_calls.iter().map(|call| call.request["kind"].clone()).collect();
    assert_eq!(kinds, ["Secret"]);
}

#[test]
fn a_namespace_that_cannot_be_read_is_not_excluded_and_said() {
    let cluster = Cluster::of(manifests().fail(ObjectRef::namespace("shop"), Fault::Forbidden));
    let settings = settings("{secrets: [{name: usable}], exclude: {annotation: example.com/exclude}}");
    let request = request(PLAIN_POD);
    let evaluation = evaluate(&settings, &request, &cluster);
    assert_eq!(summary(&request, &evaluation), "added usable");
    assert_eq!(
        warnings(&evaluation),
        ["Namespace shop was not checked for the exclude annotation: policy-server may not read it. Not excluded; \
          grant its ServiceAccount get on namespaces"]
    );
}

#[rstest]
#[case::usable("usable", ["added usable", "added usable", "added usable"])]
#[case::usable_in_the_legacy_form("usable-2", ["added usable-2", "added usable-2", "added usable-2"])]
#[case::missing("nope", ["added nope", "denied", "untouched"])]
#[case::of_another_type("opaque", ["untouched", "denied", "untouched"])]
#[case::malformed("malformed", ["untouched", "denied", "untouched"])]
#[case::forbidden("forbidden", ["added forbidden", "denied", "added forbidden"])]
#[case::unreachable("unreachable", ["added unreachable", "denied", "added unreachable"])]
fn a_pod_gets_what_the_host_says_is_usable(#[case] name: &str, #[case] expected: [&str; 3]) {
    for (on_missing, expected) in ["warn", "reject", "skip"].into_iter().zip(expected) {
        let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: {on_missing}}}"));
        let request = request(PLAIN_POD);
        let evaluation = evaluate(&settings, &request, &cluster_in_trouble());
        assert_eq!(summary(&request, &evaluation), expected, "{on_missing}");
        let is_silent = name.starts_with("usable") || expected == "denied";
        assert_eq!(warnings(&evaluation).is_empty(), is_silent, "{on_missing}: {:?}", warnings(&evaluation));
        assert_eq!(evaluation.host_calls.len(), 1);
    }
}

#[rstest]
#[case::usable("usable", "added usable", "added usable", false)]
#[case::missing("nope", "added nope", "untouched", true)]
#[case::of_another_type("opaque", "untouched", "untouched", true)]
#[case::malformed("malformed", "untouched", "untouched", true)]
#[case::forbidden("forbidden", "added forbidden", "added forbidden", true)]
fn a_service_account_is_never_denied(
    #[case] name: &str,
    #[case] expected: &str,
    #[case] under_skip: &str,
    #[case] warns: bool,
) {
    for (on_missing, expected) in [("warn", expected), ("reject", expected), ("skip", under_skip)] {
        for operation in ["CREATE", "UPDATE"] {
            let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: {on_missing}}}"));
            let request = changed(DEFAULT_ACCOUNT, json!({"operation": operation}));
            let evaluation = evaluate(&settings, &request, &cluster_in_trouble());
            assert_eq!(summary(&request, &evaluation), expected, "{on_missing} {operation}");
            assert_eq!(!warnings(&evaluation).is_empty(), warns, "{on_missing} {operation}");
        }
    }
}

#[rstest]
#[case::a_list_of_its_own("[{name: own}, {name: other}]", &["own", "other", "usable", "usable-2"])]
#[case::one_of_the_wanted("[{name: usable-2}, {name: own}]", &["usable-2", "own", "usable"])]
#[case::an_empty_list("[]", &["usable", "usable-2"])]
#[case::null("null", &["usable", "usable-2"])]
#[case::a_name_twice("[{name: own}, {name: own}]", &["own", "own", "usable", "usable-2"])]
#[case::entries_without_a_name("[{}, {name: ''}, {name: null}]", &["-", "", "-", "usable", "usable-2"])]
fn appends_in_the_order_of_the_settings(#[case] list: &str, #[case] expected: &[&str]) {
    let settings = settings("{secrets: [{name: usable}, {name: usable-2}]}");
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}}, spec: {{imagePullSecrets: {list}}}}}"
    );
    let account = format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: shop}}, imagePullSecrets: {list}}}"
    );
    for object in [pod, account] {
        let request = request(&object);
        let evaluation = evaluate(&settings, &request, &cluster());
        assert_eq!(names(&super::outcome::after(&request, &evaluation)), expected);
    }
}

#[test]
fn applying_the_result_again_changes_nothing() {
    let settings = settings("{secrets: [{name: usable}, {name: nope}, {name: usable-2}]}");
    let mut again = request(PLAIN_POD);
    let evaluation = evaluate(&settings, &again, &cluster());
    again.object = Some(super::outcome::after(&again, &evaluation));
    assert_eq!(summary(&again, &evaluate(&settings, &again, &cluster())), "untouched");
}

#[test]
fn one_trouble_denies_the_pod_whole() {
    let settings = settings("{secrets: [{name: usable}, {name: nope}], onMissingSecret: reject}");
    let request = request(PLAIN_POD);
    assert_eq!(summary(&request, &evaluate(&settings, &request, &cluster())), "denied");
}

#[rstest]
#[case::of_the_request("shop", "elsewhere", "shop")]
#[case::of_the_object_where_the_request_has_none("", "shop", "shop")]
fn the_namespace_is_the_requests(#[case] of_request: &str, #[case] of_object: &str, #[case] asked: &str) {
    let pod = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: {of_object}}}, spec: {{}}}}");
    let request = changed(&pod, json!({"namespace": of_request}));
    let evaluation = evaluate(&settings("{secrets: [{name: usable}]}"), &request, &cluster());
    assert_eq!(evaluation.host_calls[0].request["namespace"], asked);
}

#[test]
fn a_generated_name_selects_by_what_is_known_of_it() {
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {generateName: ci-, namespace: shop}}";
    for (patterns, expected) in [("['*']", "added usable"), ("[ci-1]", "untouched")] {
        let request = changed(account, json!({}));
        let settings = settings(&format!("{{secrets: [{{name: usable}}], serviceAccounts: {patterns}}}"));
        assert_eq!(summary(&request, &evaluate(&settings, &request, &cluster())), expected);
    }
}
