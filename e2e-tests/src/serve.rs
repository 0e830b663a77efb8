//! `serve`: the policy as the admission webhook of a real cluster.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use image_pull_secrets_e2e::{
    AdmissionRequest, Cluster, Evaluation, Host,
    cluster::live::Live,
    webhook::{Observer, Policy, Webhook},
};
use kube::{Client, Config, config::Kubeconfig};

use crate::{render::Evaluated, run::PolicyArgs};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is served.
    #[command(flatten)]
    policy: PolicyArgs,
    /// Its name in the URL, and that of the webhook configuration.
    #[arg(long, value_name = "NAME", default_value = "image-pull-secrets")]
    name: String,
    /// Where to listen. The API server must reach it by this address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Who the policy's questions are asked as. By default the kubeconfig that kubectl would take.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Do not show verdicts.
    #[arg(long)]
    quiet: bool,
}

/// Serves until it is interrupted. Prints the webhook configuration, for `kubectl apply`, and then each
/// verdict to standard error.
pub(crate) fn serve(args: Args) -> Result<ExitCode> {
    let (host, settings) = args.policy.load()?;
    let host: &'static Host = Box::leak(Box::new(host));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = match &args.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &Default::default()).await?,
            None => Config::infer().await?,
        };
        let client = Client::try_from(config).context("cannot use the kubeconfig")?;
        let cluster = Cluster::Live(Arc::new(Live::new(client)));
        let observer: Observer = if args.quiet { Box::new(|_, _| {}) } else { Box::new(report) };
        let policy = Policy { host, settings, cluster, observer };
        let webhook = Webhook::start(args.listen, BTreeMap::from([(args.name.clone(), policy)]))?;
        println!("{}", webhook.configuration(&args.name, host));
        tokio::signal::ctrl_c().await.context("cannot wait for an interrupt")?;
        Ok(ExitCode::SUCCESS)
    })
}

fn report(request: &AdmissionRequest, evaluation: &Evaluation) {
    let evaluated = Evaluated { request, evaluation, selected: true };
    match evaluated.text() {
        Ok(text) => anstream::eprint!("{text}"),
        Err(error) => eprintln!("{error:#}"),
    }
}
