//! `/healthz`, `/readyz` and `/metrics`.

use crate::telemetry::metrics::Metrics;
use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// What the endpoints report.
#[derive(Clone, Default)]
pub(crate) struct Health {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this replica is ready. The leader is ready after it has listed everything and tried each namespace once. A
    /// standby is ready after it has seen that another replica leads.
    pub ready: Arc<AtomicBool>,
}

impl Health {
    /// Notes that this replica is ready.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, content_type, body) = match request.uri().path() {
            // An answer is enough, because everything runs on the thread that serves it.
            "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/readyz" => {
                let why = "not everything has been listed, and tried once, yet\n";
                (StatusCode::SERVICE_UNAVAILABLE, "text/plain", why.to_owned())
            }
            "/metrics" => {
                (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", self.metrics.print())
            }
            _ => (StatusCode::NOT_FOUND, "text/plain", "there are /healthz, /readyz and /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
        response
    }
}

/// Listens at this address. `[::]` includes all addresses of IPv4 (`net.ipv6.bindv6only` is 0 in a Pod unless it is
/// changed). If there is no IPv6, it stands for `0.0.0.0`.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        listener => listener,
    }
}

/// Whether this error means that the kernel has no IPv6: it does not know such sockets (`EAFNOSUPPORT`) or such addresses.
/// An address that is in use or forbidden is another error.
fn has_no_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Serves the endpoints, in the background.
///
/// # Errors
/// The address is in use.
pub(crate) async fn serve(address: SocketAddr, health: Health) -> Result<()> {
    let listener = listen(address).await.with_context(|| format!("cannot listen at {address}"))?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let health = health.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let response = health.answer(&request);
                    async { Ok::<_, Infallible>(response) }
                });
                // A client that disconnects is not an error of ours.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(hyper_util::rt::TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn all_addresses_of_ipv6_include_those_of_ipv4() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        // Only if this machine has IPv6.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told() {
        let taken = listen("[::]:0".parse().unwrap()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = serve(address, Health::default()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen at {address}"));
    }

    #[rstest]
    #[case::no_such_sockets(97, true)]
    #[case::no_such_addresses(99, true)]
    #[case::taken(98, false)]
    #[case::not_allowed(13, false)]
    fn errno_of_linux(#[case] errno: i32, #[case] expected: bool) {
        assert_eq!(has_no_ipv6(&io::Error::from_raw_os_error(errno)), expected);
    }
}
