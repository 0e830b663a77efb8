//! Reads requests: Kubernetes manifests, and AdmissionReviews or AdmissionRequests as an API server sends them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::kinds::Kind;

/// The request of an AdmissionReview `admission.k8s.io/v1`, with the fields that the real host passes on: a field that
/// is null is left out, one that it does not know is dropped.
///
/// The objects are `serde_json::Value`s built without that crate's `preserve_order` and `arbitrary_precision`, as in the
/// real host's manifest. So the text that a policy reads is not the API server's: keys come sorted, of a duplicate key
/// the last one stays, and a number that fits neither 64-bit integer is a float. [`crate::Host::call`] takes the text
/// as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionRequest {
    /// Identifies the request; the response repeats it.
    pub uid: String,
    /// The object's kind.
    pub kind: GroupVersionKind,
    /// The resource that is asked for.
    pub resource: GroupVersionResource,
    /// The sub-resource, such as `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_resource: Option<String>,
    /// The kind before the API server converted the object for the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_kind: Option<GroupVersionKind>,
    /// The resource before that conversion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_resource: Option<GroupVersionResource>,
    /// The sub-resource before that conversion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_sub_resource: Option<String>,
    /// The object's name; none where the API server has yet to generate it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The object's namespace; none for a cluster-wide kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who asks.
    pub user_info: UserInfo,
    /// The object as it would be stored; none on DELETE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Value>,
    /// The object as it is stored; none on CREATE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_object: Option<Value>,
    /// Whether it is a dry run, so that nothing will be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// The operation's options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// Who asks, as `authentication.k8s.io/v1` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct UserInfo {
    /// Further facts from the authenticator about the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<BTreeMap<String, Vec<String>>>,
    /// The groups that the user is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Identifies the user for all times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// A kind in full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GroupVersionKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version, such as `v1`.
    pub version: String,
    /// The kind, such as `Pod`.
    pub kind: String,
}

/// A resource in full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GroupVersionResource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version, such as `v1`.
    pub version: String,
    /// The plural, such as `pods`.
    pub resource: String,
}

/// Why a text cannot be read as documents. The reasons quote no value: it may be a credential.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Neither.
    #[error("neither JSON nor YAML at line {line}, column {column}")]
    Yaml {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
    },
    /// YAML that JSON cannot say, such as a list for a key.
    #[error("document {0} is YAML that has no JSON form")]
    NotJson(usize),
}

/// Why a document is no request.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The text is no document at all.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Neither a manifest nor a request.
    #[error("document {number} is neither a manifest nor an AdmissionRequest: {reason}")]
    Other {
        /// Which document, counted from 1.
        number: usize,
        /// What it lacks.
        reason: String,
    },
}

impl AdmissionRequest {
    /// Reads the requests in a text: YAML documents or JSON, each a manifest, a `List` of manifests, an AdmissionRequest
    /// or an AdmissionReview. A manifest becomes the request that creates it.
    pub fn read(text: &str) -> Result<Vec<Self>, RequestError> {
        let documents = documents(text)?.into_iter().enumerate();
        documents
            .map(|(index, document)| {
                Self::from_document(document, index).map_err(|reason| RequestError::Other { number: index + 1, reason })
            })
            .collect()
    }

    fn from_document(mut document: Value, index: usize) -> Result<Self, String> {
        if document.get("kind").and_then(Value::as_str) == Some("AdmissionReview") {
            document = document.get_mut("request").map(Value::take).ok_or("an AdmissionReview without a request")?;
        } else if document.get("uid").is_none() {
            return Self::create(document, index).map_err(str::to_owned);
        }
        // serde's own words quote no more than one scalar of the request itself, and the objects can hold any.
        serde_json::from_value(document).map_err(|error| error.to_string())
    }

    /// The request by which an API server asks whether this object may be created, `index` making its uid.
    ///
    /// As there, an object of a namespaced kind has a namespace. What the API server's own admission plugins do before
    /// any webhook is asked (default values, the ServiceAccount's token volume and its secrets) is not done here.
    pub fn create(mut object: Value, index: usize) -> Result<Self, &'static str> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("/apiVersion").ok_or("apiVersion is missing or no string")?;
        let kind = Kind::of(&api_version, &text("/kind").ok_or("kind is missing or no string")?);
        let name = text("/metadata/name");
        let namespace = text("/metadata/namespace").or_else(|| Some("default".to_owned())).filter(|_| kind.namespaced);
        if let (Some(namespace), Some(metadata)) = (&namespace, object["metadata"].as_object_mut()) {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        let resource = GroupVersionResource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            resource: kind.plural.clone(),
        };
        let kind = GroupVersionKind { group: kind.group, version: kind.version, kind: kind.kind };
        Ok(Self {
            uid: format!("00000000-0000-4000-8000-{index:012}"),
            request_kind: Some(kind.clone()),
            kind,
            request_resource: Some(resource.clone()),
            resource,
            sub_resource: None,
            request_sub_resource: None,
            name,
            namespace,
            operation: "CREATE".to_owned(),
            user_info: UserInfo {
                username: Some("kubernetes-admin".to_owned()),
                groups: Some(vec!["system:masters".to_owned(), "system:authenticated".to_owned()]),
                ..UserInfo::default()
            },
            object: Some(object),
            old_object: None,
            dry_run: Some(false),
            options: Some(json!({"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"})),
        })
    }
}

