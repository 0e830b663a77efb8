//! The commands that a user types, and how the process starts and ends.

pub(crate) mod cleanup;
pub(crate) mod cli;
pub(crate) mod connect;
pub(crate) mod explain;
pub(crate) mod plugin;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod validate;

use cli::{Cli, Command, LogArgs, LogFormat, LogLevel};
use plugin::Name;
use std::ffi::OsString;
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Runs the program: does what the command line says, and returns the exit code of the process.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let name = Name::of(words.first().map(OsString::as_os_str));
    if name == Name::Completion {
        // Errors are not reported, because a shell that completes a command line cannot show them.
        return plugin::complete(words).unwrap_or(ExitCode::FAILURE);
    }
    let cli = Cli::read(name);
    log_as(cli.command.log());
    if let Err(error) = process::keep_memory_private() {
        tracing::warn!("a core dump of this process would hold credentials: {error}");
    }
    let result = process::run(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Status(args) => status::status(args).await,
            Command::Cleanup(args) => cleanup::cleanup(args).await,
            Command::Explain(args) => explain::explain(args).await,
            Command::Validate(args) => validate::validate(&args),
        }
    });
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::from(2)
    })
}

/// Logs to standard error. Only log lines of this program are written, because those of a library could quote what it sends
/// or receives.
fn log_as(args: &LogArgs) {
    let level = match args.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let own = Targets::new().with_target("image_pull_secrets_generator", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match args.log_format {
        LogFormat::Text => layer.with_target(false).with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_target(false).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(own)).init();
}
