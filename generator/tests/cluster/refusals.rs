//! An API server that refuses: by quota, by admission, or because it is overloaded.

use crate::harness::{Corner, Generator, docker_config, eventually, stays};
use crate::rights::limited;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Event, ResourceQuota, Secret};
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Something for the whole cluster that a test makes, and takes away.
pub struct Made<K>(Api<K>, String);

impl<K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned> Made<K> {
    async fn new(corner: &Corner, mut document: Value) -> Self {
        document["metadata"] = json!({"name": corner.name});
        let api = Api::<K>::all(corner.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(document).unwrap()).await.unwrap();
        Self(api, corner.name.clone())
    }

    pub async fn remove(self) {
        self.0.delete(&self.1, &DeleteParams::default()).await.unwrap();
    }
}

/// Waits until the API server answers so to a Secret in a namespace. It creates none.
async fn secrets_are(corner: &Corner, namespace: &str, is_so: impl Fn(&kube::Result<Secret>) -> bool) {
    let name = json!({"name": "probe", "labels": {"app.kubernetes.io/managed-by": "image-pull-secrets-generator"}});
    let data = json!({".dockerconfigjson": docker_config("0")});
    let secret: Secret =
        serde_json::from_value(json!({"metadata": name, "type": "kubernetes.io/dockerconfigjson", "stringData": data}))
            .unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually("admission is at work", Duration::from_secs(30), || async {
        is_so(&corner.secrets(namespace).create(&dry, &secret).await)
    })
    .await;
}

/// A webhook that cannot be reached, and without which nothing is admitted.
pub async fn refuse_by_webhook(
    corner: &Corner,
    operation: &str,
    resource: &str,
    labels: &Value,
) -> Made<ValidatingWebhookConfiguration> {
    webhook(corner, "127.0.0.1:1", operation, resource, labels).await
}

async fn webhook(
    corner: &Corner,
    address: &str,
    operation: &str,
    resource: &str,
    labels: &Value,
) -> Made<ValidatingWebhookConfiguration> {
    let webhook = json!({
        "name": "broken.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://{address}/admit")}, "timeoutSeconds": 30,
        "namespaceSelector": {"matchLabels": labels},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": [resource]}],
    });
    Made::new(corner, json!({"webhooks": [webhook]})).await
}

