//! A cluster made of manifests: the objects that an API server would hold after `kubectl apply`, and the faults that a
//! test wants it to have.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use thiserror::Error;

use super::KubernetesGetResource;
use crate::{
    kinds::Kind,
    object::Object,
    request::{DocumentError, documents},
};

/// Who asks the API server where the real host is policy-server.
const USER: &str = "system:serviceaccount:kubewarden:policy-server";

/// Objects by name, and the faults of asking for them.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    objects: BTreeMap<ObjectRef, Object>,
    faults: BTreeMap<ObjectRef, Fault>,
    fault: Option<Fault>,
}

/// Names one object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// `v1`, or `group/version`.
    pub api_version: String,
    /// The kind's name, as in `kind: Secret`.
    pub kind: String,
    /// The namespace; none for a cluster-wide kind.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
}

/// How an API server, or the way to it, can fail to give an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// RBAC refuses `get`: 403.
    Forbidden,
    /// Nothing listens where the API server should be.
    Unreachable,
    /// Discovery does not list the kind.
    Undiscovered,
    /// The answer takes this long, and then is what it would have been.
    Slow(Duration),
}

/// Why manifests cannot make a cluster.
#[derive(Debug, Error)]
pub enum ManifestsError {
    /// A file or directory that could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no list of manifests.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ManifestsError>,
    },
    /// Not YAML or JSON.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A document that no API server would take. The reason quotes no value: it may be a credential.
    #[error("document {number} is not a Kubernetes object: {reason}")]
    Object {
        /// Which document, counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two documents of one name.
    #[error("{0} is there twice: remove one of them")]
    Twice(ObjectRef),
}

