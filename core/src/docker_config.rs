//! Docker configs, parsed and searched as the kubelet does it. No password is kept.
//!
//! Source: `config.go` and `keyring.go` in Kubernetes' `pkg/credentialprovider`, and Go's `encoding/json`. The rules of
//! that package apply here too: it ignores the case of member names, treats `null` as a missing value, takes the last
//! of two members with one name, ignores unknown members, and refuses more than 10,000 levels of nesting.

use crate::image::{Image, Images};
use crate::json::{self, JsonError};
use crate::location::Location;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Why the kubelet cannot parse a docker config. The message names the entry and never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// The document is not JSON, or it is not an object.
    #[error("its docker config {0}")]
    Document(#[from] JsonError),
    /// The document nests deeper than Go reads.
    #[error("its docker config has more than 10,000 levels")]
    TooDeep,
    /// `auths` is not an object.
    #[error("its \"auths\" is not an object")]
    Auths,
    /// `HttpHeaders` is not an object of strings.
    #[error("its \"HttpHeaders\" is not an object of strings")]
    Headers,
    /// Something is wrong with the entry of one registry.
    #[error("its entry {name} {fault}")]
    Entry {
        /// Which entry.
        name: EntryName,
        /// What is wrong with it.
        fault: EntryFault,
    },
}

/// What is wrong with one registry's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// It is not an object.
    #[error("is not an object")]
    NotAnObject,
    /// One of the members that the kubelet reads is not a string.
    #[error("has a \"{0}\" that is not a string")]
    NotAString(&'static str),
    /// Its `auth` is not base64.
    #[error("has an \"auth\" that is not base64")]
    AuthNotBase64,
    /// Its `auth` has no colon in it after decoding.
    #[error("has an \"auth\" that is not base64 of user:password")]
    AuthWithoutColon,
}

/// How messages name an entry: by its position, and also by its server if the key is only a server name. (A key may
/// contain a password.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    position: usize,
    server: Option<String>,
}

