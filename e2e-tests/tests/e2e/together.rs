//! What the generator promises, with the policy at work on the same objects.

use crate::generator::cleanup;
use crate::harness::{PASSWORD, Registration, Stage, WEBHOOKS, eventually, pod};
use crate::product::Product;
use futures::future::join_all;
use image_pull_secrets_e2e::Verdict;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const EXCLUDE: &str = "example.com/no-pull-secrets";

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_200_namespaces_with_rotations_and_a_pod_in_each_that_stays() {
    let product = Product::with_policy(json!({})).await;
    let generator = product.start_generator();
    let (product, stage) = (&product, &product.stage);
    let storm = async {
        let mut names = Vec::new();
        for batch in 0..10 {
            let new: Vec<_> = (0..20).map(|n| format!("{}-s{batch}-{n:02}", stage.id)).collect();
            join_all(new.iter().map(|name| stage.create_namespace_only(name))).await;
            let (doomed, kept) = new.split_at(10);
            join_all(doomed.iter().map(|name| async move {
                stage.delete(&format!("/api/v1/namespaces/{name}")).await.ok();
            }))
            .await;
            names.extend_from_slice(kept);
        }
        names
    };
    let rotations = async {
        for version in ["1", "2", "3"] {
            tokio::time::sleep(Duration::from_millis(400)).await;
            product.rotate(version).await;
        }
    };
    let (names, ()) = tokio::join!(storm, rotations);
    join_all(names.iter().map(|namespace| async move {
        // Until the controller has made the ServiceAccount, nobody's Pod is admitted.
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        eventually("a Pod is admitted", || async {
            let created = stage.post(&path, pod("web")).await;
            created.status == 201 && created.listed() == [&product.secret]
        })
        .await;
        product.settled(namespace, "3").await;
        assert_eq!(product.references(namespace).await, [product.secret.as_str()]);
    }))
    .await;
    assert!(!stage.asked().iter().any(|asked| matches!(asked.verdict, Verdict::Failed | Verdict::Rejected)));
    // Every one of these ServiceAccounts was made under the policy's eyes.
    let log = generator.log();
    assert!(!names.iter().any(|name| log.contains(&format!("update ServiceAccount namespace=\"{name}\""))), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_that_cannot_be_used_stays_out_of_pods_until_it_is_adopted() {
    let mut product = Product::before(json!({})).await;
    product.stage.create_secret_of(&product.secret, "Opaque", "token", PASSWORD).await;
    product.stage.register(Registration::default()).await;
    let namespace = product.stage.namespace.clone();
    let keeping = product.start_generator();
    eventually("it is told", || async { keeping.log().contains("was not made by the generator") }).await;
    let created = product.stage.create_pod(pod("kept")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec![], 1));
    assert_eq!(product.references(&namespace).await, [""; 0]);
    drop(keeping);
    product.settings["conflicts"] = json!("adopt");
    let _adopting = product.start_generator();
    product.settled(&namespace, "0").await;
    // The host remembers the Secret that it found for 5 seconds.
    eventually("Pods are given it", || async { product.would_list().await == [product.secret.as_str()] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_excluded_later_is_left_by_both_and_comes_back_to_both() {
    // The generator first: it removes references that it added itself.
    let mut product = Product::before(json!({"exclude": {"annotation": EXCLUDE}})).await;
    let _generator = product.start_generator();
    let namespace = product.stage.namespace.clone();
    product.settled(&namespace, "0").await;
    product.stage.register(Registration::default()).await;
    assert_eq!(product.would_list().await, [product.secret.as_str()]);
    let path = format!("/api/v1/namespaces/{namespace}");
    product.stage.merge(&path, json!({"metadata": {"annotations": {EXCLUDE: "true"}}})).await.ok();
    // The policy's host remembers the Namespace for 5 seconds, and puts the reference back as long.
    eventually("the copy and the reference are gone", || async {
        product.stage.get(&product.path_in(&namespace)).await.status == 404
            && product.references(&namespace).await.is_empty()
    })
    .await;
    eventually("Pods are left alone", || async { product.would_list().await.is_empty() }).await;
    product.stage.merge(&path, json!({"metadata": {"annotations": {EXCLUDE: null}}})).await.ok();
    product.settled(&namespace, "0").await;
    eventually("Pods are given it again", || async { product.would_list().await == [product.secret.as_str()] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_deleted_and_made_again_leaves_every_pod_its_credentials() {
    let product = Product::with_policy(json!({})).await;
    let generator = product.start_generator();
    let namespace = &product.stage.namespace;
    product.settled(namespace, "0").await;
    product.delete_source().await;
    eventually("it is told", || async { generator.log().contains("the source is missing") }).await;
    let created = product.stage.create_pod(pod("meanwhile")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec![product.secret.as_str()], 0));
    assert!(product.has_version(namespace, "0").await);
    product.create_source("1").await;
    product.settled(namespace, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_skip_neither_refers_to_a_secret_that_is_not_there_and_the_generator_does_once_it_is() {
    let product = Product::with_policy(json!({"onMissingSecret": "skip"})).await;
    product.delete_source().await;
    let generator = product.start_generator();
    eventually("it is told", || async { generator.log().contains("the source is missing") }).await;
    // Its ServiceAccount is made under the policy's eyes, and seen by the generator.
    let namespace = product.stage.create_namespace("new").await;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let created = product.stage.post(&path, pod("meanwhile")).await.ok();
    assert_eq!((created.listed(), product.references(&namespace).await), (vec![], vec![]));
    product.create_source("1").await;
    product.settled(&namespace, "1").await;
    // The host remembers for 5 seconds what it found; what a Pod inherits it is not asked about.
    let created = product.stage.post(&path, pod("later")).await.ok();
    assert_eq!(created.listed(), [product.secret.as_str()]);
}

/// Every namespaced object of these namespaces but Events, by path, without what changes with every write.
async fn dump(stage: &Stage, namespaces: &[String]) -> BTreeMap<String, Value> {
    let groups = stage.get("/apis").await.ok().body;
    let of_groups = groups["groups"].as_array().unwrap().iter();
    let of_groups =
        of_groups.map(|group| format!("/apis/{}", group["preferredVersion"]["groupVersion"].as_str().unwrap()));
    let mut objects = BTreeMap::new();
    for version in ["/api/v1".to_owned()].into_iter().chain(of_groups) {
        let resources = stage.get(&version).await.ok().body;
        for resource in resources["resources"].as_array().unwrap() {
            let verbs = resource["verbs"].as_array().unwrap();
            let name = resource["name"].as_str().unwrap();
            if resource["namespaced"] != true || name == "events" || !verbs.contains(&json!("list")) {
                continue;
            }
            for namespace in namespaces {
                let path = format!("{version}/namespaces/{namespace}/{name}");
                for object in stage.get(&path).await.ok().body["items"].as_array_mut().unwrap() {
                    let metadata = object["metadata"].as_object_mut().unwrap();
                    metadata.retain(|key, _| key != "managedFields" && key != "resourceVersion");
                    objects.insert(format!("{path}/{}", metadata["name"].as_str().unwrap()), object.clone());
                }
            }
        }
    }
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_names_the_policy_that_is_at_work_and_without_it_leaves_the_cluster_as_it_was() {
    let mut product = Product::before(json!({"serviceAccounts": ["*"]})).await;
    let stage = &product.stage;
    let namespaces = [stage.namespace.clone(), stage.create_namespace("b").await, stage.create_namespace("c").await];
    let accounts = |namespace: &str| format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let theirs = json!({"imagePullSecrets": [{"name": "mine"}]});
    stage.merge(&format!("{}/default", accounts(&namespaces[1])), theirs).await.ok();
    stage.post(&accounts(&namespaces[2]), json!({"metadata": {"name": "builder"}})).await.ok();
    stage.create_secret("theirs").await;
    let and_the_source = [namespaces.as_slice(), std::slice::from_ref(&product.source)].concat();
    for namespace in &and_the_source {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let has_one = || async { stage.get(&path).await.body["items"].as_array().is_some_and(|all| !all.is_empty()) };
        eventually("the controllers are done with it", has_one).await;
    }
    let before = dump(stage, &and_the_source).await;

    product.stage.register(Registration::default()).await;
    let generator = product.start_generator();
    for namespace in &namespaces {
        product.settled(namespace, "0").await;
    }
    assert_eq!(product.references(&namespaces[1]).await, ["mine", product.secret.as_str()]);
    let stage = &product.stage;
    let late = stage.create_namespace("late").await;
    product.settled(&late, "0").await;
    drop(generator);
    assert_ne!(dump(stage, &and_the_source).await, before);

    let (succeeded, said) = cleanup(stage, &product.settings, &[]);
    assert!(!succeeded && said.contains("a policy is still at work; delete its ClusterAdmissionPolicy"), "{said}");
    let webhook = format!("{WEBHOOKS}/{}", stage.id);
    stage.delete(&webhook).await.ok();
    eventually("the policy is not asked any more", || async {
        stage.forget();
        product.would_list().await;
        stage.asked().is_empty()
    })
    .await;
    // What the policy added goes as well, where it refers to a copy.
    let (succeeded, said) = cleanup(stage, &product.settings, &["--all-references"]);
    assert!(succeeded, "{said}");
    assert_eq!(dump(stage, &and_the_source).await, before);
    assert_eq!(product.references(&late).await, [""; 0]);
    assert_eq!(stage.get(&product.path_in(&late)).await.status, 404);
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/default/leases/{}", stage.id);
    assert_eq!(stage.get(&lease).await.status, 404);
}
