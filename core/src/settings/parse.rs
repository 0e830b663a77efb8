//! Reads settings from a JSON document, or finds everything that is wrong with it.

mod namespaces;

use super::names::{is_dns_label, is_dns_subdomain, is_env_name, is_qualified_name};
use super::{
    ConfiguredSecret, Conflicts, Exclude, Exec, ImagePattern, OnMissingSecret, Scope, Settings, Source,
    VerifyCredentials,
};
use crate::duration;
use crate::glob;
use crate::json::{self, JsonError};
use crate::text::shown;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is, such as `secrets[1].matchImages[0]`. It is empty for the document as a whole.
    pub path: String,
    /// What is wrong and what would be right. The text is the end of a sentence about the path.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let path = if self.path.is_empty() { "settings" } else { &self.path };
        write!(f, "{path}: {}", self.message)
    }
}

/// Everything that is wrong with the settings, in the order of the schema. There is at least one fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
pub struct Faults(pub Vec<Fault>);

impl Settings {
    /// Reads settings from the text of a JSON document.
    ///
    /// # Errors
    /// [`Faults`]: everything that is wrong, each with its path.
    pub fn from_json(text: &str) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let document = Node { path: Path::Root, text };
        match read_settings(&document, &mut faults) {
            Some(settings) if faults.is_empty() => Ok(settings),
            _ => Err(Faults(faults)),
        }
    }

    /// Reads settings from a document that is already parsed, such as one that was YAML.
    ///
    /// # Errors
    /// [`Faults`]: everything that is wrong, each with its path.
    pub fn from_value(document: &serde_json::Value) -> Result<Self, Faults> {
        Self::from_json(&document.to_string())
    }
}

/// The path of a value. It is written out only for a fault, because settings are read in every admission and are nearly
/// always right.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Element(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => write!(f, "{}", shown(name)),
            Self::Field(parent, name) => write!(f, "{parent}.{}", shown(name)),
            Self::Element(parent, position) => write!(f, "{parent}[{position}]"),
        }
    }
}

impl Path<'_> {
    fn fault<T>(&self, faults: &mut Vec<Fault>, message: impl Into<String>) -> Option<T> {
        faults.push(Fault { path: self.to_string(), message: message.into() });
        None
    }
}

/// A value as JSON text, and its path.
struct Node<'a, 'p> {
    path: Path<'p>,
    text: &'a str,
}

impl<'a, 'p> Node<'a, 'p> {
    fn fault<T>(&self, faults: &mut Vec<Fault>, message: impl Into<String>) -> Option<T> {
        self.path.fault(faults, message)
    }

    /// The fields of an object. Fields that are not in `known` are faults, unless they are `null`, which forms leave behind.
    fn fields(&self, known: &[&str], faults: &mut Vec<Fault>) -> Option<Fields<'a, 'p>> {
        let mut fields = Fields { path: self.path, members: Vec::new() };
        match json::members(self.text, &mut |name, text| fields.members.push((name, text))) {
            Ok(()) => {}
            Err(JsonError::NotAnObject) => {
                return self.fault(faults, format!("must be an object with {}", listed(known)));
            }
            Err(malformed) => return self.fault(faults, malformed.to_string()),
        }
        let is_unknown = |(name, text): &&(Cow<'_, str>, &str)| !known.contains(&name.as_ref()) && *text != "null";
        for (name, _) in fields.members.iter().filter(is_unknown) {
            let message = format!("is no setting: known here are {}", listed(known));
            Path::Field(&self.path, name).fault::<()>(faults, message);
        }
        Some(fields)
    }

    fn string(&self, faults: &mut Vec<Fault>) -> Option<Cow<'a, str>> {
        json::string(self.text).or_else(|| self.fault(faults, "must be a string"))
    }

    /// A string that satisfies `is_right`. If it does not, `rule` says in the message what would.
    fn string_that(&self, is_right: fn(&str) -> bool, rule: &str, faults: &mut Vec<Fault>) -> Option<String> {
        let text = self.string(faults)?;
        if is_right(&text) { Some(text.into_owned()) } else { self.fault(faults, format!("{} {rule}", quoted(&text))) }
    }

