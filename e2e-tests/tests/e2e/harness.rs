//! A stage for one test: namespaces, the webhook with its rights, and a client that shows what a user would see.

use anyhow::Context as _;
use image_pull_secrets_e2e::cluster::live::Live;
use image_pull_secrets_e2e::control_plane::{ControlPlane, Nodes};
use image_pull_secrets_e2e::webhook::{Policy, Webhook};
use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Evaluation, Host, Verdict, modules};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// The password, which no output may contain.
pub const PASSWORD: &str = "hunter2";

/// The type of such Secrets.
pub const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";

/// Where webhooks are registered.
pub const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// How long a test waits for something. This is much longer than it ever took, because the machine may be loaded and a
/// kubelet pauses after each failed pull.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What the API server answers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub warnings: Vec<String>,
    pub body: Value,
}

impl Answer {
    /// The names in the object's `imagePullSecrets`, in order.
    pub fn listed(&self) -> Vec<&str> {
        listed(&self.body)
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }
}

pub fn listed(object: &Value) -> Vec<&str> {
    let list = object.get("spec").unwrap_or(object)["imagePullSecrets"].as_array();
    list.into_iter().flatten().map(|entry| entry["name"].as_str().unwrap()).collect()
}

/// A request to the policy, and the result.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: String,
    pub kind: String,
    pub sub_resource: Option<String>,
    pub verdict: Verdict,
    pub host_calls: usize,
    /// Everything that it wrote: the response and the log.
    pub said: String,
}

pub struct Stage {
    pub client: Client,
    pub kubeconfig: PathBuf,
    /// The prefix of every name on this stage.
    pub id: String,
    /// A namespace that the webhook is asked about.
    pub namespace: String,
    settings: Value,
    rights: Vec<String>,
    webhook: Option<Webhook>,
    asked: Arc<Mutex<Vec<Asked>>>,
    objects: Mutex<Vec<String>>,
    others: Mutex<Vec<Stage>>,
}

/// How the webhook is registered.
#[derive(Default)]
pub struct Registration {
    /// `Fail` unless it is `Ignore`.
    pub ignore_failures: bool,
    /// Whether it is registered for every operation on Pods, ServiceAccounts and their sub-resources, and not only for
    /// those that the policy needs.
    pub everything: bool,
    /// The prefix of the configuration's name. The API server calls webhooks in the order of these names.
    pub prefix: &'static str,
}

impl Stage {
    /// A stage with its webhook at work. The webhook may read the Secrets of the settings, and no others.
    pub async fn new(settings: Value) -> Self {
        let mut stage = Self::empty(settings).await;
        stage.register(Registration::default()).await;
        stage
    }

    /// A stage whose webhook is not registered yet.
    pub async fn empty(settings: Value) -> Self {
        Self::on(&shared_cluster(), settings).await
    }

    pub async fn on(kubeconfig: &Path, settings: Value) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("e{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let named =
            settings["secrets"].as_array().unwrap().iter().map(|secret| secret["name"].as_str().unwrap().to_owned());
        let rights = named.collect();
        let mut stage = Self {
            client: Client::try_from(config(kubeconfig).await).unwrap(),
            kubeconfig: kubeconfig.to_owned(),
            namespace: format!("{id}-shop"),
            id,
            settings,
            rights,
            webhook: None,
            asked: Arc::default(),
            objects: Mutex::default(),
            others: Mutex::default(),
        };
        stage.namespace = stage.create_namespace("shop").await;
        stage
    }

    /// Grants the policy to read other Secrets than those of its settings.
    pub fn rights(&mut self, names: &[&str]) {
        self.rights = names.iter().map(|&name| name.to_owned()).collect();
    }

    /// Creates a namespace of this stage, and waits for its ServiceAccount `default`.
    pub async fn create_namespace(&self, short: &str) -> String {
        let name = format!("{}-{short}", self.id);
        self.create_namespace_only(&name).await;
        self.has_account(&name).await;
        name
    }

    /// Waits until a namespace has its ServiceAccount `default`.
    pub async fn has_account(&self, namespace: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        eventually("the ServiceAccount default", || async { self.get(&path).await.status == 200 }).await;
    }

