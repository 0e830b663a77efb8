//! What is in the way of a pull, told from the text of whoever tried: the container runtime's message, or a registry's answer.

use image_pull_secrets::text::shown;
use std::fmt;

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    /// 401 or 403.
    Refused,
    /// 404, or a manifest that is not known.
    NoSuchImage,
    /// 429.
    RateLimit,
    /// The certificate is not trusted, or not the host's.
    Certificate,
    /// The host has no address.
    HostName,
    /// No connection, or none in time.
    Unreachable,
    /// 5xx.
    RegistryError,
    /// The image is not for this sort of Node.
    Platform,
    /// The Node has no room.
    DiskFull,
    /// A listed Secret does not parse.
    MalformedSecret,
    /// The image's name is none.
    ImageName,
    /// The Node lacks the image, or the Pod a credential for it, and the Pod says not to pull.
    NeverPull,
    /// Something else.
    Other,
}

/// The reasons for which a container waits that are about its image.
const REASONS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// What texts say, in lower case; the first that is found counts. The order matters: a message of a refusal may well speak
/// of the token that could not be fetched, and one of a certificate of the connection that failed.
const TEXTS: [(Problem, &[&str]); 9] = [
    (Problem::RateLimit, &["toomanyrequests", "too many requests", "rate limit", "429"]),
    (Problem::Certificate, &["x509", "certificate", "tls: ", "server gave http response to https client"]),
    (
        Problem::HostName,
        &["no such host", "name resolution", "dns error", "server misbehaving", "failed to lookup address"],
    ),
    (
        Problem::Refused,
        &[
            "unauthorized",
            "authentication required",
            "authorization failed",
            "forbidden",
            "denied",
            "no basic auth credentials",
            "insufficient_scope",
            "401",
            "403",
        ],
    ),
    (
        Problem::Unreachable,
        &[
            "connection refused",
            "i/o timeout",
            "deadline exceeded",
            "network is unreachable",
            "no route to host",
            "connection reset",
            "client.timeout",
            "error trying to connect",
            "timed out",
        ],
    ),
    (Problem::Platform, &["no match for platform", "no matching manifest", "exec format"]),
    (
        Problem::NoSuchImage,
        &["not found", "manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "404"],
    ),
    (Problem::DiskFull, &["no space left on device", "disk pressure"]),
    (
        Problem::RegistryError,
        &[
            "500 internal",
            "502 bad",
            "503 service",
            "504 gateway",
            "unexpected status code 5",
            "unexpected status: 5",
            "internal server error",
            "service unavailable",
            "bad gateway",
        ],
    ),
];

impl Problem {
    /// What a waiting container's reason and message say, or `None` where it does not wait for its image.
    pub(crate) fn of_waiting(reason: &str, message: &str) -> Option<Self> {
        match reason {
            "InvalidImageName" => Some(Self::ImageName),
            "ErrImageNeverPull" => Some(Self::NeverPull),
            reason if REASONS.contains(&reason) => Some(Self::of_message(message)),
            // Where a listed Secret does not parse, the parser's own error stands where the reason should.
            reason if reason.contains(' ') && is_of_the_parser(reason) => Some(Self::MalformedSecret),
            _ => None,
        }
    }

    /// What a message of the container runtime says.
    pub(crate) fn of_message(message: &str) -> Self {
        let message = without_names(message).to_ascii_lowercase();
        let says = |texts: &[&str]| texts.iter().any(|text| holds(&message, text));
        TEXTS.iter().find(|(_, texts)| says(texts)).map_or(Self::Other, |&(problem, _)| problem)
    }

    /// What an HTTP status of a registry says, or `None` for one that grants.
    pub(crate) fn of_status(code: u16) -> Option<Self> {
        match code {
            ..=399 => None,
            401 | 403 => Some(Self::Refused),
            404 => Some(Self::NoSuchImage),
            429 => Some(Self::RateLimit),
            500.. => Some(Self::RegistryError),
            _ => Some(Self::Other),
        }
    }

    /// One word for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoSuchImage => "noSuchImage",
            Self::RateLimit => "rateLimit",
            Self::Certificate => "certificate",
            Self::HostName => "hostName",
            Self::Unreachable => "unreachable",
            Self::RegistryError => "registryError",
            Self::Platform => "platform",
            Self::DiskFull => "diskFull",
            Self::MalformedSecret => "malformedSecret",
            Self::ImageName => "imageName",
            Self::NeverPull => "neverPull",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the registry refuses access",
            Self::NoSuchImage => "the registry has no such image, or hides it from whoever asked",
            Self::RateLimit => "the registry limits how often one may pull, and the limit is reached",
            Self::Certificate => "the registry's certificate is not trusted",
            Self::HostName => "the registry's host name cannot be resolved",
            Self::Unreachable => "the registry cannot be reached",
            Self::RegistryError => "the registry answers with an error of its own",
            Self::Platform => "the image does not exist for the platform of the Node",
            Self::DiskFull => "the Node has no room for the image",
            Self::MalformedSecret => "the kubelet cannot parse a Secret that the Pod lists",
            Self::ImageName => "the image's name is not valid",
            Self::NeverPull => "the image is not there for this Pod, and its imagePullPolicy is Never",
            Self::Other => "the pull fails for another reason",
        })
    }
}

/// Errors of Go's `encoding/json` and `encoding/base64`, and of the kubelet's own reading of `auth`.
fn is_of_the_parser(reason: &str) -> bool {
    ["json: ", "illegal base64 data", "unable to parse auth field", "invalid character", "unexpected end of JSON input"]
        .iter()
        .any(|text| reason.contains(text))
}

