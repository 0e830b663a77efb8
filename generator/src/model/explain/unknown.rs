//! What could not be looked at, and why.

use std::fmt;

/// Something that is not known. Reads as what stands behind `not known: `.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unknown {
    /// The settings: they are neither a policy's nor in a ConfigMap.
    Settings { in_policies: String, in_config_maps: String },
    /// Whether the API server adds secrets by itself.
    NativePolicies { reason: String },
    /// Whether the generator is at work.
    Generator { reason: String },
    /// What the Namespace says of itself.
    Namespace { namespace: String, reason: String },
    /// What the ServiceAccount lists.
    ServiceAccount { namespace: String, account: String, reason: String },
    /// What other Secrets there are, one of which may be the right one.
    OtherSecrets { namespace: String, reason: String },
    /// Whether the Secret is in another namespace.
    Elsewhere { secret: String, reason: String },
    /// When the kubelet tries again, and what it said of the last try.
    NextTry { reason: String },
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Settings { in_policies, in_config_maps } => write!(
                f,
                "what the settings want: they are not in a ClusterAdmissionPolicy ({in_policies}) and not in a ConfigMap \
                 ({in_config_maps}); name them with --settings FILE"
            ),
            Self::NativePolicies { reason } => write!(f, "whether the API server adds secrets to Pods: {reason}"),
            Self::Generator { reason } => write!(f, "whether the generator is at work: {reason}"),
            Self::Namespace { namespace, reason } => {
                write!(f, "the labels and annotations of Namespace {namespace}: {reason}")
            }
            Self::ServiceAccount { namespace, account, reason } => {
                write!(f, "what ServiceAccount {namespace}/{account} lists: {reason}")
            }
            Self::OtherSecrets { namespace, reason } => {
                write!(f, "which other Secrets namespace {namespace} has: {reason}")
            }
            Self::Elsewhere { secret, reason } => {
                write!(f, "whether another namespace has a Secret {secret}: {reason}")
            }
            Self::NextTry { reason } => {
                write!(f, "what the Pod's Events say, and when the kubelet tries again: {reason}")
            }
        }
    }
}
