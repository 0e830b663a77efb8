//! What the policy reads from an admission request, borrowed from its text.
//!
//! These are our own types. The SDK's types put the whole payload into their error texts, fail on a `null` namespace, and
//! would drop fields that Kubernetes adds later.

use image_pull_secrets::json::{self, Field, Part};
use image_pull_secrets::settings::Faults;
use image_pull_secrets::text::shown;
use std::borrow::Cow;
use std::fmt;

/// The two kinds of objects that the policy changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// core/v1 Pod.
    Pod,
    /// core/v1 ServiceAccount.
    ServiceAccount,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "Pod",
            Self::ServiceAccount => "ServiceAccount",
        })
    }
}

/// Why a request is accepted unchanged.
pub enum Unchanged {
    /// There is nothing to do and nothing to warn about.
    Untouched(Untouched),
    /// Something that the policy needs could not be read. This gives a warning.
    Unreadable(Unreadable),
}

impl From<Untouched> for Unchanged {
    fn from(reason: Untouched) -> Self {
        Self::Untouched(reason)
    }
}

impl From<Unreadable> for Unchanged {
    fn from(part: Unreadable) -> Self {
        Self::Unreadable(part)
    }
}

/// Why there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untouched {
    /// The object is neither a Pod nor a ServiceAccount.
    OtherKind,
    /// The request is for a sub-resource, such as `pods/eviction`.
    SubResource,
    /// The operation cannot change imagePullSecrets, or must not.
    OtherOperation,
    /// The object is a mirror Pod, which shows a static Pod in the API.
    MirrorPod,
    /// Its namespace is excluded by name.
    ExcludedNamespace,
    /// The object has the exclude annotation.
    ExcludedObject,
    /// Its Namespace has the exclude annotation.
    ExcludedByNamespaceAnnotation,
    /// The object is a ServiceAccount that is being deleted.
    BeingDeleted,
    /// The object is a ServiceAccount whose name is not selected.
    NotSelected,
    /// The object wants nothing, or already lists everything that it wants.
    NothingToAdd,
}

/// What could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The payload, or its request.
    Payload,
    /// The settings.
    Settings(Faults),
    /// The object is not a JSON object.
    Object(Kind),
    /// The Pod has no spec.
    NoSpec,
    /// `imagePullSecrets` is not a list.
    NotAList(Kind),
}

/// What is read from every payload. The request is an AdmissionRequest of `admission.k8s.io/v1`.
const PAYLOAD: &[Field] = &[Field::Any("settings"), Field::Object("request", REQUEST)];
const REQUEST: &[Field] = &[
    Field::Object("kind", &[Field::Any("group"), Field::Any("version"), Field::Any("kind")]),
    Field::Any("operation"),
    Field::Any("subResource"),
    Field::Any("namespace"),
    Field::Object(
        "object",
        &[Field::Object("metadata", METADATA), Field::Object("spec", SPEC), Field::Any("imagePullSecrets")],
    ),
];
const METADATA: &[Field] = &[
    Field::Any("name"),
    Field::Any("generateName"),
    Field::Any("namespace"),
    Field::Any("annotations"),
    Field::Any("deletionTimestamp"),
];
const SPEC: &[Field] = &[
    Field::Any("imagePullSecrets"),
    Field::Any("containers"),
    Field::Any("initContainers"),
    Field::Any("ephemeralContainers"),
    Field::Any("volumes"),
];

/// The text of a member. It is empty if the member is absent, `null` or not a string.
fn text<'a>(of: &Part<'a>, name: &str) -> Cow<'a, str> {
    of.text_of(name).and_then(json::string).unwrap_or_default()
}

/// The kind of the object, if it is one of the two.
fn kind_of(kind: &Part<'_>) -> Option<Kind> {
    match (&*text(kind, "group"), &*text(kind, "version"), &*text(kind, "kind")) {
        ("", "v1", "Pod") => Some(Kind::Pod),
        ("", "v1", "ServiceAccount") => Some(Kind::ServiceAccount),
        _ => None,
    }
}

/// The Pod or ServiceAccount of a request.
pub struct Subject<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace. It is empty if neither the request nor the object has one.
    pub namespace: Cow<'a, str>,
    /// Its name. It is empty if the API server has not yet made one from `generateName`.
    pub name: Cow<'a, str>,
    /// Whether the request only changes ephemeral containers.
    pub is_about_ephemeral_containers: bool,
    object: Part<'a>,
    metadata: Part<'a>,
    spec: Option<Part<'a>>,
}

/// The references of an object, and where they are in its text.
pub struct References<'a> {
    /// The text of the JSON object that has the member `imagePullSecrets`, or is to get it.
    pub holder: &'a str,
    /// The text of the list, if there is one.
    pub list: Option<&'a str>,
    /// The names in the list. Entries without a name are left out.
    names: Vec<Cow<'a, str>>,
}

impl References<'_> {
    /// Whether this name is among them.
    pub fn lists(&self, name: &str) -> bool {
        self.names.iter().any(|listed| listed == name)
    }
}

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

