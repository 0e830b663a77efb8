//! Recorded sessions, in the format of `kwctl run --record-host-capabilities-interactions`.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Cluster, KubernetesGetResource};

/// One question and its answer, as kwctl writes them: the question is YAML within the YAML.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "type")]
struct Exchange {
    request: String,
    response: Response,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "type")]
enum Response {
    Success { payload: String },
    Error { message: String },
}

/// A question by the YAML tag that kwctl gives it.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
enum Request {
    KubernetesGetResource(KubernetesGetResource),
}

/// A recorded session: its answers are given in the order they were recorded, each to its own question only.
#[derive(Debug)]
pub struct Session(Mutex<VecDeque<(KubernetesGetResource, Response)>>);

/// What a cluster was asked, and what it answered.
#[derive(Debug)]
pub struct Recording {
    source: Cluster,
    exchanges: Mutex<Vec<Exchange>>,
}

/// Why a session cannot be replayed or written.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The file could not be read.
    #[error("cannot read the recorded session {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write the session to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a list of exchanges.
    #[error("the recorded session is not a list of exchanges as kwctl writes them")]
    Parse(#[source] yaml_serde::Error),
    /// An exchange about another capability, or with fields that are not its own.
    #[error("exchange {number} of the recorded session is no KubernetesGetResource")]
    Request {
        /// Which exchange, counted from 1.
        number: usize,
        /// What is wrong with it.
        source: yaml_serde::Error,
    },
    /// The session cannot be expressed in YAML.
    #[error("cannot write the session as YAML")]
    Serialize(#[source] yaml_serde::Error),
}

impl Session {
    /// Reads a recorded session from its file.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        let yaml = fs::read_to_string(path).map_err(|source| SessionError::Read { path: path.to_owned(), source })?;
        Self::parse(&yaml)
    }

    /// Parses a recorded session.
    pub fn parse(yaml: &str) -> Result<Self, SessionError> {
        let exchanges: Vec<Exchange> = yaml_serde::from_str(yaml).map_err(SessionError::Parse)?;
        let exchanges = exchanges.into_iter().enumerate().map(|(index, exchange)| {
            let Request::KubernetesGetResource(request) = yaml_serde::from_str(&exchange.request)
                .map_err(|source| SessionError::Request { number: index + 1, source })?;
            Ok((request, exchange.response))
        });
        Ok(Self(Mutex::new(exchanges.collect::<Result<_, _>>()?)))
    }

    /// How many exchanges nobody has asked for yet. After a run, more than none means that the policy has changed.
    pub fn leftovers(&self) -> usize {
        lock(&self.0).len()
    }

    /// Answers as kwctl does: a question that is not the next one takes that one's turn and fails.
    pub(super) fn replay(&self, request: &KubernetesGetResource) -> anyhow::Result<Vec<u8>> {
        let (expected, response) =
            lock(&self.0).pop_front().ok_or_else(|| anyhow!("the list of recorded responses is empty"))?;
        if expected != *request {
            return Err(anyhow!(
                "Replay error: unexpected request. Was expecting {expected:?}, got {request:?} instead"
            ));
        }
        match response {
            Response::Success { payload } => Ok(payload.into_bytes()),
            Response::Error { message } => Err(anyhow!("{message}")),
        }
    }
}

impl Recording {
    pub(super) fn of(source: Cluster) -> Self {
        Self { source, exchanges: Mutex::default() }
    }

    pub(super) fn record(&self, request: &KubernetesGetResource) -> anyhow::Result<Vec<u8>> {
        let answer = self.source.get_resource(request);
        let response = match &answer {
            Ok(payload) => Response::Success { payload: String::from_utf8(payload.clone())? },
            Err(error) => Response::Error { message: error.to_string() },
        };
        let request = yaml_serde::to_string(&Request::KubernetesGetResource(request.clone()))?;
        lock(&self.exchanges).push(Exchange { request, response });
        answer
    }

