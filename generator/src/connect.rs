//! The connection to the API server.

use crate::cli::CommonArgs;
use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use kube::client::{ClientBuilder, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use serde_json::json;
use std::time::Duration;
use tower::BoxError;
use tower::util::MapResponseLayer;

/// How long it may take until a connection is there, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may arrive on a connection. More than [`crate::watch::QUIET_SECONDS`], after which a watch ends by itself.
const READ_TIMEOUT: Duration = Duration::from_secs(55);

/// The configuration that the arguments name, or that kubectl would find.
///
/// # Errors
/// There is none, or it cannot be read.
pub async fn config(args: &CommonArgs) -> Result<Config> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    match (&args.kubeconfig, &args.context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("cannot read {}", file.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("cannot use the kubeconfig {}", file.display()))
        }
        (None, Some(context)) => Config::from_kubeconfig(&options)
            .await
            .with_context(|| format!("cannot use the context {context} of the kubeconfig")),
        (None, None) => {
            Config::infer().await.context("there is no kubeconfig, and this is not a Pod; give --kubeconfig")
        }
    }
}

/// A client. It retries nothing by itself: who asks knows what else is to be done meanwhile. A connection on which nothing
/// arrives any more is given up.
///
/// # Errors
/// The configuration's certificates or credentials are unusable.
pub fn client(mut config: Config) -> Result<Client> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let builder = ClientBuilder::try_from(config).context("cannot make a client of the kubeconfig")?;
    Ok(builder.with_layer(&MapResponseLayer::new(with_status)).build())
}

/// Makes a Status of an answer that is none and asks to wait, so that kube's error has the wait. API Priority and Fairness
/// answers with 429, a text and a `Retry-After`; client-go makes a Status of it too.
fn with_status(answer: Response<Box<DynBody>>) -> Response<Box<DynBody>> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let has_status = header(CONTENT_TYPE).is_some_and(|content_type| content_type.starts_with("application/json"));
    let Some(seconds) = header(RETRY_AFTER).and_then(|seconds| seconds.parse::<u32>().ok()).filter(|_| !has_status)
    else {
        return answer;
    };
    let code = answer.status();
    if !code.is_client_error() && !code.is_server_error() {
        return answer;
    }
    let phrase = code.canonical_reason().unwrap_or("no reason given");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": phrase,
        "message": format!("{phrase}, try again later"), "details": {"retryAfterSeconds": seconds},
    });
    let body = status.to_string();
    answer.map(|_| Box::new(Full::from(body).map_err(BoxError::from)) as Box<DynBody>)
}

/// How long the API server asks to be left alone.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const STATUS: &str = r#"{"kind":"Status","code":429,"message":"slow down","details":{"retryAfterSeconds":7}}"#;

    #[rstest]
    #[case::priority_and_fairness(
        429,
        "text/plain",
        Some("3"),
        "Too many requests",
        "Too Many Requests, try again later",
        Some(3)
    )]
    #[case::a_server_that_starts(
        503,
        "text/plain",
        Some("1"),
        "starting",
        "Service Unavailable, try again later",
        Some(1)
    )]
    #[case::a_status_stays(429, "application/json", Some("7"), STATUS, "slow down", Some(7))]
    #[case::no_wait(502, "text/html", None, "<html>", "<html>", None)]
    #[tokio::test]
    async fn an_answer_that_asks_to_wait(
        #[case] code: u16,
        #[case] content_type: &str,
        #[case] wait: Option<&str>,
        #[case] body: &'static str,
        #[case] message: &str,
        #[case] seconds: Option<u64>,
    ) {
        let mut answer = Response::builder().status(code).header(CONTENT_TYPE, content_type);
        if let Some(wait) = wait {
            answer = answer.header(RETRY_AFTER, wait);
        }
        let answer = answer.body(Box::new(Full::from(body).map_err(BoxError::from)) as Box<DynBody>).unwrap();
        let body = with_status(answer).into_body().collect().await.unwrap().to_bytes();
        let status: Option<Status> = serde_json::from_slice(&body).ok();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(status.as_ref().map_or(&*text, |status| &status.message), message);
        assert_eq!(status.as_ref().and_then(retry_after), seconds.map(Duration::from_secs));
    }
}
