//! The connection to the API server.

use crate::cli::CommonArgs;
use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The configuration that the arguments name, or that kubectl would find.
///
/// # Errors
/// There is none, or it cannot be read.
pub async fn config(args: &CommonArgs) -> Result<Config> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    match (&args.kubeconfig, &args.context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).with_context(|| format!("cannot read {}", file.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("cannot use the kubeconfig {}", file.display()))
        }
        (None, Some(context)) => Config::from_kubeconfig(&options)
            .await
            .with_context(|| format!("cannot use the context {context} of the kubeconfig")),
        (None, None) => {
            Config::infer().await.context("there is no kubeconfig, and this is not a Pod; give --kubeconfig")
        }
    }
}

/// A client. It retries by itself what the API server answers with 429, 503 or 504, and honours a `Retry-After`.
///
/// # Errors
/// The configuration's certificates or credentials are unusable.
pub fn client(config: Config) -> Result<Client> {
    Client::try_from(config).context("cannot make a client of the kubeconfig")
}

/// A client that retries nothing by itself.
///
/// # Errors
/// The configuration's certificates or credentials are unusable.
pub fn client_without_retry(mut config: Config) -> Result<Client> {
    config.default_retry = false;
    client(config)
}
