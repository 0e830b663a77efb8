//! Kubewarden's own policy-server in the place of the embedded host. `make e2e-policy-server` runs these.

use crate::harness::{PASSWORD, Stage, WEBHOOKS, config, eventually, pod};
use crate::pull::new_namespace;
use image_pull_secrets_e2e::api_proxy::ApiProxy;
use image_pull_secrets_e2e::cluster::live::Live;
use image_pull_secrets_e2e::policy_server::{self, PolicyServer};
use image_pull_secrets_e2e::{AdmissionRequest, Cluster, modules, webhook};
use rstest::rstest;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The policy with these settings.
fn policy(settings: &Value) -> Value {
    policy_server::policy(&modules::root().join("annotated-policy.wasm"), settings).unwrap()
}

/// A kubeconfig with this token.
pub fn kubeconfig(stage: &Stage, token: &str) -> Value {
    let mut kubeconfig: Value = yaml_serde::from_str(&fs::read_to_string(&stage.kubeconfig).unwrap()).unwrap();
    for user in kubeconfig["users"].as_array_mut().unwrap() {
        user["user"] = json!({ "token": token });
    }
    kubeconfig
}

/// A policy-server. If a test fails, its log is shown; the log must not contain a credential.
struct Watched {
    server: PolicyServer,
    client: kube::Client,
}

impl Watched {
    async fn start(kubeconfig: &Value, policies: &Value, arguments: &[&str]) -> Self {
        let arguments = [&["--log-level", "debug"], arguments].concat();
        let server = PolicyServer::start(kubeconfig, policies, &arguments).await.unwrap();
        let mut config = kube::Config::new(format!("https://{}", server.address()).parse().unwrap());
        config.accept_invalid_certs = true;
        Self { server, client: kube::Client::try_from(config).unwrap() }
    }

    /// What it answers to an AdmissionReview with this request.
    async fn ask(&self, policy: &str, request: &Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let request = http::Request::post(format!("/validate/{policy}"))
            .header("content-type", "application/json")
            .body(review.to_string().into_bytes());
        self.client.request::<Value>(request.unwrap()).await.unwrap()["response"].take()
    }

    /// The same, repeated until the policy had time for all its questions.
    async fn ask_in_time(&self, policy: &str, request: &Value) -> Value {
        loop {
            let answer = self.ask(policy, request).await;
            if is_in_time(&answer) {
                return answer;
            }
        }
    }

    /// Has the API server ask it about the namespaces of the stage.
    async fn register(&self, stage: &Stage, merged: Value) {
        let mut configuration =
            webhook::configuration(self.server.address(), self.server.certificate(), &stage.id, &modules::metadata());
        configuration["webhooks"][0]["namespaceSelector"] = stage.selector();
        json_patch::merge(&mut configuration["webhooks"][0], &merged);
        stage.create(WEBHOOKS, configuration).await.ok();
    }
}

/// Whether an answer was not affected by a loaded machine.
fn is_in_time(answer: &Value) -> bool {
    let answer = answer.to_string();
    !answer.contains("there was no time left to ask") && !answer.contains("Policy execution interrupted")
}

impl Drop for Watched {
    fn drop(&mut self) {
        let log = self.server.log();
        if std::thread::panicking() {
            eprintln!("--- policy-server's log\n{log}");
        } else {
            assert!(!log.contains(PASSWORD), "a credential was logged: {log}");
        }
    }
}

