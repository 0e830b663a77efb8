//! Edits the text of the object. It only inserts the references; every other byte stays as it was.

use crate::request::References;

/// Appends a reference to each of `names` to the text of `object`. `references` must have been borrowed from the same text;
/// if they were not, the result is `None`.
pub fn append(object: &str, references: &References<'_>, names: &[String]) -> Option<String> {
    let mut entries = String::new();
    for name in names {
        // A valid name of a Secret needs no escaping.
        let comma = if entries.is_empty() { "" } else { "," };
        entries.extend([comma, "{\"name\":\"", name, "\"}"]);
    }
    let (replaced, with) = match references.list {
        None => {
            let start = offset(object, references.holder)? + 1;
            let comma = if references.holder.get(1..)?.trim_ascii_start().starts_with('}') { "" } else { "," };
            (start..start, format!("\"imagePullSecrets\":[{entries}]{comma}"))
        }
        Some("null") => {
            let start = offset(object, references.list?)?;
            (start..start + "null".len(), format!("[{entries}]"))
        }
        Some(list) => {
            let end = offset(object, list)? + list.len() - 1;
            let comma = if list.get(1..)?.trim_ascii_start().starts_with(']') { "" } else { "," };
            (end..end, format!("{comma}{entries}"))
        }
    };
    let (before, after) = (object.get(..replaced.start)?, object.get(replaced.end..)?);
    let mut edited = String::with_capacity(object.len() + with.len());
    edited.extend([before, &with, after]);
    Some(edited)
}

/// The offset in `whole` at which `part`, a slice of it, begins.
fn offset(whole: &str, part: &str) -> Option<usize> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (start.checked_add(part.len())? <= whole.len()).then_some(start)
}
