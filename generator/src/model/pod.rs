//! A Pod, as far as it is read here. kube reads these fields and passes over the rest, which is by far the most of it.

use k8s_openapi::api::core::v1::{self, LocalObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, Object};
use serde::Deserialize;

/// A Pod in the cluster. Its [`resource`] says where it is found.
pub(crate) type Pod = Object<PodSpec, PodStatus>;

/// What kube asks for where it reads Pods.
pub(crate) fn resource() -> ApiResource {
    ApiResource::erase::<v1::Pod>(&())
}

/// What a Pod is made from (`PodTemplateSpec`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PodTemplate {
    pub metadata: Option<ObjectMeta>,
    pub spec: Option<PodSpec>,
}

/// What it is to run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub volumes: Option<Vec<Volume>>,
    pub init_containers: Option<Vec<Container>>,
    pub containers: Option<Vec<Container>>,
    pub ephemeral_containers: Option<Vec<Container>>,
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    pub service_account_name: Option<String>,
}

/// A container of any sort.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Container {
    pub name: String,
    pub image: Option<String>,
}

/// A volume, which may be an image.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub name: String,
    pub image: Option<ImageVolume>,
}

/// The image of a volume (`ImageVolumeSource`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ImageVolume {
    pub reference: Option<String>,
}

/// What the kubelet says of its containers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

/// What the kubelet says of one container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    pub name: String,
    /// Empty as long as the image is not pulled.
    #[serde(rename = "imageID")]
    pub image_id: String,
    state: Option<ContainerState>,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Debug, Clone, Deserialize)]
struct Waiting {
    reason: Option<String>,
    message: Option<String>,
}

impl ContainerStatus {
    /// What it waits for: the reason and the message.
    pub(crate) fn waiting(&self) -> Option<(&str, &str)> {
        let waiting = self.state.as_ref()?.waiting.as_ref()?;
        Some((waiting.reason.as_deref().unwrap_or_default(), waiting.message.as_deref().unwrap_or_default()))
    }
}
