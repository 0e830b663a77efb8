//! The generation rule: copies each source Secret into every selected namespace, keeps the copies equal to it, and has the
//! selected ServiceAccounts refer to them.
//!
//! `watch events → index (what is) → plan (what to do, pure) → apply (writes)`
//!
//! The modules are rooms, of which each uses only those below it: `commands`, `engine`, `cluster`, `telemetry`, `model`.
//! `docs/architecture.md` shows them.

#![warn(unreachable_pub)]

mod cluster;
mod commands;
mod engine;
mod model;
mod telemetry;

pub use commands::main;
