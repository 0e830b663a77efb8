//! What can be observed from outside: metrics, Kubernetes Events and the HTTP endpoints.

pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod process_metrics;
pub(crate) mod server;