impl<'a> Subject<'a> {
    /// Reads a payload: the text of the settings, and the object, unless the policy leaves such requests alone.
    pub fn read(payload: &'a [u8]) -> Result<(&'a str, Self), Unchanged> {
        let payload = std::str::from_utf8(payload).map_err(|_| Unreadable::Payload)?;
        let mut payload = Part::read(payload, PAYLOAD).map_err(|_| Unreadable::Payload)?;
        let mut request = payload.take("request").ok_or(Unreadable::Payload)?;
        let kind = kind_of(request.member("kind").ok_or(Unreadable::Payload)?).ok_or(Untouched::OtherKind)?;
        let is_about_ephemeral_containers = match (kind, &*text(&request, "subResource"), &*text(&request, "operation"))
        {
            // This is `kubectl debug`. The object in the request is the whole Pod.
            (Kind::Pod, "ephemeralcontainers", "UPDATE") => true,
            // A Pod's imagePullSecrets are immutable. If the policy added one here, every change of an old Pod's labels
            // would fail.
            (Kind::Pod, "", "CREATE") | (Kind::ServiceAccount, "", "CREATE" | "UPDATE") => false,
            (_, "", _) => return Err(Untouched::OtherOperation.into()),
            _ => return Err(Untouched::SubResource.into()),
        };
        let mut object = request.take("object").ok_or(Unreadable::Object(kind))?;
        let metadata = object.take("metadata").unwrap_or_default();
        let namespace = match text(&request, "namespace") {
            namespace if namespace.is_empty() => text(&metadata, "namespace"),
            namespace => namespace,
        };
        let (name, spec) = (text(&metadata, "name"), object.take("spec"));
        let subject = Self { kind, namespace, name, is_about_ephemeral_containers, object, metadata, spec };
        Ok((payload.text_of("settings").unwrap_or("null"), subject))
    }

    /// The text of the whole object.
    pub fn text(&self) -> &'a str {
        self.object.text
    }

    /// Whether it has a deletionTimestamp.
    pub fn is_being_deleted(&self) -> bool {
        !text(&self.metadata, "deletionTimestamp").is_empty()
    }

    /// The object's name in messages: `namespace/name`, with a star for the part that the API server generates.
    pub fn label(&self) -> String {
        let namespace = shown(&self.namespace);
        match (&*self.name, &*text(&self.metadata, "generateName")) {
            ("", "") => format!("{namespace}/?"),
            ("", prefix) => format!("{namespace}/{}*", shown(prefix)),
            (name, _) => format!("{namespace}/{}", shown(name)),
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<Cow<'a, str>> {
        let [value] = json::pick(self.metadata.text_of("annotations")?, [key]).ok()?;
        json::string(value?)
    }

    /// Whether the object is the kubelet's copy of a static Pod. The API server refuses one that names secrets
    /// (`plugin/pkg/admission/serviceaccount`).
    pub fn is_mirror_pod(&self) -> bool {
        self.kind == Kind::Pod && self.annotation(MIRROR_ANNOTATION).is_some()
    }

    /// Finds the references in the text.
    pub fn references(&self) -> Result<References<'a>, Unreadable> {
        let holder = match self.kind {
            Kind::ServiceAccount => &self.object,
            Kind::Pod => self.spec.as_ref().ok_or(Unreadable::NoSpec)?,
        };
        let list = holder.text_of("imagePullSecrets");
        let entries = match list {
            None | Some("null") => Vec::new(),
            Some(list) => json::elements(list).ok_or(Unreadable::NotAList(self.kind))?,
        };
        let name = |entry| json::pick(entry, ["name"]).ok().and_then(|[name]| json::string(name?));
        Ok(References { holder: holder.text, list, names: entries.into_iter().filter_map(name).collect() })
    }

    /// The image references of a Pod's containers, init containers and image volumes, as they are written.
    pub fn image_references(&self) -> Vec<Cow<'a, str>> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let of_containers = ["containers", "initContainers"].into_iter().flat_map(|list| of_containers(spec, list));
        let of_volumes = each(spec, "volumes").into_iter().filter_map(|volume| {
            let [image] = json::pick(volume, ["image"]).ok()?;
            let [reference] = json::pick(image?, ["reference"]).ok()?;
            json::string(reference?)
        });
        of_containers.chain(of_volumes).collect()
    }

    /// The image references of a Pod's ephemeral containers, as they are written.
    pub fn ephemeral_image_references(&self) -> Vec<Cow<'a, str>> {
        self.spec.iter().flat_map(|spec| of_containers(spec, "ephemeralContainers")).collect()
    }
}

fn of_containers<'a>(spec: &Part<'a>, list: &str) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    each(spec, list).into_iter().filter_map(|container| {
        let [image] = json::pick(container, ["image"]).ok()?;
        json::string(image?)
    })
}

fn each<'a>(spec: &Part<'a>, list: &str) -> Vec<&'a str> {
    spec.text_of(list).and_then(json::elements).unwrap_or_default()
}
