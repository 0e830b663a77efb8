//! Entries that are not for an image, and look as if they were meant for it.

use image_pull_secrets::image::Image;
use image_pull_secrets::text::shown;
use std::fmt;

/// How an entry misses an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// A name of Docker Hub that the kubelet does not know it by.
    DockerHubName,
    /// `/v1` or `/v2` without the slash that ends it is a path like any other.
    Slash,
    /// Another port, or one where the image has none, or none where it has one.
    Port,
    /// Upper-case and lower-case letters, in the host or in the scheme.
    Case,
    /// Its path goes on where the image's ends: it names a tag, or something below.
    LongPath,
    /// A glob stands for one label of a host only.
    Labels,
    /// It is no URL: the kubelet passes over it.
    NoUrl,
    /// It is for another path of the same registry.
    Path,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::DockerHubName => "is not Docker Hub's name for the kubelet",
            Self::Slash => "lacks the slash at its end",
            Self::Port => "differs by its port",
            Self::Case => "differs by upper and lower case",
            Self::LongPath => "has a path that is longer than the image's",
            Self::Labels => "has a * that stands for one part of a host name, and not for several",
            Self::NoUrl => "is no URL, and the kubelet passes it over",
            Self::Path => "is for another path",
        })
    }
}

/// How the server of an entry, as written, misses the image that it does not match; `None` where it is about something else.
pub(crate) fn difference(server: &str, image: &Image) -> Option<Difference> {
    let (scheme, rest) = split_scheme(server);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (of_image, path_of_image) = image.name().split_once('/').unwrap_or((image.name(), ""));
    let path_of_image = format!("/{path_of_image}");
    if of_image == DOCKER_HUB
        && (DOCKER_HUB_NAMES.contains(&authority.to_ascii_lowercase().as_str())
            || is_glob(authority) && glob_holds(authority, DOCKER_HUB_HOST))
    {
        let is_v1 = matches!(path, "/v1" | "/v2");
        let by_name = matches!(authority, "index.docker.io" | DOCKER_HUB);
        return Some(if is_v1 && by_name {
            Difference::Slash
        } else if by_name && !matches!(path, "" | "/" | "/v1/" | "/v2/") {
            Difference::Path
        } else if authority.eq_ignore_ascii_case(DOCKER_HUB) && authority != DOCKER_HUB {
            Difference::Case
        } else {
            Difference::DockerHubName
        });
    }
    let (host, port) = split_port(authority);
    let (host_of_image, port_of_image) = split_port(of_image);
    if host.contains(|c: char| c.is_whitespace()) && host.trim() == host_of_image {
        return Some(Difference::NoUrl);
    }
    if host != host_of_image && !(is_glob(host) && glob_holds(host, host_of_image)) {
        if host.eq_ignore_ascii_case(host_of_image) {
            return Some(Difference::Case);
        }
        return (is_glob(host) && spans_labels(host, host_of_image)).then_some(Difference::Labels);
    }
    if port != port_of_image {
        return Some(if port.bytes().all(|b| b.is_ascii_digit()) { Difference::Port } else { Difference::NoUrl });
    }
    if scheme.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        let is_case = scheme.is_some_and(|s| matches!(s.to_ascii_lowercase().as_str(), "http" | "https"));
        return Some(if is_case { Difference::Case } else { Difference::NoUrl });
    }
    let path =
        path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/v2/")).map_or(path.to_owned(), |p| format!("/{p}"));
    if matches!(path.as_str(), "/v1" | "/v2") {
        Some(Difference::Slash)
    } else if path_of_image.starts_with(&path) {
        // It matches, as far as this can tell: the kubelet knows better.
        Some(Difference::NoUrl)
    } else if path.eq_ignore_ascii_case(&path_of_image) || starts_with_ignoring_case(&path_of_image, &path) {
        Some(Difference::Case)
    } else if path.starts_with(&path_of_image) {
        Some(Difference::LongPath)
    } else {
        Some(Difference::Path)
    }
}

/// What an entry for the image should be named: for Docker Hub as `docker login` does.
pub(crate) fn server_for(image: &Image) -> String {
    match image.name().split_once('/').map_or(image.name(), |(host, _)| host) {
        DOCKER_HUB => "https://index.docker.io/v1/".to_owned(),
        host => shown(host).to_string(),
    }
}

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "index.docker.io";

/// What people take for its name.
const DOCKER_HUB_NAMES: [&str; 11] = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.docker.io",
    "registry.hub.docker.com",
    "hub.docker.com",
    "hub.docker.io",
    "docker.com",
    "www.docker.com",
    "auth.docker.io",
    "dockerhub.com",
];

