//! A corner of the cluster for one test, and the generator as a child process.

use crate::proxy::Proxy;
use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What no output may contain.
pub const PASSWORD: &str = "hunter2";

/// The generator's binary.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_image-pull-secrets-generator");

/// How long something may take that is waited for: much longer than ever seen, for the machine may be loaded.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The namespaces, names and files of one test.
pub struct Corner {
    pub client: Client,
    pub kubeconfig: PathBuf,
    /// The secret's name, the Lease's, and the start of every namespace's.
    pub name: String,
    pub directory: TempDir,
    namespaces: std::sync::Mutex<Vec<String>>,
}

/// A docker config that differs with `version`.
pub fn docker_config(version: &str) -> String {
    let auth = json!({"username": "acme", "password": format!("{PASSWORD}-{version}")});
    json!({"auths": {"ghcr.io": auth}}).to_string()
}

impl Corner {
    pub async fn new(name: &str) -> Self {
        let kubeconfig = std::env::var("KUBECONFIG_E2E")
            .expect("KUBECONFIG_E2E must name the kubeconfig of a disposable cluster; see e2e-tests/cluster/README.md");
        Self::on(name, kubeconfig.into()).await
    }

    pub async fn on(name: &str, kubeconfig: PathBuf) -> Self {
        let client = client_of(&kubeconfig).await;
        let name = format!("{name}-{:05x}", rand::random::<u32>() & 0xf_ffff);
        let directory = tempfile::tempdir().unwrap();
        let corner = Self { client, kubeconfig, name, directory, namespaces: Default::default() };
        corner.create_namespace("source", json!({})).await;
        corner
    }

    /// A proxy before the API server, and the kubeconfig that leads through it.
    pub async fn proxy(&self) -> (Proxy, PathBuf) {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let url = kubeconfig.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
        let server: SocketAddr = url.trim_start_matches("https://").parse().unwrap();
        let proxy = Proxy::to(server).await;
        // Text for text, because a Kubeconfig does not serialise its secrets.
        let text = fs::read_to_string(&self.kubeconfig).unwrap();
        let path = self.directory.path().join("proxied.kubeconfig");
        fs::write(&path, text.replace(&server.to_string(), &proxy.address.to_string())).unwrap();
        (proxy, path)
    }

    /// Settings with one secret that is copied from this corner's source namespace.
    pub fn settings(&self) -> Value {
        json!({"secrets": [{"name": self.name, "source": {"namespace": self.ns("source")}}]})
    }

    pub fn write_settings(&self, settings: &Value) -> PathBuf {
        let path = self.directory.path().join("settings.json");
        fs::write(&path, settings.to_string()).unwrap();
        path
    }

    pub fn ns(&self, short: &str) -> String {
        format!("{}-{short}", self.name)
    }

    /// Creates a namespace that the generators of this corner select, with its ServiceAccount `default`.
    pub async fn namespace(&self, short: &str) -> String {
        self.create_namespace(short, json!({"corner": self.name})).await
    }

    /// Creates a namespace, and waits until the controller has made its ServiceAccount `default`.
    pub async fn create_namespace(&self, short: &str, labels: Value) -> String {
        let name = self.create_namespace_only(short, labels).await;
        eventually(&format!("there is a ServiceAccount in {name}"), PATIENCE, || async {
            self.accounts(&name).get_opt("default").await.unwrap().is_some()
        })
        .await;
        name
    }

    /// Creates a namespace that the generators of this corner select, and waits for nothing.
    pub async fn namespace_only(&self, short: &str) -> String {
        self.create_namespace_only(short, json!({"corner": self.name})).await
    }

    async fn create_namespace_only(&self, short: &str, labels: Value) -> String {
        let name = self.ns(short);
        let namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        self.namespaces.lock().unwrap().push(name.clone());
        name
    }

    pub async fn namespaces(&self, count: usize) -> Vec<String> {
        join_all((0..count).map(|n| async move { self.namespace(&format!("n{n:04}")).await })).await
    }

    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn accounts(&self, namespace: &str) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn copy(&self, namespace: &str) -> Option<Secret> {
        self.secrets(namespace).get_opt(&self.name).await.unwrap()
    }