    fn bool(&self, faults: &mut Vec<Fault>) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fault(faults, "must be true or false"),
        }
    }

    /// One of the values of an enumeration.
    fn word<T: Copy>(&self, words: &[(&str, T)], faults: &mut Vec<Fault>) -> Option<T> {
        let found = json::string(self.text).and_then(|text| words.iter().find(|(word, _)| *word == text));
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        found.map(|(_, value)| *value).or_else(|| self.fault(faults, format!("must be one of {}", listed(&known))))
    }

    /// The elements of a list, each read by `read`. `None` if it is not a list.
    fn list<T>(
        &self,
        faults: &mut Vec<Fault>,
        read: fn(&Node<'a, '_>, &mut Vec<Fault>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(elements) = json::elements(self.text) else { return self.fault(faults, "must be a list") };
        let mut list = Vec::new();
        for (i, text) in elements.into_iter().enumerate() {
            list.extend(read(&Node { path: Path::Element(&self.path, i), text }, faults));
        }
        Some(list)
    }

    fn globs(&self, faults: &mut Vec<Fault>) -> Option<Vec<String>> {
        self.list(faults, |node, faults| {
            let text = node.string(faults)?;
            match glob::check(&text) {
                Ok(()) if text.is_empty() => node.fault(faults, "is empty: write a name, or \"*\" for all"),
                Ok(()) => Some(text.into_owned()),
                Err(error) => node.fault(faults, format!("{} {error}", quoted(&text))),
            }
        })
    }
}

/// The fields of an object. A field that is `null` counts as missing.
struct Fields<'a, 'p> {
    path: Path<'p>,
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Fields<'a, '_> {
    fn get<'s>(&'s self, name: &'s str) -> Option<Node<'a, 's>> {
        let (_, text) = self.members.iter().rfind(|(member, _)| member == name).filter(|(_, text)| *text != "null")?;
        Some(Node { path: Path::Field(&self.path, name), text })
    }

    fn required<'s>(&'s self, name: &'s str, faults: &mut Vec<Fault>) -> Option<Node<'a, 's>> {
        self.get(name).or_else(|| Path::Field(&self.path, name).fault(faults, "is missing"))
    }
}

const VARIABLE_NAME: &str = "is no name of an environment variable, such as \"DOCKERCONFIGJSON\"";

const SECRET_NAME: &str =
    "is no name of a Secret: it has lower-case letters, digits, '-' and '.', as in \"my-registry\"";

