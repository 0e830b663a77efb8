//! Everything about the API server: the client, the watches, the only writer, the Lease, and what its answers mean. Nothing
//! here decides what to do.

pub(crate) mod answers;
pub(crate) mod backoff;
pub(crate) mod client;
pub(crate) mod election;
pub(crate) mod error;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fake_api;
pub(crate) mod rbac;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod watch;
pub(crate) mod writer;
