//! The generation rule: copies each source Secret into every selected namespace, keeps the copies equal to it, and has the
//! selected ServiceAccounts refer to them.
//!
//! `watch events → index (what is) → plan (what to do, pure) → apply (writes)`

pub mod apply;
pub mod backoff;
pub mod cleanup;
pub mod cli;
pub mod connect;
pub mod content;
pub mod controller;
pub mod error;
pub mod events;
#[cfg(test)]
mod fake_api;
pub mod file;
pub mod footprint;
pub mod index;
pub mod leader;
pub mod metrics;
pub mod ownership;
pub mod plan;
pub mod process;
pub mod process_metrics;
pub mod rbac;
pub mod restart_stuck_pods;
pub mod run;
pub mod selection;
pub mod server;
pub mod session;
pub mod settings_source;
pub mod source;
pub mod status;
pub mod validate;
pub mod watch;
