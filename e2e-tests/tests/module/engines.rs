//! wasmi, on which `make run` runs the module, answers as wasmtime does, on which policy-server and every other test run it.

use std::{fs, path::PathBuf, sync::Arc, sync::LazyLock, time::Duration};

use image_pull_secrets_e2e::{
    AdmissionRequest, CallError, Cluster, Engine, Fault, Host, Manifests, Metadata, ObjectRef, Session, modules,
};
use rstest::rstest;
use serde_json::{Value, json};

static POLICIES: LazyLock<[Host; 2]> = LazyLock::new(|| hosts(&modules::policy_module(), &modules::metadata()));
static PROBES: LazyLock<[Host; 2]> = LazyLock::new(|| {
    let grants = "{mutating: true, hostCapabilities: ['*'], contextAwareResources: [{apiVersion: v1, kind: Secret}]}";
    hosts(&modules::probe_module(), &Metadata::parse(grants).unwrap())
});

fn hosts(module: &[u8], metadata: &Metadata) -> [Host; 2] {
    [Engine::Wasmtime, Engine::Wasmi].map(|engine| Host::load_into(engine, module, metadata.clone()).unwrap())
}

/// What both engines made of one request, which has to be the same: response, host calls and log.
fn assert_alike(
    hosts: &[Host; 2],
    settings: &Value,
    request: &AdmissionRequest,
    cluster: impl Fn() -> Cluster,
) -> Value {
    let [wasmtime, wasmi] = hosts.each_ref().map(|host| {
        let evaluation = host.evaluate(settings, request, &cluster());
        json!({"response": evaluation.response, "failure": evaluation.failure, "hostCalls": evaluation.host_calls,
            "logs": evaluation.logs})
    });
    assert_eq!(wasmtime, wasmi);
    wasmtime
}

fn path(relative: &str) -> PathBuf {
    modules::root().join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn pod() -> AdmissionRequest {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": {}});
    AdmissionRequest::create(pod, 0).unwrap()
}

#[rstest]
fn every_example_comes_out_alike(#[values("warn", "reject", "skip")] on_missing_secret: &str) {
    let mut settings: Value = yaml_serde::from_str(&read("examples/settings.yaml")).unwrap();
    settings["onMissingSecret"] = json!(on_missing_secret);
    let manifests = || Manifests::read_dir(&path("examples/cluster")).unwrap();
    let requests = AdmissionRequest::read(&read("examples/manifests.yaml")).unwrap();
    assert!(requests.len() >= 14);
    for request in &requests {
        assert_alike(&POLICIES, &settings, request, || Cluster::of(manifests()));
        for fault in [Fault::Forbidden, Fault::Unreachable] {
            assert_alike(&POLICIES, &settings, request, || Cluster::of(manifests().fail_all(fault)));
        }
    }
}

#[test]
fn every_recorded_session_comes_out_alike() {
    let cases: Vec<Value> = serde_json::from_str(&read("e2e-tests/fixtures/cases.json")).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let file =
            |field: &str, end: &str| format!("e2e-tests/fixtures/{field}s/{}.{end}", case[field].as_str().unwrap());
        let settings_file = format!("e2e-tests/fixtures/settings/{}.yaml", case["settings"].as_str().unwrap());
        let settings: Value = yaml_serde::from_str(&read(&settings_file)).unwrap();
        let request = AdmissionRequest::read(&read(&file("request", "json"))).unwrap().remove(0);
        let session = path(&file("session", "yaml"));
        assert_alike(&POLICIES, &settings, &request, || Cluster::Session(Arc::new(Session::read(&session).unwrap())));
    }
}

#[rstest]
#[case::valid(r#"{"secrets": [{"name": "a"}]}"#)]
#[case::every_fault_at_once(
    r#"{"secrets": [{"name": "A"}, {"name": "b", "matchImages": ["acme/app"]}], "unheardOf": 1}"#
)]
#[case::no_json("secrets: a")]
#[case::nothing("")]
fn settings_are_judged_alike(#[case] settings: &str) {
    let [wasmtime, wasmi] = POLICIES.each_ref().map(|host| host.validate_settings(settings.as_bytes()));
    assert_eq!(wasmtime, wasmi);
}

#[rstest]
#[case::a_host_call(json!({"hostCall": {"binding": "kubewarden", "namespace": "kubernetes", "operation": "get_resource",
    "payload": {"api_version": "v1", "kind": "Secret", "namespace": "shop", "name": "a", "disable_cache": false,
        "field_masks": null}}}))]
#[case::a_host_call_that_fails(json!({"hostCall": {"binding": "nope", "namespace": "é", "operation": "", "payload": {}}}))]
#[case::a_log_entry(json!({"hostCall": {"binding": "kubewarden", "namespace": "tracing", "operation": "log",
    "payload": {"level": "info", "message": "m"}}}))]
