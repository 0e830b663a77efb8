//! Everything at once, at random: namespaces come and go, the source changes and is deleted, copies and references are
//! damaged, others append to ServiceAccounts, the network fails and generators are killed. Afterwards everything gets in
//! sync, and stays so.
//!
//! `CHAOS_SECONDS` (default 20) says how long it runs, and `CHAOS_SEED` which random choices it makes. The timing is
//! different in every run.

use crate::generator::Generator;
use crate::harness::{Answer, PASSWORD, PATIENCE, Stage};
use crate::product::Product;
use crate::proxy::{Mood, Proxy};
use image_pull_secrets_e2e::Verdict;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const EXCLUDE: &str = "example.com/no-pull-secrets";

/// What should be in the cluster.
#[derive(Default)]
struct World {
    namespaces: BTreeMap<String, Wanted>,
    version: u32,
}

#[derive(Default)]
struct Wanted {
    excluded: bool,
    /// What others appended to ServiceAccount `default`, in order.
    theirs: Vec<String>,
}

struct Chaos {
    product: Product,
    world: Mutex<World>,
    until: Instant,
    seed: u64,
}

impl Chaos {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn stage(&self) -> &Stage {
        &self.product.stage
    }

    fn rng(&self, actor: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ actor)
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn any_namespace(&self, rng: &mut StdRng) -> Option<String> {
        let world = self.world();
        let count = world.namespaces.len();
        (count > 0).then(|| world.namespaces.keys().nth(rng.random_range(0..count)).unwrap().clone())
    }

    fn account(namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/serviceaccounts/default")
    }

    /// Changes the present version of ServiceAccount `default`. Returns whether that succeeded: it may be gone or changed.
    async fn change_account(&self, namespace: &str, change: impl FnOnce(&mut Vec<Value>)) -> bool {
        let Answer { status: 200, body: mut account, .. } = self.stage().get(&Self::account(namespace)).await else {
            return false;
        };
        let mut list = account["imagePullSecrets"].as_array().cloned().unwrap_or_default();
        change(&mut list);
        account["imagePullSecrets"] = list.into();
        self.stage().send("PUT", &Self::account(namespace), "application/json", account).await.status == 200
    }

    async fn administer(&self) {
        let (mut rng, mut number) = (self.rng(1), 0);
        while self.goes_on() {
            match rng.random_range(0..10) {
                0..4 if self.world().namespaces.len() < 15 => {
                    let name = format!("{}-c{number}", self.stage().id);
                    number += 1;
                    self.stage().create_namespace_only(&name).await;
                    self.world().namespaces.insert(name, Wanted::default());
                }
                4 if self.world().namespaces.len() > 5 => {
                    let Some(name) = self.any_namespace(&mut rng) else { continue };
                    self.world().namespaces.remove(&name);
                    self.stage().delete(&format!("/api/v1/namespaces/{name}")).await.ok();
                }
                5..7 => {
                    let Some(name) = self.any_namespace(&mut rng) else { continue };
                    let excluded = {
                        let mut world = self.world();
                        let wanted = world.namespaces.get_mut(&name).unwrap();
                        wanted.excluded = !wanted.excluded;
                        wanted.excluded
                    };
                    let value = if excluded { json!("true") } else { Value::Null };
                    let patch = json!({"metadata": {"annotations": {EXCLUDE: value}}});
                    self.stage().merge(&format!("/api/v1/namespaces/{name}"), patch).await.ok();
                }
                7 => {
                    self.product.delete_source().await;
                    pause(&mut rng, 500).await;
                    let version = self.next_version();
                    self.product.create_source(&version).await;
                }
                _ => {
                    let version = self.next_version();
                    self.product.rotate(&version).await;
                }
            }
            pause(&mut rng, 300).await;
        }
    }

    fn next_version(&self) -> String {
        let mut world = self.world();
        world.version += 1;
        world.version.to_string()
    }

    async fn damage(&self) {
        let mut rng = self.rng(2);
        while self.goes_on() {
            pause(&mut rng, 100).await;
            let Some(namespace) = self.any_namespace(&mut rng) else { continue };
            let copy = self.product.path_in(&namespace);
            match rng.random_range(0..4) {
                0 => drop(self.stage().delete(&copy).await),
                1 => {
                    let other =
                        json!({"auths": {"ghcr.io": {"username": "mallory", "password": PASSWORD}}}).to_string();
                    self.stage().merge(&copy, json!({"stringData": {".dockerconfigjson": other}})).await;
                }
                2 => drop(self.stage().merge(&copy, json!({"immutable": true})).await),
                _ => {
                    let without = |list: &mut Vec<Value>| list.retain(|entry| entry["name"] != self.product.secret);
                    self.change_account(&namespace, without).await;
                }
            }
        }
    }

