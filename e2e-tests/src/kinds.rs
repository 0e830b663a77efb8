//! The built-in kinds: what an API server's discovery would say about them.

/// API version, kind, plural, and whether its objects live in namespaces.
const BUILT_IN: [(&str, &str, &str, bool); 37] = [
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Endpoints", "endpoints", true),
    ("v1", "Event", "events", true),
    ("v1", "LimitRange", "limitranges", true),
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Node", "nodes", false),
    ("v1", "PersistentVolume", "persistentvolumes", false),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "Pod", "pods", true),
    ("v1", "PodTemplate", "podtemplates", true),
    ("v1", "ReplicationController", "replicationcontrollers", true),
    ("v1", "ResourceQuota", "resourcequotas", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("apps/v1", "ControllerRevision", "controllerrevisions", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    ("batch/v1", "Job", "jobs", true),
    ("coordination.k8s.io/v1", "Lease", "leases", true),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    ("networking.k8s.io/v1", "Ingress", "ingresses", true),
    ("networking.k8s.io/v1", "IngressClass", "ingressclasses", false),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true),
    ("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", false),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", false),
    ("storage.k8s.io/v1", "CSIDriver", "csidrivers", false),
    ("storage.k8s.io/v1", "StorageClass", "storageclasses", false),
];

/// What discovery says about one kind.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    pub(crate) built_in: bool,
}

impl Kind {
    /// A kind outside the table (a custom resource, most likely) is taken to be namespaced, its plural formed as kube
    /// forms it.
    pub(crate) fn of(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let known = BUILT_IN.iter().find(|row| row.0 == api_version && row.1 == kind);
        let (plural, namespaced) = match known {
            Some(row) => (row.2.to_owned(), row.3),
            None => (plural(&kind.to_lowercase()), true),
        };
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural,
            namespaced,
            built_in: known.is_some(),
        }
    }
}

/// The plural that most custom resources have.
fn plural(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if ["s", "x", "z", "ch", "sh"].iter().any(|end| word.ends_with(end)) => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use kube::core::{ApiResource, GroupVersionKind};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_usual_word("Team")]
    #[case::a_consonant_and_y("ClusterAdmissionPolicy")]
    #[case::a_vowel_and_y("Gateway")]
    #[case::s("ReplicaSetStatus")]
    #[case::x("Box")]
    #[case::z("Quiz")]
    #[case::ch("Branch")]
    #[case::sh("Mesh")]
    fn a_plural_is_formed_as_kube_forms_it(#[case] kind: &str) {
        let theirs = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", kind)).plural;
        assert_eq!(Kind::of("example.com/v1", kind).plural, theirs);
    }
}
