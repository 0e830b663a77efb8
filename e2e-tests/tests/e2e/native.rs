//! The manifests of `native/`: the API server adds the references by itself, with the generator beside it.

use crate::generator::cleanup;
use crate::harness::{Stage, eventually, pod, pod_with};
use crate::product::Product;
use image_pull_secrets_e2e::{modules, native};
use rstest::rstest;
use serde_json::{Value, json};
use std::fs;

/// The manifests that always add the reference.
pub const PLAIN: &str = "policy.yaml";

/// The manifests that look at the Secret.
pub const WITH_PARAMETER: &str = "policy-with-parameter.yaml";

/// Installs a manifest of `native/` for this secret and this stage, and waits until it takes effect.
pub async fn apply(product: &Product, file: &str) {
    let stage = &product.stage;
    let text = fs::read_to_string(modules::root().join("native").join(file)).unwrap();
    let version = newest_version(stage).await;
    for document in text.replace("registry-credentials", &product.secret).split("\n---\n") {
        let mut object: Value = yaml_serde::from_str(document).unwrap();
        object["apiVersion"] = json!(format!("admissionregistration.k8s.io/{version}"));
        let kind = match object["kind"].as_str().unwrap() {
            "MutatingAdmissionPolicy" => {
                object["spec"]["matchConstraints"]["namespaceSelector"] = stage.selector();
                "mutatingadmissionpolicies"
            }
            "MutatingAdmissionPolicyBinding" => "mutatingadmissionpolicybindings",
            other => panic!("{other}"),
        };
        stage.create(&format!("{}/{version}/{kind}", native::GROUP), object).await.ok();
    }
    // Try it in a namespace that has the Secret, for the manifests that look at it.
    let namespace = stage.create_namespace("probe").await;
    stage.create_pull_secret(&namespace, &product.secret, &product.docker_config("0")).await;
    let path = format!("/api/v1/namespaces/{namespace}");
    eventually("the policies are at work", || async {
        let account = json!({"metadata": {"name": "default", "labels": {"a": "b"}}});
        let account = stage.merge(&format!("{path}/serviceaccounts/default?dryRun=All"), account).await.ok();
        let pod = stage.post(&format!("{path}/pods?dryRun=All"), pod("probe")).await.ok();
        account.listed() == [product.secret.as_str()] && pod.listed() == [product.secret.as_str()]
    })
    .await;
}

/// The newest version of MutatingAdmissionPolicies that the API server has.
pub async fn newest_version(stage: &Stage) -> String {
    let served = stage.get(native::GROUP).await.ok();
    for version in served.body["versions"].as_array().unwrap() {
        let version = version["version"].as_str().unwrap();
        let resources = stage.get(&format!("{}/{version}", native::GROUP)).await.ok();
        if resources.body["resources"].as_array().unwrap().iter().any(|it| it["name"] == "mutatingadmissionpolicies") {
            return version.to_owned();
        }
    }
    panic!("the API server has no MutatingAdmissionPolicies")
}

#[rstest]
#[case::whatever_is_there(PLAIN)]
#[case::where_the_secret_is_there(WITH_PARAMETER)]
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_is_appended_once(#[case] file: &str) {
    let product = Product::before(json!({})).await;
    product.stage.create_secret(&product.secret).await;
    apply(&product, file).await;
    let secret = product.secret.as_str();
    let listing = |names: &[&str]| {
        let entries: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"imagePullSecrets": entries}})
    };
    for (what, more, expected) in [
        ("nothing", json!({}), vec![secret]),
        ("another", listing(&["mine"]), vec!["mine", secret]),
        ("it", listing(&[secret, "mine"]), vec![secret, "mine"]),
    ] {
        let created = product.stage.create_pod(pod_with(&format!("lists-{what}"), more)).await.ok();
        assert_eq!((created.listed(), created.warnings.len()), (expected, 0), "{what}");
    }
    let account = json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "mine"}]});
    let path = format!("{}/default", product.stage.accounts());
    assert_eq!(product.stage.merge(&path, account).await.ok().listed(), ["mine", secret]);
    let builder = product.stage.post(&product.stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    assert_eq!(builder.listed(), [""; 0], "it is not selected");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_parameter_a_missing_secret_is_referred_to() {
    let product = Product::before(json!({})).await;
    apply(&product, PLAIN).await;
    let namespace = product.stage.create_namespace("new").await;
    assert_eq!(product.references(&namespace).await, [product.secret.as_str()]);
    assert_eq!(product.would_list().await, [product.secret.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_parameter_only_a_secret_that_is_there_and_of_the_right_type_is_referred_to() {
    let product = Product::before(json!({})).await;
    apply(&product, WITH_PARAMETER).await;
    let namespace = product.stage.create_namespace("new").await;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    assert_eq!(product.references(&namespace).await, [""; 0]);
    assert_eq!(product.stage.post(&pods, pod("before")).await.ok().listed(), [""; 0]);

    let opaque = json!({"metadata": {"name": product.secret}, "stringData": {"token": "x"}});
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    product.stage.post(&secrets, opaque).await.ok();
    assert_eq!(product.stage.post(&pods, pod("opaque")).await.ok().listed(), [""; 0]);
    product.stage.delete(&format!("{secrets}/{}", product.secret)).await.ok();

    product.stage.create_pull_secret(&namespace, &product.secret, &product.docker_config("0")).await;
    // Parameters come from a cache.
    eventually("the Secret is seen", || async {
        let answer = product.stage.post(&format!("{pods}?dryRun=All"), pod("after")).await.ok();
        answer.listed() == [product.secret.as_str()]
    })
    .await;
}

#[rstest]
#[case::whatever_is_there(PLAIN, json!({}))]
#[case::where_the_secret_is_there(WITH_PARAMETER, json!({"onMissingSecret": "skip"}))]
#[tokio::test(flavor = "multi_thread")]
async fn the_generator_makes_the_copies_beside_it(#[case] file: &str, #[case] settings: Value) {
    let product = Product::before(settings).await;
    apply(&product, file).await;
    let _generator = product.start_generator();
    let namespace = product.stage.create_namespace("new").await;
    product.settled(&namespace, "0").await;
    product.rotate("1").await;
    product.settled(&namespace, "1").await;
    assert_eq!(product.references(&namespace).await, [product.secret.as_str()]);
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    assert_eq!(product.stage.post(&path, pod("web")).await.ok().listed(), [product.secret.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_names_the_policies_that_put_references_back() {
    let product = Product::before(json!({})).await;
    let generator = product.start_generator();
    let namespace = &product.stage.namespace;
    product.settled(namespace, "0").await;
    drop(generator);
    apply(&product, PLAIN).await;
    let (succeeded, said) = cleanup(&product.stage, &product.settings, &[]);
    assert!(
        !succeeded && said.contains("delete its ClusterAdmissionPolicy or MutatingAdmissionPolicies first"),
        "{said}"
    );
    assert_eq!(product.references(namespace).await, [product.secret.as_str()]);
}
