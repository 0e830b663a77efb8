//! The location of an image or a credential: host, port and path, as the kubelet reads them from a URL.
//!
//! Source: `ParseSchemelessURL`, `SplitURL` and `URLsMatch` in Kubernetes' `pkg/credentialprovider/keyring.go`, which
//! use Go's `net/url` and `net.SplitHostPort`. This module accepts and refuses exactly what these accept and refuse.

use crate::glob;
use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Why a text is not a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It has a character that no URL may have, such as a line break.
    #[error("has a control character")]
    ControlCharacter,
    /// It has a `%` without two hexadecimal digits behind it, or one that escapes a character that a host may not
    /// escape.
    #[error("has a '%' that escapes nothing valid")]
    Escape,
    /// It has a character that no host may have.
    #[error("has a character that no host name can have")]
    HostCharacter,
    /// Its port is not a number, or it has more than one colon.
    #[error("has a port that is not a number")]
    Port,
    /// It has brackets that do not enclose an IPv6 address.
    #[error("has brackets that hold no IPv6 address")]
    Ipv6,
    /// It has something other than a user name before the `@`.
    #[error("has an invalid user name before the '@'")]
    UserInfo,
}

/// A host with its port, and a path, both unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    authority: String,
    path: String,
}

impl Location {
    /// Reads `text`, which has no scheme: `ghcr.io/acme`, `*.example.com:5000`, `[::1]:5000/x`.
    ///
    /// # Errors
    /// [`LocationError`] if Go's `url.Parse("https://" + text)` fails.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(LocationError::ControlCharacter);
        }
        let text = text.split_once('?').map_or(text, |(before, _query)| before);
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (user, host),
            None => ("", authority),
        };
        let authority = parse_host(host)?;
        check_user(user)?;
        let path = unescape(path, |_| true)?.into_owned();
        unescape(fragment, |_| true)?;
        Ok(Self { authority, path })
    }

    /// The host with its port, as they are written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path. It is empty or begins with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this location, used as a pattern, matches `image`: the ports are equal texts, the hosts have the same
    /// number of labels and each label matches by [`glob::matches`], and the path is a prefix. A malformed glob matches
    /// nothing.
    pub fn holds(&self, image: &Location) -> bool {
        let (pattern_host, pattern_port) = split_host_port(&self.authority);
        let (host, port) = split_host_port(&image.authority);
        pattern_port == port
            && pattern_host.split('.').count() == host.split('.').count()
            && image.path.starts_with(&self.path)
            && labels_match(pattern_host, host)
    }
}

/// The locations of many images, prepared so that many patterns can be matched with them quickly. A pattern without
/// globs takes one binary search. A pattern with globs is matched once with each registry, however many images are
/// there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locations<'a> {
    /// Sorted by authority.
    registries: Vec<Registry<'a>>,
    /// The number of characters in all authorities together.
    length: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registry<'a> {
    authority: &'a str,
    labels: usize,
    /// Sorted.
    paths: Vec<&'a str>,
}

impl<'a> Locations<'a> {
    /// Prepares these locations.
    pub fn new(locations: impl Iterator<Item = &'a Location>) -> Self {
        let locations: Vec<_> = locations.collect();
        let mut authorities: Vec<_> = locations.iter().map(|location| location.authority()).collect();
        authorities.sort_unstable();
        authorities.dedup();
        let length = authorities.iter().map(|authority| authority.len()).sum();
        let registry = |authority| {
            let labels = split_host_port(authority).0.split('.').count();
            Registry { authority, labels, paths: Vec::new() }
        };
        let mut all = Self { registries: authorities.into_iter().map(registry).collect(), length };
        for location in locations {
            if let Some(at) = all.position(location.authority()) {
                all.registries[at].paths.push(location.path());
            }
        }
        all.registries.iter_mut().for_each(|registry| registry.paths.sort_unstable());
        all
    }

    fn position(&self, authority: &str) -> Option<usize> {
        self.registries.binary_search_by(|registry| registry.authority.cmp(authority)).ok()
    }

    /// The greatest number of characters that are compared to match the globs of `pattern`.
    pub fn effort(&self, pattern: &Location) -> usize {
        let is_cheap = glob::is_literal(pattern.authority());
        if is_cheap { 0 } else { self.length.saturating_mul(pattern.authority.len()) }
    }

