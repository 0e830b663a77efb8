//! Kubewarden's own policy-server in the place of the embedded host. `make e2e-policy-server` runs these.

use crate::harness::{PASSWORD, Stage, WEBHOOKS, eventually, pod};
use image_pull_secrets_e2e::cluster::live::Live;
use image_pull_secrets_e2e::{AdmissionRequest, Cluster, modules, webhook};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A policy-server that runs until it is dropped.
struct PolicyServer {
    child: Child,
    address: SocketAddr,
    /// PEM; empty where it speaks HTTP.
    certificate: String,
    log: PathBuf,
    _directory: TempDir,
}

/// A policy as Kubewarden's controller hands it to policy-server.
fn policy(settings: &Value) -> Value {
    let metadata: Value =
        yaml_serde::from_str(&fs::read_to_string(modules::root().join("metadata.yml")).unwrap()).unwrap();
    // Without the metadata in it, policy-server does not take a module.
    let module = modules::root().join("annotated-policy.wasm");
    assert!(module.is_file(), "{module:?} is not there: make annotated-policy.wasm");
    json!({
        "module": format!("file://{}", module.display()),
        "policyMode": "protect",
        "allowedToMutate": true,
        "settings": settings,
        "contextAwareResources": metadata["contextAwareResources"],
        "hostCapabilities": metadata["hostCapabilities"],
    })
}