fn read_settings(document: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<Settings> {
    let known = ["secrets", "serviceAccounts", "exclude", "onMissingSecret", "conflicts", "verifyCredentials"];
    let fields = document.fields(&known, faults)?;
    let secrets = fields.required("secrets", faults).and_then(|node| {
        let secrets = node.list(faults, read_secret)?;
        if is_empty_list(&node) {
            return node.fault(faults, "is empty: name at least one secret");
        }
        report_duplicates(&node, faults);
        Some(secrets)
    });
    let service_accounts = match fields.get("serviceAccounts") {
        Some(node) => node.globs(faults),
        None => Some(vec!["default".to_owned()]),
    };
    let exclude = fields.get("exclude").map_or_else(|| Some(Exclude::default()), |node| read_exclude(&node, faults));
    let on_missing_secret = fields.get("onMissingSecret").map(|node| {
        let words = [
            ("warn", OnMissingSecret::Warn),
            ("reject", OnMissingSecret::Reject),
            ("skip", OnMissingSecret::Skip),
            ("ignore", OnMissingSecret::Ignore),
        ];
        node.word(&words, faults)
    });
    if let (Some(Some(OnMissingSecret::Ignore)), Some(node)) = (on_missing_secret, fields.get("secrets")) {
        report_credentials_to_read(&node, faults);
    }
    let conflicts = fields
        .get("conflicts")
        .map(|node| node.word(&[("keep", Conflicts::Keep), ("adopt", Conflicts::Adopt)], faults));
    let verify_credentials = fields.get("verifyCredentials").map(|node| {
        if node.text == "false" {
            // kubectl and Helm read YAML 1.1, where `off` without quotes is this.
            return Some(VerifyCredentials::Off);
        }
        let words =
            [("off", VerifyCredentials::Off), ("report", VerifyCredentials::Report), ("hold", VerifyCredentials::Hold)];
        node.word(&words, faults)
    });
    Some(Settings {
        secrets: secrets?,
        service_accounts: service_accounts?,
        exclude: exclude?,
        on_missing_secret: on_missing_secret.unwrap_or(Some(OnMissingSecret::default()))?,
        conflicts: conflicts.unwrap_or(Some(Conflicts::default()))?,
        verify_credentials: verify_credentials.unwrap_or(Some(VerifyCredentials::default()))?,
    })
}

fn read_secret(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<ConfiguredSecret> {
    let known = ["name", "source", "matchImages", "matchCredentials", "namespaces", "namespaceSelector"];
    let fields = node.fields(&known, faults)?;
    let name = fields.required("name", faults).and_then(|node| node.string_that(is_dns_subdomain, SECRET_NAME, faults));
    let source = match fields.get("source") {
        Some(node) => read_source(&node, name.as_deref(), faults).map(Some),
        None => Some(None),
    };
    // Forms give an empty list for a field that was not filled in.
    let images = fields.get("matchImages").filter(|node| !is_empty_list(node));
    let images = images.map(|node| read_image_patterns(&node, faults));
    let credentials = fields.get("matchCredentials").map(|node| (node.bool(faults), node));
    let scope = match (images, credentials) {
        (Some(_), Some((Some(true), node))) => {
            node.fault(faults, "cannot stand beside matchImages: choose one of the two")
        }
        (Some(patterns), _) => patterns.map(Scope::Images),
        (None, Some((by_credentials, _))) => {
            by_credentials.map(|by_credentials| if by_credentials { Scope::Credentials } else { Scope::Everything })
        }
        (None, None) => Some(Scope::Everything),
    };
    let namespaces = namespaces::read(&fields, faults);
    Some(ConfiguredSecret { name: name?, source: source?, scope: scope?, namespaces: namespaces? })
}

fn read_source(node: &Node<'_, '_>, target: Option<&str>, faults: &mut Vec<Fault>) -> Option<Source> {
    let fields = node.fields(&["namespace", "name", "file", "env", "exec"], faults)?;
    match (fields.get("namespace"), fields.get("file"), fields.get("env"), fields.get("exec")) {
        (Some(namespace), None, None, None) => {
            let rule = "is no name of a namespace: it has lower-case letters, digits and '-', 63 at most";
            let namespace = namespace.string_that(is_dns_label, rule, faults);
            let name = match fields.get("name") {
                Some(name) => name.string_that(is_dns_subdomain, SECRET_NAME, faults),
                None => target.map(str::to_owned),
            };
            Some(Source::Secret { namespace: namespace?, name: name? })
        }
        (None, file, env, exec)
            if fields.get("name").is_some()
                && [&file, &env, &exec].iter().filter(|form| form.is_some()).count() == 1 =>
        {
            node.fault(faults, "has a name, which goes with namespace only")
        }
        (None, Some(file), None, None) => {
            let rule = "is no path of a file: write an absolute path, such as \"/etc/credentials/.dockerconfigjson\"";
            file.string_that(|path| path.starts_with('/') && path.len() > 1, rule, faults).map(Source::File)
        }
        (None, None, Some(env), None) => env.string_that(is_env_name, VARIABLE_NAME, faults).map(Source::Env),
        (None, None, None, Some(exec)) => read_exec(&exec, faults).map(Source::Exec),
        _ => node.fault(faults, "must have exactly one of namespace (with name), file, env and exec"),
    }
}

/// How often a provider is asked if neither its answer nor the settings say how long an answer is good.
const DEFAULT_CACHE_DURATION: Duration = Duration::from_secs(30 * 60);

fn read_exec(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<Exec> {
    let fields = node.fields(&["command", "args", "env", "images", "defaultCacheDuration"], faults)?;
    let command = fields.required("command", faults).and_then(|node| {
        let rule = "is no path of a program: write an absolute path, such as \
                    \"/credential-providers/ecr-credential-provider\"; there is no shell";
        node.string_that(|path| path.starts_with('/') && path.len() > 1, rule, faults)
    });
    let strings = |node: Node<'_, '_>, faults: &mut Vec<Fault>| {
        node.list(faults, |node, faults| node.string(faults).map(Cow::into_owned))
    };
    let args = fields.get("args").map_or_else(|| Some(Vec::new()), |node| strings(node, faults));
    let env = fields.get("env").map_or_else(|| Some(Vec::new()), |node| node.list(faults, read_variable));
    let images = fields.required("images", faults).and_then(|node| {
        if is_empty_list(&node) {
            return node.fault(faults, "is empty: name at least one registry to ask for");
        }
        node.list(faults, read_image)
    });
    let duration = fields.get("defaultCacheDuration").map_or(Some(DEFAULT_CACHE_DURATION), |node| {
        let text = node.string(faults)?;
        let duration = duration::parse(&text).filter(|duration| *duration >= Duration::from_secs(10));
        duration.or_else(|| {
            node.fault(
                faults,
                format!("{} is no duration of at least 10s, such as \"30m\" or \"1h30m\"", quoted(&text)),
            )
        })
    });
    Some(Exec { command: command?, args: args?, env: env?, images: images?, default_cache_duration: duration? })
}

fn read_variable(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<(String, String)> {
    let fields = node.fields(&["name", "value"], faults)?;
    let name = fields.required("name", faults).and_then(|node| node.string_that(is_env_name, VARIABLE_NAME, faults));
    let value = fields.required("value", faults).and_then(|node| node.string(faults));
    Some((name?, value?.into_owned()))
}

/// An image, or a registry with or without a path, that a provider can be asked for.
fn read_image(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<String> {
    let text = node.string(faults)?;
    match ImagePattern::parse(&text) {
        Ok(_) if text.contains(['*', '[', '\\']) => {
            let message = format!("{} is a pattern, and a provider is asked for one registry or image", quoted(&text));
            node.fault(faults, message)
        }
        Ok(_) => Some(text.into_owned()),
        Err(message) => node.fault(faults, format!("{} {message}", quoted(&text))),
    }
}

fn read_image_patterns(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<Vec<ImagePattern>> {
    node.list(faults, |node, faults| {
        let text = node.string(faults)?;
        match ImagePattern::parse(&text) {
            Ok(pattern) => Some(pattern),
            Err(message) => node.fault(faults, format!("{} {message}", quoted(&text))),
        }
    })
}

fn is_empty_list(node: &Node<'_, '_>) -> bool {
    json::elements(node.text).is_some_and(|elements| elements.is_empty())
}

/// `matchCredentials` reads the Secret, which `onMissingSecret: ignore` promises not to do.
fn report_credentials_to_read(secrets: &Node<'_, '_>, faults: &mut Vec<Fault>) {
    for (i, secret) in json::elements(secrets.text).unwrap_or_default().into_iter().enumerate() {
        if let Ok([Some("true")]) = json::pick(secret, ["matchCredentials"]) {
            let message = "reads the Secret, which onMissingSecret: ignore never does: use matchImages";
            Path::Field(&Path::Element(&secrets.path, i), "matchCredentials").fault::<()>(faults, message);
        }
    }
}

fn read_exclude(node: &Node<'_, '_>, faults: &mut Vec<Fault>) -> Option<Exclude> {
    let fields = node.fields(&["namespaces", "annotation"], faults)?;
    let namespaces = fields.get("namespaces").map_or_else(|| Some(Vec::new()), |node| node.globs(faults));
    // Forms and chart values give an empty text for a field that was not filled in.
    let annotation = fields.get("annotation").filter(|node| node.text != "\"\"").map(|node| {
        let rule = "is no key of an annotation, such as \"example.com/exclude\"";
        node.string_that(is_qualified_name, rule, faults)
    });
    let annotation = match annotation {
        Some(annotation) => Some(annotation?),
        None => None,
    };
    Some(Exclude { namespaces: namespaces?, annotation })
}

fn report_duplicates(secrets: &Node<'_, '_>, faults: &mut Vec<Fault>) {
    let elements = json::elements(secrets.text).unwrap_or_default();
    let name_of = |text| json::pick(text, ["name"]).ok().and_then(|[name]| json::string(name?));
    let names: Vec<_> = elements.into_iter().map(name_of).collect();
    let mut sorted: Vec<&str> = names.iter().flatten().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    if sorted.is_sorted_by(|one, next| one < next) {
        return;
    }
    for (i, name) in names.iter().enumerate().filter(|(_, name)| name.is_some()) {
        let first = names.iter().position(|other| other == name).unwrap_or(i);
        if first != i {
            let name = quoted(name.as_deref().unwrap_or_default());
            let message = format!("{name} is configured already, at {}", Path::Element(&secrets.path, first));
            Path::Field(&Path::Element(&secrets.path, i), "name").fault::<()>(faults, message);
        }
    }
}

/// A value in quotes, shortened if it is long.
fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// Joins words as in `a, b and c`.
fn listed(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::NamespaceScope;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn everything_is_read() {
        let document = r#"{
            "secrets": [
                {"name": "registry-credentials", "source": {"namespace": "image-pull-secrets"},
                 "matchImages": ["ghcr.io/acme", "*.dkr.ecr.*.amazonaws.com"]},
                {"name": "b", "source": {"namespace": "x", "name": "y"}},
                {"name": "c", "source": {"file": "/etc/credentials/.dockerconfigjson"}, "matchCredentials": true},
                {"name": "d", "source": {"env": "DOCKERCONFIGJSON"}},
                {"name": "e", "source": {"exec": {
                    "command": "/credential-providers/ecr", "args": ["--verbose"],
                    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}, {"name": "EMPTY", "value": ""}],
                    "images": ["123456789012.dkr.ecr.eu-central-1.amazonaws.com", "quay.io/acme"],
                    "defaultCacheDuration": "1h30m"
                }}}
            ],
            "serviceAccounts": ["*"],
            "exclude": {"namespaces": ["kube-*"], "annotation": "k8s.titansoft.com/imagepullsecret-patcher-exclude"},
            "onMissingSecret": "reject",
            "conflicts": "adopt",
            "verifyCredentials": "hold"
        }"#;
        let settings = Settings::from_json(document).unwrap();
        let sources: Vec<_> = settings.secrets.iter().map(|s| s.source.clone().unwrap()).collect();
        let secret = |namespace: &str, name: &str| Source::Secret { namespace: namespace.into(), name: name.into() };
        assert_eq!(
            sources,
            [
                secret("image-pull-secrets", "registry-credentials"),
                secret("x", "y"),
                Source::File("/etc/credentials/.dockerconfigjson".into()),
                Source::Env("DOCKERCONFIGJSON".into()),
                Source::Exec(Exec {
                    command: "/credential-providers/ecr".into(),
                    args: vec!["--verbose".into()],
                    env: vec![("AWS_REGION".into(), "eu-central-1".into()), ("EMPTY".into(), String::new())],
                    images: vec!["123456789012.dkr.ecr.eu-central-1.amazonaws.com".into(), "quay.io/acme".into()],
                    default_cache_duration: Duration::from_secs(5_400),
                }),
            ]
        );
        let patterns = ["ghcr.io/acme", "*.dkr.ecr.*.amazonaws.com"].map(|text| ImagePattern::parse(text).unwrap());
        assert_eq!(settings.secrets[0].scope, Scope::Images(patterns.into()));
        assert_eq!(settings.secrets[2].scope, Scope::Credentials);
        assert_eq!(settings.service_accounts, ["*"]);
        assert_eq!(settings.exclude.namespaces, ["kube-*"]);
        assert_eq!(settings.exclude.annotation.as_deref(), Some("k8s.titansoft.com/imagepullsecret-patcher-exclude"));
        assert_eq!(settings.on_missing_secret, OnMissingSecret::Reject);
        assert_eq!(settings.conflicts, Conflicts::Adopt);
        assert_eq!(settings.verify_credentials, VerifyCredentials::Hold);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let settings = Settings::from_json(r#"{"secrets": [{"name": "a"}]}"#).unwrap();
        assert_eq!(settings.service_accounts, ["default"]);
        assert_eq!(settings.exclude, Exclude::default());
        assert_eq!(settings.on_missing_secret, OnMissingSecret::Warn);
        assert_eq!(settings.conflicts, Conflicts::Keep);
        assert_eq!(settings.verify_credentials, VerifyCredentials::Off);
        let secret = ConfiguredSecret {
            name: "a".into(),
            source: None,
            scope: Scope::Everything,
            namespaces: NamespaceScope::default(),
        };
        assert_eq!(settings.secrets, [secret]);
    }

    #[test]
    fn null_and_an_empty_annotation_are_left_out() {
        let document = r#"{"secrets": [{"name": "a", "source": null, "matchImages": null,
            "namespaces": null, "namespaceSelector": {"matchLabels": null, "matchExpressions": null}}], "serviceAccounts": null,
            "exclude": {"namespaces": null, "annotation": ""}, "onMissingSecret": null, "conflicts": null,
            "description": null}"#;
        assert_eq!(Settings::from_json(document), Settings::from_json(r#"{"secrets": [{"name": "a"}]}"#));
    }

    #[test]
    fn an_off_that_yaml_took_for_false_is_off() {
        let settings = Settings::from_json(r#"{"secrets": [{"name": "a"}], "verifyCredentials": false}"#).unwrap();
        assert_eq!(settings.verify_credentials, VerifyCredentials::Off);
    }

    #[rstest]
    #[case::alone(r#"{"name": "a", "matchImages": []}"#, Scope::Everything)]
    #[case::beside_credentials(r#"{"name": "a", "matchImages": [], "matchCredentials": true}"#, Scope::Credentials)]
    fn an_empty_list_of_images_is_left_out(#[case] secret: &str, #[case] scope: Scope) {
        let settings = Settings::from_json(&format!("{{\"secrets\": [{secret}]}}")).unwrap();
        assert_eq!(settings.secrets[0].scope, scope);
    }

    #[rstest]
    #[case::no_json("{", "settings: is not JSON (line 1, column 1)")]
    #[case::white_space_that_json_does_not_know(
        "{\"secrets\": [{\"name\": \"a\"}]}\u{c}",
        "settings: is not JSON (line 1, column 29)"
    )]
    #[case::a_list(
        "[]",
        "settings: must be an object with secrets, serviceAccounts, exclude, onMissingSecret, conflicts and verifyCredentials"
    )]
    #[case::no_secrets("{}", "secrets: is missing")]
    #[case::secrets_of_another_kind(r#"{"secrets": "a"}"#, "secrets: must be a list")]
    #[case::an_empty_list(r#"{"secrets": []}"#, "secrets: is empty: name at least one secret")]
    #[case::a_name_alone(
        r#"{"secrets": ["a"]}"#,
        "secrets[0]: must be an object with name, source, matchImages, matchCredentials, namespaces and \
         namespaceSelector"
    )]
    #[case::no_name(r#"{"secrets": [{}]}"#, "secrets[0].name: is missing")]
    #[case::a_name_of_another_kind(r#"{"secrets": [{"name": 1}]}"#, "secrets[0].name: must be a string")]
    #[case::a_name_no_secret_can_have(
        r#"{"secrets": [{"name": "My_Secret"}]}"#,
        "secrets[0].name: \"My_Secret\" is no name of a Secret: it has lower-case letters, digits, '-' and '.', \
         as in \"my-registry\""
    )]
    #[case::a_name_twice(
        r#"{"secrets": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}"#,
        "secrets[2].name: \"a\" is configured already, at secrets[0]"
    )]
    #[case::an_unknown_setting(
        r#"{"secrets": [{"name": "a"}], "secret": 1}"#,
        "secret: is no setting: known here are secrets, serviceAccounts, exclude, onMissingSecret, conflicts and verifyCredentials"
    )]
    #[case::an_unknown_setting_of_a_secret(
        r#"{"secrets": [{"name": "a", "match": 1}]}"#,
        "secrets[0].match: is no setting: known here are name, source, matchImages, matchCredentials, namespaces and \
         namespaceSelector"
    )]
    #[case::no_source_form(
        r#"{"secrets": [{"name": "a", "source": {}}]}"#,
        "secrets[0].source: must have exactly one of namespace (with name), file, env and exec"
    )]
    #[case::two_source_forms(
        r#"{"secrets": [{"name": "a", "source": {"namespace": "x", "env": "Y"}}]}"#,
        "secrets[0].source: must have exactly one of namespace (with name), file, env and exec"
    )]
    #[case::a_source_name_without_its_namespace(
        r#"{"secrets": [{"name": "a", "source": {"name": "x"}}]}"#,
        "secrets[0].source: must have exactly one of namespace (with name), file, env and exec"
    )]
    #[case::a_source_name_beside_a_file(
        r#"{"secrets": [{"name": "a", "source": {"name": "x", "file": "/y"}}]}"#,
        "secrets[0].source: has a name, which goes with namespace only"
    )]
    #[case::a_relative_file(
        r#"{"secrets": [{"name": "a", "source": {"file": "config.json"}}]}"#,
        "secrets[0].source.file: \"config.json\" is no path of a file: write an absolute path, such as \
         \"/etc/credentials/.dockerconfigjson\""
    )]
    #[case::an_impossible_variable(
        r#"{"secrets": [{"name": "a", "source": {"env": "A=B"}}]}"#,
        "secrets[0].source.env: \"A=B\" is no name of an environment variable, such as \"DOCKERCONFIGJSON\""
    )]
    #[case::an_impossible_namespace(
        r#"{"secrets": [{"name": "a", "source": {"namespace": "a.b"}}]}"#,
        "secrets[0].source.namespace: \"a.b\" is no name of a namespace: it has lower-case letters, digits and '-', \
         63 at most"
    )]
    #[case::a_pattern_the_kubelet_refuses(
        r#"{"secrets": [{"name": "a", "matchImages": ["ghcr.io", "ghcr.io:*"]}]}"#,
        "secrets[0].matchImages[1]: \"ghcr.io:*\" has a port that is not a number: write a registry with a path, such as \
         \"ghcr.io/acme\" or \"*.example.com:5000\""
    )]
    #[case::patterns_that_no_image_matches(
        r#"{"secrets": [{"name": "a", "matchImages": ["acme/app", "nginx"]}]}"#,
        "secrets[0].matchImages[0]: \"acme/app\" matches no image, as those of Docker Hub are named docker.io: write \
         \"docker.io/acme/app\"; secrets[0].matchImages[1]: \"nginx\" matches no image, as those of Docker Hub are named \
         docker.io: write \"docker.io/library/nginx\""
    )]
    #[case::credentials_that_are_never_read(
        r#"{"secrets": [{"name": "a"}, {"name": "b", "matchCredentials": true}], "onMissingSecret": "ignore"}"#,
        "secrets[1].matchCredentials: reads the Secret, which onMissingSecret: ignore never does: use matchImages"
    )]
    #[case::a_line_break_in_a_field(
        r#"{"secrets": [{"name": "a"}], "b\nc": 1}"#,
        "b\u{fffd}c: is no setting: known here are secrets, serviceAccounts, exclude, onMissingSecret, conflicts and verifyCredentials"
    )]
    #[case::both_ways_of_matching(
        r#"{"secrets": [{"name": "a", "matchImages": ["ghcr.io"], "matchCredentials": true}]}"#,
        "secrets[0].matchCredentials: cannot stand beside matchImages: choose one of the two"
    )]
    #[case::a_switch_of_another_kind(
        r#"{"secrets": [{"name": "a", "matchCredentials": "true"}]}"#,
        "secrets[0].matchCredentials: must be true or false"
    )]
    #[case::a_malformed_glob(
        r#"{"secrets": [{"name": "a"}], "serviceAccounts": ["[a"]}"#,
        "serviceAccounts[0]: \"[a\" is not a valid pattern: a '[' wants its ']' and a '\\' a character after it"
    )]
    #[case::an_empty_glob(
        r#"{"secrets": [{"name": "a"}], "exclude": {"namespaces": [""]}}"#,
        "exclude.namespaces[0]: is empty: write a name, or \"*\" for all"
    )]
    #[case::an_impossible_annotation(
        r#"{"secrets": [{"name": "a"}], "exclude": {"annotation": "a b"}}"#,
        "exclude.annotation: \"a b\" is no key of an annotation, such as \"example.com/exclude\""
    )]
    #[case::an_unknown_word(
        r#"{"secrets": [{"name": "a"}], "onMissingSecret": "deny"}"#,
        "onMissingSecret: must be one of warn, reject, skip and ignore"
    )]
    #[case::another_unknown_word(
        r#"{"secrets": [{"name": "a"}], "conflicts": true}"#,
        "conflicts: must be one of keep and adopt"
    )]
    #[case::a_third_unknown_word(
        r#"{"secrets": [{"name": "a"}], "verifyCredentials": true}"#,
        "verifyCredentials: must be one of off, report and hold"
    )]
    fn says_what_is_wrong_and_where(#[case] document: &str, #[case] message: &str) {
        assert_eq!(Settings::from_json(document).unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case::nothing(r#"{}"#, "command: is missing; images: is missing")]
    #[case::no_object(
        r#""/bin/provider""#,
        ": must be an object with command, args, env, images and defaultCacheDuration"
    )]
    #[case::a_command_line(
        r#"{"command": "ecr --verbose", "images": ["quay.io"]}"#,
        "command: \"ecr --verbose\" is no path of a program: write an absolute path, such as \
         \"/credential-providers/ecr-credential-provider\"; there is no shell"
    )]
    #[case::no_images(r#"{"command": "/p", "images": []}"#, "images: is empty: name at least one registry to ask for")]
    #[case::a_pattern(
        r#"{"command": "/p", "images": ["quay.io", "*.dkr.ecr.*.amazonaws.com"]}"#,
        "images[1]: \"*.dkr.ecr.*.amazonaws.com\" is a pattern, and a provider is asked for one registry or image"
    )]
    #[case::an_image_that_is_none(
        r#"{"command": "/p", "images": ["https://quay.io"]}"#,
        "images[0]: \"https://quay.io\" has a scheme, and images have none: write \"quay.io\""
    )]
    #[case::a_variable_without_a_value(
        r#"{"command": "/p", "images": ["quay.io"], "env": [{"name": "A=B"}]}"#,
        "env[0].name: \"A=B\" is no name of an environment variable, such as \"DOCKERCONFIGJSON\"; \
         env[0].value: is missing"
    )]
    #[case::a_variable_from_elsewhere(
        r#"{"command": "/p", "images": ["quay.io"], "env": [{"name": "A", "valueFrom": {}, "value": "b"}]}"#,
        "env[0].valueFrom: is no setting: known here are name and value"
    )]
    #[case::an_argument_of_another_kind(
        r#"{"command": "/p", "images": ["quay.io"], "args": [1]}"#,
        "args[0]: must be a string"
    )]
    #[case::a_duration_that_is_none(
        r#"{"command": "/p", "images": ["quay.io"], "defaultCacheDuration": "1d"}"#,
        "defaultCacheDuration: \"1d\" is no duration of at least 10s, such as \"30m\" or \"1h30m\""
    )]
    #[case::a_duration_that_is_too_short(
        r#"{"command": "/p", "images": ["quay.io"], "defaultCacheDuration": "9s"}"#,
        "defaultCacheDuration: \"9s\" is no duration of at least 10s, such as \"30m\" or \"1h30m\""
    )]
    fn says_what_is_wrong_with_a_provider(#[case] exec: &str, #[case] message: &str) {
        let document = format!(r#"{{"secrets": [{{"name": "a", "source": {{"exec": {exec}}}}}]}}"#);
        let told = Settings::from_json(&document).unwrap_err().to_string();
        let at = "secrets[0].source.exec";
        assert_eq!(told.replace(&format!("{at}."), "").replace(at, ""), message);
    }

    #[test]
    fn a_provider_is_asked_every_half_hour_where_nobody_says() {
        let document = r#"{"secrets": [{"name": "a", "source": {"exec": {"command": "/p", "images": ["quay.io"],
            "args": null, "env": null, "defaultCacheDuration": null}}}]}"#;
        let settings = Settings::from_json(document).unwrap();
        let Some(Source::Exec(exec)) = &settings.secrets[0].source else { panic!("{settings:?}") };
        assert_eq!((exec.default_cache_duration, exec.args.len(), exec.env.len()), (DEFAULT_CACHE_DURATION, 0, 0));
    }

    #[test]
    fn reports_every_fault_at_once() {
        let document = r#"{
            "secrets": [{"name": "A"}, {"name": "b", "matchImages": ["", 3], "nme": 1}, {"name": "b"}],
            "serviceAccounts": "default",
            "exclude": {"namespaces": ["["]},
            "onMissingSecret": 1
        }"#;
        let Faults(faults) = Settings::from_json(document).unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let expected = [
            "secrets[0].name",
            "secrets[1].nme",
            "secrets[1].matchImages[0]",
            "secrets[1].matchImages[1]",
            "secrets[2].name",
            "serviceAccounts",
            "exclude.namespaces[0]",
            "onMissingSecret",
        ];
        assert_eq!(paths, expected);
    }

    proptest! {
        #[test]
        fn no_document_panics(text in "[{}\\[\\]\":,a-z0-9 ]{0,40}") {
            let _ = Settings::from_json(&text);
        }
    }
}
