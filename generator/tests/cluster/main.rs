//! The generator, as its own process, against a real API server: the disposable cluster of `$KUBECONFIG_E2E`.
//!
//! Every test has namespaces, a secret's name and a Lease of its own, so that all can run at the same time.

mod admission;
mod cleanup;
mod conflicts;
#[path = "../../../e2e-tests/src/control_plane.rs"]
#[allow(dead_code)]
mod control_plane;
mod drift;
mod failover;
mod faults;
mod harness;
mod operations;
mod overload;
mod policy;
mod privacy;
mod providers;
#[path = "../../../e2e-tests/tests/e2e/proxy.rs"]
mod proxy;
mod references;
mod refusals;
mod resync;
mod rights;
mod selected;
mod sources;
mod story;
