//! The generator: copies each source Secret into every selected namespace, keeps the copies equal to it, and makes the
//! selected ServiceAccounts refer to them.
//!
//! `watch events → index (what is) → plan (what to do, pure) → apply (writes)`
//!
//! The modules are layers, and each uses only those after it in this list: `commands`, `engine`, `cluster`, `telemetry`,
//! `model`. `docs/architecture.md` describes them.

#![warn(unreachable_pub)]

mod cluster;
mod commands;
mod engine;
mod model;
mod telemetry;

pub use commands::main;
