//! One evaluation, reduced to what the tests are about.

use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Evaluation, Manifests, Verdict, modules};
use serde_json::Value;

/// A cluster with a Secret in each state, named by it, in the namespace `shop`.
pub const SECRETS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: usable, namespace: shop}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths":{"ghcr.io/acme":{"auth":"Y2k6Y29ycmVjdC1ob3JzZQ=="}}}'
---
apiVersion: v1
kind: Secret
metadata: {name: usable-2, namespace: shop}
type: kubernetes.io/dockercfg
stringData:
  .dockercfg: '{"quay.io":{"username":"ci","password":"correct-horse"}}'
---
apiVersion: v1
kind: Secret
metadata: {name: opaque, namespace: shop}
type: Opaque
stringData: {password: correct-horse}
---
apiVersion: v1
kind: Secret
metadata: {name: malformed, namespace: shop}
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths":{"ghcr.io":{"auth":"correct-horse"}}}'
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: left-alone, annotations: {example.com/exclude: "true"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: said-false, annotations: {example.com/exclude: "false"}}
"#;

/// What stands in the Secrets above and may stand nowhere else, plain and in base64.
pub const CREDENTIALS: [&str; 4] = ["correct-horse", "Y29ycmVjdC1ob3JzZQ", "Y2k6Y29ycmVjdC1ob3JzZQ", "hunter2"];

pub fn manifests() -> Manifests {
    Manifests::parse(SECRETS).unwrap()
}

pub fn cluster() -> Cluster {
    Cluster::of(manifests())
}

/// The one request of a manifest, or of an AdmissionRequest, in YAML.
pub fn request(yaml: &str) -> AdmissionRequest {
    let mut requests = AdmissionRequest::read(yaml).unwrap();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

pub fn settings(yaml: &str) -> Value {
    let documents = AdmissionRequest::read(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings}}, settings: {yaml}}}"
    ));
    documents.unwrap().remove(0).object.unwrap()["settings"].take()
}

/// Evaluates, and makes sure of what holds whatever the policy decides.
pub fn evaluate(settings: &Value, request: &AdmissionRequest, cluster: &Cluster) -> Evaluation {
    let evaluation = modules::policy().evaluate(settings, request, cluster);
    assert_eq!(evaluation.failure, None, "a guest error denies the request");
    let said = format!("{:?} {:?}", evaluation.response, evaluation.logs);
    for credential in CREDENTIALS {
        assert!(!said.contains(credential), "{credential} in {said}");
    }
    if let Some(object) = &request.object {
        only_adds_references(object, &evaluation);
    }
    evaluation
}

/// The patch adds entries to imagePullSecrets and does nothing else.
fn only_adds_references(object: &Value, evaluation: &Evaluation) {
    for operation in serde_json::to_value(evaluation.response.operations()).unwrap().as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        let list = path.trim_start_matches("/spec").trim_start_matches("/imagePullSecrets");
        let is_entry = list.strip_prefix('/').is_some_and(|position| position.parse::<usize>().is_ok());
        let replaces_null = operation["op"] == "replace" && object.pointer(path) == Some(&Value::Null);
        assert!(operation["op"] == "add" || replaces_null, "{operation}");
        assert!(list.is_empty() || is_entry, "{operation}");
    }
}

/// The names that an object lists after an evaluation, in order; what has no name is `-`.
pub fn names(object: &Value) -> Vec<&str> {
    let list = object.get("spec").unwrap_or(object).get("imagePullSecrets").and_then(Value::as_array);
    list.into_iter().flatten().map(|entry| entry["name"].as_str().unwrap_or("-")).collect()
}

/// The object as it is after the response.
pub fn after(request: &AdmissionRequest, evaluation: &Evaluation) -> Value {
    evaluation.response.apply(request.object.as_ref().unwrap()).unwrap()
}

/// `untouched`, `added a, b`, or `denied`.
pub fn summary(request: &AdmissionRequest, evaluation: &Evaluation) -> String {
    match evaluation.verdict() {
        Verdict::Accepted => "untouched".to_owned(),
        Verdict::Mutated => {
            let before = names(request.object.as_ref().unwrap()).len();
            format!("added {}", names(&after(request, evaluation))[before..].join(", "))
        }
        Verdict::Rejected => "denied".to_owned(),
        Verdict::Failed => "failed".to_owned(),
    }
}

pub fn warnings(evaluation: &Evaluation) -> Vec<String> {
    evaluation.response.warnings.clone().unwrap_or_default()
}
