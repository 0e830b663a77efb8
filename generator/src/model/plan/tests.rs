use super::*;
use crate::model::content::Digest;
use crate::model::label_selector::parse_selector;
use crate::model::observed::ServiceAccountSeen;
use crate::model::ownership::MANAGER;
use k8s_openapi::ByteString;
use rstest::rstest;
use serde_json::json;

const SECRET: &str = "registry-credentials";

fn config(password: &str) -> Arc<Content> {
    let document = format!(r#"{{"auths":{{"ghcr.io":{{"username":"acme","password":"{password}"}}}}}}"#);
    Arc::new(Content::of_docker_config(document.into_bytes()).ok().unwrap())
}

fn rules(document: serde_json::Value) -> Rules {
    let settings = Settings::from_value(&document).unwrap();
    Rules {
        own_sources: Footprint::of(&settings).and(recorded()).sources,
        sources: BTreeMap::from([(SECRET.to_owned(), SourceState::Ready(config("new")))]),
        ..Rules::of(Arc::new(settings))
    }
}

/// From before.
fn recorded() -> Footprint {
    Footprint { sources: BTreeSet::from(["source/registry-credentials".to_owned()]), ..Footprint::default() }
}

/// One secret, copied from the namespace `source`.
fn one_secret() -> serde_json::Value {
    json!({"secrets": [{"name": SECRET, "source": {"namespace": "source"}}]})
}

fn with(mut document: serde_json::Value, key: &str, value: serde_json::Value) -> serde_json::Value {
    document[key] = value;
    document
}

fn version(n: u32) -> Version {
    Version { uid: format!("uid-{n}").into(), resource_version: n.to_string().into() }
}

fn a_copy(content: &Content) -> SecretSeen {
    SecretSeen {
        version: version(1),
        secret_type: content.secret_type.into(),
        digest: content.digest,
        usable: true,
        immutable: false,
        copied_from: Some("source/registry-credentials".into()),
        created: None,
        has_extras: true,
        has_labels: true,
        has_annotations: true,
        deleting: false,
    }
}

fn in_sync() -> SecretSeen {
    a_copy(&config("new"))
}

fn outdated() -> SecretSeen {
    a_copy(&config("old"))
}

fn foreign() -> SecretSeen {
    SecretSeen { copied_from: None, ..outdated() }
}

fn opaque(seen: SecretSeen) -> SecretSeen {
    SecretSeen { secret_type: "Opaque".into(), usable: false, ..seen }
}

fn immutable(seen: SecretSeen) -> SecretSeen {
    SecretSeen { immutable: true, ..seen }
}

fn account(references: &[&str], added: &[&str]) -> ServiceAccountSeen {
    let boxed = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<Box<str>>>();
    ServiceAccountSeen {
        version: version(2),
        references: (!references.is_empty()).then(|| boxed(references)),
        references_by_admission: false,
        added: boxed(added),
        excluded: false,
        has_annotations: !added.is_empty(),
        deleting: false,
    }
}

/// The namespace `team-a` with these things in it, everything listed.
fn index(secret: Option<SecretSeen>, default: Option<ServiceAccountSeen>) -> Index {
    let mut index = Index::default();
    index.listed.secrets = [SECRET, "former"].map(str::to_owned).into();
    index.listed.service_accounts = true;
    index.put_namespace("team-a", Some(NamespaceFacts::default()));
    secret.map(|seen| index.put_secret("team-a", SECRET, seen));
    default.map(|seen| index.put_service_account("team-a", "default", seen));
    index
}

fn state_and_actions(index: &Index, rules: &Rules) -> (CopyState, Vec<String>) {
    let plan = plan_namespace(index, "team-a", rules);
    let actions = plan.actions.iter().map(ToString::to_string).collect();
    (plan.states.first().map_or(CopyState::Unknown, |(_, state)| *state), actions)
}

const CREATE: &[&str] = &["create Secret team-a/registry-credentials"];
const UPDATE: &[&str] = &["update Secret team-a/registry-credentials"];
const RECREATE: &[&str] = &["recreate Secret team-a/registry-credentials"];
const DELETE: &[&str] = &["delete Secret team-a/registry-credentials"];
const NOTHING: &[&str] = &[];

#[rstest]
#[case::no_secret_gets_a_copy(None, CopyState::Missing, CREATE)]
#[case::an_equal_copy_is_left_alone(Some(in_sync()), CopyState::InSync, NOTHING)]
#[case::an_outdated_copy_is_updated_in_place(Some(outdated()), CopyState::Drifted, UPDATE)]
#[case::a_copy_of_another_type_is_recreated(Some(opaque(outdated())), CopyState::Drifted, RECREATE)]
#[case::an_outdated_immutable_copy_is_recreated(Some(immutable(outdated())), CopyState::Drifted, RECREATE)]
#[case::an_equal_immutable_copy_is_left_alone(Some(immutable(in_sync())), CopyState::InSync, NOTHING)]
#[case::a_copy_that_names_another_source_is_marked_anew(
    Some(SecretSeen { copied_from: Some("elsewhere/registry-credentials".into()), ..in_sync() }), CopyState::Drifted, UPDATE)]
