//! The cluster's registry and its Nodes: which credentials a host accepts, and what each kubelet tried to pull with them.
//!
//! The registry's record is what the tests go by. A Pod's status says the same a second or two later.

use crate::harness::{Answer, PASSWORD, Stage, eventually_within, nodes, send};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use crate::harness::PATIENCE;

/// A registry that asks for credentials, under a host name of its own.
pub struct Registry {
    client: Client,
    /// As in the names of images.
    pub host: String,
    pushed: Mutex<Vec<String>>,
}

/// One attempt of a kubelet to pull an image.
#[derive(Clone, Debug, Deserialize)]
pub struct Pull {
    pub node: String,
    pub pod: String,
    pub image: String,
    /// Whose credential it was; empty for none.
    pub user: String,
    /// `pulled`, or why not.
    pub outcome: String,
    at: Time,
}

impl Pull {
    pub fn succeeded(&self) -> bool {
        self.outcome == "pulled"
    }

    /// How long after this moment it was.
    pub fn since(&self, start: Timestamp) -> Duration {
        self.at.0.duration_since(start).unsigned_abs()
    }
}

/// What a host accepts: HTTP Basic credentials of these users.
pub fn basic(accounts: Value) -> Value {
    json!({"auth": "basic", "accounts": accounts})
}

/// What a host accepts: tokens, which it hands out for credentials of these users, as the public registries do.
pub fn bearer(accounts: Value) -> Value {
    json!({"auth": "bearer", "accounts": accounts})
}

/// The password of this version.
pub fn password(version: &str) -> String {
    format!("{PASSWORD}-{version}")
}

/// The docker config of one user of one server.
pub fn docker_config(server: &str, user: &str, password: &str) -> String {
    json!({"auths": {server: {"username": user, "password": password}}}).to_string()
}

impl Registry {
    /// A host that no other test uses.
    pub async fn new(accepts: Value) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("r{:x}-{number}.example.com", std::process::id()), accepts).await
    }

    pub async fn named(host: &str, accepts: Value) -> Self {
        let registry = Self { client: client(), host: host.to_owned(), pushed: Mutex::default() };
        registry.accept(accepts).await;
        registry
    }

    /// From now on it accepts this, and nothing else.
    pub async fn accept(&self, accepts: Value) {
        self.send("PUT", &format!("/hosts/{}", self.host), accepts).await;
    }

    /// Makes an image, and gives its name.
    pub async fn push(&self, repository: &str) -> String {
        let image = format!("{}/{repository}:1", self.host);
        self.send("POST", "/images", json!({"image": image})).await;
        self.pushed.lock().unwrap().push(image.clone());
        image
    }

    /// All attempts to pull an image so far, the first one first.
    pub async fn pulls(&self, image: &str) -> Vec<Pull> {
        self.pulls_by(&format!("prefix={image}")).await
    }

    /// All attempts to pull anything from here so far.
    pub async fn record(&self) -> Vec<Pull> {
        self.pulls_by(&format!("prefix={}/", self.host)).await
    }

    async fn pulls_by(&self, query: &str) -> Vec<Pull> {
        pulls_by(&self.client, query).await
    }

    /// Waits until a kubelet has tried to pull the image, and gives all attempts.
    pub async fn attempted(&self, image: &str) -> Vec<Pull> {
        eventually_within(PATIENCE, &format!("{image} is asked for"), || async { !self.pulls(image).await.is_empty() })
            .await;
        self.pulls(image).await
    }

    /// Waits until the image was pulled, and gives all attempts.
    pub async fn pulled(&self, image: &str) -> Vec<Pull> {
        eventually_within(PATIENCE, &format!("{image} is pulled"), || async {
            self.pulls(image).await.iter().any(Pull::succeeded)
        })
        .await;
        self.pulls(image).await
    }

    /// Waits until attempts with this user's credential (or without any, if it is empty) were refused that often, and gives all
    /// of them. None has succeeded.
    pub async fn refused(&self, image: &str, user: &str, times: usize) -> Vec<Pull> {
        eventually_within(PATIENCE, &format!("{image} is refused to {user:?}, {times} times"), || async {
            let pulls = self.pulls(image).await;
            pulls.iter().filter(|pull| pull.outcome == "refused" && pull.user == user).count() >= times
        })
        .await;
        let pulls = self.pulls(image).await;
        assert!(!pulls.iter().any(Pull::succeeded), "{pulls:?}");
        pulls
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        send(&self.client, method, path, "application/json", body).await.unwrap().ok()
    }
}

