//! The attributes of a request that an authorizer decides by.

use crate::kube::field_selector::FieldSelector;

/// What a user wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        subresource: Option<&'a str>,
        namespace: Option<&'a str>,
        name: Option<&'a str>,
        /// Of a list or watch: the objects that it selects.
        field_selector: Option<&'a FieldSelector>,
    },
    /// A path that is not a resource.
    NonResource { verb: &'a str, path: &'a str },
}

impl<'a> Attributes<'a> {
    pub fn namespace(&self) -> Option<&'a str> {
        match self {
            Attributes::Resource { namespace, .. } => *namespace,
            Attributes::NonResource { .. } => None,
        }
    }
}
