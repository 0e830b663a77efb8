//! What the generator needs in memory where its source is as large as a Secret may be: the limit of its Pod in the chart is
//! 128 MiB. The API server is a small one of our own, which has as many such copies as a test wants.
#![cfg(target_os = "linux")]

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "creds";

/// The limit of the Pod, and what is left of it for what a kernel counts besides.
const LIMIT: usize = 128 - 8;

fn namespaces() -> usize {
    std::env::var("MEMORY_NAMESPACES").ok().and_then(|count| count.parse().ok()).unwrap_or(64)
}

/// A Secret of nearly 1 MiB, as text.
fn secret(namespace: &str, filling: char) -> String {
    let password = String::from(filling).repeat(1_040_000);
    let config = json!({"auths": {"ghcr.io": {"username": "acme", "password": password}}}).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": SECRET, "namespace": namespace, "uid": "u", "resourceVersion": "7",
            "labels": {"app.kubernetes.io/managed-by": "image-pull-secrets-generator"},
            "annotations": {"image-pull-secrets.kubewarden.io/source": format!("source/{SECRET}")},
        },
        "data": {".dockerconfigjson": ByteString(config.into_bytes())},
    })
    .to_string()
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn answer(code: u16, body: String) -> Answer {
    Response::builder().status(code).body(Full::from(body).boxed()).unwrap()
}

fn list(items: &[String], next: Option<usize>) -> Answer {
    let next = next.map(|next| next.to_string()).unwrap_or_default();
    let metadata = json!({"resourceVersion": "7", "continue": next});
    answer(200, format!("{{\"metadata\": {metadata}, \"items\": [{}]}}", items.join(",")))
}

/// Where every copy is outdated, until it is written to.
async fn serve(request: Request<Incoming>, outdated: Arc<String>, current: Arc<String>) -> Answer {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let query = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let namespace = uri.path().split('/').nth(4).unwrap_or_default();
    let of = |secret: &str, namespace: &str| secret.replace("NAMESPACE", namespace);
    match (method, uri.path()) {
        (Method::GET, _) if query("watch").is_some() => {
            // Nothing ever happens.
            let nothing = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Response::new(StreamBody::new(nothing).boxed())
        }
        (Method::GET, "/api/v1/namespaces") => {
            let items: Vec<_> =
                (0..namespaces()).map(|n| json!({"metadata": {"name": format!("n{n}")}}).to_string()).collect();
            list(&items, None)
        }
        (Method::GET, "/api/v1/secrets") => {
            let number = |name: &str| query(name).and_then(|number| number.parse::<usize>().ok());
            let from = number("continue").unwrap_or_default();
            let to = number("limit").map_or(usize::MAX, |limit| from + limit).min(namespaces());
            let items: Vec<_> = (from..to).map(|n| of(&outdated, &format!("n{n}"))).collect();
            list(&items, (to < namespaces()).then_some(to))
        }
        (Method::GET, "/api/v1/namespaces/source/secrets") => list(&[of(&current, "source")], None),
        (Method::PATCH, path) if path.ends_with(SECRET) => answer(200, of(&current, namespace)),
        (Method::POST, _) => answer(201, String::from_utf8(body.to_vec()).unwrap()),
        // There is no Lease yet.
        _ => answer(404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "none"}).to_string()),
    }
}

async fn start_api_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (outdated, current) = (Arc::new(secret("NAMESPACE", 'o')), Arc::new(secret("NAMESPACE", 'c')));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (outdated, current) = (outdated.clone(), current.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = serve(request, outdated.clone(), current.clone());
                    async { Ok::<_, Infallible>(answer.await) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

struct Generator(Child);

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn metrics(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// The most that a process ever had in memory, in MiB.
fn peak(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_a_mebibyte_and_its_copies_fit_into_the_pod() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, document: Value| {
        let path = directory.path().join(name);
        fs::write(&path, document.to_string()).unwrap();
        path
    };
    let server = format!("http://{}", start_api_server().await);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let settings = json!({"secrets": [{"name": SECRET, "source": {"namespace": "source"}}], "serviceAccounts": []});
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = directory.path().join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-generator"))
        .args(["run", "--no-leader-elect", "--listen", &listen.to_string()])
        .args(["--settings".as_ref(), file("settings.json", settings).as_os_str()])
        .args(["--kubeconfig".as_ref(), file("kubeconfig.json", kubeconfig).as_os_str()])
        .stdin(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let generator = Generator(child);
    let (start, count) = (Instant::now(), namespaces());
    let in_sync = format!("image_pull_secrets_copies{{secret=\"{SECRET}\",state=\"in-sync\"}} {count}\n");
    while !metrics(listen).await.is_some_and(|printed| printed.contains(&in_sync)) {
        let patience = Duration::from_secs(10) * u32::try_from(count).unwrap();
        assert!(start.elapsed() < patience, "{}", fs::read_to_string(&log).unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let peak = peak(generator.0.id());
    eprintln!("{count} copies of 1 MiB, listed and written: {peak} MiB at most, within {:?}", start.elapsed());
    assert!(peak < LIMIT, "{peak} MiB");
    let updated = fs::read_to_string(&log).unwrap().matches("update Secret").count();
    assert_eq!(updated, count);
}
