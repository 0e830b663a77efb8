//! Kyverno's admission controller, as a process of its own, with the rules of `kyverno/` that add the reference to Pods.
//!
//! It registers its webhooks by itself. What they are asked about is limited to the Pods of its own rows by its ConfigMap, so
//! that it costs the other rows nothing.

use std::{
    env, fs,
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use image_pull_secrets_e2e::modules;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::api::Api;

/// What `make kyverno-admission-controller` builds. Kyverno calls it `kyverno`, as it does its command line, which is what one
/// finds under that name in a `PATH`.
const PROGRAM: &str = "kyverno-admission-controller";

/// The directory beside it with Kyverno's CustomResourceDefinitions.
const CRDS: &str = "kyverno-crds";

/// How long its webhooks may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

const NAMESPACE: &str = "kyverno";
const CONFIG_MAP: &str = "kyverno";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const CONFIGURATION: &str = "kyverno-resource-mutating-webhook-cfg";

/// Which of Kyverno's APIs a rule is written in.
#[derive(Clone, Copy)]
pub enum Rule {
    /// A rule of a ClusterPolicy.
    ClusterPolicy,
    /// A MutatingPolicy, in CEL.
    MutatingPolicy,
}

/// An admission controller that runs until it is dropped.
pub struct Kyverno {
    child: Child,
    log: PathBuf,
    _directory: TempDir,
}

/// The program, where it is in the `PATH`.
pub fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|directory| directory.join(PROGRAM)).find(|program| program.is_file())
}

impl Kyverno {
    /// Starts it, for Pods whose label `bench` is one of these.
    pub async fn start(api: &Api, program: &Path, labels: &[String]) -> Result<Self> {
        install_crds(api, &program.with_file_name(CRDS)).await?;
        api.create("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}})).await?;
        let selected = json!({"matchExpressions": [{"key": "bench", "operator": "In", "values": labels}]});
        let config = json!({
            "metadata": {"name": CONFIG_MAP},
            "data": {"webhooks": json!({"objectSelector": selected}).to_string()},
        });
        api.replace(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"), CONFIG_MAP, config).await?;

        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(program)
            .arg(format!("--kubeconfig={}", env::var("KUBECONFIG_E2E")?))
            // The webhooks then name this address instead of a Service.
            .arg(format!("--serverIP={address}"))
            .args([format!("--webhookServerHost={}", address.ip()), format!("--webhookServerPort={}", address.port())])
            .args(["--caSecretName=kyverno-tls-ca", "--tlsSecretName=kyverno-tls-pair"])
            // As its chart has it; without the ports that two processes on one machine would quarrel over.
            .args(["--omitEvents=PolicyApplied,PolicySkipped", "--maxAdmissionReports=1000"])
            .args(["--disableMetrics=true", "--controllerRuntimeMetricsAddress=0"])
            .env("KYVERNO_NAMESPACE", NAMESPACE)
            .env("KYVERNO_SERVICEACCOUNT_NAME", "kyverno-admission-controller")
            .env("KYVERNO_DEPLOYMENT", "kyverno-admission-controller")
            .env("KYVERNO_POD_NAME", "kyverno-admission-controller")
            .env("INIT_CONFIG", CONFIG_MAP)
            .env("METRICS_CONFIG", "kyverno-metrics")
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self { child, log, _directory: directory })
    }

    /// Adds a rule for Pods with this label, and waits until it has a webhook.
    pub async fn add(&mut self, api: &Api, rule: Rule, label: &str) -> Result<()> {
        // The webhook that checks policies is there as well by then, but perhaps not the certificate that it serves with.
        while self.webhooks(api).await?.is_none() {
            sleep(Duration::from_millis(200)).await;
        }
        let (path, policy) = rule.policy(label)?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = api.replace(path, label, policy.clone()).await {
            if Instant::now() > deadline {
                return Err(error.context(format!("Kyverno does not take its rule: {}", self.log())));
            }
            sleep(Duration::from_millis(200)).await;
        }
        while !self.webhooks(api).await?.is_some_and(|webhooks| webhooks.contains(label)) {
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The webhooks that it has registered for what its policies are about, as JSON.
    async fn webhooks(&mut self, api: &Api) -> Result<Option<String>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{PROGRAM} has ended, {status}: {}", self.log());
        }
        let (status, answer) = api.send("GET", &format!("{WEBHOOKS}/{CONFIGURATION}"), Vec::new()).await?;
        if status != 200 {
            return Ok(None);
        }
        let configuration: Value = serde_json::from_slice(&answer)?;
        Ok(Some(configuration["webhooks"].to_string()))
    }
}

impl Drop for Kyverno {
    fn drop(&mut self) {
        // It is being dropped: there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Rule {
    /// Where the policy goes, and itself: that of `kyverno/`, for Pods with this label, and named so.
    fn policy(self, label: &str) -> Result<(&'static str, Value)> {
        let (path, file) = match self {
            Self::ClusterPolicy => ("/apis/kyverno.io/v1/clusterpolicies", "clusterpolicy/policy.yaml"),
            Self::MutatingPolicy => ("/apis/policies.kyverno.io/v1beta1/mutatingpolicies", "cel/add-to-pods.yaml"),
        };
        let mut policy = read(&modules::root().join("kyverno").join(file))?;
        let spec = &mut policy["spec"];
        match self {
            Self::ClusterPolicy => {
                // The others are for its background controller, and for ServiceAccounts.
                let rules = spec["rules"].as_array_mut().context("the ClusterPolicy has no rules")?;
                rules.retain(|rule| rule["name"] == "add-to-pods");
                let expression = format!("object.metadata.labels['bench'] == '{label}'");
                spec["webhookConfiguration"] =
                    json!({"matchConditions": [{"name": "of-this-row", "expression": expression}]});
            }
            Self::MutatingPolicy => {
                spec["matchConstraints"]["objectSelector"] = json!({"matchLabels": {"bench": label}});
            }
        }
        policy["metadata"]["name"] = json!(label);
        Ok((path, policy))
    }
}

/// Creates the CustomResourceDefinitions in a directory and below it, and waits until they are served.
async fn install_crds(api: &Api, directory: &Path) -> Result<()> {
    const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut directories = vec![directory.to_owned()];
    let mut names = Vec::new();
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("{} has to have Kyverno's definitions", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let definition = read(&path)?;
                names.push(definition["metadata"]["name"].as_str().context("a definition has no name")?.to_owned());
                api.create(PATH, definition).await?;
            }
        }
    }
    for name in names {
        let is_served = |answer: &[u8]| {
            let definition: Value = serde_json::from_slice(answer).unwrap_or_default();
            let conditions = definition["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|it| it["type"] == "Established" && it["status"] == "True")
        };
        while !is_served(&api.send("GET", &format!("{PATH}/{name}"), Vec::new()).await?.1) {
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    yaml_serde::from_str(&text).with_context(|| path.display().to_string())
}
