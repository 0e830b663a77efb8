//! Image names as `docker pull` and the kubelet normalise them.
//!
//! Source: `ParseNormalizedNamed` and the grammar in `regexp.go` of github.com/distribution/reference v0.6, which the
//! kubelet calls through its `pkg/util/parsers`. This is written by hand, because the crates that do it need a regular
//! expression engine, and that is larger than the whole policy. A differential test compares it with the original.

use crate::location::{Location, Locations};

/// Why a text is not the name of an image. The kubelet reports `InvalidImageName` in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The text does not match the grammar of references.
    #[error("is not an image reference ([registry/]name[:tag][@digest])")]
    Format,
    /// The repository name has an upper-case letter.
    #[error("has upper-case letters in its repository name")]
    Uppercase,
    /// The text is 64 hexadecimal digits, which stands for an image id.
    #[error("is 64 hexadecimal digits, which names an image id and no repository")]
    Identifier,
    /// The repository path is longer than 255 characters.
    #[error("has a repository path of more than 255 characters")]
    TooLong,
    /// The digest has an unknown algorithm or the wrong length.
    #[error("has a digest that is no sha256, sha384 or sha512 in lower-case hexadecimal digits")]
    Digest,
}

/// A normalised repository: registry and path, without tag and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
    location: Option<Location>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const LONGEST_PATH: usize = 255;

impl Image {
    /// Normalises a reference: `nginx:1.27` gives `docker.io/library/nginx`.
    ///
    /// # Errors
    /// [`ImageError`] where distribution's `ParseNormalizedNamed` gives an error.
    pub fn parse(reference: &str) -> Result<Self, ImageError> {
        if reference.len() == 64 && reference.bytes().all(|b| matches!(b, b'a'..=b'f' | b'0'..=b'9')) {
            return Err(ImageError::Identifier);
        }
        let (registry, rest) = split_registry(reference);
        let remote = rest.split_once(':').map_or(rest.as_str(), |(before, _)| before);
        if has_uppercase(remote) {
            return Err(ImageError::Uppercase);
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        // Something that looks like a registry but cannot be one (`foo_bar.com/x`) is the first component of a path.
        let longest = if is_registry(registry) { path.len() } else { registry.len() + 1 + path.len() };
        let is_name = is_path(path) && (is_registry(registry) || is_path(registry));
        if !is_name || !tag.is_none_or(is_tag) || !digest.is_none_or(looks_like_digest) {
            return Err(ImageError::Format);
        }
        if longest > LONGEST_PATH {
            return Err(ImageError::TooLong);
        }
        if !digest.is_none_or(is_digest) {
            return Err(ImageError::Digest);
        }
        let name = format!("{registry}/{path}");
        // The grammar allows hosts that a URL cannot have (`[::::]`). The kubelet finds no credential for these.
        let location = Location::parse(&name).ok();
        Ok(Self { name, location })
    }

    /// Parses the references of a Pod and leaves out those that are malformed. The kubelet fails on these before it
    /// looks for a credential.
    pub fn parse_all(references: &[impl AsRef<str>]) -> Vec<Self> {
        references.iter().filter_map(|reference| Self::parse(reference.as_ref()).ok()).collect()
    }

    /// The normalised name: `docker.io/library/nginx`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The location of the image, or `None` if a URL cannot have its host. Then no credential matches.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    /// Whether the kubelet takes the image's registry for the default one: `docker.io`, and every host that has neither
    /// a dot nor a colon, such as `localhost` (`isDefaultRegistryMatch` in `pkg/credentialprovider/keyring.go`).
    pub fn is_on_default_registry(&self) -> bool {
        let host = self.name.split_once('/').map_or("", |(host, _)| host);
        host == DEFAULT_REGISTRY || !host.contains(['.', ':'])
    }
}

/// The images of a Pod, prepared so that many credentials can be matched with them quickly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images<'a> {
    /// Their locations.
    pub locations: Locations<'a>,
    /// Whether any of them is on the default registry ([`Image::is_on_default_registry`]).
    pub any_on_default_registry: bool,
}

impl<'a> Images<'a> {
    /// Prepares these images.
    pub fn new(images: &'a [Image]) -> Self {
        let any_on_default_registry = images.iter().any(Image::is_on_default_registry);
        Self { locations: Locations::new(images.iter().filter_map(Image::location)), any_on_default_registry }
    }
}

