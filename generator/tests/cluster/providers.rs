//! Sources that are programs: credential providers that do what they should, and those that do not.

use crate::harness::{Corner, Finished, Generator, PATIENCE, content_of, eventually, stays};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// A provider that does what a file says, and counts how often it was asked.
pub struct Provider {
    pub corner: Corner,
    program: PathBuf,
}

const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// An answer with a credential for each of these servers.
pub fn answer(servers: &[&str], version: &str) -> String {
    let credential = json!({"username": "minted", "password": format!("hunter2-{version}")});
    let auth: serde_json::Map<_, _> = servers.iter().map(|server| ((*server).to_owned(), credential.clone())).collect();
    response(json!(auth))
}

fn response(auth: Value) -> String {
    json!({
        "kind": "CredentialProviderResponse", "apiVersion": API_VERSION, "cacheKeyType": "Registry",
        "cacheDuration": "10s", "auth": auth,
    })
    .to_string()
}

impl Provider {
    pub async fn new(name: &str) -> Self {
        let corner = Corner::new(name).await;
        let program = corner.directory.path().join("provider");
        fs::write(&program, "#!/bin/sh\ncat >\"$STATE/asked\"\necho >>\"$STATE/count\"\n. \"$STATE/behaviour\"\n")
            .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { corner, program }
    }

    /// From now on it runs these lines of shell.
    pub fn does(&self, behaviour: &str) {
        let directory = self.corner.directory.path();
        fs::write(directory.join("next"), behaviour).unwrap();
        fs::rename(directory.join("next"), directory.join("behaviour")).unwrap();
    }

    /// From now on it answers so.
    pub fn answers(&self, answer: &str) {
        self.does(&format!("cat <<'END'\n{answer}\nEND\n"));
    }

    pub fn settings(&self, images: &[&str]) -> Value {
        let exec = json!({
            "command": self.program, "images": images,
            "env": [{"name": "STATE", "value": self.corner.directory.path()}],
        });
        json!({"secrets": [{"name": self.corner.name, "source": {"exec": exec}}]})
    }

    pub fn directory(&self) -> [&str; 2] {
        ["--credential-providers", self.corner.directory.path().to_str().unwrap()]
    }

    pub fn run(&self) -> Generator {
        self.corner.run(&self.settings(&["quay.io/acme"]), &self.directory())
    }

    fn once(&self) -> Finished {
        self.corner.once(&self.settings(&["quay.io/acme"]), &self.directory())
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.corner.directory.path().join("count")).unwrap_or_default().len()
    }

    /// The servers of the copy in a namespace, each with its password.
    async fn copied(&self, namespace: &str) -> Vec<String> {
        let Some(copy) = self.corner.copy(namespace).await else { return vec![] };
        servers_of(&content_of(&copy).unwrap())
    }

    pub async fn settled(&self, namespace: &str, expected: &[&str]) {
        eventually(&format!("{namespace} has {expected:?}"), PATIENCE, || async {
            self.copied(namespace).await == expected
        })
        .await;
    }

    /// What `status` says, and its exit code.
    fn status(&self) -> (Value, Option<i32>) {
        let settings = self.corner.write_settings(&self.settings(&["quay.io/acme"]));
        let finished = self.corner.finish(&["status", "-o", "json", "--settings", settings.to_str().unwrap()]);
        (serde_json::from_str(&finished.out).unwrap_or_else(|_| panic!("{}", finished.log)), finished.status.code())
    }

    fn counts(&self, name: &str, labels: &str) -> String {
        format!("image_pull_secrets_source_{name}{{secret=\"{}\"{labels}}}", self.corner.name)
    }
}

