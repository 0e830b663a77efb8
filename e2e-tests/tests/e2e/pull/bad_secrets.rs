//! What a bad Secret does to an image that anybody may pull.

use crate::harness::{Registration, Stage, eventually, eventually_within, pull_secret};
use crate::product::Product;
use crate::pull::explain::agrees_in;
use crate::registry::{PATIENCE, Registry, docker_config, kubectl_apply, node, password, pod_of, pod_on, waiting};
use rstest::rstest;
use serde_json::{Value, json};

/// A registry with a public part.
async fn registry() -> Registry {
    let accounts = json!({"acme": password("1")});
    Registry::new(json!({"auth": "basic", "accounts": accounts, "public": ["public"]})).await
}

/// The API server lets it pass: it looks no further than that it is JSON.
fn malformed(registry: &Registry) -> String {
    json!({"auths": {registry.host.as_str(): {"auth": "bm8tY29sb24="}}}).to_string()
}

/// Everything in one go, the ServiceAccount included.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_one_leaves_a_public_image_alone_where_the_policy_is_asked() {
    let registry = registry().await;
    let stage = Stage::new(json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"]})).await;
    let image = registry.push("public/app").await;
    let object = stage.namespace_object("team");
    let namespace = object["metadata"]["name"].as_str().unwrap().to_owned();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"}});
    let mut pod = pod_of("web", &image);
    pod["spec"]["serviceAccountName"] = json!("builder");
    let in_it = [pull_secret("creds", &malformed(&registry)), account, pod].map(|mut object| {
        object["metadata"]["namespace"] = json!(namespace);
        object
    });
    kubectl_apply(&stage, &[&[object], &in_it[..]].concat());
    let pulls = registry.pulled(&image).await;
    assert_eq!((pulls.len(), pulls[0].user.as_str()), (1, ""));
    agrees_in(&stage, &namespace).await;
}

/// As whoever adds the reference without a look at the Secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_one_keeps_a_public_image_from_a_pod_that_refers_to_it() {
    let registry = registry().await;
    let stage = Stage::empty(json!({"secrets": [{"name": "creds"}]})).await;
    let path = format!("/api/v1/namespaces/{}", stage.namespace);
    stage.create_pull_secret(&stage.namespace, "creds", &malformed(&registry)).await;
    let reference = json!({"imagePullSecrets": [{"name": "creds"}]});
    stage.merge(&format!("{path}/serviceaccounts/default"), reference).await.ok();
    let (node, image) = (node(), registry.push("public/app").await);
    // The first Pod has the Node read the Secret, so that the second one finds it read.
    for (name, image) in [("first", registry.push("acme/app").await), ("second", image.clone())] {
        assert_eq!(stage.create_pod(pod_on(&node, name, &image)).await.ok().listed(), ["creds"]);
        eventually_within(PATIENCE, "the Pod waits, with the parser's error as the reason", || async {
            let pod = stage.get(&format!("{path}/pods/{name}")).await.ok().body;
            waiting(&pod).iter().any(|(reason, _)| reason.contains("auth"))
        })
        .await;
    }
    // The kubelet does not even try.
    assert_eq!(registry.pulls(&image).await.len(), 0);
    agrees_in(&stage, &stage.namespace).await;
    stage.delete(&format!("{path}/secrets/creds")).await.ok();
    registry.pulled(&image).await;
}

/// The policy gives a new namespace's ServiceAccount the reference before there is any Secret. One that is malformed, and not the
/// generator's to replace, would keep every image from the namespace's Pods: so the generator takes that reference back.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_one_that_comes_after_the_reference_has_the_generator_take_it_back() {
    let registry = registry().await;
    let mut product = Product::for_server(&registry.host, json!({})).await;
    product.stage.register(Registration::default()).await;
    // So that no copy is there before it.
    product.delete_source().await;
    let generator = product.start_generator();
    let says = async |text: &str| eventually(text, || async { generator.log().contains(text) }).await;
    says("the source is missing").await;
    let stage = &product.stage;
    let secret = product.secret.as_str();
    let namespaces = [stage.create_namespace("team").await, stage.create_namespace("by-hand").await];
    let [namespace, by_hand] = &namespaces;
    let listed = json!({"imagePullSecrets": [{"name": "mine"}, {"name": secret}]});
    stage.merge(&format!("/api/v1/namespaces/{by_hand}/serviceaccounts/default"), listed).await.ok();
    assert_eq!(product.references(namespace).await, [secret]);
    for namespace in [by_hand, namespace] {
        stage.create_pull_secret(namespace, secret, &malformed(&registry)).await;
    }
    eventually("the reference is taken back", || async { product.references(namespace).await.is_empty() }).await;
    let public = registry.push("public/app").await;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    stage.post(&pods, pod_of("public", &public)).await.ok();
    let pulls = registry.pulled(&public).await;
    assert_eq!((pulls.len(), pulls[0].user.as_str()), (1, ""));
    // Whoever wrote the list themselves keeps it, and is told.
    says(&format!(
        "Secret {by_hand}/{secret} was not made by the generator: it is kept, and no copy is made. The kubelet"
    ))
    .await;
    assert_eq!(product.references(by_hand).await, ["mine", secret]);

    product.create_source("1").await;
    for namespace in &namespaces {
        stage.delete(&product.path_in(namespace)).await.ok();
        product.settled(namespace, "1").await;
    }
    let private = registry.push("acme/app").await;
    stage.post(&pods, pod_of("private", &private)).await.ok();
    assert_eq!(registry.pulled(&private).await.last().unwrap().user, "acme");
}

/// The registry does not let in whoever shows it a credential that it does not know, also where nobody need show one.
#[rstest]
#[case::for_every_image(json!({"name": "creds"}), true)]
#[case::for_the_private_ones(json!({"name": "creds", "matchImages": ["HOST/acme"]}), false)]
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_credential_keeps_a_public_image_from_pods_that_are_given_it(
    #[case] entry: Value,
    #[case] is_given_it: bool,
) {
    let registry = registry().await;
    let entry: Value = serde_json::from_str(&entry.to_string().replace("HOST", &registry.host)).unwrap();
    let stage = Stage::new(json!({"secrets": [entry]})).await;
    let namespace = stage.create_namespace("team").await;
    let expired = docker_config(&registry.host, "acme", &password("0"));
    stage.create_pull_secret(&namespace, "creds", &expired).await;
    let node = node();
    let create = async |name: &str, image: &str| {
        let created =
            stage.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod_on(&node, name, image)).await.ok();
        created.listed() == ["creds"]
    };
    // This one has the Node read the Secret, so that the other one finds it read.
    let private = registry.push("acme/app").await;
    assert!(create("private", &private).await);
    registry.refused(&private, "acme", 1).await;
    let public = registry.push("public/app").await;
    assert_eq!(create("public", &public).await, is_given_it);
    if is_given_it {
        registry.refused(&public, "acme", 1).await;
    } else {
        let pulls = registry.pulled(&public).await;
        assert_eq!((pulls.len(), pulls[0].user.as_str()), (1, ""));
    }
    agrees_in(&stage, &namespace).await;
}