    /// Whether `pattern` matches one of them, by the rules of [`Location::holds`].
    pub fn any_held_by(&self, pattern: &Location) -> bool {
        let (host, port) = split_host_port(&pattern.authority);
        if glob::is_literal(host) {
            // `host:` means `host`. Apart from that, two authorities are equal if their texts are.
            let authority = if port.is_empty() { host } else { &pattern.authority };
            return self.position(authority).is_some_and(|at| self.registries[at].has_below(&pattern.path));
        }
        let labels = host.split('.').count();
        self.registries.iter().any(|registry| {
            let (of_registry, its_port) = split_host_port(registry.authority);
            registry.labels == labels
                && its_port == port
                && registry.has_below(&pattern.path)
                && labels_match(host, of_registry)
        })
    }
}

impl Registry<'_> {
    /// Whether one of the paths begins with this prefix.
    fn has_below(&self, path: &str) -> bool {
        let at = self.paths.partition_point(|of_image| *of_image < path);
        self.paths.get(at).is_some_and(|of_image| of_image.starts_with(path))
    }
}

/// Matches label by label. Both have the same number of labels.
fn labels_match(pattern_host: &str, host: &str) -> bool {
    pattern_host.split('.').zip(host.split('.')).all(|(pattern, label)| glob::matches(pattern, label) == Ok(true))
}

/// As `net.SplitHostPort`. If that fails, the whole text is the host.
fn split_host_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') && !host.contains(':') => (host, port),
        Some((host, port)) => match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(host) => (host, port),
            None => (authority, ""),
        },
        None => (authority, ""),
    }
}

/// As `parseHost` of `net/url` does it for an https URL.
fn parse_host(host: &str) -> Result<String, LocationError> {
    match host.rfind('[') {
        Some(0) => {
            let close = host.rfind(']').ok_or(LocationError::Ipv6)?;
            let (literal, port) = (host.get(1..close).unwrap_or_default(), host.get(close + 1..).unwrap_or_default());
            check_port(port)?;
            let literal = match literal.split_once("%25") {
                Some((address, zone)) => format!("{}%{}", unescape_host(address)?, unescape_zone(zone)?),
                None => unescape_host(literal)?.into_owned(),
            };
            let (address, zone) = literal.split_once('%').map_or((literal.as_str(), None), |(a, z)| (a, Some(z)));
            if address.parse::<Ipv6Addr>().is_err() || zone == Some("") {
                return Err(LocationError::Ipv6);
            }
            Ok(format!("[{literal}]{port}"))
        }
        Some(_) => Err(LocationError::Ipv6),
        None => {
            check_port(host.find(':').map_or("", |colon| host.get(colon..).unwrap_or_default()))?;
            Ok(unescape_host(host)?.into_owned())
        }
    }
}

fn check_port(colon_port: &str) -> Result<(), LocationError> {
    match colon_port.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        None if colon_port.is_empty() => Ok(()),
        _ => Err(LocationError::Port),
    }
}

fn check_user(user: &str) -> Result<(), LocationError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(allowed) {
        return Err(LocationError::UserInfo);
    }
    unescape(user, |_| true).map(|_| ())
}

fn is_host_byte(b: u8) -> bool {
    b >= 0x80 || b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&b)
}

/// In a host, only bytes outside of ASCII and the percent sign itself may be escaped (RFC 3986 3.2.2, RFC 6874 2).
fn unescape_host(host: &str) -> Result<Cow<'_, str>, LocationError> {
    check_host_bytes(host)?;
    unescape(host, |b| b >= 0x80 || b == b'%')
}

fn unescape_zone(zone: &str) -> Result<Cow<'_, str>, LocationError> {
    check_host_bytes(zone)?;
    unescape(zone, |b| b == b'%' || b == b' ' || is_host_byte(b))
}

fn check_host_bytes(host: &str) -> Result<(), LocationError> {
    if host.bytes().all(|b| b == b'%' || is_host_byte(b)) { Ok(()) } else { Err(LocationError::HostCharacter) }
}

