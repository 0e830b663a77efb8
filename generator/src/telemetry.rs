//! What is seen from outside: metrics, Kubernetes Events, the endpoints.

pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod process_metrics;
pub(crate) mod server;
