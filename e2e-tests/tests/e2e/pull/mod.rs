//! The promise: the Pod's private image is pulled. By a real kubelet, from a registry that asks for credentials.
//!
//! Policy and generator are there before the namespaces, as a user has it. What is asserted is what the registry saw.

mod bad_secrets;
mod cached_images;
mod docker_hub;
mod ephemeral_containers;
pub mod explain;
mod minted;
mod native;
pub mod new_namespace;
mod recovery;
mod reject;
mod rotation;
mod several_registries;