#[case::a_copy_that_is_being_deleted_is_waited_for(
    Some(SecretSeen { deleting: true, ..in_sync() }), CopyState::Missing, NOTHING)]
#[case::a_foreign_secret_is_kept(Some(foreign()), CopyState::Foreign, NOTHING)]
#[case::a_foreign_secret_with_the_same_data_is_kept(
    Some(SecretSeen { copied_from: None, ..in_sync() }), CopyState::Foreign, NOTHING)]
#[case::a_foreign_secret_of_another_type_is_kept(Some(opaque(foreign())), CopyState::Foreign, NOTHING)]
#[case::a_foreign_immutable_secret_is_kept(Some(immutable(foreign())), CopyState::Foreign, NOTHING)]
fn a_selected_namespace(#[case] secret: Option<SecretSeen>, #[case] state: CopyState, #[case] actions: &[&str]) {
    let found = state_and_actions(&index(secret, None), &rules(one_secret()));
    assert_eq!(found, (state, actions.iter().map(|&a| a.to_owned()).collect()));
}

#[rstest]
#[case::a_foreign_secret_is_taken_over_in_place(foreign(), UPDATE)]
#[case::a_foreign_secret_with_the_same_data_is_marked(SecretSeen { copied_from: None, ..in_sync() }, UPDATE)]
#[case::a_foreign_secret_of_another_type_is_recreated(opaque(foreign()), RECREATE)]
#[case::a_foreign_immutable_secret_is_recreated(immutable(foreign()), RECREATE)]
fn under_adopt(#[case] secret: SecretSeen, #[case] actions: &[&str]) {
    let rules = rules(with(one_secret(), "conflicts", json!("adopt")));
    let found = state_and_actions(&index(Some(secret), None), &rules);
    assert_eq!(found, (CopyState::Drifted, actions.iter().map(|&a| a.to_owned()).collect()));
}

#[rstest]
#[case::its_copy_goes(Some(in_sync()), CopyState::Leftover, DELETE)]
#[case::a_foreign_secret_stays(Some(foreign()), CopyState::Excluded, NOTHING)]
#[case::nothing_is_made_there(None, CopyState::Excluded, NOTHING)]
fn an_excluded_namespace(
    #[case] secret: Option<SecretSeen>,
    #[case] state: CopyState,
    #[case] actions: &[&str],
    #[values("name", "annotation", "selector")] by: &str,
) {
    let mut rules =
        rules(with(one_secret(), "exclude", json!({"namespaces": [if by == "name" { "team-*" } else { "x" }]})));
    let mut index = index(secret, None);
    if by == "selector" {
        rules.selection = Selection::Matching(vec![parse_selector("pull=yes").unwrap()]);
    }
    let facts = NamespaceFacts { excluded: by == "annotation", ..NamespaceFacts::default() };
    index.put_namespace("team-a", Some(facts));
    assert_eq!(state_and_actions(&index, &rules), (state, actions.iter().map(|&a| a.to_owned()).collect()));
}

/// One secret for the namespaces of team a, by name or by label.
fn for_team_a(by: &str) -> serde_json::Value {
    let (field, value) = match by {
        "name" => ("namespaces", json!(["team-a", "a-*"])),
        "label" => ("namespaceSelector", json!({"matchLabels": {"team": "a"}})),
        _ => ("namespaceSelector", json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]})),
    };
    let mut document = one_secret();
    document["secrets"][0][field] = value;
    document
}

fn labelled(team: &str) -> Option<NamespaceFacts> {
    let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
    Some(NamespaceFacts { labels, ..NamespaceFacts::default() })
}

