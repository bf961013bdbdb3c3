//! DefaultTolerationSeconds: how long pods stay on a node that is not ready or unreachable.

use serde_json::{Value, json};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Adds the tolerations that the pod does not have itself, each for `seconds`.
pub fn admit(pod: &mut Value, seconds: u64) {
    for taint in TAINTS {
        let tolerations = pod["spec"]["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            let toleration =
                json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
            match pod["spec"]["tolerations"].as_array_mut() {
                Some(tolerations) => tolerations.push(toleration),
                None => pod["spec"]["tolerations"] = json!([toleration]),
            }
        }
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration[field].as_str().unwrap_or_default();
    let key = text("key") == taint || (text("key").is_empty() && text("operator") == "Exists");
    key && matches!(text("effect"), "" | "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_added_once_and_never_over_the_users_own() {
        let mut pod = json!({"spec": {"tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        ]}});
        admit(&mut pod, 300);
        let once = pod.clone();
        admit(&mut pod, 300);
        assert_eq!(pod, once);
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
        assert_eq!(pod["spec"]["tolerations"][0]["tolerationSeconds"], 5);

        let mut tolerant = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        admit(&mut tolerant, 300);
        assert_eq!(tolerant["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    }
}
