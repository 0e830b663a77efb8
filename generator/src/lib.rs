//! The generation rule: copies each source Secret into every selected namespace, keeps the copies equal to it, and has the
//! selected ServiceAccounts refer to them.
//!
//! `watch events → index (what is) → plan (what to do, pure) → apply (writes)`

pub mod apply;
pub mod backoff;
pub mod content;
pub mod controller;
pub mod error;
pub mod events;
pub mod index;
pub mod metrics;
pub mod ownership;
pub mod plan;
pub mod rbac;
pub mod restart_stuck_pods;
pub mod selection;
pub mod watch;