    /// The session so far, as kwctl would have written it. It holds what the policy was told: the credentials of a
    /// Secret, where it asked for them.
    pub fn to_yaml(&self) -> Result<String, SessionError> {
        yaml_serde::to_string(&*lock(&self.exchanges)).map_err(SessionError::Serialize)
    }

    /// Writes the session to a file.
    pub fn write(&self, path: &Path) -> Result<(), SessionError> {
        fs::write(path, self.to_yaml()?).map_err(|source| SessionError::Write { path: path.to_owned(), source })
    }
}

/// A thread that panicked half-way through a push or pop has left the list whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifests::Manifests;

    /// Both exchanges as kwctl 1.35.0 wrote them.
    const KWCTL: &str = r#"- type: Exchange
  request: |
    !KubernetesGetResource
    api_version: v1
    kind: Secret
    name: nope
    namespace: v1
    disable_cache: false
    field_masks: null
  response:
    type: Error
    message: Cannot find v1/Secret named 'nope' inside of namespace 'Some("v1")'
- type: Exchange
  request: |
    !KubernetesGetResource
    api_version: v1
    kind: Secret
    name: regcred
    namespace: v1
    disable_cache: false
    field_masks:
    - type
  response:
    type: Success
    payload: '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"regcred","namespace":"v1"},"type":"kubernetes.io/dockerconfigjson"}'
"#;

    fn get(name: &str, masks: Option<&[&str]>) -> KubernetesGetResource {
        KubernetesGetResource {
            api_version: "v1".into(),
            kind: "Secret".into(),
            name: name.into(),
            namespace: Some("v1".into()),
            disable_cache: false,
            field_masks: masks.map(|masks| masks.iter().map(|&mask| mask.to_owned()).collect()),
        }
    }

    #[test]
    fn a_session_of_kwctl_is_replayed_in_order() {
        let session = Session::parse(KWCTL).unwrap();
        let error = session.replay(&get("nope", None)).unwrap_err();
        assert_eq!(error.to_string(), r#"Cannot find v1/Secret named 'nope' inside of namespace 'Some("v1")'"#);
        let payload = session.replay(&get("regcred", Some(&["type"]))).unwrap();
        assert!(payload.starts_with(br#"{"apiVersion":"v1","kind":"Secret""#));
        let error = session.replay(&get("regcred", Some(&["type"]))).unwrap_err();
        assert_eq!(error.to_string(), "the list of recorded responses is empty");
    }

    #[test]
    fn a_question_that_differs_in_one_field_fails_in_the_words_of_kwctl() {
        let session = Session::parse(KWCTL).unwrap();
        let error = session.replay(&get("nope", Some(&["type"]))).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"Replay error: unexpected request. Was expecting KubernetesGetResource { api_version: "v1", kind: "Secret", name: "nope", namespace: Some("v1"), disable_cache: false, field_masks: None }, got KubernetesGetResource { api_version: "v1", kind: "Secret", name: "nope", namespace: Some("v1"), disable_cache: false, field_masks: Some({"type"}) } instead"#
        );
        assert_eq!(session.leftovers(), 1);
    }

    #[test]
    fn a_recording_is_what_kwctl_would_have_written() {
        let secret = "{apiVersion: v1, kind: Secret, type: kubernetes.io/dockerconfigjson, metadata: {name: regcred, namespace: v1}, data: {a: YQ==}}";
        let (cluster, recording) = Cluster::of(Manifests::parse(secret).unwrap()).recorded();
        cluster.get_resource(&get("nope", None)).unwrap_err();
        cluster.get_resource(&get("regcred", Some(&["type"]))).unwrap();
        assert_eq!(recording.to_yaml().unwrap(), KWCTL);
    }

    #[test]
    fn a_session_about_another_capability_is_refused() {
        let yaml = "- {type: Exchange, request: \"!DNSLookupHost\\nhost: a\", response: {type: Error, message: m}}";
        let error = Session::parse(yaml).unwrap_err().to_string();
        assert!(error.starts_with("exchange 1 of the recorded session is no KubernetesGetResource"), "{error}");
    }
}