#[rstest]
fn a_secret_is_copied_where_it_is_for_and_referred_to(#[values("name", "label", "expression")] by: &str) {
    let mut index = index(None, Some(account(&[], &[])));
    index.put_namespace("team-a", labelled("a"));
    let actions = [CREATE[0], "update ServiceAccount team-a/default: +registry-credentials"];
    let found = state_and_actions(&index, &rules(for_team_a(by)));
    assert_eq!(found, (CopyState::Missing, actions.map(str::to_owned).into()));
}

#[rstest]
#[case::its_copy_goes(Some(in_sync()), CopyState::Leftover, DELETE)]
#[case::a_foreign_secret_stays(Some(foreign()), CopyState::Unselected, NOTHING)]
#[case::a_copy_of_another_generator_stays(
    Some(SecretSeen { copied_from: Some("elsewhere/x".into()), ..in_sync() }), CopyState::Unselected, NOTHING)]
#[case::nothing_is_made_there(None, CopyState::Unselected, NOTHING)]
fn where_a_secret_is_not_for(
    #[case] secret: Option<SecretSeen>,
    #[case] state: CopyState,
    #[case] actions: &[&str],
    #[values("name", "label", "expression")] by: &str,
    #[values("keep", "adopt")] conflicts: &str,
) {
    let mut document = for_team_a(by);
    if by == "name" {
        document["secrets"][0]["namespaces"] = json!(["team-b"]);
    }
    let mut index = index(secret, Some(account(&[], &[])));
    index.put_namespace("team-a", labelled("b"));
    let found = state_and_actions(&index, &rules(with(document, "conflicts", json!(conflicts))));
    assert_eq!(found, (state, actions.iter().map(|&a| a.to_owned()).collect()));
}

#[test]
fn references_go_with_the_label_and_only_those_that_the_generator_added() {
    let mut document = for_team_a("label");
    document["secrets"].as_array_mut().unwrap().push(json!({"name": "all"}));
    let rules = rules(document);
    let mut index = index(Some(in_sync()), Some(account(&["mine", SECRET, "all"], &[SECRET, "all"])));
    index.listed.secrets.insert("all".to_owned());
    index.put_namespace("team-a", labelled("a"));
    assert_eq!(state_and_actions(&index, &rules), (CopyState::InSync, vec![]));
    index.put_namespace("team-a", labelled("b"));
    let taken_out = "update ServiceAccount team-a/default: -registry-credentials";
    assert_eq!(state_and_actions(&index, &rules).1, [DELETE[0], taken_out]);
    // As the policy, or a user, put it in.
    index.put_service_account(
        "team-a",
        "default",
        ServiceAccountSeen { version: version(3), ..account(&[SECRET, "all"], &["all"]) },
    );
    assert_eq!(state_and_actions(&index, &rules).1, DELETE);
}

#[test]
fn what_the_settings_exclude_stays_excluded_whatever_a_secret_is_for() {
    let rules = rules(with(for_team_a("name"), "exclude", json!({"namespaces": ["team-*"]})));
    assert_eq!(state_and_actions(&index(None, None), &rules), (CopyState::Excluded, vec![]));
}

#[rstest]
#[case::missing(SourceState::Missing, false)]
#[case::missing_for_certain(SourceState::Gone, false)]
#[case::not_read_yet(SourceState::Unread, true)]
#[case::missing_as_a_watch_says_with_delete_with_source(SourceState::Missing, true)]
#[case::unusable(SourceState::Unusable(Unusable::TooLarge), true)]
fn copies_stay_while_the_source_is(#[case] source: SourceState, #[case] delete_with_source: bool) {
    let mut rules = Rules { delete_with_source, ..rules(one_secret()) };
    rules.sources.insert(SECRET.to_owned(), source);
    assert_eq!(state_and_actions(&index(Some(outdated()), None), &rules), (CopyState::Waiting, vec![]));
    assert_eq!(state_and_actions(&index(None, None), &rules), (CopyState::Waiting, vec![]));
}

