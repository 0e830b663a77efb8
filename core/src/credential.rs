//! The user names and passwords in a docker config. Only code that explains or checks a pull reads them. Code that
//! decides about Pods reads [`DockerConfig`](crate::docker_config::DockerConfig), which keeps no password.

use crate::docker_config::{DockerConfigError, decode_auth, folded};
use crate::json;
use crate::secret::SecretFormat;
use std::collections::BTreeMap;
use std::fmt;

/// A user name and its password. `Debug` prints only the user name.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credential {
    username: String,
    password: String,
}

impl Credential {
    /// A credential of this user.
    pub fn new(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: password.to_owned() }
    }

    /// The user name. It is empty if the entry has none, and then the kubelet pulls anonymously.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password. Give it to a registry, and never log it.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The credential of each server in a docker config, as the kubelet reads it: `auth` wins over `username` and
/// `password`, and if a server has two entries, the last one wins.
///
/// # Errors
/// [`DockerConfigError`] where the kubelet would fail.
pub fn credentials(format: SecretFormat, document: &[u8]) -> Result<BTreeMap<String, Credential>, DockerConfigError> {
    format.parse(document)?;
    let text = String::from_utf8_lossy(document);
    let mut found = BTreeMap::new();
    match format {
        SecretFormat::DockerCfg => read_entries(&text, &mut found),
        SecretFormat::DockerConfigJson => each_member(&text, &mut |name, value| {
            if folded(name) == "auths" {
                if value == "null" {
                    found.clear();
                }
                read_entries(value, &mut found);
            }
        }),
    }
    Ok(found)
}

fn read_entries(object: &str, found: &mut BTreeMap<String, Credential>) {
    each_member(object, &mut |server, entry| {
        found.insert(server.to_owned(), credential(entry));
    });
}

/// As `DockerConfigEntry.UnmarshalJSON` does. The caller has checked that the entry parses.
fn credential(entry: &str) -> Credential {
    let (mut credential, mut auth) = (Credential::default(), String::new());
    each_member(entry, &mut |name, value| {
        let Some(text) = json::string(value) else { return };
        match folded(name).as_str() {
            "username" => credential.username = text.into_owned(),
            "password" => credential.password = text.into_owned(),
            "auth" => auth = text.into_owned(),
            _ => {}
        }
    });
    if !auth.is_empty()
        && let Ok(decoded) = decode_auth(&auth)
        && let Some((username, password)) = String::from_utf8_lossy(&decoded).split_once(':')
    {
        return Credential::new(username, password);
    }
    credential
}

/// The members of an object. The caller has checked that the text parses; `null` has no members.
fn each_member(text: &str, visit: &mut dyn FnMut(&str, &str)) {
    let _ = json::members(text, &mut |name, value| visit(&name, value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::user_and_password(r#"{"username": "u", "password": "p"}"#, "u", "p")]
    #[case::an_auth(r#"{"auth": "dTpw"}"#, "u", "p")]
    #[case::an_auth_counts_more(r#"{"auth": "dTpw", "username": "other", "password": "q"}"#, "u", "p")]
    #[case::an_empty_auth_does_not(r#"{"auth": "", "username": "u", "password": "p"}"#, "u", "p")]
    #[case::a_password_with_a_colon(r#"{"auth": "dTpwOnE="}"#, "u", "p:q")]
    #[case::names_without_regard_to_case(r#"{"UserName": "u", "PASSWORD": "p"}"#, "u", "p")]
    #[case::the_last_of_two(r#"{"username": "other", "username": "u", "password": "p"}"#, "u", "p")]
    #[case::null_changes_nothing(r#"{"username": "u", "password": "p", "username": null}"#, "u", "p")]
    #[case::nothing("null", "", "")]
    #[case::no_user("{}", "", "")]
    fn reads_an_entry_as_the_kubelet_does(#[case] entry: &str, #[case] username: &str, #[case] password: &str) {
        let expected = BTreeMap::from([("ghcr.io".to_owned(), Credential::new(username, password))]);
        let legacy = format!(r#"{{"ghcr.io": {entry}}}"#);
        assert_eq!(credentials(SecretFormat::DockerCfg, legacy.as_bytes()), Ok(expected.clone()));
        let document = format!(r#"{{"auths": {legacy}}}"#);
        assert_eq!(credentials(SecretFormat::DockerConfigJson, document.as_bytes()), Ok(expected));
    }

    #[rstest]
    #[case::of_two_entries_the_last(r#"{"auths": {"r.io": {"auth": "YTpi"}, "r.io": {"auth": "dTpw"}}}"#, &["u"])]
    #[case::of_two_lists_both(r#"{"auths": {"a.io": {"auth": "YTpi"}}, "AUTHS": {"b.io": {"auth": "dTpw"}}}"#, &["a", "u"])]
    #[case::null_takes_back(r#"{"auths": {"a.io": {"auth": "YTpi"}}, "auths": null}"#, &[])]
    fn reads_a_document_as_the_kubelet_does(#[case] document: &str, #[case] users: &[&str]) {
        let found = credentials(SecretFormat::DockerConfigJson, document.as_bytes()).unwrap();
        assert_eq!(found.values().map(Credential::username).collect::<Vec<_>>(), users);
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(format!("{:?}", Credential::new("bot", "hunter2")), "Credential { username: \"bot\", .. }");
    }
}