fn servers_of(docker_config: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(docker_config).unwrap();
    let auths = document["auths"].as_object().unwrap();
    auths.iter().map(|(server, entry)| format!("{server} {}", entry["password"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_answers_is_copied_everywhere_and_minted_anew_in_time() {
    let provider = Provider::new("minted").await;
    let (first, second) = (provider.corner.namespace("a").await, provider.corner.namespace("b").await);
    provider.answers(&answer(&["quay.io"], "1"));
    let generator = provider.run();
    for namespace in [&first, &second] {
        provider.settled(namespace, &["quay.io hunter2-1"]).await;
    }
    let asked: Value =
        serde_json::from_str(&fs::read_to_string(provider.corner.directory.path().join("asked")).unwrap()).unwrap();
    let request = json!({"kind": "CredentialProviderRequest", "apiVersion": API_VERSION, "image": "quay.io/acme"});
    assert_eq!(asked, request);
    let copy = provider.corner.copy(&first).await.unwrap();
    let label = &copy.metadata.annotations.as_ref().unwrap()["image-pull-secrets.kubewarden.io/source"];
    assert_eq!(*label, format!("exec:{}", provider.program.display()));
    generator.counts(&provider.counts("refreshes_total", ",result=\"answered\""), 1.0).await;
    generator.counts(&provider.counts("refresh_failing", ""), 0.0).await;

    provider.answers(&answer(&["quay.io"], "2"));
    for namespace in [&first, &second] {
        provider.settled(namespace, &["quay.io hunter2-2"]).await;
    }
    let third = provider.corner.namespace("c").await;
    provider.settled(&third, &["quay.io hunter2-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_longer_belongs_to_an_answer_goes_and_what_is_empty_never_comes() {
    let provider = Provider::new("keys").await;
    let namespace = provider.corner.namespace("a").await;
    provider.answers(&answer(&["quay.io", "*.old.io"], "1"));
    let generator = provider.run();
    provider.settled(&namespace, &["*.old.io hunter2-1", "quay.io hunter2-1"]).await;
    provider.answers(&response(json!({
        "*.new.io": {"username": "minted", "password": "hunter2-2"}, "*.azurecr.*": {"username": "", "password": ""},
    })));
    provider.settled(&namespace, &["*.new.io hunter2-2"]).await;
    generator.logs("credentials without user and password are left out").await;
}

#[rstest]
#[case::hangs(
    "sleep 1000 & echo waiting for the cloud >&2; wait",
    "it did not end within 60 s, and was killed: waiting for the cloud"
)]
#[case::prints_garbage("echo hunter2", "what it printed is not JSON")]
#[case::prints_two_megabytes("head -c 2000000 /dev/zero", "it printed more than 1048576 bytes, and was killed")]
#[case::prints_nothing("true", "it printed nothing")]
#[case::answers_with_nothing(&format!("echo '{}'", response(json!({}))), "its answer has no credential")]
#[case::answers_with_something_else_besides(
    &format!("echo '{}' | sed 's/\"auth\"/\"token\":\"hunter2\",\"auth\"/'", answer(&["quay.io"], "2")),
    "its answer has a field that no CredentialProviderResponse has, or one of another kind"
)]
#[case::answers_in_another_version(
    &format!("echo '{}' | sed s,k8s.io/v1,k8s.io/v1beta1,", answer(&["quay.io"], "2")),
    "its answer has another apiVersion than credentialprovider.kubelet.k8s.io/v1, or none"
)]
#[case::fails_and_says_why("echo 'no region is set' >&2; exit 1", "it failed (exit code 1): no region is set")]
#[case::fails_and_says_the_credential(
    &format!("echo '{}' | tee /dev/stderr; exit 1", answer(&["quay.io"], "hunter2-hunter2-hunter2")),
    "it failed (exit code 1): "
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that(#[case] behaviour: &str, #[case] told: &str) {
    let provider = Provider::new("wrong").await;
    let (namespace, source) = (provider.corner.namespace("a").await, provider.corner.ns("source"));
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "generator"}, "spec": {"containers": [{"name": "generator", "image": "generator"}]},
    }))
    .unwrap();
    Api::namespaced(provider.corner.client.clone(), &source).create(&PostParams::default(), &pod).await.unwrap();
    provider.answers(&answer(&["quay.io"], "1"));
    let settings = provider.corner.write_settings(&provider.settings(&["quay.io/acme"]));
    let args =
        [&["run", "--no-leader-elect", "--settings", settings.to_str().unwrap()], &provider.directory()[..]].concat();
    let env = [("POD_NAMESPACE", source.as_str()), ("POD_NAME", "generator")];
    let generator = provider.corner.start_as(&args, &provider.corner.kubeconfig, &env);
    provider.settled(&namespace, &["quay.io hunter2-1"]).await;

    provider.does(behaviour);
    let told = format!("the credential provider fails, and its last answer stays: asked for quay.io/acme, {told}");
    generator.logs(&told).await;
    generator.counts(&provider.counts("refresh_failing", ""), 1.0).await;
    let events = Api::<Event>::namespaced(provider.corner.client.clone(), &source);
    eventually("there is an Event about it", PATIENCE, || async {
        events.list(&ListParams::default()).await.unwrap().iter().any(|event| {
            event.reason.as_deref() == Some("SourceRefreshFailed")
                && event.involved_object.name.as_deref() == Some("generator")
                && !event.message.as_deref().unwrap_or_default().contains("hunter2")
        })
    })
    .await;
    assert_eq!(provider.copied(&namespace).await, ["quay.io hunter2-1"]);
    let other = provider.corner.namespace("b").await;
    provider.settled(&other, &["quay.io hunter2-1"]).await;

    provider.answers(&answer(&["quay.io"], "3"));
    provider.settled(&namespace, &["quay.io hunter2-3"]).await;
    generator.logs("the credential provider answers again").await;
    generator.counts(&provider.counts("refresh_failing", ""), 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_never_answered_leaves_copies_as_they_are_and_is_told() {
    let provider = Provider::new("never").await;
    let namespace = provider.corner.namespace("a").await;
    provider.does("echo 'no region is set' >&2; exit 1");
    let once = provider.once();
    assert_eq!(once.status.code(), Some(1));
    let told = format!(
        "the source exec:{} of {}: asked for quay.io/acme, it failed (exit code 1): no region is set",
        provider.program.display(),
        provider.corner.name
    );
    assert!(once.log.contains(&told), "{}", once.log);
    assert!(provider.corner.copy(&namespace).await.is_none());
    let (status, code) = provider.status();
    let row = status["secrets"].as_array().unwrap().iter().find(|row| row["namespace"] == namespace.as_str()).unwrap();
    assert_eq!((&row["state"], code), (&json!("waiting"), Some(1)), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_fails_for_one_image_the_others_are_minted_all_the_same() {
    let provider = Provider::new("partly").await;
    let namespace = provider.corner.namespace("a").await;
    let by_image = |version: &str, else_: &str| {
        let good = answer(&["quay.io"], version);
        format!("if grep -q quay.io \"$STATE/asked\"; then echo '{good}'; else {else_}; fi")
    };
    provider.does(&by_image("1", &format!("echo '{}'", answer(&["ghcr.io"], "1"))));
    let settings = provider.settings(&["quay.io/acme", "ghcr.io/acme"]);
    let generator = provider.corner.run(&settings, &provider.directory());
    provider.settled(&namespace, &["ghcr.io hunter2-1", "quay.io hunter2-1"]).await;
    provider.does(&by_image("2", "exit 7"));
    provider.settled(&namespace, &["ghcr.io hunter2-1", "quay.io hunter2-2"]).await;
    generator.logs("its last answer stays: asked for ghcr.io/acme, it failed (exit code 7)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_still_holds_outlives_a_restart_without_a_question_or_a_write() {
    let provider = Provider::new("restart").await;
    let (first, second) = (provider.corner.namespace("a").await, provider.corner.namespace("b").await);
    // Each answer is another, as with ECR.
    let lasting = answer(&["quay.io"], "'$(wc -c <$STATE/count)'").replace("10s", "6h0m0s");
    provider.does(&format!("echo '{lasting}'"));
    let generator = provider.run();
    for namespace in [&first, &second] {
        provider.settled(namespace, &["quay.io hunter2-1"]).await;
    }
    let lease = Api::<Lease>::namespaced(provider.corner.client.clone(), "default");
    let recorded = || async {
        let lease = lease.get_opt(&provider.corner.name).await.unwrap();
        let annotations = lease.and_then(|lease| lease.metadata.annotations).unwrap_or_default();
        annotations.get("image-pull-secrets.kubewarden.io/answers").cloned().unwrap_or_default()
    };
    eventually("the answer is recorded", PATIENCE, || async { recorded().await.contains("holdsUntil") }).await;
    assert!(!recorded().await.contains("hunter2"));
    let version = |namespace: String| {
        let provider = &provider;
        async move { provider.corner.copy(&namespace).await.unwrap().metadata.resource_version }
    };
    let before = (version(first.clone()).await, version(second.clone()).await);
    assert!(generator.terminate().status.success());

    // Also where somebody changed one of the copies meanwhile: it is not believed.
    provider.corner.patch_secret(&first, json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})).await;
    let generator = provider.run();
    generator.ready().await;
    provider.settled(&first, &["quay.io hunter2-1"]).await;
    let third = provider.corner.namespace("c").await;
    provider.settled(&third, &["quay.io hunter2-1"]).await;
    assert_eq!((provider.asked(), version(second.clone()).await), (1, before.1.clone()));
    let (status, code) = provider.status();
    assert_eq!(code, Some(0), "{status}");
    assert!(status["sources"][0]["answer"]["holdsUntil"].is_string(), "{status}");
    drop(generator);
    assert!(provider.once().status.success());
    assert_eq!((provider.asked(), version(second.clone()).await), (1, before.1));

    // Where no copy is left that is as it was recorded, it is asked.
    for namespace in [&first, &second, &third] {
        provider.corner.patch_secret(namespace, json!({"data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})).await;
    }
    assert!(provider.once().status.success());
    provider.settled(&second, &["quay.io hunter2-2"]).await;
    // And where something else is asked than before.
    let other = provider.settings(&["quay.io/other"]);
    assert!(provider.corner.once(&other, &provider.directory()).status.success());
    provider.settled(&second, &["quay.io hunter2-3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_and_leaves_nothing_behind() {
    let provider = Provider::new("dry").await;
    let namespace = provider.corner.namespace("a").await;
    provider.answers(&answer(&["quay.io"], "1"));
    let settings = provider.corner.write_settings(&provider.settings(&["quay.io/acme"]));
    let args = [&["run", "--dry-run", "--settings", settings.to_str().unwrap()], &provider.directory()[..]].concat();
    let finished = provider.corner.finish(&args);
    assert!(finished.status.success(), "{}", finished.log);
    assert!(finished.out.contains(&format!("create Secret {namespace}/{}", provider.corner.name)), "{}", finished.out);
    assert_eq!(provider.asked(), 1);
    assert!(provider.corner.copy(&namespace).await.is_none());
    let lease = Api::<Lease>::namespaced(provider.corner.client.clone(), "default");
    assert!(lease.get_opt(&provider.corner.name).await.unwrap().is_none());
}

#[rstest]
#[case::without_a_directory(&[], "no credential provider may be run: say where its program is, by --credential-providers")]
#[case::of_another_directory(&["--credential-providers", "/credential-providers"], "is not in /credential-providers, where credential providers are run from")]
#[tokio::test(flavor = "multi_thread")]
async fn no_program_is_run(#[case] flags: &[&str], #[case] told: &str) {
    let provider = Provider::new("off").await;
    provider.answers(&answer(&["quay.io"], "1"));
    let once = provider.corner.once(&provider.settings(&["quay.io/acme"]), flags);
    assert_eq!((once.status.code(), provider.asked()), (Some(1), 0));
    assert!(once.log.contains(told), "{}", once.log);
}

/// A server that answers every request with this document, and keeps what it was asked: the request line and the headers.
async fn cloud(document: impl Fn(usize) -> Value + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let (seen, document) = (asked.clone(), Arc::new(document));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, document) = (seen.clone(), document.clone());
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (seen, document) = (seen.clone(), document.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let _ = body.collect().await;
                    let count = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(format!("{} {} {:?}", head.method, head.uri, head.headers));
                        seen.len()
                    };
                    let answer = Full::<Bytes>::from(Bytes::from(document(count).to_string()));
                    Ok::<_, Infallible>(
                        Response::builder().header("content-type", "application/json").body(answer).unwrap(),
                    )
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, asked)
}

/// Where the programs are that `e2e-tests/cluster/build.sh` builds.
fn real_providers() -> PathBuf {
    let cluster = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e-tests/cluster")).canonicalize().unwrap();
    // Once: a second one would write what the first one runs.
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let built = Command::new(cluster.join("build.sh")).arg("providers").status().unwrap();
        assert!(built.success(), "the credential providers are built by e2e-tests/cluster/build.sh, which needs Go");
    });
    cluster.join("bin")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_ecr_mints_a_token_of_each_account_and_region() {
    let directory = real_providers();
    // 12 hours, as AWS says it: in seconds since 1970.
    let (url, asked) = cloud(|count| {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 12 * 3600;
        let token = k8s_openapi::ByteString(format!("AWS:hunter2-{count}").into_bytes());
        json!({"authorizationData": [{"authorizationToken": token, "expiresAt": expires}]})
    })
    .await;
    let corner = Corner::new("ecr").await;
    let namespace = corner.namespace("a").await;
    let registries =
        ["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "210987654321.dkr.ecr.us-east-1.amazonaws.com"];
    let exec = json!({
        "command": directory.join("ecr-credential-provider"), "images": registries,
        "env": [{"name": "AWS_ENDPOINT_URL_ECR", "value": url}],
    });
    let settings = corner.write_settings(&json!({"secrets": [{"name": corner.name, "source": {"exec": exec}}]}));
    let args = ["run", "--no-leader-elect", "--settings", settings.to_str().unwrap(), "--credential-providers"];
    let args = [&args[..], &[directory.to_str().unwrap()]].concat();
    // As they come from a Secret: they are of the Pod's environment, not of the settings.
    let env = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")];
    let generator = corner.start_as(&args, &corner.kubeconfig, &env);
    let expected: Vec<_> = registries.iter().zip(1..).map(|(server, n)| format!("{server} hunter2-{n}")).collect();
    eventually("both are copied", PATIENCE, || async {
        corner.content(&namespace).await.is_some_and(|content| servers_of(&content) == expected)
    })
    .await;
    let asked = asked.lock().unwrap().join("\n");
    for region in ["eu-central-1", "us-east-1"] {
        assert!(asked.contains(&format!("/{region}/ecr/aws4_request")), "{asked}");
    }
    assert!(asked.contains("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"), "{asked}");
    // It says that a token holds for half of the time that is left.
    let deadline =
        format!("image_pull_secrets_source_refresh_deadline_timestamp_seconds{{secret=\"{}\"}}", corner.name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let holds_for = generator.metric(&deadline).await.unwrap() - now;
    assert!((5.5 * 3600.0..=6.0 * 3600.0).contains(&holds_for), "{holds_for}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_provider_for_google_mints_the_token_of_the_metadata_server() {
    let directory = real_providers();
    let (url, asked) =
        cloud(|_| json!({"access_token": "hunter2-google", "expires_in": 3599, "token_type": "Bearer"})).await;
    let corner = Corner::new("google").await;
    let namespace = corner.namespace("a").await;
    // It asks http://metadata.google.internal, which is reached through a proxy here.
    let exec = json!({
        "command": directory.join("gcp-credential-provider"), "images": ["europe-west1-docker.pkg.dev/acme"],
        "env": [{"name": "HTTP_PROXY", "value": url}], "defaultCacheDuration": "3m",
    });
    let settings = json!({"secrets": [{"name": corner.name, "source": {"exec": exec}}]});
    let once = corner.once(&settings, &["--credential-providers", directory.to_str().unwrap()]);
    assert!(once.status.success(), "{}", once.log);
    let servers = servers_of(&corner.content(&namespace).await.unwrap());
    assert!(servers.contains(&"*.pkg.dev hunter2-google".to_owned()), "{servers:?}");
    let asked = asked.lock().unwrap().join("\n");
    assert!(asked.contains("/computeMetadata/v1/instance/service-accounts/default/token"), "{asked}");
    assert!(asked.contains("\"metadata-flavor\": \"Google\""), "{asked}");
}

/// The generator is told to stop while a provider hangs.
#[rstest]
#[case::a_child("sleep 1000 & echo $! >\"$STATE/child\"; wait")]
#[case::one_that_left_its_session("setsid sh -c 'echo $$ >\"$STATE/child\"; exec sleep 1000' & wait")]
#[case::one_that_left_its_parent_too("(setsid sh -c 'echo $$ >\"$STATE/child\"; exec sleep 1000' &); sleep 1000")]
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_ends_with_the_generator_and_so_does(#[case] behaviour: &str) {
    let provider = Provider::new("stop").await;
    let pid_file = provider.corner.directory.path().join("child");
    provider.does(behaviour);
    let generator = provider.run();
    eventually("it has a child", PATIENCE, || async {
        fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))
    })
    .await;
    let pid = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let is_alive = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    stays("the child is there", || async { is_alive() }).await;
    assert!(generator.terminate().status.success());
    eventually("the child is gone", PATIENCE, || async { !is_alive() }).await;
}