    pub async fn content(&self, namespace: &str) -> Option<String> {
        content_of(&self.copy(namespace).await?)
    }

    /// Creates the source, or makes it this.
    pub async fn put_source(&self, version: &str) {
        self.put_secret(&self.ns("source"), "kubernetes.io/dockerconfigjson", &docker_config(version)).await;
    }

    pub async fn put_secret(&self, namespace: &str, secret_type: &str, document: &str) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            type_: Some(secret_type.to_owned()),
            data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(document.into()))])),
            ..Secret::default()
        };
        let api = self.secrets(namespace);
        match api.create(&PostParams::default(), &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&secret)).await.unwrap();
            }
            other => drop(other.unwrap()),
        }
    }

    pub async fn delete_secret(&self, namespace: &str) {
        self.secrets(namespace).delete(&self.name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn patch_secret(&self, namespace: &str, patch: Value) {
        self.secrets(namespace).patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn patch_account(&self, namespace: &str, patch: Value) {
        self.accounts(namespace).patch("default", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn label_namespace(&self, namespace: &str, metadata: Value) {
        let api = Api::<Namespace>::all(self.client.clone());
        api.patch(namespace, &PatchParams::default(), &Patch::Merge(json!({"metadata": metadata}))).await.unwrap();
    }

    /// The names that ServiceAccount `default` refers to.
    pub async fn references(&self, namespace: &str) -> Vec<String> {
        let account = self.accounts(namespace).get_opt("default").await.unwrap();
        account.and_then(|account| account.image_pull_secrets).into_iter().flatten().map(|r| r.name).collect()
    }

    /// Waits until this namespace has a copy with this content, and a reference to it.
    pub async fn settled(&self, namespace: &str, version: &str) {
        let wanted = Some(docker_config(version));
        eventually(&format!("{namespace} has version {version}"), PATIENCE, || async {
            self.content(namespace).await == wanted && self.references(namespace).await.contains(&self.name)
        })
        .await;
    }

    /// Runs the generator with these settings until it is dropped.
    pub fn run(&self, settings: &Value, more: &[&str]) -> Generator {
        let settings = self.write_settings(settings);
        let mut args = vec!["run", "--settings", settings.to_str().unwrap(), "--no-leader-elect"];
        args.extend(more);
        self.start(&args)
    }

    /// The same, and waits until it is ready.
    pub async fn run_ready(&self, settings: &Value, more: &[&str]) -> Generator {
        let generator = self.run(settings, more);
        generator.ready().await;
        generator
    }

    /// Runs a replica, which takes part in the leader election, and waits until it is ready.
    pub async fn lead(&self, settings: &Value) -> Generator {
        let settings = self.write_settings(settings);
        let generator = self.start(&["run", "--settings", settings.to_str().unwrap()]);
        generator.ready().await;
        generator
    }

    /// Runs the generator to its end.
    pub fn finish(&self, args: &[&str]) -> Finished {
        self.start(args).finish()
    }

    /// Runs `run --once`.
    pub fn once(&self, settings: &Value, more: &[&str]) -> Finished {
        let settings = self.write_settings(settings);
        self.finish(&[&["run", "--once", "--settings", settings.to_str().unwrap()], more].concat())
    }

    pub fn start(&self, args: &[&str]) -> Generator {
        self.start_as(args, &self.kubeconfig, &[])
    }

    pub fn start_as(&self, args: &[&str], kubeconfig: &std::path::Path, env: &[(&str, &str)]) -> Generator {
        self.start_by(Command::new(PROGRAM), args, kubeconfig, env)
    }

    /// The same by this command, which becomes the generator with the arguments that it is given.
    pub fn start_by(
        &self,
        mut command: Command,
        args: &[&str],
        kubeconfig: &std::path::Path,
        env: &[(&str, &str)],
    ) -> Generator {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let (log, out) =
            (self.directory.path().join(format!("{number}.log")), self.directory.path().join(format!("{number}.out")));
        command.arg(args[0]);
        if args[0] == "run" {
            command.args(["--listen", &address]);
        }
        if args[0] != "cleanup" {
            command.args(["--namespace-selector", &format!("corner={}", self.name)]);
        }
        command
            .args(["--kubeconfig", kubeconfig.to_str().unwrap()])
            .args(["--log-level", "debug"])
            .args(&args[1..])
            .env("GENERATOR_LEASE_NAME", &self.name)
            .env("GENERATOR_LEASE_NAMESPACE", "default")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&log).unwrap());
        Generator { child: command.spawn().unwrap(), log, out, address }
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let mut names = std::mem::take(&mut *self.namespaces.lock().unwrap());
        let kubeconfig = self.kubeconfig.clone();
        let failed = std::thread::panicking();
        // Not by this test's runtime: it may be ending.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client_of(&kubeconfig).await;
                if failed {
                    join_all(names.iter().map(|name| show(&client, name))).await;
                }
                let api = Api::<Namespace>::all(client);
                join_all(names.iter_mut().map(|name| {
                    let api = api.clone();
                    async move { api.delete(name, &DeleteParams::background()).await }
                }))
                .await;
            });
        });
        let _ = deleting.join();
    }
}

