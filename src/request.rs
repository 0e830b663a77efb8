//! What the policy reads of an admission request, borrowed from its text.
//!
//! Types of our own rather than the SDK's: those put the whole payload into their error texts, fail on a `null` namespace,
//! and know no field that Kubernetes adds later.

use image_pull_secrets::json::{self, Malformed, Reader};
use image_pull_secrets::settings::Faults;
use image_pull_secrets::text::shown;
use std::borrow::Cow;
use std::fmt;

/// The two kinds that carry imagePullSecrets and are not templates.
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

/// Why a request is accepted as it is.
pub enum Unchanged {
    /// There is nothing to do, and nothing to say.
    Untouched(Untouched),
    /// Something that the policy needs could not be read, which is worth a warning.
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

/// Why there is nothing to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untouched {
    /// Neither a Pod nor a ServiceAccount.
    OtherKind,
    /// A sub-resource, such as `pods/eviction`.
    SubResource,
    /// An operation that cannot, or must not, change imagePullSecrets.
    OtherOperation,
    /// The API server's picture of a static Pod.
    MirrorPod,
    /// Its namespace is excluded by name.
    ExcludedNamespace,
    /// It has the exclude annotation.
    ExcludedObject,
    /// Its Namespace has the exclude annotation.
    ExcludedByNamespaceAnnotation,
    /// A ServiceAccount that goes.
    BeingDeleted,
    /// A ServiceAccount whose name is not selected.
    NotSelected,
    /// Everything that it wants is listed.
    NothingToAdd,
}

/// What could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The payload, or its request.
    Payload,
    /// The settings.
    Settings(Faults),
    /// The object is no JSON object.
    Object(Kind),
    /// The Pod has no spec.
    NoSpec,
    /// `imagePullSecrets` is there, and no list.
    NotAList(Kind),
}

/// An `admission.k8s.io/v1` AdmissionRequest, as far as it matters.
struct Request<'a> {
    group: Cow<'a, str>,
    version: Cow<'a, str>,
    kind: Cow<'a, str>,
    operation: Cow<'a, str>,
    sub_resource: Cow<'a, str>,
    namespace: Cow<'a, str>,
    object: Option<Object<'a>>,
}

/// The object of a request, as far as it matters, whatever its kind: each value as its text.
#[derive(Default)]
struct Object<'a> {
    text: &'a str,
    name: Option<&'a str>,
    generate_name: Option<&'a str>,
    namespace: Option<&'a str>,
    annotations: Option<&'a str>,
    deletion_timestamp: Option<&'a str>,
    references: Option<&'a str>,
    spec: Option<Spec<'a>>,
}

#[derive(Default)]
struct Spec<'a> {
    text: &'a str,
    references: Option<&'a str>,
    containers: Option<&'a str>,
    init_containers: Option<&'a str>,
    ephemeral_containers: Option<&'a str>,
    volumes: Option<&'a str>,
}

/// Any text, where absent, `null` and anything but a string count as empty.
fn text(value: Option<&str>) -> Cow<'_, str> {
    value.and_then(json::string).unwrap_or_default()
}

impl<'a> Spec<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, Malformed> {
        let mut spec = Self::default();
        let (text, is_object) = reader.spanned(&mut |reader| {
            reader.members(&mut |name, reader| {
                let slot = match &*name {
                    "imagePullSecrets" => &mut spec.references,
                    "containers" => &mut spec.containers,
                    "initContainers" => &mut spec.init_containers,
                    "ephemeralContainers" => &mut spec.ephemeral_containers,
                    "volumes" => &mut spec.volumes,
                    _ => return Ok(()),
                };
                *slot = Some(reader.value()?);
                Ok(())
            })
        })?;
        spec.text = text;
        Ok(is_object.then_some(spec))
    }
}