impl ObjectRef {
    /// Names a Secret.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self { api_version: "v1".into(), kind: "Secret".into(), namespace: Some(namespace.into()), name: name.into() }
    }

    /// Names a Namespace.
    pub fn namespace(name: &str) -> Self {
        Self { api_version: "v1".into(), kind: "Namespace".into(), namespace: None, name: name.into() }
    }
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.kind, self.name)?;
        match &self.namespace {
            Some(namespace) => write!(formatter, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl Manifests {
    /// Reads every `.yaml`, `.yml` and `.json` file of a directory and of the directories in it.
    pub fn read_dir(directory: &Path) -> Result<Self, ManifestsError> {
        let mut manifests = Self::default();
        manifests.add_dir(directory)?;
        Ok(manifests)
    }

    /// Takes YAML documents, or JSON.
    pub fn parse(text: &str) -> Result<Self, ManifestsError> {
        let mut manifests = Self::default();
        manifests.add(text)?;
        Ok(manifests)
    }

    /// Makes asking for one object fail, whether the object is there or not.
    pub fn fail(mut self, object: ObjectRef, fault: Fault) -> Self {
        self.faults.insert(object, fault);
        self
    }

    /// Makes asking for any object fail.
    pub fn fail_all(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    fn add_dir(&mut self, directory: &Path) -> Result<(), ManifestsError> {
        let read = |source| ManifestsError::Read { path: directory.to_owned(), source };
        let mut paths: Vec<PathBuf> = fs::read_dir(directory)
            .map_err(read)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, _>>()
            .map_err(read)?;
        paths.sort();
        for path in paths {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                self.add_dir(&path)?;
            } else if matches!(extension, Some("yaml" | "yml" | "json")) {
                let text =
                    fs::read_to_string(&path).map_err(|source| ManifestsError::Read { path: path.clone(), source })?;
                self.add(&text).map_err(|source| ManifestsError::File { path, source: Box::new(source) })?;
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str) -> Result<(), ManifestsError> {
        for (index, document) in documents(text)?.into_iter().enumerate() {
            let (name, object) =
                stored(document).map_err(|reason| ManifestsError::Object { number: index + 1, reason })?;
            if self.objects.contains_key(&name) {
                return Err(ManifestsError::Twice(name));
            }
            self.objects.insert(name, object);
        }
        Ok(())
    }

    /// The object asked for, whole; else the real host's error, causes included.
    pub(super) fn get(&self, request: &KubernetesGetResource) -> anyhow::Result<Object> {
        let KubernetesGetResource { api_version, kind, name, namespace, .. } = request;
        let discovered = Kind::of(api_version, kind);
        let wanted = ObjectRef {
            api_version: api_version.clone(),
            kind: kind.clone(),
            // The real host asks for a cluster-wide object without a namespace, whatever the policy said.
            namespace: namespace.clone().filter(|_| discovered.namespaced),
            name: name.clone(),
        };
        let mut fault = self.faults.get(&wanted).copied().or(self.fault);
        if let Some(Fault::Slow(time)) = fault {
            thread::sleep(time);
            fault = None;
        }
        match fault {
            Some(Fault::Unreachable) => return Err(unreachable_server()),
            Some(Fault::Undiscovered) => bail!("Cannot find resource {api_version}/{kind}"),
            _ if !self.serves(&discovered, api_version) => bail!("Cannot find resource {api_version}/{kind}"),
            _ if discovered.namespaced && namespace.is_none() => {
                bail!("Resource {api_version}/{kind} is namespaced, but no namespace was provided")
            }
            Some(Fault::Forbidden) => return Err(forbidden(&discovered, &wanted)),
            Some(Fault::Slow(_)) | None => {}
        }
        self.objects.get(&wanted).cloned().ok_or_else(|| {
            anyhow!("Cannot find {api_version}/{kind} named '{name}' inside of namespace '{:?}'", namespace.as_deref())
        })
    }

    fn serves(&self, kind: &Kind, api_version: &str) -> bool {
        kind.built_in || self.objects.keys().any(|name| name.api_version == api_version && name.kind == kind.kind)
    }
}

/// The object as an API server would hold it, under the name it would hold it by.
fn stored(mut document: Value) -> Result<(ObjectRef, Object), &'static str> {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let api_version = text(&document, "/apiVersion").ok_or("apiVersion is missing or no string")?;
    let kind = text(&document, "/kind").ok_or("kind is missing or no string")?;
    let name = text(&document, "/metadata/name").ok_or("metadata.name is missing or no string")?;
    let namespace = if Kind::of(&api_version, &kind).namespaced {
        let namespace = text(&document, "/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        document["metadata"]["namespace"] = json!(namespace);
        Some(namespace)
    } else {
        None
    };
    if api_version == "v1" && kind == "Secret" {
        encode_string_data(&mut document)?;
    }
    let object = serde_json::from_value(document).map_err(|_| "metadata has a field of the wrong type")?;
    Ok((ObjectRef { api_version, kind, namespace, name }, object))
}

/// An API server encodes a Secret's `stringData` into `data`, and holds no Secret without a type.
fn encode_string_data(secret: &mut Value) -> Result<(), &'static str> {
    let fields = secret.as_object_mut().ok_or("it is no object")?;
    fields.entry("type").or_insert_with(|| json!("Opaque"));
    let Some(string_data) = fields.remove("stringData") else {
        return Ok(());
    };
    let data = fields.entry("data").or_insert_with(|| json!({})).as_object_mut().ok_or("data is no object")?;
    for (key, value) in string_data.as_object().ok_or("stringData is no object")? {
        let text = value.as_str().ok_or("stringData holds something else than strings")?;
        data.insert(key.clone(), json!(STANDARD.encode(text)));
    }
    Ok(())
}

/// The chain of errors that a kube client ends up with when nobody listens.
fn unreachable_server() -> anyhow::Error {
    anyhow::Error::new(std::io::Error::from_raw_os_error(111)) // ECONNREFUSED on Linux, where the real host runs
        .context("tcp connect error")
        .context("client error (Connect)")
        .context("ServiceError: client error (Connect)")
}

/// A kube client's error for an API server's 403.
fn forbidden(kind: &Kind, object: &ObjectRef) -> anyhow::Error {
    let place = match &object.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let Kind { group, plural, .. } = kind;
    let name = &object.name;
    let message = format!(
        "{plural} {name:?} is forbidden: User {USER:?} cannot get resource {plural:?} in API group {group:?} {place}"
    );
    // The `Debug` form of kube's `Status`.
    let status = format!(
        "Status {{ status: Some(Failure), code: 403, message: {message:?}, metadata: Some(ListMeta {{ continue_: None, \
         remaining_item_count: None, resource_version: None, self_link: None, shard_info: None }}), \
         reason: \"Forbidden\", details: Some(StatusDetails {{ name: {name:?}, group: {group:?}, kind: {plural:?}, \
         uid: \"\", causes: [], retry_after_seconds: 0 }}) }}"
    );
    anyhow!("{message}: Forbidden").context(format!("ApiError: {message}: Forbidden ({status})"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::no_name(
        "{apiVersion: v1, kind: Secret, data: {a: hunter2}}",
        "document 1 is not a Kubernetes object: metadata.name is missing or no string"
    )]
    #[case::metadata_of_the_wrong_type(
        "{apiVersion: v1, kind: Secret, metadata: {name: a, labels: [hunter2]}}",
        "document 1 is not a Kubernetes object: metadata has a field of the wrong type"
    )]
    #[case::string_data_of_the_wrong_type(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {a: [hunter2]}}",
        "document 1 is not a Kubernetes object: stringData holds something else than strings"
    )]
    #[case::twice(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: default}}",
        "Secret a in namespace default is there twice: remove one of them"
    )]
    fn what_no_api_server_would_hold_is_refused_without_quoting_it(#[case] text: &str, #[case] message: &str) {
        assert_eq!(Manifests::parse(text).unwrap_err().to_string(), message);
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_refusal_is_worded_as_kubes_error_is() {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
        use kube::core::{Status, response::StatusDetails};

        let secret = ObjectRef::secret("shop", "say-\"hi\"");
        let error = forbidden(&Kind::of("v1", "Secret"), &secret);
        let message = error.root_cause().to_string();
        let details = StatusDetails {
            name: secret.name,
            group: String::new(),
            kind: "secrets".to_owned(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let message = message.strip_suffix(": Forbidden").unwrap();
        let mut status = Status::failure(message, "Forbidden").with_code(403).with_details(details);
        status.metadata = Some(ListMeta::default());
        assert_eq!(error.to_string(), format!("ApiError: {status} ({status:?})"));
        assert_eq!(error.root_cause().to_string(), status.to_string());
    }

    #[test]
    fn a_directory_is_read_with_its_directories_and_nothing_but_manifests() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        write("a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: a}}");
        write("b.json", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}"#);
        write("sub/c.yml", "{apiVersion: v1, kind: Namespace, metadata: {name: c}}");
        write("README.md", "# not a manifest");
        let manifests = Manifests::read_dir(directory.path()).unwrap();
        let names: Vec<_> = manifests.objects.keys().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);

        write("sub/d.yaml", "kind: Namespace");
        let error = format!("{:#}", anyhow::Error::new(Manifests::read_dir(directory.path()).unwrap_err()));
        assert!(
            error.ends_with("d.yaml: document 1 is not a Kubernetes object: apiVersion is missing or no string"),
            "{error}"
        );
    }
}
