//! What is to be explained: a Pod, or what makes Pods.

use crate::model::explain::problem::{Problem, quoted};
use crate::model::explain::{PlacedImage, Status};
use crate::model::pod::{Container, ContainerStatus, Pod, PodSpec, PodStatus, PodTemplate};
use anyhow::{Context as _, Result, bail};
use image_pull_secrets::text::shown;
use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::ApiResource;
use serde_json::Value;
use std::collections::BTreeMap;

/// A Pod, or one that is yet to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// `pod/web`, for people.
    pub(crate) title: String,
    pub(crate) namespace: String,
    pub(crate) images: Vec<PlacedImage>,
    /// The names in its `imagePullSecrets`.
    pub(crate) listed: Vec<String>,
    pub(crate) account: String,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Set for a Pod that is in the cluster.
    pub(crate) existing: Option<Existing>,
}

/// A Pod in the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Existing {
    pub(crate) uid: String,
    pub(crate) created: Option<Timestamp>,
}

/// A kind of object that makes Pods, or is one.
pub(crate) struct Kind {
    /// As people write it.
    names: &'static [&'static str],
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
}

const KINDS: [Kind; 8] = [
    Kind { names: &["pod", "pods", "po"], group: "", plural: "pods", kind: "Pod" },
    Kind { names: &["deployment", "deployments", "deploy"], group: "apps", plural: "deployments", kind: "Deployment" },
    Kind { names: &["statefulset", "statefulsets", "sts"], group: "apps", plural: "statefulsets", kind: "StatefulSet" },
    Kind { names: &["daemonset", "daemonsets", "ds"], group: "apps", plural: "daemonsets", kind: "DaemonSet" },
    Kind { names: &["replicaset", "replicasets", "rs"], group: "apps", plural: "replicasets", kind: "ReplicaSet" },
    Kind { names: &["job", "jobs"], group: "batch", plural: "jobs", kind: "Job" },
    Kind { names: &["cronjob", "cronjobs", "cj"], group: "batch", plural: "cronjobs", kind: "CronJob" },
    Kind {
        names: &["serviceaccount", "serviceaccounts", "sa"],
        group: "",
        plural: "serviceaccounts",
        kind: "ServiceAccount",
    },
];

/// The name of the ServiceAccount of a Pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// What the command line names: `deployment/web`, or a Pod's name alone.
///
/// # Errors
/// It names a kind that makes no Pods.
pub(crate) fn named(target: &str) -> Result<(&'static Kind, &str)> {
    let (kind, name) = target.split_once('/').unwrap_or(("pod", target));
    let lower = kind.to_ascii_lowercase();
    let lower = lower.split('.').next().unwrap_or_default();
    let Some(kind) = KINDS.iter().find(|known| known.names.contains(&lower)) else {
        let known: Vec<_> = KINDS.iter().map(|kind| kind.names[0]).collect();
        bail!("\"{}\" makes no Pods: name one of {}", shown(kind), known.join(", "));
    };
    if name.is_empty() || name.contains('/') {
        bail!("\"{}\" names no object: write {}/NAME", shown(target), kind.names[0]);
    }
    Ok((kind, name))
}

impl Kind {
    /// `pod/web`.
    pub(crate) fn title(&self, name: &str) -> String {
        format!("{}/{name}", self.names[0])
    }

    pub(crate) fn is_service_account(&self) -> bool {
        self.kind == "ServiceAccount"
    }

    pub(crate) fn resource(&self) -> ApiResource {
        let api_version = if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) };
        ApiResource {
            group: self.group.to_owned(),
            version: "v1".to_owned(),
            api_version,
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }

    pub(crate) fn group(&self) -> &'static str {
        self.group
    }

    pub(crate) fn plural(&self) -> &'static str {
        self.plural
    }
}

impl Subject {
    /// Of a Pod in the cluster.
    pub(crate) fn of_pod(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let existing =
            Existing { uid: text(&metadata.uid), created: metadata.creation_timestamp.as_ref().map(|time| time.0) };
        let title = format!("pod/{}", metadata.name.as_deref().unwrap_or_default());
        Self {
            existing: Some(existing),
            ..Self::of_spec(title, text(&metadata.namespace), metadata, &pod.spec, pod.status.as_ref())
        }
    }

