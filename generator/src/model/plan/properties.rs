//! Properties that every plan has, in every state that a cluster can reach.

use super::*;
use crate::model::content::Digest;
use crate::model::observed::ServiceAccountSeen;
use image_pull_secrets::settings::OnMissingSecret;
use k8s_openapi::ByteString;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const NAMES: [&str; 4] = ["a", "b", "c", "former"];
const NAMESPACES: [&str; 4] = ["source", "team-a", "team-b", "kube-system"];

/// How many states of a cluster each property is tried with. Continuous integration has the time for more of them than `make test`.
fn cases() -> u32 {
    std::env::var("PLAN_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

fn content(n: u8) -> Arc<Content> {
    let document = format!(r#"{{"auths":{{"ghcr.io":{{"username":"acme","password":"{n}"}}}}}}"#);
    Arc::new(Content::of_docker_config(document.into_bytes()).ok().unwrap())
}

fn settings() -> impl Strategy<Value = Value> {
    let source = prop_oneof![
        Just(json!({"namespace": "source"})),
        Just(json!({"namespace": "source", "name": "a"})),
        Just(json!({"namespace": "team-a", "name": "b"})),
        Just(json!({"env": "CONFIG"})),
    ];
    let names = prop_oneof![Just(json!(["team-*"])), Just(json!(["team-a", "source"]))];
    let operator = prop_oneof![Just("In"), Just("NotIn")];
    let selector = operator
        .prop_map(|operator| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["a"]}]}));
    let images = option::of(Just(json!(["ghcr.io"])));
    let secret = (option::of(source), images, option::weighted(0.3, names), option::of(selector));
    let accounts = prop_oneof![Just(json!(["default"])), Just(json!(["*"])), Just(json!([]))];
    let excluded = prop_oneof![Just(json!([])), Just(json!(["kube-*"])), Just(json!(["team-a", "source"]))];
    let conflicts = prop_oneof![Just("keep"), Just("adopt")];
    let on_missing = prop_oneof![Just("warn"), Just("skip")];
    (vec(secret, 1..=3), accounts, excluded, conflicts, on_missing).prop_map(
        |(secrets, accounts, excluded, conflicts, on_missing)| {
            let secrets = NAMES.iter().zip(secrets).map(|(name, (source, images, names, selector))| {
                let mut secret = json!({"name": name});
                let fields = [
                    ("source", source),
                    ("matchImages", images),
                    ("namespaces", names),
                    ("namespaceSelector", selector),
                ];
                for (field, value) in fields.into_iter().filter_map(|(field, value)| Some((field, value?))) {
                    secret[field] = value;
                }
                secret
            });
            let secrets: Vec<_> = secrets.collect();
            json!({
                "secrets": secrets, "serviceAccounts": accounts, "conflicts": conflicts,
                "exclude": {"namespaces": excluded}, "onMissingSecret": on_missing,
            })
        },
    )
}

fn source_state() -> impl Strategy<Value = SourceState> {
    prop_oneof![
        4 => (0u8..2).prop_map(|n| SourceState::Ready(content(n))),
        1 => Just(SourceState::Unread),
        1 => Just(SourceState::Missing),
        1 => Just(SourceState::Gone),
        1 => Just(SourceState::Unusable(Unusable::TooLarge)),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let selection = prop_oneof![4 => Just(Selection::Matching(vec![])), 1 => Just(Selection::Nothing)];
    let own_sources = prop::sample::subsequence(vec!["source/a", "env:CONFIG", "elsewhere/a"], 0..=3);
    (settings(), vec(source_state(), 3), selection, any::<bool>(), own_sources).prop_map(
        |(document, sources, selection, delete_with_source, own_sources)| Rules {
            settings: Arc::new(Settings::from_value(&document).unwrap()),
            own_sources: own_sources.into_iter().map(str::to_owned).collect(),
            selection,
            removal: Removal::Recorded,
            delete_with_source,
            extras: Arc::default(),
            sources: NAMES.iter().map(|&name| name.to_owned()).zip(sources).collect(),
        },
    )
}

fn secret() -> impl Strategy<Value = SecretSeen> {
    let copied_from = option::of(prop_oneof![Just("source/a"), Just("env:CONFIG"), Just("elsewhere/a")]);
    (0u8..3, any::<(bool, bool)>(), copied_from, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(n, (opaque, immutable), copied_from, has_extras, deleting)| {
            let content = content(n);
            SecretSeen {
                version: Version { uid: "uid".into(), resource_version: "1".into() },
                secret_type: if opaque { "Opaque" } else { content.secret_type }.into(),
                digest: content.digest,
                usable: !opaque,
                immutable,
                copied_from: copied_from.map(Into::into),
                created: None,
                has_extras,
                has_labels: true,
                has_annotations: true,
                deleting,
            }
        },
    )
}

fn account() -> impl Strategy<Value = ServiceAccountSeen> {
    let names = || vec(prop::sample::select(vec!["a", "b", "c", "former", "mine"]), 0..5);
    let added = prop::sample::subsequence(vec!["a", "b", "c", "former"], 0..=4);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1), any::<bool>());
    (option::of(names()), added, flags).prop_map(
        |(references, added, (excluded, deleting, references_by_admission))| ServiceAccountSeen {
            version: Version { uid: "uid".into(), resource_version: "1".into() },
            references: references.map(|names| names.into_iter().map(Into::into).collect()),
            references_by_admission,
            has_annotations: !added.is_empty(),
            added: added.into_iter().map(Into::into).collect(),
            excluded,
            deleting,
        },
    )
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(Just("team".to_owned()), prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 0..=1)
}

