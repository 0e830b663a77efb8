//! How long N namespaces take, and what they cost: first copy, rotation, and a restart with nothing to do, on the disposable
//! cluster of `$KUBECONFIG_E2E`, beside a plain loop that makes the writes of a rotation over 32 connections in the same run.
//! Then ten secrets, each for a tenth of the namespaces, by label.
//!
//! `$BENCH_NAMESPACES` says how many: `100,1000,5000`. Prints a table in Markdown.

use futures::stream::{self, StreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
const ROTATIONS: usize = 5;
const SOURCE: &str = "bench-source";
/// How many secrets there are where each is for a part of the namespaces.
const PARTS: usize = 10;

#[tokio::main]
async fn main() {
    // cargo passes --bench.
    let kubeconfig = PathBuf::from(std::env::var("KUBECONFIG_E2E").expect("KUBECONFIG_E2E: a disposable cluster"));
    let counts = std::env::var("BENCH_NAMESPACES").unwrap_or_else(|_| "100,1000".to_owned());
    let counts: Vec<usize> =
        counts.split(',').map(|count| count.trim().parse().expect("BENCH_NAMESPACES: numbers")).collect();
    let bench = Bench::new(kubeconfig).await;
    bench.namespace(SOURCE).await;
    println!("| namespaces | | seconds | requests | peak RSS, MiB |\n|---|---|---|---|---|");
    for count in counts {
        bench.run(count).await;
    }
}

struct Bench {
    client: Client,
    kubeconfig: PathBuf,
    directory: tempfile::TempDir,
}

fn docker_config(version: usize) -> String {
    json!({"auths": {"ghcr.io": {"username": "acme", "password": format!("{version:01000}")}}}).to_string()
}

impl Bench {
    async fn new(kubeconfig: PathBuf) -> Self {
        let options = KubeConfigOptions::default();
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig).unwrap(), &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        Self { client, kubeconfig, directory: tempfile::tempdir().unwrap() }
    }

    async fn run(&self, count: usize) {
        let namespaces: Vec<String> = (0..count).map(|n| format!("bench-n{n:05}")).collect();
        stream::iter(&namespaces).for_each_concurrent(CONNECTIONS, |name| self.namespace(name)).await;
        let accounts = Api::<ServiceAccount>::all(self.client.clone());
        loop {
            let there = accounts.list_metadata(&Default::default()).await.unwrap().items;
            let ours =
                there.iter().filter(|a| a.metadata.namespace.as_ref().is_some_and(|ns| ns.starts_with("bench-n")));
            if ours.count() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let secret = format!("bench-{count}-{:05x}", rand::random::<u32>() & 0xf_ffff);
        self.put(SOURCE, &secret, 0).await;
        let settings = self.directory.path().join("settings.json");
        let document = json!({
            "secrets": [{"name": secret, "source": {"namespace": SOURCE}}],
        });
        fs::write(&settings, document.to_string()).unwrap();

        let (mut before, start) = (self.requests().await, Instant::now());
        let generator = Generator::start(&self.kubeconfig, &settings);
        while generator.written("patch", "serviceaccounts").await < count as f64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.row(count, "first copy and reference", start.elapsed(), &mut before, Some(&generator)).await;

        // The yardstick writes what a rotation writes, to Secrets of another name.
        let plain = format!("{secret}-plain");
        stream::iter(&namespaces).for_each_concurrent(CONNECTIONS, |name| self.put(name, &plain, 0)).await;
        let (mut rotations, mut loops) = (Vec::new(), Vec::new());
        for version in 1..=ROTATIONS {
            let patched = generator.written("patch", "secrets").await;
            before = self.requests().await;
            let start = Instant::now();
            self.put(SOURCE, &secret, version).await;
            while generator.written("patch", "secrets").await < patched + count as f64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            rotations.push(start.elapsed());
            if version == 1 {
                self.row(count, "rotation", rotations[0], &mut before, Some(&generator)).await;
            }
            let start = Instant::now();
            stream::iter(&namespaces).for_each_concurrent(CONNECTIONS, |name| self.patch(name, &plain, version)).await;
            loops.push(start.elapsed());
        }
        rotations.sort();
        loops.sort();
        let (rotation, plain_loop) = (rotations[ROTATIONS / 2], loops[ROTATIONS / 2]);
        println!("| {count} | rotation, median of {ROTATIONS} | {:.2} | | |", rotation.as_secs_f64());
        println!("| {count} | plain loop, median of {ROTATIONS} | {:.2} | | |", plain_loop.as_secs_f64());
        println!("| {count} | rotation ÷ plain loop | {:.2} | | |", rotation.as_secs_f64() / plain_loop.as_secs_f64());
        generator.stop();

        let (mut before, start) = (self.requests().await, Instant::now());
        let mut generator = Generator::start(&self.kubeconfig, &settings);
        generator.in_sync(&secret, count).await;
        self.row(count, "restart with nothing to do", start.elapsed(), &mut before, Some(&generator)).await;
        generator.stop();
        self.parts(count, &settings).await;
    }

    /// Ten secrets, each for a tenth of the namespaces: as many copies and references as with one.
    async fn parts(&self, count: usize, settings: &Path) {
        let name = |part: usize| format!("bench-{count}-part-{part}-{:05x}", std::process::id());
        let secret = |part: usize| {
            let selector = json!({"matchLabels": {"part": part.to_string()}});
            json!({"name": name(part), "source": {"namespace": SOURCE}, "namespaceSelector": selector})
        };
        stream::iter(0..PARTS)
            .for_each_concurrent(CONNECTIONS, |part| async move { self.put(SOURCE, &name(part), 0).await })
            .await;
        self.clean_up(settings);
        let document = json!({"secrets": (0..PARTS).map(secret).collect::<Vec<_>>()});
        fs::write(settings, document.to_string()).unwrap();

        let (mut before, start) = (self.requests().await, Instant::now());
        let generator = Generator::start(&self.kubeconfig, settings);
        while generator.written("patch", "serviceaccounts").await < count as f64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let what = format!("{PARTS} secrets, each for a part: first copy and reference");
        self.row(count, &what, start.elapsed(), &mut before, Some(&generator)).await;

        let patched = generator.written("patch", "secrets").await;
        let start = Instant::now();
        stream::iter(0..PARTS)
            .for_each_concurrent(CONNECTIONS, |part| async move { self.put(SOURCE, &name(part), 1).await })
            .await;
        while generator.written("patch", "secrets").await < patched + count as f64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let what = format!("{PARTS} secrets, each for a part: rotation of all");
        self.row(count, &what, start.elapsed(), &mut before, Some(&generator)).await;
        generator.stop();
        self.clean_up(settings);
    }

    /// Removes what was made, which would otherwise be removed in the next measurement.
    fn clean_up(&self, settings: &Path) {
        let status = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-generator"))
            .args(["cleanup", "--yes", "--lease-namespace", SOURCE, "--kubeconfig"])
            .arg(&self.kubeconfig)
            .arg("--settings")
            .arg(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    async fn row(
        &self,
        count: usize,
        what: &str,
        took: Duration,
        before: &mut BTreeMap<String, f64>,
        generator: Option<&Generator>,
    ) {
        // The API server counts a request when it has answered.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = self.requests().await;
        let grown = now.iter().filter_map(|(what, n)| {
            let grown = n - before.get(what).unwrap_or(&0.0);
            (grown > 0.0).then(|| format!("{what} {grown}"))
        });
        let requests = grown.collect::<Vec<_>>().join(", ");
        let memory = generator.map(|generator| format!("{:.1}", generator.peak_mebibytes())).unwrap_or_default();
        println!("| {count} | {what} | {:.2} | {requests} | {memory} |", took.as_secs_f64());
        *before = now;
    }

    /// Requests so far, by verb and resource, as the API server counts them. Its own controllers are in it too.
    async fn requests(&self) -> BTreeMap<String, f64> {
        let request = hyper::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.client.request_text(request).await.unwrap();
        let mut requests = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let Some((labels, value)) = line.split_once("} ") else { continue };
            let label = |name: &str| {
                labels.split(',').find_map(|l| l.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
            };
            let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
            if matches!(resource, "secrets" | "serviceaccounts" | "namespaces") && verb != "WATCH" {
                *requests.entry(format!("{verb} {resource}")).or_default() += value.parse::<f64>().unwrap();
            }
        }
        requests
    }

    async fn namespace(&self, name: &str) {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        // The last digit of its number says which part it is of.
        let labels = (name != SOURCE).then(|| [label("bench", "yes"), label("part", &name[name.len() - 1..])].into());
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        match Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other.unwrap()),
        }
    }

    async fn put(&self, namespace: &str, name: &str, version: usize) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            data: Some(data(version)),
            ..Secret::default()
        };
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => self.patch(namespace, name, version).await,
            other => drop(other.unwrap()),
        }
    }

    async fn patch(&self, namespace: &str, name: &str, version: usize) {
        let operations: Value = json!([{"op": "add", "path": "/data", "value": data(version)}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

fn data(version: usize) -> BTreeMap<String, ByteString> {
    BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(docker_config(version).into_bytes()))])
}

struct Generator {
    child: Child,
    address: String,
}

impl Generator {
    fn start(kubeconfig: &Path, settings: &Path) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_image-pull-secrets-generator"))
            .args(["run", "--no-leader-elect", "--listen", &address, "--kubeconfig"])
            .arg(kubeconfig)
            .arg("--settings")
            .arg(settings)
            .args(["--lease-namespace", SOURCE, "--namespace-selector", "bench=yes"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    async fn in_sync(&mut self, secret: &str, count: usize) {
        let metric = format!("image_pull_secrets_copies{{secret=\"{secret}\",state=\"in-sync\"}}");
        while self.metric(&metric).await != Some(count as f64) {
            assert!(self.child.try_wait().unwrap().is_none(), "the generator ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn written(&self, verb: &str, resource: &str) -> f64 {
        let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"2xx\"");
        self.metric(&format!("image_pull_secrets_requests_total{{{labels}}}")).await.unwrap_or_default()
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    fn peak_mebibytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.and_then(|peak| peak.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }

    fn stop(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
