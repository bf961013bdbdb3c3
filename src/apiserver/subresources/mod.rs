//! Paths below an object that do more than show it.
//!
//! - [`binding`]: a pod is given its node
//! - [`scale`]: replicas as `autoscaling/v1 Scale`
//! - [`finalize`]: the end of a namespace
//! - [`token`]: tokens of service accounts
//! - [`reviews`]: who am I, and may I?
//! - [`log`]: the output of containers, from the agent that has it

mod binding;
mod finalize;
pub mod log;
mod reviews;
mod scale;
mod token;

use serde_json::Value;

use crate::kube::client::Verb;
use crate::kube::status::Status;

use super::request::{Api, Call, Outcome};

impl Api {
    pub(super) async fn subresource(&self, call: &Call<'_>, name: &str, verb: Verb) -> Result<Outcome, Status> {
        let resource = call.resource;
        match (resource.group.as_str(), resource.plural.as_str(), name, verb) {
            ("", "pods", "binding", Verb::Create { body }) => self.bind(call, &parse(&body)?).await,
            ("", "pods", "eviction", Verb::Create { body }) => self.evict(call, &parse(&body)?).await,
            ("", "namespaces", "finalize", Verb::Update { body }) => self.finalize(call, &parse(&body)?).await,
            ("", "serviceaccounts", "token", Verb::Create { body }) => self.issue_token(call, parse(&body)?).await,
            (_, _, "scale", Verb::Get) => self.scale(call).await,
            (_, _, "scale", Verb::Update { body }) => self.set_scale(call, parse(&body)?).await,
            (_, _, "scale", Verb::Patch { kind, body, .. }) => self.patch_scale(call, kind, &body).await,
            (group, plural, name, _) => {
                let path = format!("{plural}/{name}");
                Err(Status::new(
                    501,
                    "NotImplemented",
                    format!("{path} of {group:?} is not served over this connection"),
                ))
            }
        }
    }
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: {error}")))
}
