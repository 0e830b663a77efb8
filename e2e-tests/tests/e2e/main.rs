//! The policy as an admission webhook of a real API server, under the rights that are shipped, alone and with the
//! generator beside it.
//!
//! Every test has namespaces, a webhook and rights of its own, so that all can run at the same time.

mod chaos;
mod ends;
mod faults;
mod generator;
mod harness;
mod native;
mod peers;
mod pods;
mod policy_server;
mod product;
mod proxy;
mod pull;
mod registry;
mod rights;
mod service_accounts;
mod story;
mod tenants;
mod together;