fn index() -> impl Strategy<Value = Index> {
    let name = |names: &'static [&'static str]| prop::sample::select(names).prop_map(str::to_owned);
    let facts = (labels(), prop::bool::weighted(0.2), prop::bool::weighted(0.1))
        .prop_map(|(labels, excluded, terminating)| NamespaceFacts { labels, excluded, terminating });
    let seen = (
        option::weighted(0.9, facts),
        btree_map(name(&NAMES), secret(), 0..4),
        btree_map(name(&["default", "builder"]), account(), 0..2),
    );
    let seen =
        seen.prop_map(|(namespace, secrets, service_accounts)| NamespaceSeen { namespace, secrets, service_accounts });
    let listed = prop::sample::subsequence(NAMES.to_vec(), 0..=4);
    (btree_map(name(&NAMESPACES), seen, 1..4), listed, prop::bool::weighted(0.9)).prop_map(
        |(namespaces, secrets, service_accounts)| {
            let mut index = Index { namespaces, ..Index::default() };
            index.listed.secrets = secrets.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
            index.listed.service_accounts = service_accounts;
            index
        },
    )
}

/// Applies an action to the index as the API server would apply it to the cluster.
fn perform(index: &mut Index, action: &Action, rules: &Rules) {
    match action {
        Action::Create(target) | Action::Update(target, _) | Action::Recreate(target, _) => {
            let Some(SourceState::Ready(content)) = rules.sources.get(&target.secret) else {
                panic!("{action} without a content")
            };
            let source =
                rules.settings.secrets.iter().find(|s| s.name == target.secret).and_then(|s| s.source.as_ref());
            let secrets = &mut index.namespaces.get_mut(&target.namespace).unwrap().secrets;
            let found = secrets.remove(&target.secret);
            assert_eq!(found.is_none(), matches!(action, Action::Create(_)), "{action} of {found:?}");
            let in_place = matches!(action, Action::Update(..));
            if let (true, Some(found)) = (in_place, &found) {
                assert_eq!(*found.secret_type, *content.secret_type, "a type is immutable");
                assert!(!found.immutable || found.digest == content.digest, "immutable data is immutable");
            }
            let copy = SecretSeen {
                version: Version { uid: "uid".into(), resource_version: "2".into() },
                secret_type: content.secret_type.into(),
                digest: content.digest,
                usable: true,
                immutable: in_place && found.is_some_and(|found| found.immutable),
                copied_from: source.map(|source| source_label(source).into()),
                created: None,
                has_extras: true,
                has_labels: true,
                has_annotations: true,
                deleting: false,
            };
            secrets.insert(target.secret.clone(), copy);
        }
        Action::Delete(target, _) => {
            index.namespaces.get_mut(&target.namespace).unwrap().secrets.remove(&target.secret);
        }
        Action::Refer(change) => {
            let accounts = &mut index.namespaces.get_mut(&change.namespace).unwrap().service_accounts;
            let account = accounts.get_mut(&change.service_account).unwrap();
            assert_eq!(change.has_list, account.references.is_some());
            let mut list = account.references.take().unwrap_or_default();
            for (position, name) in change.remove.iter().rev() {
                assert_eq!(*list.remove(*position), **name);
            }
            list.extend(change.add.iter().map(|name| name.as_str().into()));
            account.references = Some(list);
            account.references_by_admission = false;
            account.added = change.added.iter().map(|name| name.as_str().into()).collect();
        }
    }
}

