//! Subresources that do more than show the object.
//!
//! - [`binding`]: a pod is given its node
//! - [`scale`]: replicas as `autoscaling/v1 Scale`
//! - [`finalize`]: the end of a namespace
//! - [`token`]: tokens of service accounts
//! - [`reviews`]: questions about users, tokens and rights
//! - [`log`]: the output of containers, from the agent that has it

mod binding;
mod finalize;
pub mod log;
mod reviews;
mod scale;
mod token;

use serde_json::Value;

use crate::kube::client::Verb;
use crate::kube::resources::{definition_of_kind, group_version};
use crate::kube::schema::{Decoded, Expected, FieldValidation, Format};
use crate::kube::status::Status;

use super::admission::{AdmissionAttributes, Operation};
use super::request::{Api, Outcome, RequestInfo};

impl Api {
    pub(super) async fn subresource(&self, info: &RequestInfo<'_>, name: &str, verb: Verb) -> Result<Outcome, Status> {
        let resource = info.resource;
        let body = |body: &[u8]| self.body_of(info, name, body);
        match (resource.group.as_str(), resource.plural.as_str(), name, verb) {
            ("", "pods", "binding", Verb::Create { body: bytes }) => self.bind(info, &body(&bytes)?).await,
            ("", "pods", "eviction", Verb::Create { body: bytes }) => self.evict(info, &body(&bytes)?).await,
            ("", "namespaces", "finalize", Verb::Update { body: bytes }) => self.finalize(info, &body(&bytes)?).await,
            ("", "serviceaccounts", "token", Verb::Create { body: bytes }) => {
                self.issue_token(info, body(&bytes)?).await
            }
            (_, _, "scale", Verb::Get) => self.scale(info).await,
            (_, _, "scale", Verb::Update { body: bytes }) => self.set_scale(info, body(&bytes)?).await,
            (_, _, "scale", Verb::Patch { kind, body, .. }) => self.patch_scale(info, kind, &body).await,
            (_, plural, name, _) => {
                let place = info.namespace().map(|namespace| format!(" in the namespace {namespace:?}"));
                let (object, place) = (info.name()?, place.unwrap_or_default());
                Err(Status::new(501, "NotImplemented", format!("{plural}/{name} of {object:?}{place} is not served")))
            }
        }
    }

    /// The body of a subresource: of the kind that the path takes, and about the object that the path names.
    fn body_of(&self, info: &RequestInfo<'_>, subresource: &str, bytes: &[u8]) -> Result<Value, Status> {
        let resource = info.resource;
        let response_kind =
            resource.subresource(subresource).and_then(|subresource| subresource.response_kind.as_ref());
        let (definition, api_version, kind) = match response_kind {
            Some((group, version, kind)) => {
                (definition_of_kind(group, version, kind), group_version(group, version), kind)
            }
            None => (resource.definition.clone(), resource.group_version(), &resource.kind),
        };
        let expected = Expected { definition: &definition, api_version: &api_version, kind };
        let validation = FieldValidation::parse(info.write.field_validation.as_deref())?;
        let Decoded { object, .. } = self.schemas.decode_as(expected, bytes, Format::Json, validation)?;
        let said = |field: &str| object["metadata"][field].as_str().filter(|text| !text.is_empty());
        let (name, namespace) = (info.name()?, info.namespace());
        if said("name").is_some_and(|said| said != name) {
            return Err(Status::bad_request(format!("name in URL does not match name in {kind} object")));
        }
        if said("namespace").is_some_and(|said| namespace.is_some_and(|namespace| said != namespace)) {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(object)
    }
}

/// The creation of a subresource, as admission sees it.
fn creation<'a>(info: &'a RequestInfo<'_>, name: &'a str, old: Option<&'a Value>) -> AdmissionAttributes<'a> {
    AdmissionAttributes {
        user: info.user,
        operation: Operation::Create,
        resource: info.resource,
        subresource: info.target.subresource.as_deref(),
        namespace: info.namespace(),
        name,
        old,
        after_conflict: false,
        deadline: info.deadline,
    }
}
