//! The settings and roles in the pages about the generator are ones that it takes.

use image_pull_secrets::settings::Settings;
use rstest::rstest;
use serde_json::Value;

fn blocks<'a>(page: &'a str, mark: &str) -> Vec<&'a str> {
    let after_mark = page.split(mark).skip(1);
    after_mark.filter_map(|text| text.trim_start().strip_prefix("```yaml\n")?.split("```").next()).collect()
}

#[rstest]
#[case::patcher(include_str!("../../docs/migrating-from-imagepullsecret-patcher.md"))]
#[case::kyverno(include_str!("../../docs/migrating-from-kyverno.md"))]
#[case::reflector(include_str!("../../docs/migrating-from-reflector.md"))]
#[case::replicator(include_str!("../../docs/migrating-from-kubernetes-replicator.md"))]
fn settings_in_a_page_are_valid(#[case] page: &str) {
    let blocks = blocks(page, "<!-- values -->");
    assert_eq!(blocks.len(), 1);
    for block in blocks {
        let values: Value = serde_saphyr::from_str(block).unwrap();
        Settings::from_value(&values["settings"]).unwrap();
    }
}

#[test]
fn the_roles_give_no_right_to_read_every_secret() {
    let blocks = blocks(include_str!("../../docs/generator.md"), "<!-- rbac -->");
    let mut rules = Vec::new();
    for role in blocks[0].split("\n---") {
        let role: Value = serde_saphyr::from_str(role).unwrap();
        rules.extend(role["rules"].as_array().unwrap().clone());
    }
    let secrets = rules.iter().filter(|rule| rule["resources"][0] == "secrets");
    let unnamed: Vec<_> = secrets.filter(|rule| rule["resourceNames"].is_null()).map(|rule| &rule["verbs"]).collect();
    assert_eq!(unnamed, [&serde_json::json!(["create"])]);
}
