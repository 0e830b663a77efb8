//! The policy and the generator on one stage.

use crate::generator::Generator;
use crate::harness::{DOCKER_CONFIG, Registration, Stage, eventually, pod, pull_secret};
use crate::registry::{docker_config, password};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A stage with a source, and the settings for policy and generator. No other test uses the secret's name.
pub struct Product {
    pub stage: Stage,
    pub settings: Value,
    pub secret: String,
    /// The source's namespace.
    pub source: String,
    /// What the source's credential is for.
    server: String,
}

impl Product {
    /// Nothing is at work yet.
    pub async fn before(more: Value) -> Self {
        Self::for_server("ghcr.io", more).await
    }

    /// Nothing is at work yet. The source is a credential of user `acme` for this registry.
    pub async fn for_server(server: &str, more: Value) -> Self {
        let product = Self::without_source(server, None, more).await;
        product.create_source("0").await;
        product
    }

    /// Nothing is at work yet. The source is this one, for this registry.
    pub async fn from(server: &str, source: Value) -> Self {
        Self::without_source(server, Some(source), json!({})).await
    }

    async fn without_source(server: &str, source_is: Option<Value>, more: Value) -> Self {
        let source = Stage::empty(json!({"secrets": [{"name": "unused"}]})).await;
        let secret = format!("creds-{}", source.id);
        let namespace = source.namespace.clone();
        let mut settings = json!({"secrets": [{"name": secret, "source": source_is.unwrap_or_else(|| json!({"namespace": namespace}))}]});
        json_patch::merge(&mut settings, &more);
        let stage = Stage::empty(settings.clone()).await;
        stage.keep(source);
        Self { stage, settings, secret, source: namespace, server: server.to_owned() }
    }

    /// The policy is at work.
    pub async fn with_policy(more: Value) -> Self {
        let mut product = Self::before(more).await;
        product.stage.register(Registration::default()).await;
        product
    }

    pub fn start_generator(&self) -> Generator {
        self.start_generator_with(&[])
    }

    pub fn start_generator_with(&self, flags: &[&str]) -> Generator {
        Generator::start(&self.stage, &self.settings, flags)
    }

    pub async fn create_source(&self, version: &str) {
        self.stage.create_pull_secret(&self.source, &self.secret, &self.docker_config(version)).await;
    }

    pub async fn delete_source(&self) {
        self.stage.delete(&self.path_in(&self.source)).await.ok();
    }

    pub async fn rotate(&self, version: &str) {
        self.rotate_to(&self.docker_config(version)).await;
    }

    pub async fn rotate_to(&self, docker_config: &str) {
        self.stage.merge(&self.path_in(&self.source), self.secret_of(docker_config)).await.ok();
    }

    /// The docker config of this version.
    pub fn docker_config(&self, version: &str) -> String {
        docker_config(&self.server, "acme", &password(version))
    }

    /// A Secret of the configured name with this docker config.
    pub fn secret_of(&self, docker_config: &str) -> Value {
        pull_secret(&self.secret, docker_config)
    }

    /// The path of the secret, or of its copy.
    pub fn path_in(&self, namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/secrets/{}", self.secret)
    }

    pub async fn has_version(&self, namespace: &str, version: &str) -> bool {
        self.has(namespace, &self.docker_config(version)).await
    }

    /// Whether the namespace has a copy with this docker config.
    pub async fn has(&self, namespace: &str, docker_config: &str) -> bool {
        let copy = self.stage.get(&self.path_in(namespace)).await.body;
        copy["type"] == DOCKER_CONFIG && copy["data"][".dockerconfigjson"] == STANDARD.encode(docker_config)
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