#[test]
fn copies_go_with_their_source_when_told_to_and_foreign_secrets_stay() {
    let mut rules = Rules { delete_with_source: true, ..rules(one_secret()) };
    rules.sources.insert(SECRET.to_owned(), SourceState::Gone);
    let actions = |secret| state_and_actions(&index(Some(secret), None), &rules).1;
    assert_eq!(actions(in_sync()), DELETE);
    assert_eq!(actions(foreign()), NOTHING);
    // What goes is no reason to leave out the reference: the same plan again has nothing to add.
    let both = state_and_actions(&index(Some(opaque(in_sync())), Some(account(&[], &[]))), &rules).1;
    assert_eq!(both, [DELETE[0], "update ServiceAccount team-a/default: +registry-credentials"]);
}

#[test]
fn a_terminating_namespace_is_left_alone() {
    let mut index = index(Some(outdated()), Some(account(&[], &[])));
    index.put_namespace("team-a", Some(NamespaceFacts { terminating: true, ..NamespaceFacts::default() }));
    assert_eq!(state_and_actions(&index, &rules(one_secret())), (CopyState::Terminating, vec![]));
}

#[test]
fn what_was_not_listed_completely_is_not_acted_on() {
    let mut index = index(None, Some(account(&[SECRET], &[SECRET])));
    index.listed.secrets.clear();
    assert_eq!(state_and_actions(&index, &rules(one_secret())), (CopyState::Unknown, vec![]));
    index.listed.service_accounts = false;
    let excluded = rules(with(one_secret(), "exclude", json!({"namespaces": ["*"]})));
    assert_eq!(state_and_actions(&index, &excluded), (CopyState::Unknown, vec![]));
}

#[test]
fn a_namespace_that_was_not_seen_itself_is_not_acted_on() {
    let mut index = index(Some(in_sync()), Some(account(&[SECRET], &[SECRET])));
    index.retain_namespaces(&Default::default());
    let everything_goes = Rules { selection: Selection::Nothing, ..rules(one_secret()) };
    assert_eq!(plan_namespace(&index, "team-a", &everything_goes), NamespacePlan::default());
}

#[rstest]
#[case::it_is_there_and_foreign(Some(foreign()))]
#[case::it_is_missing(None)]
#[case::it_looks_like_a_copy(Some(outdated()))]
fn a_source_is_never_written(#[case] secret: Option<SecretSeen>, #[values("keep", "adopt")] conflicts: &str) {
    let document = json!({
        "secrets": [{"name": SECRET, "source": {"namespace": "team-a"}}, {"name": "x", "source": {"namespace": "y"}}],
        "conflicts": conflicts,
    });
    for selection in [Selection::Matching(vec![]), Selection::Nothing] {
        let rules = Rules { selection, ..rules(document.clone()) };
        assert_eq!(state_and_actions(&index(secret.clone(), None), &rules), (CopyState::Source, vec![]));
    }
}

#[test]
fn a_secret_that_another_entry_is_copied_from_is_never_written() {
    let document = json!({
        "secrets": [
            {"name": SECRET, "source": {"namespace": "source"}},
            {"name": "other", "source": {"namespace": "team-a", "name": SECRET}},
        ],
        "conflicts": "adopt",
    });
    assert_eq!(state_and_actions(&index(Some(foreign()), None), &rules(document)), (CopyState::Source, vec![]));
}

#[test]
fn the_copy_of_a_secret_that_left_the_settings_goes() {
    let mut index = index(Some(in_sync()), Some(account(&["former", SECRET], &["former", SECRET])));
    index.put_secret("team-a", "former", outdated());
    let plan = plan_namespace(&index, "team-a", &rules(one_secret()));
    assert_eq!(plan.states, [(SECRET.to_owned(), CopyState::InSync), ("former".to_owned(), CopyState::Leftover)]);
    let actions: Vec<_> = plan.actions.iter().map(ToString::to_string).collect();
    assert_eq!(actions, ["delete Secret team-a/former", "update ServiceAccount team-a/default: -former"]);
}