/// All attempts of the Pods in a namespace so far, whatever registry they pull from, the first one first.
pub async fn pulls_in(namespace: &str) -> Vec<Pull> {
    pulls_by(&client(), &format!("namespace={namespace}")).await
}

async fn pulls_by(client: &Client, query: &str) -> Vec<Pull> {
    let path = format!("/pulls?{query}");
    let answer = send(client, "GET", &path, "application/json", Value::Null).await.unwrap().ok();
    assert!(!answer.body.to_string().contains(PASSWORD), "a credential was told: {}", answer.body);
    serde_json::from_value(answer.body).unwrap()
}

fn client() -> Client {
    Client::try_from(Config::new(nodes().registry.parse().unwrap())).unwrap()
}

/// A test that fails shows what was pulled.
impl Drop for Registry {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let images = std::mem::take(&mut *self.pushed.lock().unwrap());
        // Not by this test's runtime: it may be ending.
        let showing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = client();
                for image in images {
                    let path = format!("/pulls?prefix={image}");
                    let Ok(answer) = send(&client, "GET", &path, "application/json", Value::Null).await else { return };
                    for pull in answer.body.as_array().into_iter().flatten() {
                        eprintln!("--- {pull}");
                    }
                }
            });
        });
        let _ = showing.join();
    }
}

/// A Node of the cluster, each time the next one.
pub fn node() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let names = &nodes().names;
    names[NEXT.fetch_add(1, Ordering::Relaxed) % names.len()].clone()
}

/// A Pod of one container with this image, for the cluster's scheduler.
pub fn pod_of(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"schedulerName": "test-cluster", "containers": [{"name": "app", "image": image}]},
    })
}

/// The same on this Node.
pub fn pod_on(node: &str, name: &str, image: &str) -> Value {
    let mut pod = pod_of(name, image);
    pod["spec"]["nodeName"] = json!(node);
    pod
}

/// A Deployment of one Pod with this image.
pub fn deployment(namespace: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_of("", image)["spec"]},
        },
    })
}

/// `kubectl apply` of all of this, in one go.
pub fn kubectl_apply(stage: &Stage, objects: &[Value]) {
    let mut child = Command::new("kubectl")
        .args(["apply", "--filename", "-", "--kubeconfig"])
        .arg(&stage.kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("kubectl: {error}. It has to be in the PATH"));
    let manifests: Vec<_> = objects.iter().map(|object| yaml_serde::to_string(object).unwrap()).collect();
    child.stdin.take().unwrap().write_all(manifests.join("---\n").as_bytes()).unwrap();
    let output = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains(PASSWORD), "a credential was told: {said}");
    assert!(output.status.success(), "kubectl apply: {said}");
}

/// The Pods of a namespace.
pub async fn pods_in(stage: &Stage, namespace: &str) -> Vec<Value> {
    let answer = stage.get(&format!("/api/v1/namespaces/{namespace}/pods")).await.ok();
    answer.body["items"].as_array().unwrap().clone()
}

/// Why the containers of a Pod, of any sort, are waiting: reason and message.
pub fn waiting(pod: &Value) -> Vec<(&str, &str)> {
    let kinds = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let statuses = kinds.iter().flat_map(|kind| pod["status"][kind].as_array().into_iter().flatten());
    statuses
        .map(|status| &status["state"]["waiting"])
        .filter_map(|waiting| Some((waiting["reason"].as_str()?, waiting["message"].as_str().unwrap_or_default())))
        .collect()
}

/// Whether the kubelet reports that a container of the Pod cannot have its image.
pub fn cannot_pull(pod: &Value) -> bool {
    waiting(pod).iter().any(|(reason, _)| ["ErrImagePull", "ImagePullBackOff"].contains(reason))
}

/// Waits until the kubelet reports that a container of the only Pod in the namespace cannot have its image, and gives the Pod.
pub async fn stuck(stage: &Stage, namespace: &str) -> Value {
    eventually_within(PATIENCE, &format!("the Pod in {namespace} cannot pull"), || async {
        matches!(&pods_in(stage, namespace).await[..], [pod] if cannot_pull(pod))
    })
    .await;
    pods_in(stage, namespace).await.remove(0)
}

/// Waits until every container of this Pod runs.
pub async fn runs(stage: &Stage, path: &str) {
    eventually_within(PATIENCE, &format!("{path} runs"), || async {
        let pod = stage.get(path).await.ok().body;
        pod["status"]["phase"] == "Running" && waiting(&pod).is_empty()
    })
    .await;
}

/// Prints a figure, past the test runner, which shows the output only of tests that fail.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}
