//! What is seen from outside: metrics, Kubernetes Events, the endpoints.

pub mod events;
pub mod metrics;
pub mod process_metrics;
pub mod server;
