//! Sources that are programs: the kubelet's credential provider plugins. Each is asked for its images one after the other, and
//! asked again before its answer is old. What a failure leaves untouched is what the last answer gave.

mod process;

use crate::cluster::answers::{Answers, Recorded};
use crate::cluster::backoff::Backoff;
use crate::cluster::watch::Report;
use crate::model::content::{Content, Unusable};
use crate::model::plan::SourceState;
use crate::model::provider::{self, Answer, Credential};
use crate::model::refresh::{self, Asked, Times};
use image_pull_secrets::secret::SecretFormat;
use image_pull_secrets::settings::Exec;
use image_pull_secrets::text::shown;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use process::Program;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// How long a provider may take for one image, as with the kubelet.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long it sleeps at a time, so that it wakes in time also where the machine slept meanwhile.
const NAP: Duration = Duration::from_secs(60);

/// What a provider finds in its environment of that of the generator's Pod: where programs and certificates are, proxies …
const PASSED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// … and what the libraries of the clouds look for.
const PREFIXES_PASSED_ON: [&str; 4] = ["AWS_", "AZURE_", "GOOGLE_", "GCE_"];

/// What may be done to have an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The provider is asked when that is due, and the last answer is used meanwhile.
    WhenDue,
    /// The same, but nothing is reported before an answer that is due has been asked for: what happens once has no later.
    Once,
    /// As once, and the answer is not remembered: what only tries leaves nothing behind.
    Try,
    /// No provider is asked: only what is remembered counts.
    Never,
}

/// A provider, and what is remembered of it.
pub(crate) struct Provider {
    /// The secret that it is the source of.
    pub(crate) secret: String,
    /// What it is asked.
    pub(crate) exec: Exec,
    /// Where programs may be run from, if anywhere.
    pub(crate) directory: Option<PathBuf>,
    /// Where its answers are remembered.
    pub(crate) answers: Answers,
    /// What may be done to have an answer.
    pub(crate) asking: Asking,
}

/// An answer that counts.
struct Last {
    content: Arc<Content>,
    credentials: BTreeMap<String, Credential>,
    /// `None` for one that was to have more in it.
    times: Option<Times>,
}

impl Provider {
    /// Reports what it answers, from now on.
    pub(crate) async fn follow(self, reports: Sender<Report>) {
        // `None` once nobody wants the reports any more.
        let _ = self.report_to(&reports).await;
    }

    async fn report_to(&self, reports: &Sender<Report>) -> Option<()> {
        let mut last = self.recall().await;
        if let Some(Last { times: Some(times), .. }) = &last
            && (matches!(self.asking, Asking::WhenDue | Asking::Never) || !wait_for(last.as_ref()).is_zero())
        {
            self.report(last.as_ref(), Asked::Recalled(*times), reports).await?;
        }
        if self.asking == Asking::Never {
            if last.is_none() {
                let why = "no answer of it is recorded that a copy still has".to_owned();
                self.report(None, Asked::Failed(why), reports).await?;
            }
            return Some(());
        }
        let mut retries = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
        loop {
            while !wait_for(last.as_ref()).is_zero() {
                tokio::time::sleep(wait_for(last.as_ref()).min(NAP)).await;
            }
            let (answers, mut failures) = self.ask().await;
            match self.made_of(answers, last.as_ref(), !failures.is_empty()) {
                Ok(Some(new)) => last = Some(new),
                Ok(None) => {}
                Err(fault) => failures.push(fault.to_string()),
            }
            match &last {
                Some(Last { content, times: Some(times), .. }) if failures.is_empty() => {
                    retries.reset();
                    self.report(last.as_ref(), Asked::Answered(*times), reports).await?;
                    self.remember(content, *times).await;
                }
                _ => {
                    self.report(last.as_ref(), Asked::Failed(failures.join("; ")), reports).await?;
                    tokio::time::sleep(retries.next().unwrap_or(NAP)).await;
                }
            }
        }
    }

    /// Reports the answer that counts, and what came of asking for it.
    async fn report(&self, last: Option<&Last>, asked: Asked, reports: &Sender<Report>) -> Option<()> {
        let state = match (last, &asked) {
            (Some(last), _) => Some(SourceState::Ready(last.content.clone())),
            (None, Asked::Failed(why)) => Some(SourceState::Unusable(Unusable::Provider(why.clone()))),
            (None, _) => None,
        };
        if let Some(state) = state {
            reports.send(Report::Source(self.secret.clone(), state)).await.ok()?;
        }
        reports.send(Report::Asked(self.secret.clone(), asked)).await.ok()
    }

    /// Asks for one image after the other. Gives the answers, and a sentence about each failure.
    async fn ask(&self) -> (Vec<Answer>, Vec<String>) {
        let exec = &self.exec;
        if let Err(why) = may_run(&exec.command, self.directory.as_deref()) {
            return (Vec::new(), vec![why]);
        }
        let program = Program {
            command: exec.command.clone(),
            args: exec.args.clone(),
            env: environment(std::env::vars_os(), &exec.env),
        };
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for image in &exec.images {
            let printed = program.run(&provider::request(image), LIMIT).await;
            let answer = printed
                .map_err(|failure| failure.to_string())
                .and_then(|printed| Answer::parse(&printed).map_err(|fault| fault.to_string()));
            match answer {
                Ok(answer) => {
                    if answer.empty > 0 {
                        let (empty, secret) = (answer.empty, &self.secret);
                        tracing::debug!(secret, image, empty, "credentials without user and password are left out");
                    }
                    answers.push(answer);
                }
                Err(why) => failures.push(format!("asked for {}, {why}", shown(image))),
            }
        }
        (answers, failures)
    }