#[rstest]
#[case::waiting_for_its_new_source(json!({"namespace": "new"}))]
#[case::without_a_source_now(json!(null))]
fn a_copy_that_stays_is_told_with_the_source_that_it_names(#[case] source: serde_json::Value) {
    let secret = if source.is_null() { json!({"name": SECRET}) } else { json!({"name": SECRET, "source": source}) };
    let mut rules = rules(json!({"secrets": [secret]}));
    rules.sources.insert(SECRET.to_owned(), SourceState::Missing);
    let mut index = index(Some(outdated()), None);
    assert_eq!(state_and_actions(&index, &rules).1, NOTHING);
    let told = |index: &Index| own_copies(index, &rules).map(|(a, b)| format!("{a} of {b}")).collect::<Vec<_>>();
    assert_eq!(told(&index), ["registry-credentials of source/registry-credentials"]);

    let theirs = SecretSeen { copied_from: Some("theirs/registry-credentials".into()), ..outdated() };
    index.put_secret("team-a", SECRET, SecretSeen { version: version(3), ..theirs });
    assert_eq!(told(&index), Vec::<String>::new());
    index.put_secret("team-a", SECRET, SecretSeen { version: version(4), ..outdated() });
    index.put_namespace("team-a", Some(NamespaceFacts { terminating: true, ..NamespaceFacts::default() }));
    assert_eq!(told(&index), Vec::<String>::new(), "it goes with its namespace");
}

#[rstest]
#[case::of_a_copy(SecretSeen { has_extras: false, ..in_sync() }, CopyState::Drifted, UPDATE)]
#[case::of_an_immutable_copy(immutable(SecretSeen { has_extras: false, ..in_sync() }), CopyState::Drifted, UPDATE)]
#[case::of_a_foreign_secret(SecretSeen { has_extras: false, ..foreign() }, CopyState::Foreign, NOTHING)]
fn a_missing_label(#[case] secret: SecretSeen, #[case] state: CopyState, #[case] actions: &[&str]) {
    let actions = actions.iter().map(|&action| action.to_owned()).collect();
    assert_eq!(state_and_actions(&index(Some(secret), None), &rules(one_secret())), (state, actions));
}

#[rstest]
#[case::all_of_them(json!({"a": "1", "mine": "x"}), json!({"b": "2"}), true)]
#[case::another_value(json!({"a": "2"}), json!({"b": "2"}), false)]
#[case::no_annotation(json!({"a": "1"}), json!({}), false)]
#[case::nothing(json!(null), json!(null), false)]
fn a_secret_has_what_copies_are_given(
    #[case] labels: serde_json::Value,
    #[case] annotations: serde_json::Value,
    #[case] expected: bool,
) {
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let extras = Extras { labels: map("a", "1"), annotations: map("b", "2") };
    let secret = json!({"metadata": {"name": SECRET, "labels": labels, "annotations": annotations}});
    assert_eq!(SecretSeen::of(&serde_json::from_value(secret).unwrap(), &extras).has_extras, expected);
}

/// Two generators with secrets of one name, for different namespaces.
#[test]
fn the_copy_of_another_generator_and_the_reference_to_it_stay_where_this_one_has_nothing_to_do() {
    let theirs = SecretSeen { copied_from: Some("their-source/registry-credentials".into()), ..outdated() };
    let index = index(Some(theirs), Some(account(&[SECRET], &[SECRET])));
    let excluded = rules(with(one_secret(), "exclude", json!({"namespaces": ["*"]})));
    assert_eq!(state_and_actions(&index, &excluded), (CopyState::Excluded, vec![]));
    let everything_goes = Rules { selection: Selection::Nothing, removal: Removal::All, ..rules(one_secret()) };
    assert_eq!(state_and_actions(&index, &everything_goes), (CopyState::Excluded, vec![]));
    let gone = Rules {
        delete_with_source: true,
        sources: BTreeMap::from([(SECRET.to_owned(), SourceState::Gone)]),
        ..rules(one_secret())
    };
    assert_eq!(state_and_actions(&index, &gone).0, CopyState::Waiting);
    // Where it is to have a copy, this one takes it over.
    assert_eq!(state_and_actions(&index, &rules(one_secret())).1, ["update Secret team-a/registry-credentials"]);
    // One that copies nothing has no copies.
    let copies_nothing = Rules { own_sources: BTreeSet::new(), ..everything_goes };
    assert_eq!(state_and_actions(&index, &copies_nothing), (CopyState::Excluded, vec![]));
}

#[test]
fn a_secret_without_a_source_is_not_copied_and_is_referred_to() {
    let rules = rules(json!({"secrets": [{"name": SECRET}]}));
    for (secret, expected) in [(None, CopyState::Unmanaged), (Some(foreign()), CopyState::Unmanaged)] {
        let found = state_and_actions(&index(secret, Some(account(&[], &[]))), &rules);
        assert_eq!(found, (expected, vec![format!("update ServiceAccount team-a/default: +{SECRET}")]));
    }
}

