//! A proxy in front of an API server, for the clients that answer a policy's host calls. It counts how often Secrets are
//! read, and can delay answers.
//!
//! Its clients speak plain HTTP, and it passes their tokens on.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time};

/// The largest request. The API server accepts less.
const LARGEST: usize = 4 << 20;

/// A proxy that runs until it is dropped.
pub struct ApiProxy {
    address: SocketAddr,
    passing: Arc<Passing>,
    serving: JoinHandle<()>,
}

struct Passing {
    client: Client,
    late: Mutex<Vec<(String, Duration)>>,
    secret_reads: AtomicU64,
}

impl ApiProxy {
    /// A proxy to the API server of this configuration, whose credentials it does not use.
    ///
    /// # Errors
    /// The configuration cannot be used, or no port is free.
    pub async fn to(mut config: Config) -> Result<Self> {
        config.auth_info = kube::config::AuthInfo::default();
        let client = Client::try_from(config).context("cannot use the configuration")?;
        let passing = Arc::new(Passing { client, late: Mutex::default(), secret_reads: AtomicU64::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::clone(&passing));
        let serving = tokio::spawn(async move {
            // An error of one connection does not end this loop. It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, passing, serving })
    }

    /// A kubeconfig with this token that leads to the proxy.
    pub fn kubeconfig(&self, token: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "proxy", "user": {"token": token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        })
    }

    /// Delays the answers to all later reads whose path ends with this. With `Duration::MAX` they are never answered.
    pub fn delay(&self, end_of_path: &str, late: Duration) {
        let mut all = self.passing.late.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(end, _)| end != end_of_path);
        all.push((end_of_path.to_owned(), late));
    }

    /// How often a Secret was read so far.
    pub fn secret_reads(&self) -> u64 {
        self.passing.secret_reads.load(Ordering::Relaxed)
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Passing {
    fn late(&self, path: &str) -> Duration {
        let all = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().find(|(end, _)| path.ends_with(end)).map_or(Duration::ZERO, |&(_, late)| late)
    }
}

async fn pass(State(passing): State<Arc<Passing>>, mut request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if request.method() == Method::GET {
        if path.contains("/secrets/") {
            passing.secret_reads.fetch_add(1, Ordering::Relaxed);
        }
        let late = passing.late(&path);
        if !late.is_zero() {
            time::sleep(late).await;
        }
    }
    request.headers_mut().remove(header::HOST);
    match forward(&passing.client, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn forward(client: &Client, request: Request) -> Result<Response> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST).await?;
    let response = client.send(axum::http::Request::from_parts(head, body.into())).await?;
    Ok(response.map(Body::new))
}