/// A policy by which admission changes the Secrets of a corner's namespaces.
async fn change_by_policy(
    corner: &Corner,
    expression: &str,
) -> (Made<MutatingAdmissionPolicy>, Made<MutatingAdmissionPolicyBinding>) {
    let policy = Made::new(
        corner,
        json!({"spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"corner": corner.name}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        }}),
    );
    let binding = Made::new(corner, json!({"spec": {"policyName": corner.name}}));
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
    let policy = Made::<ValidatingAdmissionPolicy>::new(&corner, policy).await;
    let binding = json!({"spec": {"policyName": corner.name, "validationActions": ["Deny"]}});
    let binding = Made::<ValidatingAdmissionPolicyBinding>::new(&corner, binding).await;
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
    eventually("there is an Event on the source", Duration::from_secs(20), || async {
        let on_source = events.list(&ListParams::default()).await.unwrap();
        on_source.iter().any(|event| {
            event.reason.as_deref() == Some("WriteFailed")
                && event.message.as_ref().is_some_and(|note| note.contains(&told))
        })
    })
    .await;
    eventually("it is tried again", Duration::from_secs(20), || async {
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
    let generator = corner.run(&corner.settings(), &[]);
    corner.settled(&other, "1").await;
    let told = format!(
        "cannot create secrets {refusing}/{}: Internal error occurred: failed calling webhook \"broken.example.com\": failed to \
         call webhook:",
        corner.name
    );
    generator.logs(&told).await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let errors = generator.metric(&count("create", "500")).await.unwrap();
    // After 0.25 s at least, then twice as long each time.
    assert!((2.0..8.0 + start.elapsed().as_secs_f64() - 6.0).contains(&errors), "{errors} tries");
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
        "Secret {namespace}/{} was written, and is not what was written: an admission webhook or policy changes it",
        corner.name
    );
    generator.logs(&told).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let writes = generator.metric(&count("patch", "2xx")).await.unwrap_or_default();
    assert!(writes < 8.0, "{writes} writes in 6 s");
    assert_eq!(warnings(&generator, "is not what was written").await, 1);
    let drifted = format!("image_pull_secrets_copies{{secret=\"{}\",state=\"drifted\"}}", corner.name);
    assert_eq!(generator.metric(&drifted).await, Some(1.0));
    policy.1.remove().await;
    policy.0.remove().await;
    eventually("the copy is the source's", Duration::from_secs(40), || async {
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
    generator.logs("is not what was written: an admission webhook or policy changes it").await;
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

/// A client that shows what the API server answers, instead of trying again by itself.
async fn impatient(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_api_server_is_given_the_time_that_it_asks_for() {
    let corner = Corner::new("overload").await;
    let names = corner.namespaces(20).await;
    for namespace in &names {
        eventually("there is a ServiceAccount", Duration::from_secs(30), || async {
            corner.accounts(namespace).get_opt("default").await.unwrap().is_some()
        })
        .await;
    }
    corner.put_source("1").await;
    let kubeconfig = limited(&corner, |_| ()).await;
    let level = Made::<PriorityLevelConfiguration>::new(
        &corner,
        json!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
        }}}),
    )
    .await;
    let source = corner.ns("source");
    let subject = json!({"kind": "ServiceAccount", "serviceAccount": {"name": "generator", "namespace": source}});
    let writes =
        json!({"verbs": ["create", "patch"], "apiGroups": [""], "resources": ["secrets"], "namespaces": ["*"]});
    let schema = Made::<FlowSchema>::new(
        &corner,
        json!({"spec": {
            "matchingPrecedence": 2, "priorityLevelConfiguration": {"name": corner.name},
            "rules": [{"subjects": [subject], "resourceRules": [writes]}],
        }}),
    )
    .await;
    // Without any share one request at a time is let in all the same. So there is one that waits for a webhook which takes
    // calls, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    corner.label_namespace(&source, json!({"labels": {"holds": corner.name}})).await;
    let address = silent.local_addr().unwrap().to_string();
    let webhook = webhook(&corner, &address, "CREATE", "secrets", &json!({"holds": corner.name})).await;
    let secrets = Api::<Secret>::namespaced(impatient(&kubeconfig).await, &source);
    let probe: Secret = serde_json::from_value(json!({"metadata": {"name": corner.name}})).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let blocker = tokio::spawn({
        let (secrets, probe, dry) = (secrets.clone(), probe.clone(), dry.clone());
        async move {
            loop {
                let _ = secrets.create(&dry, &probe).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    eventually("the API server refuses", Duration::from_secs(30), || async {
        let answer = tokio::time::timeout(Duration::from_secs(1), secrets.create(&dry, &probe)).await;
        matches!(answer, Ok(Err(kube::Error::Api(status))) if status.code == 429)
    })
    .await;

    let settings = corner.write_settings(&corner.settings());
    let args = ["run", "--no-leader-elect", "--concurrency", "4", "--settings", settings.to_str().unwrap()];
    let generator = corner.start_as(&args, &kubeconfig, &[]);
    let start = Instant::now();
    generator.logs("Too many requests, please try again later. (429)").await;
    eventually("the ServiceAccounts are served meanwhile", Duration::from_secs(20), || async {
        futures::future::join_all(names.iter().map(|name| corner.references(name))).await.iter().all(|r| r.len() == 1)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let errors = generator.metric(&count("create", "429")).await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(errors >= 8.0 && errors <= 4.0 * (seconds + 2.0), "{errors} refusals in {seconds} s: not 4 each second");

    schema.remove().await;
    blocker.abort();
    webhook.remove().await;
    futures::future::join_all(names.iter().map(|name| corner.settled(name, "1"))).await;
    assert_eq!(generator.metric(&count("create", "2xx")).await, Some(20.0));
    level.remove().await;
}
