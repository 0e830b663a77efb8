//! `matchImages`, with the meaning of the kubelet's setting of that name.
//!
//! Source: `CredentialProvider.matchImages` in `k8s.io/kubelet/config/v1`, its validation and `isImageAllowed` in
//! Kubernetes' `pkg/credentialprovider/plugin`.

use crate::glob;
use crate::image::Image;
use crate::location::Location;
use crate::text::shown;

/// A registry. Its host may have globs in its labels, and the beginning of a path may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    location: Location,
}

impl ImagePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The pattern is one that the kubelet refuses, or one that no image can ever match. The text says what is wrong and
    /// what would be right, and is the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let example = "write a registry with a path, such as \"ghcr.io/acme\" or \"*.example.com:5000\"";
        if text.is_empty() {
            return Err(format!("is empty: {example}"));
        }
        if let Some((_, rest)) = text.split_once("://") {
            return Err(format!("has a scheme, and images have none: write \"{}\"", shown(rest)));
        }
        let location = Location::parse(text).map_err(|error| format!("{error}: {example}"))?;
        let (host, path) = (location.authority(), location.path());
        if host.is_empty() {
            return Err(format!("has no host: {example}"));
        }
        if text.contains(['?', '#', '@']) {
            return Err(format!("has a '?', '#' or '@', which no registry and no path has: {example}"));
        }
        if host == "index.docker.io" {
            return Err("never matches, as images of Docker Hub are named docker.io: write \"docker.io\"".to_owned());
        }
        if path.contains('*') {
            return Err(
                "has a '*' in its path, where it stands for itself: leave it out, a path is a prefix".to_owned()
            );
        }
        if path.contains(':') {
            return Err("has a tag, which is not matched with: leave it out".to_owned());
        }
        if path.contains(|c: char| c.is_ascii_uppercase()) {
            let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
            let right = format!("{host}{}", path.to_ascii_lowercase());
            return Err(format!("has upper-case letters in its path, and images have none: write \"{right}\""));
        }
        if !can_be_a_registry(host) {
            if !glob::is_literal(host) {
                return Err(format!("matches no registry, as those have a dot or a port: {example}"));
            }
            let library = if path.is_empty() { "library/" } else { "" };
            return Err(format!(
                "matches no image, as those of Docker Hub are named docker.io: write \"docker.io/{library}{text}\""
            ));
        }
        Ok(Self { location })
    }

    /// Whether it matches an image.
    pub fn matches(&self, image: &Image) -> bool {
        image.location().is_some_and(|image| self.location.holds(image))
    }
}

/// Whether the registry of an image can look like this. The first part of an image's name is a registry only if it has a
/// dot, a colon or an upper-case letter, or is `localhost` (`splitDockerDomain` in github.com/distribution/reference).
fn can_be_a_registry(host: &str) -> bool {
    host.contains(['.', ':'])
        || host.contains(|c: char| c.is_ascii_uppercase())
        || glob::matches(host, "localhost") == Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::docker_hub_by_name("docker.io", "nginx", true)]
    #[case::docker_hub_and_an_organisation("docker.io/acme", "acme/app", true)]
    #[case::the_official_images("docker.io/library", "nginx", true)]
    #[case::a_glob("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/app", true)]
    #[case::a_glob_is_one_label("*.io", "a.b.io/x", false)]
    #[case::a_path_prefix("ghcr.io/acme", "ghcr.io/acme/app:1", true)]
    #[case::no_fall_back_for_docker_hub("docker.com", "nginx", false)]
    #[case::a_port("registry.local:5000", "registry.local:5000/app", true)]
    #[case::a_port_that_is_missing("registry.local", "registry.local:5000/app", false)]
    #[case::a_name_with_a_port("registry:5000", "registry:5000/app", true)]
    #[case::localhost("localhost/acme", "localhost/acme/app", true)]
    #[case::every_registry_of_one_label("*", "localhost/app", true)]
    #[case::an_upper_case_registry("Registry", "Registry/app", true)]
    fn matches_as_the_kubelet_does(#[case] pattern: &str, #[case] image: &str, #[case] expected: bool) {
        assert_eq!(ImagePattern::parse(pattern).unwrap().matches(&Image::parse(image).unwrap()), expected);
    }

    #[rstest]
    #[case::nothing("", "is empty: write a registry with a path, such as \"ghcr.io/acme\" or \"*.example.com:5000\"")]
    #[case::a_scheme("https://ghcr.io", "has a scheme, and images have none: write \"ghcr.io\"")]
    #[case::a_glob_as_port(
        "ghcr.io:*",
        "has a port that is not a number: write a registry with a path, such as \"ghcr.io/acme\" or \"*.example.com:5000\""
    )]
    #[case::a_glob_in_the_path(
        "ghcr.io/*",
        "has a '*' in its path, where it stands for itself: leave it out, a path is a prefix"
    )]
    #[case::a_tag("ghcr.io/acme/app:1", "has a tag, which is not matched with: leave it out")]
    #[case::the_old_name_of_docker_hub(
        "index.docker.io",
        "never matches, as images of Docker Hub are named docker.io: write \"docker.io\""
    )]
    #[case::an_image_of_docker_hub(
        "acme/app",
        "matches no image, as those of Docker Hub are named docker.io: write \"docker.io/acme/app\""
    )]
    #[case::an_official_image(
        "nginx",
        "matches no image, as those of Docker Hub are named docker.io: write \"docker.io/library/nginx\""
    )]
    #[case::an_official_image_with_its_path(
        "library/nginx",
        "matches no image, as those of Docker Hub are named docker.io: write \"docker.io/library/nginx\""
    )]
    #[case::a_glob_without_a_dot(
        "ghcr*/acme",
        "matches no registry, as those have a dot or a port: write a registry with a path, such as \"ghcr.io/acme\" or \
         \"*.example.com:5000\""
    )]
    #[case::upper_case_in_the_path(
        "ghcr.io/Acme",
        "has upper-case letters in its path, and images have none: write \"ghcr.io/acme\""
    )]
    #[case::a_path_alone(
        "/acme",
        "has no host: write a registry with a path, such as \"ghcr.io/acme\" or \"*.example.com:5000\""
    )]
    fn says_what_would_be_right(#[case] pattern: &str, #[case] message: &str) {
        assert_eq!(ImagePattern::parse(pattern), Err(message.to_owned()));
    }
}
