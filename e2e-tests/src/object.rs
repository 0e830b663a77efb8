//! An object as a kube client represents it: metadata with known fields, and all other fields as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Any object. Written as kube's `DynamicObject` is, field by field in the same order.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Object {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(flatten)]
    pub(crate) data: Value,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectMeta {
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finalizers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generate_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    managed_fields: Option<Vec<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_references: Option<Vec<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use kube::core::DynamicObject;
    use rstest::rstest;

    use super::*;

    const WHOLE: &str = r#"{"type": "Opaque", "data": {"b": "", "a": ""}, "kind": "Secret", "apiVersion": "v1", "metadata": {
        "uid": "u", "selfLink": "l", "resourceVersion": "7", "namespace": "n", "name": "x", "generateName": "g",
        "ownerReferences": [{"apiVersion": "v1", "controller": true, "kind": "Pod", "name": "p", "uid": "o"}],
        "managedFields": [{"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}, "manager": "m",
            "operation": "Update", "time": "2026-01-02T03:04:05Z"}],
        "labels": {"b": "", "a": ""}, "generation": 3, "finalizers": ["f"], "deletionTimestamp": "2026-01-02T03:04:05Z",
        "deletionGracePeriodSeconds": 30, "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": {"k": "v"},
        "unheardOf": true}}"#;

    #[rstest]
    #[case::every_field(WHOLE)]
    #[case::no_metadata(r#"{"apiVersion": "v1", "kind": "Secret"}"#)]
    #[case::empty_metadata(r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {}}"#)]
    #[case::a_field_that_is_null(
        r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": null}, "data": null}"#
    )]
    fn an_object_is_written_as_kube_writes_it(#[case] json: &str) {
        let ours: Object = serde_json::from_str(json).unwrap();
        let theirs: DynamicObject = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&ours).unwrap(), serde_json::to_string(&theirs).unwrap());
    }

    #[rstest]
    #[case::labels(r#"{"labels": ["a"]}"#)]
    #[case::a_name(r#"{"name": 1}"#)]
    #[case::finalizers(r#"{"finalizers": "a"}"#)]
    #[case::owners(r#"{"ownerReferences": ["a"]}"#)]
    #[case::metadata(r#""none""#)]
    fn what_kube_cannot_read_is_refused(#[case] metadata: &str) {
        let json = format!(r#"{{"apiVersion": "v1", "kind": "Secret", "metadata": {metadata}}}"#);
        assert!(
            serde_json::from_str::<Object>(&json).is_err() && serde_json::from_str::<DynamicObject>(&json).is_err()
        );
    }
}
