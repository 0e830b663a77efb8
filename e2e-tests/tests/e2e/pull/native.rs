//! Without Kubewarden: the API server adds the reference by itself, and the generator makes the copy.

use crate::native::{PLAIN, WITH_PARAMETER, apply as apply_policies};
use crate::pull::new_namespace::{all_pull, apply, before, generator};
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::with_the_policy(PLAIN, json!({}), &[])]
// A Pod that came before its copy lists nothing: it is replaced.
#[case::with_the_policy_that_looks_at_the_secret(
    WITH_PARAMETER, json!({"onMissingSecret": "skip"}), &["--restart-stuck-pods"])]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_namespace_pulls(#[case] file: &str, #[case] settings: Value, #[case] flags: &[&str]) {
    let (registry, product) = before(settings).await;
    apply_policies(&product, file).await;
    let _generator = generator(&product, flags).await;
    let applied = apply(&registry, &product, None).await;
    all_pull(&format!("native/{file} and generator"), &registry, &product, &applied).await;
}