#[rstest]
#[case::by_images(json!({"matchImages": ["ghcr.io"]}))]
#[case::by_its_credentials(json!({"matchCredentials": true}))]
fn a_secret_for_some_pods_is_copied_and_not_referred_to(#[case] mut secret: serde_json::Value) {
    secret["name"] = json!(SECRET);
    secret["source"] = json!({"namespace": "source"});
    let found = state_and_actions(&index(None, Some(account(&[], &[]))), &rules(json!({"secrets": [secret]})));
    assert_eq!(found, (CopyState::Missing, CREATE.iter().map(|&a| a.to_owned()).collect()));
}

#[rstest]
#[case::a_missing_reference_is_appended(account(&["mine"], &[]), "+registry-credentials", &[SECRET])]
#[case::a_reference_that_somebody_removed_comes_back(account(&["mine"], &[SECRET]), "+registry-credentials", &[SECRET])]
#[case::a_reference_that_was_there_is_not_ours(account(&[SECRET], &[]), "", &[])]
#[case::a_reference_that_we_added_is_left_alone(account(&[SECRET], &[SECRET]), "", &[])]
#[case::one_that_we_added_and_is_not_wanted_goes(account(&["former", SECRET], &["former"]), "-former", &[])]
#[case::one_that_we_did_not_add_stays(account(&["former", SECRET], &[]), "", &[])]
#[case::the_record_follows(account(&[SECRET], &["former"]), "annotation only", &[])]
fn references(#[case] account: ServiceAccountSeen, #[case] expected: &str, #[case] added: &[&str]) {
    let index = index(Some(in_sync()), Some(account));
    let plan = plan_namespace(&index, "team-a", &rules(one_secret()));
    match plan.actions.as_slice() {
        [] => assert_eq!(expected, ""),
        [Action::Refer(change)] => {
            assert_eq!(change.to_string(), format!("ServiceAccount team-a/default: {expected}"));
            assert_eq!(change.added, added);
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::a_foreign_secret_that_works(foreign(), "keep", &["update ServiceAccount team-a/default: +registry-credentials"])]
#[case::a_foreign_secret_that_does_not(opaque(foreign()), "keep", &[])]
#[case::one_that_is_about_to_be_replaced(opaque(foreign()), "adopt",
    &["recreate Secret team-a/registry-credentials", "update ServiceAccount team-a/default: +registry-credentials"])]
fn a_secret_that_would_break_pods_is_not_referred_to(
    #[case] secret: SecretSeen,
    #[case] conflicts: &str,
    #[case] expected: &[&str],
) {
    let rules = rules(with(one_secret(), "conflicts", json!(conflicts)));
    assert_eq!(state_and_actions(&index(Some(secret), Some(account(&[], &[]))), &rules).1, expected);
}

/// The policy gives a namespace's ServiceAccount the reference before there can be a Secret.
#[rstest]
#[case::the_policys_goes("warn", opaque(foreign()), true, true)]
#[case::the_policys_goes_under_reject("reject", opaque(foreign()), true, true)]
#[case::the_policy_would_add_it_again("ignore", opaque(foreign()), true, false)]
#[case::somebody_wrote_the_list("warn", opaque(foreign()), false, false)]
#[case::the_secret_works("warn", foreign(), true, false)]
#[case::the_copy_is_about_to_be_mended("warn", opaque(outdated()), true, false)]
fn a_reference_that_is_not_recorded_to_a_secret_that_breaks_pods(
    #[case] policy: &str,
    #[case] secret: SecretSeen,
    #[case] references_by_admission: bool,
    #[case] goes: bool,
) {
    let rules = rules(with(one_secret(), "onMissingSecret", json!(policy)));
    let account = ServiceAccountSeen { references_by_admission, ..account(&["another", SECRET], &[]) };
    let mut index = index(Some(secret), Some(account.clone()));
    let removal = "update ServiceAccount team-a/default: -registry-credentials".to_owned();
    assert_eq!(state_and_actions(&index, &rules).1.contains(&removal), goes);
    // One that is not selected is nobody's business here.
    index.put_service_account("team-a", "builder", ServiceAccountSeen { version: version(3), ..account });
    assert!(!state_and_actions(&index, &rules).1.iter().any(|action| action.contains("builder")));
}

