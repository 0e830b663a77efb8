//! The test cluster's registry: what it accepts, and what kubelets tried to pull.

use std::env;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Client, Config, client::Body};
use serde::Deserialize;
use serde_json::{Value, json};

/// Whom it knows.
pub const USER: &str = "acme";
pub const PASSWORD: &str = "not-a-real-password";

pub struct Registry {
    client: Client,
}

/// One attempt of a kubelet to pull an image.
#[derive(Deserialize)]
pub struct Pull {
    pub image: String,
    /// `pulled`, or why not.
    pub outcome: String,
    pub at: Time,
}

impl Registry {
    pub fn connect() -> Result<Self> {
        let url = env::var("E2E_REGISTRY").context("E2E_REGISTRY is not set: run it in with-cluster --nodes 1")?;
        Ok(Self { client: Client::try_from(Config::new(url.parse()?))? })
    }

    /// Has a host accept that one user.
    pub async fn accept(&self, host: &str) -> Result<()> {
        let accepts = json!({"auth": "basic", "accounts": {USER: PASSWORD}});
        self.send("PUT", &format!("/hosts/{host}"), accepts).await.map(drop)
    }

    /// Makes an image.
    pub async fn push(&self, image: &str) -> Result<()> {
        self.send("POST", "/images", json!({"image": image})).await.map(drop)
    }

    /// Attempts to pull from this host, the first one first.
    pub async fn pulls(&self, host: &str) -> Result<Vec<Pull>> {
        Ok(serde_json::from_slice(&self.send("GET", &format!("/pulls?prefix={host}/"), Value::Null).await?)?)
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Result<Vec<u8>> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let response = self.client.send(request.body(Body::from(body.to_string().into_bytes()))?).await?;
        let status = response.status();
        let answer = response.into_body().collect_bytes().await?.to_vec();
        if !status.is_success() {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}
