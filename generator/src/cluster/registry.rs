//! Registries, asked whether they accept a credential: by the API that container runtimes pull through (the distribution
//! specification of OCI), with HTTP Basic authentication or a token of the service that the registry names.
//!
//! A manifest is asked for as containerd asks (`core/remotes/docker`): first without a credential, because a registry that hands
//! out the image to anybody looks at none, and because only the answer to this very request tells what this repository asks for,
//! where others of the same registry are public. Only a host that answers 401 is shown the credential, and the token service
//! that it names, wherever that is. After a redirect that is the host at its end; a redirect to another host never carries a
//! credential along. Other than containerd, nothing is ever sent without TLS: a plain registry counts as one that cannot be
//! reached.
//!
//! That is one request for an image, and then one for each credential: two where it has to be changed for a token.
//!
//! `oci-client` would do more, and says less: it keeps the text of a token service's refusal and drops its status, so that a
//! wrong password, a limit and a fault of that service are one.
//!
//! No credential and no text of an answer leaves this module.

use crate::model::explain::problem::Problem;
use anyhow::{Context as _, Result};
use image_pull_secrets::credential::Credential;
use image_pull_secrets::image::Image;
use reqwest::header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// How long a registry has for one answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a manifest may be, for a registry that chooses by this.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json, */*";

/// Docker Hub's API is at another host than its images are named after.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A client of every registry. It goes through the proxies of the environment, and speaks https only.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    client: Client,
}

impl Registries {
    /// A client that trusts what the machine trusts, and the certificates in this file (PEM) besides.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self> {
        // Fails where there is a provider already, which will do as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let user_agent = concat!("image-pull-secrets/", env!("CARGO_PKG_VERSION"));
        let mut builder = Client::builder().https_only(true).timeout(TIMEOUT).user_agent(user_agent);
        if let Some(file) = ca_file {
            let name = || format!("the registries' authority {}", file.display());
            let pem = std::fs::read(file).with_context(|| format!("cannot read {}", name()))?;
            let certificates = Certificate::from_pem_bundle(&pem).with_context(|| format!("cannot use {}", name()))?;
            anyhow::ensure!(!certificates.is_empty(), "{} has no certificate", name());
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(Self { client: builder.build().context("cannot make a client for registries")? })
    }

    /// Whether an image is handed out to each of these credentials, or to who has none. The image itself is not pulled.
    pub(crate) async fn manifest(
        &self,
        reference: &str,
        image: &Image,
        credentials: &[Option<Credential>],
    ) -> Vec<Result<(), Problem>> {
        let url = image.name().split_once('/').ok_or(Problem::ImageName).and_then(|(host, path)| {
            let url = url(host, &format!("{path}/manifests/{}", version_of(reference)))?;
            Ok((url, format!("repository:{path}:pull")))
        });
        match url {
            Ok((url, scope)) => self.manifest_at(url, &scope, credentials).await,
            Err(problem) => vec![Err(problem); credentials.len()],
        }
    }

    async fn manifest_at(&self, url: Url, scope: &str, credentials: &[Option<Credential>]) -> Vec<Result<(), Problem>> {
        let first = match self.head(url, &Authorization::Nothing).await {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => answer,
            answer => return vec![answer.and_then(granted).map(drop); credentials.len()],
        };
        let challenge = challenge(first.headers());
        let mut answers = Vec::new();
        for credential in credentials {
            let answer = match self.authorization(challenge.as_ref(), Some(scope), credential.as_ref()).await {
                // It has said no to that already.
                Ok(Authorization::Nothing) => Err(Problem::Refused),
                Ok(authorization) => self.head(first.url().clone(), &authorization).await.and_then(granted).map(drop),
                Err(problem) => Err(problem),
            };
            answers.push(answer);
        }
        answers
    }

    /// Asks for a manifest's head; for the manifest where the registry knows no such request.
    async fn head(&self, url: Url, authorization: &Authorization) -> Result<Response, Problem> {
        let ask = |method| answer(authorization.on(self.client.request(method, url.clone()).header(ACCEPT, MANIFESTS)));
        match ask(Method::HEAD).await? {
            answer if answer.status() == StatusCode::METHOD_NOT_ALLOWED => ask(Method::GET).await,
            answer => Ok(answer),
        }
    }

