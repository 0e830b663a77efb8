//! The content that is copied: the type and data of a Secret, and a digest to compare two of them.

use crate::model::expiry::Expiry;
use image_pull_secrets::credential;
use image_pull_secrets::secret::{self, SecretFormat};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// The largest data of a Secret that the API server accepts, in bytes (`MaxSecretSize` in `core/v1`).
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// SHA-256 of a Secret's data. For a copy, this is kept in memory instead of its credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Digest {
    /// The digest of a Secret's data. It covers keys and values, in the order of the keys.
    pub(crate) fn of(data: &BTreeMap<String, ByteString>) -> Self {
        let mut hash = Sha256::new();
        for (key, ByteString(value)) in data {
            for part in [key.as_bytes(), value] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
        }
        Self(hash.finalize().into())
    }
}

/// The type and data of a source that the kubelet can pull with.
pub(crate) struct Content {
    /// The Secret's `type`.
    pub secret_type: &'static str,
    /// The Secret's `data`.
    pub data: BTreeMap<String, ByteString>,
    /// The digest of `data`.
    pub digest: Digest,
    /// The `resourceVersion` of the source, if that is a Secret.
    pub resource_version: Option<u64>,
    /// What is known of when its credentials expire.
    pub expiry: Expiry,
}

impl fmt::Debug for Content {
    /// Does not print the data, because it contains credentials.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Content({}, {:?})", self.secret_type, self.digest)
    }
}

/// Why a source is not copied. The text is the end of a sentence about the source, and never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// The kubelet cannot pull with it.
    #[error(transparent)]
    Secret(#[from] secret::Unusable),
    /// It is too large for a Secret.
    #[error("it has more than {MAX_BYTES} bytes of data, and no Secret may have so much")]
    TooLarge,
    /// Its credential provider gave no credentials. The text says why.
    #[error("{0}")]
    Provider(String),
    /// A registry refuses its credential. The text says which.
    #[error("{0}")]
    Refused(String),
}

impl Content {
    /// The content of a source Secret.
    ///
    /// # Errors
    /// [`Unusable`] for one that must not be propagated.
    pub(crate) fn of_secret(secret: Secret) -> Result<Self, Unusable> {
        let secret_type = secret.type_.unwrap_or_else(|| "Opaque".to_owned());
        let resource_version = secret.metadata.resource_version.and_then(|version| version.parse().ok());
        let content = Self::new(&secret_type, secret.data.unwrap_or_default())?;
        let expiry = content.expiry.and_annotated(secret.metadata.annotations.as_ref());
        Ok(Self { resource_version, expiry, ..content })
    }

    /// The size of the data in bytes.
    pub(crate) fn size(&self) -> usize {
        self.data.values().map(|ByteString(value)| value.len()).sum()
    }

    /// The content for a docker config that is not in a Secret, given as the bytes of a `.dockerconfigjson`.
    ///
    /// # Errors
    /// [`Unusable`] for one that must not be propagated.
    pub(crate) fn of_docker_config(document: Vec<u8>) -> Result<Self, Unusable> {
        let format = SecretFormat::DockerConfigJson;
        let data = BTreeMap::from([(format.data_key().to_owned(), ByteString(document))]);
        Self::new(format.secret_type(), data)
    }

    fn new(secret_type: &str, data: BTreeMap<String, ByteString>) -> Result<Self, Unusable> {
        // Check this first. Of a file that is too large, only the beginning was read, and that would not parse.
        if data.values().map(|ByteString(value)| value.len()).sum::<usize>() > MAX_BYTES {
            return Err(Unusable::TooLarge);
        }
        is_usable(secret_type, &data)?;
        let format =
            SecretFormat::of_type(secret_type).ok_or_else(|| secret::Unusable::Type(secret_type.to_owned()))?;
        let digest = Digest::of(&data);
        let document = data.get(format.data_key()).map(|ByteString(document)| document.as_slice());
        let credentials = credential::credentials(format, document.unwrap_or_default()).unwrap_or_default();
        let expiry = Expiry::of_credentials(credentials.values());
        Ok(Self { secret_type: format.secret_type(), data, digest, resource_version: None, expiry })
    }
}

/// Whether the kubelet can pull with a Secret of this type and data.
///
/// # Errors
/// [`secret::Unusable`]: why not.
pub(crate) fn is_usable(secret_type: &str, data: &BTreeMap<String, ByteString>) -> Result<(), secret::Unusable> {
    secret::docker_config(secret_type, |key| data.get(key).map(|ByteString(value)| value.clone())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn secret(secret_type: &str, key: &str, value: &str) -> Secret {
        Secret {
            type_: Some(secret_type.to_owned()),
            data: Some(BTreeMap::from([(key.to_owned(), ByteString(value.as_bytes().to_vec()))])),
            ..Secret::default()
        }
    }

    const CONFIG: &str = r#"{"auths":{"ghcr.io":{"username":"acme","password":"hunter2"}}}"#;

    #[rstest]
    #[case::docker_config_json("kubernetes.io/dockerconfigjson", ".dockerconfigjson", CONFIG, "")]
    #[case::legacy_dockercfg(
        "kubernetes.io/dockercfg",
        ".dockercfg",
        r#"{"ghcr.io":{"username":"acme","password":"p"}}"#,
        ""
    )]
    #[case::another_type(
        "Opaque",
        ".dockerconfigjson",
        CONFIG,
        "its type is \"Opaque\", not kubernetes.io/dockerconfigjson"
    )]
    #[case::another_key(
        "kubernetes.io/dockerconfigjson",
        "config.json",
        CONFIG,
        "it has no data under \".dockerconfigjson\""
    )]
    fn only_a_secret_that_the_kubelet_can_use_is_a_source(
        #[case] secret_type: &str,
        #[case] key: &str,
        #[case] value: &str,
        #[case] expected: &str,
    ) {
        let fault = Content::of_secret(secret(secret_type, key, value)).err().map(|fault| fault.to_string());
        assert_eq!(fault.unwrap_or_default(), expected);
    }

    #[test]
    fn a_source_too_large_for_a_secret_is_refused() {
        let document =
            format!(r#"{{"auths":{{"ghcr.io":{{"username":"a","password":"{}"}}}}}}"#, "p".repeat(MAX_BYTES));
        let mut document = document.into_bytes();
        assert_eq!(Content::of_docker_config(document.clone()).err().unwrap(), Unusable::TooLarge);
        // The part that is read of a file.
        document.truncate(MAX_BYTES + 1);
        assert_eq!(Content::of_docker_config(document).err().unwrap(), Unusable::TooLarge);
    }

    #[test]
    fn no_fault_quotes_a_credential() {
        let broken = r#"{"auths":{"ghcr.io":{"auth":"aHVudGVyMg"}}}"#;
        let fault = Content::of_docker_config(broken.into()).err().unwrap().to_string();
        assert!(!fault.contains("hunter2") && !fault.contains("aHVudGVyMg"), "{fault}");
    }

    #[test]
    fn a_digest_tells_keys_from_values() {
        let data = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect()
        };
        assert_ne!(Digest::of(&data(&[("ab", "c")])), Digest::of(&data(&[("a", "bc")])));
        assert_ne!(Digest::of(&data(&[("a", "b")])), Digest::of(&data(&[("a", "b"), ("c", "")])));
        assert_eq!(Digest::of(&data(&[("a", "b")])), Digest::of(&data(&[("a", "b")])));
    }
}