/// The requests of the recorded cases, in the namespace of the stage.
fn requests(stage: &Stage) -> Vec<(String, Value)> {
    let directory = modules::root().join("e2e-tests/fixtures/requests");
    let read = |path: &Path| {
        let mut request: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        if request["namespace"] == "shop" {
            request["namespace"] = json!(stage.namespace);
            request["object"]["metadata"]["namespace"] = json!(stage.namespace);
        }
        request
    };
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn it_answers_as_the_embedded_host_does() {
    let states = ["usable", "missing", "another-type", "malformed", "forbidden"];
    let named = |name: &str| json!({"secrets": [{"name": name}]});
    let mut stage = Stage::empty(named("usable")).await;
    stage.rights(&["usable", "missing", "another-type", "malformed"]);
    stage.create_secret("usable").await;
    stage.create_secret("forbidden").await;
    stage.create_secret_of("another-type", "Opaque", "token", PASSWORD).await;
    // Without a colon the kubelet does not take it.
    let malformed = json!({"auths": {"ghcr.io": {"auth": "bm8tY29sb24="}}}).to_string();
    stage.create_secret_of("malformed", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", &malformed).await;

    let mut policies = json!({});
    for state in states {
        for on_missing in ["warn", "reject", "skip"] {
            let mut settings = named(state);
            settings["onMissingSecret"] = json!(on_missing);
            policies[format!("{state}-{on_missing}")] = policy(&settings);
        }
        policies[format!("{state}-all")] = policy(&json!({
            "secrets": [{"name": state}, {"name": "usable-too", "matchImages": ["registry.example.com"]}],
            "serviceAccounts": ["*"], "exclude": {"annotation": "example.com/leave-alone"},
        }));
        policies[format!("{state}-covers")] =
            policy(&json!({"secrets": [{"name": state, "matchCredentials": true}], "onMissingSecret": "reject"}));
    }
    let token = stage.policy_server_token().await;
    let cluster = Cluster::Live(Arc::new(Live::new(stage.client_of(token.clone()).await)));
    let server = Watched::start(&kubeconfig(&stage, &token), &policies, &[]).await;
    let mut verdicts = std::collections::BTreeMap::new();
    for (policy, of_policy) in policies.as_object().unwrap() {
        for (name, request) in requests(&stage) {
            let theirs = server.ask_in_time(policy, &request).await;
            let request = AdmissionRequest::read(&request.to_string()).unwrap().remove(0);
            let evaluate = || modules::policy().evaluate(&of_policy["settings"], &request, &cluster);
            let mut evaluation = tokio::task::block_in_place(evaluate);
            while !is_in_time(&json!(evaluation.response)) {
                evaluation = tokio::task::block_in_place(evaluate);
            }
            assert_eq!(serde_json::to_value(&evaluation.response).unwrap(), theirs, "{policy}, {name}");
            *verdicts.entry(format!("{:?}", evaluation.verdict())).or_insert(0) += 1;
        }
    }
    assert!(verdicts.keys().eq(["Accepted", "Mutated", "Rejected"]), "{verdicts:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn it_mutates_and_denies_for_a_real_api_server_under_the_shipped_rights() {
    let settings = json!({"secrets": [{"name": "creds"}], "serviceAccounts": ["*"], "onMissingSecret": "reject"});
    let stage = Stage::empty(settings.clone()).await;
    let token = stage.policy_server_token().await;
    let policies = json!({&stage.id: policy(&settings)});
    let server = Watched::start(&kubeconfig(&stage, &token), &policies, &[]).await;
    server.register(&stage, json!({})).await;
    eventually("the API server asks policy-server", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.status >= 400
    })
    .await;

    let refused = stage.create_pod(pod("early")).await;
    assert!(refused.message().contains("is denied because of its image pull secrets"), "{refused:?}");
    let account = stage.post(&stage.accounts(), json!({"metadata": {"name": "builder"}})).await.ok();
    assert_eq!((account.listed(), account.warnings.len()), (vec!["creds"], 1));
    stage.create_secret("creds").await;
    let created = stage.create_pod(pod("web")).await.ok();
    assert_eq!((created.listed(), created.warnings.len()), (vec!["creds"], 0));
    let path = format!("{}/web", stage.pods());
    assert_eq!(stage.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await.ok().listed(), ["creds"]);
    let mut own = pod("own");
    own["spec"]["imagePullSecrets"] = json!([{"name": "mine"}]);
    assert_eq!(stage.create_pod(own).await.ok().listed(), ["mine", "creds"]);
    let mut large = pod("large");
    large["metadata"]["annotations"] = json!({"large": "x".repeat(200_000)});
    large["spec"]["containers"][0]["env"] = json!([{"name": "LARGE", "value": "x".repeat(800_000)}]);
    assert_eq!(stage.create_pod(large).await.ok().listed(), ["creds"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn a_namespace_and_a_deployment_in_one_go_pull_with_it_and_the_generator() {
    let (registry, product) = new_namespace::before(json!({})).await;
    let stage = &product.stage;
    let policies = json!({&stage.id: policy(&product.settings)});
    let server = Watched::start(&kubeconfig(stage, &stage.policy_server_token().await), &policies, &[]).await;
    server.register(stage, json!({})).await;
    eventually("the API server asks policy-server", || async {
        stage.post(&format!("{}?dryRun=All", stage.pods()), pod("probe")).await.listed() == [&product.secret]
    })
    .await;
    let _generator = new_namespace::generator(&product, &[]).await;
    let applied = new_namespace::apply(&registry, &product, None).await;
    new_namespace::all_pull("policy-server and generator", &registry, &product, &applied).await;
}

/// policy-server checks deadlines once a second, so the requests are sent at different moments within a second.
const MOMENTS: u32 = 5;

/// Deadlines and the webhook's timeout, in seconds.
struct Timeouts {
    /// policy-server's own, where the policy has none.
    server: &'static str,
    /// The policy's.
    policy: Value,
    webhook: Value,
}

/// `deploy/policy.yaml` on a policy-server as it comes.
fn shipped() -> Timeouts {
    let shipped = policy_server::shipped().unwrap();
    Timeouts { server: "2", policy: shipped["timeoutEvalSeconds"].clone(), webhook: shipped["timeoutSeconds"].clone() }
}

/// The API server gives up before policy-server does.
fn airtight() -> Timeouts {
    Timeouts { server: "6", policy: Value::Null, webhook: json!(5) }
}

/// The API server asks a policy-server with these timeouts and so many workers, which reads Secrets through the proxy.
async fn behind_a_proxy(stage: &Stage, settings: &Value, timeouts: Timeouts, workers: &str) -> (ApiProxy, Watched) {
    let proxy = ApiProxy::to(config(&stage.kubeconfig).await).await.unwrap();
    let kubeconfig = proxy.kubeconfig(&stage.policy_server_token().await);
    let mut policy = policy(settings);
    policy["timeoutEvalSeconds"] = timeouts.policy;
    let arguments = ["--workers", workers, "--policy-timeout", timeouts.server];
    let server = Watched::start(&kubeconfig, &json!({&stage.id: policy}), &arguments).await;
    server.register(stage, json!({"failurePolicy": "Ignore", "timeoutSeconds": timeouts.webhook})).await;
    (proxy, server)
}

#[rstest]
#[case::shipped_and_slow(shipped(), 3_000, Some(1))]
#[case::shipped_and_slower_than_the_webhooks_timeout(shipped(), 7_000, Some(0))]
#[case::airtight_and_slow(airtight(), 3_000, Some(1))]
#[case::airtight_and_about_as_slow_as_the_webhooks_timeout(airtight(), 4_500, None)]
#[case::airtight_and_slower_than_the_webhooks_timeout(airtight(), 5_500, Some(0))]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn a_slow_api_server_denies_no_pod_under_ignore(
    #[case] timeouts: Timeouts,
    #[case] late: u64,
    #[case] references: Option<usize>,
) {
    let settings = json!({"secrets": [{"name": "creds"}]});
    let stage = Stage::empty(settings.clone()).await;
    stage.create_secret("creds").await;
    let (proxy, _server) = behind_a_proxy(&stage, &settings, timeouts, "16").await;
    let dry_run = format!("{}?dryRun=All", stage.pods());
    let is_given = || async { stage.post(&dry_run, pod("probe")).await.listed() == ["creds"] };
    eventually("Pods are given the secret", is_given).await;

    proxy.delay("/secrets/creds", Duration::from_millis(late));
    for moment in 0..MOMENTS {
        let reads = proxy.secret_reads();
        let created = stage.post(&dry_run, pod(&format!("web-{moment}"))).await.ok();
        assert!(references.is_none_or(|expected| created.listed().len() == expected), "{created:?}");
        assert!(proxy.secret_reads() > reads, "the Secret was not read");
        sleep(Duration::from_secs(1) / MOMENTS).await;
    }
    proxy.delay("/secrets/creds", Duration::ZERO);
    eventually("Pods are given the secret again", is_given).await;
}

/// Each of three Secrets takes this long. All of them together take longer than policy-server's own 2 seconds: without a
/// bound on the time for questions, the Pod would be denied.
#[rstest]
#[case::under_policy_servers_own_deadline(Timeouts { server: "2", policy: Value::Null, webhook: json!(10) }, 700)]
#[case::under_the_shipped_timeouts(shipped(), 900)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn several_slow_secrets_do_not_add_up(#[case] timeouts: Timeouts, #[case] late: u64) {
    let names = ["one", "two", "three"];
    let settings = json!({"secrets": names.map(|name| json!({"name": name}))});
    let stage = Stage::empty(settings.clone()).await;
    for name in names {
        stage.create_secret(name).await;
    }
    let (proxy, _server) = behind_a_proxy(&stage, &settings, timeouts, "2").await;
    let dry_run = format!("{}?dryRun=All", stage.pods());
    eventually("Pods are given the secrets, without a warning", || async {
        let created = stage.post(&dry_run, pod("probe")).await;
        created.listed() == names && created.warnings.is_empty()
    })
    .await;

    names.iter().for_each(|name| proxy.delay(&format!("/secrets/{name}"), Duration::from_millis(late)));
    for moment in 0..MOMENTS {
        let reads = proxy.secret_reads();
        let created = stage.post(&dry_run, pod(&format!("web-{moment}"))).await.ok();
        assert_eq!((created.listed(), proxy.secret_reads() - reads), (names.to_vec(), 1));
        let expected = ["two", "three"].map(|name| {
            format!(
                "Secret {}/{name} was not checked: the API server is slow, and there was no time left to ask. It was \
                 added anyway; find out why it is slow, then try again",
                stage.namespace
            )
        });
        assert_eq!(created.warnings, expected);
        sleep(Duration::from_secs(1) / MOMENTS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs policy-server: make e2e-policy-server"]
async fn a_read_that_never_ends_holds_up_no_other_policy_of_the_server() {
    let settings = |name: &str| json!({"secrets": [{"name": name}]});
    let mut stage = Stage::empty(settings("hangs")).await;
    stage.rights(&["hangs", "fine"]);
    stage.create_secret("hangs").await;
    stage.create_secret("fine").await;
    let proxy = ApiProxy::to(config(&stage.kubeconfig).await).await.unwrap();
    let kubeconfig = proxy.kubeconfig(&stage.policy_server_token().await);
    let policies = json!({"hangs": policy(&settings("hangs")), "fine": policy(&settings("fine"))});
    let server = Arc::new(Watched::start(&kubeconfig, &policies, &["--workers", "2"]).await);
    let request = requests(&stage).into_iter().find_map(|(name, request)| (name == "plain-pod").then_some(request));
    let request = request.unwrap();
    assert!(server.ask("fine", &request).await["patch"].is_string());

    proxy.delay("/secrets/hangs", Duration::MAX);
    let reads = proxy.secret_reads();
    let hanging = tokio::spawn({
        let (server, request) = (Arc::clone(&server), request.clone());
        async move { server.ask("hangs", &request).await }
    });
    eventually("it hangs", || async { proxy.secret_reads() > reads }).await;
    for _ in 0..3 {
        assert!(server.ask("fine", &request).await["patch"].is_string());
        // In the end its client gives up, and then the blocked requests go on.
        assert!(!hanging.is_finished(), "the other policy was answered only after the read had ended");
    }
    hanging.abort();
}
