//! ResourceQuota: what a namespace may use at most.
//!
//! A create that a quota counts is one transaction with the quota's status: it holds only if the quota is as it was
//! when the usage was counted. Two creates that would exceed a quota together therefore never both succeed, through
//! whichever frontends they come. Usage is counted from the objects each time, so that it cannot drift; deletions need
//! no such care, and the status follows them a moment later.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apiserver::codec;
use crate::apiserver::storage::{Stored, Write};
use crate::kube::quantity::Quantity;
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::{Instant, Revision};

use super::usage::{self, Usage};
use super::{Admission, Attempt, items};

impl Admission {
    /// Counts the object against the quotas of its namespace, in the transaction that creates it.
    pub(super) async fn charge_quota(&self, attempt: &Attempt<'_>, object: &Value) -> Result<Write, Status> {
        let Some(namespace) = attempt.namespace else { return Ok(Write::default()) };
        let more = usage::of(&attempt.resource.group, &attempt.resource.plural, object);
        let view = self.view("resourcequotas", attempt).await?;
        // A quota that the cache does not know yet counts as well.
        let mut write = Write::default().if_none_created(&self.range("resourcequotas", attempt), view.revision);
        for (_, item) in view.select(Some(namespace)) {
            let quota = item.object.value();
            if !counts(&quota, attempt.resource, &more, object) {
                continue;
            }
            // What follows depends on the quota's exact revision: ask the store.
            let Some(stored) =
                self.storage.read(self.core("resourcequotas"), Some(namespace), &item.object.meta.name).await?
            else {
                continue;
            };
            let used = self.used(&stored, namespace, attempt.deadline).await?;
            let charged = charge(attempt, &stored.object.value(), &used, &more, object)?;
            let key = self.storage.key(self.core("resourcequotas"), Some(namespace), &item.object.meta.name)?;
            write = write.if_revision(&key, stored.revision).put(&key, codec::encode(&charged), None);
        }
        Ok(write)
    }

    /// Brings the status of a namespace's quotas up to what is there.
    pub async fn recount_quotas(&self, namespace: &str, deadline: Instant) -> Result<(), Status> {
        let resource = self.core("resourcequotas");
        let cache = self.storage.cache(resource)?;
        let names: Vec<String> = {
            let view = cache.any(deadline).await?;
            view.select(Some(namespace)).map(|(_, item)| item.object.meta.name.clone()).collect()
        };
        for name in names {
            let Some(stored) = self.storage.read(resource, Some(namespace), &name).await? else { continue };
            let used = self.used(&stored, namespace, deadline).await?;
            let quota = stored.object.value();
            let counted = with_status(&quota, &used, &Usage::new());
            if counted["status"] != quota["status"] {
                let key = self.storage.key(resource, Some(namespace), &name)?;
                let write = Write::replace(&key, stored.revision, codec::encode(&counted), None);
                // Whoever wrote the quota meanwhile counted it anew as well.
                self.storage.commit(write).await?;
            }
        }
        Ok(())
    }

    /// What the namespace uses of what a quota limits, as of the quota's revision or later.
    async fn used(&self, quota: &Stored, namespace: &str, deadline: Instant) -> Result<Usage, Status> {
        let value = quota.object.value();
        let mut used = Usage::new();
        for resource in self.counted(&value) {
            let cache = self.storage.cache(&resource)?;
            let at = Revision(quota.revision.0.max(quota.read_at.0));
            let view = self.storage.reach(&cache, at, deadline).await?;
            for (_, item) in view.select(Some(namespace)) {
                let object = item.object.value();
                if !in_scope(&value, &object) {
                    continue;
                }
                for (name, amount) in usage::of(&resource.group, &resource.plural, &object) {
                    usage::add(&mut used, &name, &amount);
                }
            }
        }
        Ok(used)
    }

    /// The resources whose objects a quota counts.
    fn counted(&self, quota: &Value) -> Vec<Arc<Resource>> {
        let hard = quota["spec"]["hard"].as_object();
        let names: Vec<&str> = hard.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let kinds = self.table.iter().filter(|resource| {
            let one = usage_names(resource);
            resource.is_namespaced() && resource.storage_prefix.is_some() && names.iter().any(|name| one(name))
        });
        kinds.cloned().collect()
    }
}

/// Does an object of this resource use what is called `name`?
fn usage_names(resource: &Resource) -> impl Fn(&str) -> bool {
    let (plural, qualified, core) = (resource.plural.clone(), resource.qualified(), resource.group.is_empty());
    move |name| {
        name.strip_prefix("count/") == Some(&qualified)
            || (core && name == plural)
            || (core && plural == "services" && name.starts_with("services."))
            || (core
                && plural == "pods"
                && (matches!(name, "cpu" | "memory" | "ephemeral-storage")
                    || name.starts_with("requests.")
                    || name.starts_with("limits.")))
    }
}

fn counts(quota: &Value, resource: &Resource, more: &Usage, object: &Value) -> bool {
    let names = usage_names(resource);
    let hard = quota["spec"]["hard"].as_object();
    let touched = hard.into_iter().flatten().any(|(name, _)| more.contains_key(name) || names(name));
    touched && in_scope(quota, object)
}

