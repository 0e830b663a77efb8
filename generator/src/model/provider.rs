//! The protocol of the kubelet's credential provider plugins, `credentialprovider.kubelet.k8s.io/v1`: the request, the
//! meaning of a response, and the docker config that several responses make.
//!
//! A response is read as strictly as the kubelet reads it (`decodeResponse` in Kubernetes' `pkg/credentialprovider/plugin`). No
//! error here quotes anything of it: whatever it is, it may hold a credential.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image_pull_secrets::duration;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The version of the protocol.
pub(crate) const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// What a provider reads on its standard input.
pub(crate) fn request(image: &str) -> String {
    json!({"kind": "CredentialProviderRequest", "apiVersion": API_VERSION, "image": image}).to_string()
}

/// What a provider answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The credentials, by the server that they are for.
    pub credentials: BTreeMap<String, Credential>,
    /// How many more there were, without user and password. They would match images, and end anonymous pulls of them.
    pub empty: usize,
    /// How long they hold, if the provider says so.
    pub cache_duration: Option<Duration>,
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Credential {
    /// The user.
    #[serde(default)]
    pub username: String,
    /// The password.
    #[serde(default)]
    pub password: String,
}

impl fmt::Debug for Credential {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Credential({:?}, …)", self.username)
    }
}

