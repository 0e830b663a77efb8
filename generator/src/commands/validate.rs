//! `validate`: checks a settings file, for example in the review of a change.

use crate::commands::cli::ValidateArgs;
use crate::engine::settings_source;
use anyhow::{Context as _, Result};
use image_pull_secrets::settings::Faults;
use std::process::ExitCode;

/// Prints that the settings are valid, or everything that is wrong with them, one fault on each line. Then the exit code is
/// 1.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn validate(args: &ValidateArgs) -> Result<ExitCode> {
    let file = args.settings.display();
    let content = std::fs::read(&args.settings).with_context(|| format!("cannot read the settings {file}"))?;
    let error = match settings_source::of_file(&args.settings, Ok(content)) {
        Ok(_) => {
            println!("{file}: the settings are valid");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    match error.downcast_ref::<Faults>() {
        Some(Faults(faults)) => faults.iter().for_each(|fault| println!("{file}: {fault}")),
        None => println!("{error:#}"),
    }
    Ok(ExitCode::FAILURE)
}