impl<'a> Object<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, Malformed> {
        let mut object = Self::default();
        let (text, is_object) = reader.spanned(&mut |reader| {
            reader.members(&mut |name, reader| {
                match &*name {
                    "metadata" => object.read_metadata(reader)?,
                    "spec" => object.spec = Spec::read(reader)?,
                    "imagePullSecrets" => object.references = Some(reader.value()?),
                    _ => {}
                }
                Ok(())
            })
        })?;
        object.text = text;
        Ok(is_object.then_some(object))
    }

    fn read_metadata(&mut self, reader: &mut Reader<'a>) -> Result<(), Malformed> {
        // The last of two counts, whole.
        (self.name, self.generate_name, self.namespace) = (None, None, None);
        (self.annotations, self.deletion_timestamp) = (None, None);
        reader.members(&mut |name, reader| {
            let slot = match &*name {
                "name" => &mut self.name,
                "generateName" => &mut self.generate_name,
                "namespace" => &mut self.namespace,
                "annotations" => &mut self.annotations,
                "deletionTimestamp" => &mut self.deletion_timestamp,
                _ => return Ok(()),
            };
            *slot = Some(reader.value()?);
            Ok(())
        })?;
        Ok(())
    }
}

impl<'a> Request<'a> {
    /// Splits a payload into the text of the settings and the request, in one pass over its text.
    fn read(payload: &'a str) -> Result<(&'a str, Self), Unreadable> {
        let (mut settings, mut has_request) = ("null", false);
        let [mut kind, mut operation, mut sub_resource, mut namespace] = [None; 4];
        let mut object = None;
        let mut read_request = |name: Cow<'a, str>, reader: &mut Reader<'a>| {
            let slot = match &*name {
                "kind" => &mut kind,
                "operation" => &mut operation,
                "subResource" => &mut sub_resource,
                "namespace" => &mut namespace,
                "object" => {
                    object = Object::read(reader)?;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *slot = Some(reader.value()?);
            Ok(())
        };
        let read = Reader::whole(payload, &mut |reader| {
            reader.members(&mut |name, reader| {
                match &*name {
                    "settings" => settings = reader.value()?,
                    "request" => has_request = reader.members(&mut read_request)?,
                    _ => {}
                }
                Ok(())
            })
        });
        if read.is_err() || !has_request {
            return Err(Unreadable::Payload);
        }
        let [group, version, kind] =
            kind.and_then(|kind| json::pick(kind, ["group", "version", "kind"]).ok()).ok_or(Unreadable::Payload)?;
        let request = Self {
            group: text(group),
            version: text(version),
            kind: text(kind),
            operation: text(operation),
            sub_resource: text(sub_resource),
            namespace: text(namespace),
            object,
        };
        Ok((settings, request))
    }

    /// The kind, where it is one of ours.
    fn kind(&self) -> Option<Kind> {
        match (&*self.group, &*self.version, &*self.kind) {
            ("", "v1", "Pod") => Some(Kind::Pod),
            ("", "v1", "ServiceAccount") => Some(Kind::ServiceAccount),
            _ => None,
        }
    }

    /// Why the request is left alone before its object is looked at, or `None` where it is not.
    fn is_none_of_ours(&self, kind: Kind) -> Option<Untouched> {
        match (kind, &*self.operation) {
            _ if self.is_about_ephemeral_containers(kind) => None,
            _ if !self.sub_resource.is_empty() => Some(Untouched::SubResource),
            // A Pod's imagePullSecrets are immutable: to add one would make every label edit of an old Pod fail.
            (Kind::Pod, "CREATE") | (Kind::ServiceAccount, "CREATE" | "UPDATE") => None,
            _ => Some(Untouched::OtherOperation),
        }
    }

    /// Whether somebody gives a running Pod ephemeral containers: `kubectl debug`. The object is the whole Pod.
    fn is_about_ephemeral_containers(&self, kind: Kind) -> bool {
        kind == Kind::Pod && self.sub_resource == "ephemeralcontainers" && self.operation == "UPDATE"
    }
}

/// The Pod or ServiceAccount of a request.
pub struct Subject<'a> {
    /// Which of the two.
    pub kind: Kind,
    /// Its namespace; empty where neither the request nor the object names one.
    pub namespace: Cow<'a, str>,
    /// Its name; empty while `generateName` has not given it one.
    pub name: Cow<'a, str>,
    /// Whether the request is for ephemeral containers only; nothing else of the Pod can change then.
    pub is_about_ephemeral_containers: bool,
    object: Object<'a>,
}

/// Where the references of an object stand, and which they are.
pub struct References<'a> {
    /// The text of the object that has, or may get, the member `imagePullSecrets`.
    pub holder: &'a str,
    /// The text of the list, where there is one.
    pub list: Option<&'a str>,
    /// The names in it; an entry without a name has none.
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
    /// Reads a payload: the text of the settings, and what the request is about, where it is the policy's business.
    pub fn read(payload: &'a [u8]) -> Result<(&'a str, Self), Unchanged> {
        let payload = std::str::from_utf8(payload).map_err(|_| Unreadable::Payload)?;
        let (settings, request) = Request::read(payload)?;
        let kind = request.kind().ok_or(Untouched::OtherKind)?;
        if let Some(reason) = request.is_none_of_ours(kind) {
            return Err(reason.into());
        }
        Ok((settings, Self::of(kind, request)?))
    }

