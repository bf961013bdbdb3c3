//! ResourceQuota: what a namespace may use at most.
//!
//! A write that makes a namespace use more of what a quota counts is one transaction with the quota's status: it holds
//! only if the quota is as it was when the usage was added up. Two writes that would exceed a quota together therefore
//! never both succeed, through whichever frontends they come.
//!
//! The status of a quota is therefore never less than what is used; it may be more for a moment after a deletion, until
//! the next recount. A write that fits the status needs no count; for one that does not, or that meets an empty status,
//! the objects are counted first.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::apiserver::codec;
use crate::apiserver::storage::{Stored, Write};
use crate::apiserver::watch_cache::view::View;
use crate::kube::quantity::Quantity;
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::kube::tree::items;
use crate::world::{Instant, Revision};

use super::tally::{Counted, Tally, Turn};
use super::usage::{self, Usage};
use super::{Admission, AdmissionAttributes, Operation};

impl Admission {
    /// Charges the additional usage of the write to the quotas of its namespace, in the transaction of the write.
    /// `turn` is held until that is done.
    pub(super) async fn charge_quota(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &Value,
        turn: &mut Turn,
    ) -> Result<Write, Status> {
        let Some(namespace) = attributes.namespace.filter(|_| is_charged(attributes)) else {
            return Ok(Write::default());
        };
        let after = Counted::of(attributes.resource, object);
        let before = attributes.old.map(|old| Counted::of(attributes.resource, old));
        if before.as_ref() == Some(&after) {
            return Ok(Write::default());
        }
        let view = self.view("resourcequotas", attributes).await?;
        // A quota that the cache does not know yet counts as well.
        let mut write = Write::default().if_none_created(&self.range("resourcequotas", attributes), view.revision);
        for (_, item) in view.select(Some(namespace)) {
            let quota = item.object.value();
            if attributes.creates_pod() && after.counts_under(&quota) {
                require_amounts(attributes, &quota, object)?;
            }
            if more(&quota, before.as_ref(), &after).is_empty() {
                continue;
            }
            let name = &item.object.meta.name;
            let tally = turn.take(&self.turns, namespace).await;
            // What follows depends on the quota's exact revision: ask the store.
            let Some(stored) = self.storage.read(self.core("resourcequotas"), Some(namespace), name).await? else {
                continue;
            };
            let more = more(&stored.object.value(), before.as_ref(), &after);
            let charged = self.charge(attributes, &stored, &more, tally).await?;
            let key = self.storage.key(self.core("resourcequotas"), Some(namespace), name)?;
            write = write.if_revision(&key, stored.revision).put(&key, codec::encode(&charged), None);
        }
        Ok(write)
    }

