//! Pods as people have them, and what is said of their images.

use super::absence::tests::policy;
use super::*;
use image_pull_secrets::docker_config::DockerConfigError;
use k8s_openapi::ByteString;
use rstest::rstest;
use serde_json::{Value, json};

/// A Secret with these entries: server and user.
fn secret(entries: &[(&str, &str)]) -> Found {
    let auths: serde_json::Map<_, _> = entries
        .iter()
        .map(|(server, user)| ((*server).to_owned(), json!({"username": user, "password": "hunter2"})))
        .collect();
    secret_of(&json!({"auths": auths}))
}

fn secret_of(document: &Value) -> Found {
    let data = ByteString(document.to_string().into_bytes());
    Found::of("kubernetes.io/dockerconfigjson", &BTreeMap::from([(".dockerconfigjson".to_owned(), data)]))
}

fn malformed() -> Found {
    let found = secret_of(&json!({"auths": {"ghcr.io": {"auth": "hunter2!"}}}));
    assert!(matches!(found, Found::Malformed(DockerConfigError::Entry { .. })), "{found:?}");
    found
}

/// A Pod that lists these, in a namespace with these.
fn pod(image: &str, listed: &[&str], secrets: &[(&str, Found)]) -> Facts {
    Facts {
        subject: "pod/web".to_owned(),
        namespace: "shop".to_owned(),
        images: vec![PlacedImage { place: "container app".to_owned(), reference: image.to_owned(), status: None }],
        listed: listed.iter().map(|&name| (name.to_owned(), Origin::Pod)).collect(),
        secrets: secrets.iter().map(|(name, found)| ((*name).to_owned(), found.clone())).collect(),
        ..Facts::default()
    }
}

fn waiting(facts: Facts, problem: Problem) -> Facts {
    let status = Status::Waiting { reason: "ErrImagePull".to_owned(), problem, message: String::new(), next_try: None };
    with_status(facts, status)
}

fn with_status(mut facts: Facts, status: Status) -> Facts {
    facts.images[0].status = Some(status);
    facts
}

fn with_policy(facts: Facts, settings: Value) -> Facts {
    Facts { policy: Some(policy(settings)), ..facts }
}

const GHCR: &str = "ghcr.io/acme/app:1";

#[rstest]
#[case::a_credential(
    pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]),
    Outcome::Pulls, "pulls with creds (ghcr.io, user bot)", None)]
#[case::the_first_of_several(
    pod(GHCR, &["a", "b"], &[("a", secret(&[("ghcr.io", "one")])), ("b", secret(&[("ghcr.io/acme", "two")]))]),
    Outcome::Pulls, "pulls with b (ghcr.io/acme, user two)", None)]
#[case::a_missing_secret_beside_a_good_one(
    pod(GHCR, &["gone", "creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]),
    Outcome::Pulls, "pulls with creds (ghcr.io, user bot)", None)]
#[case::an_entry_without_a_user(
    pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "")]))]),
    Outcome::CannotTell, "anonymous: the entry for ghcr.io in creds has no user name",
    Some("Give the entry for ghcr.io in Secret creds a user name and a password."))]
#[case::no_secret(
    pod(GHCR, &[], &[]),
    Outcome::CannotTell, "anonymous: the Pod lists no Secret",
    Some("If the image is private, list a Secret with an entry for ghcr.io; if anybody may pull it, nothing is to be done."))]
#[case::a_missing_secret(
    pod(GHCR, &["creds"], &[("creds", Found::Missing)]),
    Outcome::CannotTell, "anonymous: the kubelet can use none of the Secrets that the Pod lists",
    Some("Create Secret creds in the Pod's namespace, or give it a source in the settings, so that the generator does."))]
#[case::a_secret_of_another_type(
    pod(GHCR, &["creds"], &[("creds", Found::of("Opaque", &BTreeMap::new()))]),
    Outcome::CannotTell, "anonymous: the kubelet can use none of the Secrets that the Pod lists",
    Some("Create Secret creds anew with kubectl create secret docker-registry, or take it out of the list."))]
#[case::a_secret_for_another_registry(
    pod("quay.io/acme/app", &["creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]),
    Outcome::CannotTell, "anonymous: no Secret has an entry for quay.io",
    Some("If the image is private, list a Secret with an entry for quay.io; if anybody may pull it, nothing is to be done."))]
#[case::a_secret_for_another_port(
    pod("quay.io/acme/app", &["team-creds"], &[("team-creds", secret(&[("quay.io:443", "bot")]))]),
    Outcome::CannotTell,
    "anonymous: no Secret has an entry for quay.io; nearest: quay.io:443 in team-creds differs by its port",
    Some("Name the server quay.io in Secret team-creds."))]
#[case::docker_hub_by_a_wrong_name(
    pod("acme/app", &["creds"], &[("creds", secret(&[("hub.docker.com", "bot")]))]),
    Outcome::CannotTell,
    "anonymous: no Secret has an entry for docker.io; nearest: hub.docker.com in creds is not Docker Hub's name for the kubelet",
    Some("Name the server https://index.docker.io/v1/ in Secret creds."))]
