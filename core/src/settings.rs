//! The settings document that policy and generator share, and what it selects.

mod names;
mod namespaces;
mod parse;
mod pattern;

pub use names::{is_label_value, is_qualified_name};
pub use namespaces::{LabelCondition, LabelRequirement, NamespaceScope};
pub use parse::{Fault, Faults};
pub use pattern::ImagePattern;

use crate::glob;
use crate::image::Image;
use std::time::Duration;

/// Valid settings. Only [`Settings::from_json`] and [`Settings::from_value`] make them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The secrets, in the order in which they are added. There is at least one, and no name occurs twice.
    pub secrets: Vec<ConfiguredSecret>,
    /// Glob patterns for the names of the ServiceAccounts to add them to.
    pub service_accounts: Vec<String>,
    /// What the policy and the generator leave alone.
    pub exclude: Exclude,
    /// What the policy does with a Pod whose Secret does not exist.
    pub on_missing_secret: OnMissingSecret,
    /// What the generator does with a Secret of the right name that it did not make.
    pub conflicts: Conflicts,
    /// Whether the generator asks registries about the credentials of the sources.
    pub verify_credentials: VerifyCredentials,
}

/// One Secret to pull with, by its name in the Pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfiguredSecret {
    /// The Secret's name in the Pod's namespace.
    pub name: String,
    /// Where the generator copies it from. Without a source, the generator copies nothing, and something else makes the
    /// Secret.
    pub source: Option<Source>,
    /// Which Pods want it.
    pub scope: Scope,
    /// Which namespaces it is for.
    pub namespaces: NamespaceScope,
}

/// Where the generator gets the content of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A Secret in the cluster.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name there.
        name: String,
    },
    /// A file that holds a `.dockerconfigjson`, re-read when it changes.
    File(String),
    /// An environment variable that holds a `.dockerconfigjson`.
    Env(String),
    /// A program that gives credentials. It is run again before they expire.
    Exec(Exec),
}

/// A credential provider plugin of the kubelet, and what to ask it for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exec {
    /// The program: an absolute path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, by name and value.
    pub env: Vec<(String, String)>,
    /// The images or registries that it is asked for, one by one. There is at least one.
    pub images: Vec<String>,
    /// After how long it is asked again, if its answer does not say when.
    pub default_cache_duration: Duration,
}

/// Which Pods want a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every Pod, and every selected ServiceAccount.
    Everything,
    /// Pods with an image that one of the patterns matches.
    Images(Vec<ImagePattern>),
    /// Pods with an image that the Secret's own credentials cover.
    Credentials,
}

/// What the policy and the generator leave alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exclude {
    /// Glob patterns for the names of namespaces.
    pub namespaces: Vec<String>,
    /// The name of an annotation. A Namespace, Pod or ServiceAccount that has it with the value `"true"` is left alone.
    pub annotation: Option<String>,
}

/// What the policy does with a Pod whose Secret does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMissingSecret {
    /// Add the reference and warn. The kubelet ignores a Secret that does not exist, and uses it as soon as it does.
    #[default]
    Warn,
    /// Deny the Pod.
    Reject,
    /// Add no reference, and warn.
    Skip,
    /// Add the reference without reading the Secret. This needs no right to read Secrets.
    Ignore,
}

/// What the generator does with a Secret of the right name that it did not make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conflicts {
    /// Leave it as it is, and report it.
    #[default]
    Keep,
    /// Take it over: its type and data become the source's.
    Adopt,
}

/// Whether the generator asks registries about the credentials of the sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VerifyCredentials {
    /// Ask no registry.
    #[default]
    Off,
    /// Ask, and report the answer.
    Report,
    /// Ask and report the answer. While a changed source is refused, leave the copies as they are.
    Hold,
}

impl Settings {
    /// Whether a namespace is left alone because of its name.
    pub fn excludes_namespace(&self, namespace: &str) -> bool {
        any_matches(&self.exclude.namespaces, namespace)
    }

    /// Whether an object is excluded by the value of its exclude annotation ([`Exclude::annotation`]), which is `None` if
    /// it has none. Only exactly `"true"` excludes it.
    pub fn excludes_by_annotation(value: Option<&str>) -> bool {
        value == Some("true")
    }

