//! An embedded Kubewarden host: it runs a policy's module as policy-server does, with nothing else installed.
//!
//! A [`Host`] holds one compiled module. [`Host::evaluate`] takes settings, an [`AdmissionRequest`] and a [`Cluster`] to
//! answer the policy's questions from, and gives back an [`Evaluation`]: the response an API server would get, what the
//! policy asked and logged, and how long it took. A host is shared between threads as it is: each call has an instance
//! of its own.
//!
//! | module | holds |
//! |---|---|
//! | [`host`] | a policy: loaded once, a fresh instance for each call, the deadline |
//! | [`engine`] | what runs the module: wasmtime or wasmi |
//! | [`metadata`] | `metadata.yml`: what the policy is granted |
//! | `capabilities` | the host's side of a host call: grants first, then the answer |
//! | [`cluster`] | where answers come from: manifests, a recorded session, a real API server, nothing |
//! | [`request`] | manifests and AdmissionReviews in, admission requests out |
//! | [`response`] | the policy's answer in, an admission response with its JSON patch out |
//! | `webhook` | with the feature `cluster`: policies over HTTPS, as policy-server serves them |
//! | `control_plane` | with the feature `cluster`: a disposable cluster for one run of the tests |
//! | `native` | with the feature `cluster`: what the API server can do by itself |
//! | `policy_server` | with the feature `cluster`: Kubewarden's own policy-server, where it is in the `PATH` |
//! | `api_proxy` | with the feature `cluster`: a proxy in front of the API server that counts reads of Secrets, and delays answers |
//! | [`modules`] | the modules of this repository, for tests and benchmarks |
//!
//! Where this crate says "the real host" it means `policy-evaluator`, the library inside policy-server and kwctl, as of
//! Kubewarden 1.36 to 1.38. Texts and formats are that library's, because policies can only read the texts.

#[cfg(feature = "cluster")]
pub mod api_proxy;
mod capabilities;
pub mod cluster;
#[cfg(feature = "cluster")]
pub mod control_plane;
pub mod engine;
pub mod host;
mod kinds;
pub mod metadata;
pub mod modules;
#[cfg(feature = "cluster")]
pub mod native;
mod object;
#[cfg(feature = "cluster")]
pub mod policy_server;
pub mod request;
pub mod response;
#[cfg(feature = "cluster")]
pub mod webhook;

pub use capabilities::{HostCall, LogEntry};
pub use cluster::{
    Cluster,
    manifests::{Fault, Manifests, ObjectRef},
    session::{Recording, Session},
};
pub use engine::{Engine, LoadError};
pub use host::{Call, CallError, Evaluation, Host, Verdict};
pub use metadata::Metadata;
pub use request::AdmissionRequest;
pub use response::AdmissionResponse;
