//! `explain` against the kubelet: the credential that it names first is the one that the kubelet shows the registry first.

#[allow(dead_code)]
#[path = "../../differential/grammar.rs"]
mod grammar;

use crate::generator::program;
use crate::harness::{DOCKER_CONFIG, PASSWORD, Stage, eventually, nodes, send_as};
use crate::policy_server::kubeconfig as kubeconfig_of;
use crate::registry::{
    PATIENCE, Pull, Registry, basic, bearer, deployment, docker_config, password, pod_of, pods_in, pulls_in, stuck,
    waiting,
};
use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// How many Pods are generated.
const PODS: usize = 320;

/// What `explain` says: its exit code, what it prints, and that as JSON where it is.
struct Said {
    code: i32,
    text: String,
    json: Value,
}

/// `explain` with these arguments, by whoever the stage's kubeconfig is for.
fn explain(stage: &Stage, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = tokio::task::block_in_place(|| {
        Command::new(program())
            .arg("explain")
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&stage.kubeconfig)
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    });
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!text.contains(PASSWORD) && !errors.contains(PASSWORD), "a credential was told: {text}{errors}");
    assert!(errors.is_empty(), "{errors}");
    let json = serde_json::from_str(&text).unwrap_or_default();
    Said { code: output.status.code().unwrap(), text, json }
}

/// What `explain` expects the kubelet to do about one image.
#[derive(Debug)]
struct Expected {
    image: String,
    verdict: String,
    /// The users in the kubelet's order; those of one group in any order.
    groups: Vec<BTreeSet<String>>,
}