    pub async fn create_namespace_only(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name, "labels": {"stage": self.id}}});
        self.create("/api/v1/namespaces", namespace).await.ok();
    }

    /// Creates an object that is removed with the stage.
    pub async fn create(&self, path: &str, object: Value) -> Answer {
        let answer = self.post(path, object).await;
        if let Some(name) = answer.body["metadata"]["name"].as_str() {
            self.objects.lock().unwrap().push(format!("{path}/{name}"));
        }
        answer
    }

    /// Gives a Namespace object for the test to create. The namespace is removed with the stage.
    pub fn namespace_object(&self, short: &str) -> Value {
        let name = format!("{}-{short}", self.id);
        self.objects.lock().unwrap().push(format!("/api/v1/namespaces/{name}"));
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"stage": self.id}},
        })
    }

    /// A client of the policy-server's ServiceAccount, with the rights that are shipped.
    pub async fn policy_server(&self) -> Client {
        self.client_of(self.policy_server_token().await).await
    }

    /// A client that uses this token.
    pub async fn client_of(&self, token: String) -> Client {
        let mut config = config(&self.kubeconfig).await;
        config.auth_info = Default::default();
        config.auth_info.token = Some(token.into());
        Client::try_from(config).unwrap()
    }

    /// Creates that ServiceAccount and gives a token of it.
    pub async fn policy_server_token(&self) -> String {
        let namespace = self.create_namespace("kubewarden").await;
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.post(&accounts, json!({"metadata": {"name": "policy-server"}})).await.ok();
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let mut secrets = self.settings["secrets"].as_array().unwrap().iter();
        let reads_namespaces = self.settings["exclude"]["annotation"].is_string()
            || secrets.any(|secret| secret["namespaceSelector"].is_object());
        self.create(&format!("{rbac}/clusterroles"), shipped_role(&self.id, &self.rights, reads_namespaces)).await.ok();
        let binding = json!({
            "metadata": {"name": self.id},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": self.id},
            "subjects": [{"kind": "ServiceAccount", "name": "policy-server", "namespace": namespace}],
        });
        self.create(&format!("{rbac}/clusterrolebindings"), binding).await.ok();
        let token = self.post(&format!("{accounts}/policy-server/token"), json!({"spec": {}})).await.ok().body;
        let token = token["status"]["token"].as_str().unwrap().to_owned();
        let client = self.client_of(token.clone()).await;
        for name in &self.rights {
            let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
            eventually("the rights are known", || async { send_as(&client, "GET", &path).await.status != 403 }).await;
        }
        token
    }

    pub async fn register(&mut self, registration: Registration) {
        let cluster = Cluster::Live(Arc::new(Live::new(self.policy_server().await)));
        self.register_with(registration, cluster).await;
    }

    /// Registers the webhook, and waits until the API server calls it.
    pub async fn register_with(&mut self, registration: Registration, cluster: Cluster) {
        let answer = policy().validate_settings(self.settings.to_string().as_bytes());
        assert!(answer.valid, "{:?}", answer.message);
        let name = format!("{}{}", registration.prefix, self.id);
        let webhook = self.serve(&name, "127.0.0.1:0".parse().unwrap(), cluster.clone());
        let mut configuration = webhook.configuration(&name, policy());
        let hook = &mut configuration["webhooks"][0];
        hook["timeoutSeconds"] = json!(30);
        hook["namespaceSelector"] = self.selector();
        if registration.ignore_failures {
            hook["failurePolicy"] = json!("Ignore");
        }
        if registration.everything {
            hook["rules"] = json!([{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
                "resources": ["pods", "pods/*", "serviceaccounts", "serviceaccounts/*"],
            }]);
        }
        self.create(WEBHOOKS, configuration).await.ok();
        self.webhook = Some(webhook);
        let probe = || async {
            self.post(&format!("{}?dryRun=All", self.pods()), pod("probe")).await;
            !self.asked.lock().unwrap().is_empty()
        };
        eventually("the API server asks the webhook", probe).await;
        self.forget();
    }

    /// Selects the namespaces of this stage.
    pub fn selector(&self) -> Value {
        json!({"matchExpressions": [{"key": "stage", "operator": "In", "values": [self.id]}]})
    }

    fn serve(&self, name: &str, address: SocketAddr, cluster: Cluster) -> Webhook {
        let asked = Arc::clone(&self.asked);
        let observer = move |request: &AdmissionRequest, evaluation: &Evaluation| {
            asked.lock().unwrap().push(Asked {
                operation: request.operation.clone(),
                kind: request.kind.kind.clone(),
                sub_resource: request.sub_resource.clone(),
                verdict: evaluation.verdict(),
                host_calls: evaluation.host_calls.len(),
                said: format!("{:?} {:?} {:?}", evaluation.response, evaluation.logs, evaluation.failure),
            });
        };
        let (host, settings) = (policy(), self.settings.clone());
        let policy = Policy { host, settings, cluster, observer: Box::new(observer) };
        Webhook::start(address, BTreeMap::from([(name.to_owned(), policy)])).unwrap()
    }

    /// Keeps another stage alive as long as this one.
    pub fn keep(&self, other: Stage) {
        self.others.lock().unwrap().push(other);
    }

    /// Where the webhook listens.
    pub fn webhook_address(&self) -> SocketAddr {
        self.webhook.as_ref().unwrap().address()
    }

    /// Stops the webhook. Its registration stays.
    pub async fn kill_webhook(&mut self) {
        let address = self.webhook.take().unwrap().address();
        eventually("nobody listens there", || async { std::net::TcpStream::connect(address).is_err() }).await;
    }

    pub fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    pub fn accounts(&self) -> String {
        format!("/api/v1/namespaces/{}/serviceaccounts", self.namespace)
    }

    pub async fn create_secret(&self, name: &str) {
        let config = json!({"auths": {"ghcr.io": {"username": "acme", "password": PASSWORD}}}).to_string();
        self.create_pull_secret(&self.namespace, name, &config).await;
    }

    pub async fn create_secret_of(&self, name: &str, secret_type: &str, key: &str, value: &str) {
        let secret = json!({"metadata": {"name": name}, "type": secret_type, "stringData": {key: value}});
        self.post(&format!("/api/v1/namespaces/{}/secrets", self.namespace), secret).await.ok();
    }

    /// A Secret of the kubelet's type in any namespace.
    pub async fn create_pull_secret(&self, namespace: &str, name: &str, docker_config: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        self.post(&path, pull_secret(name, docker_config)).await.ok();
    }

    pub async fn create_pod(&self, pod: Value) -> Answer {
        self.post(&self.pods(), pod).await
    }

    /// Whether a Pod is admitted. The API server may be stopped.
    pub async fn try_create_pod(&self, pod: Value) -> bool {
        let path = format!("{}?dryRun=All", self.pods());
        send(&self.client, "POST", &path, "application/json", pod).await.is_ok_and(|answer| answer.status == 201)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", Value::Null).await
    }

    pub async fn post(&self, path: &str, object: Value) -> Answer {
        self.send("POST", path, "application/json", object).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "application/json", Value::Null).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Answer {
        self.send("PATCH", path, "application/merge-patch+json", patch).await
    }

    /// Server-side apply by this manager.
    pub async fn apply(&self, path: &str, manager: &str, object: Value) -> Answer {
        self.send("PATCH", &format!("{path}?fieldManager={manager}"), "application/apply-patch+yaml", object).await
    }

    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: Value) -> Answer {
        send(&self.client, method, path, content_type, body).await.unwrap()
    }

    /// The requests to the policy since the last time they were cleared.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let asked = self.asked();
        if std::thread::panicking() {
            eprintln!("--- what the webhook of {} was asked", self.id);
            asked.iter().for_each(|asked| eprintln!("{asked:?}"));
        } else {
            assert!(!asked.iter().any(|asked| asked.said.contains(PASSWORD)), "a credential was told: {asked:?}");
        }
        let (kubeconfig, objects) = (self.kubeconfig.clone(), std::mem::take(&mut *self.objects.lock().unwrap()));
        let failed = std::thread::panicking();
        // This must not use the test's runtime, which may be shutting down.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::try_from(config(&kubeconfig).await).unwrap();
                for namespace in objects.iter().filter(|path| failed && path.starts_with("/api/v1/namespaces/")) {
                    show(&client, namespace).await;
                }
                for path in objects.iter().rev() {
                    let _ = send(&client, "DELETE", path, "application/json", Value::Null).await;
                }
            });
        });
        let _ = deleting.join();
    }
}

