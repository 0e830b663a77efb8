//! The policy as compiled to wasm, in the embedded host, and the host itself. One program: the module is loaded once.

mod cli;
mod documents;
mod engines;
mod examples;
mod fixtures;
mod host;
mod policy;
