//! Secrets that are for the namespaces of one tenant only: policy and generator follow the labels of Namespaces, and the copies
//! of two tenants never cross.

use crate::generator::Generator;
use crate::harness::{Registration, Stage, eventually, pod};
use crate::registry::{docker_config, password};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

const LABEL: &str = "example.com/tenant";

/// A tenant's name, which is the value of the label.
const TENANTS: [&str; 2] = ["a", "b"];

/// Two tenants with a secret each, on one stage.
struct Tenants {
    stage: Stage,
    settings: Value,
    /// The namespace of both sources.
    source: String,
}

impl Tenants {
    /// Policy and generator are at work.
    async fn with_both() -> (Self, Generator) {
        let source = Stage::empty(json!({"secrets": [{"name": "unused"}]})).await;
        let namespace = source.namespace.clone();
        let secrets = TENANTS.map(|tenant| {
            let selector = json!({"matchLabels": {LABEL: tenant}});
            json!({"name": format!("{tenant}-{namespace}"), "source": {"namespace": namespace}, "namespaceSelector": selector})
        });
        let settings = json!({"secrets": secrets});
        let mut stage = Stage::empty(settings.clone()).await;
        stage.keep(source);
        stage.register(Registration::default()).await;
        let tenants = Self { stage, settings, source: namespace };
        for tenant in TENANTS {
            let config = tenants.docker_config(tenant, 0);
            tenants.stage.create_pull_secret(&tenants.source, &tenants.secret(tenant), &config).await;
        }
        let generator = tenants.start_generator();
        (tenants, generator)
    }

    fn start_generator(&self) -> Generator {
        Generator::start(&self.stage, &self.settings, &[])
    }

    fn secret(&self, tenant: &str) -> String {
        format!("{tenant}-{}", self.source)
    }

    fn path(&self, tenant: &str, namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/secrets/{}", self.secret(tenant))
    }

    fn docker_config(&self, tenant: &str, version: u32) -> String {
        docker_config(&format!("{tenant}.example.com"), tenant, &password(&version.to_string()))
    }

    async fn rotate(&self, tenant: &str, version: u32) {
        let change = json!({"stringData": {".dockerconfigjson": self.docker_config(tenant, version)}});
        self.stage.merge(&self.path(tenant, &self.source), change).await.ok();
    }

    /// A namespace that has its label from the beginning, where it has one.
    async fn create_namespace(&self, short: &str, tenant: Option<&str>) -> String {
        let mut object = self.stage.namespace_object(short);
        if let Some(tenant) = tenant {
            object["metadata"]["labels"][LABEL] = json!(tenant);
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.stage.post("/api/v1/namespaces", object).await.ok();
        self.stage.has_account(&name).await;
        name
    }

    async fn label(&self, namespace: &str, tenant: Option<&str>) {
        let change = json!({"metadata": {"labels": {LABEL: tenant}}});
        self.stage.merge(&format!("/api/v1/namespaces/{namespace}"), change).await.ok();
    }

    async fn references(&self, namespace: &str) -> Vec<String> {
        let account = self.stage.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default")).await;
        account.listed().into_iter().map(str::to_owned).collect()
    }

    /// Which tenants' secrets the namespace has a copy of.
    async fn copies(&self, namespace: &str) -> Vec<&'static str> {
        let mut copies = Vec::new();
        for tenant in TENANTS {
            if self.stage.get(&self.path(tenant, namespace)).await.status == 200 {
                copies.push(tenant);
            }
        }
        copies
    }

    async fn has_version(&self, tenant: &str, namespace: &str, version: u32) -> bool {
        let copy = self.stage.get(&self.path(tenant, namespace)).await.body;
        copy["data"][".dockerconfigjson"] == STANDARD.encode(self.docker_config(tenant, version))
    }

