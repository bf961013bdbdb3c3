//! Pod Security is not enforced: a warning says so where a label of the namespace asks for it.

use serde_json::Value;

use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::Instant;

use super::Admission;

const MODES: [&str; 3] = ["enforce", "audit", "warn"];

impl Admission {
    /// The warnings for the writer of `object`; `old` is the stored state.
    pub async fn pod_security_warnings(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
        old: Option<&Value>,
        deadline: Instant,
    ) -> Result<Vec<String>, Status> {
        match (resource.group.as_str(), resource.plural.as_str(), namespace) {
            ("", "namespaces", _) => Ok(of_namespace(object, old)),
            ("", "pods", Some(namespace)) if old.is_none() => {
                let view = self.storage.cache(self.core("namespaces"))?.any(deadline).await?;
                let labels = view.objects.get(namespace).map(|item| &item.object.meta.labels);
                let level = labels.and_then(|labels| labels.get(&label("enforce")));
                let level = level.filter(|level| is_level(level));
                Ok(level.map(|level| unenforced(namespace, "enforce", level)).into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

fn of_namespace(namespace: &Value, old: Option<&Value>) -> Vec<String> {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let level = |namespace: &Value, mode: &str| namespace["metadata"]["labels"][label(mode)].clone();
    MODES
        .into_iter()
        .filter(|mode| old.is_none_or(|old| level(old, mode) != level(namespace, mode)))
        .filter_map(|mode| {
            let level = level(namespace, mode);
            level.as_str().filter(|level| is_level(level)).map(|level| unenforced(name, mode, level))
        })
        .collect()
}

fn label(mode: &str) -> String {
    format!("pod-security.kubernetes.io/{mode}")
}

/// `privileged` allows everything, so it needs no warning.
fn is_level(level: &str) -> bool {
    matches!(level, "baseline" | "restricted")
}

fn unenforced(namespace: &str, mode: &str, level: &str) -> String {
    format!(
        "namespace {namespace:?} asks for Pod Security ({}={level}), which this cluster does not enforce yet: pods are \
         not checked against it",
        label(mode)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_asks_for_pod_security_is_told() {
        let namespace = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
        let restricted = namespace(json!({"pod-security.kubernetes.io/enforce": "restricted"}));
        let told = of_namespace(&restricted, None);
        assert_eq!(told.len(), 1);
        assert!(
            told[0]
                .starts_with("namespace \"n\" asks for Pod Security (pod-security.kubernetes.io/enforce=restricted)")
        );
        assert_eq!(of_namespace(&restricted, Some(&restricted)), Vec::<String>::new());
        assert_eq!(of_namespace(&restricted, Some(&namespace(Value::Null))).len(), 1);
        let privileged = namespace(json!({"pod-security.kubernetes.io/enforce": "privileged", "a": "restricted"}));
        assert_eq!(of_namespace(&privileged, None), Vec::<String>::new());
    }
}
