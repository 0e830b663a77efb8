//! What registries say of the credentials of a source: for which servers they are asked, what an answer means, and what follows
//! from all of them.

use crate::model::content::Content;
use crate::model::explain::problem::Problem;
use image_pull_secrets::credential::{self, Credential};
use image_pull_secrets::location::Location;
use image_pull_secrets::secret::SecretFormat;
use image_pull_secrets::settings::VerifyCredentials;
use image_pull_secrets::text::shown;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a registry says of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// It accepts it.
    Accepted,
    /// It, or the token service that it names, refuses it: 401 or 403.
    Refused,
    /// It could not be asked. Nothing follows from that.
    Unknown,
}

impl Verdict {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Unknown];

    /// Of an answer. Only a refusal is one: no network, a certificate, a limit and a fault of the registry are not.
    pub(crate) fn of(answer: Result<(), Problem>) -> Self {
        match answer {
            Ok(()) => Self::Accepted,
            Err(Problem::Refused) => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }

    /// Its name in metrics and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// What the registries said of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verification {
    /// The digest of what was verified.
    pub(crate) digest: String,
    /// When.
    pub(crate) at: Timestamp,
    /// By the server.
    pub(crate) servers: BTreeMap<String, Verdict>,
}

impl Verification {
    /// All that the registries said, as one: what is worst. `None` where there is nobody to ask.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let worst = [Verdict::Refused, Verdict::Unknown, Verdict::Accepted];
        worst.into_iter().find(|verdict| self.servers.values().any(|said| said == verdict))
    }

    /// The same, where this was said `before`. Who refused a credential, and cannot be asked now, has not accepted it.
    pub(crate) fn after(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.digest == self.digest) else { return self };
        for (server, verdict) in &mut self.servers {
            if *verdict == Verdict::Unknown && before.servers.get(server) == Some(&Verdict::Refused) {
                *verdict = Verdict::Refused;
            }
        }
        self
    }

    /// Who refuses it, in a sentence, if anybody does.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refused = self.servers.iter().filter(|(_, verdict)| **verdict == Verdict::Refused);
        let servers: Vec<_> = refused.map(|(server, _)| shown(server).to_string()).collect();
        match servers.as_slice() {
            [] => None,
            [server] => Some(format!("{server} refuses its credential: put the right one into the source")),
            servers => {
                Some(format!("{} refuse its credentials: put the right ones into the source", servers.join(", ")))
            }
        }
    }

    /// How long until the registries are asked again: 6 hours where all said something, or minutes where one refused or could
    /// not be asked, more of them with each of these `tries`. `jitter` is between 0 and 1.
    pub(crate) fn asked_again_after(&self, tries: u32, jitter: f64) -> Duration {
        let all_accept = self.servers.values().all(|verdict| *verdict == Verdict::Accepted);
        let longest = Duration::from_secs(6 * 60 * 60);
        let wait =
            if all_accept { longest } else { Duration::from_secs(30).saturating_mul(2u32.saturating_pow(tries)) };
        wait.min(if all_accept { longest } else { Duration::from_secs(10 * 60) })
            .mul_f64(0.8 + 0.2 * jitter.clamp(0.0, 1.0))
    }
}

/// What is done with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is copied.
    Copy,
    /// The registries have still to answer.
    Wait,
    /// It is held back: why, in a sentence.
    Hold(String),
}

/// What is done with a source of which the registries said this, if they have answered. Where the copies have it already
/// (`is_copied`), nothing is held back. What happens once `verifies_first`.
pub(crate) fn decide(
    mode: VerifyCredentials,
    verifies_first: bool,
    verification: Option<&Verification>,
    is_copied: bool,
) -> Decision {
    let holds = mode == VerifyCredentials::Hold && !is_copied;
    match verification {
        None if holds || verifies_first => Decision::Wait,
        None => Decision::Copy,
        Some(verification) => verification.refusal().filter(|_| holds).map_or(Decision::Copy, Decision::Hold),
    }
}

/// A credential to ask about.
pub(crate) struct Question {
    /// The server that it is for, as it is told.
    pub(crate) server: String,
    /// The host to ask.
    pub(crate) host: String,
    /// The credential.
    pub(crate) credential: Credential,
}