    fn of(kind: Kind, request: Request<'a>) -> Result<Self, Unreadable> {
        let is_about_ephemeral_containers = request.is_about_ephemeral_containers(kind);
        let object = request.object.ok_or(Unreadable::Object(kind))?;
        let namespace = if request.namespace.is_empty() { text(object.namespace) } else { request.namespace };
        Ok(Self { kind, namespace, name: text(object.name), is_about_ephemeral_containers, object })
    }

    /// The text of the whole object.
    pub fn text(&self) -> &'a str {
        self.object.text
    }

    /// Whether it has a deletionTimestamp.
    pub fn is_being_deleted(&self) -> bool {
        !text(self.object.deletion_timestamp).is_empty()
    }

    /// How messages name the object: `namespace/name`, with a star for what the API server will append.
    pub fn label(&self) -> String {
        let namespace = shown(&self.namespace);
        match (&*self.name, &*text(self.object.generate_name)) {
            ("", "") => format!("{namespace}/?"),
            ("", prefix) => format!("{namespace}/{}*", shown(prefix)),
            (name, _) => format!("{namespace}/{}", shown(name)),
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<Cow<'a, str>> {
        let [value] = json::pick(self.object.annotations?, [key]).ok()?;
        json::string(value?)
    }

    /// Whether the object is the kubelet's copy of a static Pod. The API server refuses one that names secrets
    /// (`plugin/pkg/admission/serviceaccount`).
    pub fn is_mirror_pod(&self) -> bool {
        self.kind == Kind::Pod && self.annotation(MIRROR_ANNOTATION).is_some()
    }

    /// Where the references stand.
    pub fn references(&self) -> Result<References<'a>, Unreadable> {
        let (holder, list) = match (self.kind, &self.object.spec) {
            (Kind::ServiceAccount, _) => (self.object.text, self.object.references),
            (Kind::Pod, Some(spec)) => (spec.text, spec.references),
            (Kind::Pod, None) => return Err(Unreadable::NoSpec),
        };
        let entries = match list {
            None | Some("null") => Vec::new(),
            Some(list) => json::elements(list).ok_or(Unreadable::NotAList(self.kind))?,
        };
        let name = |entry| json::pick(entry, ["name"]).ok().and_then(|[name]| json::string(name?));
        Ok(References { holder, list, names: entries.into_iter().filter_map(name).collect() })
    }

    /// The image references of a Pod's containers, init containers and image volumes, as written.
    pub fn image_references(&self) -> Vec<Cow<'a, str>> {
        let Some(spec) = &self.object.spec else { return Vec::new() };
        let of_containers = [spec.containers, spec.init_containers].into_iter().flat_map(of_containers);
        let of_volumes = each(spec.volumes).into_iter().filter_map(|volume| {
            let [image] = json::pick(volume, ["image"]).ok()?;
            let [reference] = json::pick(image?, ["reference"]).ok()?;
            json::string(reference?)
        });
        of_containers.chain(of_volumes).collect()
    }

    /// The image references of a Pod's ephemeral containers, as written.
    pub fn ephemeral_image_references(&self) -> Vec<Cow<'a, str>> {
        of_containers(self.object.spec.as_ref().and_then(|spec| spec.ephemeral_containers)).collect()
    }
}

fn of_containers(list: Option<&str>) -> impl Iterator<Item = Cow<'_, str>> {
    each(list).into_iter().filter_map(|container| {
        let [image] = json::pick(container, ["image"]).ok()?;
        json::string(image?)
    })
}

fn each(list: Option<&str>) -> Vec<&str> {
    list.and_then(json::elements).unwrap_or_default()
}