fn all_actions(index: &Index, rules: &Rules) -> Vec<Action> {
    plan(index, rules).flat_map(|(_, plan)| plan.actions).collect()
}

/// Carries out the plan of one namespace, and the plan that follows from that.
fn settle(index: &mut Index, namespace: &str, rules: &Rules) {
    for _ in 0..2 {
        for action in plan_namespace(index, namespace, rules).actions {
            perform(index, &action, rules);
        }
    }
}

/// Whether copies, and references that the generator added, are in the namespaces that they are for, and nowhere else.
fn is_as_selected(index: &Index, namespace: &str, rules: &Rules) -> Result<(), TestCaseError> {
    let Some(seen) = index.namespaces.get(namespace) else { return Ok(()) };
    let Some(facts) = seen.namespace.as_ref().filter(|facts| !facts.terminating) else { return Ok(()) };
    for configured in &rules.settings.secrets {
        let target = Target { namespace: namespace.to_owned(), secret: configured.name.clone() };
        if !index.listed.secrets.contains(&configured.name) || rules.is_source(&target) {
            continue;
        }
        let is_for_it = rules.selects(namespace, facts) && is_for(configured, namespace, facts);
        let found = seen.secrets.get(&configured.name);
        if !is_for_it {
            let is_left = found.is_some_and(|found| rules.is_own_copy(found) && !found.deleting);
            prop_assert!(!is_left, "{} is left with {:?}", target, facts);
        } else if configured.source.is_some() && matches!(rules.sources[&configured.name], SourceState::Ready(_)) {
            prop_assert!(found.is_some(), "{} is missing with {:?}", target, facts);
        }
        let is_anothers = found.is_some_and(|found| found.copied_from.is_some() && !rules.is_own_copy(found));
        if index.listed.service_accounts && !is_for_it && !is_anothers {
            for (name, account) in seen.service_accounts.iter().filter(|(_, account)| !account.deleting) {
                let is_recorded = account.added.iter().any(|added| **added == *configured.name);
                prop_assert!(!is_recorded, "{} refers to {} with {:?}", name, target, facts);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn as_labels_change_copies_are_where_they_are_for_and_nowhere_else(
        mut index in index(), rules in rules(),
        changes in vec((prop::sample::select(NAMESPACES.to_vec()), labels()), 0..8),
    ) {
        for namespace in NAMESPACES {
            settle(&mut index, namespace, &rules);
            is_as_selected(&index, namespace, &rules)?;
        }
        for (namespace, labels) in changes {
            let facts = index.namespaces.get_mut(namespace).and_then(|seen| seen.namespace.as_mut());
            if let Some(facts) = facts {
                facts.labels = labels;
            }
            settle(&mut index, namespace, &rules);
            is_as_selected(&index, namespace, &rules)?;
        }
    }

    #[test]
    fn applying_the_plan_and_planning_again_gives_no_action(mut index in index(), rules in rules()) {
        for action in all_actions(&index, &rules) {
            perform(&mut index, &action, &rules);
        }
        // Under `skip`, references are added when the copies exist.
        for action in all_actions(&index, &rules) {
            let follows = matches!(&action, Action::Refer(change) if change.remove.is_empty());
            prop_assert!(follows && rules.settings.on_missing_secret == OnMissingSecret::Skip, "{}", action);
            perform(&mut index, &action, &rules);
        }
        prop_assert_eq!(all_actions(&index, &rules), vec![]);
    }

    #[test]
    fn no_reference_is_added_to_what_is_not_for_the_namespace(index in index(), rules in rules()) {
        for action in all_actions(&index, &rules) {
            if let Action::Refer(change) = &action {
                let facts = index.namespaces[&change.namespace].namespace.as_ref().unwrap();
                let is_for_it = |name: &String| {
                    let configured = rules.settings.secrets.iter().find(|secret| secret.name == *name).unwrap();
                    rules.selects(&change.namespace, facts) && is_for(configured, &change.namespace, facts)
                };
                prop_assert!(change.add.iter().all(is_for_it), "{} with {:?}", action, facts);
            }
        }
    }

    #[test]
    fn under_skip_no_reference_is_added_to_a_secret_that_is_not_there(index in index(), rules in rules()) {
        let mut rules = rules;
        Arc::make_mut(&mut rules.settings).on_missing_secret = OnMissingSecret::Skip;
        for action in all_actions(&index, &rules) {
            if let Action::Refer(change) = &action {
                let secrets = &index.namespaces[&change.namespace].secrets;
                let is_there = |name: &String| secrets.get(name).is_some_and(|secret| secret.usable);
                prop_assert!(change.add.iter().all(is_there), "{}", action);
            }
        }
    }

    #[test]
    fn no_action_touches_a_foreign_secret_under_keep(index in index(), rules in rules()) {
        let mut rules = rules;
        let settings = Arc::make_mut(&mut rules.settings);
        settings.conflicts = Conflicts::Keep;
        for action in all_actions(&index, &rules) {
            if let Action::Create(target) | Action::Update(target, _) | Action::Recreate(target, _)
                | Action::Delete(target, _) = &action
            {
                let found = index.namespaces[&target.namespace].secrets.get(&target.secret);
                prop_assert!(found.is_none_or(|found| found.copied_from.is_some()), "{} of {:?}", action, found);
            }
        }
    }

    #[test]
    fn a_foreign_secret_is_never_deleted_for_good(index in index(), rules in rules()) {
        for action in all_actions(&index, &rules) {
            if let Action::Delete(target, _) = &action {
                let found = &index.namespaces[&target.namespace].secrets[&target.secret];
                prop_assert!(found.copied_from.is_some(), "{} of {:?}", action, found);
            }
        }
    }

    #[test]
    fn a_copy_of_another_generator_is_never_deleted(index in index(), rules in rules()) {
        for action in all_actions(&index, &rules) {
            if let Action::Delete(target, _) = &action {
                let found = &index.namespaces[&target.namespace].secrets[&target.secret];
                let source = found.copied_from.as_deref().unwrap_or_default();
                prop_assert!(rules.own_sources.contains(source), "{} of {:?}", action, found);
            }
        }
    }

    #[test]
    fn no_source_is_ever_written(index in index(), rules in rules()) {
        for action in all_actions(&index, &rules) {
            if let Action::Create(target) | Action::Update(target, _) | Action::Recreate(target, _)
                | Action::Delete(target, _) = &action
            {
                prop_assert!(!rules.is_source(target), "{}", action);
            }
        }
    }

    #[test]
    fn no_service_account_entry_is_ever_lost(before in index(), rules in rules()) {
        let mut after = before.clone();
        for action in all_actions(&before, &rules) {
            perform(&mut after, &action, &rules);
        }
        for (namespace, seen) in &before.namespaces {
            for (name, account) in &seen.service_accounts {
                // References that the policy added are removed if they do harm.
                let is_harmful = |name: &str| seen.secrets.get(name).is_some_and(|secret| !secret.usable);
                let theirs = |name: &&str| {
                    let is_ours = account.added.iter().any(|added| **added == **name);
                    !(is_ours || account.references_by_admission && is_harmful(name))
                };
                let names = |account: &ServiceAccountSeen| -> Vec<String> {
                    let names = account.references.iter().flatten().map(|name| &**name);
                    names.filter(theirs).map(str::to_owned).collect()
                };
                let now = names(&after.namespaces[namespace].service_accounts[name]);
                let then = names(account);
                // The plan appends its references behind them.
                prop_assert_eq!(&now[..then.len()], &then[..]);
            }
        }
    }

    #[test]
    fn a_plan_needs_only_what_was_listed(index in index(), rules in rules()) {
        for action in all_actions(&index, &rules) {
            match &action {
                Action::Create(target) | Action::Update(target, _) | Action::Recreate(target, _)
                | Action::Delete(target, _) => prop_assert!(index.listed.secrets.contains(&target.secret), "{}", action),
                Action::Refer(change) => {
                    prop_assert!(index.listed.service_accounts);
                    prop_assert!(change.add.iter().all(|name| index.listed.secrets.contains(name)), "{}", action);
                }
            }
        }
    }

    #[test]
    fn equal_data_has_equal_digests(keys in btree_map("[a-z]{1,4}", ".{0,8}", 0..4)) {
        let data: BTreeMap<_, _> = keys.into_iter().map(|(k, v)| (k, ByteString(v.into_bytes()))).collect();
        prop_assert_eq!(Digest::of(&data), Digest::of(&data.clone()));
    }
}
