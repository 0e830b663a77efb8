//! The credential changes, at the registry and in the source, while Pods are made all the time.

use crate::generator::Generator;
use crate::harness::{Registration, eventually, eventually_within, nodes};
use crate::product::Product;
use crate::pull::explain::{agrees, agrees_in, proxy};
use crate::registry::{PATIENCE, Registry, basic, docker_config, node, password, pod_of, pod_on, print};
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Pods that are made one after the other in some namespaces, each with an image that no Node has.
struct Stream<'a> {
    registry: &'a Registry,
    product: &'a Product,
    namespaces: &'a [String],
    /// One Node, which so knows each Secret.
    node: String,
    /// Their images, in the order of the Pods.
    images: Mutex<Vec<String>>,
    ends: AtomicBool,
}

impl Stream<'_> {
    async fn run(&self) {
        for number in 0.. {
            if self.ends.load(Ordering::Relaxed) {
                break;
            }
            let image = self.registry.push(&format!("acme/app-{number}")).await;
            let namespace = &self.namespaces[number % self.namespaces.len()];
            let pod = pod_on(&self.node, &format!("web-{number}"), &image);
            self.product.stage.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await.ok();
            self.images.lock().unwrap().push(image);
            // As often as a busy cluster makes Pods, and no busier.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn so_far(&self) -> Vec<String> {
        self.images.lock().unwrap().clone()
    }

    /// Waits until a Pod that is made from now on in each namespace is there.
    async fn goes_on(&self) {
        let wanted = self.so_far().len() + self.namespaces.len() + 1;
        eventually_within(PATIENCE, "more Pods", || async { self.so_far().len() >= wanted }).await;
    }

    async fn all_pulled(&self) {
        for image in self.so_far() {
            self.registry.pulled(&image).await;
        }
    }

    /// Waits until a Pod of each namespace has pulled with this user's credential. That is what `explain` says of it.
    async fn uses(&self, user: &str) {
        for (first, namespace) in self.namespaces.iter().enumerate() {
            // The first one that has.
            let of_namespace = async || {
                let pulls = self.registry.record().await;
                let images = self.so_far();
                (first..images.len()).step_by(self.namespaces.len()).find(|&number| {
                    pulls.iter().any(|pull| pull.image == images[number] && pull.user == user && pull.succeeded())
                })
            };
            let what = format!("{user} pulls in {namespace}");
            eventually_within(PATIENCE, &what, || async { of_namespace().await.is_some() }).await;
            let number = of_namespace().await.unwrap();
            agrees(&self.product.stage, namespace, &format!("web-{number}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_refused_where_the_registry_accepts_both_for_a_while() {
    let (old, new) = (password("0"), password("1"));
    let registry = Registry::new(basic(json!({"acme": old}))).await;
    let mut product = Product::for_server(&registry.host, json!({})).await;
    product.stage.register(Registration::default()).await;
    let _generator = product.start_generator();
    let mut namespaces = Vec::new();
    for short in ["a", "b", "c"] {
        namespaces.push(product.stage.create_namespace(short).await);
        product.settled(&namespaces[namespaces.len() - 1], "0").await;
    }
    let (images, ends) = (Mutex::default(), AtomicBool::new(false));
    let stream = Stream { registry: &registry, product: &product, namespaces: &namespaces, node: node(), images, ends };
    let rotation = async {
        stream.goes_on().await;
        stream.uses("acme").await;
        registry.accept(basic(json!({"acme": old, "robot": new}))).await;
        stream.goes_on().await;
        let config = docker_config(&registry.host, "robot", &new);
        product.rotate_to(&config).await;
        for namespace in &namespaces {
            eventually("the copy has changed", || product.has(namespace, &config)).await;
        }
        stream.uses("robot").await;
        // Those that were made with the old one are done with it.
        stream.all_pulled().await;
        registry.accept(basic(json!({"robot": new}))).await;
        stream.goes_on().await;
        stream.ends.store(true, Ordering::Relaxed);
    };
    tokio::join!(stream.run(), rotation);

    stream.all_pulled().await;
    let mut users = Vec::new();
    for image in stream.so_far() {
        let pulls = registry.pulls(&image).await;
        assert!(pulls.iter().all(|pull| pull.succeeded() || pull.user.is_empty()), "{pulls:?}");
        users.push(pulls[pulls.len() - 1].user.clone());
    }
    let with_the_new = users.iter().filter(|user| *user == "robot").count();
    print(&format!("rotation: {} Pods pulled, {with_the_new} of them with the new credential", users.len()));
    assert!(users.iter().all(|user| user == "acme" || user == "robot"), "{users:?}");
    assert_eq!((users[0].as_str(), users[users.len() - 1].as_str()), ("acme", "robot"));

    // The old credential, in a namespace that nobody looks after.
    let image = registry.push("acme/old").await;
    let namespace = product.source.clone();
    product.stage.create_pull_secret(&namespace, "old", &product.docker_config("0")).await;
    let mut pod = pod_of("old", &image);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "old"}]);
    product.stage.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await.ok();
    registry.refused(&image, "acme", 1).await;
}

/// What the registry accepts: the password of this version.
fn accepted(version: &str) -> Value {
    basic(json!({"acme": password(version)}))
}

#[derive(PartialEq)]
enum First {
    Registry,
    Source,
}

/// The password changes at one end first: what is made until it has changed at the other fails, and recovers.
#[rstest]
#[case::at_the_registry_first(First::Registry)]
#[case::in_the_source_first(First::Source)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_gap_recovers_by_itself(#[case] first: First) {
    let registry = Registry::new(accepted("0")).await;
    let mut product = Product::for_server(&registry.host, json!({})).await;
    product.stage.register(Registration::default()).await;
    let _generator = product.start_generator();
    let stage = &product.stage;
    let namespace = stage.create_namespace("team").await;
    product.settled(&namespace, "0").await;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let start = async |name: &str| {
        let image = registry.push(&format!("acme/{name}")).await;
        let created = stage.post(&pods, pod_of(name, &image)).await.ok();
        (image, created.body["metadata"]["uid"].clone())
    };
    let (before, _) = start("before").await;
    registry.pulled(&before).await;
    agrees_in(stage, &namespace).await;

    if first == First::Registry {
        registry.accept(accepted("1")).await;
    } else {
        product.rotate("1").await;
        product.settled(&namespace, "1").await;
    }
    let (image, uid) = start("between").await;
    registry.refused(&image, "acme", 1).await;
    agrees_in(stage, &namespace).await;
    if first == First::Registry {
        product.rotate("1").await;
        product.settled(&namespace, "1").await;
    } else {
        registry.accept(accepted("1")).await;
    }
    let (after, _) = start("after").await;
    registry.pulled(&after).await;
    let pulls = registry.pulled(&image).await;
    agrees_in(stage, &namespace).await;
    print(&format!("a Pod of the gap pulled after {} failed attempts", pulls.len() - 1));
    assert_eq!(stage.get(&format!("{pods}/between")).await.ok().body["metadata"]["uid"], uid);
}

