//! Why a Pod does not list a Secret that would be right for its image.

use super::secret::Found;
use image_pull_secrets::image::{Image, Images};
use image_pull_secrets::secret::Unusable;
use image_pull_secrets::settings::{ConfiguredSecret, OnMissingSecret, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a Pod does not list a Secret of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Absence {
    /// Neither the settings nor the Pod name it.
    NotConfigured,
    /// The settings exclude the namespace by its name.
    ExcludedNamespace,
    /// The Namespace has the exclude annotation.
    NamespaceAnnotation,
    /// The Pod has it.
    PodAnnotation,
    /// The policy is not for this namespace, going by its labels.
    NotSelectedNamespace,
    /// The secret is for other namespaces, by name or by label.
    OtherNamespaces,
    /// The secret is for images that its `matchImages` names, and the Pod has none of them.
    MatchImages,
    /// The policy does not add anything at present: why not.
    PolicyNotAtWork(NotAtWork),
    /// Everything would add it now: the Pod was created before that.
    OlderPod,
    /// The Pod would inherit it now: it was created before its ServiceAccount listed it.
    OlderThanReference,
}

/// Why the policy adds nothing to new Pods. Reads as what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAtWork {
    /// It only reports.
    Monitor,
    /// Kubewarden has not loaded it.
    NotActive,
    /// There are settings for the generator alone.
    NotInstalled,
}

impl fmt::Display for NotAtWork {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Monitor => "adds nothing: its mode is monitor",
            Self::NotActive => "adds nothing: it is not active",
            Self::NotInstalled => "is not installed",
        })
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str("neither the Pod nor the settings name it"),
            Self::ExcludedNamespace => f.write_str("the settings exclude the namespace"),
            Self::NamespaceAnnotation => f.write_str("the Namespace has the exclude annotation"),
            Self::PodAnnotation => f.write_str("the Pod has the exclude annotation"),
            Self::NotSelectedNamespace => f.write_str("the policy's namespaceSelector does not select the namespace"),
            Self::OtherNamespaces => f.write_str("its namespaces or its namespaceSelector leave the namespace out"),
            Self::MatchImages => f.write_str("its matchImages matches no image of the Pod"),
            Self::PolicyNotAtWork(why) => write!(f, "the policy {why}"),
            Self::OlderPod => f.write_str("the Pod was created before the policy could add it"),
            Self::OlderThanReference => f.write_str("the Pod was created before its ServiceAccount listed it"),
        }
    }
}

impl Absence {
    /// One word for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NotConfigured => "notConfigured",
            Self::ExcludedNamespace => "excludedNamespace",
            Self::NamespaceAnnotation => "namespaceAnnotation",
            Self::PodAnnotation => "podAnnotation",
            Self::NotSelectedNamespace => "notSelectedNamespace",
            Self::OtherNamespaces => "otherNamespaces",
            Self::MatchImages => "matchImages",
            Self::PolicyNotAtWork(_) => "policyNotAtWork",
            Self::OlderPod => "olderPod",
            Self::OlderThanReference => "olderThanReference",
        }
    }
}

/// What is known of the policy: its settings, and whether it is at work in the namespace of the Pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    pub(crate) settings: Settings,
    /// Why it adds nothing, if it does not.
    pub(crate) not_at_work: Option<NotAtWork>,
    /// Whether it reads what is in a Secret. The API server, where it adds secrets by itself, knows its type only.
    pub(crate) reads_content: bool,
    /// The secrets that it is not asked about in the namespace, going by its namespaceSelector.
    pub(crate) not_selected: BTreeSet<String>,
    /// The Namespace's labels; `None` where it could not be read.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Whether the Namespace has the exclude annotation.
    pub(crate) excludes_namespace: bool,
    /// Whether the Pod has it.
    pub(crate) excludes_pod: bool,
}

impl Policy {
    /// Why this secret is not for a Pod in this namespace with these images; `None` where it is.
    fn leaves_out(&self, secret: &ConfiguredSecret, namespace: &str, images: &[Image]) -> Option<Absence> {
        if self.settings.excludes_namespace(namespace) {
            Some(Absence::ExcludedNamespace)
        } else if self.excludes_namespace {
            Some(Absence::NamespaceAnnotation)
        } else if self.excludes_pod {
            Some(Absence::PodAnnotation)
        } else if !self.is_for(secret, namespace) {
            Some(Absence::OtherNamespaces)
        } else if self.not_selected.contains(&secret.name) {
            Some(Absence::NotSelectedNamespace)
        } else {
            (secret.scope.wants(images) == Some(false)).then_some(Absence::MatchImages)
        }
    }