impl Expected {
    fn of(image: &Value) -> Self {
        let mut groups: Vec<BTreeSet<String>> = Vec::new();
        for attempt in image["attempts"].as_array().unwrap() {
            let user = attempt["user"].as_str().unwrap().to_owned();
            match groups.last_mut() {
                Some(group) if attempt["interchangeable"] == true => drop(group.insert(user)),
                _ => groups.push(BTreeSet::from([user])),
            }
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self { image: text(&image["image"]), verdict: text(&image["verdict"]["kind"]), groups }
    }

    /// Whether these attempts of the kubelet, in their order, are what was expected. The first ones may come before it has read
    /// the Secrets.
    fn agrees(&self, pulls: &[&Pull]) -> bool {
        let known = |pull: &Pull| pull.user.is_empty() || self.groups.iter().any(|group| group.contains(&pull.user));
        pulls.iter().all(|pull| known(pull))
            && match self.verdict.as_str() {
                "fails" => true,
                "anonymous" if self.groups.is_empty() => !pulls.is_empty(),
                _ => (0..pulls.len()).any(|start| self.is_a_round(&pulls[start..])),
            }
    }

    /// Whether these begin with every credential in its turn, as far as one succeeds.
    fn is_a_round(&self, pulls: &[&Pull]) -> bool {
        let mut pulls = pulls.iter();
        for group in &self.groups {
            for _ in group {
                match pulls.next() {
                    Some(pull) if !group.contains(&pull.user) => return false,
                    Some(pull) if pull.succeeded() => return true,
                    Some(_) => {}
                    None => return false,
                }
            }
        }
        true
    }
}

/// Asserts that for every Pod of a namespace the kubelet has done what `explain` says of it. Each has tried to pull.
pub async fn agrees_in(stage: &Stage, namespace: &str) {
    for pod in pods_in(stage, namespace).await {
        // Who was evicted may be gone at the next look.
        if pod["metadata"]["deletionTimestamp"].is_null() {
            agrees(stage, namespace, pod["metadata"]["name"].as_str().unwrap()).await;
        }
    }
}

/// Asserts it for one Pod. Where its Secrets change, that is to be before the next change.
pub async fn agrees(stage: &Stage, namespace: &str, pod: &str) {
    let said = explain(stage, &[pod, "--namespace", namespace, "--output", "json"], &[]);
    let pulls = pulls_in(namespace).await;
    for image in said.json["images"].as_array().unwrap() {
        let expected = Expected::of(image);
        let of_image: Vec<_> =
            pulls.iter().filter(|pull| pull.pod == pod && is_image(&pull.image, &expected.image)).collect();
        // What is on the Node already is not pulled again, once the kubelet has read the Secrets.
        let is_there =
            image["kubelet"]["pulled"] == true && of_image.iter().all(|pull| pull.user.is_empty() && !pull.succeeded());
        assert!(is_there || expected.agrees(&of_image), "{pod}: {expected:?}, and the kubelet: {of_image:?}");
    }
}

/// The kubelet adds the tag that is left out.
fn is_image(pulled: &str, written: &str) -> bool {
    pulled == written || pulled.strip_suffix(":latest") == Some(written)
}

/// What a generated Pod lists.
#[derive(Debug, Clone)]
enum Listed {
    /// A Secret with these servers.
    Servers(Vec<String>),
    /// A Secret with this text, which may be no docker config.
    Document(Vec<u8>),
    /// A Secret of a type that is none for pulling.
    Opaque,
    Missing,
}

/// An image, and what a Pod with it lists.
fn generated() -> impl Strategy<Value = (String, Vec<Listed>)> {
    let listed = |servers: Vec<String>, extra: Option<Listed>, split: prop::sample::Index| {
        let at = split.index(servers.len() + 1);
        let mut listed = vec![Listed::Servers(servers[..at].to_vec()), Listed::Servers(servers[at..].to_vec())];
        listed.extend(extra);
        listed
    };
    let extra = prop_oneof![
        8 => Just(None),
        1 => select(vec![Some(Listed::Opaque), Some(Listed::Missing)]),
        2 => grammar::document(false).prop_map(|document| Some(Listed::Document(document))),
    ];
    (grammar::servers_and_image(1..5), extra, any::<prop::sample::Index>())
        .prop_map(move |((servers, image), extra, split)| (image, listed(servers, extra, split)))
}

/// Makes what such a Pod lists, and gives the names.
async fn create_listed(stage: &Stage, number: usize, listed: &[Listed]) -> Vec<String> {
    let mut names = Vec::new();
    for (at, listed) in listed.iter().enumerate() {
        let name = format!("s{number}-{at}");
        names.push(name.clone());
        let entry = |(index, server): (usize, &String)| {
            (server.clone(), json!({"username": format!("u{number}-{at}-{index}"), "password": PASSWORD}))
        };
        let (kind, document) = match listed {
            Listed::Missing => continue,
            Listed::Opaque => ("Opaque", br#"{"auths": {"*.io": {"auth": "dTpw"}}}"#.to_vec()),
            Listed::Document(document) => (DOCKER_CONFIG, document.clone()),
            Listed::Servers(servers) => {
                let auths: BTreeMap<_, _> = servers.iter().enumerate().map(entry).collect();
                (DOCKER_CONFIG, json!({"auths": auths}).to_string().into_bytes())
            }
        };
        use base64::Engine as _;
        let data = base64::prelude::BASE64_STANDARD.encode(document);
        let secret = json!({"metadata": {"name": name}, "type": kind, "data": {".dockerconfigjson": data}});
        // The API server refuses what is no JSON object: then the Secret is missing.
        stage.post(&format!("/api/v1/namespaces/{}/secrets", stage.namespace), secret).await;
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn over_generated_pods_the_credential_that_is_named_first_is_the_one_that_the_kubelet_shows_first() {
    let stage = Stage::empty(json!({"secrets": [{"name": "unused"}]})).await;
    let generated = grammar::generate(PODS, generated());
    let (mut manifest, mut pods) = (Vec::new(), Vec::new());
    for (number, (image, listed)) in generated.iter().enumerate() {
        let names = create_listed(&stage, number, listed).await;
        let references: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        let mut pod = pod_of(&format!("p{number}"), image);
        pod["spec"]["imagePullSecrets"] = json!(references);
        pod["metadata"]["namespace"] = json!(stage.namespace);
        manifest.push(pod.clone());
        pods.push(pod);
    }
    // Before there are such Pods, so that nothing but the Secrets tells.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pods.json");
    fs::write(&file, json!({"kind": "List", "items": manifest}).to_string()).unwrap();
    let said = explain(&stage, &["--filename", file.to_str().unwrap(), "--output", "json"], &[]);
    let documents = said.json.as_array().unwrap();
    assert_eq!(documents.len(), PODS);
    for pod in pods {
        stage.create_pod(pod).await.ok();
    }
    let named = |(number, document): (usize, &Value)| (format!("p{number}"), Expected::of(&document["images"][0]));
    let mut open: Vec<_> = documents.iter().enumerate().map(named).collect();
    let mut kinds = BTreeMap::<String, usize>::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (pulls, pods) = (pulls_in(&stage.namespace).await, pods_in(&stage, &stage.namespace).await);
        open.retain(|(name, expected)| {
            let of_pod: Vec<_> = pulls.iter().filter(|pull| pull.pod == *name).collect();
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == *name).unwrap();
            // The parser's own error, or the name of an image that is none.
            let fails = waiting(pod).iter().any(|(reason, _)| reason.contains(' ') || *reason == "InvalidImageName");
            let is_done = expected.agrees(&of_pod) && (expected.verdict == "fails") == fails;
            if is_done {
                *kinds.entry(expected.verdict.clone()).or_default() += 1;
            }
            !is_done
        });
        if open.is_empty() {
            break;
        }
        let first = &open[0].0;
        let of_first: Vec<_> = pulls.iter().filter(|pull| pull.pod == *first).take(9).collect();
        assert!(Instant::now() < deadline, "{} Pods: {open:?}; {first} pulled {of_first:?}", open.len());
        sleep(Duration::from_secs(1)).await;
    }
    // The Pods are of all sorts.
    assert!(
        ["pulls", "anonymous", "fails"].iter().all(|kind| kinds.get(*kind).is_some_and(|&count| count >= 10)),
        "{kinds:?}"
    );
}

/// A registry and a namespace in which nobody adds anything.
async fn alone() -> (Registry, Stage) {
    let registry = Registry::new(basic(json!({"acme": password("1")}))).await;
    (registry, Stage::empty(json!({"secrets": [{"name": "creds"}]})).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_an_expired_credential_is_explained_with_what_the_kubelet_says() {
    let (registry, stage) = alone().await;
    let image = registry.push("acme/app").await;
    let expired = docker_config(&registry.host, "acme", &password("0"));
    stage.create_pull_secret(&stage.namespace, "creds", &expired).await;
    let mut pod = pod_of("web", &image);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "creds"}]);
    stage.create_pod(pod).await.ok();
    registry.refused(&image, "acme", 1).await;
    stuck(&stage, &stage.namespace).await;
    let said = explain(&stage, &["pod/web", "--namespace", &stage.namespace], &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    for line in [
        format!("container app: {image}"),
        format!("  tries 1.        {}, user acme, of creds", registry.host),
        "the registry refuses access".to_owned(),
        format!("  verdict         does not pull with creds ({}, user acme): the registry refuses", registry.host),
        "  remedy          Renew the credential in Secret creds: it is wrong or has expired".to_owned(),
    ] {
        assert!(said.text.contains(&line), "{line}\n---\n{}", said.text);
    }
    assert!(!said.text.contains('\u{1b}'), "coloured for a pipe: {}", said.text);
    agrees_in(&stage, &stage.namespace).await;
    let all = explain(&stage, &["--all", "--namespace", &stage.namespace, "--output", "json"], &[]);
    assert_eq!(
        (all.code, &all.json["causes"][0]["pods"]),
        (1, &json!([format!("{}/web", stage.namespace)])),
        "{}",
        all.text
    );
}

/// A proxy that every connection of a client ends in the cluster's registry with, whatever the host.
pub async fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"CONNECT "), "{}", String::from_utf8_lossy(&head));
                let mut registry = TcpStream::connect(&nodes().registry_address).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut registry).await;
            });
        }
    });
    format!("http://{address}")
}

