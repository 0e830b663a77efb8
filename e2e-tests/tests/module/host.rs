//! What the embedded host does to a policy, shown with a guest that does as its settings say (`guests/probe`).

use std::{sync::LazyLock, thread, time::Duration};

use image_pull_secrets_e2e::{
    AdmissionRequest, Cluster, Evaluation, Fault, Host, Manifests, Metadata, ObjectRef, Verdict, modules,
};
use rstest::rstest;
use serde_json::{Value, json};

const GRANTS: &str = "
mutating: true
contextAwareResources: [{apiVersion: v1, kind: Secret}, {apiVersion: v1, kind: Namespace}, {apiVersion: v1, kind: Nope},
  {apiVersion: example.com/v1, kind: Team}]
hostCapabilities: [kubernetes/get_resource, kubernetes/can_i]
";

const OBJECTS: &str = r#"
apiVersion: v1
kind: Secret
type: kubernetes.io/dockerconfigjson
metadata: {name: regcred, namespace: shop, labels: {a: b}}
data: {.dockerconfigjson: e30=}
---
{apiVersion: v1, kind: Secret, metadata: {name: plain}, stringData: {password: not-a-real-password}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: example.com/v1, kind: Team, metadata: {name: red, namespace: shop}, spec: {members: [{name: a, role: b}]}}
"#;

static PROBE: LazyLock<Host> = LazyLock::new(|| probe(GRANTS));

fn probe(metadata: &str) -> Host {
    Host::load(&modules::probe_module(), Metadata::parse(metadata).unwrap()).unwrap()
}

fn cluster() -> Cluster {
    Cluster::of(manifests())
}

fn manifests() -> Manifests {
    Manifests::parse(OBJECTS).unwrap()
}

fn request(object: Value) -> AdmissionRequest {
    AdmissionRequest::create(object, 7).unwrap()
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec})
}

fn evaluate(host: &Host, order: Value, cluster: &Cluster) -> Evaluation {
    host.evaluate(&json!({"validate": order}), &request(pod(json!({}))), cluster)
}

fn host_call(binding: &str, namespace: &str, operation: &str, payload: Value) -> Value {
    json!({"hostCall": {"binding": binding, "namespace": namespace, "operation": operation, "payload": payload}})
}

fn get_resource(api_version: &str, kind: &str, namespace: Option<&str>, name: &str, masks: Value) -> Value {
    let payload = json!({"api_version": api_version, "kind": kind, "namespace": namespace, "name": name,
        "disable_cache": false, "field_masks": masks});
    host_call("kubewarden", "kubernetes", "get_resource", payload)
}

fn get_secret(name: &str) -> Value {
    get_resource("v1", "Secret", Some("shop"), name, Value::Null)
}

#[rstest]
#[case::a_capability_that_is_not_listed(
    "contextAwareResources: [{apiVersion: v1, kind: Secret}]",
    "Policy has not been granted access to the 'kubernetes/get_resource' host capability. The violation has been reported."
)]
#[case::a_kind_that_is_not_listed(
    "{hostCapabilities: [kubernetes/get_resource], contextAwareResources: [{apiVersion: v1, kind: Namespace}]}",
    "Policy has not been granted access to Kubernetes v1/Secret resources. The violation has been reported."
)]
fn what_the_metadata_does_not_grant_is_refused(#[case] metadata: &str, #[case] text: &str) {
    let evaluation = evaluate(&probe(metadata), get_secret("regcred"), &cluster());
    assert_eq!(evaluation.response.message(), format!("error: Host error: {text}"));
    assert_eq!(evaluation.host_calls[0].error.as_deref(), Some(text));
}

