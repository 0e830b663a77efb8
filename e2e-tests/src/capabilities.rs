//! Answers host calls. It refuses what the metadata does not grant, answers `kubernetes/get_resource` from the cluster, and
//! keeps what `tracing/log` gets.

use std::{backtrace::Backtrace, error::Error, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::{
    cluster::{Cluster, KubernetesGetResource},
    metadata::Metadata,
};

/// What a host callback may answer with: the guest gets the error's text.
pub(crate) type Answer = Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

/// One call of the policy to its host, other than logging.
#[derive(Clone, Debug, Serialize)]
pub struct HostCall {
    /// The capability's path, for example `kubernetes/get_resource`.
    pub capability: String,
    /// The payload of the call. It is null if it was not JSON.
    pub request: Value,
    /// The error that the policy got, if it got no answer.
    pub error: Option<String>,
}

/// One event that the policy logged.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LogEntry {
    /// `trace`, `debug`, `info`, `warning` or `error`.
    #[serde(deserialize_with = "level")]
    pub level: String,
    /// The message. It is empty if the policy gave none.
    #[serde(default)]
    pub message: String,
    /// Every other field of the event.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The real host knows these levels and drops an event of any other.
fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let level = String::deserialize(deserializer)?.to_lowercase();
    match level.as_str() {
        "trace" | "debug" | "info" | "warning" | "error" => Ok(level),
        _ => Err(de::Error::custom(format!("unknown log level {level}"))),
    }
}

/// The raw host calls of one call of the policy. They are parsed later, so that this does not count as the policy's time.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) answering: Duration,
    host_calls: Vec<(String, Vec<u8>, Option<String>)>,
    events: Vec<Vec<u8>>,
}

impl Transcript {
    /// The host calls other than logging.
    pub(crate) fn host_calls(&self) -> Vec<HostCall> {
        let calls = self.host_calls.iter().cloned();
        let call = |(capability, payload, error): (_, Vec<u8>, _)| {
            let request = serde_json::from_slice(&payload).unwrap_or_default();
            HostCall { capability, request, error }
        };
        calls.map(call).collect()
    }

    /// The log events. As in the real host, one that cannot be parsed is lost.
    pub(crate) fn logs(&self) -> Vec<LogEntry> {
        self.events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect()
    }
}

/// Answers host calls with the grants of one policy.
pub(crate) struct Capabilities<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) cluster: &'a Cluster,
    pub(crate) backtraces: bool,
}

impl Capabilities<'_> {
    /// Answers one host call and notes it in the transcript.
    pub(crate) fn answer(
        &self,
        transcript: &mut Transcript,
        (binding, namespace, operation): (&str, &str, &str),
        payload: &[u8],
    ) -> Answer {
        if binding != "kubewarden" {
            return Err(format!("unknown binding: {binding}").into());
        }
        if namespace == "tracing" {
            return log(transcript, operation, payload);
        }
        let capability = format!("{namespace}/{operation}");
        let answer = self.granted(&capability).and_then(|()| match capability.as_str() {
            "kubernetes/get_resource" => self.get_resource(payload),
            _ => Err(format!("{capability} is not among what this host answers: kubernetes/get_resource").into()),
        });
        let error = answer.as_ref().err().map(ToString::to_string);
        transcript.host_calls.push((capability, payload.to_vec(), error));
        answer
    }

    fn granted(&self, capability: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.metadata.grants_capability(capability) {
            return Ok(());
        }
        Err(format!(
            "Policy has not been granted access to the '{capability}' host capability. The violation has been reported."
        )
        .into())
    }

    fn get_resource(&self, payload: &[u8]) -> Answer {
        let request: KubernetesGetResource = serde_json::from_slice(payload)?;
        if !self.metadata.grants_resource(&request.api_version, &request.kind) {
            return Err(format!(
                "Policy has not been granted access to Kubernetes {}/{} resources. The violation has been reported.",
                request.api_version, request.kind
            )
            .into());
        }
        self.cluster.get_resource(&request).map_err(|error| self.callback_failure(&error).into())
    }

    /// The real host hands the error's `Debug` form to the policy: its causes, and a stack backtrace where
    /// `RUST_BACKTRACE` is set. Here [`crate::Host::backtraces`] decides, and not the environment.
    fn callback_failure(&self, error: &anyhow::Error) -> String {
        let mut text = format!("Callback evaluation failure: {error}");
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        match causes.as_slice() {
            [] => {}
            [cause] => text.push_str(&format!("\n\nCaused by:\n    {cause}")),
            causes => {
                text.push_str("\n\nCaused by:");
                for (index, cause) in causes.iter().enumerate() {
                    text.push_str(&format!("\n    {index}: {cause}"));
                }
            }
        }
        if self.backtraces {
            text.push_str(&format!("\n\nStack backtrace:\n{}", Backtrace::force_capture()));
        }
        text
    }
}

/// Logging needs no grant, and never fails the policy.
fn log(transcript: &mut Transcript, operation: &str, payload: &[u8]) -> Answer {
    if operation != "log" {
        return Err(format!("unknown operation: {operation}").into());
    }
    transcript.events.push(payload.to_vec());
    Ok(Vec::new())
}