impl EntryName {
    fn new(position: usize, server: &str) -> Self {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:/*[]".contains(&b);
        let printable = (1..=100).contains(&server.len()) && server.bytes().all(plain);
        Self { position, server: printable.then(|| server.to_owned()) }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.server {
            Some(server) => write!(f, "\"{server}\""),
            None => write!(f, "number {}", self.position),
        }
    }
}

/// The servers that a docker config has credentials for. The credentials were checked and are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    entries: Vec<Entry>,
}

/// A server as it is written, the key that `BasicDockerKeyring.Add` makes of it, and that key parsed as a URL.
/// `URLsMatchStr` parses the key a second time, so that a text that was escaped twice is unescaped twice. A key that is
/// not a URL matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    server: String,
    key: String,
    location: Option<Location>,
}

const DEFAULT_REGISTRY_KEY: &str = "index.docker.io";

/// How many characters may be compared to match the globs of one config. This is enough for thousands of globs and a
/// Pod with images of thirty registries. Without a limit, somebody who can write a Secret could make every admission
/// take seconds.
const MOST_EFFORT: usize = 20_000_000;

impl DockerConfig {
    /// Parses the value of `.dockerconfigjson`, whose entries are below `auths`.
    ///
    /// # Errors
    /// [`DockerConfigError`] where the kubelet's `json.Unmarshal` into `DockerConfigJSON` fails.
    pub fn parse(document: &[u8]) -> Result<Self, DockerConfigError> {
        // Go also reads bytes that are not UTF-8 as U+FFFD.
        let text = String::from_utf8_lossy(document);
        check_depth(&text)?;
        let mut servers = Vec::new();
        each_member(&text, &mut |name, value| match folded(name).as_str() {
            "auths" if value == "null" => {
                servers.clear();
                Ok(())
            }
            "auths" => read_entries(value, &mut servers).map_err(|error| match error {
                DockerConfigError::Document(_) => DockerConfigError::Auths,
                other => other,
            }),
            "httpheaders" => check_headers(value),
            _ => Ok(()),
        })?;
        Ok(Self::from_servers(servers))
    }

    /// Parses the value of the older `.dockercfg`, whose entries are at the top level.
    ///
    /// # Errors
    /// [`DockerConfigError`] where the kubelet's `json.Unmarshal` into `DockerConfig` fails.
    pub fn parse_legacy(document: &[u8]) -> Result<Self, DockerConfigError> {
        let text = String::from_utf8_lossy(document);
        check_depth(&text)?;
        let mut servers = Vec::new();
        read_entries(&text, &mut servers)?;
        Ok(Self::from_servers(servers))
    }

    /// Whether the kubelet would use a credential of this config for `image`.
    pub fn covers(&self, image: &Image) -> bool {
        self.entries.iter().any(|entry| entry.matches(image))
            || image.is_on_default_registry() && self.entries.iter().any(Entry::is_default_registry)
    }

    /// Whether the kubelet would use a credential of this config for any of `images`. The answer is that of
    /// [`DockerConfig::covers`] for each image, but the time that it takes depends on the number of entries and hardly
    /// on the number of images. A config with more globs than can be matched in time counts as covering the images.
    pub fn covers_any(&self, images: &Images<'_>) -> bool {
        let mut effort = 0_usize;
        let mut held = |key: &Location| {
            effort = effort.saturating_add(images.locations.effort(key));
            effort > MOST_EFFORT || images.locations.any_held_by(key)
        };
        self.entries.iter().any(|entry| {
            entry.location.as_ref().is_some_and(&mut held)
                || images.any_on_default_registry && entry.is_default_registry()
        })
    }

    /// The entries whose servers are URLs, in the order of the document. The kubelet ignores the others.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The servers that the config names, in order and each once. Like the kubelet, it leaves out those that are not
    /// URLs.
    pub fn servers(&self) -> BTreeSet<&str> {
        self.entries.iter().map(|entry| entry.server.as_str()).collect()
    }

    fn from_servers(servers: Vec<String>) -> Self {
        let mut entries = Vec::with_capacity(servers.len());
        for server in servers {
            if let Some(key) = key_of(&server) {
                let location = Location::parse(&key).ok();
                entries.push(Entry { server, key, location });
            }
        }
        Self { entries }
    }
}

impl Entry {
    /// The server, as it is written.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The server's key in the kubelet's keyring: without the scheme, and without a leading `/v1/` or `/v2/`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether its key matches the image. An entry for Docker Hub under its old name can be used without matching: see
    /// [`Entry::is_default_registry`].
    pub fn matches(&self, image: &Image) -> bool {
        image.location().is_some_and(|image| self.location.as_ref().is_some_and(|location| location.holds(image)))
    }

    /// Whether the kubelet falls back on it for an image of the default registry that no key matches.
    pub fn is_default_registry(&self) -> bool {
        self.key == DEFAULT_REGISTRY_KEY
    }
}

/// How deep Go reads (`maxNestingDepth` in `encoding/json`).
const DEEPEST: usize = 10_000;

fn check_depth(text: &str) -> Result<(), DockerConfigError> {
    let opens = |b: u8| matches!(b, b'{' | b'[');
    // A usual config has fewer brackets than that, and needs no further check.
    if text.bytes().filter(|b| opens(*b)).count() <= DEEPEST {
        return Ok(());
    }
    let (mut depth, mut is_in_string, mut is_escaped) = (0_usize, false, false);
    for b in text.bytes() {
        match b {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_in_string,
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            b if opens(b) => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(DockerConfigError::TooDeep);
        }
    }
    Ok(())
}

/// The key of the keyring for a server: without its scheme, and without a leading `/v1/` or `/v2/`.
fn key_of(server: &str) -> Option<String> {
    let stripped = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let location = Location::parse(stripped).ok()?;
    let path = location.path();
    let path =
        if path.starts_with("/v1/") || path.starts_with("/v2/") { path.get(3..).unwrap_or_default() } else { path };
    Some(if path == "/" { location.authority().to_owned() } else { format!("{}{path}", location.authority()) })
}

fn read_entries(object: &str, servers: &mut Vec<String>) -> Result<(), DockerConfigError> {
    let mut position = 0;
    each_member(object, &mut |server, entry| {
        position += 1;
        check_entry(entry)
            .map_err(|fault| DockerConfigError::Entry { name: EntryName::new(position, server), fault })?;
        servers.push(server.to_owned());
        Ok(())
    })
}

/// Checks what `DockerConfigEntry.UnmarshalJSON` checks: the four members that it reads, and that `auth` decodes.
fn check_entry(entry: &str) -> Result<(), EntryFault> {
    if entry == "null" {
        return Ok(());
    }
    let mut auth = Cow::Borrowed("");
    let mut fault = None;
    json::members(entry, &mut |name, value| {
        let field = match folded(&name).as_str() {
            "username" => "username",
            "password" => "password",
            "email" => "email",
            "auth" => "auth",
            _ => return,
        };
        match json::string(value) {
            Some(text) if field == "auth" => auth = text,
            Some(_) => {}
            None if value == "null" => {}
            None => fault = fault.or(Some(EntryFault::NotAString(field))),
        }
    })
    .map_err(|_| EntryFault::NotAnObject)?;
    fault.map_or_else(|| check_auth(&auth), Err)
}

const fn lenient(padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    GeneralPurpose::new(&alphabet::STANDARD, config)
}
const PADDED: GeneralPurpose = lenient(DecodePaddingMode::RequireCanonical);
const UNPADDED: GeneralPurpose = lenient(DecodePaddingMode::RequireNone);

fn check_auth(auth: &str) -> Result<(), EntryFault> {
    if auth.is_empty() || decode_auth(auth)?.contains(&b':') { Ok(()) } else { Err(EntryFault::AuthWithoutColon) }
}

/// As `decodeDockerConfigFieldAuth`. Go's decoder ignores line breaks, and does not check the bits that are left over.
pub(crate) fn decode_auth(auth: &str) -> Result<Vec<u8>, EntryFault> {
    let engine = if auth.trim_ascii_end().ends_with('=') { PADDED } else { UNPADDED };
    let digits: Vec<u8> = auth.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    engine.decode(digits).map_err(|_| EntryFault::AuthNotBase64)
}

fn check_headers(value: &str) -> Result<(), DockerConfigError> {
    if value == "null" {
        return Ok(());
    }
    each_member(value, &mut |_, header| {
        if header == "null" || json::string(header).is_some() { Ok(()) } else { Err(DockerConfigError::Headers) }
    })
    .map_err(|_| DockerConfigError::Headers)
}

/// Calls `check` with each member until one fails. A document `null` has no members.
fn each_member(
    text: &str,
    check: &mut dyn FnMut(&str, &str) -> Result<(), DockerConfigError>,
) -> Result<(), DockerConfigError> {
    if json::is_null(text) {
        return Ok(());
    }
    let mut result = Ok(());
    json::members(text, &mut |name, value| {
        if result.is_ok() {
            result = check(&name, value);
        }
    })?;
    result
}

/// Go compares member names by simple Unicode folding. Two letters outside of ASCII fold to letters in these names.
pub(crate) fn folded(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn image(reference: &str) -> Image {
        Image::parse(reference).unwrap()
    }

    fn config(server: &str) -> DockerConfig {
        let document = serde_json::json!({"auths": {server: {"auth": "dTpw"}}});
        DockerConfig::parse(document.to_string().as_bytes()).unwrap()
    }

    #[rstest]
    #[case::a_registry("ghcr.io", "ghcr.io/acme/app", true)]
    #[case::a_registry_by_url("https://ghcr.io", "ghcr.io/acme/app", true)]
    #[case::a_registry_by_plain_url("http://ghcr.io", "ghcr.io/acme/app", true)]
    #[case::only_one_scheme_is_stripped("https://http://ghcr.io", "ghcr.io/acme/app", false)]
    #[case::an_upper_case_scheme_is_no_scheme("HTTPS://ghcr.io", "ghcr.io/acme/app", false)]
    #[case::a_registry_with_a_slash("https://ghcr.io/", "ghcr.io/acme/app", true)]
    #[case::a_v1_path_with_its_slash("https://ghcr.io/v1/", "ghcr.io/acme/app", true)]
    #[case::a_v2_path_with_its_slash("https://ghcr.io/v2/", "ghcr.io/acme/app", true)]
    #[case::a_v2_path_without_its_slash("https://ghcr.io/v2", "ghcr.io/acme/app", false)]
    #[case::a_v3_path("https://ghcr.io/v3/", "ghcr.io/acme/app", false)]
    #[case::a_path_below_v2("https://ghcr.io/v2/acme", "ghcr.io/acme/app", true)]
    #[case::a_path("ghcr.io/acme", "ghcr.io/acme/app", true)]
    #[case::another_path("ghcr.io/other", "ghcr.io/acme/app", false)]
    #[case::a_glob("*.example.com", "eu.example.com/x", true)]
    #[case::a_port("host:5000", "host:5000/x", true)]
    #[case::another_port("host:5001", "host:5000/x", false)]
    #[case::docker_hub_by_the_url_that_docker_login_writes("https://index.docker.io/v1/", "nginx", true)]
    #[case::docker_hub_by_its_index("index.docker.io", "acme/app", true)]
    #[case::docker_hub_by_name("docker.io", "nginx", true)]
    #[case::docker_hub_and_an_organisation("docker.io/acme", "acme/app", true)]
    #[case::docker_hub_and_another_organisation("docker.io/acme", "nginx", false)]
    #[case::docker_hub_without_the_last_slash("https://index.docker.io/v1", "nginx", false)]
    #[case::docker_hub_by_its_registry("registry-1.docker.io", "nginx", false)]
    #[case::docker_hub_by_its_site("hub.docker.com", "nginx", false)]
    #[case::docker_hub_by_glob("*.docker.io", "nginx", false)]
    #[case::the_hubs_credential_is_for_the_hub_only("https://index.docker.io/v1/", "ghcr.io/acme/app", false)]
    #[case::localhost_falls_back_to_the_hubs_credential("index.docker.io", "localhost/x", true)]
    #[case::an_entry_that_is_no_url_is_passed_over("ghcr.io:http", "ghcr.io/acme/app", false)]
    fn covers_as_the_kubelet_looks_up(#[case] server: &str, #[case] reference: &str, #[case] expected: bool) {
        assert_eq!(config(server).covers(&image(reference)), expected);
    }

    #[rstest]
    #[case::as_many_as_anybody_has(1_000, false)]
    #[case::more_than_can_be_matched_in_time(100_000, true)]
    fn a_config_of_too_many_globs_counts_as_covering(#[case] globs: usize, #[case] expected: bool) {
        let entries: serde_json::Map<_, _> =
            (0..globs).map(|n| (format!("*.e*{n}.com"), serde_json::json!({}))).collect();
        let config = DockerConfig::parse(serde_json::json!({"auths": entries}).to_string().as_bytes()).unwrap();
        let images: Vec<_> = (0..30).map(|n| image(&format!("r{n}.example.com/app"))).collect();
        assert_eq!(config.covers_any(&Images::new(&images)), expected);
    }

    #[rstest]
    #[case::nothing_in_it(r#"{"auths":{}}"#, 0)]
    #[case::no_auths("{}", 0)]
    #[case::null_auths(r#"{"auths":null}"#, 0)]
    #[case::a_document_of_null("null", 0)]
    #[case::auths_in_another_case(r#"{"AuthS":{"ghcr.io":{}}}"#, 1)]
    #[case::auths_twice_are_merged(r#"{"auths":{"ghcr.io":{}},"auths":{"quay.io":{}}}"#, 2)]
    #[case::a_later_null_empties(r#"{"auths":{"ghcr.io":{}},"auths":null}"#, 0)]
    #[case::an_entry_of_null(r#"{"auths":{"ghcr.io":null}}"#, 1)]
    #[case::user_and_password(r#"{"auths":{"ghcr.io":{"username":"u","password":"p","email":"e"}}}"#, 1)]
    #[case::unknown_members(r#"{"credsStore":"x","auths":{"ghcr.io":{"identitytoken":{"a":[1]}}}}"#, 1)]
    #[case::an_unpadded_auth(r#"{"auths":{"ghcr.io":{"auth":"dXM6cGFzcw"}}}"#, 1)]
    #[case::a_padded_auth(r#"{"auths":{"ghcr.io":{"auth":"dXM6cGFzcw=="}}}"#, 1)]
    #[case::an_auth_with_line_breaks(r#"{"auths":{"ghcr.io":{"auth":"dXM6\r\ncGFzcw=="}}}"#, 1)]
    #[case::left_over_bits(r#"{"auths":{"ghcr.io":{"auth":"dXM6cGFzcx=="}}}"#, 1)]
    #[case::null_members(r#"{"auths":{"ghcr.io":{"auth":null,"username":null}}}"#, 1)]
    #[case::the_last_auth_of_two(r#"{"auths":{"ghcr.io":{"auth":"!","AUTH":"dTpw"}}}"#, 1)]
    #[case::headers(r#"{"HttpHeaders":{"a":"b","c":null},"auths":{}}"#, 0)]
    #[case::half_a_surrogate_pair(r#"{"auths":{"ghcr.io":{"password":"\ud83d"}}}"#, 1)]
    #[case::a_long_s_folds_to_s(r#"{"authſ":{"ghcr.io":{}}}"#, 1)]
    fn parses_what_the_kubelet_parses(#[case] document: &str, #[case] servers: usize) {
        assert_eq!(DockerConfig::parse(document.as_bytes()).unwrap().servers().len(), servers);
    }

    #[rstest]
    #[case::no_json("nope", "its docker config is not JSON (line 1, column 2)")]
    #[case::a_list("[]", "its docker config is not a JSON object")]
    #[case::something_behind("{} {}", "its docker config is not JSON (line 1, column 4)")]
    #[case::auths_of_another_kind(r#"{"auths":[]}"#, "its \"auths\" is not an object")]
    #[case::an_entry_of_another_kind(r#"{"auths":{"ghcr.io":"dTpw"}}"#, "its entry \"ghcr.io\" is not an object")]
    #[case::a_user_of_another_kind(
        r#"{"auths":{"ghcr.io":{"username":1}}}"#,
        "its entry \"ghcr.io\" has a \"username\" that is not a string"
    )]
    #[case::an_auth_that_is_no_base64(
        r#"{"auths":{"ghcr.io":{"auth":"hunter2!"}}}"#,
        "its entry \"ghcr.io\" has an \"auth\" that is not base64"
    )]
    #[case::an_auth_in_the_alphabet_of_urls(
        r#"{"auths":{"ghcr.io":{"auth":"_w06_w=="}}}"#,
        "its entry \"ghcr.io\" has an \"auth\" that is not base64"
    )]
    #[case::an_auth_with_one_padding_too_few(
        r#"{"auths":{"ghcr.io":{"auth":"dXM6cGFzcw="}}}"#,
        "its entry \"ghcr.io\" has an \"auth\" that is not base64"
    )]
    #[case::an_auth_with_a_space(
        r#"{"auths":{"ghcr.io":{"auth":" dTpw"}}}"#,
        "its entry \"ghcr.io\" has an \"auth\" that is not base64"
    )]
    #[case::an_auth_without_a_colon(
        r#"{"auths":{"a":{},"ghcr.io":{"auth":"aHVudGVyMg=="}}}"#,
        "its entry \"ghcr.io\" has an \"auth\" that is not base64 of user:password"
    )]
    #[case::a_server_that_may_hold_a_credential_is_not_named(
        r#"{"auths":{"https://me:hunter2@ghcr.io":1}}"#,
        "its entry number 1 is not an object"
    )]
    #[case::headers_of_another_kind(r#"{"HttpHeaders":{"a":1}}"#, "its \"HttpHeaders\" is not an object of strings")]
    fn says_what_the_kubelet_could_not_parse(#[case] document: &str, #[case] message: &str) {
        assert_eq!(DockerConfig::parse(document.as_bytes()).unwrap_err().to_string(), message);
    }

    #[test]
    fn nesting_ends_where_it_does_in_go() {
        let within = |depth: usize| {
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            DockerConfig::parse(format!("{{\"x\":{deep}}}").as_bytes()).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(within(9_999), Ok(()));
        assert_eq!(within(10_000), Err("its docker config has more than 10,000 levels".to_owned()));
    }

    #[rstest]
    #[case::side_by_side(r#""x":[]"#)]
    #[case::in_a_text(r#""x":"[\"[""#)]
    fn brackets_that_do_not_nest_are_not_counted(#[case] member: &str) {
        let document = format!("{{{}}}", [member; 20_000].join(","));
        assert_eq!(DockerConfig::parse(document.as_bytes()).map(|config| config.servers().len()), Ok(0));
    }

    #[rstest]
    #[case::entries_at_the_top(r#"{"ghcr.io":{"auth":"dTpw"}}"#, Some(1))]
    #[case::null("null", Some(0))]
    #[case::auths_is_a_server_like_any_other(r#"{"auths":{"ghcr.io":{}}}"#, Some(1))]
    #[case::a_list("[]", None)]
    #[case::a_bad_entry(r#"{"ghcr.io":[]}"#, None)]
    fn parses_the_legacy_form(#[case] document: &str, #[case] servers: Option<usize>) {
        assert_eq!(DockerConfig::parse_legacy(document.as_bytes()).ok().map(|c| c.servers().len()), servers);
    }

    proptest! {
        #[test]
        fn many_images_are_covered_as_one_by_one(
            servers in prop::collection::vec("(https://)?([a-c*.]{1,3}|index.docker.io|docker.io)(/v1/|/[a-c]{1,2})?", 0..4),
            references in prop::collection::vec("([a-c.]{1,3}/|localhost/|docker.io/)?[a-c]{1,2}(/[a-c]{1,2})?", 0..4),
        ) {
            let entries: serde_json::Map<_, _> = servers.into_iter().map(|server| (server, serde_json::json!({}))).collect();
            let config = DockerConfig::parse(serde_json::json!({"auths": entries}).to_string().as_bytes()).unwrap();
            let images: Vec<_> = references.iter().filter_map(|reference| Image::parse(reference).ok()).collect();
            let one_by_one = images.iter().any(|image| config.covers(image));
            prop_assert_eq!(config.covers_any(&Images::new(&images)), one_by_one);
        }

        #[test]
        fn no_error_holds_a_byte_of_a_credential(secret in "[A-Z]{8,20}!", shape in 0..5usize) {
            let document = match shape {
                0 => format!(r#"{{"auths":{{"ghcr.io":{{"auth":"{secret}"}}}}}}"#),
                1 => format!(r#"{{"auths":{{"ghcr.io":"{secret}"}}}}"#),
                2 => format!(r#"{{"auths":"{secret}"}}"#),
                3 => format!(r#"{{"auths":{{"{secret}@ghcr.io":3}}}}"#),
                _ => format!(r#"{{"auths":{{"ghcr.io":{{"password":["{secret}"]}}}}}}"#),
            };
            let error = DockerConfig::parse(document.as_bytes()).unwrap_err();
            let said = format!("{error} {error:?}");
            prop_assert!(!said.contains(secret.trim_end_matches('!')), "{}", said);
        }

        #[test]
        fn no_document_panics(document in prop::collection::vec(any::<u8>(), 0..64), text in "[\\\\u{}\":dD89a-f,]{0,40}") {
            let _ = (DockerConfig::parse(&document), DockerConfig::parse_legacy(&document));
            let _ = DockerConfig::parse(text.as_bytes());
        }
    }
}