#[rstest]
#[case::nobody_wrote_it(json!([{"manager": "a", "fieldsV1": {"f:metadata": {}}}]), true)]
#[case::nobody_wrote_anything(json!([]), true)]
#[case::somebody_did(
    json!([{"manager": "a", "fieldsV1": {"f:metadata": {}}}, {"manager": "b", "fieldsV1": {"f:imagePullSecrets": {}}}]), false
)]
fn a_list_without_an_owner_comes_from_admission(#[case] managed_fields: serde_json::Value, #[case] expected: bool) {
    let seen = |list: serde_json::Value| {
        let account =
            json!({"metadata": {"name": "default", "managedFields": managed_fields}, "imagePullSecrets": list});
        let account = serde_json::from_value(account).unwrap();
        ServiceAccountSeen::of_new(&account, &Settings::from_value(&one_secret()).unwrap()).references_by_admission
    };
    assert_eq!(seen(json!([{"name": SECRET}])), expected);
    assert!(!seen(json!(null)), "there is no list");
}

#[rstest]
#[case::seen_again(2, &[SECRET], true)]
#[case::the_list_was_written(3, &["mine", SECRET], false)]
#[case::something_was_written(3, &[SECRET], false)]
fn a_list_is_no_longer_admissions_alone_once_the_account_was_written_to(
    #[case] later: u32,
    #[case] references: &[&str],
    #[case] expected: bool,
) {
    let new = |account| ServiceAccountSeen { references_by_admission: true, ..account };
    let mut index = index(None, Some(new(account(&[SECRET], &[]))));
    let by_admission = |index: &Index| index.namespaces["team-a"].service_accounts["default"].references_by_admission;
    assert!(by_admission(&index));
    let seen = ServiceAccountSeen { version: version(later), ..account(references, &[]) };
    index.put_service_account("team-a", "default", new(seen));
    assert_eq!(by_admission(&index), expected);
}

/// A Pod that inherits a reference to a Secret which is not there is what `skip` is to prevent.
#[rstest]
#[case::nothing("skip", None, false)]
#[case::a_copy("skip", Some(in_sync()), true)]
#[case::a_copy_that_is_outdated("skip", Some(outdated()), true)]
#[case::a_copy_that_is_being_deleted("skip", Some(SecretSeen { deleting: true, ..in_sync() }), false)]
#[case::a_copy_that_cannot_be_used_yet("skip", Some(opaque(outdated())), false)]
#[case::a_foreign_secret_that_works("skip", Some(foreign()), true)]
#[case::nothing_and_that_is_told("warn", None, true)]
#[case::nothing_and_pods_are_denied("reject", None, true)]
#[case::nothing_and_nobody_asks("ignore", None, true)]
fn a_reference_is_added_where_there_is(#[case] policy: &str, #[case] secret: Option<SecretSeen>, #[case] added: bool) {
    let rules = rules(with(one_secret(), "onMissingSecret", json!(policy)));
    let actions = state_and_actions(&index(secret, Some(account(&[], &[]))), &rules).1;
    let refers = "update ServiceAccount team-a/default: +registry-credentials".to_owned();
    assert_eq!(actions.contains(&refers), added, "{actions:?}");
}

#[test]
fn under_skip_a_reference_stays_while_its_copy_is_made_again() {
    let rules = rules(with(one_secret(), "onMissingSecret", json!("skip")));
    for added in [&[SECRET][..], &[]] {
        let actions = state_and_actions(&index(None, Some(account(&[SECRET], added))), &rules).1;
        assert_eq!(actions, CREATE);
    }
}

#[test]
fn under_skip_a_secret_that_somebody_else_makes_is_referred_to_once_it_is_there() {
    let rules = rules(json!({"secrets": [{"name": SECRET}], "onMissingSecret": "skip"}));
    assert_eq!(state_and_actions(&index(None, Some(account(&[], &[]))), &rules).1, NOTHING);
    let refers = ["update ServiceAccount team-a/default: +registry-credentials"];
    assert_eq!(state_and_actions(&index(Some(foreign()), Some(account(&[], &[]))), &rules).1, refers);
}

#[rstest]
#[case::excluded_by_its_annotation(ServiceAccountSeen { excluded: true, ..account(&["mine", SECRET], &[SECRET]) }, "default")]
#[case::not_selected(account(&["mine", SECRET], &[SECRET]), "builder")]
fn a_service_account_that_is_left_alone_loses_only_what_we_added(
    #[case] account: ServiceAccountSeen,
    #[case] name: &str,
) {
    let mut index = index(Some(in_sync()), None);
    index.put_service_account("team-a", name, account);
    let actions = state_and_actions(&index, &rules(one_secret())).1;
    assert_eq!(actions, [format!("update ServiceAccount team-a/{name}: -{SECRET}")]);
}

