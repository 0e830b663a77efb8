//! Field masks: the policy names the fields that it wants, the host drops the others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Drops every field that no mask names. A mask is a dotted path and keeps all that is below it; lists are transparent,
/// so `spec.containers.image` keeps the image of each container. No masks at all keep everything.
///
/// The real host prunes what is left of an object once `apiVersion`, `kind` and `metadata` are taken out of it, so no
/// mask ever removes those.
pub(crate) fn prune(value: &mut Value, masks: &BTreeSet<String>) {
    let mut tree = Tree::default();
    for mask in masks {
        mask.split('.').fold(&mut tree, |node, field| node.0.entry(field).or_default());
    }
    tree.prune(value);
}

/// The masks by their first field, second field, and so on. A leaf keeps everything below it.
#[derive(Default)]
struct Tree<'a>(BTreeMap<&'a str, Tree<'a>>);

impl Tree<'_> {
    fn prune(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::Object(fields) => fields.retain(|name, field| match self.0.get(name.as_str()) {
                Some(below) => {
                    below.prune(field);
                    true
                }
                None => false,
            }),
            Value::Array(items) => items.iter_mut().for_each(|item| self.prune(item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::no_mask_keeps_everything(&[], json!({"type": "t", "data": {"a": 1}}))]
    #[case::a_field(&["type"], json!({"type": "t"}))]
    #[case::a_field_that_is_not_there(&["nope"], json!({}))]
    #[case::everything_below_a_field(&["data"], json!({"data": {"a": 1, "b": {"c": 2, "d": 3}}}))]
    #[case::a_path(&["data.b.c"], json!({"data": {"b": {"c": 2}}}))]
    #[case::a_path_and_its_prefix_keep_the_longer_only(&["data", "data.a"], json!({"data": {"a": 1}}))]
    #[case::a_path_through_a_list(&["list.x"], json!({"list": [{"x": 1}, {"x": 3}, {}]}))]
    #[case::a_path_below_a_scalar_keeps_the_scalar(&["type.x"], json!({"type": "t"}))]
    fn masks_keep_what_they_name(#[case] masks: &[&str], #[case] kept: Value) {
        let mut value = json!({
            "type": "t",
            "data": {"a": 1, "b": {"c": 2, "d": 3}},
            "list": [{"x": 1, "y": 2}, {"x": 3}, {"y": 4}],
        });
        if masks.is_empty() {
            value.as_object_mut().unwrap().remove("list");
            value["data"].as_object_mut().unwrap().remove("b");
        }
        prune(&mut value, &masks.iter().map(|&mask| mask.to_owned()).collect());
        assert_eq!(value, kept);
    }
}
