//! What to grant when the API server says 403, and why else it did not do what it was asked.

use crate::cluster::error::chain;
use kube::core::Status;
use std::fmt;

/// One thing that the generator asked the API server to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// The verb as RBAC knows it.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource, in the plural, perhaps with its subresource.
    pub resource: &'static str,
    /// The namespace; `None` for all of them.
    pub namespace: Option<&'a str>,
    /// The object's name; `None` where the request is not about one.
    pub name: Option<&'a str>,
}

impl Request<'_> {
    /// The RBAC rule that allows this, in full, where `status` says that none does. Who lists watches as well, and the other
    /// way round. A 403 can also come from an admission plugin, such as a quota, and then there is no rule to add.
    pub(crate) fn missing_rule(&self, status: &Status) -> Option<String> {
        let verbs = if matches!(self.verb, "list" | "watch") { &["list", "watch"][..] } else { &[self.verb] };
        let is_denied = |verb: &&str| status.message.contains(&format!(" cannot {verb} resource "));
        let by_rbac = status.code == 403 && verbs.iter().any(is_denied);
        by_rbac.then(|| format!("the RBAC rule is missing: {self}"))
    }

    /// Why the API server did not do this, in one line.
    pub(crate) fn failure(&self, error: &kube::Error) -> String {
        match error {
            // Only an API group that is not there is answered in plain text.
            kube::Error::Api(status) if status.code == 404 && status.message.contains("404 page not found") => {
                match self.group {
                    "policies.kubewarden.io" => "Kubewarden is not installed in this cluster".to_owned(),
                    group => format!("this cluster has no {}.{group}", self.resource),
                }
            }
            kube::Error::Api(status) => self.missing_rule(status).unwrap_or_else(|| status.message.clone()),
            other => chain(other),
        }
    }
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let verbs = match self.verb {
            "list" | "watch" => r#""list", "watch""#.to_owned(),
            verb => format!("\"{verb}\""),
        };
        write!(f, "{{apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [{verbs}]", self.group, self.resource)?;
        match self.name {
            // The authorizer does not know the name of an object that is yet to be created.
            Some(_) if self.verb == "create" && !self.resource.contains('/') => {
                f.write_str("} (create cannot be limited by resourceNames)")?;
            }
            Some(name) => write!(f, ", resourceNames: [\"{name}\"]}}")?,
            None => f.write_str("}")?,
        }
        match self.namespace {
            Some(namespace) => write!(f, " in a ClusterRole, or in a Role of namespace {namespace}"),
            None => f.write_str(" in a ClusterRole"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SECRETS: Request =
        Request { verb: "create", group: "", resource: "secrets", namespace: Some("team-a"), name: Some("creds") };

    #[rstest]
    #[case::create_knows_no_names(
        SECRETS,
        r#"{apiGroups: [""], resources: ["secrets"], verbs: ["create"]} (create cannot be limited by resourceNames) in a ClusterRole, or in a Role of namespace team-a"#
    )]
    #[case::others_do(
        Request { verb: "patch", ..SECRETS },
        r#"{apiGroups: [""], resources: ["secrets"], verbs: ["patch"], resourceNames: ["creds"]} in a ClusterRole, or in a Role of namespace team-a"#
    )]
    #[case::watches_are_of_all_namespaces(
        Request { verb: "watch", namespace: None, ..SECRETS },
        r#"{apiGroups: [""], resources: ["secrets"], verbs: ["list", "watch"], resourceNames: ["creds"]} in a ClusterRole"#
    )]
    #[case::without_a_name(
        Request { verb: "list", resource: "namespaces", namespace: None, name: None, ..SECRETS },
        r#"{apiGroups: [""], resources: ["namespaces"], verbs: ["list", "watch"]} in a ClusterRole"#
    )]
    fn the_rule_is_given_in_full(#[case] request: Request, #[case] expected: &str) {
        assert_eq!(request.to_string(), expected);
    }

    #[rstest]
    #[case::rbac(403, r#"secrets is forbidden: User "u" cannot create resource "secrets" in API group """#, true)]
    #[case::a_quota(403, "exceeded quota: q, requested: secrets=1, used: secrets=9, limited: secrets=9", false)]
    #[case::another_code(404, "not found", false)]
    fn only_rbac_has_a_rule_to_add(#[case] code: u16, #[case] message: &str, #[case] expected: bool) {
        let status = Status::failure(message, "Forbidden").with_code(code);
        assert_eq!(SECRETS.missing_rule(&status).is_some(), expected);
    }

    #[rstest]
    #[case::no_right(
        "policies.kubewarden.io",
        403,
        "u cannot list resource \"secrets\"",
        "the RBAC rule is missing: {"
    )]
    #[case::no_kubewarden(
        "policies.kubewarden.io",
        404,
        "404 page not found",
        "Kubewarden is not installed in this cluster"
    )]
    #[case::another_api_that_is_not_there(
        "example.com",
        404,
        "404 page not found",
        "this cluster has no secrets.example.com"
    )]
    #[case::anything_else("", 500, "etcd is away", "etcd is away")]
    fn a_failure_says_why(
        #[case] group: &'static str,
        #[case] code: u16,
        #[case] message: &str,
        #[case] expected: &str,
    ) {
        let error = kube::Error::Api(Box::new(Status::failure(message, "").with_code(code)));
        let said = Request { verb: "list", group, ..SECRETS }.failure(&error);
        assert!(said.starts_with(expected), "{said}");
    }
}