    /// Of an object that makes Pods, or of a Pod that is not in the cluster. `None` for another kind.
    ///
    /// # Errors
    /// It is not what its kind should be.
    pub(crate) fn of_object(object: &Value, default_namespace: &str) -> Result<Option<Self>> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let Some(known) = KINDS.iter().find(|known| known.kind == kind && !known.is_service_account()) else {
            return Ok(None);
        };
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or("?");
        let title = known.title(&shown(name).to_string());
        let namespace = metadata["namespace"].as_str().unwrap_or(default_namespace).to_owned();
        let template = match kind {
            "Pod" => object,
            "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
            _ => &object["spec"]["template"],
        };
        let template = serde_json::json!({"metadata": template["metadata"], "spec": template["spec"]});
        let template: PodTemplate =
            serde_json::from_value(template).with_context(|| format!("{title} has no Pod that can be read"))?;
        let (metadata, spec) = (template.metadata.unwrap_or_default(), template.spec.unwrap_or_default());
        Ok(Some(Self::of_spec(title, namespace, &metadata, &spec, None)))
    }

    /// Of any Pod with this image, and no list of its own.
    pub(crate) fn of_image(image: &str, namespace: &str, account: Option<&str>) -> Self {
        let placed = PlacedImage { place: "image".to_owned(), reference: image.to_owned(), status: None };
        Self {
            title: format!("image {}", shown(image)),
            images: vec![placed],
            ..Self::of_account(account.unwrap_or(DEFAULT_ACCOUNT), namespace)
        }
    }

    /// Of any Pod of this ServiceAccount.
    pub(crate) fn of_account(account: &str, namespace: &str) -> Self {
        Self {
            title: format!("serviceaccount/{account}"),
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            ..Self::default()
        }
    }

    fn of_spec(
        title: String,
        namespace: String,
        metadata: &ObjectMeta,
        spec: &PodSpec,
        status: Option<&PodStatus>,
    ) -> Self {
        let references = spec.image_pull_secrets.as_deref().unwrap_or_default();
        let account = spec.service_account_name.clone().filter(|account| !account.is_empty());
        Self {
            title,
            namespace,
            images: images(spec, status),
            listed: names(references),
            account: account.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
            annotations: metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
            existing: None,
        }
    }

    /// Whether it waits for an image.
    pub(crate) fn waits(&self) -> bool {
        self.images.iter().any(|image| matches!(image.status, Some(Status::Waiting { .. })))
    }
}

/// The names in a list of references; the kubelet passes over one without a name.
pub(crate) fn names(references: &[LocalObjectReference]) -> Vec<String> {
    let names = references.iter().map(|reference| reference.name.clone());
    names.filter(|name| !name.is_empty()).collect()
}

/// The label selector of the Pods of an object, as the API server takes it.
pub(crate) fn pods_of(object: &Value) -> Option<String> {
    let selector: LabelSelector = serde_json::from_value(object["spec"]["selector"].clone()).ok()?;
    let selector = crate::model::label_selector::checked(selector).ok()?;
    (!selector.selects_all()).then(|| selector.to_string())
}

/// The images of a Pod, in the order in which the kubelet pulls them.
fn images(spec: &PodSpec, status: Option<&PodStatus>) -> Vec<PlacedImage> {
    let of = |choose: fn(&PodStatus) -> &Option<Vec<ContainerStatus>>| {
        status.and_then(|status| choose(status).as_deref()).unwrap_or_default()
    };
    let ephemeral = of(|status| &status.ephemeral_container_statuses);
    let init = of(|status| &status.init_container_statuses);
    let main = of(|status| &status.container_statuses);
    let mut images = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        if let Some(reference) = volume.image.as_ref().and_then(|image| image.reference.clone()) {
            // What is wrong with the image of a volume is told of the containers that mount it.
            let waiting = main.iter().chain(init).chain(ephemeral).filter_map(ContainerStatus::waiting);
            let of_it = waiting.filter(|(_, message)| message.contains(&reference));
            let status = of_it.filter_map(|(reason, message)| status_of_waiting(reason, message)).next();
            images.push(PlacedImage { place: format!("volume {}", volume.name), reference, status });
        }
    }
    let mut add = |sort: &str, containers: &Option<Vec<Container>>, statuses: &[ContainerStatus]| {
        for Container { name, image } in containers.iter().flatten() {
            // An image may be left out in a template that something else fills in.
            if let Some(reference) = image.as_ref().filter(|image| !image.is_empty()) {
                let status = statuses.iter().find(|status| status.name == *name).and_then(image_status);
                images.push(PlacedImage { place: format!("{sort} {name}"), reference: reference.clone(), status });
            }
        }
    };
    add("ephemeral container", &spec.ephemeral_containers, ephemeral);
    add("init container", &spec.init_containers, init);
    add("container", &spec.containers, main);
    images
}

fn image_status(status: &ContainerStatus) -> Option<Status> {
    let of_waiting = status.waiting().and_then(|(reason, message)| status_of_waiting(reason, message));
    of_waiting.or_else(|| (!status.image_id.is_empty()).then_some(Status::Pulled))
}

