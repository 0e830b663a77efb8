//! Both actors on one stage.

use crate::generator::Generator;
use crate::harness::{PASSWORD, Registration, Stage, eventually, pod};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";

/// One stage, a source beside it, and the settings for both actors. The secret's name is that of no other test.
pub struct Product {
    pub stage: Stage,
    pub settings: Value,
    pub secret: String,
    /// The source's namespace.
    pub source: String,
}

impl Product {
    /// Nothing is at work yet.
    pub async fn before(more: Value) -> Self {
        let source = Stage::empty(json!({"secrets": [{"name": "unused"}]})).await;
        let secret = format!("creds-{}", source.id);
        let namespace = source.namespace.clone();
        let mut settings = json!({"secrets": [{"name": secret, "source": {"namespace": namespace}}]});
        json_patch::merge(&mut settings, &more);
        let stage = Stage::empty(settings.clone()).await;
        stage.keep(source);
        let product = Self { stage, settings, secret, source: namespace };
        product.create_source("0").await;
        product
    }

    /// The policy is at work.
    pub async fn with_policy(more: Value) -> Self {
        let mut product = Self::before(more).await;
        product.stage.register(Registration::default()).await;
        product
    }

    pub fn start_generator(&self) -> Generator {
        Generator::start(&self.stage, &self.settings)
    }

    pub async fn create_source(&self, version: &str) {
        self.stage.post(&format!("/api/v1/namespaces/{}/secrets", self.source), self.content(version)).await.ok();
    }

    pub async fn delete_source(&self) {
        self.stage.delete(&self.path_in(&self.source)).await.ok();
    }

    pub async fn rotate(&self, version: &str) {
        self.stage.merge(&self.path_in(&self.source), self.content(version)).await.ok();
    }

    fn content(&self, version: &str) -> Value {
        json!({
            "metadata": {"name": self.secret},
            "type": DOCKER_CONFIG,
            "stringData": {".dockerconfigjson": docker_config(version)},
        })
    }

    /// The path of the secret, or of its copy.
    pub fn path_in(&self, namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/secrets/{}", self.secret)
    }

    pub async fn has_version(&self, namespace: &str, version: &str) -> bool {
        let copy = self.stage.get(&self.path_in(namespace)).await.body;
        let wanted = STANDARD.encode(docker_config(version));
        copy["type"] == DOCKER_CONFIG && copy["data"][".dockerconfigjson"] == wanted
    }

    /// What ServiceAccount `default` refers to.
    pub async fn references(&self, namespace: &str) -> Vec<String> {
        let account = self.stage.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default")).await;
        account.listed().into_iter().map(str::to_owned).collect()
    }

    pub async fn settled(&self, namespace: &str, version: &str) {
        eventually(&format!("{namespace} has version {version} and a reference to it"), || async {
            self.has_version(namespace, version).await && self.references(namespace).await.contains(&self.secret)
        })
        .await;
    }

    /// What a Pod on the stage would come to list.
    pub async fn would_list(&self) -> Vec<String> {
        let answer = self.stage.post(&format!("{}?dryRun=All", self.stage.pods()), pod("probe")).await.ok();
        answer.listed().into_iter().map(str::to_owned).collect()
    }
}

fn docker_config(version: &str) -> String {
    json!({"auths": {"ghcr.io": {"username": "acme", "password": format!("{PASSWORD}-{version}")}}}).to_string()
}