    /// Waits until the namespace has the copy of its tenant and no other, and its ServiceAccount refers to it.
    async fn settled(&self, namespace: &str, tenant: Option<&'static str>) {
        let wanted: Vec<_> = tenant.into_iter().collect();
        eventually(&format!("{namespace} has what is for {tenant:?}"), || async {
            let references = self.references(namespace).await;
            self.copies(namespace).await == wanted && wanted.iter().all(|it| references.contains(&self.secret(it)))
        })
        .await;
    }

    /// What a new Pod comes to list.
    async fn would_list(&self, namespace: &str) -> Vec<String> {
        let answer =
            self.stage.post(&format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"), pod("probe")).await.ok();
        answer.listed().into_iter().map(str::to_owned).collect()
    }
}

/// Every namespace in which a Secret of this name was ever seen, as the API server tells it.
struct Watch {
    seen: Arc<Mutex<BTreeSet<String>>>,
    /// The newest version that was seen.
    version: Arc<Mutex<u64>>,
    task: JoinHandle<()>,
}

impl Watch {
    async fn of(stage: &Stage, secret: &str) -> Self {
        let api: Api<Secret> = Api::all(stage.client.clone());
        let field = format!("metadata.name={secret}");
        let listed = api.list(&ListParams::default().fields(&field)).await.unwrap();
        let mut from = listed.metadata.resource_version.unwrap();
        let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        seen.lock().unwrap().extend(listed.items.into_iter().filter_map(|it| it.metadata.namespace));
        let (version, params) = (Arc::new(Mutex::new(0)), WatchParams::default().fields(&field));
        let (to, newest) = (Arc::clone(&seen), Arc::clone(&version));
        let task = tokio::spawn(async move {
            loop {
                let mut events = api.watch(&params, &from).await.unwrap().boxed();
                while let Some(event) = events.next().await {
                    match event.unwrap() {
                        WatchEvent::Added(it) | WatchEvent::Modified(it) | WatchEvent::Deleted(it) => {
                            from = it.metadata.resource_version.unwrap();
                            *newest.lock().unwrap() = from.parse().unwrap();
                            to.lock().unwrap().extend(it.metadata.namespace);
                        }
                        WatchEvent::Bookmark(it) => from = it.metadata.resource_version,
                        WatchEvent::Error(error) => panic!("{error}"),
                    }
                }
            }
        });
        Self { seen, version, task }
    }