    /// The quota with its usage added up, or the refusal.
    async fn charge(
        &self,
        attributes: &AdmissionAttributes<'_>,
        stored: &Stored,
        more: &Usage,
        tally: &mut Tally,
    ) -> Result<Value, Status> {
        let quota = stored.object.value();
        let hard: Usage = usage::amounts(&quota["spec"]["hard"]).collect();
        if let Some(used) = recorded_usage(&quota)
            && exceeded(&hard, &used, more).is_empty()
        {
            return Ok(with_status(&quota, &used, more));
        }
        let used = self.used(stored, attributes.namespace.unwrap_or_default(), attributes.deadline, tally).await?;
        let exceeded = exceeded(&hard, &used, more);
        if exceeded.is_empty() {
            return Ok(with_status(&quota, &used, more));
        }
        let list = |amount: &dyn Fn(&str) -> Quantity| {
            exceeded.iter().map(|name| format!("{name}={}", amount(name))).collect::<Vec<_>>().join(",")
        };
        let of = |usage: &Usage, name: &str| usage.get(name).copied().unwrap_or_default();
        Err(attributes.forbidden(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            stored.object.meta.name,
            list(&|name| of(more, name)),
            list(&|name| of(&used, name)),
            list(&|name| of(&hard, name)),
        )))
    }

    /// The namespaces that have quotas.
    pub async fn limited_namespaces(&self, deadline: Instant) -> Result<BTreeSet<String>, Status> {
        let view = self.storage.cache(self.core("resourcequotas"))?.any(deadline).await?;
        Ok(view.objects.values().filter_map(|item| item.object.meta.namespace.clone()).collect())
    }

    /// Fills in the status of the quotas of a namespace to which one was just added.
    pub async fn count_new_quota(&self, namespace: &str, deadline: Instant) -> Result<(), Status> {
        let cache = self.storage.cache(self.core("resourcequotas"))?;
        let view = self.storage.newest(&cache, deadline).await?;
        self.recount(namespace, &view, deadline).await
    }

    /// Brings the status of a namespace's quotas up to date.
    pub async fn recount_quotas(&self, namespace: &str, deadline: Instant) -> Result<(), Status> {
        let view = self.storage.cache(self.core("resourcequotas"))?.any(deadline).await?;
        self.recount(namespace, &view, deadline).await
    }

    async fn recount(&self, namespace: &str, view: &View, deadline: Instant) -> Result<(), Status> {
        let resource = self.core("resourcequotas");
        let names: Vec<&String> = view.select(Some(namespace)).map(|(_, item)| &item.object.meta.name).collect();
        if names.is_empty() {
            self.turns.forget(namespace);
            return Ok(());
        }
        let mut turn = Turn::default();
        let tally = turn.take(&self.turns, namespace).await;
        for name in names {
            let Some(stored) = self.storage.read(resource, Some(namespace), name).await? else { continue };
            let used = self.used(&stored, namespace, deadline, tally).await?;
            let quota = stored.object.value();
            let counted = with_status(&quota, &used, &Usage::new());
            if counted["status"] != quota["status"] {
                let key = self.storage.key(resource, Some(namespace), name)?;
                let write = Write::replace(&key, stored.revision, codec::encode(&counted), None);
                // On a conflict another frontend has charged the quota; the next recount counts the deletions.
                self.storage.commit(write).await?;
            }
        }
        Ok(())
    }

    /// What the namespace uses of what a quota limits, as of the quota's revision or later.
    async fn used(
        &self,
        quota: &Stored,
        namespace: &str,
        deadline: Instant,
        tally: &mut Tally,
    ) -> Result<Usage, Status> {
        let value = quota.object.value();
        let mut used = Usage::new();
        for resource in self.counted(&value) {
            let cache = self.storage.cache(&resource)?;
            let at = Revision(quota.revision.0.max(quota.read_at.0));
            let view = self.storage.reach(&cache, at, deadline).await?;
            tally.update(&resource, &view, namespace);
            tally.add_used(&resource, &value, &mut used);
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

/// Writes that can make an object use more. A write to a status is counted, never refused.
fn is_charged(attributes: &AdmissionAttributes<'_>) -> bool {
    match attributes.operation {
        Operation::Create => attributes.subresource.is_none(),
        Operation::Update => matches!(attributes.subresource, None | Some("resize")),
        Operation::Delete => false,
    }
}

/// Does an object of this resource use what is called `name`?
fn usage_names(resource: &Resource) -> impl Fn(&str) -> bool {
    let (plural, qualified, core) = (resource.plural.clone(), resource.group_resource(), resource.group.is_empty());
    move |name| {
        name.strip_prefix("count/") == Some(&qualified)
            || (core && name == plural)
            || (core && plural == "services" && name.starts_with("services."))
            || (core
                && plural == "pods"
                && (matches!(name, "cpu" | "memory" | "ephemeral-storage")
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.")
                    || name.starts_with("limits.")))
    }
}

/// The additional usage of a write, of what a quota limits.
fn more(quota: &Value, before: Option<&Counted>, after: &Counted) -> Usage {
    let had = before.map(|before| before.under(quota)).unwrap_or_default();
    let mut more = after.under(quota);
    more.retain(|name, amount| match had.get(name) {
        Some(had) => {
            *amount -= *had;
            *amount > Quantity::ZERO
        }
        None => true,
    });
    more
}

/// What the status says is used, if it says that of everything that is limited.
fn recorded_usage(quota: &Value) -> Option<Usage> {
    let used: Usage = usage::amounts(&quota["status"]["used"]).collect();
    let hard = quota["spec"]["hard"].as_object();
    let complete = hard.into_iter().flatten().all(|(name, _)| used.contains_key(name));
    complete.then_some(used)
}

/// The names of what would be more than is allowed.
fn exceeded<'a>(hard: &'a Usage, used: &Usage, more: &Usage) -> Vec<&'a str> {
    let over = hard.iter().filter(|(name, limit)| {
        let Some(asked) = more.get(*name).filter(|asked| !asked.is_zero()) else { return false };
        let mut after = used.get(*name).copied().unwrap_or_default();
        after += *asked;
        after > **limit
    });
    over.map(|(name, _)| name.as_str()).collect()
}