/// What is wrong with an answer. Reads as the end of a sentence about the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Nothing was printed.
    #[error("it printed nothing")]
    Nothing,
    /// It does not parse.
    #[error("what it printed is not JSON")]
    NotJson,
    /// It is of another version or of none.
    #[error("its answer has another apiVersion than {API_VERSION}, or none")]
    Version,
    /// It is another object.
    #[error("its answer is no CredentialProviderResponse")]
    Kind,
    /// A field is unknown, twice there, or of another kind.
    #[error("its answer has a field that no CredentialProviderResponse has, or one of another kind")]
    Fields,
    /// The kubelet would not use it.
    #[error("its answer has a cacheKeyType that is none of Image, Registry and Global, or none")]
    CacheKeyType,
    /// It does not parse as a duration.
    #[error("its answer has a cacheDuration that is no duration")]
    CacheDuration,
    /// There is nothing in it to pull with.
    #[error("its answer has no credential")]
    NoCredential,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Response {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, StrictCredential>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictCredential {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Answer {
    /// Reads what a provider printed.
    ///
    /// # Errors
    /// [`Fault`] where the kubelet would not use it, and where there is nothing in it to use.
    pub(crate) fn parse(printed: &[u8]) -> Result<Self, Fault> {
        if printed.trim_ascii().is_empty() {
            return Err(Fault::Nothing);
        }
        // First which object it is: one of another version may have other fields.
        let document: Value = serde_json::from_slice(printed).map_err(|_| Fault::NotJson)?;
        if document.get("apiVersion").and_then(Value::as_str) != Some(API_VERSION) {
            return Err(Fault::Version);
        }
        if document.get("kind").and_then(Value::as_str) != Some("CredentialProviderResponse") {
            return Err(Fault::Kind);
        }
        // From the text again: in a document, the last of two fields has won.
        let response: Response = serde_json::from_slice(printed).map_err(|_| Fault::Fields)?;
        if !matches!(response.cache_key_type.as_str(), "Image" | "Registry" | "Global") {
            return Err(Fault::CacheKeyType);
        }
        let cache_duration = match response.cache_duration.as_deref().map(duration::parse) {
            None => None,
            Some(None) => return Err(Fault::CacheDuration),
            Some(Some(duration)) => Some(duration).filter(|duration| !duration.is_zero()),
        };
        let mut answer = Self { cache_duration, ..Self::default() };
        for (server, StrictCredential { username, password }) in response.auth.into_iter().flatten() {
            if username.is_empty() && password.is_empty() {
                answer.empty += 1;
            } else {
                answer.credentials.insert(server, Credential { username, password });
            }
        }
        if answer.credentials.is_empty() { Err(Fault::NoCredential) } else { Ok(answer) }
    }
}

/// The credentials of several answers together. What an earlier one gave stays only where one of them `failed`: it is not known
/// which of the old ones the failed one would have replaced.
pub(crate) fn merged(
    before: &BTreeMap<String, Credential>,
    answers: impl IntoIterator<Item = Answer>,
    failed: bool,
) -> BTreeMap<String, Credential> {
    let mut credentials = if failed { before.clone() } else { BTreeMap::new() };
    credentials.extend(answers.into_iter().flat_map(|answer| answer.credentials));
    credentials
}

/// The docker config of these credentials. Equal credentials make equal documents.
pub(crate) fn docker_config(credentials: &BTreeMap<String, Credential>) -> Vec<u8> {
    let entry = |(server, Credential { username, password }): (&String, &Credential)| {
        let auth = BASE64_STANDARD.encode(format!("{username}:{password}"));
        (server.clone(), json!({"username": username, "password": password, "auth": auth}))
    };
    let auths: serde_json::Map<String, Value> = credentials.iter().map(entry).collect();
    json!({"auths": auths}).to_string().into_bytes()
}

/// The credentials of a docker config that [`docker_config`] made; none where it did not.
pub(crate) fn credentials_of(document: &[u8]) -> BTreeMap<String, Credential> {
    #[derive(Deserialize)]
    struct DockerConfig {
        auths: BTreeMap<String, Credential>,
    }
    serde_json::from_slice(document).map(|config: DockerConfig| config.auths).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn response(fields: &str) -> String {
        format!(r#"{{"kind":"CredentialProviderResponse","apiVersion":"{API_VERSION}",{fields}}}"#)
    }

    fn credential(username: &str, password: &str) -> Credential {
        Credential { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn the_request_is_the_kubelets() {
        let request: Value = serde_json::from_str(&request("quay.io/acme")).unwrap();
        assert_eq!(
            request,
            json!({
                "kind": "CredentialProviderRequest",
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                "image": "quay.io/acme",
            })
        );
    }

    #[rstest]
    #[case::of_ecr(
        r#""cacheKeyType":"Registry","cacheDuration":"6h0m0s","auth":{"quay.io":{"username":"AWS","password":"p"}}"#,
        Some(21_600),
        1,
        0
    )]
    #[case::of_gcp_which_says_no_duration(
        r#""cacheKeyType":"Image","cacheDuration":"0s","auth":{"gcr.io":{"username":"_token","password":"p"}}"#,
        None,
        1,
        0
    )]
    #[case::without_a_duration(
        r#""cacheKeyType":"Global","auth":{"a.io":{"username":"u","password":"p"},"*.a.io":{"username":"u","password":"p"}}"#,
        None, 2, 0
    )]
    #[case::of_acr_with_an_entry_that_is_empty(
        r#""cacheKeyType":"Registry","cacheDuration":null,
            "auth":{"a.azurecr.io":{"username":"0","password":"p"},"*.azurecr.*":{"username":"","password":""}}"#,
        None,
        1,
        1
    )]
    #[case::a_password_alone(r#""cacheKeyType":"Image","auth":{"a.io":{"password":"p"}}"#, None, 1, 0)]
    fn an_answer(#[case] fields: &str, #[case] seconds: Option<u64>, #[case] credentials: usize, #[case] empty: usize) {
        let answer = Answer::parse(response(fields).as_bytes()).unwrap();
        assert_eq!(answer.cache_duration, seconds.map(Duration::from_secs));
        assert_eq!((answer.credentials.len(), answer.empty), (credentials, empty));
    }

    const AUTH: &str = r#""auth":{"a.io":{"username":"u","password":"p"}}"#;

    #[rstest]
    #[case::nothing("", Fault::Nothing)]
    #[case::white_space("\n", Fault::Nothing)]
    #[case::garbage("hunter2", Fault::NotJson)]
    #[case::two_documents(&format!("{{}}{}", response(AUTH)), Fault::NotJson)]
    #[case::half_a_document(&response(AUTH)[..90], Fault::NotJson)]
    #[case::a_list("[]", Fault::Version)]
    #[case::another_version(
        r#"{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1beta1"}"#,
        Fault::Version
    )]
    #[case::another_kind(
        r#"{"kind":"ExecCredential","apiVersion":"credentialprovider.kubelet.k8s.io/v1"}"#,
        Fault::Kind
    )]
    #[case::an_unknown_field(&response(&format!(r#""cacheKeyType":"Image","token":"hunter2",{AUTH}"#)), Fault::Fields)]
    #[case::a_field_twice(&response(&format!(r#""cacheKeyType":"Image",{AUTH},{AUTH}"#)), Fault::Fields)]
    #[case::a_field_of_another_kind(&response(r#""cacheKeyType":"Image","auth":{"a.io":"hunter2"}"#), Fault::Fields)]
    #[case::an_unknown_field_of_a_credential(
        &response(r#""cacheKeyType":"Image","auth":{"a.io":{"username":"u","identityToken":"hunter2"}}"#),
        Fault::Fields
    )]
    #[case::no_cache_key_type(&response(AUTH), Fault::CacheKeyType)]
    #[case::another_cache_key_type(&response(&format!(r#""cacheKeyType":"Pod",{AUTH}"#)), Fault::CacheKeyType)]
    #[case::no_duration(
        &response(&format!(r#""cacheKeyType":"Image","cacheDuration":"soon",{AUTH}"#)), Fault::CacheDuration
    )]
    #[case::no_credentials(&response(r#""cacheKeyType":"Image""#), Fault::NoCredential)]
    #[case::credentials_of_null(&response(r#""cacheKeyType":"Image","auth":null"#), Fault::NoCredential)]
    #[case::only_empty_credentials(
        &response(r#""cacheKeyType":"Image","auth":{"a.io":{"username":"","password":""}}"#), Fault::NoCredential
    )]
    fn an_answer_that_is_not_used(#[case] printed: &str, #[case] fault: Fault) {
        assert_eq!(Answer::parse(printed.as_bytes()), Err(fault));
        assert!(!format!("{fault} {fault:?}").contains("hunter2"));
    }

    #[rstest]
    #[case::that_all_succeeded_forgets_what_was_before(false, &["a.io=2", "b.io=2"])]
    #[case::of_which_one_failed_keeps_what_was_before(true, &["a.io=2", "b.io=2", "old.io=1"])]
    fn a_round(#[case] failed: bool, #[case] expected: &[&str]) {
        let credentials = |servers: &[&str], password: &str| -> BTreeMap<_, _> {
            servers.iter().map(|&server| (server.to_owned(), credential("u", password))).collect()
        };
        let answers = [&["a.io"], &["b.io"]]
            .map(|servers| Answer { credentials: credentials(servers, "2"), ..Answer::default() });
        let merged = merged(&credentials(&["old.io", "a.io"], "1"), answers, failed);
        let told: Vec<_> =
            merged.iter().map(|(server, credential)| format!("{server}={}", credential.password)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_docker_config_is_the_same_for_the_same_credentials_and_gives_them_back() {
        let credentials =
            BTreeMap::from([("b.io".to_owned(), credential("u", "p:\"q")), ("*.a.io".to_owned(), credential("", "t"))]);
        let document = docker_config(&credentials);
        assert_eq!(
            String::from_utf8(document.clone()).unwrap(),
            r#"{"auths":{"*.a.io":{"auth":"OnQ=","password":"t","username":""},"b.io":{"auth":"dTpwOiJx","password":"p:\"q","username":"u"}}}"#
        );
        assert_eq!(credentials_of(&document), credentials);
        assert_eq!(credentials_of(b"nope"), BTreeMap::new());
    }

    #[test]
    fn a_credential_is_never_shown() {
        let answer = Answer {
            credentials: BTreeMap::from([("a.io".to_owned(), credential("u", "hunter2"))]),
            ..Answer::default()
        };
        assert!(!format!("{answer:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_printed_panics(printed in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[{\":,}\\]a-z0-9.]{0,60}") {
            let _ = Answer::parse(&printed);
            let _ = Answer::parse(text.as_bytes());
        }
    }
}
