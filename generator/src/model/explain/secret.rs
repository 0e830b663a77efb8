//! What is known of a Secret that an image may be pulled with.

use image_pull_secrets::credential::{Credential, credentials};
use image_pull_secrets::docker_config::{DockerConfig, DockerConfigError};
use image_pull_secrets::secret::{SecretFormat, Unusable, docker_config};
use image_pull_secrets::text::shown;
use k8s_openapi::ByteString;
use std::collections::BTreeMap;
use std::fmt;

/// What was found of one Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The kubelet can use it.
    Usable(Usable),
    /// It is not there: the kubelet goes on without it.
    Missing,
    /// The kubelet passes it over.
    PassedOver(Unusable),
    /// The kubelet cannot parse it, and pulls nothing for a Pod that lists it.
    Malformed(DockerConfigError),
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// A Secret that the kubelet can use: what it is for, and whose credentials these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usable {
    pub(crate) config: DockerConfig,
    credentials: BTreeMap<String, Credential>,
}

impl Usable {
    /// The servers of all its entries, as written, those included that the kubelet passes over.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &str> {
        self.credentials.keys().map(String::as_str)
    }

    /// The credential for a server as the docker config names it.
    pub(crate) fn credential(&self, server: &str) -> Credential {
        self.credentials.get(server).cloned().unwrap_or_default()
    }
}

impl Found {
    /// What the kubelet makes of a Secret of this type and data.
    pub(crate) fn of(secret_type: &str, data: &BTreeMap<String, ByteString>) -> Self {
        let value = |key: &str| data.get(key).map(|ByteString(value)| value.clone());
        let config = match docker_config(secret_type, value) {
            Ok(config) => config,
            Err(Unusable::Config(error)) => return Self::Malformed(error),
            Err(unusable) => return Self::PassedOver(unusable),
        };
        let format = SecretFormat::of_type(secret_type).unwrap_or(SecretFormat::DockerConfigJson);
        match credentials(format, &value(format.data_key()).unwrap_or_default()) {
            Ok(credentials) => Self::Usable(Usable { config, credentials }),
            Err(error) => Self::Malformed(error),
        }
    }

    /// Its content, where the kubelet can use it.
    pub(crate) fn usable(&self) -> Option<&Usable> {
        match self {
            Self::Usable(usable) => Some(usable),
            _ => None,
        }
    }

    /// One word for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Usable(_) => "usable",
            Self::Missing => "missing",
            Self::PassedOver(_) => "passedOver",
            Self::Malformed(_) => "malformed",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// The end of a sentence about the Secret.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Usable(usable) => {
                let servers = usable.config.servers();
                if servers.is_empty() {
                    return f.write_str("is there, and has no entry");
                }
                f.write_str("is usable: it has entries for ")?;
                for (at, server) in servers.iter().take(SHOWN_SERVERS).enumerate() {
                    let user = usable.credential(server);
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{} (user {})", shown(server), UserName(user.username()))?;
                }
                match servers.len().saturating_sub(SHOWN_SERVERS) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Missing => f.write_str("does not exist"),
            Self::PassedOver(unusable) => write!(f, "is passed over by the kubelet: {unusable}"),
            Self::Malformed(error) => write!(f, "is malformed: {error}"),
            Self::Unreadable(reason) => write!(f, "could not be read: {reason}"),
        }
    }
}

/// How many servers of one Secret are shown.
const SHOWN_SERVERS: usize = 10;

/// A user name for people: in one line, and a word where there is none.
pub(crate) struct UserName<'a>(pub(crate) &'a str);

impl fmt::Display for UserName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { shown(self.0).fmt(f) }
    }
}

/// How a Secret came into a Pod's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The Pod, or its template, lists it.
    Pod,
    /// Kubernetes copied it from this ServiceAccount, because the Pod listed none.
    ServiceAccount(String),
    /// The same; and the generator had added it to the ServiceAccount.
    Generator(String),
    /// The policy added it.
    Policy,
    /// There is no such Pod yet: the policy will add it.
    PolicyWill,
}