fn status_of_waiting(reason: &str, message: &str) -> Option<Status> {
    let problem = Problem::of_waiting(reason, message)?;
    Some(Status::Waiting { reason: shown(reason).to_string(), problem, message: quoted(message), next_try: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::a_name_alone_is_a_pod("web", "Pod", "web")]
    #[case::a_short_name("deploy/web", "Deployment", "web")]
    #[case::as_kubectl_prints_it("deployment.apps/web", "Deployment", "web")]
    #[case::an_account("sa/builder", "ServiceAccount", "builder")]
    fn a_target_is_named_as_for_kubectl(#[case] target: &str, #[case] kind: &str, #[case] name: &str) {
        let (found, found_name) = named(target).unwrap();
        assert_eq!((found.kind, found_name), (kind, name));
    }

    #[rstest]
    #[case::another_kind("service/web", "\"service\" makes no Pods: name one of pod, deployment, ")]
    #[case::no_name("pod/", "\"pod/\" names no object: write pod/NAME")]
    fn what_is_no_target_is_told(#[case] target: &str, #[case] message: &str) {
        assert!(named(target).err().unwrap().to_string().starts_with(message));
    }

    #[rstest]
    #[case::a_pod("Pod", json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {
        "containers": [{"name": "app", "image": "a"}], "imagePullSecrets": [{"name": "creds"}, {}]}}))]
    #[case::a_deployment("Deployment", json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "template": {"spec": {"containers": [{"name": "app", "image": "a"}], "imagePullSecrets": [{"name": "creds"}]}}}}))]
    #[case::a_cron_job("CronJob", json!({"kind": "CronJob", "metadata": {"name": "web"}, "spec": {"jobTemplate": {"spec": {
        "template": {"spec": {"containers": [{"name": "app", "image": "a"}], "imagePullSecrets": [{"name": "creds"}]}}}}}}))]
    fn what_makes_pods_is_explained_as_its_pods(#[case] kind: &str, #[case] object: Value) {
        let subject = Subject::of_object(&object, "shop").unwrap().unwrap();
        assert_eq!(subject.title, format!("{}/web", kind.to_lowercase()));
        assert_eq!(
            (&*subject.namespace, &*subject.account, &subject.listed[..]),
            ("shop", "default", &["creds".to_owned()][..])
        );
        assert_eq!((&*subject.images[0].place, &*subject.images[0].reference), ("container app", "a"));
    }

    #[test]
    fn what_makes_no_pods_is_passed_over() {
        assert!(Subject::of_object(&json!({"kind": "Service"}), "shop").unwrap().is_none());
    }

    #[test]
    fn every_image_of_a_pod_is_found_with_what_the_kubelet_says_of_it() {
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let status = |name: &str, state: Value, id: &str| json!({"name": name, "state": state, "imageID": id, "image": "", "ready": false, "restartCount": 0});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
            "spec": {
                "volumes": [{"name": "assets", "image": {"reference": "r.io/assets:1"}}, {"name": "tmp", "emptyDir": {}}],
                "ephemeralContainers": [{"name": "debug", "image": "r.io/debug:1"}],
                "initContainers": [{"name": "first", "image": "r.io/first:1"}],
                "containers": [{"name": "app", "image": "r.io/app:1"}, {"name": "side", "image": "r.io/side:1"}],
            },
            "status": {
                "initContainerStatuses": [status("first", json!({"terminated": {"exitCode": 0}}), "sha256:1")],
                "containerStatuses": [
                    status("app", waiting("ImagePullBackOff", "Back-off pulling image \"r.io/assets:1\": 401"), ""),
                    status("side", waiting("ContainerCreating", ""), ""),
                ],
            },
        }))
        .unwrap();
        let subject = Subject::of_pod(&pod);
        let refused = Some(Problem::Refused);
        let found: Vec<_> = subject
            .images
            .iter()
            .map(|image| {
                let problem = match &image.status {
                    Some(Status::Waiting { problem, .. }) => Some(*problem),
                    _ => None,
                };
                (&*image.place, &*image.reference, problem, image.status == Some(Status::Pulled))
            })
            .collect();
        assert_eq!(
            found,
            [
                ("volume assets", "r.io/assets:1", refused, false),
                ("ephemeral container debug", "r.io/debug:1", None, false),
                ("init container first", "r.io/first:1", None, true),
                ("container app", "r.io/app:1", refused, false),
                ("container side", "r.io/side:1", None, false),
            ]
        );
        assert!(subject.waits());
    }

    #[test]
    fn the_pods_of_a_workload_are_found_by_its_selector() {
        let object = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}});
        assert_eq!(pods_of(&object).as_deref(), Some("app=web"));
        assert_eq!(pods_of(&json!({"spec": {}})), None);
    }
}
