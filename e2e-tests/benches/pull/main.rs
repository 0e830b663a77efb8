//! How long it takes from a new namespace to the pulled image, and how often a kubelet is refused before: namespaces are made,
//! each with its Deployment in one go, on a real API server with a real kubelet and a registry that asks for credentials.
//!
//! It runs on the disposable cluster of `with-cluster --nodes 1`, and goes by what the registry recorded. What can be set:
//!
//! | variable | is | by default |
//! |---|---|---|
//! | `BENCH_NAMESPACES` | how many namespaces each row makes | 50 |
//! | `BENCH_INTERVAL` | milliseconds from one namespace to the next | 200 |
//! | `BENCH_PATIENCE` | seconds after which an image that is not pulled counts as one that never is | 60 |
//! | `BENCH_POLL` | seconds from one `run --once` to the next | 10 |

#[path = "../common/api.rs"]
mod api;
#[path = "../common/engine.rs"]
mod engine;
mod generator;
mod registry;

use std::{env, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use api::Api;
use engine::{Engine, Kind};
use generator::Generator;
use image_pull_secrets_e2e::api_proxy::ApiProxy;
use k8s_openapi::jiff::Timestamp;
use registry::{Pull, Registry};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};

/// The namespace of the sources.
const SOURCE: &str = "bench-source";

/// The aim: as long after a Pod whose Secret was there before.
const AIM: Duration = Duration::from_secs(1);

/// Where a Pod's Secret comes from, and its reference.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// Both are there before the Pod.
    User,
    PolicyAndGenerator,
    Generator,
    /// The generator, which deletes Pods that were made before their reference.
    RestartingGenerator,
    /// The generator, which is run once in a while.
    Polling(Duration),
}

/// One namespace.
struct Seen {
    /// From the namespace to the pulled image; none where it never was.
    took: Option<Duration>,
    /// Attempts before.
    refused: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let namespaces: usize = setting("BENCH_NAMESPACES", 50)?;
    let pause = Duration::from_millis(setting("BENCH_INTERVAL", 200)?);
    let poll = Duration::from_secs(setting("BENCH_POLL", 10)?);
    let api = Api::connect().await?;
    let registry = Registry::connect()?;
    let patience = Duration::from_secs(setting("BENCH_PATIENCE", 60)?);
    let engine = Kind::installed(2);
    api.create("/api/v1/namespaces", json!({"metadata": {"name": SOURCE}})).await?;
    println!(
        "Kubernetes {}; engine: {}; {namespaces} namespaces, one every {pause:?}.\n",
        api.version,
        engine.describe()
    );
    println!("| | to the pulled image: median | worst | never | refused before: median | worst |");
    println!("|---|--:|--:|--:|--:|--:|");
    let mut medians = Vec::new();
    for (name, label, by) in [
        ("the Secret is there before", "before", By::User),
        ("policy and generator", "both", By::PolicyAndGenerator),
        ("generator alone", "generator", By::Generator),
        ("generator alone, `--restart-stuck-pods`", "restarting", By::RestartingGenerator),
        (&format!("generator alone, `run --once` every {} s", poll.as_secs()), "polling", By::Polling(poll)),
    ] {
        let bench = Bench { api: &api, registry: &registry, label, by };
        let seen = bench.run(namespaces, pause, patience, engine).await.context(name.to_owned())?;
        let never = seen.iter().filter(|one| one.took.is_none()).count();
        let took = median_and_worst(seen.iter().map(|one| one.took.unwrap_or(Duration::MAX)));
        let refused = median_and_worst(seen.iter().map(|one| one.refused));
        println!("| {name} | {} | {} | {never} | {} | {} |", seconds(took.0), seconds(took.1), refused.0, refused.1);
        medians.push((took.0, refused.0));
    }
    let (later, refused) = (medians[1].0.saturating_sub(medians[0].0), medians[1].1);
    let met = if later <= AIM && refused == 0 { "met" } else { "missed" };
    println!("\nPolicy and generator: {} later in the median, {refused} refused; the aim is {met}.", seconds(later));
    Ok(())
}

fn median_and_worst<T: Ord + Copy>(values: impl Iterator<Item = T>) -> (T, T) {
    let mut values: Vec<T> = values.collect();
    values.sort();
    (values[values.len() / 2], values[values.len() - 1])
}

fn seconds(duration: Duration) -> String {
    if duration == Duration::MAX { "never".to_owned() } else { format!("{:.2} s", duration.as_secs_f64()) }
}

struct Bench<'a> {
    api: &'a Api,
    registry: &'a Registry,
    /// Namespaces of this row have it, and everything is named by it.
    label: &'static str,
    by: By,
}

