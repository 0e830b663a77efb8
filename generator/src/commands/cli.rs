//! The command line.

use crate::commands::plugin::{Name, as_plugin};
use crate::engine::settings_source::SettingsSource;
use crate::model::label_selector::parse_selector;
use crate::model::ownership::{MANAGED_BY_LABEL, SOURCE_ANNOTATION};
use clap::builder::StyledStr;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use image_pull_secrets::glob;
use image_pull_secrets::settings::is_label_value;
use image_pull_secrets::settings::is_qualified_name;
use k8s_openapi::jiff::SignedDuration;
use kube::core::Selector;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Copies image pull Secrets into every selected namespace, keeps the copies equal to their source, and makes ServiceAccounts
/// refer to them.
#[derive(Debug, Parser)]
#[command(name = "image-pull-secrets-generator", version, about, max_term_width = 120)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line. If it is wrong or asks for help, this prints the message and ends the process.
    pub(crate) fn read(name: Name) -> Self {
        let command = if name == Name::Plugin { as_plugin(command()) } else { command() };
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// The command line, as clap knows it.
pub(crate) fn command() -> clap::Command {
    in_sentences(Cli::command().mut_subcommands(in_sentences))
}

/// Ends each help text with a full stop, because clap removes it from texts of one paragraph.
fn in_sentences(command: clap::Command) -> clap::Command {
    let sentence = |help: &StyledStr| format!("{}.", help.to_string().trim_end_matches('.'));
    let about = command.get_about().map(sentence);
    let command = command.mut_args(|argument| match argument.get_help().map(sentence) {
        Some(help) => argument.help(help),
        None => argument,
    });
    match about {
        Some(about) => command.about(about),
        None => command,
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes the copies, and the references of ServiceAccounts to them, and keeps them as the settings want them.
    Run(RunArgs),
    /// Shows the state of every secret in every namespace. Exits with 1 when something is not as the settings want it.
    Status(StatusArgs),
    /// Removes every copy and every reference that the generator made.
    Cleanup(CleanupArgs),
    /// Explains why a Pod pulls its images, or why it does not. Exits with 0 when it pulls, with 1 when it does not, and
    /// with 2 when that cannot be found out.
    Explain(ExplainArgs),
    /// Checks a settings file, and prints everything that is wrong with it. Needs no cluster. Exits with 1 when it is not
    /// valid.
    Validate(ValidateArgs),
}

impl Command {
    /// How it logs.
    pub(crate) fn log(&self) -> &LogArgs {
        match self {
            Self::Run(args) => &args.common.log,
            Self::Status(args) => &args.common.log,
            Self::Cleanup(args) => &args.common.log,
            Self::Explain(args) => &args.log,
            Self::Validate(args) => &args.log,
        }
    }
}

/// Where the cluster is.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Uses this kubeconfig file. Without it the configuration is found as kubectl finds it: $KUBECONFIG, then
    /// ~/.kube/config, then the ServiceAccount of the Pod.
    #[arg(long, value_name = "FILE", env = "GENERATOR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Uses this context of the kubeconfig instead of its current one.
    #[arg(long, value_name = "NAME", env = "GENERATOR_CONTEXT")]
    pub context: Option<String>,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Where the settings are.
    #[command(flatten)]
    pub settings: SettingsArgs,

    /// Where the cluster is.
    #[command(flatten)]
    pub connection: ConnectionArgs,

    /// Works only on namespaces with these labels, written as for `kubectl --selector`. cleanup removes nothing from other
    /// namespaces. With --policy, the namespaceSelector of the policy has to match as well, except for cleanup.
    #[arg(long, value_name = "SELECTOR", env = "GENERATOR_NAMESPACE_SELECTOR", value_parser = parse_selector)]
    pub namespace_selector: Option<Selector>,

    /// Uses the Lease in this namespace. In a Pod, the default is the Pod's namespace. Outside of the cluster, `run` uses the
    /// namespace of the kubeconfig's context; the other commands first look for the generator's Lease in all namespaces.
    #[arg(long, value_name = "NAMESPACE", env = "GENERATOR_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Uses the Lease of this name. The default is image-pull-secrets-generator. The Lease also records what the settings
    /// have selected so far, so that it can be removed later.
    #[arg(long, value_name = "NAME", env = "GENERATOR_LEASE_NAME")]
    pub lease_name: Option<String>,

    /// Gives every copy this label, in addition to the generator's own. You can give it several times; in the environment
    /// variable, write one on each line. Labels of the source are never copied.
    #[arg(
        long = "copy-label", value_name = "KEY=VALUE", env = "GENERATOR_COPY_LABELS",
        value_delimiter = '\n', value_parser = parse_label
    )]
    pub copy_labels: Vec<(String, String)>,

    /// Gives every copy this annotation, in addition to the generator's own. Write it as for --copy-label.
    #[arg(
        long = "copy-annotation", value_name = "KEY=VALUE", env = "GENERATOR_COPY_ANNOTATIONS",
        value_delimiter = '\n', value_parser = parse_annotation
    )]
    pub copy_annotations: Vec<(String, String)>,

    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How every command logs.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Logs only messages of this level or a more important one.
    #[arg(long, value_name = "LEVEL", env = "GENERATOR_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// Writes log lines in this format. They go to standard error.
    #[arg(long, value_name = "FORMAT", env = "GENERATOR_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Where the settings are. At most one of the two is given.
