//! The API server: the client, the watches, the only writer, the Lease, and what an answer means. Nothing here decides.

pub mod backoff;
pub mod client;
pub mod election;
pub mod error;
#[cfg(test)]
pub mod fake_api;
pub mod footprint;
pub mod rbac;
pub mod watch;
pub mod writer;
