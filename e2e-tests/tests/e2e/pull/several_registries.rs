//! Pods with images from more than one registry, and in more places than containers.

use crate::harness::Registration;
use crate::product::Product;
use crate::pull::explain::agrees_in;
use crate::registry::{Registry, basic, bearer, docker_config, password, pod_of};
use serde_json::json;

/// One registry of the cluster's, with Basic authentication, and one of a team's own, with tokens.
async fn at_work() -> (Registry, Registry, Product) {
    let ours = Registry::new(basic(json!({"acme": password("0")}))).await;
    let theirs = Registry::new(bearer(json!({"team": password("team")}))).await;
    let mut product = Product::for_server(&ours.host, json!({})).await;
    product.stage.register(Registration::default()).await;
    (ours, theirs, product)
}

/// Who pulled it, and that nobody else tried.
async fn only_user(registry: &Registry, image: &str) -> String {
    let pulls = registry.pulled(image).await;
    // The first attempt may come before the copy does.
    let users: Vec<_> = pulls.iter().map(|pull| pull.user.as_str()).filter(|user| !user.is_empty()).collect();
    assert_eq!(users.len(), 1, "{pulls:?}");
    users[0].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_image_is_pulled_with_the_credential_that_is_for_it() {
    let (ours, theirs, product) = at_work().await;
    let _generator = product.start_generator();
    let stage = &product.stage;
    let namespace = stage.create_namespace("team").await;
    let own = docker_config(&theirs.host, "team", &password("team"));
    stage.create_pull_secret(&namespace, "mine", &own).await;
    let images = [
        (&theirs, theirs.push("team/app").await, "team"),
        (&ours, ours.push("acme/proxy").await, "acme"),
        (&ours, ours.push("acme/side-car").await, "acme"),
        (&theirs, theirs.push("team/side-car").await, "team"),
        (&ours, ours.push("acme/init").await, "acme"),
        (&theirs, theirs.push("team/init").await, "team"),
        (&ours, ours.push("acme/assets").await, "acme"),
        (&theirs, theirs.push("team/assets").await, "team"),
    ];
    let image = |number: usize| images[number].1.as_str();
    let mut pod = pod_of("web", image(0));
    pod["spec"]["imagePullSecrets"] = json!([{"name": "mine"}]);
    let volumes = |name: &str, image: &str| json!({"name": name, "image": {"reference": image}});
    pod["spec"]["volumes"] = json!([volumes("ours", image(6)), volumes("theirs", image(7))]);
    let mounts = json!([{"name": "ours", "mountPath": "/ours"}, {"name": "theirs", "mountPath": "/theirs"}]);
    pod["spec"]["containers"] =
        json!([{"name": "app", "image": image(0), "volumeMounts": mounts}, {"name": "proxy", "image": image(1)}]);
    let side_car = |name: &str, image: &str| json!({"name": name, "image": image, "restartPolicy": "Always"});
    let init = |name: &str, image: &str| json!({"name": name, "image": image});
    pod["spec"]["initContainers"] = json!([
        side_car("our-side-car", image(2)),
        side_car("their-side-car", image(3)),
        init("our-init", image(4)),
        init("their-init", image(5)),
    ]);
    let created = stage.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await.ok();
    assert_eq!(created.listed(), ["mine", product.secret.as_str()]);
    for (registry, image, user) in &images {
        assert_eq!(only_user(registry, image).await, *user, "{image}");
    }
    agrees_in(stage, &namespace).await;
}

/// A Pod with a list of its own inherits nothing from its ServiceAccount: the generator cannot help it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_a_secret_of_its_own_does_not_pull_from_ours_without_the_policy() {
    let ours = Registry::new(basic(json!({"acme": password("0")}))).await;
    let product = Product::for_server(&ours.host, json!({})).await;
    let _generator = product.start_generator();
    let namespace = product.stage.create_namespace("team").await;
    product.settled(&namespace, "0").await;
    let image = ours.push("acme/app").await;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let mut pod = pod_of("web", &image);
    product.stage.post(&pods, pod.clone()).await.ok();
    assert_eq!(only_user(&ours, &image).await, "acme");
    let other = ours.push("acme/other").await;
    pod["metadata"] = json!({"name": "other"});
    pod["spec"]["containers"][0]["image"] = json!(other);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "mine"}]);
    product.stage.post(&pods, pod).await.ok();
    let pulls = ours.refused(&other, "", 1).await;
    assert!(pulls.iter().all(|pull| pull.user.is_empty()), "{pulls:?}");
    agrees_in(&product.stage, &namespace).await;
}