#[rstest]
#[case::another_binding(host_call("wasi", "kubernetes", "get_resource", json!({})), "unknown binding: wasi")]
#[case::tracing_can_log_only(host_call("kubewarden", "tracing", "trace", json!({})), "unknown operation: trace")]
#[case::a_granted_capability_that_this_host_lacks(
    host_call("kubewarden", "kubernetes", "can_i", json!({})),
    "kubernetes/can_i is not among what this host answers: kubernetes/get_resource"
)]
#[case::a_request_without_a_name(
    host_call("kubewarden", "kubernetes", "get_resource", json!({"api_version": "v1", "kind": "Secret"})),
    "missing field `name` at line 1 column 36"
)]
fn calls_that_no_policy_should_make_fail(#[case] order: Value, #[case] text: &str) {
    let evaluation = evaluate(&PROBE, order, &cluster());
    assert_eq!(evaluation.response.message(), format!("error: Host error: {text}"));
}

#[rstest]
#[case::whole(
    get_secret("regcred"),
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"a": "b"}, "name": "regcred", "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}})
)]
#[case::a_mask_keeps_the_data_out_and_all_of_metadata_in(
    get_resource("v1", "Secret", Some("shop"), "regcred", json!(["type"])),
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"a": "b"}, "name": "regcred", "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson"})
)]
#[case::a_mask_within_metadata_keeps_it_whole_and_drops_the_rest(
    get_resource("v1", "Secret", Some("shop"), "regcred", json!(["metadata.name"])),
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"a": "b"}, "name": "regcred", "namespace": "shop"}})
)]
#[case::an_empty_mask_is_none(
    get_resource("v1", "Namespace", None, "shop", json!([])),
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
)]
#[case::a_cluster_wide_object_whatever_the_namespace(
    get_resource("v1", "Namespace", Some("other"), "shop", Value::Null),
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
)]
#[case::a_mask_through_a_list_of_a_custom_resource(
    get_resource("example.com/v1", "Team", Some("shop"), "red", json!(["spec.members.name"])),
    json!({"apiVersion": "example.com/v1", "kind": "Team", "metadata": {"name": "red", "namespace": "shop"},
        "spec": {"members": [{"name": "a"}]}})
)]
#[case::a_secret_as_an_api_server_stores_it(
    get_resource("v1", "Secret", Some("default"), "plain", Value::Null),
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain", "namespace": "default"},
        "type": "Opaque", "data": {"password": "bm90LWEtcmVhbC1wYXNzd29yZA=="}})
)]
fn objects_are_given_as_the_real_host_gives_them(#[case] order: Value, #[case] object: Value) {
    let evaluation = evaluate(&PROBE, order, &cluster());
    let answer = evaluation.response.message().strip_prefix("ok: ").unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), object);
    assert_eq!(evaluation.host_calls.len(), 1);
    assert_eq!(evaluation.host_calls[0].capability, "kubernetes/get_resource");
    assert_eq!(evaluation.host_calls[0].error, None);
}

#[rstest]
#[case::missing(
    manifests(),
    get_secret("nope"),
    r#"Cannot find v1/Secret named 'nope' inside of namespace 'Some("shop")'"#
)]
#[case::missing_cluster_wide(
    manifests(),
    get_resource("v1", "Namespace", None, "nope", Value::Null),
    "Cannot find v1/Namespace named 'nope' inside of namespace 'None'"
)]
#[case::no_namespace(
    manifests(),
    get_resource("v1", "Secret", None, "regcred", Value::Null),
    "Resource v1/Secret is namespaced, but no namespace was provided"
)]
#[case::a_kind_that_discovery_does_not_list(
    manifests(),
    get_resource("v1", "Nope", Some("shop"), "x", Value::Null),
    "Cannot find resource v1/Nope"
)]
#[case::failed_discovery(manifests().fail_all(Fault::Undiscovered), get_secret("regcred"),
    "Cannot find resource v1/Secret")]
