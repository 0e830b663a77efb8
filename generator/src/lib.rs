//! The generation rule: copies each source Secret into every selected namespace, keeps the copies equal to it, and has the
//! selected ServiceAccounts refer to them.
//!
//! `watch events → index (what is) → plan (what to do, pure) → apply (writes)`

pub mod cluster;
pub mod commands;
pub mod engine;
pub mod model;
pub mod telemetry;
