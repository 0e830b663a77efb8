//! `with-cluster`: one cluster for everything that a command does.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use image_pull_secrets_e2e::control_plane::{ControlPlane, Nodes};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the logs of the cluster's parts go when the command fails.
    #[arg(long, value_name = "DIRECTORY")]
    logs: PathBuf,
    /// How many Nodes a cluster of our own has, whose kubelets pull images: E2E_NODES has their names, E2E_REGISTRY the
    /// URL that says what the registry accepts and what was pulled, E2E_REGISTRY_ADDRESS and E2E_REGISTRY_CA where it
    /// serves images and the file with its authority.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    nodes: u8,
    /// The command, and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Ends as the command ends.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cluster = ControlPlane::start(args.nodes)?;
    let (program, arguments) = args.command.split_first().context("there is no command")?;
    let status = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG_E2E", cluster.kubeconfig())
        .env("KUBECONFIG", cluster.kubeconfig())
        .envs(cluster.nodes().into_iter().flat_map(Nodes::environment))
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    cluster.keep_logs(&args.logs)?;
    Ok(ExitCode::FAILURE)
}
