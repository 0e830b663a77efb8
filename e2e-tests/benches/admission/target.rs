//! The cluster that is measured: namespaces with their Secret, and a ServiceAccount that may read it.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use image_pull_secrets_e2e::{api_proxy::ApiProxy, native};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

/// The Secret that every namespace has.
pub const SECRET: &str = "registry-credentials";

/// Who the policies ask as.
const ACCOUNT: &str = "bench-policy-server";

const CONNECTIONS: usize = 32;
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A cluster that is ready to be measured.
pub struct Target {
    client: Client,
    config: Config,
    /// The API server's version.
    pub version: String,
    token: String,
}

impl Target {
    /// The cluster of `$KUBECONFIG_E2E` with so many namespaces.
    pub async fn prepare(namespaces: usize) -> Result<Self> {
        let path = env::var("KUBECONFIG_E2E").context("KUBECONFIG_E2E names a disposable cluster")?;
        let kubeconfig = Kubeconfig::read_from(PathBuf::from(path))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config.clone())?;
        let version = client.apiserver_version().await?.git_version;
        let mut target = Self { client, config, version, token: String::new() };
        let names: Vec<String> = (0..namespaces).map(Self::namespace).collect();
        stream::iter(&names)
            .map(|name| target.create_namespace(name))
            .buffer_unordered(CONNECTIONS)
            .try_collect::<()>()
            .await?;
        target.token = target.grant().await?;
        Ok(target)
    }

    /// The name of a namespace, by its number.
    pub fn namespace(number: usize) -> String {
        format!("bench-{number:05}")
    }

    /// A proxy for a policy to ask by, and the kubeconfig that leads there.
    pub async fn proxy(&self) -> Result<(ApiProxy, Value)> {
        let proxy = ApiProxy::to(self.config.clone()).await?;
        let kubeconfig = proxy.kubeconfig(&self.token);
        Ok((proxy, kubeconfig))
    }

    /// Has the API server ask a webhook about Pods that have this label.
    pub async fn register(&self, mut configuration: Value, label: &str) -> Result<()> {
        let name = configuration["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        configuration["webhooks"][0]["objectSelector"] = json!({"matchLabels": {"bench": label}});
        self.replace(WEBHOOKS, &name, configuration).await
    }

    /// Has the API server add the reference by itself to Pods that have this label; false where it cannot.
    pub async fn register_native(&self, label: &str) -> Result<bool> {
        let path = |plural: &str| format!("{}/v1/{plural}", native::GROUP);
        if self.send("GET", &path("mutatingadmissionpolicies"), Vec::new()).await?.0 == 404 {
            return Ok(false);
        }
        let name = format!("bench-{label}");
        let constraints = json!({"objectSelector": {"matchLabels": {"bench": label}}});
        let (policy, binding) = native::policy("v1", &name, SECRET, constraints);
        self.replace(&path("mutatingadmissionpolicies"), &name, policy).await?;
        self.replace(&path("mutatingadmissionpolicybindings"), &name, binding).await?;
        Ok(true)
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

    async fn create_namespace(&self, name: &str) -> Result<()> {
        self.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await?;
        let auths = json!({"auths": {"ghcr.io": {"username": "acme", "password": "not-a-real-password"}}}).to_string();
        let secret = json!({
            "metadata": {"name": SECRET},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": auths},
        });
        self.create(&format!("/api/v1/namespaces/{name}/secrets"), secret).await?;
        // Without it no Pod is admitted.
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        while self.send("GET", &account, Vec::new()).await?.0 != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// A token of a ServiceAccount that may read the Secrets.
    async fn grant(&self) -> Result<String> {
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        self.create(accounts, json!({"metadata": {"name": ACCOUNT}})).await?;
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [SECRET], "verbs": ["get"]}]);
        self.create(&format!("{RBAC}/clusterroles"), json!({"metadata": {"name": ACCOUNT}, "rules": rules})).await?;
        let binding = json!({
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
        });
        self.create(&format!("{RBAC}/clusterrolebindings"), binding).await?;
        let asked = json!({"spec": {"expirationSeconds": 14_400}}).to_string().into_bytes();
        let (status, answer) = self.send("POST", &format!("{accounts}/{ACCOUNT}/token"), asked).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer["status"]["token"].as_str();
        Ok(token.with_context(|| format!("no token: {status} {}", answer["message"]))?.to_owned())
    }

    /// Creates it; what is there from a run before stays.
    async fn create(&self, path: &str, object: Value) -> Result<()> {
        let (status, answer) = self.send("POST", path, object.to_string().into_bytes()).await?;
        if status != 201 && status != 409 {
            bail!("POST {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    async fn replace(&self, path: &str, name: &str, object: Value) -> Result<()> {
        self.send("DELETE", &format!("{path}/{name}"), Vec::new()).await?;
        self.create(path, object).await
    }
}
