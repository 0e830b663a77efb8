//! One policy: a module loaded once, and an instance of its own for each call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use wapc::WapcHost;

use crate::{
    capabilities::{Capabilities, HostCall, LogEntry, Transcript},
    cluster::Cluster,
    engine::{Engine, LoadError, Module},
    metadata::Metadata,
    request::AdmissionRequest,
    response::{AdmissionResponse, SettingsValidationResponse, ValidationResponse},
};

/// One policy, ready to be called from any number of threads.
pub struct Host {
    /// How long a call may take, host calls included: policy-server's `--policy-timeout`, 2 s unless it is set.
    pub deadline: Duration,
    /// Whether each failed host call ends in a stack backtrace, as it does where policy-server has `RUST_BACKTRACE`.
    pub backtraces: bool,
    metadata: Arc<Metadata>,
    module: Module,
}

/// What one call of the module gave.
#[derive(Debug)]
pub struct Call {
    /// The guest's answer, or why there is none.
    pub answer: Result<Vec<u8>, CallError>,
    /// What the guest asked of its host, in order.
    pub host_calls: Vec<HostCall>,
    /// What the guest logged, in order.
    pub logs: Vec<LogEntry>,
    /// How long it took to have an instance ready.
    pub start: Duration,
    /// How long the guest ran, host calls included.
    pub run: Duration,
    /// How much of that the host took to answer host calls.
    pub answering: Duration,
}

/// What one request came to.
#[derive(Debug)]
pub struct Evaluation {
    /// What the API server gets.
    pub response: AdmissionResponse,
    /// Why the policy gave no verdict of its own. The response denies the request then.
    pub failure: Option<String>,
    /// What the policy asked of its host, in order; logging apart.
    pub host_calls: Vec<HostCall>,
    /// What the policy logged, in order.
    pub logs: Vec<LogEntry>,
    /// How long it took to have an instance ready.
    pub start: Duration,
    /// How long `validate` ran, host calls included.
    pub validate: Duration,
}

/// What a response means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Let through as it is.
    Accepted,
    /// Let through with changes.
    Mutated,
    /// Denied by the policy.
    Rejected,
    /// Denied because the policy failed.
    Failed,
}

impl Evaluation {
    /// What the response means for the request.
    pub fn verdict(&self) -> Verdict {
        match self.response {
            _ if self.failure.is_some() => Verdict::Failed,
            AdmissionResponse { allowed: false, .. } => Verdict::Rejected,
            AdmissionResponse { patch: None, .. } => Verdict::Accepted,
            AdmissionResponse { .. } => Verdict::Mutated,
        }
    }
}

/// Why a call gave no answer. The texts are those of the real host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No instance could be made: start-up code that traps, or no waPC module at all.
    #[error("cannot rehydrate PolicyEvaluatorPre: {0}")]
    Start(String),
    /// The guest, or its start-up, ran into the deadline.
    #[error("Policy execution interrupted because it exceeded the allowed execution time")]
    Deadline,
    /// The guest returned an error, trapped, or has no such function.
    #[error("{0}")]
    Guest(String),
}

impl Host {
    /// Loads a module into the default engine.
    ///
    /// # Errors
    /// It is no module that a Kubewarden host could run.
    pub fn load(module: &[u8], metadata: Metadata) -> Result<Self, LoadError> {
        Self::load_into(Engine::default(), module, metadata)
    }

    /// Loads a module into an engine of choice.
    ///
    /// # Errors
    /// It is no module that a Kubewarden host could run.
    pub fn load_into(engine: Engine, module: &[u8], metadata: Metadata) -> Result<Self, LoadError> {
        let module = Module::load(engine, module)?;
        Ok(Self { deadline: Duration::from_secs(2), backtraces: false, metadata: Arc::new(metadata), module })
    }

    /// What runs the module.
    pub fn engine(&self) -> Engine {
        self.module.engine()
    }

