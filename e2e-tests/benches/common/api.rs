//! The API server of the disposable cluster that `$KUBECONFIG_E2E` names.

use std::env;

use anyhow::{Context as _, Result, bail};
use image_pull_secrets_e2e::api_proxy::ApiProxy;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

/// Who the policies ask as.
const ACCOUNT: &str = "bench-policy-server";

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// An administrator's connection.
pub struct Api {
    client: Client,
    config: Config,
    /// The API server's version.
    pub version: String,
}

impl Api {
    pub async fn connect() -> Result<Self> {
        let path = env::var("KUBECONFIG_E2E").context("KUBECONFIG_E2E names a disposable cluster")?;
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config.clone())?;
        let version = client.apiserver_version().await?.git_version;
        Ok(Self { client, config, version })
    }

    /// The status and what came with it.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<(u16, Vec<u8>)> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body))?;
        let response = self.client.send(request).await.with_context(|| format!("{method} {path}"))?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect_bytes().await?.to_vec()))
    }

    /// Creates it; what is there from a run before stays.
    pub async fn create(&self, path: &str, object: Value) -> Result<()> {
        let (status, answer) = self.send("POST", path, object.to_string().into_bytes()).await?;
        if status != 201 && status != 409 {
            bail!("POST {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    /// Creates it in the place of what is there.
    pub async fn replace(&self, path: &str, name: &str, object: Value) -> Result<()> {
        self.send("DELETE", &format!("{path}/{name}"), Vec::new()).await?;
        self.create(path, object).await
    }

    /// Has the API server ask a webhook about what these fields of it select.
    pub async fn register(&self, mut configuration: Value, selecting: &Value) -> Result<()> {
        let name = configuration["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        json_patch::merge(&mut configuration["webhooks"][0], selecting);
        self.replace(WEBHOOKS, &name, configuration).await
    }

    /// A proxy for a policy to ask by, and the kubeconfig that leads there. It may read Secrets of this name.
    pub async fn proxy(&self, secret: &str) -> Result<(ApiProxy, Value)> {
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        self.create(accounts, json!({"metadata": {"name": ACCOUNT}})).await?;
        let name = format!("{ACCOUNT}-{secret}");
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": ["get"]}]);
        self.create(&format!("{RBAC}/clusterroles"), json!({"metadata": {"name": name}, "rules": rules})).await?;
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
        });
        self.create(&format!("{RBAC}/clusterrolebindings"), binding).await?;
        let asked = json!({"spec": {"expirationSeconds": 14_400}}).to_string().into_bytes();
        let (status, answer) = self.send("POST", &format!("{accounts}/{ACCOUNT}/token"), asked).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer["status"]["token"].as_str();
        let token = token.with_context(|| format!("no token: {status} {}", answer["message"]))?;
        let proxy = ApiProxy::to(self.config.clone()).await?;
        let kubeconfig = proxy.kubeconfig(token);
        Ok((proxy, kubeconfig))
    }
}
