//! When: the reconcile loop, its waits, what it follows.

pub mod controller;
pub mod file;
pub mod session;
pub mod settings_source;
pub mod source;
pub mod stuck_pods;
