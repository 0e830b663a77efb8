//! Pods, as their users create and change them.

use crate::harness::{Registration, Stage, eventually, listed, pod, pod_with};
use image_pull_secrets_e2e::Verdict;
use rstest::rstest;
use serde_json::{Value, json};

fn settings(on_missing: &str) -> Value {
    json!({"secrets": [{"name": "creds"}], "onMissingSecret": on_missing})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_names_the_secret_from_its_first_moment() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!(created.listed(), ["creds"]);
    assert_eq!(created.warnings, [""; 0]);
    let stored = stage.get(&format!("{}/web", stage.pods())).await.ok();
    assert_eq!(stored.listed(), ["creds"]);
}

#[rstest]
#[case::warn(
    "warn",
    201,
    &["creds"],
    "Secret NAMESPACE/creds does not exist. It was added anyway; create it, or private images cannot be pulled"
)]
#[case::skip(
    "skip",
    201,
    &[],
    "Secret NAMESPACE/creds does not exist. It was not added; create it, then recreate the Pod"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_warned_that_the_secret_is_missing(
    #[case] on_missing: &str,
    #[case] status: u16,
    #[case] names: &[&str],
    #[case] warning: &str,
) {
    let stage = Stage::new(settings(on_missing)).await;
    let created = stage.create_pod(pod("web")).await;
    assert_eq!((created.status, created.listed()), (status, names.to_vec()));
    assert_eq!(created.warnings, [warning.replace("NAMESPACE", &stage.namespace)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_why_its_pod_is_rejected() {
    let stage = Stage::new(settings("reject")).await;
    let refused = stage.create_pod(pod("web")).await;
    let expected = format!(
        "denied the request: Pod {namespace}/web is denied because of its image pull secrets. Missing in namespace \
         {namespace}: creds. Create what is missing, then try again: kubectl create secret docker-registry creds -n \
         {namespace} ",
        namespace = stage.namespace
    );
    assert!(refused.status >= 400 && refused.message().contains(&expected), "{refused:?}");
    stage.create_secret("creds").await;
    assert_eq!(stage.create_pod(pod("web")).await.ok().listed(), ["creds"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_kubelet_cannot_read_is_not_named() {
    let stage = Stage::new(settings("warn")).await;
    // The API server accepts it, because it only checks that the value is JSON.
    let value = r#"{"auths":{"ghcr.io":{"auth":"hunter2!"}}}"#;
    stage.create_secret_of("creds", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", value).await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!(created.listed(), [""; 0]);
    let expected = format!(
        "Secret {}/creds is unusable: its entry \"ghcr.io\" has an \"auth\" that is not base64. It was not added; replace \
         it, then recreate the Pod",
        stage.namespace
    );
    assert_eq!(created.warnings, [expected]);
}

/// With the rules of the chart, the API server does not call the webhook for these. Here it is registered for everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_lacks_the_secret_can_be_edited_reported_on_debugged_and_evicted() {
    let mut stage = Stage::empty(settings("reject")).await;
    stage.create_pod(pod("old")).await.ok();
    stage.register(Registration { everything: true, ..Registration::default() }).await;
    let path = format!("{}/old", stage.pods());

    let labelled = stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    assert_eq!((labelled.listed(), labelled.warnings.len()), (vec![], 0));
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let reported = stage.merge(&format!("{path}/status"), status).await.ok();
    assert_eq!((reported.listed(), reported.warnings.len()), (vec![], 0));
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "ghcr.io/acme/debug:1"}]}});
    let debugged = stage
        .send("PATCH", &format!("{path}/ephemeralcontainers"), "application/strategic-merge-patch+json", debugger)
        .await
        .ok();
    assert_eq!((debugged.listed(), debugged.warnings.len()), (vec![], 0));
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "old"}});
    stage.post(&format!("{path}/eviction"), eviction).await.ok();

    let asked: Vec<_> = stage.asked().into_iter().map(|asked| (asked.operation, asked.sub_resource)).collect();
    for (operation, sub_resource) in [
        ("UPDATE", None),
        ("UPDATE", Some("status")),
        ("UPDATE", Some("ephemeralcontainers")),
        ("CREATE", Some("eviction")),
    ] {
        let wanted = (operation.to_owned(), sub_resource.map(str::to_owned));
        assert!(asked.contains(&wanted), "{wanted:?} is not among {asked:?}");
    }
    eventually("the Pod is evicted", || async {
        let left = stage.get(&path).await;
        left.status == 404 || left.body["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_policy_is_for_is_asked_about() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let path = format!("{}/web", stage.pods());
    stage.create_pod(pod("web")).await.ok();
    stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    stage.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    let asked: Vec<_> = stage.asked().into_iter().map(|asked| format!("{} {}", asked.operation, asked.kind)).collect();
    assert_eq!(asked, ["CREATE Pod"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_pod_is_left_alone() {
    let stage = Stage::new(settings("reject")).await;
    let mirror = pod_with(
        "static-web",
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "node-1"}}),
    );
    let created = stage.create_pod(mirror).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec![], 0));
    // The API server would refuse it otherwise.
    let naming = pod_with(
        "static-other",
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}},
               "spec": {"nodeName": "node-1", "imagePullSecrets": [{"name": "creds"}]}}),
    );
    let refused = stage.create_pod(naming).await;
    assert!(refused.message().contains("a mirror pod may not reference secrets"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_its_service_account_come_first_and_stay() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let account = json!({"metadata": {"name": "builder"}, "imagePullSecrets": [{"name": "zeta"}, {"name": "alpha"}]});
    stage.post(&stage.accounts(), account).await.ok();
    let created = stage.create_pod(pod_with("web", json!({"spec": {"serviceAccountName": "builder"}}))).await.ok();
    assert_eq!(created.listed(), ["zeta", "alpha", "creds"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_names_the_secret_is_left_as_it_is_without_a_question(
    #[values("warn", "skip", "ignore")] on_missing: &str,
) {
    let stage = Stage::new(settings(on_missing)).await;
    let secrets = json!([{"name": "zeta"}, {"name": "creds"}, {"name": "alpha"}]);
    let created = stage.create_pod(pod_with("web", json!({"spec": {"imagePullSecrets": secrets}}))).await.ok();
    assert_eq!(created.listed(), ["zeta", "creds", "alpha"]);
    let asked = &stage.asked()[0];
    assert_eq!((asked.verdict, asked.host_calls), (Verdict::Accepted, 0));
}

/// The order of a real cluster: the policy is there before the namespace, so that its Pods arrive with the secret listed.
#[tokio::test(flavor = "multi_thread")]
async fn under_reject_a_pod_that_inherits_the_secret_is_denied_until_it_works() {
    let stage = Stage::new(settings("reject")).await;
    let namespace = format!("/api/v1/namespaces/{}", stage.create_namespace("new").await);
    let account = stage.get(&format!("{namespace}/serviceaccounts/default")).await.ok();
    assert_eq!(account.listed(), ["creds"], "what its Pods inherit");
    let pods = format!("{namespace}/pods");
    let create = || stage.post(&pods, pod("web"));

    let refused = create().await;
    assert!(refused.status >= 400 && refused.message().contains("Missing in namespace"), "{refused:?}");

    let secrets = format!("{namespace}/secrets");
    let secret = |config: &str| {
        json!({"metadata": {"name": "creds"}, "type": "kubernetes.io/dockerconfigjson",
               "stringData": {".dockerconfigjson": config}})
    };
    stage.post(&secrets, secret(r#"{"auths":{"ghcr.io":{"auth":"hunter2!"}}}"#)).await.ok();
    let refused = create().await;
    assert!(refused.status >= 400 && refused.message().contains("creds is unusable"), "{refused:?}");

    stage.delete(&format!("{secrets}/creds")).await.ok();
    stage.post(&secrets, secret(r#"{"auths":{"ghcr.io":{"auth":"YTpi"}}}"#)).await.ok();
    // The host gives what it read for a few seconds more.
    eventually("the Pod is admitted", || async { create().await.status == 201 }).await;
    let created = stage.get(&format!("{pods}/web")).await.ok();
    assert_eq!(created.listed(), ["creds"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_debugs_a_pod_is_told_of_the_secret_that_it_lacks() {
    let mut stage = Stage::empty(settings("reject")).await;
    stage.create_secret("creds").await;
    stage.create_pod(pod("old")).await.ok();
    stage.register(Registration::default()).await;
    stage.create_pod(pod("new")).await.ok();
    let debug = |name: &str, image: &str| {
        let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": image}]}});
        let path = format!("{}/{name}/ephemeralcontainers", stage.pods());
        let stage = &stage;
        async move { stage.send("PATCH", &path, "application/strategic-merge-patch+json", debugger).await.ok() }
    };

    let told = debug("old", "ghcr.io/acme/debug:1").await;
    let expected = format!(
        "The Pod does not list Secret {}/creds, which is for an ephemeral container's image: it may not pull, and a running \
         Pod's list cannot change",
        stage.namespace
    );
    assert_eq!(told.warnings, [expected]);
    assert_eq!(told.listed(), [""; 0]);
    assert_eq!(told.body["spec"]["ephemeralContainers"][0]["name"], "debug");
    let silent = debug("new", "ghcr.io/acme/debug:1").await;
    assert_eq!((silent.listed(), silent.warnings.len()), (vec!["creds"], 0), "it lists the secret");
    let asked: Vec<_> = stage.asked().into_iter().map(|asked| (asked.operation, asked.sub_resource)).collect();
    let of_ephemeral = asked.iter().filter(|asked| **asked == ("UPDATE".into(), Some("ephemeralcontainers".into())));
    assert_eq!(of_ephemeral.count(), 2, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_generated_later_does_not_matter() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let mut generated = pod("");
    generated["metadata"] = json!({"generateName": "web-"});
    let created = stage.create_pod(generated).await.ok();
    assert_eq!(created.listed(), ["creds"]);
    assert!(created.body["metadata"]["name"].as_str().unwrap().len() > "web-".len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_would_be_and_leaves_nothing() {
    let stage = Stage::new(settings("warn")).await;
    let shown = stage.post(&format!("{}?dryRun=All", stage.pods()), pod("web")).await.ok();
    assert_eq!((shown.listed(), shown.warnings.len()), (vec!["creds"], 1));
    assert_eq!(stage.get(&format!("{}/web", stage.pods())).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_a_mebibyte_is_changed_in_nothing_else() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let large = "x\"\\\u{e9}".repeat((1 << 20) / 7);
    let big = pod_with(
        "big",
        json!({"spec": {"containers": [{
            "name": "app", "image": "ghcr.io/acme/app:1", "env": [{"name": "LARGE", "value": large}],
        }]}}),
    );
    assert!(big.to_string().len() > 1 << 20);
    let created = stage.create_pod(big.clone()).await.ok();
    assert_eq!(created.listed(), ["creds"]);
    // The same Pod in a namespace for which the webhook is not called.
    let other = Stage::empty(settings("warn")).await;
    let mut expected = other.create_pod(big).await.ok().body["spec"].clone();
    expected["imagePullSecrets"] = json!([{"name": "creds"}]);
    let mut spec = created.body["spec"].clone();
    for spec in [&mut expected, &mut spec] {
        // The name of the token's volume is random.
        let token = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
        *spec = serde_json::from_str(&spec.to_string().replace(&token, "token")).unwrap();
    }
    assert_eq!(spec, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_manager_applies_stays_its_own() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let path = format!("{}/web", stage.pods());
    let mut applied = pod_with("web", json!({"spec": {"imagePullSecrets": [{"name": "theirs"}]}}));
    let created = stage.apply(&path, "gitops", applied.clone()).await.ok();
    assert_eq!(created.listed(), ["theirs", "creds"]);
    // Applying the same again changes nothing, and a new label is no conflict, although the applied list lacks our secret.
    let again = stage.apply(&path, "gitops", applied.clone()).await.ok();
    assert_eq!(again.listed(), ["theirs", "creds"]);
    applied["metadata"]["labels"] = json!({"a": "b"});
    let labelled = stage.apply(&path, "gitops", applied).await.ok();
    assert_eq!((labelled.listed(), &labelled.body["metadata"]["labels"]["a"]), (vec!["theirs", "creds"], &json!("b")));
    let owned = &labelled.body["metadata"]["managedFields"][0];
    assert_eq!(owned["manager"], "gitops");
    assert!(!owned["fieldsV1"]["f:spec"]["f:imagePullSecrets"]["k:{\"name\":\"theirs\"}"].is_null(), "{owned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_deployment_name_the_secret_and_its_template_does_not() {
    let stage = Stage::new(settings("warn")).await;
    stage.create_secret("creds").await;
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("")["spec"]},
        },
    });
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", stage.namespace);
    let created = stage.post(&path, deployment).await.ok();
    assert_eq!(created.body["spec"]["template"]["spec"]["imagePullSecrets"], Value::Null);
    let pods = format!("{}?labelSelector=app%3Dweb", stage.pods());
    eventually("both Pods", || async { stage.get(&pods).await.body["items"].as_array().unwrap().len() == 2 }).await;
    for pod in stage.get(&pods).await.body["items"].as_array().unwrap() {
        assert_eq!(listed(pod), ["creds"]);
    }
}