#[derive(Debug, Args)]
#[group(required = false, multiple = false)]
pub(crate) struct SettingsArgs {
    /// Reads the settings from this file, YAML or JSON. It is read again when it changes.
    #[arg(long, value_name = "FILE", env = "GENERATOR_SETTINGS")]
    pub settings: Option<PathBuf>,

    /// Reads the settings from the ClusterAdmissionPolicy of this name in the cluster, and works only on namespaces that its
    /// namespaceSelector selects. The policy is watched, so that policy and generator always have the same settings.
    #[arg(long, value_name = "NAME", env = "GENERATOR_POLICY")]
    pub policy: Option<String>,
}

impl SettingsArgs {
    /// Where the settings are. `None` if the arguments do not say.
    pub(crate) fn source(&self) -> Option<SettingsSource> {
        match (&self.settings, &self.policy) {
            (Some(file), _) => Some(SettingsSource::File(file.clone())),
            (None, Some(policy)) => Some(SettingsSource::Policy(policy.clone())),
            (None, None) => None,
        }
    }
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Does everything once and exits, with 1 if something could not be done. It takes no Lease.
    #[arg(long, env = "GENERATOR_ONCE", conflicts_with = "interval")]
    pub once: bool,

    /// Lists everything again this often, in addition to watching. An example is 10m. By default it only watches.
    #[arg(long, value_name = "DURATION", env = "GENERATOR_INTERVAL", value_parser = parse_duration)]
    pub interval: Option<Duration>,

    /// Prints what would be done now, and exits without doing it.
    #[arg(long, env = "GENERATOR_DRY_RUN")]
    pub dry_run: bool,

    /// Deletes the copies of a source Secret that was deleted. By default they stay.
    #[arg(long, env = "GENERATOR_DELETE_WITH_SOURCE")]
    pub delete_with_source: bool,

    /// Trusts the certificates in this PEM file as well when it asks registries about credentials (verifyCredentials).
    #[arg(long, value_name = "FILE", env = "GENERATOR_REGISTRY_CA")]
    pub registry_ca: Option<PathBuf>,

    /// Runs the programs of settings with source.exec if they are in this directory, and no other programs. By default it
    /// runs none.
    #[arg(long, value_name = "DIRECTORY", env = "GENERATOR_CREDENTIAL_PROVIDERS")]
    pub credential_providers: Option<PathBuf>,

    /// Evicts Pods that cannot pull an image because they are older than the reference to the secret. Each Pod is evicted
    /// once, and only if it has not started and has a controller. A PodDisruptionBudget does not prevent it, because such a
    /// Pod already counts as unavailable. By default such Pods are left alone.
    #[arg(long, env = "GENERATOR_RESTART_STUCK_PODS", conflicts_with = "once")]
    pub restart_stuck_pods: bool,

    /// Writes to at most this many namespaces at the same time.
    #[arg(long, value_name = "NUMBER", env = "GENERATOR_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// Writes without holding the Lease. Use this only if a single process runs. By default, only the replica that holds
    /// the Lease writes.
    #[arg(long, env = "GENERATOR_NO_LEADER_ELECT")]
    pub no_leader_elect: bool,

