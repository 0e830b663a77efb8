//! Policies as an admission webhook: `/validate/<policy>` over HTTPS and `/readiness`, the paths of policy-server (whose
//! readiness has a port of its own).

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task;

use crate::{AdmissionRequest, AdmissionResponse, Cluster, Evaluation, Host, Metadata};

/// One policy that is served.
pub struct Policy {
    /// The module, for as long as the process lives.
    pub host: &'static Host,
    /// The policy's settings.
    pub settings: Value,
    /// The source of the answers to its questions.
    pub cluster: Cluster,
    /// Receives every request with its result.
    pub observer: Observer,
}

/// A function that receives requests and their results. It may be called from any thread.
pub type Observer = Box<dyn Fn(&AdmissionRequest, &Evaluation) + Send + Sync>;

/// A webhook that runs until it is dropped.
pub struct Webhook {
    address: SocketAddr,
    certificate: String,
    handle: Handle<SocketAddr>,
}

/// An AdmissionReview `admission.k8s.io/v1` with a request.
#[derive(Deserialize)]
struct Asked {
    request: AdmissionRequest,
}

/// An AdmissionReview with a response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    api_version: &'static str,
    kind: &'static str,
    response: AdmissionResponse,
}

type Policies = Arc<BTreeMap<String, Policy>>;

impl Webhook {
    /// Serves policies by their names on `address`, whose port may be 0, with a certificate made for it.
    ///
    /// # Errors
    /// The address is not free, or no certificate can be made.
    pub fn start(address: SocketAddr, policies: BTreeMap<String, Policy>) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([address.ip().to_string()]).context("cannot make a certificate")?;
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], signing_key.into())?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let router = Router::new()
            .route("/validate/{policy}", post(validate))
            .route("/readiness", get(|| async { StatusCode::OK }))
            .with_state(Arc::new(policies));
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls)))?;
        task::spawn(server.handle(handle.clone()).serve(router.into_make_service()));
        Ok(Self { address, certificate: cert.pem(), handle })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The MutatingWebhookConfiguration for `policy` at this webhook.
    pub fn configuration(&self, policy: &str, host: &Host) -> Value {
        configuration(self.address, &self.certificate, policy, host.metadata())
    }
}

/// The MutatingWebhookConfiguration by which Kubewarden's controller would have an API server ask `policy` at `address`,
/// whose certificate is this (PEM), with the rules of its metadata.
pub fn configuration(address: SocketAddr, certificate: &str, policy: &str, metadata: &Metadata) -> Value {
    let rules = metadata.rules.iter().map(|rule| {
        json!({
            "apiGroups": rule.api_groups, "apiVersions": rule.api_versions, "resources": rule.resources,
            "operations": rule.operations, "scope": "*",
        })
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": policy},
        "webhooks": [{
            "name": format!("{policy}.kubewarden.admission"),
            "clientConfig": {
                "url": format!("https://{address}/validate/{policy}"),
                "caBundle": STANDARD.encode(certificate),
            },
            "rules": rules.collect::<Vec<_>>(),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "timeoutSeconds": 10,
        }],
    })
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn validate(
    State(policies): State<Policies>,
    Path(name): Path<String>,
    Json(Asked { request }): Json<Asked>,
) -> Result<Json<Answered>, (StatusCode, String)> {
    // The module blocks its thread, host calls included.
    let evaluating = task::spawn_blocking(move || {
        let Policy { host, settings, cluster, observer } =
            policies.get(&name).ok_or_else(|| anyhow!("there is no policy {name}"))?;
        let evaluation = host.evaluate(settings, &request, cluster);
        observer(&request, &evaluation);
        Ok::<_, anyhow::Error>(evaluation.response)
    });
    match evaluating.await {
        Ok(Ok(response)) => {
            Ok(Json(Answered { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response }))
        }
        Ok(Err(unknown)) => Err((StatusCode::NOT_FOUND, unknown.to_string())),
        Err(panicked) => Err((StatusCode::INTERNAL_SERVER_ERROR, panicked.to_string())),
    }
}
