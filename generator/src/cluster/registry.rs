//! Registries, asked whether they accept a credential: by the API that container runtimes pull through (the distribution
//! specification of OCI), with HTTP Basic authentication or a token of the service that the registry names.
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

    /// Whether an image is handed out to this credential, or to anybody. The image itself is not pulled.
    ///
    /// # Errors
    /// What is in the way.
    pub(crate) async fn manifest(
        &self,
        reference: &str,
        image: &Image,
        credential: Option<&Credential>,
    ) -> Result<(), Problem> {
        let (host, path) = image.name().split_once('/').ok_or(Problem::ImageName)?;
        let scope = format!("repository:{path}:pull");
        let authorization = self.authorization(host, Some(&scope), credential).await?;
        let url = url(host, &format!("{path}/manifests/{}", version_of(reference)))?;
        let request = self.client.request(Method::HEAD, url).header(ACCEPT, MANIFESTS);
        granted(authorization.on(request)).await.map(drop)
    }

    /// Whether the registry of this host accepts the credential.
    ///
    /// # Errors
    /// What is in the way: [`Problem::Refused`] where the registry, or its token service, says no.
    pub(crate) async fn accepts(&self, host: &str, credential: &Credential) -> Result<(), Problem> {
        let authorization = self.authorization(host, None, Some(credential)).await?;
        granted(authorization.on(self.client.get(url(host, "")?))).await.map(drop)
    }

    /// What a request has to show: as the registry asks of whoever comes without anything.
    async fn authorization(
        &self,
        host: &str,
        scope: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Problem> {
        let answer = answer(self.client.get(url(host, "")?)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            // It asks nobody, or fails: the request that counts will tell.
            return Ok(Authorization::Nothing);
        }
        let credential = credential.filter(|credential| !credential.username().is_empty());
        match challenge(answer.headers()) {
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service, scope, credential).await,
            Some(Challenge::Basic) => Ok(Authorization::of(credential)),
            None => Err(Problem::Other),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<&str>,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Problem> {
        let realm = Url::parse(realm).map_err(|_| Problem::Other)?;
        let service = service.as_deref().map(|service| ("service", service));
        let query: Vec<_> = service.into_iter().chain(scope.map(|scope| ("scope", scope))).collect();
        let request = Authorization::of(credential).on(self.client.get(realm).query(&query));
        let token = granted(request).await?.json::<Token>().await.map_err(|_| Problem::RegistryError)?;
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

async fn granted(request: RequestBuilder) -> Result<Response, Problem> {
    let answer = answer(request).await?;
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
}