/// The credentials to ask registries about. Two kinds are left out: an entry whose server is a glob, because it names no single
/// host to ask, and an entry without a user, because pulling with it is anonymous.
pub(crate) fn questions_about(content: &Content) -> Vec<Question> {
    let Some(format) = SecretFormat::of_type(content.secret_type) else { return Vec::new() };
    let Some(ByteString(document)) = content.data.get(format.data_key()) else { return Vec::new() };
    let credentials = credential::credentials(format, document).unwrap_or_default();
    let questions = credentials.into_iter().filter_map(|(server, credential)| {
        let (host, path) = host_of(&server)?;
        Some(Question { server: format!("{host}{path}"), host, credential })
    });
    questions.filter(|question| !question.credential.username().is_empty()).collect()
}

/// The host that a server of a docker config stands for, as images name it, and the path behind it.
fn host_of(server: &str) -> Option<(String, String)> {
    let without_scheme = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let location = Location::parse(without_scheme).ok()?;
    let host = location.authority();
    match host {
        "index.docker.io" => Some(("docker.io".to_owned(), String::new())),
        _ if host.is_empty() || host.contains(['*', '?', '[', '\\', '@']) => None,
        _ => Some((host.to_owned(), location.path().trim_end_matches('/').to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_host("ghcr.io", Some("ghcr.io"))]
    #[case::a_port("registry.example.com:5000", Some("registry.example.com:5000"))]
    #[case::a_path("harbor.example.com/acme", Some("harbor.example.com"))]
    #[case::a_url("https://quay.io/v1/", Some("quay.io"))]
    #[case::docker_hub_as_docker_login_writes_it("https://index.docker.io/v1/", Some("docker.io"))]
    #[case::docker_hub_by_its_name("docker.io/acme", Some("docker.io"))]
    #[case::a_glob("*.dkr.ecr.*.amazonaws.com", None)]
    #[case::without_the_credential_that_stands_before_it("https://me:hunter2@ghcr.io", Some("ghcr.io"))]
    #[case::nothing("", None)]
    fn the_host_that_is_asked(#[case] server: &str, #[case] expected: Option<&str>) {
        assert_eq!(host_of(server).map(|(host, _)| host).as_deref(), expected);
    }

    #[test]
    fn nobody_is_asked_about_an_anonymous_pull() {
        let document = r#"{"auths": {
            "a.io/x": {"username": "u", "password": "p"}, "a.io/y": {"auth": "dTpw"}, "b.io": {}, "*.c.io": {"auth": "dTpw"}
        }}"#;
        let content = Content::of_docker_config(document.into()).ok().unwrap();
        let questions = questions_about(&content);
        let told: Vec<_> =
            questions.iter().map(|question| (question.server.as_str(), question.host.as_str())).collect();
        assert_eq!(told, [("a.io/x", "a.io"), ("a.io/y", "a.io")]);
    }

    fn verification(servers: &[(&str, Verdict)]) -> Verification {
        let servers = servers.iter().map(|&(server, verdict)| (server.to_owned(), verdict)).collect();
        Verification { digest: String::new(), at: Timestamp::UNIX_EPOCH, servers }
    }

    #[rstest]
    #[case::that_accept(&[("a.io", Verdict::Accepted)], None)]
    #[case::that_cannot_be_asked(&[("a.io", Verdict::Unknown)], None)]
    #[case::of_which_one_refuses(
        &[("a.io", Verdict::Accepted), ("b.io", Verdict::Refused)],
        Some("b.io refuses its credential: put the right one into the source")
    )]
    #[case::of_which_two_refuse(
        &[("a.io", Verdict::Refused), ("b.io", Verdict::Refused)],
        Some("a.io, b.io refuse its credentials: put the right ones into the source")
    )]
    fn registries(#[case] servers: &[(&str, Verdict)], #[case] expected: Option<&str>) {
        assert_eq!(verification(servers).refusal().as_deref(), expected);
    }

    #[rstest]
    #[case::cannot_be_asked_any_more(Verdict::Refused, Verdict::Unknown, Verdict::Refused)]
    #[case::accepts_it_now(Verdict::Refused, Verdict::Accepted, Verdict::Accepted)]
    #[case::accepted_it_and_cannot_be_asked_any_more(Verdict::Accepted, Verdict::Unknown, Verdict::Unknown)]
    #[case::refuses_it_now(Verdict::Accepted, Verdict::Refused, Verdict::Refused)]
    fn a_registry_that_was_asked_before(#[case] before: Verdict, #[case] now: Verdict, #[case] expected: Verdict) {
        let before = verification(&[("a.io", before)]);
        let after = verification(&[("a.io", now), ("b.io", Verdict::Unknown)]).after(Some(&before));
        assert_eq!(after, verification(&[("a.io", expected), ("b.io", Verdict::Unknown)]));
        // It is of something else that they spoke then.
        let of_another = Verification { digest: "another".to_owned(), ..before };
        let now = verification(&[("a.io", now)]);
        assert_eq!(now.clone().after(Some(&of_another)), now);
    }

    const REFUSED: Option<&[(&str, Verdict)]> = Some(&[("a.io", Verdict::Refused)]);
    const UNKNOWN: Option<&[(&str, Verdict)]> = Some(&[("a.io", Verdict::Unknown)]);

    #[rstest]
    #[case::is_copied_at_once_where_that_is_only_reported(
        VerifyCredentials::Report,
        false,
        None,
        false,
        Decision::Copy
    )]
    #[case::is_copied_where_a_refusal_is_only_reported(
        VerifyCredentials::Report,
        false,
        REFUSED,
        false,
        Decision::Copy
    )]
    #[case::waits_for_the_answer_that_may_hold_it_back(VerifyCredentials::Hold, false, None, false, Decision::Wait)]
    #[case::is_held_back_by_a_refusal(
        VerifyCredentials::Hold, false, REFUSED, false,
        Decision::Hold("a.io refuses its credential: put the right one into the source".to_owned())
    )]
    #[case::is_not_held_back_by_a_registry_that_cannot_be_asked(
        VerifyCredentials::Hold,
        false,
        UNKNOWN,
        false,
        Decision::Copy
    )]
    #[case::waits_for_nothing_where_the_copies_have_it(VerifyCredentials::Hold, false, None, true, Decision::Copy)]
    #[case::is_not_held_back_where_the_copies_have_it(VerifyCredentials::Hold, false, REFUSED, true, Decision::Copy)]
    #[case::waits_for_the_answer_where_there_is_no_later(VerifyCredentials::Report, true, None, true, Decision::Wait)]
    fn a_source(
        #[case] mode: VerifyCredentials,
        #[case] verifies_first: bool,
        #[case] servers: Option<&[(&str, Verdict)]>,
        #[case] is_copied: bool,
        #[case] expected: Decision,
    ) {
        let verification = servers.map(verification);
        assert_eq!(decide(mode, verifies_first, verification.as_ref(), is_copied), expected);
    }

    #[rstest]
    #[case::every_six_hours_while_all_is_well(Verdict::Accepted, 7, 0.5, 19_440)]
    #[case::soon_after_a_refusal(Verdict::Refused, 0, 1.0, 30)]
    #[case::later_each_time(Verdict::Unknown, 2, 1.0, 120)]
    #[case::every_ten_minutes_at_last(Verdict::Refused, 99, 1.0, 600)]
    fn they_are_asked_again(#[case] verdict: Verdict, #[case] tries: u32, #[case] jitter: f64, #[case] seconds: u64) {
        let wait = verification(&[("a.io", verdict)]).asked_again_after(tries, jitter);
        assert_eq!(wait, Duration::from_secs(seconds));
    }

    #[rstest]
    #[case::grants(Ok(()), Verdict::Accepted)]
    #[case::refuses(Err(Problem::Refused), Verdict::Refused)]
    #[case::is_not_there(Err(Problem::Unreachable), Verdict::Unknown)]
    #[case::is_broken(Err(Problem::RegistryError), Verdict::Unknown)]
    #[case::is_not_trusted(Err(Problem::Certificate), Verdict::Unknown)]
    #[case::limits(Err(Problem::RateLimit), Verdict::Unknown)]
    fn a_registry_that(#[case] answer: Result<(), Problem>, #[case] expected: Verdict) {
        assert_eq!(Verdict::of(answer), expected);
    }
}
