//! What tests put in the way of every request to the cluster.

use crate::harness::Corner;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Something for the whole cluster that a test makes, and takes away.
pub struct Made<K>(Api<K>, String);

impl<K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned> Made<K> {
    pub async fn new(corner: &Corner, mut document: Value) -> Self {
        document["metadata"] = json!({"name": corner.name});
        let api = Api::<K>::all(corner.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(document).unwrap()).await.unwrap();
        Self(api, corner.name.clone())
    }

    pub async fn remove(self) {
        self.0.delete(&self.1, &DeleteParams::default()).await.unwrap();
    }
}

/// A webhook that cannot be reached, and without which nothing is admitted.
pub async fn refuse_by_webhook(
    corner: &Corner,
    operation: &str,
    resource: &str,
    labels: &Value,
) -> Made<ValidatingWebhookConfiguration> {
    webhook(corner, "127.0.0.1:1", operation, resource, labels).await
}

/// A webhook at this address, without whose answer nothing is admitted.
pub async fn webhook(
    corner: &Corner,
    address: &str,
    operation: &str,
    resource: &str,
    labels: &Value,
) -> Made<ValidatingWebhookConfiguration> {
    let webhook = json!({
        "name": "broken.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://{address}/admit")}, "timeoutSeconds": 30,
        "namespaceSelector": {"matchLabels": labels},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": [resource]}],
    });
    Made::new(corner, json!({"webhooks": [webhook]})).await
}
