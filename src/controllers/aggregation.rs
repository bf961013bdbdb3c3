//! The cluster role aggregation controller: a ClusterRole with an aggregation rule has the rules of all roles that it
//! selects.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use crate::kube::client::{Client, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::selector::Selector;
use crate::kube::status::Status;

struct Aggregation {
    client: Client,
    roles: Informer<ClusterRole>,
}

pub fn start(context: &ControllerContext) {
    let roles = Informer::of(&context.client.api::<ClusterRole>()).start(&context.world, &context.shutdown);
    let controller = Aggregation { client: context.client.clone(), roles: roles.clone() };
    let all = roles.clone();
    Builder::new("ClusterRoleAggregation", controller)
        .watches(&roles, move |role: &ClusterRole| affected(&all, role))
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

/// The roles to reconcile when `role` changes: itself, and those that aggregate its rules.
fn affected(roles: &Informer<ClusterRole>, role: &ClusterRole) -> Vec<Key> {
    let gathers = |other: &Arc<ClusterRole>| {
        let itself = other.metadata.name == role.metadata.name;
        other.aggregation_rule.is_some() && (itself || selectors(other).iter().any(|selector| selects(selector, role)))
    };
    roles.all().into_iter().filter(gathers).map(|role| Key::of(&role.metadata)).collect()
}

#[async_trait::async_trait]
impl Reconcile for Aggregation {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(role) = self.roles.get(key).filter(|role| role.aggregation_rule.is_some()) else {
            return Ok(Requeue::No);
        };
        let rules = gathered(&role, &self.roles.all());
        if role.rules.as_deref().unwrap_or_default() == rules {
            return Ok(Requeue::No);
        }
        let patch = json!({"metadata": {"resourceVersion": role.metadata.resource_version}, "rules": rules});
        let api = self.client.api::<ClusterRole>().field_manager("clusterrole-aggregation-controller");
        if let Some(written) = ignore_not_found(api.patch(&key.name, PatchType::Merge, &patch).await)? {
            self.roles.reached(&written.metadata).await;
        }
        Ok(Requeue::No)
    }
}

fn selectors(role: &ClusterRole) -> Vec<Selector> {
    let selectors = role.aggregation_rule.iter().filter_map(|rule| rule.cluster_role_selectors.as_ref()).flatten();
    // An invalid selector selects nothing: better too few rights than too many.
    selectors.filter_map(|selector| Selector::from_label_selector(Some(selector)).ok()).collect()
}

fn selects(selector: &Selector, role: &ClusterRole) -> bool {
    selector.matches(role.metadata.labels.as_ref().unwrap_or(&Default::default()))
}

/// The rules of the roles that `role` selects, each once: selector by selector, roles in the order of their names.
fn gathered(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors(role) {
        let selected =
            all.iter().filter(|other| other.metadata.name != role.metadata.name && selects(&selector, other));
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn role(name: &str, labels: Value, verbs: &[&str]) -> ClusterRole {
        let rules: Vec<Value> =
            verbs.iter().map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]})).collect();
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "rules": rules})).unwrap()
    }

    fn gathering(name: &str, labels: &[Value]) -> ClusterRole {
        let selectors: Vec<Value> = labels.iter().map(|labels| json!({"matchLabels": labels})).collect();
        let mut role = role(name, json!({"to": name}), &["stale"]);
        role.aggregation_rule = serde_json::from_value(json!({"clusterRoleSelectors": selectors})).unwrap();
        role
    }

    #[test]
    fn rules_are_gathered_once_and_in_order() {
        let view = gathering("view", &[json!({"to": "view"}), json!({"also": "x"})]);
        let parts = [
            role("a", json!({"to": "view"}), &["get", "list"]),
            role("b", json!({"to": "edit"}), &["delete"]),
            role("c", json!({"to": "view", "also": "x"}), &["list", "watch"]),
            role("d", json!({"also": "x"}), &["patch"]),
            view.clone(),
        ];
        let rules = gathered(&view, &parts.map(Arc::new));
        let verbs: Vec<&str> = rules.iter().map(|rule| rule.verbs[0].as_str()).collect();
        assert_eq!(verbs, ["get", "list", "watch", "patch"]);
    }

    #[test]
    fn nothing_selected_is_no_rules() {
        assert_eq!(gathered(&gathering("none", &[]), &[Arc::new(role("a", json!({}), &["get"]))]), []);
    }
}