#[case::a_malformed_secret(
    pod(GHCR, &["creds", "x"], &[("creds", secret(&[("ghcr.io", "bot")])), ("x", malformed())]),
    Outcome::DoesNotPull, "fails: Secret x is malformed, and the kubelet fails every image of the Pod",
    Some("Create Secret x anew with kubectl create secret docker-registry, or take it out of the list."))]
#[case::a_malformed_secret_that_is_not_listed(
    pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "bot")])), ("x", malformed())]),
    Outcome::Pulls, "pulls with creds (ghcr.io, user bot)", None)]
#[case::a_name_that_is_none(
    pod("ghcr.io/Acme/app", &[], &[]),
    Outcome::DoesNotPull, "fails: the image's name has upper-case letters in its repository name",
    Some("Correct the image's name."))]
#[case::a_secret_that_may_not_be_read(
    pod(GHCR, &["creds", "x"], &[
        ("creds", secret(&[("ghcr.io", "bot")])), ("x", Found::Unreadable("forbidden".to_owned())),
    ]),
    Outcome::CannotTell, "cannot tell: Secret x could not be read",
    Some("Ask for the right to read the Secret, or have somebody run this who has it."))]
#[case::a_secret_that_nobody_names(
    pod(GHCR, &[], &[("creds", secret(&[("ghcr.io", "bot")]))]),
    Outcome::CannotTell,
    "anonymous: the Pod lists no Secret; Secret creds has an entry for it, but the Pod does not list it: neither the Pod nor the \
     settings name it",
    Some("Add creds to the secrets of the settings, or to the imagePullSecrets of the Pod or of its ServiceAccount, and recreate \
          the Pod."))]
#[case::nearly_right_beside_one_that_nobody_names(
    pod("quay.io/acme/app", &["port"], &[
        ("port", secret(&[("quay.io:443", "bot")])), ("other", secret(&[("quay.io", "bot")])),
    ]),
    Outcome::CannotTell,
    "anonymous: no Secret has an entry for quay.io; nearest: quay.io:443 in port differs by its port",
    Some("Name the server quay.io in Secret port."))]
#[case::a_name_that_is_nearly_right(
    pod(GHCR, &["cred"], &[("cred", Found::Missing), ("creds", secret(&[("ghcr.io", "bot")]))]),
    Outcome::CannotTell,
    "anonymous: the kubelet can use none of the Secrets that the Pod lists; Secret creds has an entry for it, but the Pod does \
     not list it: neither the Pod nor the settings name it",
    Some("Create Secret cred with kubectl create secret docker-registry, or list creds instead and recreate the Pod."))]
#[case::an_older_pod(
    with_policy(pod(GHCR, &[], &[("creds", secret(&[("ghcr.io", "bot")]))]), json!({"secrets": [{"name": "creds"}]})),
    Outcome::CannotTell,
    "anonymous: the Pod lists no Secret; Secret creds has an entry for it, but the Pod does not list it: the Pod was created \
     before the policy could add it",
    Some("Recreate the Pod: the list of a Pod that exists cannot change."))]
#[case::older_than_what_its_service_account_lists(
    Facts { account_lists: vec!["creds".to_owned()], ..pod(GHCR, &[], &[("creds", secret(&[("ghcr.io", "bot")]))]) },
    Outcome::CannotTell,
    "anonymous: the Pod lists no Secret; Secret creds has an entry for it, but the Pod does not list it: the Pod was created \
     before its ServiceAccount listed it",
    Some("Recreate the Pod: the list of a Pod that exists cannot change."))]
#[case::not_matched_by_match_images(
    with_policy(pod(GHCR, &[], &[("creds", secret(&[("ghcr.io", "bot")]))]),
        json!({"secrets": [{"name": "creds", "matchImages": ["quay.io"]}]})),
    Outcome::CannotTell,
    "anonymous: the Pod lists no Secret; Secret creds has an entry for it, but the Pod does not list it: its matchImages matches \
     no image of the Pod",
    Some("Add the image's registry to matchImages of creds in the settings, and recreate the Pod."))]
#[case::in_another_namespace(
    Facts {
        elsewhere: BTreeMap::from([(("team".to_owned(), "creds".to_owned()), secret(&[("ghcr.io", "bot")]))]),
        ..pod(GHCR, &["creds"], &[("creds", Found::Missing)])
    },
    Outcome::CannotTell,
    "anonymous: the kubelet can use none of the Secrets that the Pod lists; Secret creds has an entry for it, but is in \
     namespace team",
    Some("Create Secret creds in the Pod's namespace, or give it a source in the settings, so that the generator does."))]
#[case::refused_with_a_credential(
    waiting(pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]), Problem::Refused),
    Outcome::DoesNotPull, "does not pull with creds (ghcr.io, user bot): the registry refuses access",
    Some("Renew the credential in Secret creds: it is wrong or has expired, or its account may not pull this image."))]
#[case::no_such_image_without_a_credential(
    waiting(pod(GHCR, &[], &[]), Problem::NoSuchImage),
    Outcome::DoesNotPull, "anonymous: the Pod lists no Secret",
    Some("If the image is private, list a Secret with an entry for ghcr.io; if anybody may pull it, nothing is to be done."))]
