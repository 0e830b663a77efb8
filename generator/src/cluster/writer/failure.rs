//! Why a write did not succeed, and what follows from that.

use crate::cluster::client::retry_after;
use crate::cluster::error::chain;
use crate::cluster::rbac::Request;
use kube::core::Status;
use std::time::Duration;

/// A write that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What it means.
    pub reason: Reason,
    /// A sentence about it for users.
    pub message: String,
    /// The status code, if the API server answered.
    pub code: Option<u16>,
    /// How long the API server asks to wait.
    pub retry_after: Option<Duration>,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The object has changed since the plan. Plan again.
    Outdated,
    /// The object does not exist.
    NotFound,
    /// The namespace is being deleted or does not exist, so there is nothing to do there.
    NamespaceGoes,
    /// The API server refuses because of RBAC, a quota, an admission webhook or validation. It is retried, with growing
    /// waits.
    Refused,
    /// The API server is overloaded, broken or cannot be reached. It is retried.
    Unavailable,
    /// A removed reference is still there, because the policy or another admission plugin put it back.
    PutBack,
}

impl Failure {
    /// Whether it only means that something has changed in the meantime.
    pub(crate) fn passes(&self) -> bool {
        matches!(self.reason, Reason::Outdated | Reason::NotFound | Reason::NamespaceGoes)
    }

    pub(super) fn of(request: Request<'_>, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(request, status),
            other => {
                let message =
                    format!("cannot {}: the API server cannot be reached: {}", sentence(request), chain(other));
                Self::plain(Reason::Unavailable, message)
            }
        }
    }

    fn of_status(request: Request<'_>, status: &Status) -> Self {
        let details = status.details.as_ref();
        let has_cause =
            |reason: &str| details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason));
        let is_about_namespace = details.is_some_and(|details| details.kind == "namespaces");
        let reason = match status.code {
            403 if has_cause("NamespaceTerminating") => Reason::NamespaceGoes,
            404 if is_about_namespace => Reason::NamespaceGoes,
            404 if request.verb == "patch" => Reason::Outdated,
            // The JSON patch does not apply, because something that it refers to is not there any more.
            422 if status.message.starts_with("the server rejected our request") => Reason::Outdated,
            404 => Reason::NotFound,
            409 => Reason::Outdated,
            408 | 429 | 500.. => Reason::Unavailable,
            _ => Reason::Refused,
        };
        let because = request.missing_rule(status).unwrap_or_else(|| format!("{} ({})", status.message, status.code));
        Self {
            reason,
            message: format!("cannot {}: {because}", sentence(request)),
            code: Some(status.code),
            retry_after: retry_after(status),
        }
    }

    pub(super) fn timeout(request: Request<'_>, limit: Duration) -> Self {
        let message = format!("cannot {}: no answer within {} s", sentence(request), limit.as_secs());
        Self::plain(Reason::Unavailable, message)
    }

    pub(super) fn outdated(message: String) -> Self {
        Self::plain(Reason::Outdated, message)
    }

    pub(super) fn changed(target: &str) -> Self {
        let message = format!("Secret {target} is not as it was written: an admission webhook or policy changes it");
        Self::plain(Reason::Refused, message)
    }

    pub(super) fn put_back(name: &str, namespace: &str, account: &str) -> Self {
        let message = format!(
            "the reference to {name} was removed from ServiceAccount {namespace}/{account} and put back in the same request: \
             a policy is still at work; delete its ClusterAdmissionPolicy or MutatingAdmissionPolicies first"
        );
        Self::plain(Reason::PutBack, message)
    }

    pub(super) fn taken_out(name: &str, namespace: &str, account: &str) -> Self {
        let message = format!(
            "the reference to {name} was added to ServiceAccount {namespace}/{account} and taken out in the same request: \
             an admission webhook or policy changes it"
        );
        Self::plain(Reason::Refused, message)
    }

    fn plain(reason: Reason, message: String) -> Self {
        Self { reason, message, code: None, retry_after: None }
    }
}

fn sentence(request: Request<'_>) -> String {
    let what = match (request.namespace, request.name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (_, name) => name.unwrap_or_default().to_owned(),
    };
    format!("{} {} {what}", request.verb, request.resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn request(verb: &'static str) -> Request<'static> {
        Request { verb, group: "", resource: "secrets", namespace: Some("team-a"), name: Some("creds") }
    }

    #[rstest]
    #[case::somebody_was_faster("patch", json!({"code": 409, "reason": "Conflict", "message": "m"}), Reason::Outdated)]
    #[case::it_is_there_already("create", json!({"code": 409, "reason": "AlreadyExists", "message": "m"}), Reason::Outdated)]
    #[case::it_went_away_before_the_patch("patch", json!({"code": 404, "reason": "NotFound", "message": "m"}), Reason::Outdated)]
    #[case::it_is_gone_already("delete", json!({"code": 404, "reason": "NotFound", "message": "m"}), Reason::NotFound)]
    #[case::the_namespace_is_gone("create", json!({"code": 404, "details": {"kind": "namespaces"}, "message": "m"}), Reason::NamespaceGoes)]
    #[case::the_namespace_terminates(
        "create",
        json!({"code": 403, "message": "m", "details": {"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]}}),
        Reason::NamespaceGoes
    )]
    #[case::a_quota_is_full("create", json!({"code": 403, "message": "exceeded quota: q"}), Reason::Refused)]
    #[case::a_webhook_refuses("create", json!({"code": 400, "message": "admission webhook denied"}), Reason::Refused)]
    #[case::it_is_invalid("patch", json!({"code": 422, "message": "Secret \"creds\" is invalid"}), Reason::Refused)]
    #[case::the_patch_does_not_apply(
        "patch",
        json!({"code": 422, "message": "the server rejected our request due to an error in our request"}),
        Reason::Outdated
    )]
    #[case::too_many_requests("patch", json!({"code": 429, "message": "m"}), Reason::Unavailable)]
    #[case::a_broken_webhook("patch", json!({"code": 500, "message": "failed calling webhook"}), Reason::Unavailable)]
    fn an_answer_means(#[case] verb: &'static str, #[case] status: serde_json::Value, #[case] expected: Reason) {
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(Failure::of_status(request(verb), &status).reason, expected);
    }

    #[test]
    fn a_missing_rbac_rule_is_given_in_full() {
        let message = r#"secrets "creds" is forbidden: User "u" cannot patch resource "secrets" in API group "" in the namespace "team-a""#;
        let status = Status::failure(message, "Forbidden").with_code(403);
        let failure = Failure::of_status(request("patch"), &status);
        assert_eq!(failure.reason, Reason::Refused);
        assert_eq!(
            failure.message,
            "cannot patch secrets team-a/creds: the RBAC rule is missing: {apiGroups: [\"\"], resources: [\"secrets\"], \
             verbs: [\"patch\"], resourceNames: [\"creds\"]} in a ClusterRole, or in a Role of namespace team-a"
        );
    }

    #[test]
    fn the_wait_that_the_api_server_asks_for_is_kept() {
        let status = json!({"code": 429, "message": "m", "details": {"retryAfterSeconds": 7}});
        let failure = Failure::of_status(request("patch"), &serde_json::from_value(status).unwrap());
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    }
}
