//! Whether the kubelet can use a Secret to pull images.
//!
//! Source: `MakeDockerKeyring` in Kubernetes' `pkg/credentialprovider/secrets`, and the Secret types of `core/v1`.

use crate::docker_config::{DockerConfig, DockerConfigError};
use crate::text::shown;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;

/// The two types of Secret that the kubelet reads credentials from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFormat {
    /// `kubernetes.io/dockerconfigjson`.
    DockerConfigJson,
    /// `kubernetes.io/dockercfg`.
    DockerCfg,
}

impl SecretFormat {
    /// The format of a Secret's `type`, or `None` for a type that the kubelet does not pull with.
    pub fn of_type(secret_type: &str) -> Option<Self> {
        [Self::DockerConfigJson, Self::DockerCfg].into_iter().find(|format| format.secret_type() == secret_type)
    }

    /// The `type` of such a Secret.
    pub fn secret_type(self) -> &'static str {
        match self {
            Self::DockerConfigJson => "kubernetes.io/dockerconfigjson",
            Self::DockerCfg => "kubernetes.io/dockercfg",
        }
    }

    /// The key of its `data` that holds the docker config.
    pub fn data_key(self) -> &'static str {
        match self {
            Self::DockerConfigJson => ".dockerconfigjson",
            Self::DockerCfg => ".dockercfg",
        }
    }

    /// Parses the docker config as the kubelet does for this format.
    ///
    /// # Errors
    /// [`DockerConfigError`] where the kubelet would fail.
    pub fn parse(self, document: &[u8]) -> Result<DockerConfig, DockerConfigError> {
        match self {
            Self::DockerConfigJson => DockerConfig::parse(document),
            Self::DockerCfg => DockerConfig::parse_legacy(document),
        }
    }
}

/// Why the kubelet cannot pull with a Secret. The text is the end of a sentence about the Secret, and never quotes a
/// value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It has another type.
    #[error("its type is \"{}\", not kubernetes.io/dockerconfigjson", shown(.0))]
    Type(String),
    /// It has no docker config, or the config is empty.
    #[error("it has no data under \"{0}\"")]
    NoData(&'static str),
    /// Its docker config does not parse. One such Secret makes the kubelet fail every image of the Pod.
    #[error(transparent)]
    Config(#[from] DockerConfigError),
}

/// The docker config of a Secret that the kubelet can pull with. `value_of` gives the decoded value of a key of its
/// `data`.
///
/// # Errors
/// [`Unusable`] if the kubelet ignores the Secret, or fails because of it.
pub fn docker_config(
    secret_type: &str,
    value_of: impl FnOnce(&'static str) -> Option<Vec<u8>>,
) -> Result<DockerConfig, Unusable> {
    let format = SecretFormat::of_type(secret_type).ok_or_else(|| Unusable::Type(secret_type.to_owned()))?;
    let key = format.data_key();
    let document = value_of(key).filter(|document| !document.is_empty()).ok_or(Unusable::NoData(key))?;
    Ok(format.parse(&document)?)
}

/// Decodes a value of a Secret's `data`. Gives `None` if it is not base64 (RFC 4648 section 4).
pub fn decode_data(value: &str) -> Option<Vec<u8>> {
    STANDARD.decode(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::the_usual_type("kubernetes.io/dockerconfigjson", r#"{"auths":{}}"#, Ok(()))]
    #[case::the_legacy_type("kubernetes.io/dockercfg", "{}", Ok(()))]
    #[case::another_type("Opaque", "{}", Err("its type is \"Opaque\", not kubernetes.io/dockerconfigjson"))]
    #[case::a_type_with_a_line_break(
        "a\nb",
        "{}",
        Err("its type is \"a\u{fffd}b\", not kubernetes.io/dockerconfigjson")
    )]
    #[case::an_empty_value("kubernetes.io/dockerconfigjson", "", Err("it has no data under \".dockerconfigjson\""))]
    #[case::a_value_that_does_not_parse(
        "kubernetes.io/dockerconfigjson",
        "x",
        Err("its docker config is not JSON (line 1, column 1)")
    )]
    fn says_whether_the_kubelet_can_pull_with_it(
        #[case] secret_type: &str,
        #[case] value: &str,
        #[case] expected: Result<(), &str>,
    ) {
        let found = docker_config(secret_type, |_| Some(value.as_bytes().to_vec()));
        assert_eq!(found.map(|_| ()).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn the_key_goes_with_the_type() {
        let found =
            docker_config("kubernetes.io/dockercfg", |key| (key == ".dockerconfigjson").then(|| b"{}".to_vec()));
        assert_eq!(found, Err(Unusable::NoData(".dockercfg")));
    }
}
