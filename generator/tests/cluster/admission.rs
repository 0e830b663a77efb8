//! What tests put in the way of every request to the cluster.

use crate::harness::Corner;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::{Api, discovery};
use serde_json::{Value, json};

/// Something for the whole cluster that a test makes, and takes away.
pub struct Made(Api<DynamicObject>, String);

impl Made {
    /// In the most stable version of the kind that the API server has.
    pub async fn new(corner: &Corner, group: &str, kind: &str, document: Value) -> Self {
        Self::named(corner, group, kind, &corner.name, document).await
    }

    pub async fn named(corner: &Corner, group: &str, kind: &str, name: &str, mut document: Value) -> Self {
        let group = discovery::group(&corner.client, group).await.unwrap();
        let kinds = group.resources_by_stability();
        let found = kinds.into_iter().find(|(resource, _)| resource.kind == kind);
        let (resource, _) = found.unwrap_or_else(|| panic!("this API server has no {kind}"));
        document["apiVersion"] = json!(resource.api_version);
        document["kind"] = json!(kind);
        document["metadata"] = json!({ "name": name });
        let api = Api::all_with(corner.client.clone(), &resource);
        api.create(&PostParams::default(), &serde_json::from_value(document).unwrap()).await.unwrap();
        Self(api, name.to_owned())
    }

    pub async fn remove(self) {
        self.0.delete(&self.1, &DeleteParams::default()).await.unwrap();
    }
}

/// The group of what has a say in every write.
pub const ADMISSION: &str = "admissionregistration.k8s.io";

/// A webhook that cannot be reached, and without which nothing is admitted.
pub async fn refuse_by_webhook(corner: &Corner, operation: &str, resource: &str, labels: &Value) -> Made {
    webhook(corner, "127.0.0.1:1", operation, resource, labels).await
}

/// A webhook at this address, without whose answer nothing is admitted.
pub async fn webhook(corner: &Corner, address: &str, operation: &str, resource: &str, labels: &Value) -> Made {
    let webhook = json!({
        "name": "broken.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://{address}/admit")}, "timeoutSeconds": 30,
        "namespaceSelector": {"matchLabels": labels},
        "rules": [{"apiGroups": ["*"], "apiVersions": ["v1"], "operations": [operation], "resources": [resource]}],
    });
    Made::new(corner, ADMISSION, "ValidatingWebhookConfiguration", json!({"webhooks": [webhook]})).await
}