/// Prints the objects of a namespace without credentials.
async fn show(client: &Client, namespace: &str) {
    for kind in ["secrets", "serviceaccounts", "pods"] {
        let path = format!("{namespace}/{kind}");
        let Ok(answer) = send(client, "GET", &path, "application/json", Value::Null).await else { return };
        for object in answer.body["items"].as_array().into_iter().flatten() {
            let mut metadata = object["metadata"].clone();
            metadata["managedFields"] = Value::Null;
            eprintln!("--- {path}: {} {:?} {metadata}", object["type"], listed(object));
        }
    }
}

/// Sends a request as another user, with an empty object if one is needed.
pub async fn send_as(client: &Client, method: &str, path: &str) -> Answer {
    let body = if method == "POST" { json!({"metadata": {"name": "x"}}) } else { Value::Null };
    send(client, method, path, "application/json", body).await.unwrap()
}

pub async fn send(
    client: &Client,
    method: &str,
    path: &str,
    content_type: &str,
    body: Value,
) -> anyhow::Result<Answer> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Body::from(body))?;
    let response = client.send(request).await.with_context(|| format!("{method} {path}"))?;
    let status = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter().map(|value| warning(value.to_str().unwrap())).collect();
    let body = response.into_body().collect_bytes().await?;
    Ok(Answer { status, warnings, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// The text of a Warning header (RFC 7234 5.5): `299 - "text"`.
fn warning(header: &str) -> String {
    let quoted = header.strip_prefix("299 - \"").and_then(|rest| rest.strip_suffix('"')).unwrap();
    quoted.replace("\\\"", "\"").replace("\\\\", "\\")
}

pub async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

/// The kubeconfig of the one cluster of this process.
pub fn shared_cluster() -> PathBuf {
    cluster().kubeconfig().to_owned()
}

/// Its Nodes, and their registry.
pub fn nodes() -> &'static Nodes {
    cluster().nodes().expect(
        "this needs Nodes and a registry of our own, which the cluster in KUBECONFIG_E2E has not: leave these tests out \
         (--skip pull::)",
    )
}

/// It ends with this process, because then its pipe closes.
fn cluster() -> &'static ControlPlane {
    static CLUSTER: LazyLock<ControlPlane> =
        LazyLock::new(|| ControlPlane::start(2).unwrap_or_else(|error| panic!("{error:#}")));
    &CLUSTER
}

