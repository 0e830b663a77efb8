//! The program as a plugin of kubectl. kubectl runs the program named `kubectl-NAME`, and `kubectl_complete-NAME` to
//! complete a command line. Users type `-` for a `_` in NAME.

use crate::commands::cli;
use anyhow::{Context as _, Result};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// How the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// By its own name.
    Generator,
    /// By kubectl, as a plugin.
    Plugin,
    /// By kubectl, to complete a command line.
    Completion,
}

impl Name {
    /// Finds it out from the first word of the command line.
    pub(crate) fn of(program: Option<&OsStr>) -> Self {
        let name =
            program.and_then(|program| Path::new(program).file_stem()).and_then(OsStr::to_str).unwrap_or_default();
        if name.starts_with("kubectl_complete-") {
            Self::Completion
        } else if name.starts_with("kubectl-") {
            Self::Plugin
        } else {
            Self::Generator
        }
    }
}

/// The command line of `kubectl image-pull-secrets`. It hides `run`, which is meant for the cluster.
pub(crate) fn as_plugin(command: clap::Command) -> clap::Command {
    let command = command.name("kubectl-image_pull_secrets").bin_name("kubectl image-pull-secrets");
    command.mut_subcommand("run", |run| run.hide(true))
}

/// Prints completions for the last of these words in the format that kubectl reads: one candidate on each line, optionally
/// with a tab and a description, and a last line that tells the shell what to do. `:4` means not to offer files.
///
/// # Errors
/// The words are not a valid command line.
pub(crate) fn complete(words: Vec<OsString>) -> Result<ExitCode> {
    println!("{}", completions(words)?);
    Ok(ExitCode::SUCCESS)
}

fn completions(words: Vec<OsString>) -> Result<String> {
    let last = words.len().saturating_sub(1);
    let mut command = as_plugin(cli::command());
    let found = clap_complete::engine::complete(&mut command, words, last, None).context("cannot complete this")?;
    let mut lines: Vec<_> = found
        .iter()
        .map(|candidate| {
            let value = candidate.get_value().to_string_lossy();
            match candidate.get_help().map(ToString::to_string) {
                Some(help) => format!("{value}\t{}", help.lines().next().unwrap_or_default()),
                None => value.into_owned(),
            }
        })
        .collect();
    lines.push(":4".to_owned());
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::itself("/usr/bin/image-pull-secrets-generator", Name::Generator)]
    #[case::a_plugin("/home/me/.krew/bin/kubectl-image_pull_secrets", Name::Plugin)]
    #[case::a_plugin_on_windows("kubectl-image_pull_secrets.exe", Name::Plugin)]
    #[case::completion("kubectl_complete-image_pull_secrets", Name::Completion)]
    fn the_name_tells_who_asks(#[case] program: &str, #[case] expected: Name) {
        assert_eq!(Name::of(Some(OsStr::new(program))), expected);
    }

    #[rstest]
    #[case::commands(&[""], &["cleanup\t", "explain\t", "status\t", "validate\t"], &["run"])]
    #[case::a_command(&["expl"], &["explain\tExplains why a Pod pulls its images, or why it does not"], &["status"])]
    #[case::flags(&["explain", "--na"], &["--namespace\t"], &["--image"])]
    #[case::values(&["explain", "web", "--output", ""], &["text\t", "json\t"], &["table"])]
    fn kubectl_is_told_what_could_come_next(
        #[case] words: &[&str],
        #[case] there: &[&str],
        #[case] not_there: &[&str],
    ) {
        let words = ["kubectl_complete-image_pull_secrets"].iter().chain(words).map(OsString::from).collect();
        let said = completions(words).unwrap();
        assert!(said.ends_with("\n:4"), "{said}");
        let begins = |start: &&str| said.lines().any(|line| line.starts_with(*start));
        assert!(there.iter().all(begins), "{said}");
        assert!(!not_there.iter().any(begins), "{said}");
    }

    #[test]
    fn the_help_of_the_plugin_is_that_of_its_commands() {
        let help = as_plugin(cli::command()).render_help().to_string();
        assert!(help.contains("Usage: kubectl image-pull-secrets <COMMAND>"), "{help}");
        assert!(help.contains("\n  explain ") && !help.contains("\n  run "), "{help}");
    }
}