    /// What the policy is granted.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Asks the policy about one request.
    pub fn evaluate(&self, settings: &Value, request: &AdmissionRequest, cluster: &Cluster) -> Evaluation {
        let uid = &request.uid;
        let payload = json!({"request": request, "settings": settings}).to_string();
        let call = self.call("validate", payload.as_bytes(), cluster);
        let (response, failure) = match call.answer.map(|answer| serde_json::from_slice::<ValidationResponse>(&answer))
        {
            Ok(Ok(answer)) => (AdmissionResponse::from_policy(uid, request.object.as_ref(), answer), None),
            Ok(Err(error)) => {
                let failure = format!("invalid response from policy: {error}");
                (AdmissionResponse::reject_internal_server_error(uid, &failure), Some(failure))
            }
            Err(error @ CallError::Deadline) => {
                (AdmissionResponse::reject(uid, error.to_string(), Some(500)), Some(error.to_string()))
            }
            Err(error) => {
                (AdmissionResponse::reject_internal_server_error(uid, &error.to_string()), Some(error.to_string()))
            }
        };
        Evaluation {
            response: if self.metadata.mutating { response } else { response.without_mutation() },
            failure,
            host_calls: call.host_calls,
            logs: call.logs,
            start: call.start,
            validate: call.run,
        }
    }

    /// Asks the policy whether it can work with these settings, a JSON text as the real host passes it at its start.
    pub fn validate_settings(&self, settings: &[u8]) -> SettingsValidationResponse {
        let invalid = |message| SettingsValidationResponse { valid: false, message: Some(message) };
        match self.call("validate_settings", settings, &Cluster::Absent).answer {
            Ok(answer) => serde_json::from_slice(&answer)
                .unwrap_or_else(|error| invalid(format!("error: InvalidResponseWithError({error:?})"))),
            Err(error) => invalid(format!("Error invoking settings validation callback: {error}")),
        }
    }

    /// Calls any function of the module with any bytes, in a fresh instance.
    pub fn call(&self, operation: &str, payload: &[u8], cluster: &Cluster) -> Call {
        let transcript = Arc::new(Mutex::new(Transcript::default()));
        let begin = Instant::now();
        let instance = self.instance(cluster, Arc::clone(&transcript));
        let start = begin.elapsed();
        let begin = Instant::now();
        let answer = instance.and_then(|instance| instance.call(operation, payload).map_err(guest_error));
        let run = begin.elapsed();
        let transcript = transcript.lock().unwrap_or_else(PoisonError::into_inner);
        Call {
            answer,
            host_calls: transcript.host_calls(),
            logs: transcript.logs(),
            start,
            run,
            answering: transcript.answering,
        }
    }

    fn instance(&self, cluster: &Cluster, transcript: Arc<Mutex<Transcript>>) -> Result<WapcHost, CallError> {
        let provider = self.module.instance(self.deadline).map_err(|error| CallError::Start(error.to_string()))?;
        let (metadata, cluster, backtraces) = (Arc::clone(&self.metadata), cluster.clone(), self.backtraces);
        let callback = move |_: u64, binding: &str, namespace: &str, operation: &str, payload: &[u8]| {
            let capabilities = Capabilities { metadata: &metadata, cluster: &cluster, backtraces };
            let mut transcript = transcript.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = Instant::now();
            let answer = capabilities.answer(&mut transcript, (binding, namespace, operation), payload);
            transcript.answering += begin.elapsed();
            answer
        };
        WapcHost::new(provider, Some(Box::new(callback))).map_err(start_error)
    }
}

/// The engine's errors have no type for a deadline: the real host looks for these texts as well.
fn start_error(error: wapc::errors::Error) -> CallError {
    let text = error.to_string();
    if text.contains("init interrupted, execution deadline exceeded") {
        return CallError::Deadline;
    }
    CallError::Start(text)
}

fn guest_error(error: wapc::errors::Error) -> CallError {
    let text = error.to_string();
    if text.contains("guest code interrupted, execution deadline exceeded") {
        return CallError::Deadline;
    }
    CallError::Guest(text)
}