/// The policy's module, with all the time that the API server allows. These tests do not check how long it takes, and the
/// machine may be loaded.
fn policy() -> &'static Host {
    static POLICY: LazyLock<Host> = LazyLock::new(|| {
        let mut host = Host::load(&modules::policy_module(), modules::metadata()).unwrap();
        host.deadline = PATIENCE;
        host
    });
    &POLICY
}

/// The ClusterRole that is shipped, for these secrets: that of `deploy/`, which is the chart's; or that of
/// docs/install.md, which has what reading Namespaces needs besides.
fn shipped_role(name: &str, secrets: &[String], reads_namespaces: bool) -> Value {
    let file = |path: &str| fs::read_to_string(modules::root().join(path)).unwrap();
    let policy = || format!("```yaml\n{}\n```", file("deploy/policy.yaml"));
    let text = if reads_namespaces { file("docs/install.md") } else { policy() };
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let documents = blocks.flat_map(|block| block.split("\n---\n"));
    let is_role = |text: &&str| text.lines().any(|line| line == "kind: ClusterRole");
    let roles: Vec<Value> = documents.filter(is_role).map(|text| yaml_serde::from_str(text).unwrap()).collect();
    let [role] = &roles[..] else { panic!("there are {} ClusterRoles", roles.len()) };
    let mut role = role.clone();
    assert_eq!(role["rules"][0]["resourceNames"], json!(["registry-credentials"]));
    role["rules"][0]["resourceNames"] = json!(secrets);
    role["metadata"] = json!({"name": name});
    role
}

/// A Secret of the kubelet's type.
pub fn pull_secret(name: &str, docker_config: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": DOCKER_CONFIG,
        "stringData": {".dockerconfigjson": docker_config},
    })
}

/// A Pod of one private image.
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "ghcr.io/acme/app:1"}]},
    })
}

/// The same Pod with these fields merged into it.
pub fn pod_with(name: &str, more: Value) -> Value {
    let mut pod = pod(name);
    json_patch::merge(&mut pod, &more);
    pod
}

/// Waits until the condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl FnMut() -> F) {
    eventually_within(PATIENCE, what, is_so).await;
}

/// Waits until the condition holds, but not longer than this.
pub async fn eventually_within<F: Future<Output = bool>>(limit: Duration, what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + limit;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