    /// Serves /healthz, /readyz and /metrics at this address. [::] means all addresses of IPv6 and IPv4; if the kernel has
    /// no IPv6, it means 0.0.0.0. With --once and --dry-run, nothing is served.
    #[arg(long, value_name = "ADDRESS", env = "GENERATOR_LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// What every command takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Prints a table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,

    /// Shows only namespaces whose name matches this glob pattern. You can give it several times.
    #[arg(long, value_name = "PATTERN", value_parser = parse_pattern)]
    pub namespace: Vec<String>,

    /// Shows only secrets whose name matches this glob pattern. You can give it several times.
    #[arg(long, value_name = "PATTERN", value_parser = parse_pattern)]
    pub secret: Vec<String>,
}

/// `cleanup`.
#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// What every command takes. The settings can be left out, because the Lease records which secrets were copied.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Prints what would be removed, and exits without removing it.
    #[arg(long)]
    pub dry_run: bool,

    /// Does not ask before it removes. You need this if standard input is not a terminal.
    #[arg(long)]
    pub yes: bool,

    /// Also removes references to removed copies if the generator did not add them, such as those that the policy added. By
    /// default they stay, because somebody may have added them by hand.
    #[arg(long)]
    pub all_references: bool,
}

/// `explain`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["target", "image", "filename", "all"]))]
pub(crate) struct ExplainArgs {
    /// Explains this object: pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME, job/NAME,
    /// cronjob/NAME or serviceaccount/NAME. A name alone is that of a Pod.
    #[arg(value_name = "KIND/NAME")]
    pub target: Option<String>,

    /// Explains what would happen to a Pod with this image and no imagePullSecrets of its own.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,

    /// Uses this ServiceAccount for the Pod of --image. The default is the ServiceAccount named default.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["target", "filename", "all"])]
    pub service_account: Option<String>,

    /// Explains the Pods of the manifests in this file. They need not be in the cluster. Write - for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub filename: Option<PathBuf>,

    /// Explains every Pod that waits for an image. Pods with the same problem are shown together, the problem of most Pods
    /// first.
    #[arg(short = 'A', long, visible_alias = "all-namespaces")]
    pub all: bool,

    /// Looks in this namespace. The default is the namespace of the kubeconfig's context, or with --all, every namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Asks the registries, from this machine, if they would give each image to the kubelet. It tries the same credentials
    /// in the same order.
    #[arg(long = "try")]
    pub try_registry: bool,

    /// Trusts the certificates in this PEM file as well, for --try.
    #[arg(long, value_name = "FILE", requires = "try_registry")]
    pub registry_ca: Option<PathBuf>,

    /// Prints text for people, or JSON for programs.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ExplainOutput,

    /// Where the settings are. By default they are read from the policy in the cluster.
    #[command(flatten)]
    pub settings: SettingsArgs,

    /// Where the cluster is.
    #[command(flatten)]
    pub connection: ConnectionArgs,

    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How `explain` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Reads the settings from this file, YAML or JSON.
    #[arg(long, value_name = "FILE", env = "GENERATOR_SETTINGS")]
    pub settings: PathBuf,

    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Failures that are not tried again.
    Error,
    /// Failures that are tried again, and obstacles.
    Warn,
    /// Also one line for each write.
    Info,
    /// Also what was retried.
    Debug,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// How `status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = parse_pair(text, MANAGED_BY_LABEL)?;
    if is_label_value(&value) {
        Ok((key, value))
    } else {
        Err("a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with one of the first two".to_owned())
    }
}

fn parse_annotation(text: &str) -> Result<(String, String), String> {
    parse_pair(text, SOURCE_ANNOTATION)
}

fn parse_pair(text: &str, own: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if !is_qualified_name(key) {
        return Err("the key must be a name, perhaps behind a DNS name and '/'".to_owned());
    }
    if key == own { Err(format!("{own} is the generator's own")) } else { Ok((key.to_owned(), value.to_owned())) }
}

