//! A namespace and a Deployment in it, applied in one go.

use crate::generator::Generator;
use crate::harness::{Registration, listed};
use crate::product::Product;
use crate::pull::explain::agrees_in;
use crate::registry::{Pull, Registry, basic, deployment, kubectl_apply, password, pods_in, print, stuck};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// How many namespaces are applied, each with a Deployment.
const NAMESPACES: usize = 3;

/// A namespace that was applied with its Deployment.
pub struct Applied {
    pub namespace: String,
    image: String,
    start: Timestamp,
}

/// A registry, and the product with a credential for it and with these settings besides. Nothing is at work yet.
pub async fn before(settings: Value) -> (Registry, Product) {
    let registry = Registry::new(basic(json!({"acme": password("0")}))).await;
    let product = Product::for_server(&registry.host, settings).await;
    (registry, product)
}

/// The generator, at work.
pub async fn generator(product: &Product, flags: &[&str]) -> Generator {
    let generator = product.start_generator_with(flags);
    product.settled(&product.stage.namespace, "0").await;
    generator
}

/// Applies namespaces, each with a Deployment and with what else it is to have, one after the other.
pub async fn apply(registry: &Registry, product: &Product, besides: Option<Value>) -> Vec<Applied> {
    let mut applied = Vec::new();
    for number in 0..NAMESPACES {
        let image = registry.push(&format!("acme/app-{number}")).await;
        let object = product.stage.namespace_object(&format!("team-{number}"));
        let namespace = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut objects = vec![object];
        objects.extend(besides.clone().map(|mut object| {
            object["metadata"]["namespace"] = json!(namespace);
            object
        }));
        objects.push(deployment(&namespace, &image));
        let start = Timestamp::now();
        kubectl_apply(&product.stage, &objects);
        applied.push(Applied { namespace, image, start });
    }
    applied
}

/// Waits until each image was pulled, with the product's credential and as `explain` says, and prints what it took.
pub async fn all_pull(at_work: &str, registry: &Registry, product: &Product, applied: &[Applied]) {
    for Applied { namespace, image, start } in applied {
        let pulls = registry.pulled(image).await;
        report(at_work, &pulls, *start);
        let pulled = pulls.iter().find(|pull| pull.succeeded()).unwrap();
        assert_eq!(pulled.user, "acme");
        agrees_in(&product.stage, namespace).await;
    }
}

fn report(at_work: &str, pulls: &[Pull], start: Timestamp) {
    let failed = pulls.iter().filter(|pull| !pull.succeeded()).count();
    let outcome = match pulls.iter().find(|pull| pull.succeeded()) {
        Some(pulled) => format!("pulled {:.2} s after kubectl apply was called", pulled.since(start).as_secs_f64()),
        None => "never pulled".to_owned(),
    };
    print(&format!("{at_work}: {outcome}, {failed} attempts failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_pulls_with_policy_and_generator() {
    let (registry, mut product) = before(json!({})).await;
    product.stage.register(Registration::default()).await;
    let _generator = generator(&product, &[]).await;
    let applied = apply(&registry, &product, None).await;
    all_pull("policy and generator", &registry, &product, &applied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_pulls_with_the_policy_alone_where_the_secret_comes_along() {
    let (registry, mut product) = before(json!({})).await;
    product.stage.register(Registration::default()).await;
    let secret = product.secret_of(&product.docker_config("0"));
    let applied = apply(&registry, &product, Some(secret)).await;
    all_pull("policy alone, with the Secret in the namespace", &registry, &product, &applied).await;
}

/// A Pod that was there before its ServiceAccount had the reference never pulls: it is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn it_pulls_with_the_generator_alone_where_that_restarts_stuck_pods() {
    let (registry, product) = before(json!({})).await;
    let _generator = generator(&product, &["--restart-stuck-pods"]).await;
    let applied = apply(&registry, &product, None).await;
    all_pull("generator alone, with --restart-stuck-pods", &registry, &product, &applied).await;
}

/// Which of the two comes first is not for anybody to say; what then follows is.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_generator_alone_it_pulls_if_the_pod_came_after_the_reference() {
    let (registry, product) = before(json!({})).await;
    let _generator = generator(&product, &[]).await;
    for Applied { namespace, image, start } in apply(&registry, &product, None).await {
        product.settled(&namespace, "0").await;
        registry.attempted(&image).await;
        let pod = pods_in(&product.stage, &namespace).await.remove(0);
        let (first, pulls) = match &listed(&pod)[..] {
            [] => ("Pod", registry.refused(&image, "", 2).await),
            _ => ("reference", registry.pulled(&image).await),
        };
        report(&format!("generator alone, first the {first}"), &pulls, start);
        agrees_in(&product.stage, &namespace).await;
    }
}

/// Without this, the tests above would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_pull_with_neither() {
    let (registry, product) = before(json!({})).await;
    for Applied { namespace, image, start } in apply(&registry, &product, None).await {
        let pulls = registry.refused(&image, "", 2).await;
        assert!(pulls.iter().all(|pull| pull.user.is_empty()), "{pulls:?}");
        let pod = stuck(&product.stage, &namespace).await;
        assert_eq!(listed(&pod), [""; 0]);
        agrees_in(&product.stage, &namespace).await;
        report("neither", &pulls, start);
    }
}