    /// Waits until it has seen this version of something, and gives all namespaces.
    async fn until(self, object: Value) -> BTreeSet<String> {
        let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        eventually("the watch has caught up", || async {
            assert!(!self.task.is_finished(), "the watch has ended");
            *self.version.lock().unwrap() >= version
        })
        .await;
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        seen.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_added_changed_and_removed_is_followed_by_both() {
    let (tenants, _generator) = Tenants::with_both().await;
    let namespace = tenants.create_namespace("moves", None).await;
    let secrets = TENANTS.map(|tenant| tenants.secret(tenant));
    assert_eq!((tenants.would_list(&namespace).await, tenants.references(&namespace).await), (vec![], vec![]));

    for (tenant, secret) in [("a", &secrets[0]), ("b", &secrets[1]), ("a", &secrets[0])] {
        tenants.label(&namespace, Some(tenant)).await;
        tenants.settled(&namespace, Some(tenant)).await;
        // The generator put the references in, and takes them out.
        eventually("only that is referred to", || async { tenants.references(&namespace).await == [secret.as_str()] })
            .await;
        assert_eq!(tenants.would_list(&namespace).await, [secret.as_str()]);
    }
    tenants.label(&namespace, None).await;
    tenants.settled(&namespace, None).await;
    eventually("nothing is referred to", || async { tenants.references(&namespace).await.is_empty() }).await;
    assert_eq!(tenants.would_list(&namespace).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_change_in_a_storm_leave_every_namespace_with_its_own_copy() {
    const NAMESPACES: usize = 6;
    const CHANGES: usize = 25;
    let (tenants, _generator) = Tenants::with_both().await;
    let tenants = &tenants;
    let last = stream::iter(0..NAMESPACES).map(|number| async move {
        let mut rng = StdRng::seed_from_u64(number as u64);
        let namespace = tenants.create_namespace(&format!("n{number}"), None).await;
        let mut tenant = None;
        for _ in 0..CHANGES {
            tenant = [None, Some("a"), Some("b")][rng.random_range(0..3)];
            tenants.label(&namespace, tenant).await;
            // Whatever the Pod comes to list, it is admitted.
            tenants.would_list(&namespace).await;
        }
        (namespace, tenant)
    });
    let last: Vec<_> = last.buffer_unordered(NAMESPACES).collect().await;
    for (namespace, tenant) in last {
        tenants.settled(&namespace, tenant).await;
        if let Some(tenant) = tenant {
            assert!(tenants.would_list(&namespace).await.contains(&tenants.secret(tenant)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copies_of_two_tenants_never_cross() {
    const ROUNDS: u32 = 60;
    let (tenants, generator) = Tenants::with_both().await;
    let mut watches = Vec::new();
    for tenant in TENANTS {
        watches.push(Watch::of(&tenants.stage, &tenants.secret(tenant)).await);
    }
    let mut generator = Some(generator);
    let mut namespaces = Vec::new();
    let mut everyones = [BTreeSet::new(), BTreeSet::new()];
    let mut rng = StdRng::seed_from_u64(1);
    let mut versions = [0; 2];
    for round in 0..ROUNDS {
        let which = rng.random_range(0..2);
        let tenant = TENANTS[which];
        match rng.random_range(0..6) {
            0 => {
                versions[which] = round + 1;
                tenants.rotate(tenant, versions[which]).await;
            }
            1 if round > 0 => {
                // As somebody with the right to it would.
                let (namespace, tenant): &(String, &str) = &namespaces[rng.random_range(0..namespaces.len())];
                tenants.stage.delete(&tenants.path(tenant, namespace)).await;
            }
            2 if round > 0 => {
                let (namespace, _) = &namespaces[rng.random_range(0..namespaces.len())];
                let change = json!({"metadata": {"labels": {"round": round.to_string()}}});
                tenants.stage.merge(&format!("/api/v1/namespaces/{namespace}"), change).await.ok();
            }
            3 if round > 0 => {
                let (namespace, tenant) = &namespaces[rng.random_range(0..namespaces.len())];
                let listed = tenants.would_list(namespace).await;
                assert!(listed.iter().all(|it| *it == tenants.secret(tenant)), "{namespace}: {listed:?}");
            }
            _ => {
                let namespace = tenants.create_namespace(&format!("{tenant}{round}"), Some(tenant)).await;
                everyones[which].insert(namespace.clone());
                namespaces.push((namespace, tenant));
            }
        }
        if round == ROUNDS / 2 {
            drop(generator.take());
            generator = Some(tenants.start_generator());
        }
    }
    for (namespace, tenant) in &namespaces {
        tenants.settled(namespace, Some(tenant)).await;
        assert_eq!(tenants.references(namespace).await, [tenants.secret(tenant)]);
        assert_eq!(tenants.would_list(namespace).await, [tenants.secret(tenant)]);
        let version = versions[TENANTS.iter().position(|it| it == tenant).unwrap()];
        eventually("the copy is that of the last rotation", || tenants.has_version(tenant, namespace, version)).await;
    }
    for ((tenant, watch), mut expected) in TENANTS.iter().zip(watches).zip(everyones) {
        tenants.rotate(tenant, ROUNDS + 1).await;
        let source = tenants.stage.get(&tenants.path(tenant, &tenants.source)).await.ok().body;
        expected.insert(tenants.source.clone());
        assert_eq!(watch.until(source).await, expected, "the namespaces that ever had the credential of {tenant}");
    }
}
