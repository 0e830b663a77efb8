//! Settings that are those of the policy.

use crate::harness::{Corner, PATIENCE, docker_config, eventually, stays};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::json;

const VALID: &str = "image_pull_secrets_settings_valid";

async fn policies(corner: &Corner) -> Api<DynamicObject> {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "clusteradmissionpolicies.policies.kubewarden.io"},
        "spec": {
            "group": "policies.kubewarden.io", "scope": "Cluster",
            "names": {"kind": "ClusterAdmissionPolicy", "plural": "clusteradmissionpolicies"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    }))
    .unwrap();
    // It may be there from another test.
    let _ = Api::all(corner.client.clone()).create(&PostParams::default(), &definition).await;
    let kind = GroupVersionKind::gvk("policies.kubewarden.io", "v1", "ClusterAdmissionPolicy");
    let policies: Api<DynamicObject> =
        Api::all_with(corner.client.clone(), &ApiResource::from_gvk_with_plural(&kind, "clusteradmissionpolicies"));
    eventually("policies are served", PATIENCE, || async { policies.list(&Default::default()).await.is_ok() }).await;
    policies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_followed_with_its_selector_and_without_it_nothing_is_done() {
    let corner = Corner::new("policy").await;
    let policies = policies(&corner).await;
    let (selected, other) = (corner.namespace("selected").await, corner.namespace("other").await);
    corner.label_namespace(&selected, json!({"labels": {"pull": "yes"}})).await;
    corner.put_source("1").await;
    let own_pod = [("POD_NAMESPACE", corner.ns("source")), ("POD_NAME", "generator-0".to_owned())];
    let own_pod = own_pod.each_ref().map(|(name, value)| (*name, value.as_str()));
    let args = ["run", "--no-leader-elect", "--policy", &corner.name];
    let generator = corner.start_as(&args, &corner.kubeconfig, &own_pod);
    generator.logs("the generator does nothing until there is one").await;
    let policy = json!({
        "apiVersion": "policies.kubewarden.io/v1", "kind": "ClusterAdmissionPolicy",
        "metadata": {"name": corner.name},
        "spec": {
            "settings": corner.settings(),
            "namespaceSelector": {"matchExpressions": [{"key": "pull", "operator": "In", "values": ["yes"]}]},
        },
    });
    let created = policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await;
    created.unwrap();
    corner.settled(&selected, "1").await;
    assert!(corner.copy(&other).await.is_none());
    generator.counts(VALID, 1.0).await;

    let patch = |spec: serde_json::Value| {
        let policies = policies.clone();
        let name = corner.name.clone();
        async move {
            policies.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
        }
    };
    patch(json!({"namespaceSelector": null})).await;
    corner.settled(&other, "1").await;

    patch(json!({"settings": {"secrets": []}})).await;
    generator.logs("the settings cannot be used, and stay as they were").await;
    generator.counts(VALID, 0.0).await;
    let events = Api::<Event>::namespaced(corner.client.clone(), &corner.ns("source"));
    eventually("its own Pod has an Event about it", PATIENCE, || async {
        let events = events.list(&ListParams::default()).await.unwrap();
        events.iter().any(|event| {
            let (about, note) = (&event.involved_object, event.message.as_deref().unwrap_or_default());
            (about.kind.as_deref(), about.name.as_deref()) == (Some("Pod"), Some("generator-0"))
                && event.reason.as_deref() == Some("SettingsInvalid")
                && note.starts_with(
                    "The settings cannot be used, and stay as they were: settings of ClusterAdmissionPolicy",
                )
        })
    })
    .await;
    corner.put_source("2").await;
    corner.settled(&other, "2").await;

    policies.delete(&corner.name, &DeleteParams::default()).await.unwrap();
    eventually("it says so again", PATIENCE, || async {
        generator.log().matches("the generator does nothing until there is one").count() == 2
    })
    .await;
    corner.put_source("3").await;
    stays("the copy is as it was", || async { corner.content(&other).await == Some(docker_config("2")) }).await;
}