impl Origin {
    /// One word for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::ServiceAccount(_) => "serviceAccount",
            Self::Generator(_) => "generator",
            Self::Policy | Self::PolicyWill => "policy",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Pod => f.write_str("listed by the Pod itself"),
            Self::ServiceAccount(name) => write!(f, "inherited from ServiceAccount {name}"),
            Self::Generator(name) => write!(f, "inherited from ServiceAccount {name}, where the generator added it"),
            Self::Policy => f.write_str("added by the policy"),
            Self::PolicyWill => f.write_str("to be added by the policy when the Pod is created"),
        }
    }
}

/// Where the names in a Pod's list come from. A Pod inherits all of its ServiceAccount's names or, where it lists one itself,
/// none; and what the policy adds comes last. So the first name tells whether it inherited.
pub(crate) fn origins(listed: &[String], account: &AccountList, configured: &[&str]) -> Vec<Origin> {
    let inherits = listed.first().is_some_and(|first| account.listed.contains(first));
    let origin = |name: &String| {
        if inherits && account.by_generator.contains(name) {
            Origin::Generator(account.name.clone())
        } else if inherits && account.listed.contains(name) {
            Origin::ServiceAccount(account.name.clone())
        } else if configured.contains(&name.as_str()) {
            Origin::Policy
        } else {
            Origin::Pod
        }
    };
    listed.iter().map(origin).collect()
}

/// What a ServiceAccount lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccountList {
    pub(crate) name: String,
    pub(crate) listed: Vec<String>,
    /// Those of them that the generator added.
    pub(crate) by_generator: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn of(document: &str) -> Found {
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(document.as_bytes().to_vec()))]);
        Found::of("kubernetes.io/dockerconfigjson", &data)
    }

    #[rstest]
    #[case::usable(
        r#"{"auths": {"ghcr.io": {"username": "bot", "password": "hunter2"}}}"#,
        "is usable: it has entries for ghcr.io (user bot)"
    )]
    #[case::no_user(r#"{"auths": {"ghcr.io": {}}}"#, "is usable: it has entries for ghcr.io (user none)")]
    #[case::no_entry(r#"{"auths": {}}"#, "is there, and has no entry")]
    #[case::malformed(
        r#"{"auths": {"ghcr.io": {"auth": "hunter2!"}}}"#,
        "is malformed: its entry \"ghcr.io\" has an \"auth\" that is not base64"
    )]
    #[case::empty("", "is passed over by the kubelet: it has no data under \".dockerconfigjson\"")]
    fn says_what_the_kubelet_makes_of_it_and_no_password(#[case] document: &str, #[case] expected: &str) {
        assert_eq!(of(document).to_string(), expected);
        assert!(!format!("{:?}", of(document)).contains("hunter2"));
    }

    #[rstest]
    #[case::its_own(&["mine"], &["a"], &[], &[], &[Origin::Pod])]
    #[case::inherited(&["a"], &["a"], &[], &[], &[Origin::ServiceAccount("default".to_owned())])]
    #[case::inherited_from_the_generator(
        &["a"], &["a"], &["a"], &["a"], &[Origin::Generator("default".to_owned())])]
    #[case::inherited_and_added_by_the_policy(
        &["a", "b"], &["a"], &[], &["b"], &[Origin::ServiceAccount("default".to_owned()), Origin::Policy])]
    #[case::a_pod_with_its_own_inherits_nothing(
        &["mine", "a"], &["a"], &["a"], &["a"], &[Origin::Pod, Origin::Policy])]
    fn knows_where_a_name_comes_from(
        #[case] listed: &[&str],
        #[case] account: &[&str],
        #[case] by_generator: &[&str],
        #[case] configured: &[&str],
        #[case] expected: &[Origin],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let account =
            AccountList { name: "default".to_owned(), listed: owned(account), by_generator: owned(by_generator) };
        assert_eq!(origins(&owned(listed), &account, configured), expected);
    }
}
