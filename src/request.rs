//! What the policy reads of an admission request, borrowed from its text.
//!
//! Types of our own rather than the SDK's: those put the whole payload into their error texts, fail on a `null` namespace,
//! and know no field that Kubernetes adds later.

use crate::decision::{Unreadable, Untouched};
use image_pull_secrets::json::{self, Reader};
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

/// An `admission.k8s.io/v1` AdmissionRequest, as far as it matters.
pub struct Request<'a> {
    group: Cow<'a, str>,
    version: Cow<'a, str>,
    kind: Cow<'a, str>,
    operation: Cow<'a, str>,
    sub_resource: Cow<'a, str>,
    namespace: Cow<'a, str>,
    object: &'a str,
}

/// Any text, where absent, `null` and anything but a string count as empty.
fn text(value: Option<&str>) -> Cow<'_, str> {
    value.and_then(json::string).unwrap_or_default()
}

impl<'a> Request<'a> {
    /// Splits a payload into the text of the settings and the request.
    pub fn read(payload: &'a str) -> Result<(&'a str, Self), Unreadable> {
        let (mut settings, mut has_request) = ("null", false);
        let [mut kind, mut operation, mut sub_resource, mut namespace, mut object] = [None; 5];
        let mut read_request = |name: Cow<'a, str>, reader: &mut Reader<'a>| {
            let slot = match &*name {
                "kind" => &mut kind,
                "operation" => &mut operation,
                "subResource" => &mut sub_resource,
                "namespace" => &mut namespace,
                "object" => &mut object,
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
            object: object.unwrap_or("null"),
        };
        Ok((settings, request))
    }

    /// The kind, where it is one of ours.
    pub fn kind(&self) -> Option<Kind> {
        match (&*self.group, &*self.version, &*self.kind) {
            ("", "v1", "Pod") => Some(Kind::Pod),
            ("", "v1", "ServiceAccount") => Some(Kind::ServiceAccount),
            _ => None,
        }
    }

    /// Why the request is left alone before its object is looked at, or `None` where it is not.
    pub fn is_none_of_ours(&self, kind: Kind) -> Option<Untouched> {
        match (kind, &*self.operation) {
            _ if !self.sub_resource.is_empty() => Some(Untouched::SubResource),
            // A Pod's imagePullSecrets are immutable: to add one would make every label edit of an old Pod fail.
            (Kind::Pod, "CREATE") | (Kind::ServiceAccount, "CREATE" | "UPDATE") => None,
            _ => Some(Untouched::OtherOperation),
        }
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
    /// Whether it has a deletionTimestamp.
    pub is_being_deleted: bool,
    /// The text of the whole object.
    pub object: &'a str,
    generate_name: Cow<'a, str>,
    annotations: Option<&'a str>,
    spec: Option<&'a str>,
    references: Option<&'a str>,
}

/// Where the references of an object stand, and which they are.
pub struct References<'a> {
    /// The text of the object that has, or may get, the member `imagePullSecrets`.
    pub holder: &'a str,
    /// The text of the list, where there is one.
    pub list: Option<&'a str>,
    /// The names in it; an entry without a name has none.
    pub names: Vec<Cow<'a, str>>,
}

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

impl<'a> Subject<'a> {
    /// Reads the object of a request.
    pub fn read(kind: Kind, request: &Request<'a>) -> Result<Self, Unreadable> {
        let object = request.object;
        let [metadata, spec, references] =
            json::pick(object, ["metadata", "spec", "imagePullSecrets"]).map_err(|_| Unreadable::Object(kind))?;
        let [name, generate_name, namespace, annotations, deletion] = metadata
            .and_then(|metadata| {
                json::pick(metadata, ["name", "generateName", "namespace", "annotations", "deletionTimestamp"]).ok()
            })
            .unwrap_or_default();
        let namespace = Some(request.namespace.clone()).filter(|n| !n.is_empty()).unwrap_or_else(|| text(namespace));
        Ok(Self {
            kind,
            namespace,
            name: text(name),
            is_being_deleted: !text(deletion).is_empty(),
            object,
            generate_name: text(generate_name),
            annotations,
            spec,
            references,
        })
    }

    /// How messages name the object: `namespace/name`, with a star for what the API server will append.
    pub fn label(&self) -> String {
        match (&*self.name, &*self.generate_name) {
            ("", "") => format!("{}/?", self.namespace),
            ("", prefix) => format!("{}/{prefix}*", self.namespace),
            (name, _) => format!("{}/{name}", self.namespace),
        }
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<Cow<'a, str>> {
        let [value] = json::pick(self.annotations?, [key]).ok()?;
        json::string(value?)
    }

    /// Whether the object is the kubelet's copy of a static Pod. The API server refuses one that names secrets
    /// (`plugin/pkg/admission/serviceaccount`).
    pub fn is_mirror_pod(&self) -> bool {
        self.kind == Kind::Pod && self.annotation(MIRROR_ANNOTATION).is_some()
    }

    /// Where the references stand.
    pub fn references(&self) -> Result<References<'a>, Unreadable> {
        let (holder, list) = match self.kind {
            Kind::ServiceAccount => (self.object, self.references),
            Kind::Pod => {
                let spec = self.spec.ok_or(Unreadable::NoSpec)?;
                let [list] = json::pick(spec, ["imagePullSecrets"]).map_err(|_| Unreadable::NoSpec)?;
                (spec, list)
            }
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
        let [containers, init_containers, volumes] = self
            .spec
            .and_then(|spec| json::pick(spec, ["containers", "initContainers", "volumes"]).ok())
            .unwrap_or_default();
        let of_containers = [containers, init_containers].into_iter().flat_map(each).filter_map(|container| {
            let [image] = json::pick(container, ["image"]).ok()?;
            json::string(image?)
        });
        let of_volumes = each(volumes).into_iter().filter_map(|volume| {
            let [image] = json::pick(volume, ["image"]).ok()?;
            let [reference] = json::pick(image?, ["reference"]).ok()?;
            json::string(reference?)
        });
        of_containers.chain(of_volumes).collect()
    }
}

fn each(list: Option<&str>) -> Vec<&str> {
    list.and_then(json::elements).unwrap_or_default()
}
