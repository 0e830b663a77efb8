//! What the API server can do by itself: a MutatingAdmissionPolicy that adds one reference to Pods. It asks nothing about the
//! Secret.

use serde_json::{Value, json};

/// The API group of admission policies, as a path.
pub const GROUP: &str = "/apis/admissionregistration.k8s.io";

/// A MutatingAdmissionPolicy of this API version that appends `secret` to Pods that lack it, where these constraints match
/// (a namespaceSelector, an objectSelector), and its binding.
///
/// It appends by JSON patch and not by an apply configuration: for those, the entries of `imagePullSecrets` are atomic, and
/// refused. And it adds an empty list first: over a list with an entry in it the API server of 1.36.3 panics.
pub fn policy(version: &str, name: &str, secret: &str, mut constraints: Value) -> (Value, Value) {
    let lacks_it = format!(
        "!has(object.spec.imagePullSecrets) || !object.spec.imagePullSecrets.exists(secret, secret.name == '{secret}')"
    );
    let appends_it = format!(
        "(has(object.spec.imagePullSecrets)
            ? [] : [JSONPatch{{op: 'add', path: '/spec/imagePullSecrets', value: []}}]) +
            [JSONPatch{{op: 'add', path: '/spec/imagePullSecrets/-', value: Object.spec.imagePullSecrets{{name: '{secret}'}}}}]"
    );
    constraints["resourceRules"] =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let policy = json!({
        "apiVersion": format!("admissionregistration.k8s.io/{version}"),
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": constraints,
            "matchConditions": [{"name": "lacks-it", "expression": lacks_it}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": appends_it}}],
        },
    });
    (policy, json!({"metadata": {"name": name}, "spec": {"policyName": name}}))
}