#[test]
fn a_reference_of_another_generator_stays() {
    let index = index(None, Some(account(&["another", SECRET], &["another", SECRET])));
    let everything_goes = Rules { selection: Selection::Nothing, ..rules(one_secret()) };
    let plan = plan_namespace(&index, "team-a", &everything_goes);
    let [Action::Refer(change)] = plan.actions.as_slice() else { panic!("{plan:?}") };
    assert_eq!((change.removed(), &change.added[..]), (vec![SECRET], &["another".to_owned()][..]));
}

#[test]
fn cleanup_removes_copies_and_references_and_nothing_else() {
    let everything_goes = Rules { selection: Selection::Nothing, ..rules(one_secret()) };
    let index_of_ours = index(Some(outdated()), Some(account(&["mine", SECRET], &[SECRET])));
    assert_eq!(
        state_and_actions(&index_of_ours, &everything_goes).1,
        ["delete Secret team-a/registry-credentials", "update ServiceAccount team-a/default: -registry-credentials"]
    );
    let index_of_theirs = index(Some(foreign()), Some(account(&["mine", SECRET], &[])));
    assert_eq!(state_and_actions(&index_of_theirs, &everything_goes).1, NOTHING);
}

#[rstest]
#[case::to_a_copy(Some(outdated()), true)]
#[case::to_nothing(None, true)]
#[case::to_a_foreign_secret(Some(foreign()), false)]
fn cleanup_of_all_references_removes_one_that_others_added(#[case] secret: Option<SecretSeen>, #[case] expected: bool) {
    let rules = Rules { selection: Selection::Nothing, removal: Removal::All, ..rules(one_secret()) };
    let index = index(secret, Some(account(&["mine", SECRET], &[])));
    let actions = state_and_actions(&index, &rules).1;
    let removal = "update ServiceAccount team-a/default: -registry-credentials".to_owned();
    assert_eq!(actions.contains(&removal), expected, "{actions:?}");
}

#[test]
fn a_watch_event_that_was_overtaken_changes_nothing() {
    let mut index = index(None, None);
    let newer = SecretSeen { version: version(9), ..in_sync() };
    assert!(index.put_secret("team-a", SECRET, newer.clone()));
    assert!(!index.put_secret("team-a", SECRET, outdated()));
    assert!(!index.remove_secret("team-a", SECRET, &version(1)));
    assert_eq!(index.namespaces["team-a"].secrets[SECRET], newer);
}

#[test]
fn an_action_prints_no_credential() {
    let plan = plan_namespace(&index(Some(outdated()), None), "team-a", &rules(one_secret()));
    let printed = format!("{plan:?}");
    assert!(!printed.contains("new") && !printed.contains("auths"), "{printed}");
}

#[test]
fn a_secret_is_a_copy_only_with_both_marks() {
    let secret = |labels: serde_json::Value, annotations: serde_json::Value| {
        let secret = json!({"metadata": {"name": SECRET, "labels": labels, "annotations": annotations}});
        SecretSeen::of(&serde_json::from_value(secret).unwrap(), &Default::default())
    };
    let label = json!({"app.kubernetes.io/managed-by": MANAGER});
    let annotation = json!({"image-pull-secrets.kubewarden.io/source": "source/registry-credentials"});
    assert_eq!(secret(label.clone(), annotation.clone()).copied_from.as_deref(), Some("source/registry-credentials"));
    assert_eq!(secret(label, json!({})).copied_from, None);
    assert_eq!(secret(json!({}), annotation.clone()).copied_from, None);
    assert_eq!(secret(json!({"app.kubernetes.io/managed-by": "Helm"}), annotation).copied_from, None);
}

#[test]
fn an_index_keeps_no_data() {
    let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(b"hunter2".to_vec()))]);
    let digest = Digest::of(&data);
    let secret = k8s_openapi::api::core::v1::Secret { data: Some(data), ..Default::default() };
    let seen = SecretSeen::of(&secret, &Default::default());
    assert_eq!(seen.digest, digest);
    assert!(!format!("{seen:?}").contains("hunter2"));
}