    /// Whether a secret is for this namespace. Where the labels are not known, the policy goes by the name.
    fn is_for(&self, secret: &ConfiguredSecret, namespace: &str) -> bool {
        let by_label = self.labels.as_ref().is_none_or(|labels| {
            let label = |key: &str| labels.get(key).map(String::as_str);
            secret.namespaces.includes_labels(&label)
        });
        by_label && secret.namespaces.includes_name(namespace)
    }

    /// Why a Pod that exists does not list the Secret of this name.
    pub(crate) fn why_not_listed(&self, name: &str, namespace: &str, images: &[Image]) -> Absence {
        let Some(secret) = self.settings.secrets.iter().find(|secret| secret.name == name) else {
            return Absence::NotConfigured;
        };
        let not_at_work = || self.not_at_work.map(Absence::PolicyNotAtWork);
        self.leaves_out(secret, namespace, images).or_else(not_at_work).unwrap_or(Absence::OlderPod)
    }

    /// The names that it will add to a Pod that lists these, going by what `found` says of each Secret: as the policy decides.
    pub(crate) fn will_add<'f>(
        &self,
        listed: &[String],
        namespace: &str,
        images: &[Image],
        found: impl Fn(&str) -> &'f Found,
    ) -> Vec<String> {
        if self.not_at_work.is_some() {
            return vec![];
        }
        let mut wanted = self.wanted(namespace, images, found);
        wanted.retain(|name| !listed.contains(name));
        wanted
    }

    /// The names that the settings want for a Pod, whether or not anybody adds them.
    pub(crate) fn wanted<'f>(
        &self,
        namespace: &str,
        images: &[Image],
        found: impl Fn(&str) -> &'f Found,
    ) -> Vec<String> {
        let prepared = Images::new(images);
        let on_missing = match self.settings.on_missing_secret {
            // Without a look at the Secret there is nothing to warn of.
            OnMissingSecret::Warn if !self.reads_content => OnMissingSecret::Ignore,
            on_missing => on_missing,
        };
        let is_wanted = |secret: &&ConfiguredSecret| {
            self.leaves_out(secret, namespace, images).is_none()
                && match found(&secret.name) {
                    _ if on_missing == OnMissingSecret::Ignore => true,
                    Found::Usable(usable) => {
                        secret.scope.wants(images).unwrap_or_else(|| usable.config.covers_any(&prepared))
                    }
                    Found::Missing => on_missing != OnMissingSecret::Skip,
                    Found::PassedOver(Unusable::Type(_)) => false,
                    Found::PassedOver(_) | Found::Malformed(_) => !self.reads_content,
                    Found::Unreadable(_) => true,
                }
        };
        self.settings.secrets.iter().filter(is_wanted).map(|secret| secret.name.clone()).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A policy at work with these settings.
    pub(crate) fn policy(settings: Value) -> Policy {
        Policy {
            settings: Settings::from_value(&settings).unwrap(),
            not_at_work: None,
            reads_content: true,
            not_selected: BTreeSet::new(),
            labels: Some(BTreeMap::from([("team".to_owned(), "a".to_owned())])),
            excludes_namespace: false,
            excludes_pod: false,
        }
    }

    /// The same for the namespaces of one team.
    fn for_team(team: &str) -> Policy {
        policy(json!({"secrets": [{"name": "creds", "namespaceSelector": {"matchLabels": {"team": team}}}]}))
    }

    fn creds() -> Policy {
        policy(json!({"secrets": [{"name": "creds"}]}))
    }

    #[rstest]
    #[case::a_pod_from_before(creds(), Absence::OlderPod)]
    #[case::another_secret(policy(json!({"secrets": [{"name": "other"}]})), Absence::NotConfigured)]
    #[case::an_excluded_namespace(
        policy(json!({"secrets": [{"name": "creds"}], "exclude": {"namespaces": ["sh*"]}})),
        Absence::ExcludedNamespace
    )]
    #[case::an_annotated_namespace(Policy { excludes_namespace: true, ..creds() }, Absence::NamespaceAnnotation)]
    #[case::an_annotated_pod(Policy { excludes_pod: true, ..creds() }, Absence::PodAnnotation)]
    #[case::labels(
        Policy { not_selected: BTreeSet::from(["creds".to_owned()]), ..creds() }, Absence::NotSelectedNamespace)]
    #[case::another_name(
        policy(json!({"secrets": [{"name": "creds", "namespaces": ["team-*"]}]})),
        Absence::OtherNamespaces
    )]
    #[case::another_label(for_team("b"), Absence::OtherNamespaces)]
    #[case::the_label(for_team("a"), Absence::OlderPod)]
    #[case::a_label_that_is_not_known(Policy { labels: None, ..for_team("b") }, Absence::OlderPod)]
    #[case::another_image(
        policy(json!({"secrets": [{"name": "creds", "matchImages": ["quay.io"]}]})),
        Absence::MatchImages
    )]
    #[case::monitor(
        Policy { not_at_work: Some(NotAtWork::Monitor), ..creds() },
        Absence::PolicyNotAtWork(NotAtWork::Monitor)
    )]
    fn the_reason_is_the_first_that_the_policy_goes_by(#[case] policy: Policy, #[case] expected: Absence) {
        let images = [Image::parse("ghcr.io/acme/app").unwrap()];
        assert_eq!(policy.why_not_listed("creds", "shop", &images), expected);
        assert_eq!(
            policy.will_add(&[], "shop", &images, |_| &Found::Missing),
            match expected {
                Absence::OlderPod => vec!["creds".to_owned()],
                Absence::NotConfigured => vec!["other".to_owned()],
                _ => vec![],
            }
        );
    }

    fn found(server: &str) -> Found {
        let document = format!(r#"{{"auths": {{"{server}": {{"username": "u", "password": "p"}}}}}}"#);
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(document.into_bytes()))]);
        Found::of("kubernetes.io/dockerconfigjson", &data)
    }

    #[rstest]
    #[case::usable("warn", false, found("quay.io"), true)]
    #[case::missing("warn", false, Found::Missing, true)]
    #[case::missing_under_skip("skip", false, Found::Missing, false)]
    #[case::unusable("warn", false, Found::of("Opaque", &BTreeMap::new()), false)]
    #[case::unusable_under_ignore("ignore", false, Found::of("Opaque", &BTreeMap::new()), true)]
    #[case::unreadable("warn", false, Found::Unreadable("forbidden".to_owned()), true)]
    #[case::with_credentials_for_it("warn", true, found("ghcr.io"), true)]
    #[case::with_credentials_for_another("warn", true, found("quay.io"), false)]
    fn what_is_added_is_what_the_policy_adds(
        #[case] on_missing: &str,
        #[case] match_credentials: bool,
        #[case] found: Found,
        #[case] expected: bool,
    ) {
        let secret = json!({"name": "creds", "matchCredentials": match_credentials});
        let policy = policy(json!({"secrets": [secret], "onMissingSecret": on_missing}));
        let images = [Image::parse("ghcr.io/acme/app").unwrap()];
        let will_add = |listed: &[String]| policy.will_add(listed, "shop", &images, |_| &found);
        assert_eq!(will_add(&[]), if expected { vec!["creds".to_owned()] } else { vec![] });
        assert_eq!(will_add(&["creds".to_owned()]), Vec::<String>::new());
    }

    fn malformed() -> Found {
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(b"[]".to_vec()))]);
        Found::of("kubernetes.io/dockerconfigjson", &data)
    }

    #[rstest]
    #[case::warn_never_looks("warn", Found::of("Opaque", &BTreeMap::new()), true)]
    #[case::skip_looks_at_the_type("skip", Found::of("Opaque", &BTreeMap::new()), false)]
    #[case::and_not_at_the_content("skip", malformed(), true)]
    #[case::skip_of_a_missing_one("skip", Found::Missing, false)]
    fn what_the_api_server_adds_by_itself_does_not_depend_on_the_content(
        #[case] on_missing: &str,
        #[case] found: Found,
        #[case] expected: bool,
    ) {
        let settings = json!({"secrets": [{"name": "creds"}], "onMissingSecret": on_missing});
        let native = Policy { reads_content: false, ..policy(settings) };
        assert_eq!(native.will_add(&[], "shop", &[], |_| &found) == ["creds"], expected);
    }

    #[test]
    fn what_nobody_adds_is_wanted_all_the_same() {
        let policy = Policy { not_at_work: Some(NotAtWork::NotInstalled), ..creds() };
        assert_eq!(policy.wanted("shop", &[], |_| &Found::Missing), ["creds"]);
        assert_eq!(policy.will_add(&[], "shop", &[], |_| &Found::Missing), [""; 0]);
    }
}
