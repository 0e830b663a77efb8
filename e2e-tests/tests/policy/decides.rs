//! Every row of the decision table, in its order.

use super::outcome::{cluster, evaluate, manifests, names, request, settings, summary, warnings};
use image_pull_secrets_e2e::{Cluster, Fault, ObjectRef};
use rstest::rstest;
use serde_json::json;

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
#[case::an_ephemeral_container(PLAIN_POD, json!({"subResource": "ephemeralcontainers", "operation": "UPDATE"}))]
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
#[case::a_pod_that_lists_everything(
    "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop},
      spec: {imagePullSecrets: [{name: own}, {name: usable}], containers: [{name: web, image: nginx}]}}",
    json!({})
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
    let cluster = Cluster::of(
        manifests()
            .fail(ObjectRef::secret("shop", "forbidden"), Fault::Forbidden)
            .fail(ObjectRef::secret("shop", "unreachable"), Fault::Unreachable),
    );
    for (on_missing, expected) in ["warn", "reject", "skip"].into_iter().zip(expected) {
        let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: {on_missing}}}"));
        let request = request(PLAIN_POD);
        let evaluation = evaluate(&settings, &request, &cluster);
        assert_eq!(summary(&request, &evaluation), expected, "{on_missing}");
        let is_silent = name.starts_with("usable") || expected == "denied";
        assert_eq!(warnings(&evaluation).is_empty(), is_silent, "{on_missing}: {:?}", warnings(&evaluation));
        assert_eq!(evaluation.host_calls.len(), 1);
    }
}

#[rstest]
#[case::usable("usable", "added usable", false)]
#[case::missing("nope", "added nope", true)]
#[case::of_another_type("opaque", "untouched", true)]
#[case::malformed("malformed", "untouched", true)]
#[case::forbidden("forbidden", "added forbidden", true)]
fn a_service_account_is_never_denied(#[case] name: &str, #[case] expected: &str, #[case] warns: bool) {
    let cluster = Cluster::of(manifests().fail(ObjectRef::secret("shop", "forbidden"), Fault::Forbidden));
    for on_missing in ["warn", "reject", "skip"] {
        for operation in ["CREATE", "UPDATE"] {
            let settings = settings(&format!("{{secrets: [{{name: {name}}}], onMissingSecret: {on_missing}}}"));
            let request = changed(DEFAULT_ACCOUNT, json!({"operation": operation}));
            let evaluation = evaluate(&settings, &request, &cluster);
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