impl Bench<'_> {
    async fn run(&self, namespaces: usize, pause: Duration, patience: Duration, engine: Kind) -> Result<Vec<Seen>> {
        self.registry.accept(&self.host()).await?;
        for number in 0..namespaces {
            self.registry.push(&self.image(number)).await?;
        }
        let settings = json!({"secrets": [{"name": self.secret(), "source": {"namespace": SOURCE}}]});
        self.api.create(&format!("/api/v1/namespaces/{SOURCE}/secrets"), self.secret_object()).await?;
        // What is installed comes before the namespaces, and goes with this function.
        let served = if self.by == By::PolicyAndGenerator { Some(self.serve(&settings, engine).await?) } else { None };
        let generator = match self.by {
            By::User => None,
            By::PolicyAndGenerator | By::Generator => Some(Generator::start(self.label, SOURCE, &settings, &[]).await?),
            By::RestartingGenerator => {
                Some(Generator::start(self.label, SOURCE, &settings, &["--restart-stuck-pods"]).await?)
            }
            By::Polling(poll) => Some(Generator::start_polling(self.label, SOURCE, &settings, poll)?),
        };

        let mut ticks = interval(pause);
        let mut starts = Vec::new();
        for number in 0..namespaces {
            ticks.tick().await;
            starts.push(Timestamp::now());
            self.apply(number).await?;
        }
        let deadline = Instant::now() + patience;
        loop {
            let pulls = self.registry.pulls(&self.host()).await?;
            let of = |(number, &start): (usize, &Timestamp)| self.seen(&pulls, number, start);
            let seen: Vec<Seen> = starts.iter().enumerate().map(of).collect();
            if seen.iter().all(|one| one.took.is_some()) || Instant::now() > deadline {
                if let Some((engine, proxy)) = &served {
                    eprintln!(
                        "policy: {} reads of Secrets, {:.0} MiB",
                        proxy.secret_reads(),
                        engine::resident(engine.process())?
                    );
                }
                drop(generator);
                return Ok(seen);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn seen(&self, pulls: &[Pull], number: usize, start: Timestamp) -> Seen {
        let image = self.image(number);
        let tries = || pulls.iter().filter(|pull| pull.image == image);
        let pulled = tries().find(|pull| pull.outcome == "pulled");
        Seen {
            took: pulled.map(|pull| pull.at.0.duration_since(start).unsigned_abs()),
            refused: tries().take_while(|pull| pull.outcome != "pulled").count(),
        }
    }

    /// Has the API server ask the policy about the namespaces of this row.
    async fn serve(&self, settings: &Value, engine: Kind) -> Result<(Engine, ApiProxy)> {
        let (proxy, kubeconfig) = self.api.proxy(&self.secret()).await?;
        let module = engine.module("policy");
        let (engine, configuration) =
            engine.start(&format!("bench-pull-{}", self.label), &module, settings, &kubeconfig).await?;
        self.api.register(configuration, &json!({"namespaceSelector": {"matchLabels": {"bench": self.label}}})).await?;
        // A Pod that is not kept shows whether the webhook is asked.
        let probe = format!("{}-probe", self.label);
        let namespace = json!({"metadata": {"name": probe, "labels": {"bench": self.label}}});
        self.api.create("/api/v1/namespaces", namespace).await?;
        let pods = format!("/api/v1/namespaces/{probe}/pods?dryRun=All");
        let pod =
            json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "app", "image": self.image(0)}]}});
        let pod = pod.to_string().into_bytes();
        loop {
            let (_, answer) = self.api.send("POST", &pods, pod.clone()).await?;
            if String::from_utf8_lossy(&answer).contains(&self.secret()) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok((engine, proxy))
    }

    /// What a user applies: a namespace with its Deployment, and with its Secret where nobody else brings it.
    async fn apply(&self, number: usize) -> Result<()> {
        let namespace = format!("{}-{number:03}", self.label);
        let labels = json!({"bench": self.label});
        self.api.create("/api/v1/namespaces", json!({"metadata": {"name": namespace, "labels": labels}})).await?;
        let mut spec = json!({
            "schedulerName": "test-cluster",
            "containers": [{"name": "app", "image": self.image(number)}],
        });
        if self.by == By::User {
            self.api.create(&format!("/api/v1/namespaces/{namespace}/secrets"), self.secret_object()).await?;
            spec["imagePullSecrets"] = json!([{"name": self.secret()}]);
        }
        let deployment = json!({
            "metadata": {"name": "app"},
            "spec": {
                "selector": {"matchLabels": {"app": "app"}},
                "template": {"metadata": {"labels": {"app": "app"}}, "spec": spec},
            },
        });
        self.api.create(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), deployment).await
    }

    fn host(&self) -> String {
        format!("bench-{}.example.com", self.label)
    }

    /// Each namespace has an image of its own, so that each is pulled.
    fn image(&self, number: usize) -> String {
        format!("{}/app-{number:03}:1", self.host())
    }

    fn secret(&self) -> String {
        format!("bench-pull-{}", self.label)
    }

    fn secret_object(&self) -> Value {
        let config = json!({"auths": {self.host(): {"username": registry::USER, "password": registry::PASSWORD}}});
        json!({
            "metadata": {"name": self.secret()},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config.to_string()},
        })
    }
}

fn setting<T: FromStr>(variable: &str, default: T) -> Result<T> {
    match env::var(variable) {
        Ok(text) if !text.is_empty() => text.parse().map_err(|_| anyhow!("{variable}: {text:?} is not a number")),
        _ => Ok(default),
    }
}
