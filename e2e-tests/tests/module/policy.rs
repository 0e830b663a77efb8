//! The policy as compiled to wasm, in the embedded host: what it decides, in which words, and what it leaves alone.

mod decides;
mod matches;
mod namespaces;
mod outcome;
mod preserves;
mod says;
mod survives;
mod validates_settings;
