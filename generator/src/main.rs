//! `image-pull-secrets-generator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    image_pull_secrets_generator::main()
}