impl PolicyServer {
    async fn start(stage: &Stage, token: &str, policies: &Value, over_tls: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut kubeconfig: Value = yaml_serde::from_str(&fs::read_to_string(&stage.kubeconfig).unwrap()).unwrap();
        for user in kubeconfig["users"].as_array_mut().unwrap() {
            user["user"] = json!({ "token": token });
        }
        let (address, readiness) = (free_address(), free_address());
        let log = directory.path().join("log");
        let mut command = Command::new("policy-server");
        command
            .args(["--addr", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--readiness-probe-port", &readiness.port().to_string()])
            .arg("--policies")
            .arg(file("policies.yml", &policies.to_string()))
            .arg("--policies-download-dir")
            .arg(directory.path())
            .arg("--sigstore-cache-dir")
            .arg(directory.path().join("sigstore"))
            .args(["--log-level", "debug", "--log-no-color"])
            .env("KUBECONFIG", file("kubeconfig", &kubeconfig.to_string()))
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(File::options().append(true).open(&log).unwrap());
        let mut certificate = String::new();
        if over_tls {
            let made = rcgen::generate_simple_self_signed([address.ip().to_string()]).unwrap();
            certificate = made.cert.pem();
            command.arg("--cert-file").arg(file("cert.pem", &certificate));
            command.arg("--key-file").arg(file("key.pem", &made.signing_key.serialize_pem()));
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("policy-server: {error}. It has to be in the PATH"));
        let server = Self { child, address, certificate, log, _directory: directory };
        eventually("policy-server is ready", || async {
            exchange(readiness, "GET /readiness HTTP/1.1", "")
                .await
                .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
        server
    }

    /// What it answers to an AdmissionReview with this request.
    async fn ask(&self, policy: &str, request: &Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let answer = exchange(self.address, &format!("POST /validate/{policy} HTTP/1.1"), &review.to_string()).await;
        let answer = answer.expect("policy-server answers");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str::<Value>(body).unwrap()["response"].take()
    }
}

impl Drop for PolicyServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("--- policy-server's log\n{log}");
        } else {
            assert!(!log.contains(PASSWORD), "a credential was logged: {log}");
        }
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The whole answer to one request on a connection of its own; none where nobody answers.
async fn exchange(address: SocketAddr, line: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let length = body.len();
    let head = format!(
        "{line}\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// The requests of the recorded cases, in the namespace of the stage.
fn requests(stage: &Stage) -> Vec<(String, Value)> {
    let directory = modules::root().join("e2e-tests/fixtures/requests");
    let read = |path: &Path| {
        let mut request: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        if request["namespace"] == "shop" {
            request["namespace"] = json!(stage.namespace);
            request["object"]["metadata"]["namespace"] = json!(stage.namespace);
        }
        request
    };
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn it_answers_as_the_embedded_host_does() {
    let states = ["usable", "missing", "another-type", "malformed", "forbidden"];
    let named = |name: &str| json!({"secrets": [{"name": name}]});
    let mut stage = Stage::empty(named("usable")).await;
    stage.rights(&["usable", "missing", "another-type", "malformed"]);
    stage.create_secret("usable").await;
    stage.create_secret("forbidden").await;
    stage.create_secret_of("another-type", "Opaque", "token", PASSWORD).await;
    // Without a colon the kubelet does not take it.
    let malformed = json!({"auths": {"ghcr.io": {"auth": "bm8tY29sb24="}}}).to_string();
    stage.create_secret_of("malformed", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", &malformed).await;

    let mut policies = json!({});
    for state in states {
        for on_missing in ["warn", "reject", "skip"] {
            let mut settings = named(state);
            settings["onMissingSecret"] = json!(on_missing);
            policies[format!("{state}-{on_missing}")] = policy(&settings);
        }
        policies[format!("{state}-all")] = policy(&json!({
            "secrets": [{"name": state}, {"name": "usable-too", "matchImages": ["registry.example.com"]}],
            "serviceAccounts": ["*"], "exclude": {"annotation": "example.com/leave-alone"},
        }));
        policies[format!("{state}-covers")] =
            policy(&json!({"secrets": [{"name": state, "matchCredentials": true}], "onMissingSecret": "reject"}));
    }
    let token = stage.policy_server_token().await;
    let cluster = Cluster::Live(Arc::new(Live::new(stage.client_of(token.clone()).await)));
    let server = PolicyServer::start(&stage, &token, &policies, false).await;
    let mut verdicts = std::collections::BTreeMap::new();
    for (policy, of_policy) in policies.as_object().unwrap() {
        for (name, request) in requests(&stage) {
            let theirs = server.ask(policy, &request).await;
            let request = AdmissionRequest::read(&request.to_string()).unwrap().remove(0);
            let evaluate = || modules::policy().evaluate(&of_policy["settings"], &request, &cluster);
            let evaluation = tokio::task::block_in_place(evaluate);
            assert_eq!(serde_json::to_value(&evaluation.response).unwrap(), theirs, "{policy}, {name}");
            *verdicts.entry(format!("{:?}", evaluation.verdict())).or_insert(0) += 1;
        }
    }
    assert!(verdicts.keys().eq(["Accepted", "Mutated", "Rejected"]), "{verdicts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn it_mutates_and_denies_for_a_real_api_server_under_the_shipped_rights() {
    let settings = json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"], "onMissingSecret": "reject"});
    let stage = Stage::empty(settings.clone()).await;
    let token = stage.policy_server_token().await;
    let server = PolicyServer::start(&stage, &token, &json!({&stage.id: policy(&settings)}), true).await;
    let mut configuration = webhook::configuration(server.address, &server.certificate, &stage.id, modules::policy());
    configuration["webhooks"][0]["namespaceSelector"] = stage.selector();
    stage.create(WEBHOOKS, configuration).await.ok();
    eventually("the API server asks policy-server", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.status >= 400
    })
    .await;

    let refused = stage.create_pod(pod("early")).await;
    assert!(refused.message().contains("needs image pull secrets that it cannot have"), "{refused:?}");
    let account = stage.post(&stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    assert_eq!((account.listed(), account.warnings.len()), (vec!["creds"], 1));
    stage.create_secret("creds").await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec!["creds"], 0));
    let path = format!("{}/web", stage.pods());
    assert_eq!(stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok().listed(), ["creds"]);
    let mut own = pod("own");
    own["spec"]["imagePullSecrets"] = json!([{"name": "mine"}]);
    assert_eq!(stage.create_pod(own).await.ok().listed(), ["mine", "creds"]);
    let mut large = pod("large");
    large["metadata"]["annotations"] = json!({"large": "x".repeat(200_000)});
    large["spec"]["containers"][0]["env"] = json!([{"name": "LARGE", "value": "x".repeat(800_000)}]);
    assert_eq!(stage.create_pod(large).await.ok().listed(), ["creds"]);
}