    /// Whether the registry of this host accepts the credential.
    ///
    /// # Errors
    /// What is in the way: [`Problem::Refused`] where the registry, or its token service, says no.
    pub(crate) async fn accepts(&self, host: &str, credential: &Credential) -> Result<(), Problem> {
        let first = answer(self.client.get(url(host, "")?)).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return granted(first).map(drop);
        }
        let challenge = challenge(first.headers()).ok_or(Problem::Other)?;
        let authorization = self.authorization(Some(&challenge), None, Some(credential)).await?;
        granted(answer(authorization.on(self.client.get(first.url().clone()))).await?).map(drop)
    }

    /// What a request has to show where the registry asks for this.
    async fn authorization(
        &self,
        challenge: Option<&Challenge>,
        scope: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Problem> {
        let credential = credential.filter(|credential| !credential.username().is_empty());
        match challenge {
            Some(Challenge::Bearer { realm, service }) => {
                self.token(realm, service.as_deref(), scope, credential).await
            }
            Some(Challenge::Basic) => Ok(Authorization::of(credential)),
            None => Ok(Authorization::Nothing),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Problem> {
        let realm = Url::parse(realm).map_err(|_| Problem::Other)?;
        let service = service.map(|service| ("service", service));
        let query: Vec<_> = service.into_iter().chain(scope.map(|scope| ("scope", scope))).collect();
        let request = Authorization::of(credential).on(self.client.get(realm).query(&query));
        let token = granted(answer(request).await?)?.json::<Token>().await.map_err(|_| Problem::RegistryError)?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        token.map(Authorization::Bearer).ok_or(Problem::RegistryError)
    }
}

/// What a token service answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a request shows.
enum Authorization {
    Nothing,
    Basic(Credential),
    Bearer(String),
}

impl Authorization {
    fn of(credential: Option<&Credential>) -> Self {
        credential.map_or(Self::Nothing, |credential| Self::Basic(credential.clone()))
    }

    fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Nothing => request,
            Self::Basic(credential) => request.basic_auth(credential.username(), Some(credential.password())),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}

/// What a registry asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The challenge to go by: a token where there is a choice, as container runtimes do.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts: Vec<_> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
    let challenges: Vec<_> = texts.iter().filter_map(|text| http_auth::parse_challenges(text).ok()).flatten().collect();
    let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
    if let Some(bearer) = of("Bearer") {
        let parameter = |name: &str| {
            let (_, value) = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            let mut text = String::new();
            value.append_unescaped(&mut text);
            Some(text)
        };
        if let Some(realm) = parameter("realm") {
            return Some(Challenge::Bearer { realm, service: parameter("service") });
        }
    }
    of("Basic").map(|_| Challenge::Basic)
}

fn url(host: &str, path: &str) -> Result<Url, Problem> {
    let host = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host };
    Url::parse(&format!("https://{host}/v2/{path}")).map_err(|_| Problem::HostName)
}

