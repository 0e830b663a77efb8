//! `with-cluster`: one cluster for everything that a command does.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use image_pull_secrets_e2e::control_plane::ControlPlane;

/// How much of each log is printed when the command fails.
const LINES: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the logs of the cluster's parts go when the command fails.
    #[arg(long, value_name = "DIRECTORY")]
    logs: PathBuf,
    /// The command, and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Ends as the command ends.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cluster = ControlPlane::start()?;
    let (program, arguments) = args.command.split_first().context("there is no command")?;
    let status = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG_E2E", cluster.kubeconfig())
        .env("KUBECONFIG", cluster.kubeconfig())
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    fs::create_dir_all(&args.logs).with_context(|| format!("cannot make {}", args.logs.display()))?;
    for (part, log) in cluster.logs() {
        let path = args.logs.join(format!("{part}.log"));
        fs::write(&path, &log).with_context(|| format!("cannot write {}", path.display()))?;
        let lines: Vec<_> = log.lines().collect();
        eprintln!("--- the end of {}", path.display());
        lines.iter().skip(lines.len().saturating_sub(LINES)).for_each(|line| eprintln!("{line}"));
    }
    Ok(ExitCode::FAILURE)
}
