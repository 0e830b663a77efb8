//! The embedded host on the command line.

mod render;
mod run;
#[cfg(feature = "cluster")]
mod serve;
#[cfg(feature = "cluster")]
mod with_cluster;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs a Kubewarden policy in an embedded host: no cluster, no policy-server, no kwctl.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the policy about objects, and show what it does with them.
    Run(run::Args),
    /// Serve the policy as the admission webhook of a real cluster.
    #[cfg(feature = "cluster")]
    Serve(serve::Args),
    /// Run a command with a disposable cluster: KUBECONFIG_E2E and KUBECONFIG name its kubeconfig. The cluster ends with it.
    #[cfg(feature = "cluster")]
    WithCluster(with_cluster::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "cluster")]
        Command::Serve(args) => serve::serve(args),
        #[cfg(feature = "cluster")]
        Command::WithCluster(args) => with_cluster::run(&args),
    }
}