/// Prints what there is in a namespace, credentials apart.
async fn show(client: &Client, namespace: &str) {
    let parameters = ListParams::default();
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace).list(&parameters).await;
    for secret in secrets.into_iter().flatten() {
        let Secret { metadata, type_, immutable, data, .. } = secret;
        let keys: Vec<_> = data.into_iter().flatten().map(|(key, _)| key).collect();
        eprintln!("--- {namespace}: Secret {} {}", json!([type_, immutable, keys]), told(metadata));
    }
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace).list(&parameters).await;
    for account in accounts.into_iter().flatten() {
        eprintln!("--- {namespace}: ServiceAccount {} {}", json!(account.image_pull_secrets), told(account.metadata));
    }
}

fn told(metadata: ObjectMeta) -> Value {
    json!(ObjectMeta { managed_fields: None, ..metadata })
}

pub async fn client_of(kubeconfig: &std::path::Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

pub fn content_of(secret: &Secret) -> Option<String> {
    let ByteString(value) = secret.data.as_ref()?.get(".dockerconfigjson")?;
    String::from_utf8(value.clone()).ok()
}

/// A generator that runs. Killed when it is dropped; its output then must have no credential in it.
pub struct Generator {
    child: Child,
    log: PathBuf,
    out: PathBuf,
    pub address: String,
}

/// A generator that has ended.
pub struct Finished {
    pub status: ExitStatus,
    pub out: String,
    pub log: String,
}

impl Generator {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn terminate(self) -> Finished {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.finish()
    }

    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("the generator does not end:\n{}", self.log()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Finished { status, out: fs::read_to_string(&self.out).unwrap(), log: self.log() }
    }

    pub async fn logs(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), PATIENCE, || async { self.log().contains(text) }).await;
    }

    /// Waits until it answers /readyz with 200.
    pub async fn ready(&self) {
        eventually("the generator is ready", PATIENCE, || async {
            self.get("/readyz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// The value of a metric, with its labels as they are printed.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").await?;
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.and_then(|value| value.parse().ok())
    }

    /// Waits until a metric has this value: what was done is counted a moment after it can be seen.
    pub async fn counts(&self, name: &str, value: f64) {
        eventually(&format!("{name} is {value}"), PATIENCE, || async { self.metric(name).await == Some(value) }).await;
    }

    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.kill();
        let (log, out) = (self.log(), fs::read_to_string(&self.out).unwrap_or_default());
        if std::thread::panicking() {
            eprintln!("--- the generator's log\n{log}--- its output\n{out}");
        } else {
            assert!(!log.contains(PASSWORD) && !out.contains(PASSWORD), "a credential was printed:\n{log}{out}");
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

/// Waits until it is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, limit: Duration, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + limit;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Sees to it that it stays so, for as long as a wrong reaction would take.
pub async fn stays<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        assert!(is_so().await, "no longer so: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
