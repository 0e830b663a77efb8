//! The connection to the API server.

use anyhow::{Context as _, Result};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::header::RETRY_AFTER;
use kube::client::{ClientBuilder, DynBody};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tower::BoxError;
use tower::util::AndThenLayer;

/// How long it may take to connect, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait that an answer may ask for. The API server asks for some seconds. A load balancer in front of it may
/// ask for an hour, and a watch would report nothing for that long.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How many characters are reported of an answer that is not a Status.
const LONGEST_TEXT: usize = 200;

/// How long a connection may be silent. This is more than [`crate::cluster::watch::QUIET_SECONDS`], after which a watch
/// ends by itself.
const READ_TIMEOUT: Duration = Duration::from_secs(55);

/// The configuration from this kubeconfig file and context, or the one that kubectl would use.
///
/// # Errors
/// There is none, or it cannot be read.
pub(crate) async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    match (kubeconfig, context) {
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

/// Makes a client. It does not retry by itself, because the caller knows what else to do in the meantime. It gives up a
/// connection that has been silent for too long.
///
/// # Errors
/// The certificates or credentials of the configuration are unusable.
pub(crate) fn client(mut config: Config) -> Result<Client> {
    config.default_retry = false;
    if is_of_environment(config.proxy_url.as_ref().map(ToString::to_string).as_deref()) {
        config.proxy_url = None;
    }
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let builder = ClientBuilder::try_from(config).context("cannot make a client of the kubeconfig")?;
    Ok(builder.with_layer(&AndThenLayer::new(refused)).build())
}

/// Whether this proxy comes from the environment and not from the kubeconfig. kube would use it for every address, even for
/// those in `NO_PROXY`. Here it is used only for registries.
fn is_of_environment(proxy: Option<&str>) -> bool {
    let same = |name| {
        std::env::var(name)
            .is_ok_and(|value| Some(value.trim_end_matches('/')) == proxy.map(|p| p.trim_end_matches('/')))
    };
    ["HTTPS_PROXY", "https_proxy"].into_iter().any(same)
}

/// Turns a refusal into kube's error. kube does this by itself, but not well enough:
/// - for a watch, it reads the answer line by line, and a Status may have several lines;
/// - it drops the `Retry-After` of an answer that is not a Status, such as those of API Priority and Fairness. (client-go
///   uses it.)
async fn refused(answer: Response<Box<DynBody>>) -> Result<Response<Box<DynBody>>, BoxError> {
    let code = answer.status();
    if !code.is_client_error() && !code.is_server_error() {
        return Ok(answer);
    }
    let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse::<u32>().ok());
    let body = answer.into_body().collect().await?.to_bytes();
    let status = match serde_json::from_slice::<Status>(&body) {
        Ok(status) => status,
        Err(_) => {
            // It may be an HTML page of a proxy.
            let text: String = String::from_utf8_lossy(&body).trim().chars().take(LONGEST_TEXT).collect();
            let details = json!({"retryAfterSeconds": wait.unwrap_or_default()});
            let reason = code.canonical_reason().unwrap_or_default();
            serde_json::from_value(
                json!({"code": code.as_u16(), "message": text, "reason": reason, "details": details}),
            )?
        }
    };
    Err(Box::new(kube::Error::Api(status.boxed())))
}

/// How long the API server asks the client to wait, at most [`LONGEST_RETRY_AFTER`].
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use rstest::rstest;

    const STATUS: &str = r#"{
        "kind": "Status", "code": 429, "message": "slow down", "details": {"retryAfterSeconds": 7}
    }"#;

    fn answer(code: u16, wait: Option<&str>, body: &'static str) -> Response<Box<DynBody>> {
        let mut answer = Response::builder().status(code);
        if let Some(wait) = wait {
            answer = answer.header(RETRY_AFTER, wait);
        }
        answer.body(Box::new(Full::from(body).map_err(BoxError::from)) as Box<DynBody>).unwrap()
    }

    #[rstest]
    #[case::priority_and_fairness(429, Some("3"), "Too many requests.\n", "Too many requests.", Some(3))]
    #[case::a_status(429, Some("7"), STATUS, "slow down", Some(7))]
    #[case::a_load_balancer_that_asks_for_an_hour(503, Some("3600"), "<html>", "<html>", Some(60))]
    #[case::something_in_between(502, None, "<html>", "<html>", None)]
    #[case::a_date_to_wait_for(503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), "starting", "starting", None)]
    #[tokio::test]
    async fn an_answer_that_refuses(
        #[case] code: u16,
        #[case] wait: Option<&str>,
        #[case] body: &'static str,
        #[case] message: &str,
        #[case] seconds: Option<u64>,
    ) {
        let error = refused(answer(code, wait, body)).await.err().unwrap();
        let Ok(kube::Error::Api(status)) = error.downcast::<kube::Error>().map(|error| *error) else { panic!() };
        assert_eq!((status.code, &*status.message), (code, message));
        assert_eq!(retry_after(&status), seconds.map(Duration::from_secs));
    }

    #[tokio::test]
    async fn an_answer_that_grants_is_not_touched() {
        let body = refused(answer(200, None, "{}")).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
    }
}