#[case::an_error(json!({"fail": "told to"}))]
#[case::no_verdict(json!({"answer": "{}"}))]
#[case::a_mutation(json!({"addReference": "a"}))]
#[case::an_instance_of_its_own_for_each_call(json!("count"))]
fn whatever_a_guest_does_comes_out_alike(#[case] order: Value) {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: shop}, data: {k: dg==}}";
    let cluster = || Cluster::of(Manifests::parse(secret).unwrap());
    assert_alike(&PROBES, &json!({"validate": order}), &pod(), cluster);
}

#[test]
fn bytes_go_in_and_come_out_alike() {
    let payload: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    for host in PROBES.iter() {
        assert_eq!(host.call("echo", &payload, &Cluster::Absent).answer.as_deref(), Ok(payload.as_slice()));
    }
}

#[test]
fn a_function_that_is_not_registered_is_the_same_error() {
    let [wasmtime, wasmi] = PROBES.each_ref().map(|host| host.call("nope", b"", &Cluster::Absent).answer);
    assert_eq!(wasmtime, wasmi);
}

#[test]
fn a_guest_that_never_ends_is_interrupted_alike_and_the_next_call_is_served() {
    for engine in [Engine::Wasmtime, Engine::Wasmi] {
        let mut host = Host::load_into(engine, &modules::probe_module(), Metadata::default()).unwrap();
        host.deadline = Duration::from_millis(100);
        let evaluation = host.evaluate(&json!({"validate": "loop"}), &pod(), &Cluster::Absent);
        assert_eq!(evaluation.failure, Some(CallError::Deadline.to_string()), "{engine}");
        assert!(evaluation.validate >= Duration::from_millis(80), "{engine}: {:?}", evaluation.validate);
        host.deadline = Duration::from_secs(10);
        assert_eq!(host.evaluate(&json!({"validate": "count"}), &pod(), &Cluster::Absent).response.message(), "1");
    }
}

#[test]
fn the_time_of_host_calls_counts_towards_the_deadline_alike() {
    let settings = json!({"secrets": [{"name": "a"}], "onMissingSecret": "warn"});
    let slow = Manifests::default().fail(ObjectRef::secret("shop", "a"), Fault::Slow(Duration::from_secs(1)));
    for engine in [Engine::Wasmtime, Engine::Wasmi] {
        let mut host = Host::load_into(engine, &modules::policy_module(), modules::metadata()).unwrap();
        host.deadline = Duration::from_millis(500);
        let evaluation = host.evaluate(&settings, &pod(), &Cluster::of(slow.clone()));
        assert_eq!(evaluation.failure, Some(CallError::Deadline.to_string()), "{engine}");
    }
}

#[test]
fn a_panic_is_a_failure_on_both() {
    for host in PROBES.iter() {
        let evaluation = host.evaluate(&json!({"validate": "panic"}), &pod(), &Cluster::Absent);
        let failure = evaluation.failure.expect("a failure");
        assert!(failure.starts_with("Guest call failure: "), "{}: {failure}", host.engine());
    }
}

#[rstest]
fn a_module_whose_start_never_ends_is_interrupted(#[values(Engine::Wasmtime, Engine::Wasmi)] engine: Engine) {
    let module = r#"(module
        (memory (export "memory") 1)
        (func (export "wapc_init") (loop br 0))
        (func (export "__guest_call") (param i32 i32) (result i32) i32.const 0))"#;
    let mut host = Host::load_into(engine, &wat::parse_str(module).unwrap(), Metadata::default()).unwrap();
    host.deadline = Duration::from_millis(50);
    assert_eq!(host.call("validate", b"", &Cluster::Absent).answer, Err(CallError::Deadline));
}

#[rstest]
#[case::no_webassembly(b"kind: Pod".to_vec(), "cannot compile the module")]
#[case::an_import_that_no_host_offers(
    wat::parse_str(r#"(module (import "env" "open" (func)))"#).unwrap(), "cannot link the module")]
fn a_module_that_no_host_can_run_is_refused(
    #[case] module: Vec<u8>,
    #[case] message: &str,
    #[values(Engine::Wasmtime, Engine::Wasmi)] engine: Engine,
) {
    let error = Host::load_into(engine, &module, Metadata::default()).err().expect("an error").to_string();
    assert!(error.starts_with(message), "{error}");
}

#[rstest]
fn a_module_that_is_no_wapc_guest_fails_at_its_first_call(#[values(Engine::Wasmtime, Engine::Wasmi)] engine: Engine) {
    let module = wat::parse_str(r#"(module (memory (export "memory") 1))"#).unwrap();
    let host = Host::load_into(engine, &module, Metadata::default()).unwrap();
    let error = host.call("validate", b"", &Cluster::Absent).answer.unwrap_err();
    assert!(matches!(&error, CallError::Start(_)), "{engine}: {error}");
}