/// Quotas may count only some pods.
fn in_scope(quota: &Value, object: &Value) -> bool {
    let scopes = quota["spec"]["scopes"].as_array().map_or(&[][..], Vec::as_slice);
    scopes.iter().all(|scope| {
        let terminating = object["spec"]["activeDeadlineSeconds"].is_number();
        let best_effort =
            usage::pod_resources(object, "requests").is_empty() && usage::pod_resources(object, "limits").is_empty();
        match scope.as_str().unwrap_or_default() {
            "Terminating" => terminating,
            "NotTerminating" => !terminating,
            "BestEffort" => best_effort,
            "NotBestEffort" => !best_effort,
            _ => true,
        }
    })
}

/// The quota with the object counted, or the refusal.
fn charge(attempt: &Attempt<'_>, quota: &Value, used: &Usage, more: &Usage, object: &Value) -> Result<Value, Status> {
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let hard: Usage = usage::amounts(&quota["spec"]["hard"]).collect();
    if attempt.is("", "pods") {
        require_amounts(attempt, name, &hard, object)?;
    }
    let mut exceeded: [Vec<String>; 3] = Default::default();
    for (resource, limit) in &hard {
        let Some(asked) = more.get(resource) else { continue };
        let before = used.get(resource).copied().unwrap_or_default();
        let mut after = before;
        after += *asked;
        if after > *limit && !asked.is_zero() {
            exceeded[0].push(format!("{resource}={asked}"));
            exceeded[1].push(format!("{resource}={before}"));
            exceeded[2].push(format!("{resource}={limit}"));
        }
    }
    if !exceeded[0].is_empty() {
        let [asked, before, limit] = exceeded.map(|all| all.join(","));
        return Err(
            attempt.forbidden(format!("exceeded quota: {name}, requested: {asked}, used: {before}, limited: {limit}"))
        );
    }
    Ok(with_status(quota, used, more))
}

/// Each container has to say what it needs of a compute resource that is limited.
fn require_amounts(attempt: &Attempt<'_>, quota: &str, hard: &Usage, pod: &Value) -> Result<(), Status> {
    let mut missing: Vec<String> = Vec::new();
    for limited in hard.keys() {
        let (part, resource) = match limited.as_str() {
            "cpu" | "memory" => ("requests", limited.as_str()),
            name => match name.split_once('.') {
                Some((part @ ("requests" | "limits"), resource @ ("cpu" | "memory"))) => (part, resource),
                _ => continue,
            },
        };
        let lacking: Vec<&str> = items(&pod["spec"]["containers"])
            .filter(|container| container["resources"][part][resource].is_null())
            .filter_map(|container| container["name"].as_str())
            .collect();
        if !lacking.is_empty() {
            missing.push(format!("{limited} for: {}", lacking.join(",")));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(attempt.forbidden(format!("failed quota: {quota}: must specify {}", missing.join("; "))))
}

/// The quota with its status counted anew.
fn with_status(quota: &Value, used: &Usage, more: &Usage) -> Value {
    let mut shown = serde_json::Map::new();
    for (resource, _) in usage::amounts(&quota["spec"]["hard"]) {
        let mut amount: Quantity = used.get(&resource).copied().unwrap_or_default();
        if let Some(asked) = more.get(&resource) {
            amount += *asked;
        }
        shown.insert(resource, json!(amount.to_string()));
    }
    let mut counted = quota.clone();
    counted["status"] = json!({"hard": quota["spec"]["hard"], "used": shown});
    counted
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::*;
    use crate::apiserver::user::User;
    use crate::kube::resources::Table;

    fn quota(hard: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})
    }

    fn charged(quota: &Value, used: &Usage, pod: &Value) -> Result<Value, String> {
        let table = Table::builtin();
        let attempt = Attempt {
            user: &User::anonymous(),
            operation: Operation::Create,
            resource: table.get("", "v1", "pods").unwrap(),
            subresource: None,
            namespace: Some("ns"),
            name: "p",
            old: None,
            again: false,
            deadline: Instant::now(),
        };
        charge(&attempt, quota, used, &usage::of("", "pods", pod), pod).map_err(|status| status.message)
    }

    #[test]
    fn a_quota_is_charged_until_it_is_full() {
        let quota = quota(json!({"pods": "2", "requests.cpu": "1"}));
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "600m"}}}]}});
        let first = charged(&quota, &Usage::new(), &pod).unwrap();
        assert_eq!(first["status"]["used"], json!({"pods": "1", "requests.cpu": "600m"}));
        let used: Usage = usage::amounts(&first["status"]["used"]).collect();
        assert_eq!(
            charged(&quota, &used, &pod).unwrap_err(),
            "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
        );
    }

    #[test]
    fn a_pod_says_what_it_needs_where_that_is_limited() {
        let quota = quota(json!({"limits.memory": "1Gi"}));
        let refused = charged(&quota, &Usage::new(), &json!({"spec": {"containers": [{"name": "c"}]}})).unwrap_err();
        assert!(refused.contains("failed quota: q: must specify limits.memory for: c"), "{refused}");
    }

    #[test]
    fn scopes_choose_pods() {
        let mut quota = quota(json!({"pods": "2"}));
        quota["spec"]["scopes"] = json!(["BestEffort"]);
        assert!(in_scope(&quota, &json!({"spec": {"containers": [{}]}})));
        assert!(!in_scope(&quota, &json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}})));
    }
}