/// Splits a reference into the registry, and the rest with tag and digest (`splitDockerDomain`).
fn split_registry(reference: &str) -> (&str, String) {
    let (registry, rest) = match reference.split_once('/') {
        None => (DEFAULT_REGISTRY, reference),
        Some((LEGACY_DEFAULT_REGISTRY, rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || has_uppercase(first) => {
            (first, rest)
        }
        Some(_) => (DEFAULT_REGISTRY, reference),
    };
    if registry == DEFAULT_REGISTRY && !rest.contains('/') {
        return (registry, format!("{OFFICIAL}{rest}"));
    }
    (registry, rest.to_owned())
}

/// The grammar allows only ASCII.
fn has_uppercase(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

/// Whether the text is a `domainAndPort` of the grammar.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(close) => text.split_at(close + 1),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let host_fits = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_registry_label),
    };
    port_fits && host_fits
}

fn is_registry_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether the text is a `remoteName` of the grammar: components of lower-case letters and digits, joined by `.`, `_`,
/// `__` or dashes.
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        component.starts_with(is_word)
            && component.ends_with(is_word)
            && component.split(is_word).all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    })
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Whether the text is a `digestPat` of the grammar: words of an algorithm, joined by one of `-_+.`, and at least 32
/// hexadecimal digits.
fn looks_like_digest(digest: &str) -> bool {
    let Some((algorithm, encoded)) = digest.split_once(':') else { return false };
    let is_word =
        |w: &str| w.starts_with(|c: char| c.is_ascii_alphabetic()) && w.bytes().all(|b| b.is_ascii_alphanumeric());
    algorithm.split(['-', '_', '+', '.']).all(is_word)
        && encoded.len() >= 32
        && encoded.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether the digest has an algorithm that is registered in the OCI image specification, and as many lower-case digits
/// as that algorithm gives.
fn is_digest(digest: &str) -> bool {
    let (algorithm, encoded) = digest.split_once(':').unwrap_or_default();
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    encoded.len() == length && encoded.bytes().all(|b| matches!(b, b'a'..=b'f' | b'0'..=b'9'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[rstest]
    #[case::a_bare_name("nginx", "docker.io/library/nginx")]
    #[case::a_tag_is_dropped("nginx:1.27", "docker.io/library/nginx")]
    #[case::a_user("acme/app", "docker.io/acme/app")]
    #[case::the_hub_by_name("docker.io/nginx", "docker.io/library/nginx")]
    #[case::the_hub_by_its_old_name("index.docker.io/library/x", "docker.io/library/x")]
    #[case::the_hub_by_its_old_name_without_library("index.docker.io/x", "docker.io/library/x")]
    #[case::another_host_of_the_hub_is_not_the_hub("registry-1.docker.io/library/x", "registry-1.docker.io/library/x")]
    #[case::a_host("ghcr.io/acme/app:v1", "ghcr.io/acme/app")]
    #[case::a_port("host:5000/x", "host:5000/x")]
    #[case::a_port_and_a_tag("host:5000/x:1", "host:5000/x")]
    #[case::localhost("localhost/x", "localhost/x")]
    #[case::an_upper_case_host("Host/x", "Host/x")]
    #[case::an_ipv6_host("[::1]:5000/x", "[::1]:5000/x")]
    #[case::a_name_and_a_number_is_name_and_tag("host:5000", "docker.io/library/host")]
    #[case::separators("a/b_c__d-e---f.g", "docker.io/a/b_c__d-e---f.g")]
    #[case::a_host_with_an_underscore_is_a_path("foo_bar.com/x", "foo_bar.com/x")]
    fn normalises_as_docker_does(#[case] reference: &str, #[case] expected: &str) {
        assert_eq!(Image::parse(reference).unwrap().name(), expected);
    }

    #[test]
    fn a_digest_is_dropped() {
        assert_eq!(Image::parse(&format!("nginx@sha256:{SHA256}")).unwrap().name(), "docker.io/library/nginx");
        assert_eq!(Image::parse(&format!("ghcr.io/a/b:1@sha256:{SHA256}")).unwrap().name(), "ghcr.io/a/b");
    }

    #[rstest]
    #[case::nothing("", ImageError::Format)]
    #[case::upper_case("ghcr.io/Acme/app", ImageError::Uppercase)]
    #[case::an_upper_case_bare_name("Nginx", ImageError::Uppercase)]
    #[case::an_identifier(SHA256, ImageError::Identifier)]
    #[case::a_scheme("https://ghcr.io/acme/app", ImageError::Format)]
    #[case::a_trailing_slash("ghcr.io/acme/", ImageError::Format)]
    #[case::an_empty_component("ghcr.io//app", ImageError::Format)]
    #[case::three_underscores("a___b", ImageError::Format)]
    #[case::a_trailing_separator("a-", ImageError::Format)]
    #[case::an_empty_tag("nginx:", ImageError::Format)]
    #[case::a_tag_that_starts_with_a_dot("nginx:.1", ImageError::Format)]
    #[case::a_port_that_is_no_number("host:x/y", ImageError::Format)]
    #[case::a_host_that_ends_in_a_dash("host-.io/x", ImageError::Format)]
    #[case::a_short_digest("nginx@sha256:0123", ImageError::Format)]
    #[case::a_digest_of_the_wrong_length("nginx@sha256:0123456789abcdef0123456789abcdef", ImageError::Digest)]
    #[case::an_unknown_algorithm("nginx@md5:0123456789abcdef0123456789abcdef", ImageError::Digest)]
    #[case::white_space("nginx ", ImageError::Format)]
    #[case::a_letter_beyond_ascii("nginé", ImageError::Format)]
    fn refuses_what_docker_refuses(#[case] reference: &str, #[case] expected: ImageError) {
        assert_eq!(Image::parse(reference), Err(expected));
    }

    #[test]
    fn a_path_of_255_characters_is_the_longest() {
        let of = |n: usize| format!("ghcr.io/{}", "a".repeat(n));
        assert!(Image::parse(&of(255)).is_ok());
        assert_eq!(Image::parse(&of(256)), Err(ImageError::TooLong));
    }

    #[rstest]
    #[case::the_hub("nginx", true)]
    #[case::another_registry("ghcr.io/a/b", false)]
    #[case::a_port("host:5000/x", false)]
    #[case::localhost_counts_as_the_default("localhost/x", true)]
    fn knows_the_default_registry_as_the_kubelet_does(#[case] reference: &str, #[case] expected: bool) {
        assert_eq!(Image::parse(reference).unwrap().is_on_default_registry(), expected);
    }

    proptest! {
        #[test]
        fn normalisation_is_idempotent(
            reference in "([A-Za-z0-9.-]{1,8}(:[0-9]{1,4})?/)?[a-z0-9._/-]{1,16}(:[a-z0-9._-]{0,5})?"
        ) {
            if let Ok(image) = Image::parse(&reference) {
                prop_assert_eq!(Image::parse(image.name()).map(|i| i.name), Ok(image.name));
            }
        }

        #[test]
        fn no_text_panics(reference in ".{0,32}") {
            let _ = Image::parse(&reference);
        }
    }
}