#[case::forbidden(
    manifests().fail(ObjectRef::secret("shop", "regcred"), Fault::Forbidden),
    get_secret("regcred"),
    r#"ApiError: secrets "regcred" is forbidden: User "system:serviceaccount:kubewarden:policy-server" cannot get resource "secrets" in API group "" in the namespace "shop": Forbidden (Status { status: Some(Failure), code: 403, message: "secrets \"regcred\" is forbidden: User \"system:serviceaccount:kubewarden:policy-server\" cannot get resource \"secrets\" in API group \"\" in the namespace \"shop\"", metadata: Some(ListMeta { continue_: None, remaining_item_count: None, resource_version: None, self_link: None, shard_info: None }), reason: "Forbidden", details: Some(StatusDetails { name: "regcred", group: "", kind: "secrets", uid: "", causes: [], retry_after_seconds: 0 }) })

Caused by:
    secrets "regcred" is forbidden: User "system:serviceaccount:kubewarden:policy-server" cannot get resource "secrets" in API group "" in the namespace "shop": Forbidden"#
)]
#[case::unreachable(
    manifests().fail_all(Fault::Unreachable),
    get_secret("regcred"),
    "ServiceError: client error (Connect)

Caused by:
    0: client error (Connect)
    1: tcp connect error
    2: Connection refused (os error 111)"
)]
fn failures_are_worded_as_the_real_host_words_them(
    #[case] manifests: Manifests,
    #[case] order: Value,
    #[case] text: &str,
) {
    let evaluation = evaluate(&PROBE, order, &Cluster::of(manifests));
    assert_eq!(evaluation.response.message(), format!("error: Host error: Callback evaluation failure: {text}"));
}

#[test]
fn without_a_cluster_every_question_fails_as_in_kwctl() {
    let evaluation = evaluate(&PROBE, get_secret("regcred"), &Cluster::Absent);
    let text = "error: Host error: Callback evaluation failure: kube::Client was not initialized properly";
    assert_eq!(evaluation.response.message(), text);
}

#[test]
fn a_fault_of_one_object_leaves_the_others_alone() {
    let cluster = Cluster::of(manifests().fail(ObjectRef::secret("shop", "other"), Fault::Forbidden));
    assert!(evaluate(&PROBE, get_secret("regcred"), &cluster).response.message().starts_with("ok: "));
}

#[test]
fn a_failure_ends_in_a_stack_backtrace_where_the_host_has_them_on() {
    let mut host = probe(GRANTS);
    host.backtraces = true;
    let message = evaluate(&host, get_secret("nope"), &cluster()).response.message().to_owned();
    let (text, backtrace) = message.split_once("\n\nStack backtrace:\n").expect("a backtrace");
    assert!(text.ends_with("named 'nope' inside of namespace 'Some(\"shop\")'"), "{text}");
    assert!(backtrace.trim_start().starts_with("0: "), "{backtrace}");
}

#[test]
fn every_call_has_an_instance_of_its_own_on_any_thread() {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(evaluate(&PROBE, json!("count"), &Cluster::Absent).response.message(), "1");
                }
            });
        }
    });
}

#[test]
fn a_guest_that_never_ends_is_interrupted_and_the_next_request_is_served() {
    let mut host = probe(GRANTS);
    host.deadline = Duration::from_millis(100);
    let evaluation = evaluate(&host, json!("loop"), &Cluster::Absent);
    let status = evaluation.response.status.as_ref().unwrap();
    assert_eq!(
        status.message.as_deref(),
        Some("Policy execution interrupted because it exceeded the allowed execution time")
    );
    assert_eq!(status.code, Some(500));
    assert_eq!(evaluation.verdict(), Verdict::Failed);
    assert!(evaluation.validate >= Duration::from_millis(80), "{:?}", evaluation.validate);
    assert_eq!(evaluate(&host, json!("count"), &Cluster::Absent).response.message(), "1");
}

