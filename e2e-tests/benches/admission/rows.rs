//! What is compared.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use image_pull_secrets_e2e::api_proxy::ApiProxy;
use serde_json::{Value, json};

use crate::{
    api::Api,
    engine::{self, Engine, Kind},
    kyverno::{Kyverno, Rule},
    target::{self, SECRET},
};

/// The name of the row that others are measured by.
pub const YARDSTICK: &str = "yardstick: adds it, asks nothing";

/// One way to give Pods the reference.
pub struct Row {
    pub name: String,
    by: By,
    /// Whether Pods list the Secret already.
    listed: bool,
    /// Whether the Secret is read.
    reads: bool,
}

enum By {
    Nobody,
    ApiServer,
    Policy { module: PathBuf, settings: Value },
    Kyverno(Rule),
}

/// A row that is at work.
pub struct Running {
    row: Row,
    label: String,
    served: Option<Served>,
    /// What works for it, and the memory that it had at first.
    process: Option<(u32, f64)>,
}

/// A policy of its own, and the proxy by which it asks.
struct Served {
    _engine: Engine,
    proxy: ApiProxy,
}

/// All rows that can be measured with this engine.
pub fn all(other_modules: &[PathBuf], engine: Kind) -> Vec<Row> {
    let with = |module, on_missing: &str| By::Policy {
        module,
        settings: json!({"secrets": [{"name": SECRET}], "onMissingSecret": on_missing}),
    };
    let ours = |on_missing| with(engine.module("policy"), on_missing);
    let yardstick = By::Policy { module: engine.module("yardstick"), settings: json!({}) };
    let row = |name: &str, by, listed, reads| Row { name: name.to_owned(), by, listed, reads };
    let mut rows = vec![
        row("no webhook", By::Nobody, false, false),
        row("MutatingAdmissionPolicy", By::ApiServer, false, false),
        row(YARDSTICK, yardstick, false, false),
        row("policy: listed", ours("warn"), true, false),
        row("policy: not listed", ours("warn"), false, true),
        row("policy: listed, reject", ours("reject"), true, true),
        row("policy: not listed, ignore", ours("ignore"), false, false),
        row("Kyverno: ClusterPolicy", By::Kyverno(Rule::ClusterPolicy), false, false),
        row("Kyverno: MutatingPolicy", By::Kyverno(Rule::MutatingPolicy), false, false),
    ];
    for path in other_modules {
        let name = format!("{}: not listed", path.file_stem().unwrap_or_default().display());
        rows.push(row(&name, with(path.clone(), "warn"), false, true));
    }
    rows
}

impl Row {
    /// What the label `bench` of its Pods is.
    pub fn label(&self) -> String {
        self.name.to_lowercase().replace(|character: char| !character.is_ascii_alphanumeric(), "-")
    }

    /// Whether Kyverno works for it.
    pub fn is_kyvernos(&self) -> bool {
        matches!(self.by, By::Kyverno(_))
    }
}

impl Running {
    /// Starts what the row needs; none where there is no Kyverno, or the API server lacks it.
    pub async fn start(row: Row, engine: Kind, kyverno: Option<&mut Kyverno>, api: &Api) -> Result<Option<Self>> {
        let label = row.label();
        let (mut served, mut process) = (None, None);
        match &row.by {
            By::Nobody => {}
            By::ApiServer => {
                if !target::add_natively(api, &label).await? {
                    return Ok(None);
                }
            }
            By::Policy { module, settings } => {
                let (proxy, kubeconfig) = api.proxy(SECRET).await?;
                let name = format!("bench-{label}");
                let (engine, configuration) = engine.start(&name, module, settings, &kubeconfig).await?;
                api.register(configuration, &json!({"objectSelector": {"matchLabels": {"bench": label}}})).await?;
                process = Some(engine.process());
                served = Some(Served { _engine: engine, proxy });
            }
            By::Kyverno(rule) => {
                let Some(kyverno) = kyverno else { return Ok(None) };
                kyverno.add(api, *rule, &label).await?;
                process = Some(kyverno.process());
            }
        }
        let process = process.map(|id| Ok::<_, anyhow::Error>((id, engine::resident(id)?))).transpose()?;
        let running = Self { row, label, served, process };
        // A Pod that does not list it shows whether the webhook is asked.
        let probe = running.pod_that(false).to_string().into_bytes();
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", target::namespace(0));
        while running.is_missing_from(&api.send("POST", &path, probe.clone()).await?.1) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Some(running))
    }

    /// What it is called in the tables.
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// Whether the Secret is read.
    pub fn reads(&self) -> bool {
        self.row.reads
    }

    /// The Pod that is created.
    pub fn pod(&self) -> Value {
        self.pod_that(self.row.listed)
    }

    /// Whether this answer of the API server is not what the row is to make of a Pod.
    pub fn is_missing_from(&self, answer: &[u8]) -> bool {
        let is_there = answer.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        is_there == matches!(self.row.by, By::Nobody)
    }

    /// From now on reads take so much longer.
    pub fn delay_reads(&self, late: Duration) {
        if let Some(served) = &self.served {
            served.proxy.delay("", late);
        }
    }

    /// How often the Secret was read so far.
    pub fn secret_reads(&self) -> u64 {
        self.served.as_ref().map_or(0, |served| served.proxy.secret_reads())
    }

    /// The memory in MiB of what works for it, at the start and now.
    pub fn resident(&self) -> Result<Option<(f64, f64)>> {
        self.process.map(|(id, at_start)| Ok((at_start, engine::resident(id)?))).transpose()
    }

    fn pod_that(&self, lists_it: bool) -> Value {
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "web-", "labels": {"app": "web", "bench": self.label}},
            "spec": {
                "containers": [
                    {"name": "web", "image": "ghcr.io/acme/web:1.4", "ports": [{"containerPort": 8080}],
                        "env": [{"name": "LEVEL", "value": "info"}], "resources": {"limits": {"memory": "128Mi"}}},
                    {"name": "proxy", "image": "ghcr.io/acme/proxy:2", "args": ["--port", "8443"]},
                ],
            },
        });
        if lists_it {
            pod["spec"]["imagePullSecrets"] = json!([{"name": SECRET}]);
        }
        pod
    }
}