    /// What these answers make together, if there are any.
    fn made_of(&self, answers: Vec<Answer>, last: Option<&Last>, failed: bool) -> Result<Option<Last>, Unusable> {
        if answers.is_empty() {
            return Ok(None);
        }
        let durations: Vec<_> = answers.iter().map(|answer| answer.cache_duration).collect();
        let nothing = BTreeMap::new();
        let credentials = provider::merged(last.map_or(&nothing, |last| &last.credentials), answers, failed);
        let content = Arc::new(Content::of_docker_config(provider::docker_config(&credentials))?);
        let times = (!failed).then(|| {
            let holds_for = refresh::holds_for(durations, self.exec.default_cache_duration);
            Times::of(Timestamp::now(), holds_for, rand::random())
        });
        Ok(Some(Last { content, credentials, times }))
    }

    async fn recall(&self) -> Option<Last> {
        let recalled = self.answers.recall(&self.secret, &self.exec).await.unwrap_or_else(|error| {
            tracing::warn!(secret = self.secret, "what the provider answered before is not known: {error:#}");
            None
        });
        let (content, times) = recalled?;
        let document = content.data.get(SecretFormat::DockerConfigJson.data_key());
        let credentials = document.map(|ByteString(document)| provider::credentials_of(document)).unwrap_or_default();
        Some(Last { content: Arc::new(content), credentials, times: Some(times) })
    }

    async fn remember(&self, content: &Content, times: Times) {
        if self.asking == Asking::Try {
            return;
        }
        let recorded = Recorded::of(&self.exec, content.digest, times);
        if let Err(error) = self.answers.remember(&self.secret, recorded).await {
            tracing::warn!(secret = self.secret, "the provider will be asked again after a restart: {error:#}");
        }
    }
}

/// How long until the provider is to be asked.
fn wait_for(last: Option<&Last>) -> Duration {
    last.and_then(|last| last.times).map_or(Duration::ZERO, |times| refresh::wait(times.due, Timestamp::now()))
}

/// Whether a program may be run: one of those that the administrator brought for that, and no other. Who writes the settings
/// need not be who installed the generator.
fn may_run(command: &str, directory: Option<&Path>) -> Result<(), String> {
    let Some(directory) = directory else {
        let remedy = "say where its program is, by --credential-providers (generator.credentialProviders of the chart)";
        return Err(format!("no credential provider may be run: {remedy}"));
    };
    let stays = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    match Path::new(command).strip_prefix(directory) {
        Ok(path) if path.components().next().is_some() && stays(path) => Ok(()),
        _ => Err(format!(
            "{} is not in {}, where credential providers are run from",
            shown(command),
            directory.display()
        )),
    }
}

/// All of a provider's environment: what it needs of that of this process, and what the settings give it.
fn environment(
    own: impl Iterator<Item = (OsString, OsString)>,
    given: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let is_passed_on =
        |name: &str| PASSED_ON.contains(&name) || PREFIXES_PASSED_ON.iter().any(|prefix| name.starts_with(prefix));
    let own = own.filter(|(name, _)| name.to_str().is_some_and(is_passed_on));
    own.chain(given.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_program("/credential-providers/ecr", true)]
    #[case::one_further_down("/credential-providers/ecr/provider", true)]
    #[case::the_directory("/credential-providers", false)]
    #[case::one_beside_it("/credential-providers-2/ecr", false)]
    #[case::one_elsewhere("/bin/sh", false)]
    #[case::one_elsewhere_by_way_of_it("/credential-providers/../bin/sh", false)]
    fn only_what_is_there_for_it_is_run(#[case] command: &str, #[case] expected: bool) {
        let answer = may_run(command, Some(Path::new("/credential-providers")));
        assert_eq!(answer.is_ok(), expected, "{answer:?}");
        assert!(may_run(command, None).unwrap_err().starts_with("no credential provider may be run: say where"));
    }

    #[test]
    fn a_provider_has_an_environment_of_its_own() {
        let own = [
            ("PATH", "/bin"),
            ("AWS_ROLE_ARN", "arn"),
            ("AWS_REGION", "us-east-1"),
            ("AZURE_CLIENT_ID", "id"),
            ("DOCKERCONFIGJSON", "hunter2"),
            ("GENERATOR_POLICY", "p"),
            ("https_proxy", "http://proxy:3128"),
        ];
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        let environment = environment(own, &[("AWS_REGION".to_owned(), "eu-central-1".to_owned())]);
        let told: Vec<String> =
            environment.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
        // Of two of a name, the last counts.
        let expected = [
            "PATH=/bin",
            "AWS_ROLE_ARN=arn",
            "AWS_REGION=us-east-1",
            "AZURE_CLIENT_ID=id",
            "https_proxy=http://proxy:3128",
            "AWS_REGION=eu-central-1",
        ];
        assert_eq!(told, expected);
    }
}
