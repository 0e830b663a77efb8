//! What somebody changes is put right; what cannot be changed is made anew.

use crate::harness::{Corner, PATIENCE, docker_config, eventually};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn drift_deletion_and_a_removed_reference_are_repaired() {
    let corner = Corner::new("drift").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let _generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;

    let uid = corner.copy(&namespace).await.unwrap().metadata.uid;
    corner
        .patch_secret(&namespace, json!({"stringData": {".dockerconfigjson": docker_config("x"), "extra": "y"}}))
        .await;
    corner.settled(&namespace, "1").await;
    let copy = corner.copy(&namespace).await.unwrap();
    assert_eq!(copy.data.unwrap().len(), 1, "a key that is not the source's goes");
    assert_eq!(copy.metadata.uid, uid, "repaired in place");

    corner.delete_secret(&namespace).await;
    corner.settled(&namespace, "1").await;

    corner.patch_account(&namespace, json!({"imagePullSecrets": [{"name": "mine"}]})).await;
    corner.settled(&namespace, "1").await;
    assert_eq!(corner.references(&namespace).await, ["mine", &corner.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_copy_is_recreated_when_its_source_rotates() {
    let corner = Corner::new("immutable").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let _generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    corner.patch_secret(&namespace, json!({"immutable": true})).await;
    let uid = corner.copy(&namespace).await.unwrap().metadata.uid;
    corner.put_source("2").await;
    corner.settled(&namespace, "2").await;
    assert_ne!(corner.copy(&namespace).await.unwrap().metadata.uid, uid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_type_is_recreated() {
    let corner = Corner::new("type").await;
    let namespace = corner.namespace("a").await;
    corner.put_secret(&namespace, "Opaque", &docker_config("0")).await;
    corner
        .patch_secret(
            &namespace,
            json!({"metadata": {
                "labels": {"app.kubernetes.io/managed-by": "image-pull-secrets-generator"},
                "annotations": {"image-pull-secrets.kubewarden.io/source": "x/y"},
            }}),
        )
        .await;
    corner.put_source("1").await;
    let _generator = corner.run(&corner.settings(), &[]);
    corner.settled(&namespace, "1").await;
    assert_eq!(corner.copy(&namespace).await.unwrap().type_.unwrap(), "kubernetes.io/dockerconfigjson");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excluded_later_loses_its_copy_and_reference() {
    let corner = Corner::new("exclude").await;
    let (by_label, by_annotation) = (corner.namespace("label").await, corner.namespace("annotation").await);
    corner.put_source("1").await;
    let mut settings = corner.settings();
    settings["exclude"] = json!({"annotation": "example.com/exclude"});
    let _generator = corner.run(&settings, &[]);
    corner.settled(&by_label, "1").await;
    corner.settled(&by_annotation, "1").await;
    corner.patch_account(&by_label, json!({"imagePullSecrets": [{"name": "mine"}, {"name": corner.name}]})).await;
    corner.label_namespace(&by_label, json!({"labels": {"corner": null}})).await;
    corner.label_namespace(&by_annotation, json!({"annotations": {"example.com/exclude": "true"}})).await;
    for (namespace, left) in [(&by_label, vec!["mine"]), (&by_annotation, vec![])] {
        eventually("copy and reference are gone", PATIENCE, || async {
            corner.copy(namespace).await.is_none() && corner.references(namespace).await == left
        })
        .await;
    }
    corner.label_namespace(&by_annotation, json!({"annotations": {"example.com/exclude": null}})).await;
    corner.settled(&by_annotation, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_leaves_the_settings_goes_also_after_a_restart() {
    for live in [true, false] {
        let corner = Corner::new("leave").await;
        let namespace = corner.namespace("a").await;
        corner.put_source("1").await;
        let generator = corner.run_ready(&corner.settings(), &[]).await;
        corner.settled(&namespace, "1").await;
        let other = json!({"secrets": [{"name": "another"}], "serviceAccounts": []});
        let _generator = if live {
            corner.write_settings(&other);
            generator
        } else {
            drop(generator);
            corner.run(&other, &[])
        };
        eventually("copy and reference are gone", PATIENCE, || async {
            corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_have_the_labels_and_annotations_that_they_are_given_and_none_of_their_source() {
    const LABEL: &str = "velero.io/exclude-from-backup";
    const ANNOTATION: &str = "argocd.argoproj.io/compare-options";
    let corner = Corner::new("given").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    corner.patch_secret(&corner.ns("source"), json!({"metadata": {"labels": {"of": "the-source"}}})).await;
    let with_label = ["--copy-label".to_owned(), format!("{LABEL}=true")];
    let both =
        [with_label.as_slice(), &["--copy-annotation".to_owned(), format!("{ANNOTATION}=IgnoreExtraneous")]].concat();
    let run = |more: &[String]| corner.run(&corner.settings(), &more.iter().map(String::as_str).collect::<Vec<_>>());
    let given = async || {
        let metadata = corner.copy(&namespace).await.unwrap().metadata;
        let (labels, annotations) = (metadata.labels.unwrap(), metadata.annotations.unwrap());
        assert!(!labels.contains_key("of"));
        (labels.get(LABEL).cloned(), annotations.get(ANNOTATION).cloned())
    };
    let generator = run(&with_label);
    corner.settled(&namespace, "1").await;
    assert_eq!(given().await, (Some("true".to_owned()), None));
    let uid = corner.copy(&namespace).await.unwrap().metadata.uid;
    drop(generator);

    // Copies that are there already are given what they lack.
    let generator = run(&both);
    let all = (Some("true".to_owned()), Some("IgnoreExtraneous".to_owned()));
    eventually("the copy has both", PATIENCE, || async { given().await == all }).await;
    corner.patch_secret(&namespace, json!({"metadata": {"labels": {LABEL: null}}})).await;
    eventually("the copy has both again", PATIENCE, || async { given().await == all }).await;
    assert_eq!(corner.copy(&namespace).await.unwrap().metadata.uid, uid);
    generator.ready().await;
    assert!(!generator.log().contains(" WARN "), "{}", generator.log());
}

/// The Lease is where it is recorded what there may be.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_leaves_the_settings_goes_also_where_somebody_deleted_the_lease() {
    let corner = Corner::new("unrecorded-run").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let _generator = corner.lead(&corner.settings()).await;
    corner.settled(&namespace, "1").await;
    let leases = Api::<Lease>::namespaced(corner.client.clone(), "default");
    leases.delete(&corner.name, &DeleteParams::default()).await.unwrap();
    eventually("the leader has it again", PATIENCE, || async {
        leases.get_opt(&corner.name).await.unwrap().and_then(|lease| lease.spec?.holder_identity).is_some()
    })
    .await;
    corner.write_settings(&json!({"secrets": [{"name": "another"}], "serviceAccounts": []}));
    eventually("copy and reference are gone", PATIENCE, || async {
        corner.copy(&namespace).await.is_none() && corner.references(&namespace).await.is_empty()
    })
    .await;
}

/// Another replica may be the first to make the Lease anew, and knows nothing of what the leader recorded on the former one.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_its_lease_and_the_record_with_it_records_again_for_its_successor() {
    let corner = Corner::new("successor-record").await;
    let namespace = corner.namespace("a").await;
    corner.put_source("1").await;
    let _generator = corner.lead(&corner.settings()).await;
    corner.settled(&namespace, "1").await;
    let leases = Api::<Lease>::namespaced(corner.client.clone(), "default");
    let successors: Lease = serde_json::from_value(json!({
        "metadata": {"name": corner.name}, "spec": {"holderIdentity": "successor", "leaseDurationSeconds": 3600},
    }))
    .unwrap();
    eventually("the successor is faster", PATIENCE, || async {
        let _ = leases.delete(&corner.name, &DeleteParams::default()).await;
        leases.create(&PostParams::default(), &successors).await.is_ok()
    })
    .await;
    eventually("what there may be is recorded on its Lease", PATIENCE, || async {
        let lease = leases.get(&corner.name).await.unwrap();
        let annotations = lease.metadata.annotations.unwrap_or_default();
        let record = annotations.get("image-pull-secrets.kubewarden.io/footprint");
        lease.spec.unwrap().holder_identity.as_deref() == Some("successor")
            && record.is_some_and(|record| record.contains(&corner.name))
    })
    .await;
}
