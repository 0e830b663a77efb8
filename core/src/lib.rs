//! What the policy and the generator share, and what knows neither Kubewarden nor a Kubernetes client: the settings, which
//! namespaces and ServiceAccounts they select, docker configs, image names, and the kubelet's way of matching the two.

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