/// The documents of a text, empty ones left out and lists taken apart.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, DocumentError> {
    let mut documents = Vec::new();
    // YAML would read JSON too, but not its numbers: 1e3 is a string there.
    if let Ok(document) = serde_json::from_str(text) {
        documents.push(document);
    } else {
        for (index, document) in yaml_serde::Deserializer::from_str(text).enumerate() {
            let document = Value::deserialize(document).map_err(|error| match error.location() {
                Some(location) => DocumentError::Yaml { line: location.line(), column: location.column() },
                None => DocumentError::NotJson(index + 1),
            })?;
            documents.push(document);
        }
    }
    Ok(documents.into_iter().flat_map(list_items).filter(|document| !document.is_null()).collect())
}

fn list_items(mut document: Value) -> Vec<Value> {
    match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if document["kind"] == "List" => items,
        Some(items) => {
            document["items"] = items;
            vec![document]
        }
        None => vec![document],
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: a}}";

    fn titles(text: &str) -> Vec<String> {
        let requests = AdmissionRequest::read(text).unwrap();
        let title = |request: AdmissionRequest| {
            format!(
                "{} {} {}/{}",
                request.operation,
                request.resource.resource,
                request.namespace.unwrap_or_default(),
                request.name.unwrap_or_default()
            )
        };
        requests.into_iter().map(title).collect()
    }

    #[rstest]
    #[case::a_manifest(POD, &["CREATE pods default/a"])]
    #[case::a_manifest_of_a_namespace(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: shop}}", &["CREATE deployments shop/a"])]
    #[case::a_cluster_wide_manifest("{apiVersion: v1, kind: Namespace, metadata: {name: a}}", &["CREATE namespaces /a"])]
    #[case::a_custom_resource(
        "{apiVersion: example.com/v1, kind: Policy, metadata: {name: a}}", &["CREATE policies default/a"])]
    #[case::a_name_to_be_generated("{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}", &["CREATE pods default/"])]
    #[case::documents_with_empty_ones_between(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n# nothing\n---\n{apiVersion: v1, kind: Pod, metadata: {name: b}}\n",
        &["CREATE pods default/a", "CREATE pods default/b"])]
    #[case::a_list(
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, metadata: {name: a}}, {apiVersion: v1, kind: Secret, metadata: {name: b}}]}",
        &["CREATE pods default/a", "CREATE secrets default/b"])]
    #[case::json(r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#, &["CREATE pods default/a"])]
    #[case::an_admission_review(
        r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", "operation": "DELETE",
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop", "name": "a", "userInfo": {}, "object": null, "oldObject": {}, "dryRun": null}}"#,
        &["DELETE pods shop/a"])]
    #[case::an_admission_request(
        r#"{"uid": "1", "operation": "UPDATE", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "shop", "name": "a",
            "userInfo": {"username": "u"}, "object": {}, "oldObject": {}}"#,
        &["UPDATE pods shop/a"])]
    #[case::nothing_at_all("\n", &[])]
    fn documents_become_requests(#[case] text: &str, #[case] requests: &[&str]) {
        assert_eq!(titles(text), requests);
    }

    #[rstest]
    #[case::not_json("{\"a\": [}", "neither JSON nor YAML at line 1, column")]
    #[case::not_yaml("kind: Secret\ndata: {a: hunter2", "neither JSON nor YAML at line 3, column")]
    #[case::no_object(
        "- a",
        "document 1 is neither a manifest nor an AdmissionRequest: apiVersion is missing or no string"
    )]
    #[case::no_kind(
        "{apiVersion: v1}\n---\n",
        "document 1 is neither a manifest nor an AdmissionRequest: kind is missing or no string"
    )]
    #[case::an_empty_review("{kind: AdmissionReview}", "an AdmissionReview without a request")]
    #[case::half_a_request("{uid: a}", "missing field `kind`")]
    fn what_is_no_request_is_refused_without_quoting_it(#[case] text: &str, #[case] message: &str) {
        let error = AdmissionRequest::read(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_manifest_becomes_the_request_of_an_api_server() {
        let request = &AdmissionRequest::read(POD).unwrap()[0];
        assert_eq!(
            serde_json::to_value(request).unwrap(),
            json!({
                "uid": "00000000-0000-4000-8000-000000000000",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
                "requestResource": {"group": "", "version": "v1", "resource": "pods"},
                "name": "a",
                "namespace": "default",
                "operation": "CREATE",
                "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]},
                "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"}},
                "dryRun": false,
                "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
            })
        );
    }

    #[test]
    fn numbers_of_a_json_document_stay_numbers() {
        let text = r#"{"apiVersion": "v1", "kind": "Pod", "n": [1e3, 18446744073709551615, 18446744073709551616]}"#;
        let object = AdmissionRequest::read(text).unwrap().remove(0).object.unwrap();
        assert_eq!(object["n"].to_string(), "[1000.0,18446744073709551615,1.8446744073709552e+19]");
    }
}