#[test]
fn the_time_of_host_calls_counts_towards_the_deadline() {
    let mut host = probe(GRANTS);
    let slow = Cluster::of(manifests().fail_all(Fault::Slow(Duration::from_secs(1))));
    host.deadline = Duration::from_millis(50);
    assert_eq!(evaluate(&host, get_secret("regcred"), &slow).verdict(), Verdict::Failed);
    host.deadline = Duration::from_secs(10);
    assert!(evaluate(&host, get_secret("regcred"), &slow).response.message().starts_with("ok: "));
}

#[rstest]
#[case::an_error(json!({"fail": "told to"}), "internal server error: Guest call failure: told to")]
#[case::no_json(json!({"answer": "what?"}),
    "internal server error: invalid response from policy: expected value at line 1 column 1")]
#[case::no_verdict(json!({"answer": "{}"}),
    "internal server error: invalid response from policy: missing field `accepted` at line 1 column 2")]
fn a_policy_that_fails_denies_the_request_with_a_500(#[case] order: Value, #[case] message: &str) {
    let evaluation = evaluate(&PROBE, order, &Cluster::Absent);
    assert!(!evaluation.response.allowed);
    assert_eq!(evaluation.response.message(), message);
    assert_eq!(evaluation.response.status.as_ref().unwrap().code, Some(500));
    assert_eq!(evaluation.response.uid, "00000000-0000-4000-8000-000000000007");
    assert_eq!(evaluation.verdict(), Verdict::Failed);
}

#[test]
fn a_panic_is_a_failure_like_any_other() {
    let evaluation = evaluate(&PROBE, json!("panic"), &Cluster::Absent);
    let message = evaluation.response.message();
    assert!(
        message.starts_with("internal server error: Guest call failure: error while executing at wasm"),
        "{message}"
    );
    assert_eq!(evaluation.verdict(), Verdict::Failed);
}

#[rstest]
#[case::an_entry_appended(json!({"list": [1]}), json!({"list": [1, 2]}),
    json!([{"op": "add", "path": "/spec/list/1", "value": 2}]))]
#[case::a_list_added(json!({}), json!({"list": [1]}), json!([{"op": "add", "path": "/spec/list", "value": [1]}]))]
#[case::lists_are_compared_by_position(json!({"list": ["a"]}), json!({"list": ["b", "a"]}),
    json!([{"op": "replace", "path": "/spec/list/0", "value": "b"}, {"op": "add", "path": "/spec/list/1", "value": "a"}]))]
#[case::what_a_round_trip_loses_is_removed(json!({"future": 1, "list": []}), json!({"list": []}),
    json!([{"op": "remove", "path": "/spec/future"}]))]
#[case::a_number_too_large_for_64_bits_is_a_float_on_both_sides(
    serde_json::from_str(r#"{"n": 18446744073709551616}"#).unwrap(), json!({"n": 18446744073709551616.0, "m": 1}),
    json!([{"op": "add", "path": "/spec/m", "value": 1}]))]
fn a_mutated_object_becomes_a_patch(#[case] before: Value, #[case] after: Value, #[case] patch: Value) {
    let settings = json!({"validate": {"mutate": pod(after.clone())}});
    let evaluation = PROBE.evaluate(&settings, &request(pod(before.clone())), &Cluster::Absent);
    let response = evaluation.response;
    assert_eq!(json!(response.operations()), patch);
    assert_eq!(response.patch_type.as_deref(), Some("JSONPatch"));
    assert_eq!(response.apply(&pod(before)).unwrap(), pod(after));
}

#[test]
fn an_object_given_back_as_it_was_makes_no_patch() {
    let evaluation = evaluate(&PROBE, json!({"mutate": pod(json!({}))}), &Cluster::Absent);
    assert_eq!((evaluation.response.patch_type, evaluation.response.patch), (None, None));
}