/// A code counts as a word of its own only: `1403` is none, and neither is a part of a digest.
fn holds(message: &str, text: &str) -> bool {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return message.contains(text);
    }
    message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == text)
}

/// The message without what stands in quotes or is a URL or an image: names may hold any word.
fn without_names(message: &str) -> String {
    let outside = message.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let is_name = |word: &str| word.contains('/') && !word.starts_with("i/o");
    outside.split_whitespace().filter(|word| !is_name(word)).collect::<Vec<_>>().join(" ")
}

/// What a message says, for people: one line, and without the queries of URLs, which may hold a signature. Of a long one the
/// end, where the reason stands: runtimes begin with the image and their own calls.
pub(crate) fn quoted(message: &str) -> String {
    let without_query = |word: &str| match word.split_once('?') {
        Some((before, _)) if word.contains("://") => format!("{}?…", shown(before)),
        _ => shown(word).to_string(),
    };
    let text = message.split_whitespace().map(without_query).collect::<Vec<_>>().join(" ");
    match text.chars().count().checked_sub(LONGEST) {
        None | Some(0) => text,
        Some(more) => format!("…{}", text.chars().skip(more).collect::<String>()),
    }
}

/// The most characters of a message that are shown.
const LONGEST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::containerd_without_a_credential(
        r#"failed to pull and unpack image "ghcr.io/acme/app:1": failed to resolve reference "ghcr.io/acme/app:1": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=repository%3Aacme%2Fapp%3Apull&service=ghcr.io: 401 Unauthorized"#,
        Problem::Refused
    )]
    #[case::docker_hub_without_a_credential(
        r#"failed to pull and unpack image "docker.io/acme/app:latest": failed to resolve reference "docker.io/acme/app:latest": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"#,
        Problem::Refused
    )]
    #[case::forbidden(
        r#"failed to resolve reference "r.io/a:1": unexpected status from HEAD request to https://r.io/v2/a/manifests/1: 403 Forbidden"#,
        Problem::Refused
    )]
    #[case::no_such_tag(
        r#"rpc error: code = NotFound desc = failed to pull and unpack image "ghcr.io/acme/app:2": failed to resolve reference "ghcr.io/acme/app:2": ghcr.io/acme/app:2: not found"#,
        Problem::NoSuchImage
    )]
    #[case::cri_o_without_the_manifest(
        "reading manifest nope in quay.io/acme/app: manifest unknown: manifest unknown",
        Problem::NoSuchImage
    )]
    #[case::docker_hubs_limit(
        r#"failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/nginx/manifests/sha256:401f: 429 Too Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit."#,
        Problem::RateLimit
    )]
    #[case::an_authority_that_is_not_known(
        r#"failed to do request: Head "https://r.example.com/v2/a/manifests/1": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
        Problem::Certificate
    )]
    #[case::no_host(
        r#"failed to do request: Head "https://r.exampel.com/v2/a/manifests/1": dial tcp: lookup r.exampel.com on 10.96.0.10:53: no such host"#,
        Problem::HostName
    )]
    #[case::a_firewall(
        r#"failed to do request: Head "https://r.example.com/v2/a/manifests/1": dial tcp 192.0.2.1:443: i/o timeout"#,
        Problem::Unreachable
    )]
    #[case::a_registry_out_of_order(
        r#"unexpected status from HEAD request to https://r.example.com/v2/a/manifests/1: 503 Service Unavailable"#,
        Problem::RegistryError
    )]
    #[case::another_platform("no match for platform in manifest: not found", Problem::Platform)]
    #[case::a_full_disk("failed to extract layer: write /x: no space left on device", Problem::DiskFull)]
    #[case::an_image_with_such_a_name(
        r#"failed to resolve reference "r.io/unauthorized/denied-401:1": r.io/unauthorized/denied-401:1: not found"#,
        Problem::NoSuchImage
    )]
    #[case::a_digest_with_such_digits("layer sha256:40142913 is broken", Problem::Other)]
    #[case::the_test_kubelets(
        r#"GET https://r1.example.com/v2/acme/app/manifests/1: UNAUTHORIZED: authentication required; []"#,
        Problem::Refused
    )]
    fn a_message_says_what_is_in_the_way(#[case] message: &str, #[case] expected: Problem) {
        assert_eq!(Problem::of_message(message), expected);
        assert_eq!(Problem::of_waiting("ErrImagePull", message), Some(expected));
    }

    #[rstest]
    #[case::a_name_that_is_none("InvalidImageName", "", Some(Problem::ImageName))]
    #[case::never("ErrImageNeverPull", "", Some(Problem::NeverPull))]
    #[case::the_parser(
        "unable to parse auth field, must be formatted as base64(username:password)",
        "",
        Some(Problem::MalformedSecret)
    )]
    #[case::the_parser_of_base64("illegal base64 data at input byte 4", "", Some(Problem::MalformedSecret))]
    #[case::something_else("ContainerCreating", "", None)]
    #[case::a_crash("CrashLoopBackOff", "back-off 5m0s restarting failed container", None)]
    fn a_reason_says_whether_it_is_about_the_image(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] expected: Option<Problem>,
    ) {
        assert_eq!(Problem::of_waiting(reason, message), expected);
    }

    #[test]
    fn a_message_is_quoted_without_what_may_be_secret() {
        let message = "failed open: https://s3.example.com/layer?X-Amz-Signature=hunter2\nnext: 403";
        assert_eq!(quoted(message), "failed open: https://s3.example.com/layer?… next: 403");
        assert_eq!(quoted(&format!("é{}", " é".repeat(150))), format!("…{}", " é".repeat(150)));
    }
}