/// The digest of a reference, or its tag, or the default one.
fn version_of(reference: &str) -> &str {
    if let Some((_, digest)) = reference.split_once('@') {
        return digest;
    }
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    name.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn granted(answer: Response) -> Result<Response, Problem> {
    match Problem::of_status(answer.status().as_u16()) {
        None => Ok(answer),
        Some(problem) => Err(problem),
    }
}

async fn answer(request: RequestBuilder) -> Result<Response, Problem> {
    request.send().await.map_err(|error| problem_of(&error))
}

/// What kept a request from being answered. The libraries below have no type for most of it, and the text of the cause tells.
fn problem_of(error: &reqwest::Error) -> Problem {
    if error.is_timeout() {
        return Problem::Unreachable;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        match Problem::of_message(&error.to_string()) {
            // A refusal is an answer of the registry, which this is not.
            Problem::Other | Problem::Refused => cause = error.source(),
            problem => return problem,
        }
    }
    if error.is_connect() { Problem::Unreachable } else { Problem::Other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;
    use rstest::rstest;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[rstest]
    #[case::basic(&["Basic realm=\"r\""], Some(Challenge::Basic))]
    #[case::bearer(
        &["Bearer realm=\"https://a.io/token\",service=\"a.io\""],
        Some(Challenge::Bearer { realm: "https://a.io/token".to_owned(), service: Some("a.io".to_owned()) }))]
    #[case::lower_case_and_no_service(
        &["bearer realm=\"https://a.io/token\""],
        Some(Challenge::Bearer { realm: "https://a.io/token".to_owned(), service: None }))]
    #[case::both_in_two_headers(
        &["Basic realm=\"r\"", "Bearer realm=\"https://a.io/token\""],
        Some(Challenge::Bearer { realm: "https://a.io/token".to_owned(), service: None }))]
    #[case::a_bearer_without_realm(&["Bearer service=\"a.io\", Basic realm=\"r\""], Some(Challenge::Basic))]
    #[case::something_else(&["Negotiate"], None)]
    #[case::nothing(&[], None)]
    fn what_a_registry_asks_for(#[case] headers: &[&'static str], #[case] expected: Option<Challenge>) {
        let mut map = HeaderMap::new();
        for text in headers {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_static(text));
        }
        assert_eq!(challenge(&map), expected);
    }

    #[rstest]
    #[case::a_tag("ghcr.io/acme/app:1", "1")]
    #[case::no_tag("ghcr.io/acme/app", "latest")]
    #[case::a_port_is_no_tag("localhost:5000/app", "latest")]
    #[case::a_digest("ghcr.io/acme/app@sha256:00", "sha256:00")]
    #[case::a_tag_and_a_digest("ghcr.io/acme/app:1@sha256:00", "sha256:00")]
    fn the_manifest_of_a_reference(#[case] reference: &str, #[case] expected: &str) {
        assert_eq!(version_of(reference), expected);
    }

    #[test]
    fn docker_hub_is_asked_where_it_answers() {
        assert_eq!(url("docker.io", "").unwrap().as_str(), "https://registry-1.docker.io/v2/");
        assert_eq!(url("ghcr.io", "a/b").unwrap().as_str(), "https://ghcr.io/v2/a/b");
    }

    /// A registry and what belongs to it, all on one address: what was asked for, in order, each with the host and the user.
    struct Fake {
        client: Registries,
        address: SocketAddr,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Fake {
        /// Answers by path and user: a status and further headers, or a token. `ADDRESS` there is its own, as another host.
        async fn new(answer: fn(&str, &str) -> (u16, &'static str)) -> Self {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let asked = Arc::<Mutex<Vec<String>>>::default();
            let seen = asked.clone();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut head = vec![stream.read_u8().await.unwrap()];
                    // Whoever begins with a handshake of TLS is hung up on.
                    if !head[0].is_ascii_alphabetic() {
                        continue;
                    }
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap().to_lowercase();
                    let header = |name: &str| {
                        let line = head.lines().find_map(|line| line.strip_prefix(name));
                        line.unwrap_or_default().trim().to_owned()
                    };
                    let user = match header("authorization:").as_str() {
                        // bot:hunter2
                        "basic ym90omh1bnrlcji=" => "bot".to_owned(),
                        "" => "nobody".to_owned(),
                        other => other.trim_start_matches("bearer ").to_owned(),
                    };
                    let mut words = head.split(' ');
                    let (method, target) = (words.next().unwrap(), words.next().unwrap());
                    let path = target.split('?').next().unwrap();
                    let host = header("host:").split(':').next().unwrap().to_owned();
                    seen.lock().unwrap().push(format!("{method} {host}{path} {user}"));
                    let (status, more) = answer(path, &user);
                    let (more, body) = match more.strip_prefix("token ") {
                        Some(token) => (String::new(), format!("{{\"token\": \"{token}\"}}")),
                        None => (more.replace("ADDRESS", &format!("localhost:{}", address.port())), String::new()),
                    };
                    let length = body.len();
                    let lines =
                        format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n");
                    stream.write_all(format!("{lines}{body}").as_bytes()).await.unwrap();
                }
            });
            Self { client: Registries { client: Client::builder().no_proxy().build().unwrap() }, address, asked }
        }

        async fn ask(&self, credentials: &[Option<Credential>]) -> Vec<Result<(), Problem>> {
            let url = Url::parse(&format!("http://{}/v2/acme/app/manifests/1", self.address)).unwrap();
            self.client.manifest_at(url, "repository:acme/app:pull", credentials).await
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut self.asked.lock().unwrap())
        }
    }

    const BASIC: &str = "WWW-Authenticate: Basic realm=\"r\"\r\n";
    const BEARER: &str = "WWW-Authenticate: Bearer realm=\"http://ADDRESS/token\",service=\"s\"\r\n";

    fn bot() -> Option<Credential> {
        Some(Credential::new("bot", "hunter2"))
    }

    fn other() -> Option<Credential> {
        Some(Credential::new("other", "hunter3"))
    }

    #[rstest]
    #[case::basic(
        |_: &str, user: &str| if user == "bot" { (200, "") } else { (401, BASIC) },
        &[
            "head 127.0.0.1/v2/acme/app/manifests/1 nobody",
            "head 127.0.0.1/v2/acme/app/manifests/1 bot",
            "head 127.0.0.1/v2/acme/app/manifests/1 basic b3rozxi6ahvudgvymw==",
        ],
        [Ok(()), Err(Problem::Refused), Err(Problem::Refused)])]
    #[case::a_token_of_another_host(
        |path: &str, user: &str| match (path, user) {
            ("/token", "bot") => (200, "token t1"),
            ("/token", "nobody") => (200, "token t0"),
            ("/token", _) => (403, ""),
            (_, "t1") => (200, ""),
            _ => (401, BEARER),
        },
        &[
            "head 127.0.0.1/v2/acme/app/manifests/1 nobody",
            "get localhost/token bot",
            "head 127.0.0.1/v2/acme/app/manifests/1 t1",
            "get localhost/token basic b3rozxi6ahvudgvymw==",
            "get localhost/token nobody",
            "head 127.0.0.1/v2/acme/app/manifests/1 t0",
        ],
        [Ok(()), Err(Problem::Refused), Err(Problem::Refused)])]
    #[case::who_asks_nobody_is_shown_nothing(
        |_: &str, _: &str| (200, ""),
        &["head 127.0.0.1/v2/acme/app/manifests/1 nobody"],
        [Ok(()), Ok(()), Ok(())])]
    #[case::no_such_image(
        |_: &str, _: &str| (404, ""),
        &["head 127.0.0.1/v2/acme/app/manifests/1 nobody"],
        [Err(Problem::NoSuchImage), Err(Problem::NoSuchImage), Err(Problem::NoSuchImage)])]
    #[case::a_limit(
        |_: &str, _: &str| (429, ""),
        &["head 127.0.0.1/v2/acme/app/manifests/1 nobody"],
        [Err(Problem::RateLimit), Err(Problem::RateLimit), Err(Problem::RateLimit)])]
    #[case::no_head(
        |_: &str, user: &str| if user == "nobody" { (405, "") } else { (200, "") },
        &["head 127.0.0.1/v2/acme/app/manifests/1 nobody", "get 127.0.0.1/v2/acme/app/manifests/1 nobody"],
        [Err(Problem::Other), Err(Problem::Other), Err(Problem::Other)])]
    #[case::a_host_that_another_one_sends_to_is_shown_what_it_asks_for(
        |path: &str, user: &str| match (path, user) {
            ("/v2/acme/app/manifests/1", _) => (307, "Location: http://ADDRESS/mirror\r\n"),
            (_, "bot") => (200, ""),
            _ => (401, BASIC),
        },
        &[
            "head 127.0.0.1/v2/acme/app/manifests/1 nobody",
            "head localhost/mirror nobody",
            "head localhost/mirror bot",
            "head localhost/mirror basic b3rozxi6ahvudgvymw==",
        ],
        [Ok(()), Err(Problem::Refused), Err(Problem::Refused)])]
    #[case::a_host_that_is_sent_to_afterwards_is_shown_nothing(
        |path: &str, user: &str| match (path, user) {
            ("/elsewhere", _) => (403, ""),
            (_, "nobody") => (401, BASIC),
            _ => (307, "Location: http://ADDRESS/elsewhere\r\n"),
        },
        &[
            "head 127.0.0.1/v2/acme/app/manifests/1 nobody",
            "head 127.0.0.1/v2/acme/app/manifests/1 bot",
            "head localhost/elsewhere nobody",
            "head 127.0.0.1/v2/acme/app/manifests/1 basic b3rozxi6ahvudgvymw==",
            "head localhost/elsewhere nobody",
        ],
        [Err(Problem::Refused), Err(Problem::Refused), Err(Problem::Refused)])]
    #[case::what_nobody_can_answer_to(
        |_: &str, _: &str| (401, "WWW-Authenticate: Negotiate\r\n"),
        &["head 127.0.0.1/v2/acme/app/manifests/1 nobody"],
        [Err(Problem::Refused), Err(Problem::Refused), Err(Problem::Refused)])]
    #[tokio::test]
    async fn each_credential_is_shown_to_whoever_asks_for_it_and_to_nobody_else(
        #[case] registry: fn(&str, &str) -> (u16, &'static str),
        #[case] asked: &[&str],
        #[case] expected: [Result<(), Problem>; 3],
    ) {
        let fake = Fake::new(registry).await;
        assert_eq!(fake.ask(&[bot(), other(), None]).await, expected);
        assert_eq!(fake.asked(), asked);
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_asked_once() {
        let fake = Fake::new(|_, _| (200, "")).await;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = Url::parse(&format!("http://{free}/v2/a/manifests/1")).unwrap();
        let answers = fake.client.manifest_at(url, "repository:a:pull", &[bot(), None]).await;
        assert_eq!(answers, [Err(Problem::Unreachable), Err(Problem::Unreachable)]);
    }

    #[tokio::test]
    async fn nothing_is_sent_without_tls() {
        let fake = Fake::new(|_, _| (200, "")).await;
        let image = Image::parse(&format!("{}/acme/app", fake.address)).unwrap();
        let plain = Registries::new(None).unwrap();
        let url = Url::parse(&format!("http://{}/v2/", fake.address)).unwrap();
        assert!(answer(plain.client.get(url)).await.is_err());
        assert_eq!(fake.asked(), [""; 0]);
        assert_eq!(plain.manifest(image.name(), &image, &[bot()]).await, [Err(Problem::Unreachable)]);
    }
}
