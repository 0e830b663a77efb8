//! An API server that refuses: by quota, or by admission.

use crate::admission::{ADMISSION, Made, refuse_by_webhook};
use crate::harness::{Corner, Generator, PATIENCE, docker_config, eventually, stays};
use k8s_openapi::api::core::v1::{Event, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::time::{Duration, Instant};

/// Waits until the API server answers so to a Secret in a namespace. It creates none.
async fn secrets_are(corner: &Corner, namespace: &str, is_so: impl Fn(&kube::Result<Secret>) -> bool) {
    let name = json!({"name": "probe", "labels": {"app.kubernetes.io/managed-by": "image-pull-secrets-generator"}});
    let data = json!({".dockerconfigjson": docker_config("0")});
    let secret: Secret =
        serde_json::from_value(json!({"metadata": name, "type": "kubernetes.io/dockerconfigjson", "stringData": data}))
            .unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually("admission is at work", PATIENCE, || async {
        is_so(&corner.secrets(namespace).create(&dry, &secret).await)
    })
    .await;
}

/// A policy by which admission changes the Secrets of a corner's namespaces.
async fn change_by_policy(corner: &Corner, expression: &str) -> (Made, Made) {
    let policy = Made::new(
        corner,
        ADMISSION,
        "MutatingAdmissionPolicy",
        json!({"spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"corner": corner.name}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        }}),
    );
    let binding =
        Made::new(corner, ADMISSION, "MutatingAdmissionPolicyBinding", json!({"spec": {"policyName": corner.name}}));
    tokio::join!(policy, binding)
}

async fn warnings(generator: &Generator, text: &str) -> usize {
    generator.log().lines().filter(|line| line.contains(" WARN ") && line.contains(text)).count()
}

fn count(verb: &str, code: &str) -> String {
    let metric = if code == "2xx" { "requests" } else { "request_errors" };
    format!("image_pull_secrets_{metric}_total{{verb=\"{verb}\",resource=\"secrets\",code=\"{code}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_refuses_the_copy_holds_up_no_other() {
    let corner = Corner::new("quota").await;
    let refusing = corner.namespace("a-refusing").await;
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}}})).unwrap();
    let quotas = Api::<ResourceQuota>::namespaced(corner.client.clone(), &refusing);
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // As the controller would do that counts, which the test cluster does not run.
    let counted = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}});
    quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(counted)).await.unwrap();
    let other = corner.namespace("b").await;
    corner.put_source("1").await;
    let once = corner.once(&corner.settings(), &[]);
    assert_eq!(once.status.code(), Some(1));
    assert!(once.log.contains("exceeded quota: none"), "{}", once.log);
    corner.settled(&other, "1").await;
    assert_eq!(corner.references(&refusing).await, [corner.name.as_str()], "its ServiceAccount is served all the same");

    let settings = corner.write_settings(&corner.settings());
    let status = |more: &[&str]| corner.finish(&[&["status", "--settings", settings.to_str().unwrap()], more].concat());
    let told = status(&["--namespace", &refusing]);
    assert_eq!(told.status.code(), Some(1), "{}", told.out);
    assert!(told.out.contains("exceeded quota: none"), "{}", told.out);
    assert!(corner.copy(&refusing).await.is_none(), "it is only asked");
    let well = status(&["--namespace", &other]);
    assert_eq!(well.status.code(), Some(0), "{}", well.out);
    assert!(!well.out.contains(&refusing), "{}", well.out);

    let _generator = corner.run(&corner.settings(), &["--concurrency", "1"]);
    quotas.delete("none", &DeleteParams::default()).await.unwrap();
    corner.settled(&refusing, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_denies_the_copy_is_quoted_in_log_event_and_metric() {
    let corner = Corner::new("denied").await;
    let (refusing, other) = (corner.namespace("a-refusing").await, corner.namespace("b").await);
    corner.label_namespace(&refusing, json!({"labels": {"refuses": "yes"}})).await;
    let policy = json!({"spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"corner": corner.name, "refuses": "yes"}},
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}],
        },
        "validations": [{"expression": "false", "message": "no Secrets in this house"}],
    }});
    let policy = Made::new(&corner, ADMISSION, "ValidatingAdmissionPolicy", policy).await;
    let binding = json!({"spec": {"policyName": corner.name, "validationActions": ["Deny"]}});
    let binding = Made::new(&corner, ADMISSION, "ValidatingAdmissionPolicyBinding", binding).await;
    secrets_are(&corner, &refusing, Result::is_err).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&other, "1").await;
    let (name, client) = (&corner.name, &corner.client);
    let told = format!(
        "cannot create secrets {refusing}/{name}: secrets \"{name}\" is forbidden: ValidatingAdmissionPolicy '{name}' with binding \
         '{name}' denied request: no Secrets in this house (422)"
    );
    generator.logs(&told).await;
    let events = Api::<Event>::namespaced(client.clone(), &corner.ns("source"));
    eventually("there is an Event on the source", PATIENCE, || async {
        let on_source = events.list(&ListParams::default()).await.unwrap();
        on_source.iter().any(|event| {
            event.reason.as_deref() == Some("WriteFailed")
                && event.message.as_ref().is_some_and(|note| note.contains(&told))
        })
    })
    .await;
    eventually("it is tried again", PATIENCE, || async {
        generator.metric(&count("create", "422")).await.is_some_and(|errors| errors >= 2.0)
    })
    .await;
    assert_eq!(warnings(&generator, "no Secrets in this house").await, 1, "a retry that fails alike is no news");
    assert!(corner.copy(&refusing).await.is_none());
    binding.remove().await;
    policy.remove().await;
    corner.settled(&refusing, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_reached_is_not_hammered() {
    let corner = Corner::new("broken").await;
    let (refusing, other) = (corner.namespace("a-refusing").await, corner.namespace("b").await);
    corner.label_namespace(&refusing, json!({"labels": {"refuses": corner.name}})).await;
    let webhook = refuse_by_webhook(&corner, "CREATE", "secrets", &json!({"refuses": corner.name})).await;
    secrets_are(&corner, &refusing, Result::is_err).await;
    corner.put_source("1").await;
    // Until it is ready, each list that arrives late has everything tried once more.
    let generator = corner.run_ready(&corner.settings(), &[]).await;
    let start = Instant::now();
    let before = generator.metric(&count("create", "500")).await.unwrap_or_default();
    corner.settled(&other, "1").await;
    let told = format!(
        "cannot create secrets {refusing}/{}: Internal error occurred: failed calling webhook \"broken.example.com\": failed to \
         call webhook:",
        corner.name
    );
    generator.logs(&told).await;
    eventually("it is tried again and again", PATIENCE, || async {
        generator.metric(&count("create", "500")).await.is_some_and(|errors| errors >= before + 4.0)
    })
    .await;
    // The first of the four at any time, the second after 0.25 s at least, then after twice as long each time.
    assert!(start.elapsed() > Duration::from_millis(1750), "four tries within {:?}", start.elapsed());
    assert_eq!(warnings(&generator, "failed calling webhook").await, 1);
    webhook.remove().await;
    corner.settled(&refusing, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_that_adds_to_the_copy_is_told_and_not_fought() {
    let corner = Corner::new("adds").await;
    let namespace = corner.namespace("a").await;
    let policy = change_by_policy(&corner, "[JSONPatch{op: 'add', path: '/data/added', value: 'eA=='}]").await;
    let has_it = |secret: &Secret| secret.data.as_ref().is_some_and(|data| data.contains_key("added"));
    secrets_are(&corner, &namespace, |answer| answer.as_ref().is_ok_and(has_it)).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    let told = format!(
        "Secret {namespace}/{} is not as it was written: an admission webhook or policy changes it",
        corner.name
    );
    generator.logs(&told).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let writes = generator.metric(&count("patch", "2xx")).await.unwrap_or_default();
    assert!(writes < 8.0, "{writes} writes in 6 s");
    assert_eq!(warnings(&generator, "is not as it was written").await, 1);
    let drifted = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"drifted\"}}", corner.name);
    generator.counts(&drifted, 1.0).await;
    policy.1.remove().await;
    policy.0.remove().await;
    eventually("the copy is the source's", PATIENCE, || async {
        corner.copy(&namespace).await.is_some_and(|copy| !has_it(&copy))
    })
    .await;
    corner.settled(&namespace, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_that_takes_our_label_makes_the_copy_a_foreign_secret() {
    let corner = Corner::new("strips").await;
    let namespace = corner.namespace("a").await;
    let strip = "has(object.metadata.labels) ? [JSONPatch{op: 'remove', path: '/metadata/labels'}] : []";
    let policy = change_by_policy(&corner, strip).await;
    let is_stripped = |secret: &Secret| secret.metadata.labels.is_none();
    secrets_are(&corner, &namespace, |answer| answer.as_ref().is_ok_and(is_stripped)).await;
    corner.put_source("1").await;
    let generator = corner.run(&corner.settings(), &[]);
    generator.logs("is not as it was written: an admission webhook or policy changes it").await;
    generator.logs("was not made by the generator: it is kept, and no copy is made").await;
    let before = corner.copy(&namespace).await;
    corner.put_source("2").await;
    stays("it is not written any more", || async { corner.copy(&namespace).await == before }).await;
    policy.1.remove().await;
    policy.0.remove().await;
    secrets_are(&corner, &namespace, |answer| answer.as_ref().is_ok_and(|s| !is_stripped(s))).await;
    // What to do about it is what the Event on a foreign Secret says.
    corner.delete_secret(&namespace).await;
    corner.settled(&namespace, "2").await;
}
