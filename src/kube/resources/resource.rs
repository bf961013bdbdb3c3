//! One resource: everything generic code needs to know about a kind.

use std::fmt;
use std::sync::Arc;

use schemars::SchemaGenerator;
use serde_json::Value;

use crate::kube::names::NameRule;
use crate::kube::printing::Printer;
use crate::kube::status::Status;
use crate::kube::validation::FieldErrors;

/// The verbs of a stored resource, in the order of discovery.
pub const STORED_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The verbs of a subresource that shows the whole object.
pub const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// The subresource through which a request writes: it decides which fields may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource<'a> {
    /// The object itself: everything but its status.
    None,
    /// `status`: the status alone.
    Status,
    /// Another subresource that shows the object: `ephemeralcontainers`, `finalize`, ...
    Other(&'a str),
}

impl<'a> Subresource<'a> {
    pub fn of(subresource: Option<&'a str>) -> Subresource<'a> {
        match subresource {
            None => Subresource::None,
            Some("status") => Subresource::Status,
            Some(other) => Subresource::Other(other),
        }
    }
}

/// A path below an object, as discovery shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSubresource {
    pub name: String,
    pub verbs: Vec<String>,
    /// Group, version and kind of its bodies where they are not the resource's own.
    pub response_kind: Option<(String, String, String)>,
}

/// Where the schema of a resource comes from.
#[derive(Clone, Debug)]
pub enum SchemaSource {
    /// A type of `k8s-openapi`: registers it, and all it refers to, with the generator.
    Type(fn(&mut SchemaGenerator)),
    /// A schema that came with the resource: a custom resource.
    Own(Arc<Value>),
}

/// Changes an object in place.
pub type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;
/// Changes a new state (first) with regard to the stored one.
pub type Reconcile = Arc<dyn Fn(&mut Value, &Value) + Send + Sync>;
/// Finds what is wrong with an object.
pub type Check = Arc<dyn Fn(&Value, &mut FieldErrors) + Send + Sync>;
/// Finds what is wrong with a new state (first), given the stored one.
pub type CheckUpdate = Arc<dyn Fn(&Value, &Value, Subresource<'_>, &mut FieldErrors) + Send + Sync>;
/// The value of a selectable field, as text.
pub type FieldValue = Arc<dyn Fn(&Value) -> String + Send + Sync>;

/// One entry of the table of resources. Built once with the methods below and shared as `Arc<Resource>`; entries may be
/// made while running (custom resources), so that nothing in it is static.
#[derive(Clone)]
pub struct Resource {
    /// Empty for core.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub list_kind: String,
    /// As in paths: `pods`.
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub scope: Scope,
    pub verbs: Vec<String>,
    pub subresources: Vec<ApiSubresource>,
    /// The prefix of its keys in the store, without a slash at the end (`/registry/pods`): a key is
    /// `prefix/namespace/name` or `prefix/name`. `None`: never stored, answers on create only.
    pub storage_prefix: Option<String>,
    /// The name of its schema: `io.k8s.api.core.v1.Pod`.
    pub definition: String,
    /// Where that schema comes from.
    pub schema: SchemaSource,
    /// `metadata.generation` counts the changes of the desired state.
    pub has_generation: bool,
    /// An update may leave `metadata.resourceVersion` out.
    pub allows_unconditional_update: bool,
    /// A PUT or an apply patch of a name that does not exist creates it.
    pub allows_create_on_update: bool,
    /// A create may bring a status: nodes register with theirs.
    pub takes_status_on_create: bool,
    /// A write to the status takes annotations along: controllers note there what a user's change must not be.
    pub status_takes_annotations: bool,
    pub printer: Printer,
    pub(super) name_rule: NameRule,
    pub(super) selectable: Vec<(String, FieldValue)>,
    pub(super) defaults: Option<Edit>,
    pub(super) on_create: Option<Edit>,
    pub(super) on_update: Option<Reconcile>,
    pub(super) check: Option<Check>,
    pub(super) check_create: Option<Check>,
    pub(super) check_update: Option<CheckUpdate>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({}/{})", self.group_version(), self.plural)
    }
}

/// Reading the entry.
impl Resource {
    /// `v1` or `apps/v1`: the `apiVersion` of objects.
    pub fn group_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// `pods` or `deployments.apps`, as messages name it.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&ApiSubresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// The key of an object in the store; `None` for resources that are never stored.
    pub fn storage_key(&self, namespace: Option<&str>, name: &str) -> Option<String> {
        let prefix = self.storage_prefix.as_ref()?;
        Some(match namespace {
            Some(namespace) if self.is_namespaced() => format!("{prefix}/{namespace}/{name}"),
            _ => format!("{prefix}/{name}"),
        })
    }

    /// The prefix, slash included, of the keys of all objects, or of those of one namespace.
    pub fn storage_range(&self, namespace: Option<&str>) -> Option<String> {
        let prefix = self.storage_prefix.as_ref()?;
        Some(match namespace {
            Some(namespace) if self.is_namespaced() => format!("{prefix}/{namespace}/"),
            _ => format!("{prefix}/"),
        })
    }

    /// The names of the fields that field selectors may use, beyond `metadata.name` and `metadata.namespace`.
    pub fn selectable_fields(&self) -> impl Iterator<Item = &str> {
        self.selectable.iter().map(|(name, _)| name.as_str())
    }

    /// The text of a selectable field of `object`; `None` when this kind does not know the field.
    pub fn field_value(&self, object: &Value, field: &str) -> Option<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match field {
            "metadata.name" => Some(text(&object["metadata"]["name"])),
            "metadata.namespace" if self.is_namespaced() => Some(text(&object["metadata"]["namespace"])),
            _ => self.selectable.iter().find(|(name, _)| name == field).map(|(_, value)| value(object)),
        }
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.group, &self.plural, name)
    }
}

/// `v1` or `apps/v1`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The definition of a kind that only subresources use: `io.k8s.api.policy.v1.Eviction`.
pub fn definition_of_kind(group: &str, version: &str, kind: &str) -> String {
    let package = match group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("io.k8s.api.{package}.{version}.{kind}")
}