/// Each container has to say what it needs of a compute resource that is limited, unless the pod does for all of them.
fn require_amounts(attributes: &AdmissionAttributes<'_>, quota: &Value, pod: &Value) -> Result<(), Status> {
    let mut missing: Vec<String> = Vec::new();
    let hard: Usage = usage::amounts(&quota["spec"]["hard"]).collect();
    for limited in hard.keys() {
        let (part, resource) = match limited.as_str() {
            "cpu" | "memory" => ("requests", limited.as_str()),
            name => match name.split_once('.') {
                Some((part @ ("requests" | "limits"), resource @ ("cpu" | "memory"))) => (part, resource),
                _ => continue,
            },
        };
        if !pod["spec"]["resources"][part][resource].is_null() {
            continue;
        }
        let containers = items(&pod["spec"], "containers").iter().chain(items(&pod["spec"], "initContainers"));
        let lacking: Vec<&str> = containers
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
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    Err(attributes.forbidden(format!("failed quota: {name}: must specify {}", missing.join("; "))))
}

/// The quota with a new status.
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
    use super::*;
    use crate::apiserver::user::User;
    use crate::kube::resources::Table;

    fn counted(plural: &str, object: &Value) -> Counted {
        Counted::of(Table::builtin().get("", "v1", plural).unwrap(), object)
    }

    fn pod(cpu: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn shown(usage: &Usage) -> String {
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_write_is_charged_what_it_uses_more() {
        let quota = json!({"spec": {"hard": {"pods": "2", "requests.cpu": "1", "secrets": "1"}}});
        let of = |cpu: &str| counted("pods", &pod(cpu));
        assert_eq!(shown(&more(&quota, None, &of("600m"))), "pods=1 requests.cpu=600m");
        assert_eq!(shown(&more(&quota, Some(&of("600m")), &of("900m"))), "requests.cpu=300m");
        assert_eq!(shown(&more(&quota, Some(&of("900m")), &of("600m"))), "");
        let ports = json!({"spec": {"hard": {"services.nodeports": "0", "services": "5"}}});
        let service = |kind: &str| counted("services", &json!({"spec": {"type": kind, "ports": [{"port": 80}]}}));
        let (internal, external) = (service("ClusterIP"), service("NodePort"));
        assert_eq!(shown(&more(&ports, Some(&internal), &external)), "services.nodeports=1");
        assert_eq!(shown(&more(&ports, Some(&external), &internal)), "");
        let mut scoped = quota;
        scoped["spec"]["scopes"] = json!(["Terminating"]);
        let mut ending = pod("600m");
        assert_eq!(shown(&more(&scoped, None, &of("600m"))), "");
        ending["spec"]["activeDeadlineSeconds"] = json!(5);
        let ending = counted("pods", &ending);
        assert_eq!(shown(&more(&scoped, Some(&of("600m")), &ending)), "pods=1 requests.cpu=600m");
    }

    #[test]
    fn a_quota_is_full_when_more_would_be_too_much() {
        let quota = json!({"spec": {"hard": {"pods": "2", "requests.cpu": "1"}}});
        let hard: Usage = usage::amounts(&quota["spec"]["hard"]).collect();
        assert_eq!(recorded_usage(&quota), None, "nothing was counted yet");
        let more = more(&quota, None, &counted("pods", &pod("600m")));
        let first = with_status(&quota, &Usage::new(), &more);
        assert_eq!(first["status"]["used"], json!({"pods": "1", "requests.cpu": "600m"}));
        let used = recorded_usage(&first).unwrap();
        assert_eq!(exceeded(&hard, &used, &more), ["requests.cpu"]);
        let mut wider = first;
        wider["spec"]["hard"]["secrets"] = json!("1");
        assert_eq!(recorded_usage(&wider), None, "what is newly limited was not counted");
    }

    #[test]
    fn a_pod_says_what_it_needs_where_that_is_limited() {
        let table = Table::builtin();
        let attributes = AdmissionAttributes {
            user: &User::anonymous(),
            operation: Operation::Create,
            resource: table.get("", "v1", "pods").unwrap(),
            subresource: None,
            namespace: Some("ns"),
            name: "p",
            old: None,
            after_conflict: false,
            deadline: Instant::now(),
        };
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"limits.memory": "1Gi", "pods": "1"}}});
        let mut pod = json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}});
        let refused = require_amounts(&attributes, &quota, &pod).unwrap_err();
        assert_eq!(refused.message, "pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: c,i");
        pod["spec"]["resources"] = json!({"limits": {"memory": "1Mi"}});
        assert_eq!(require_amounts(&attributes, &quota, &pod), Ok(()));
    }
}
