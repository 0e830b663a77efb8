//! `run`: the policy's verdict on each object of some files.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use image_pull_secrets_e2e::{AdmissionRequest, Cluster, Host, Manifests, Metadata, Session};
use serde_json::{Value, json};

use crate::render::{Evaluated, Summary};

#[derive(clap::Args)]
pub(crate) struct PolicyArgs {
    /// The policy's WebAssembly module.
    #[arg(long, value_name = "FILE", default_value = "policy.wasm")]
    module: PathBuf,
    /// The policy's metadata: it says what the policy is granted.
    #[arg(long, value_name = "FILE", default_value = "metadata.yml")]
    metadata: PathBuf,
    /// The policy's settings, YAML or JSON. Without a file they are empty.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

impl PolicyArgs {
    /// The policy, ready to be asked, and its settings, which it has found valid.
    pub(crate) fn load(&self) -> Result<(Host, Value)> {
        let metadata = Metadata::read(&self.metadata)?;
        let module = fs::read(&self.module).with_context(|| {
            format!("cannot read the module {}: build it with `make policy.wasm`", self.module.display())
        })?;
        let host = Host::load(&module, metadata)?;
        let settings = settings(self.settings.as_deref())?;
        validate_settings(&host, &settings)?;
        Ok((host, settings))
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is asked.
    #[command(flatten)]
    policy: PolicyArgs,
    /// What the policy's questions about the cluster are answered from: a directory of manifests, or a session recorded
    /// by --record or by kwctl. Without it there is no cluster.
    #[arg(long, value_name = "DIRECTORY|SESSION")]
    cluster: Option<PathBuf>,
    /// Record the policy's questions and the answers to them. The file can be replayed by --cluster and by kwctl, and
    /// holds the credentials that the policy was told.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// How to print the verdicts: for people, or one line of JSON for each object.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Files of manifests (YAML or JSON), AdmissionRequests or AdmissionReviews; - is the standard input.
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Prints each verdict. The exit code says whether there was one for each object, not which it was.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (host, settings) = args.policy.load()?;
    let requests = args.manifests.iter().map(|path| requests(path)).collect::<Result<Vec<_>>>()?.concat();

    let cluster = cluster(args.cluster.as_deref())?;
    let (asked, recording) = match &args.record {
        Some(path) => {
            let (asked, recording) = cluster.clone().recorded();
            (asked, Some((recording, path)))
        }
        None => (cluster.clone(), None),
    };
    let summary = print_verdicts(&host, &settings, &requests, &asked, args.output)?;
    if let Some((recording, path)) = recording {
        recording.write(path)?;
    }
    if let Cluster::Session(session) = &cluster
        && session.leftovers() > 0
    {
        eprintln!("warning: {} recorded exchanges have not been asked for", session.leftovers());
    }
    Ok(if summary.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_verdicts(
    host: &Host,
    settings: &Value,
    requests: &[AdmissionRequest],
    cluster: &Cluster,
    output: Output,
) -> Result<Summary> {
    let mut summary = Summary::default();
    for request in requests {
        let evaluation = host.evaluate(settings, request, cluster);
        summary.add(&evaluation);
        let evaluated = Evaluated { request, evaluation: &evaluation, selected: host.metadata().selects(request) };
        print(match output {
            Output::Text => evaluated.text()?,
            Output::Json => evaluated.json()?,
        })?;
    }
    if let Output::Text = output {
        print(summary.text(host.engine()))?;
    }
    Ok(summary)
}

/// Writes to the standard output, without colours where nobody would see them. A reader that has gone away, as in
/// `| head`, is no error.
fn print(text: String) -> Result<()> {
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to the standard output"),
    }
}

fn settings(path: Option<&Path>) -> Result<Value> {
    let Some(path) = path else {
        return Ok(json!({}));
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the settings {}", path.display()))?;
    let settings: Value =
        yaml_serde::from_str(&text).with_context(|| format!("the settings {} are not valid YAML", path.display()))?;
    match settings {
        // policy-server takes an empty `settings:` for no settings.
        Value::Null => Ok(json!({})),
        Value::Object(_) => Ok(settings),
        _ => bail!("the settings {} are not an object", path.display()),
    }
}

fn validate_settings(host: &Host, settings: &Value) -> Result<()> {
    let answer = host.validate_settings(settings.to_string().as_bytes());
    if !answer.valid {
        bail!("Policy settings are invalid: {}", answer.message.as_deref().unwrap_or("no message"));
    }
    Ok(())
}

fn cluster(path: Option<&Path>) -> Result<Cluster> {
    Ok(match path {
        None => Cluster::Absent,
        Some(path) if path.is_dir() => Cluster::of(Manifests::read_dir(path)?),
        Some(path) => Cluster::Session(Arc::new(Session::read(path)?)),
    })
}

fn requests(path: &Path) -> Result<Vec<AdmissionRequest>> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    AdmissionRequest::read(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        crate::Cli::command().debug_assert();
    }
}