#[case::no_such_image_with_a_credential(
    waiting(pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]), Problem::NoSuchImage),
    Outcome::DoesNotPull,
    "does not pull with creds (ghcr.io, user bot): the registry has no such image, or hides it from whoever asked",
    Some("Check the image's name and tag, and that the account may see the image: many registries hide it otherwise."))]
#[case::something_that_no_credential_helps(
    waiting(pod(GHCR, &[], &[]), Problem::HostName),
    Outcome::DoesNotPull, "anonymous: the Pod lists no Secret",
    Some("Check the registry in the image's name, and the Nodes' DNS."))]
#[case::a_public_image(
    with_status(pod("nginx", &[], &[]), Status::Pulled),
    Outcome::Pulls, "anonymous: the Pod lists no Secret", None)]
fn what_is_said_of_a_pod(
    #[case] facts: Facts,
    #[case] outcome: Outcome,
    #[case] sentence: &str,
    #[case] remedy: Option<&str>,
) {
    let explanation = explain(&facts);
    let image = &explanation.images[0];
    assert_eq!((image.to_string().as_str(), explanation.outcome()), (sentence, outcome));
    assert_eq!(image.remedy(&facts).map(|remedy| remedy.to_string()).as_deref(), remedy);
    assert!(!format!("{facts:?}{explanation:?}").contains("hunter2"));
}

#[test]
fn the_attempts_come_in_the_order_of_the_kubelet_with_their_users() {
    let facts = pod(
        GHCR,
        &["a", "b"],
        &[
            ("a", secret(&[("ghcr.io", "one"), ("https://ghcr.io", "other"), ("quay.io", "none")])),
            ("b", secret(&[("ghcr.io/acme", "two"), ("*.io", "three")])),
        ],
    );
    let image = &explain(&facts).images[0];
    let attempts: Vec<_> = image
        .attempts
        .iter()
        .map(|attempt| (&*attempt.secret, &*attempt.server, &*attempt.user, attempt.is_interchangeable))
        .collect();
    assert_eq!(
        attempts,
        [
            ("b", "ghcr.io/acme", "two", false),
            ("a", "ghcr.io", "one", false),
            ("a", "https://ghcr.io", "other", true),
            ("b", "*.io", "three", false)
        ]
    );
    assert_eq!(image.name.as_deref(), Some("ghcr.io/acme/app"));
}

#[rstest]
#[case::accepted(&[Answer::No(Problem::Refused), Answer::Accepted], Outcome::Pulls, Outcome::Pulls, None)]
#[case::refused(
    &[Answer::No(Problem::Refused)], Outcome::DoesNotPull, Outcome::DoesNotPull, Some(Problem::Refused))]
#[case::no_such_image(
    &[Answer::No(Problem::NoSuchImage)], Outcome::DoesNotPull, Outcome::DoesNotPull, Some(Problem::NoSuchImage))]
#[case::no_way_from_here(
    &[Answer::No(Problem::HostName)], Outcome::CannotTell, Outcome::DoesNotPull, Some(Problem::Platform))]
#[case::a_limit_for_who_asks_from_here(
    &[Answer::No(Problem::RateLimit)], Outcome::CannotTell, Outcome::DoesNotPull, Some(Problem::Platform))]
fn what_the_registry_says_of_the_image_counts_most(
    #[case] answers: &[Answer],
    #[case] expected: Outcome,
    #[case] of_a_pod_that_waits: Outcome,
    #[case] problem: Option<Problem>,
) {
    let facts = pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]);
    let outcome = |facts: &Facts| {
        let mut image = explain(facts).images.remove(0);
        image.answers = answers.to_vec();
        (image.outcome(), image.problem())
    };
    assert_eq!(outcome(&facts).0, expected);
    assert_eq!(outcome(&waiting(facts, Problem::Platform)), (of_a_pod_that_waits, problem));
}

#[test]
fn the_worst_image_counts() {
    let mut facts = pod(GHCR, &["creds"], &[("creds", secret(&[("ghcr.io", "bot")]))]);
    facts.images.push(PlacedImage { place: "container b".to_owned(), reference: "Bad".to_owned(), status: None });
    assert_eq!(explain(&facts).outcome(), Outcome::DoesNotPull);
}

#[rstest]
#[case::usable(&[("creds", secret(&[("ghcr.io", "bot")]))], Outcome::Pulls)]
#[case::one_is_missing(&[("creds", secret(&[("ghcr.io", "bot")])), ("gone", Found::Missing)], Outcome::CannotTell)]
#[case::one_is_malformed(&[("creds", secret(&[("ghcr.io", "bot")])), ("x", malformed())], Outcome::DoesNotPull)]
#[case::none(&[], Outcome::CannotTell)]
fn without_images_the_secrets_count(#[case] secrets: &[(&str, Found)], #[case] expected: Outcome) {
    let listed: Vec<_> = secrets.iter().map(|(name, _)| *name).collect();
    let facts = Facts { images: Vec::new(), ..pod(GHCR, &listed, secrets) };
    assert_eq!(explain(&facts).outcome(), expected);
}