#[rstest]
#[case::basic(basic)]
#[case::tokens(bearer)]
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_asked_through_a_proxy_with_each_credential(#[case] auth: fn(Value) -> Value) {
    let registry = Registry::new(auth(json!({"acme": password("1"), "other": password("2")}))).await;
    let image = registry.push("acme/app").await;
    let stage = Stage::empty(json!({"secrets": [{"name": "creds"}]})).await;
    let (host, wrong) = (&registry.host, docker_config(&format!("{}/acme", registry.host), "acme", &password("0")));
    stage.create_pull_secret(&stage.namespace, "wrong", &wrong).await;
    stage.create_pull_secret(&stage.namespace, "right", &docker_config(host, "other", &password("2"))).await;
    let pods = |image: &str, listed: &[&str]| {
        let mut pod = pod_of("web", image);
        pod["metadata"]["namespace"] = json!(stage.namespace);
        pod["spec"]["imagePullSecrets"] = listed.iter().map(|name| json!({"name": name})).collect();
        pod
    };
    let proxy = proxy().await;
    let environment = [("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "")];
    let ca = nodes().registry_ca.to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ask = |pod: Value, more: &[&str]| {
        let file = directory.path().join("pod.json");
        fs::write(&file, pod.to_string()).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let arguments = [&["--filename", &file, "--output", "json", "--try"], more].concat();
        let said = explain(&stage, &arguments, &environment);
        let image = said.json[0]["images"][0].clone();
        let answers = image["attempts"].as_array().unwrap().iter().map(|attempt| attempt["answer"].clone());
        (said.code, answers.collect::<Vec<_>>(), image["anonymousAnswer"].clone())
    };
    let trusting: &[&str] = &["--registry-ca", ca];
    let both = ask(pods(&image, &["right", "wrong"]), trusting);
    assert_eq!(both, (0, vec![json!("refused"), json!("accepted")], Value::Null));
    let only_wrong = ask(pods(&image, &["wrong"]), trusting);
    assert_eq!(only_wrong, (1, vec![json!("refused")], Value::Null));
    let absent = ask(pods(&format!("{host}/acme/absent:1"), &["right"]), trusting);
    assert_eq!(absent, (1, vec![json!("noSuchImage")], Value::Null));
    assert_eq!(ask(pods(&image, &[]), trusting), (1, vec![], json!("refused")));
    // Who does not trust it cannot tell.
    assert_eq!(ask(pods(&image, &["right"]), &[]), (2, vec![json!("certificate")], Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_named_with_the_rule_and_the_rest_is_said() {
    let (registry, stage) = alone().await;
    let image = registry.push("acme/app").await;
    let config = docker_config(&registry.host, "acme", &password("1"));
    stage.create_pull_secret(&stage.namespace, "creds", &config).await;
    let mut pod = pod_of("web", &image);
    pod["spec"]["imagePullSecrets"] = json!([{"name": "creds"}]);
    stage.create_pod(pod).await.ok();
    // Somebody who may look at Pods and at nothing else.
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", stage.namespace);
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
    stage.post(&format!("{rbac}/roles"), json!({"metadata": {"name": "looks"}, "rules": [rule]})).await.ok();
    let binding = json!({
        "metadata": {"name": "looks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looks"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": stage.namespace}],
    });
    stage.post(&format!("{rbac}/rolebindings"), binding).await.ok();
    let token = stage.post(&format!("{}/default/token", stage.accounts()), json!({"spec": {}})).await.ok().body;
    let token = token["status"]["token"].as_str().unwrap();
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    fs::write(kubeconfig.path(), kubeconfig_of(&stage, token).to_string()).unwrap();
    let client = stage.client_of(token.to_owned()).await;
    let path = format!("{}/web", stage.pods());
    eventually("the rights are known", || async { send_as(&client, "GET", &path).await.status == 200 }).await;
    let output = tokio::task::block_in_place(|| {
        Command::new(program())
            .args(["explain", "web", "--namespace", &stage.namespace, "--kubeconfig"])
            .arg(kubeconfig.path())
            .output()
            .unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for line in [
        "creds could not be read: the RBAC rule is missing: {apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"get\"], \
         resourceNames: [\"creds\"]}",
        "  verdict         cannot tell: Secret creds could not be read",
        "resources: [\"serviceaccounts\"], verbs: [\"get\"], resourceNames: [\"default\"]}",
        "resources: [\"clusteradmissionpolicies\"], verbs: [\"list\", \"watch\"]}",
    ] {
        assert!(text.contains(line), "{line}\n---\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_pods_is_explained_as_its_pod_that_waits_or_as_the_next_one() {
    let (registry, stage) = alone().await;
    let image = registry.push("acme/app").await;
    let settings = tempfile::NamedTempFile::new().unwrap();
    fs::write(settings.path(), json!({"secrets": [{"name": "creds"}]}).to_string()).unwrap();
    let said = |arguments: &[&str]| {
        let settings = settings.path().to_str().unwrap();
        let common = ["--namespace", &stage.namespace, "--settings", settings, "--output", "json"];
        explain(&stage, &[arguments, &common].concat(), &[])
    };
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", stage.namespace);
    stage.post(&deployments, deployment(&stage.namespace, &image)).await.ok();
    let pod = stuck(&stage, &stage.namespace).await;
    // Nobody asked the policy about this Pod, and now there is what it would have added.
    let config = docker_config(&registry.host, "acme", &password("1"));
    stage.create_pull_secret(&stage.namespace, "creds", &config).await;
    let of_deployment = said(&["deployment/web"]);
    let name = pod["metadata"]["name"].as_str().unwrap();
    assert_eq!(of_deployment.json["subject"], format!("pod/{name} of deployment/web"), "{}", of_deployment.text);
    let explained = &of_deployment.json["images"][0];
    assert_eq!((of_deployment.code, &explained["unlisted"]["why"]), (1, &json!("olderPod")), "{explained}");
    assert_eq!(explained["remedy"], "Recreate the Pod: the list of a Pod that exists cannot change.");
    // The next one.
    stage.merge(&format!("{deployments}/web"), json!({"spec": {"replicas": 0}})).await.ok();
    eventually("its Pod is gone", || async { pods_in(&stage, &stage.namespace).await.is_empty() }).await;
    for arguments in [&["deployment/web"][..], &["--image", &image]] {
        let next = said(arguments);
        let attempt = &next.json["images"][0]["attempts"][0];
        assert_eq!((next.code, &attempt["user"]), (0, &json!("acme")), "{}", next.text);
        assert_eq!(next.json["secrets"][0]["origin"]["kind"], "policy");
    }
    let reference = json!({"imagePullSecrets": [{"name": "creds"}]});
    stage.merge(&format!("{}/default", stage.accounts()), reference).await.ok();
    let of_account = said(&["serviceaccount/default"]);
    assert_eq!((of_account.code, &of_account.json["secrets"][0]["origin"]["kind"]), (0, &json!("serviceAccount")));
}