/// A product that holds back what the registry refuses, and a namespace with the copy that the registry accepts.
struct Holding {
    registry: Registry,
    product: Product,
    generator: Generator,
    namespace: String,
}

impl Holding {
    async fn new() -> Self {
        let registry = Registry::new(accepted("0")).await;
        let product = Product::for_server(&registry.host, json!({"verifyCredentials": "hold"})).await;
        let generator = Self::generator(&product).await;
        let namespace = product.stage.create_namespace("team").await;
        product.settled(&namespace, "0").await;
        Self { registry, product, generator, namespace }
    }

    /// A generator that reaches the registry as a Node does.
    async fn generator(product: &Product) -> Generator {
        let proxy = proxy().await;
        let environment = [("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "")];
        let ca = nodes().registry_ca.to_str().unwrap();
        Generator::start_in(&product.stage, &product.settings, &["--registry-ca", ca], &environment)
    }

    async fn restart(self) -> Self {
        self.generator.terminate();
        Self { generator: Self::generator(&self.product).await, ..self }
    }

    /// Waits until the generator has said that it holds back what the source has now.
    async fn is_told(&self) {
        let told = "refuses its credential: put the right one into the source; it is held back, and the copies stay as \
                    they are";
        eventually("it is held back", || async { self.generator.log().contains(told) }).await;
    }

    /// A Pod of this namespace pulls.
    async fn pulls(&self, namespace: &str, name: &str) {
        let image = self.registry.push(&format!("acme/{name}")).await;
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        self.product.stage.post(&pods, pod_of(name, &image)).await.ok();
        self.registry.pulled(&image).await;
        agrees_in(&self.product.stage, namespace).await;
    }

    /// The registry accepts what was held back: these namespaces get it.
    async fn ends(&self, namespaces: [&str; 2]) {
        self.registry.accept(accepted("1")).await;
        for namespace in namespaces {
            self.product.settled(namespace, "1").await;
        }
    }
}

/// A mistyped rotation stops at the source, and a right one that the registry does not know yet goes out once it does.
#[tokio::test(flavor = "multi_thread")]
async fn pods_go_on_pulling_while_a_rotation_that_the_registry_refuses_is_held_back() {
    let holding = Holding::new().await;
    let (product, namespace) = (&holding.product, &holding.namespace);
    holding.pulls(namespace, "before").await;

    product.rotate("1").await;
    holding.is_told().await;
    holding.pulls(namespace, "between").await;
    let other = product.stage.create_namespace("other").await;
    product.settled(&other, "0").await;
    holding.pulls(&other, "between-elsewhere").await;

    holding.ends([namespace, &other]).await;
    holding.pulls(namespace, "after").await;
    assert!(!holding.generator.log().contains(&password("1")));
}

/// What a registry refused stays where it is, also where the generator is started anew, and where the registry cannot be asked then.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_held_back_stays_so_over_restarts_of_the_generator() {
    let holding = Holding::new().await;
    holding.product.rotate("1").await;
    holding.is_told().await;
    let stage = &holding.product.stage;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/default/leases/{}", stage.id);
    eventually("the refusal is recorded", || async {
        let annotations = stage.get(&lease).await.body["metadata"]["annotations"].clone();
        let recorded = annotations["image-pull-secrets.kubewarden.io/verifications"].as_str().unwrap_or_default();
        recorded.contains("refused")
    })
    .await;

    let holding = holding.restart().await;
    holding.is_told().await;
    holding.pulls(&holding.namespace, "between").await;
    // What the other namespaces have is not known any more.
    let product = &holding.product;
    let other = product.stage.create_namespace("other").await;
    eventually("its ServiceAccount refers to the secret", || async {
        product.references(&other).await.contains(&product.secret)
    })
    .await;
    assert_eq!(product.stage.get(&product.path_in(&other)).await.status, 404);

    let mut out_of_order = accepted("0");
    out_of_order["status"] = json!(503);
    holding.registry.accept(out_of_order).await;
    let holding = holding.restart().await;
    holding.is_told().await;
    assert!(holding.product.has_version(&holding.namespace, "0").await);

    holding.ends([&holding.namespace, &other]).await;
}
