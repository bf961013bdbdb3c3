//! NodeRestriction: an agent writes its own node and the pods that are bound to it, and nothing else.

use serde_json::Value;

use crate::apiserver::authorization::node::node_of;
use crate::kube::status::Status;

use super::{Attempt, Operation};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Refuses what an agent may not write. Other users pass.
pub fn review(attempt: &Attempt<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = node_of(attempt.user) else { return Ok(()) };
    if attempt.is("", "pods") {
        return review_pod(attempt, node, object);
    }
    if attempt.is("", "nodes") && attempt.name != node {
        return Err(attempt.forbidden(format!("node {node:?} is not allowed to modify node {:?}", attempt.name)));
    }
    Ok(())
}

fn review_pod(attempt: &Attempt<'_>, node: &str, object: &Value) -> Result<(), Status> {
    let pod = attempt.old.unwrap_or(object);
    if attempt.operation == Operation::Create && pod["metadata"]["annotations"][MIRROR].is_null() {
        return Err(attempt
            .forbidden(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")));
    }
    if pod["spec"]["nodeName"].as_str() != Some(node) {
        let verb = match attempt.operation {
            Operation::Create => "create",
            Operation::Update => "update status for",
            Operation::Delete => "delete",
        };
        let why = format!("node {node:?} can only {verb} pods with spec.nodeName set to itself");
        return Err(attempt.forbidden(why));
    }
    Ok(())
}
