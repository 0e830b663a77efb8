//! The one settings document of policy and generator, and what it selects.

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

/// The settings, valid: made by [`Settings::from_json`] or [`Settings::from_value`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The secrets to add, in the order in which they are added; at least one, no name twice.
    pub secrets: Vec<ConfiguredSecret>,
    /// Glob patterns for the names of the ServiceAccounts to add them to.
    pub service_accounts: Vec<String>,
    /// What is left alone.
    pub exclude: Exclude,
    /// What the policy does about a Pod whose Secret is not there.
    pub on_missing_secret: OnMissingSecret,
    /// What the generator does about a Secret of the right name that it did not make.
    pub conflicts: Conflicts,
    /// What the generator does about a source whose credentials a registry may refuse.
    pub verify_credentials: VerifyCredentials,
}

/// One Secret to pull with, by its name in the Pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfiguredSecret {
    /// The Secret's name in the Pod's namespace.
    pub name: String,
    /// Where the generator copies it from; without one it copies nothing, and the Secret is somebody else's to make.
    pub source: Option<Source>,
    /// Which Pods want it.
    pub scope: Scope,
    /// Which namespaces it is for.
    pub namespaces: NamespaceScope,
}

/// Where the generator takes a Secret's content from.
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
    /// A program that is asked for credentials, and asked again before they expire.
    Exec(Exec),
}

/// A credential provider plugin of the kubelet, and what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exec {
    /// The program: an absolute path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, by name and value.
    pub env: Vec<(String, String)>,
    /// The images, or registries, that it is asked for, one by one; at least one.
    pub images: Vec<String>,
    /// After how long it is asked again where it does not say.
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

/// What is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exclude {
    /// Glob patterns for the names of namespaces.
    pub namespaces: Vec<String>,
    /// An annotation that, when `"true"` on a Namespace, Pod or ServiceAccount, has it left alone.
    pub annotation: Option<String>,
}

/// What the policy does about a Pod whose Secret is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMissingSecret {
    /// Reference it all the same, and warn: the kubelet passes over a Secret that is not there, and finds it once it is.
    #[default]
    Warn,
    /// Deny the Pod.
    Reject,
    /// Leave it out, and warn.
    Skip,
    /// Reference it without asking whether it is there. No right to read Secrets is needed then.
    Ignore,
}

/// What the generator does about a Secret of the right name that it did not make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conflicts {
    /// Leave it as it is, and report it.
    #[default]
    Keep,
    /// Take it over: its type and data become the source's.
    Adopt,
}

/// What the generator does about a source whose credentials a registry may refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VerifyCredentials {
    /// Ask no registry.
    #[default]
    Off,
    /// Ask, and tell.
    Report,
    /// Ask, tell, and leave the copies as they are while a source that changed is refused.
    Hold,
}

impl Settings {
    /// Whether a namespace is left alone because of its name.
    pub fn excludes_namespace(&self, namespace: &str) -> bool {
        any_matches(&self.exclude.namespaces, namespace)
    }

    /// Whether the value of the exclude annotation has its object left alone: it must be exactly `"true"`. The value is that
    /// of [`Exclude::annotation`] on the object, if it is there.
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

    /// The secrets that ServiceAccounts get: those for every Pod. A ServiceAccount's secrets go to whatever Pod uses it, so
    /// that one which is only for some images cannot be given to it.
    pub fn service_account_secrets(&self) -> impl Iterator<Item = &ConfiguredSecret> {
        self.secrets.iter().filter(|secret| secret.scope == Scope::Everything)
    }
}

impl Scope {
    /// Whether a Pod with these images wants the secret, or `None` where only the Secret's own credentials can tell: ask
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
