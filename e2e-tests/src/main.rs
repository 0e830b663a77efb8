//! The embedded host on the command line.

mod render;
mod run;

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
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
    }
}