fn split_scheme(server: &str) -> (Option<&str>, &str) {
    server.split_once("://").map_or((None, server), |(scheme, rest)| (Some(scheme), rest))
}

fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    }
}

fn is_glob(host: &str) -> bool {
    host.contains(['*', '?'])
}

fn glob_holds(pattern: &str, host: &str) -> bool {
    let (mut patterns, mut labels) = (pattern.split('.'), host.split('.'));
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some(pattern), Some(label)) if image_pull_secrets::glob::matches(pattern, label) == Ok(true) => {}
            _ => return false,
        }
    }
}

/// Whether a pattern would hold the host if its first `*` stood for several labels, or for none.
fn spans_labels(pattern: &str, host: &str) -> bool {
    pattern.strip_prefix("*.").is_some_and(|rest| {
        !is_glob(rest) && (host == rest || host.strip_suffix(rest).is_some_and(|before| before.ends_with('.')))
    })
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::docker_hubs_registry("registry-1.docker.io", "nginx", Some(Difference::DockerHubName))]
    #[case::docker_hubs_page("hub.docker.com", "acme/app", Some(Difference::DockerHubName))]
    #[case::docker_hub_by_a_glob("*.docker.io", "acme/app", Some(Difference::DockerHubName))]
    #[case::docker_hub_without_its_slash("https://index.docker.io/v1", "acme/app", Some(Difference::Slash))]
    #[case::docker_hub_of_somebody_else("docker.io/other", "acme/app", Some(Difference::Path))]
    #[case::docker_hub_in_upper_case("Docker.io", "acme/app", Some(Difference::Case))]
    #[case::docker_hubs_name_for_another_registry("hub.docker.com", "ghcr.io/acme/app", None)]
    #[case::no_slash("ghcr.io/v2", "ghcr.io/acme/app", Some(Difference::Slash))]
    #[case::a_port_too_many("quay.io:443", "quay.io/acme/app", Some(Difference::Port))]
    #[case::a_port_too_few("registry.example.com", "registry.example.com:5000/app", Some(Difference::Port))]
    #[case::another_port("localhost:5001", "localhost:5000/app", Some(Difference::Port))]
    #[case::a_host_in_upper_case("GHCR.io", "ghcr.io/acme/app", Some(Difference::Case))]
    #[case::a_scheme_in_upper_case("HTTPS://ghcr.io", "ghcr.io/acme/app", Some(Difference::Case))]
    #[case::a_path_in_upper_case("ghcr.io/Acme", "ghcr.io/acme/app", Some(Difference::Case))]
    #[case::another_scheme("ftp://ghcr.io", "ghcr.io/acme/app", Some(Difference::NoUrl))]
    #[case::a_tag("ghcr.io/acme/app:1", "ghcr.io/acme/app", Some(Difference::LongPath))]
    #[case::a_path_below("ghcr.io/acme/app/web", "ghcr.io/acme/app", Some(Difference::LongPath))]
    #[case::another_path("ghcr.io/other", "ghcr.io/acme/app", Some(Difference::Path))]
    #[case::a_glob_for_two_labels("*.example.com", "a.b.example.com/app", Some(Difference::Labels))]
    #[case::a_glob_for_no_label("*.example.com", "example.com/app", Some(Difference::Labels))]
    #[case::a_space("ghcr.io ", "ghcr.io/acme/app", Some(Difference::NoUrl))]
    #[case::a_port_that_is_none("ghcr.io:*", "ghcr.io/acme/app", Some(Difference::NoUrl))]
    #[case::another_registry("quay.io", "ghcr.io/acme/app", None)]
    #[case::another_host_of_one_company("docker.pkg.github.com", "ghcr.io/acme/app", None)]
    fn says_how_an_entry_misses_an_image(
        #[case] server: &str,
        #[case] image: &str,
        #[case] expected: Option<Difference>,
    ) {
        assert_eq!(difference(server, &Image::parse(image).unwrap()), expected);
    }

    #[rstest]
    #[case::docker_hub("acme/app", "https://index.docker.io/v1/")]
    #[case::a_registry("ghcr.io/acme/app:1", "ghcr.io")]
    #[case::a_port("localhost:5000/app", "localhost:5000")]
    fn knows_what_to_name_an_entry(#[case] image: &str, #[case] expected: &str) {
        assert_eq!(server_for(&Image::parse(image).unwrap()), expected);
    }
}
