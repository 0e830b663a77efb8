//! The whole product: the policy and the generator on one cluster.

use crate::harness::{PASSWORD, Stage, eventually, listed, pod};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// A generator that runs until it is dropped.
struct Generator {
    child: Child,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Generator {
    fn start(stage: &Stage, settings: &Value) -> Self {
        let program =
            PathBuf::from(env!("CARGO_BIN_EXE_image-pull-secrets-e2e")).with_file_name("image-pull-secrets-generator");
        let directory = tempfile::tempdir().unwrap();
        let (log, file) = (directory.path().join("log"), directory.path().join("settings.json"));
        fs::write(&file, settings.to_string()).unwrap();
        let child = Command::new(&program)
            .args(["run", "--no-leader-elect", "--listen", "127.0.0.1:0", "--log-level", "debug"])
            .args(["--lease-namespace", "default", "--lease-name", &stage.id])
            .arg("--settings")
            .arg(file)
            .arg("--kubeconfig")
            .arg(&stage.kubeconfig)
            .args(["--namespace-selector", &format!("stage={}", stage.id)])
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}. Run `cargo build -p image-pull-secrets-generator` first", program.display())
            });
        Self { child, log, _directory: directory }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("--- the generator's log\n{log}");
        } else {
            assert!(!log.contains(PASSWORD), "a credential was logged: {log}");
        }
    }
}

/// A stage with a source Secret, and the settings that both actors read.
async fn stage() -> (Stage, Value) {
    let source = Stage::empty(json!({"secrets": [{"name": "unused"}]})).await;
    let settings = json!({"secrets": [{"name": "creds", "source": {"namespace": source.namespace}}]});
    source.create_secret("creds").await;
    let stage = Stage::new(settings.clone()).await;
    stage.keep(source);
    (stage, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_and_at_once_a_deployment_in_it() {
    let (stage, settings) = stage().await;
    let _generator = Generator::start(&stage, &settings);
    let names: Vec<_> = (0..5).map(|number| format!("{}-team-{number}", stage.id)).collect();
    for namespace in &names {
        stage.create_namespace_only(namespace).await;
        let deployment = json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("")["spec"]},
            },
        });
        stage.post(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), deployment).await.ok();
    }
    for namespace in &names {
        let path = format!("/api/v1/namespaces/{namespace}");
        let pods = format!("{path}/pods?labelSelector=app%3Dweb");
        eventually("the Pod", || async { !stage.get(&pods).await.body["items"].as_array().unwrap().is_empty() }).await;
        // imagePullSecrets cannot change: what is there now was there from the first moment.
        for pod in stage.get(&pods).await.body["items"].as_array().unwrap() {
            assert_eq!(listed(pod), ["creds"]);
        }
        eventually("the copy", || async { stage.get(&format!("{path}/secrets/creds")).await.status == 200 }).await;
        eventually("the reference", || async {
            stage.get(&format!("{path}/serviceaccounts/default")).await.listed() == ["creds"]
        })
        .await;
    }
}

/// As OpenShift's controller does: every entry under the version that it read.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_appends_as_fast_as_it_can_loses_nothing_to_policy_and_generator() {
    let (stage, settings) = stage().await;
    let path = format!("{}/default", stage.accounts());
    let (done, mut wanted) = (AtomicBool::new(false), Vec::new());
    let _generator = Generator::start(&stage, &settings);
    let writer = async {
        for number in 0..100 {
            let name = format!("default-dockercfg-{number:03}");
            loop {
                let mut account = stage.get(&path).await.ok().body;
                if !account["imagePullSecrets"].is_array() {
                    account["imagePullSecrets"] = json!([]);
                }
                account["imagePullSecrets"].as_array_mut().unwrap().push(json!({"name": name}));
                let answer = stage.send("PUT", &path, "application/json", account).await;
                if answer.status == 409 {
                    continue;
                }
                answer.ok();
                break;
            }
            wanted.push(name);
        }
        done.store(true, Ordering::Relaxed);
    };
    // Somebody who takes our reference out all the time: the policy and the generator both put it back.
    let vandal = async {
        while !done.load(Ordering::Relaxed) {
            let account = stage.get(&path).await.ok().body;
            let kept: Vec<_> =
                listed(&account).into_iter().filter(|name| *name != "creds").map(|n| json!({"name": n})).collect();
            let version = &account["metadata"]["resourceVersion"];
            stage.merge(&path, json!({"metadata": {"resourceVersion": version}, "imagePullSecrets": kept})).await;
        }
    };
    tokio::join!(writer, vandal);
    let account = stage.get(&path).await.ok().body;
    let listed = listed(&account);
    let theirs: Vec<_> = listed.iter().filter(|name| **name != "creds").collect();
    assert_eq!(theirs, wanted.iter().collect::<Vec<_>>());
    assert_eq!(listed.iter().filter(|name| **name == "creds").count(), 1);
}
