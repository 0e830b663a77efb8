//! A fake API server for tests that would take too long with a real one, or that need rare answers. All other tests use a
//! real one: `tests/cluster`.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// A client of an API server that gives these answers: `answer` makes a status code and a document from a request's method
/// and document.
pub(crate) fn client<F: Future<Output = (u16, Value)> + Send + 'static>(
    answer: impl Fn(Method, Value) -> F + Send + Sync + 'static,
) -> Client {
    client_by_path(move |method, _, document| answer(method, document))
}

/// The same, but the answer also depends on the request's path.
pub(crate) fn client_by_path<F: Future<Output = (u16, Value)> + Send + 'static>(
    answer: impl Fn(Method, String, Value) -> F + Send + Sync + 'static,
) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let document = serde_json::from_slice(&body).unwrap_or_default();
            let (code, document) = answer(head.method, head.uri.path().to_owned(), document).await;
            let document = Full::from(Bytes::from(document.to_string()));
            Ok::<_, Infallible>(Response::builder().status(code).body(document).unwrap())
        }
    });
    Client::new(service, "default")
}

/// The document that a real API server sends when it refuses.
pub(crate) fn refusal(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason}))
}

/// A client of an API server that gives these answers one after the other, and the documents of the requests so far. The
/// last answer is repeated. The `code` of an answer is also its status code.
pub(crate) fn answering(answers: &[Value]) -> (Arc<Mutex<Vec<Value>>>, Client) {
    let asked = Arc::<Mutex<Vec<Value>>>::default();
    let (seen, answers) = (asked.clone(), answers.to_vec());
    let client = client(move |_, document| {
        let mut seen = seen.lock().unwrap();
        let answer = answers[seen.len().min(answers.len() - 1)].clone();
        seen.push(document);
        let code = u16::try_from(answer["code"].as_u64().unwrap_or(200)).unwrap();
        async move { (code, answer) }
    });
    (asked, client)
}

/// The log lines of this thread, from now on until this is dropped.
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }
}

/// Begins to keep what is logged.
pub(crate) fn log() -> Log {
    struct Writer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::<Mutex<Vec<u8>>>::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Writer(writer.clone())).finish();
    Log { lines, _guard: tracing::subscriber::set_default(subscriber) }
}
