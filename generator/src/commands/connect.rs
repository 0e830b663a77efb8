//! Connects to the cluster that the common arguments and the environment name.

use crate::cluster::record::{LeaseName, Record, leases_of_generators};
use crate::cluster::{client, events};
use crate::commands::cli::CommonArgs;
use crate::engine::context::Context;
use crate::engine::provider::Asking;
use crate::model::ownership::{Extras, MANAGER};
use crate::telemetry::events::EventRecorder;
use crate::telemetry::server::Health;
use anyhow::{Result, bail};
use std::env;
use std::sync::Arc;

/// Connects to the cluster that the arguments and the environment name.
///
/// # Errors
/// There is no API server to connect to.
pub(crate) async fn connect(args: &CommonArgs) -> Result<Context> {
    let config = client::config(args.connection.kubeconfig.as_deref(), args.connection.context.as_deref()).await?;
    let default_namespace = config.default_namespace.clone();
    let client = client::client(config)?;
    let own_pod = env::var("POD_NAMESPACE").ok().zip(env::var("POD_NAME").ok());
    let pod_name = env::var("POD_NAME").or_else(|_| env::var("HOSTNAME")).unwrap_or_else(|_| "local".to_owned());
    // Several processes may run on one host, so the identity has a random part.
    let identity = format!("{pod_name}_{:08x}", rand::random::<u32>());
    let namespace = args.lease_namespace.clone().or_else(|| env::var("POD_NAMESPACE").ok());
    let (recorder, recorded) = EventRecorder::new(own_pod);
    tokio::spawn(events::publish(client.clone(), identity.clone(), recorded));
    Ok(Context {
        record: Record {
            client: client.clone(),
            namespace: namespace.unwrap_or(default_namespace),
            lease: args.lease_name.clone().unwrap_or_else(|| MANAGER.to_owned()),
        },
        client,
        identity,
        health: Health::default(),
        recorder,
        selector: args.namespace_selector.clone().filter(|selector| !selector.selects_all()),
        extras: Arc::new(Extras {
            labels: args.copy_labels.iter().cloned().collect(),
            annotations: args.copy_annotations.iter().cloned().collect(),
        }),
        credential_providers: None,
        asking: Asking::Never,
        registries: None,
        delete_with_source: false,
        restart_stuck_pods: false,
        concurrency: 32,
    })
}

/// Connects for a command that people run from outside of the cluster. If neither the arguments nor the Pod give the Lease's
/// namespace, this looks for the Lease in all namespaces.
///
/// # Errors
/// There is no API server to connect to, or there are Leases of several generators to choose from.
pub(crate) async fn connect_and_find_lease(args: &CommonArgs) -> Result<Context> {
    let mut context = connect(args).await?;
    if args.lease_namespace.is_some() || env::var_os("POD_NAMESPACE").is_some() {
        return Ok(context);
    }
    let leases = leases_of_generators(&context.client, args.lease_name.as_deref()).await;
    let leases = leases.map(|leases| leases.into_iter().map(LeaseName::of).collect::<Vec<_>>());
    match leases.as_deref() {
        Ok([]) => {}
        Ok([lease]) => {
            context.record.namespace.clone_from(&lease.namespace);
            context.record.lease.clone_from(&lease.name);
        }
        Ok(leases) => {
            let leases: Vec<_> = leases.iter().map(ToString::to_string).collect();
            bail!(
                "there are several generators in this cluster, with the Leases {}: choose one with --lease-namespace and \
                 --lease-name",
                leases.join(", ")
            )
        }
        Err(error) => tracing::debug!("the generator's Lease was not looked for in other namespaces: {error}"),
    }
    Ok(context)
}
