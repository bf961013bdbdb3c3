//! Priority: the number of a pod's priority class.

use serde_json::{Value, json};

use crate::kube::status::Status;

use super::attributes::AdmissionAttributes;

const BUILT_IN: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Sets `priority` and `preemptionPolicy`; an unknown class is refused.
pub fn admit(attributes: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
    let priority = match class {
        "" => 0,
        name => match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, priority)) => *priority,
            None => return Err(attributes.forbidden(format!("no PriorityClass with name {name} was found"))),
        },
    };
    if let Some(asked) = pod["spec"]["priority"].as_i64().filter(|asked| *asked != priority) {
        let why = format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(why));
    }
    pod["spec"]["priority"] = json!(priority);
    if pod["spec"]["preemptionPolicy"].is_null() {
        pod["spec"]["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    Ok(())
}
