//! An API server for tests that says what it is told to.

use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// The bodies of the requests so far, and a client that they come from: each gets the next of these answers, whose `code` is
/// also the code of the response. The last one is repeated.
pub fn api_server(answers: &[Value]) -> (Arc<Mutex<Vec<Value>>>, Client) {
    let asked = Arc::<Mutex<Vec<Value>>>::default();
    let (seen, answers) = (asked.clone(), answers.to_vec());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, answers) = (seen.clone(), answers.clone());
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut seen = seen.lock().unwrap();
            let answer = &answers[seen.len().min(answers.len() - 1)];
            seen.push(serde_json::from_slice(&body).unwrap_or_default());
            let code = u16::try_from(answer["code"].as_u64().unwrap_or(200)).unwrap();
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    (asked, Client::new(service, "default"))
}