fn parse_pattern(text: &str) -> Result<String, String> {
    glob::check(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<SignedDuration>().map_err(|error| format!("{error}; write 90s, 10m or 1h30m"))?;
    let duration = Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())?;
    if duration < Duration::from_secs(1) { Err("must be at least 1s".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_help_text_is_a_sentence() {
        assert!(command().get_about().unwrap().to_string().ends_with('.'));
        for subcommand in command().get_subcommands() {
            let arguments = subcommand.get_arguments().filter(|argument| !argument.get_id().as_str().eq("help"));
            let texts = arguments.map(|argument| (argument.get_id().as_str(), argument.get_help()));
            for (name, text) in texts.chain([(subcommand.get_name(), subcommand.get_about())]) {
                let text = text.map(ToString::to_string).unwrap_or_default();
                assert!(text.starts_with(char::is_uppercase) && text.ends_with('.'), "{name}: {text:?}");
                assert!(text.split_whitespace().count() >= 5, "{name}: {text:?}");
            }
        }
    }

    #[rstest]
    #[case::minutes("10m", Ok(600))]
    #[case::mixed("1h30m", Ok(5400))]
    #[case::nothing("0s", Err("must be at least 1s"))]
    #[case::the_past("-1m", Err("must not be negative"))]
    fn durations(#[case] text: &str, #[case] expected: Result<u64, &str>) {
        assert_eq!(parse_duration(text), expected.map(Duration::from_secs).map_err(str::to_owned));
    }

    #[rstest]
    #[case::a_label("--copy-label", "velero.io/exclude-from-backup=true", None)]
    #[case::an_empty_value("--copy-label", "team=", None)]
    #[case::no_value("--copy-label", "team", Some("write KEY=VALUE"))]
    #[case::no_key("--copy-label", "=a", Some("the key must be a name"))]
    #[case::a_value_that_no_label_has("--copy-label", "team=a b", Some("a label's value has at most 63"))]
    #[case::our_own_label("--copy-label", "app.kubernetes.io/managed-by=me", Some("is the generator's own"))]
    #[case::an_annotation("--copy-annotation", "argocd.argoproj.io/compare-options=IgnoreExtraneous, x=y", None)]
    #[case::our_own_annotation(
        "--copy-annotation",
        "image-pull-secrets.kubewarden.io/source=x/y",
        Some("is the generator's own")
    )]
    fn what_copies_are_given(#[case] flag: &str, #[case] pair: &str, #[case] fault: Option<&str>) {
        match (Cli::try_parse_from(["generator", "run", flag, pair]), fault) {
            (Ok(_), None) => {}
            (Err(error), Some(fault)) => assert!(error.to_string().contains(fault), "{error}"),
            (other, _) => panic!("{:?}", other.map(|_| ())),
        }
    }

    #[test]
    fn pods_are_restarted_only_by_what_goes_on_watching_them() {
        let error = Cli::try_parse_from(["generator", "run", "--once", "--restart-stuck-pods"]).unwrap_err();
        assert!(error.to_string().contains("'--once' cannot be used with '--restart-stuck-pods'"), "{error}");
    }

    #[rstest]
    #[case::a_pod(&["web"], None)]
    #[case::an_image(&["--image", "nginx", "--service-account", "builder"], None)]
    #[case::all(&["-A", "--try", "--registry-ca", "ca.pem"], None)]
    #[case::nothing(&[], Some("the following required arguments were not provided"))]
    #[case::two_things(&["web", "--all"], Some("cannot be used with"))]
    #[case::an_authority_for_nobody(&["web", "--registry-ca", "ca.pem"], Some("--try"))]
    fn explain_is_told_what_to_explain(#[case] arguments: &[&str], #[case] fault: Option<&str>) {
        let parsed = Cli::try_parse_from([&["generator", "explain"], arguments].concat());
        match (parsed, fault) {
            (Ok(_), None) => {}
            (Err(error), Some(fault)) => assert!(error.to_string().contains(fault), "{error}"),
            (other, _) => panic!("{:?}", other.map(|_| ())),
        }
    }

    #[test]
    fn settings_and_policy_exclude_each_other() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["generator", "run"], args].concat());
        assert!(parse(&["--settings", "f"]).is_ok() && parse(&["--policy", "p"]).is_ok());
        assert!(parse(&["--settings", "f", "--policy", "p"]).is_err());
    }
}