#[test]
fn a_policy_that_may_not_mutate_and_does_is_overruled() {
    let host = probe("mutating: false");
    let response = evaluate(&host, json!({"mutate": pod(json!({"a": 1}))}), &Cluster::Absent).response;
    assert!(!response.allowed);
    assert_eq!((&response.patch_type, &response.patch), (&None, &None));
    assert!(response.message().contains("currently configured to not allow mutations"), "{}", response.message());

    let response = evaluate(&host, json!({"mutate": pod(json!({}))}), &Cluster::Absent).response;
    assert!(response.allowed, "no change is no mutation");
}

#[test]
fn a_mutation_of_nothing_is_denied() {
    let mut request = request(pod(json!({})));
    request.operation = "DELETE".to_owned();
    request.old_object = request.object.take();
    let settings = json!({"validate": {"mutate": pod(json!({}))}});
    let response = PROBE.evaluate(&settings, &request, &Cluster::Absent).response;
    assert!(!response.allowed);
    assert!(response.message().starts_with("Incoming object is null"), "{}", response.message());
}

#[test]
fn warnings_annotations_message_and_code_reach_the_response() {
    let answer = json!({"accepted": false, "message": "no", "code": 403, "warnings": ["w"],
        "audit_annotations": {"k": "v"}});
    let response = evaluate(&PROBE, json!({"answer": answer.to_string()}), &Cluster::Absent).response;
    assert_eq!(
        serde_json::to_value(response).unwrap(),
        json!({"uid": "00000000-0000-4000-8000-000000000007", "allowed": false,
            "status": {"message": "no", "code": 403}, "warnings": ["w"], "auditAnnotations": {"k": "v"}})
    );
}

#[rstest]
#[case::an_event(json!({"level": "warning", "message": "careful", "line": 1}),
    &[json!({"level": "warning", "message": "careful", "line": 1})])]
#[case::levels_in_capitals(json!({"level": "INFO", "message": "m"}), &[json!({"level": "info", "message": "m"})])]
#[case::an_unknown_level_is_dropped_as_the_real_host_does(json!({"level": "fatal", "message": "m"}), &[])]
fn events_are_kept_without_any_grant(#[case] event: Value, #[case] kept: &[Value]) {
    let evaluation = evaluate(&probe("{}"), host_call("kubewarden", "tracing", "log", event), &Cluster::Absent);
    assert_eq!(evaluation.response.message(), "ok: ");
    assert_eq!(json!(evaluation.logs), json!(kept));
    assert!(evaluation.host_calls.is_empty(), "logging is no question to the cluster");
}

#[test]
fn bytes_go_in_and_come_out_as_they_are() {
    let payload = b" {\"n\":1e3,\"n\": 18446744073709551616}\xff";
    let call = PROBE.call("echo", payload, &Cluster::Absent);
    assert_eq!(call.answer.unwrap(), payload);
}

#[test]
fn a_function_that_is_not_registered_is_a_guest_error() {
    let error = PROBE.call("nope", b"", &Cluster::Absent).answer.unwrap_err();
    assert_eq!(error.to_string(), "Guest call failure: No handler registered for function nope");
}

#[rstest]
#[case::valid(json!({}), true, None)]
#[case::invalid(json!({"answer": r#"{"valid": false, "message": "secrets: at least one"}"#}), false,
    Some("secrets: at least one"))]
#[case::a_guest_error(json!({"fail": "told to"}), false,
    Some("Error invoking settings validation callback: Guest call failure: told to"))]
#[case::no_json(json!({"answer": "what?"}), false, Some("error: InvalidResponseWithError("))]
fn settings_are_validated_by_the_policy(#[case] order: Value, #[case] valid: bool, #[case] message: Option<&str>) {
    let settings = if order == json!({}) { order } else { json!({"validateSettings": order}) };
    let answer = PROBE.validate_settings(settings.to_string().as_bytes());
    assert_eq!(answer.valid, valid);
    match (answer.message, message) {
        (Some(text), Some(start)) => assert!(text.starts_with(start), "{text}"),
        (text, start) => assert_eq!(text.as_deref(), start),
    }
}
