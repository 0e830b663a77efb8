//! Which entries of several Secrets the kubelet tries for an image, and in which order.
//!
//! Source: `BasicDockerKeyring` in Kubernetes' `pkg/credentialprovider/keyring.go`. The kubelet puts the entries of all
//! Secrets of a Pod into one keyring and sorts them together.

use crate::docker_config::{DockerConfig, Entry};
use crate::image::Image;

/// One credential that the kubelet tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The index of the config that it comes from, counted from 0.
    pub config: usize,
    /// The entry.
    pub entry: &'a Entry,
    /// Whether its order with the attempt before it is random: both are entries of one Secret with the same key, and
    /// the kubelet iterates over these in no fixed order.
    pub is_interchangeable: bool,
}

/// The attempts for `image`. The configs are in the order of the Pod's list. If there is no attempt, the kubelet pulls
/// without a credential.
pub fn attempts<'a>(configs: &[&'a DockerConfig], image: &Image) -> Vec<Attempt<'a>> {
    let chosen = |choose: &dyn Fn(&Entry) -> bool| -> Vec<(usize, &'a Entry)> {
        let all =
            configs.iter().enumerate().flat_map(|(at, config)| config.entries().iter().map(move |entry| (at, entry)));
        all.filter(|(_, entry)| choose(entry)).collect()
    };
    let mut entries = chosen(&|entry| entry.matches(image));
    if entries.is_empty() && image.is_on_default_registry() {
        entries = chosen(&Entry::is_default_registry);
    }
    // If a config names a server twice, only the last entry counts.
    entries.sort_by(|(at, one), (other_at, other)| {
        other.key().cmp(one.key()).then(at.cmp(other_at)).then(one.server().cmp(other.server()))
    });
    entries.dedup();
    let mut before = None;
    let attempt = |(config, entry): (usize, &'a Entry)| {
        let is_interchangeable = before.replace((config, entry.key())) == Some((config, entry.key()));
        Attempt { config, entry, is_interchangeable }
    };
    entries.into_iter().map(attempt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn config(servers: &[&str]) -> DockerConfig {
        let auths: serde_json::Map<_, _> =
            servers.iter().map(|server| ((*server).to_owned(), json!({"auth": "dTpw"}))).collect();
        DockerConfig::parse(json!({"auths": auths}).to_string().as_bytes()).unwrap()
    }

    #[rstest]
    #[case::nothing_matches(vec![vec!["quay.io"]], "ghcr.io/acme/app", &[])]
    #[case::no_secret_at_all(vec![], "ghcr.io/acme/app", &[])]
    #[case::the_longer_key_of_a_host_comes_first(
        vec![vec!["ghcr.io", "ghcr.io/acme"]], "ghcr.io/acme/app", &[(0, "ghcr.io/acme"), (0, "ghcr.io")])]
    #[case::keys_are_sorted_across_secrets(
        vec![vec!["ghcr.io"], vec!["ghcr.io/acme"]], "ghcr.io/acme/app", &[(1, "ghcr.io/acme"), (0, "ghcr.io")])]
    #[case::a_glob_comes_after_its_host_because_of_its_star(
        vec![vec!["*.io"], vec!["ghcr.io"]], "ghcr.io/acme/app", &[(1, "ghcr.io"), (0, "*.io")])]
    #[case::all_that_match_in_descending_order_of_their_bytes(
        vec![vec!["ghcr.io", "ghcr.io/acme", "*.io", "quay.io"]], "ghcr.io/acme/app",
        &[(0, "ghcr.io/acme"), (0, "ghcr.io"), (0, "*.io")])]
    #[case::equal_keys_keep_the_order_of_the_list(
        vec![vec!["ghcr.io"], vec!["https://ghcr.io"]], "ghcr.io/acme/app", &[(0, "ghcr.io"), (1, "https://ghcr.io")])]
    #[case::docker_hub_by_its_old_name_is_fallen_back_on(
        vec![vec!["https://index.docker.io/v1/"]], "nginx", &[(0, "https://index.docker.io/v1/")])]
    #[case::not_where_another_entry_matches(
        vec![vec!["docker.io/acme", "https://index.docker.io/v1/"]], "acme/app", &[(0, "docker.io/acme")])]
    #[case::where_the_other_entry_does_not_match(
        vec![vec!["docker.io/acme", "https://index.docker.io/v1/"]], "nginx", &[(0, "https://index.docker.io/v1/")])]
    #[case::not_where_another_secret_matches(
        vec![vec!["https://index.docker.io/v1/"], vec!["docker.io"]], "nginx", &[(1, "docker.io")])]
    fn tries_what_the_kubelet_tries_in_its_order(
        #[case] secrets: Vec<Vec<&str>>,
        #[case] image: &str,
        #[case] expected: &[(usize, &str)],
    ) {
        let configs: Vec<_> = secrets.iter().map(|servers| config(servers)).collect();
        let configs: Vec<_> = configs.iter().collect();
        let image = Image::parse(image).unwrap();
        let found: Vec<_> =
            attempts(&configs, &image).iter().map(|attempt| (attempt.config, attempt.entry.server())).collect();
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case::of_one_secret(vec![vec!["ghcr.io", "https://ghcr.io"]], &[false, true])]
    #[case::of_two_secrets(vec![vec!["ghcr.io"], vec!["https://ghcr.io"]], &[false, false])]
    #[case::with_other_keys(vec![vec!["ghcr.io", "ghcr.io/acme"]], &[false, false])]
    fn entries_of_one_secret_with_one_key_have_no_order(#[case] secrets: Vec<Vec<&str>>, #[case] expected: &[bool]) {
        let configs: Vec<_> = secrets.iter().map(|servers| config(servers)).collect();
        let configs: Vec<_> = configs.iter().collect();
        let image = Image::parse("ghcr.io/acme/app").unwrap();
        let found: Vec<_> = attempts(&configs, &image).iter().map(|attempt| attempt.is_interchangeable).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_server_that_is_there_twice_is_tried_once() {
        let document = br#"{"auths": {"ghcr.io": {"auth": "YTpi"}, "ghcr.io": {"auth": "dTpw"}}}"#;
        let config = DockerConfig::parse(document).unwrap();
        assert_eq!(attempts(&[&config], &Image::parse("ghcr.io/acme/app").unwrap()).len(), 1);
    }
}
