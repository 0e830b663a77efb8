//! The cluster that is measured: namespaces with their Secret.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use image_pull_secrets_e2e::native;
use serde_json::json;

use crate::api::Api;

/// The Secret that every namespace has.
pub const SECRET: &str = "registry-credentials";

const CONNECTIONS: usize = 32;

/// The name of a namespace, by its number.
pub fn namespace(number: usize) -> String {
    format!("bench-{number:05}")
}

/// Makes so many namespaces.
pub async fn prepare(api: &Api, namespaces: usize) -> Result<()> {
    let making = stream::iter(0..namespaces).map(|number| create(api, namespace(number)));
    making.buffer_unordered(CONNECTIONS).try_collect().await
}

async fn create(api: &Api, name: String) -> Result<()> {
    api.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await?;
    let config = json!({"auths": {"ghcr.io": {"username": "acme", "password": "not-a-real-password"}}}).to_string();
    let secret = json!({
        "metadata": {"name": SECRET},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config},
    });
    api.create(&format!("/api/v1/namespaces/{name}/secrets"), secret).await?;
    // Without it no Pod is admitted.
    let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    while api.send("GET", &account, Vec::new()).await?.0 != 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Has the API server add the reference by itself to Pods that have this label; false where it cannot.
pub async fn add_natively(api: &Api, label: &str) -> Result<bool> {
    let path = |plural: &str| format!("{}/v1/{plural}", native::GROUP);
    if api.send("GET", &path("mutatingadmissionpolicies"), Vec::new()).await?.0 == 404 {
        return Ok(false);
    }
    let name = format!("bench-{label}");
    let constraints = json!({"objectSelector": {"matchLabels": {"bench": label}}});
    let (policy, binding) = native::policy("v1", &name, SECRET, constraints);
    api.replace(&path("mutatingadmissionpolicies"), &name, policy).await?;
    api.replace(&path("mutatingadmissionpolicybindings"), &name, binding).await?;
    Ok(true)
}