/// Unescapes `%XX`. Bytes that are not UTF-8 become U+FFFD. Image names are ASCII, so such a text matches none in any
/// case.
fn unescape(text: &str, may_escape: impl Fn(u8) -> bool) -> Result<Cow<'_, str>, LocationError> {
    let Some(first) = text.find('%') else { return Ok(Cow::Borrowed(text)) };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut out = plain.to_vec();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(LocationError::Escape) };
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(LocationError::Escape) };
        let value = high << 4 | low;
        if !may_escape(value) {
            return Err(LocationError::Escape);
        }
        out.push(value);
        rest = after;
    }
    Ok(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::the_same_host("ghcr.io", "ghcr.io/acme/app", true)]
    #[case::another_host("ghcr.io", "quay.io/acme/app", false)]
    #[case::a_path_is_a_prefix("ghcr.io/acme", "ghcr.io/acme/app", true)]
    #[case::a_path_is_a_raw_prefix("ghcr.io/acme", "ghcr.io/acme-labs/app", true)]
    #[case::another_path("ghcr.io/acme", "ghcr.io/other/app", false)]
    #[case::a_trailing_slash_ends_the_prefix("ghcr.io/acme/", "ghcr.io/acme-labs/app", false)]
    #[case::ports_are_equal("host:5000", "host:5000/x", true)]
    #[case::a_port_is_not_a_prefix("host:500", "host:5000/x", false)]
    #[case::a_missing_port_is_not_any_port("host.io", "host.io:5000/x", false)]
    #[case::ports_are_texts("host.io:443", "host.io/x", false)]
    #[case::leading_zeros_count("host.io:0443", "host.io:443/x", false)]
    #[case::a_star_is_one_label("*.example.com", "a.example.com/x", true)]
    #[case::a_star_is_not_two_labels("*.example.com", "a.b.example.com/x", false)]
    #[case::a_star_within_a_label("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/x", true)]
    #[case::a_star_in_a_path_is_a_star("ghcr.io/*", "ghcr.io/acme/app", false)]
    #[case::case_is_kept("GHCR.io", "ghcr.io/acme/app", false)]
    #[case::an_ipv6_host_with_a_port("[::1]:5000", "[::1]:5000/x", true)]
    #[case::an_ipv6_host_without_a_port_is_read_as_a_class("[::1]", "[::1]/x", false)]
    #[case::an_escaped_path("ghcr.io/ac%6De", "ghcr.io/acme/app", true)]
    #[case::a_query_is_cut("ghcr.io/acme?x=y", "ghcr.io/acme/app", true)]
    #[case::a_fragment_is_cut("ghcr.io#x", "ghcr.io/acme/app", true)]
    #[case::a_user_is_cut("me@ghcr.io", "ghcr.io/acme/app", true)]
    fn holds_as_the_kubelet_matches(#[case] pattern: &str, #[case] image: &str, #[case] expected: bool) {
        let (pattern, image) = (Location::parse(pattern).unwrap(), Location::parse(image).unwrap());
        assert_eq!(pattern.holds(&image), expected);
    }

    #[rstest]
    #[case::a_port_that_is_a_star("ghcr.io:*", LocationError::Port)]
    #[case::a_port_of_letters("ghcr.io:http", LocationError::Port)]
    #[case::two_colons("a:1:2", LocationError::Port)]
    #[case::a_space("ghcr io", LocationError::HostCharacter)]
    #[case::a_backslash("ghcr\\.io", LocationError::HostCharacter)]
    #[case::a_class("[ab].io", LocationError::Port)]
    #[case::a_class_further_on("x.[ab]", LocationError::Ipv6)]
    #[case::brackets_round_a_name("[ghcr]", LocationError::Ipv6)]
    #[case::brackets_round_an_ipv4_address("[127.0.0.1]", LocationError::Ipv6)]
    #[case::an_unfinished_escape("ghcr.io/%2", LocationError::Escape)]
    #[case::an_escaped_letter_in_the_host("%67hcr.io", LocationError::Escape)]
    #[case::a_line_break("ghcr.io\n", LocationError::ControlCharacter)]
    #[case::a_bad_user("a b@ghcr.io", LocationError::UserInfo)]
    fn refuses_what_go_refuses(#[case] text: &str, #[case] expected: LocationError) {
        assert_eq!(Location::parse(text), Err(expected));
    }

    proptest! {
        #[test]
        fn many_are_held_as_one_by_one(
            pattern in "[ab*?.]{0,4}(:[12]?)?(/[ab/]{0,3})?",
            images in prop::collection::vec("([ab.]{1,4}|\\[::1\\])(:[12])?/[ab/]{1,3}", 0..5),
        ) {
            let images: Vec<_> = images.iter().map(|image| Location::parse(image).unwrap()).collect();
            if let Ok(pattern) = Location::parse(&pattern) {
                let one_by_one = images.iter().any(|image| pattern.holds(image));
                prop_assert_eq!(Locations::new(images.iter()).any_held_by(&pattern), one_by_one);
            }
        }

        #[test]
        fn nothing_panics(text in ".{0,24}", other in "[\\[\\]:%@#?/a-f0-9.*]{0,16}") {
            if let (Ok(a), Ok(b)) = (Location::parse(&text), Location::parse(&other)) {
                let _ = (a.holds(&b), b.holds(&a));
            }
        }
    }
}