    /// Whether a ServiceAccount of this name gets references.
    pub fn selects_service_account(&self, name: &str) -> bool {
        any_matches(&self.service_accounts, name)
    }

    /// Whether some secret is only for namespaces with certain labels.
    pub fn looks_at_namespace_labels(&self) -> bool {
        self.secrets.iter().any(|secret| secret.namespaces.looks_at_labels())
    }

    /// The secrets that ServiceAccounts refer to: those that are for every Pod. Every Pod of a ServiceAccount inherits its
    /// list, so a secret that is only for some images does not belong there.
    pub fn service_account_secrets(&self) -> impl Iterator<Item = &ConfiguredSecret> {
        self.secrets.iter().filter(|secret| secret.scope == Scope::Everything)
    }
}

impl Scope {
    /// Whether a Pod with these images wants the secret. `None` means that this depends on the credentials in the Secret: use
    /// [`DockerConfig::covers_any`](crate::docker_config::DockerConfig::covers_any).
    pub fn wants(&self, images: &[Image]) -> Option<bool> {
        match self {
            Self::Everything => Some(true),
            Self::Images(patterns) => {
                Some(images.iter().any(|image| patterns.iter().any(|pattern| pattern.matches(image))))
            }
            Self::Credentials => None,
        }
    }
}

fn any_matches(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, name) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn settings(document: serde_json::Value) -> Settings {
        Settings::from_value(&document).unwrap()
    }

    #[rstest]
    #[case::by_name("kube-system", true)]
    #[case::by_pattern("ci-42", true)]
    #[case::another("team-a", false)]
    #[case::not_by_prefix("kube-system-2", false)]
    fn excludes_namespaces_by_glob(#[case] namespace: &str, #[case] expected: bool) {
        let settings = settings(json!({
            "secrets": [{"name": "a"}],
            "exclude": {"namespaces": ["kube-system", "ci-*"]},
        }));
        assert_eq!(settings.excludes_namespace(namespace), expected);
    }

    #[rstest]
    #[case::the_default_is_default(json!(null), "default", true)]
    #[case::the_default_is_only_default(json!(null), "builder", false)]
    #[case::all(json!(["*"]), "builder", true)]
    #[case::none(json!([]), "default", false)]
    #[case::some(json!(["build*", "default"]), "builder", true)]
    fn selects_service_accounts_by_glob(
        #[case] patterns: serde_json::Value,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        let settings = settings(json!({"secrets": [{"name": "a"}], "serviceAccounts": patterns}));
        assert_eq!(settings.selects_service_account(name), expected);
    }

    #[rstest]
    #[case::exactly_true(Some("true"), true)]
    #[case::in_another_case(Some("True"), false)]
    #[case::something_else(Some("yes"), false)]
    #[case::absent(None, false)]
    fn excludes_by_annotation(#[case] value: Option<&str>, #[case] expected: bool) {
        assert_eq!(Settings::excludes_by_annotation(value), expected);
    }

    #[test]
    fn secrets_for_some_images_are_not_for_service_accounts() {
        let settings = settings(json!({"secrets": [
            {"name": "all"},
            {"name": "some", "matchImages": ["ghcr.io"]},
            {"name": "its-own", "matchCredentials": true},
            {"name": "all-2", "matchCredentials": false},
        ]}));
        let names: Vec<_> = settings.service_account_secrets().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["all", "all-2"]);
    }

    #[rstest]
    #[case::everything(json!({"name": "a"}), Some(true))]
    #[case::a_pattern_that_matches(json!({"name": "a", "matchImages": ["quay.io", "ghcr.io/acme"]}), Some(true))]
    #[case::no_pattern_that_matches(json!({"name": "a", "matchImages": ["quay.io"]}), Some(false))]
    #[case::its_own_credentials(json!({"name": "a", "matchCredentials": true}), None)]
    fn a_scope_knows_what_wants_it(#[case] secret: serde_json::Value, #[case] expected: Option<bool>) {
        let settings = settings(json!({"secrets": [secret]}));
        let images = [Image::parse("nginx").unwrap(), Image::parse("ghcr.io/acme/app:1").unwrap()];
        assert_eq!(settings.secrets[0].scope.wants(&images), expected);
    }
}
