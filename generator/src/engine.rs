//! Decides when things happen: the reconcile loop, its waits, and what it follows.

pub(crate) mod context;
pub(crate) mod controller;
pub(crate) mod file;
pub(crate) mod leadership;
pub(crate) mod provider;
pub(crate) mod recording;
pub(crate) mod session;
pub(crate) mod settings_source;
pub(crate) mod source;
pub(crate) mod stuck_pods;
pub(crate) mod verifier;
