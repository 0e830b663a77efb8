//! The library that the policy and the generator share: the settings, which namespaces and ServiceAccounts they select,
//! docker configs, image names, and how the kubelet matches the two. It uses neither Kubewarden nor a Kubernetes
//! client.

pub mod credential;
pub mod docker_config;
pub mod duration;
pub mod glob;
pub mod image;
pub mod json;
pub mod keyring;
pub mod location;
pub mod secret;
pub mod settings;
pub mod text;