    async fn append(&self) {
        let (mut rng, mut number) = (self.rng(3), 0);
        while self.goes_on() {
            pause(&mut rng, 100).await;
            let Some(namespace) = self.any_namespace(&mut rng) else { continue };
            let name = format!("default-dockercfg-{number:04}");
            number += 1;
            let entry = json!({ "name": name });
            if self.change_account(&namespace, |list| list.push(entry)).await
                && let Some(wanted) = self.world().namespaces.get_mut(&namespace)
            {
                wanted.theirs.push(name);
            }
        }
    }

    /// Two replicas behind a network that fails. From time to time one of them ends or is killed, and another one starts.
    async fn fail(&self, proxy: &Proxy, kubeconfig: &Path) -> Vec<Generator> {
        let mut rng = self.rng(4);
        let start = || Generator::start_replica(self.stage(), &self.product.settings, kubeconfig);
        let mut replicas = vec![start(), start()];
        while self.goes_on() {
            proxy.change(match rng.random_range(0..6) {
                0 => Mood::Down,
                1 => Mood::Slow(Duration::from_millis(700)),
                2 => Mood::Cutting(rng.random_range(1_000..60_000)),
                _ => Mood::Fine,
            });
            pause(&mut rng, 1500).await;
            if rng.random_bool(0.3) {
                let replica = replicas.remove(rng.random_range(0..2));
                if rng.random_bool(0.5) {
                    proxy.change(Mood::Fine);
                    replica.terminate();
                } else {
                    drop(replica);
                }
                replicas.push(start());
            }
        }
        proxy.change(Mood::Fine);
        replicas
    }

    /// Everything that is not in sync.
    async fn faults(&self) -> Vec<String> {
        let (version, wanted): (_, Vec<_>) = {
            let world = self.world();
            let namespaces = world.namespaces.iter();
            let wanted = namespaces.map(|(name, wanted)| (name.clone(), wanted.excluded, wanted.theirs.clone()));
            (world.version.to_string(), wanted.collect())
        };
        let mut faults = Vec::new();
        for (namespace, excluded, theirs) in wanted {
            let copied = self.product.has_version(&namespace, &version).await;
            let there = self.stage().get(&self.product.path_in(&namespace)).await.status == 200;
            let references = self.product.references(&namespace).await;
            let (ours, others): (Vec<_>, Vec<_>) =
                references.into_iter().partition(|name| *name == self.product.secret);
            if others != theirs {
                faults.push(format!("{namespace}: of others there is {others:?}, which should be {theirs:?}"));
            }
            // A reference that the policy added stays in an excluded namespace.
            let fits = if excluded { !there && ours.len() <= 1 } else { copied && ours.len() == 1 };
            if !fits {
                faults.push(format!(
                    "{namespace}: excluded {excluded}, copied {copied}, there {there}, referred to {ours:?}"
                ));
            }
        }
        faults
    }

    /// The version of every copy and every ServiceAccount.
    async fn versions(&self) -> Vec<Value> {
        let names: Vec<_> = self.world().namespaces.keys().cloned().collect();
        let mut versions = Vec::new();
        for namespace in names {
            for path in [self.product.path_in(&namespace), Self::account(&namespace)] {
                versions.push(self.stage().get(&path).await.body["metadata"]["resourceVersion"].take());
            }
        }
        versions
    }
}

async fn pause(rng: &mut StdRng, milliseconds: u64) {
    let pause = Duration::from_millis(rng.random_range(0..milliseconds));
    tokio::time::sleep(pause).await;
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happened_all_is_as_it_should_be_afterwards_and_stays_so() {
    let product = Product::with_policy(json!({"exclude": {"annotation": EXCLUDE}})).await;
    let text = std::fs::read_to_string(&product.stage.kubeconfig).unwrap();
    let kubeconfig: Value = yaml_serde::from_str(&text).unwrap();
    let url = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap().trim_start_matches("https://");
    let server: SocketAddr = url.parse().unwrap();
    let proxy = Proxy::to(server).await;
    let proxied = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(proxied.path(), text.replace(url, &proxy.address.to_string())).unwrap();

    let seed = setting("CHAOS_SEED", 1);
    let until = Instant::now() + Duration::from_secs(setting("CHAOS_SECONDS", 20));
    let chaos = Chaos { product, world: Mutex::default(), until, seed };
    let failing = chaos.fail(&proxy, proxied.path());
    let ((), (), (), _replicas) = tokio::join!(chaos.administer(), chaos.damage(), chaos.append(), failing);

    let deadline = Instant::now() + PATIENCE;
    let mut versions = Vec::new();
    loop {
        let before = std::mem::replace(&mut versions, chaos.versions().await);
        let faults = chaos.faults().await;
        if faults.is_empty() && versions == before {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "CHAOS_SEED={seed}: somebody still writes, or there are faults: {faults:#?}"
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let failed = chaos.stage().asked().iter().filter(|asked| asked.verdict == Verdict::Failed).count();
    assert_eq!(failed, 0);
}
