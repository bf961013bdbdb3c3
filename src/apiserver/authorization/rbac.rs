//! RBAC: roles and their bindings, indexed for questions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use crate::apiserver::user::User;
use crate::kube::selector::Selector;

use super::attributes::Attributes;

/// All roles and bindings of a cluster.
#[derive(Debug, Default)]
pub struct Rules {
    cluster_roles: BTreeMap<String, Vec<PolicyRule>>,
    /// By namespace and name.
    roles: BTreeMap<(String, String), Vec<PolicyRule>>,
    cluster_bindings: Vec<Binding>,
    bindings: BTreeMap<String, Vec<Binding>>,
}

#[derive(Debug)]
struct Binding {
    subjects: Vec<Subject>,
    role: RoleRef,
}

impl Rules {
    pub fn new(
        cluster_roles: Vec<ClusterRole>,
        roles: Vec<Role>,
        cluster_bindings: Vec<ClusterRoleBinding>,
        bindings: Vec<RoleBinding>,
    ) -> Rules {
        let mut rules = Rules {
            cluster_roles: aggregate(&cluster_roles),
            roles: roles.into_iter().map(named_role).collect(),
            ..Rules::default()
        };
        rules.cluster_bindings = cluster_bindings
            .into_iter()
            .map(|binding| Binding { subjects: binding.subjects.unwrap_or_default(), role: binding.role_ref })
            .collect();
        for binding in bindings {
            let namespace = binding.metadata.namespace.unwrap_or_default();
            let bound = Binding { subjects: binding.subjects.unwrap_or_default(), role: binding.role_ref };
            rules.bindings.entry(namespace).or_default().push(bound);
        }
        rules
    }

    pub fn allow(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        self.for_user(user, attributes.namespace()).any(|rule| covers(rule, attributes))
    }

    /// The rules that hold for a user: everywhere, and in `namespace`.
    pub fn for_user<'a>(
        &'a self,
        user: &'a User,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a PolicyRule> + 'a {
        let everywhere = self.cluster_bindings.iter().map(move |binding| (binding, ""));
        let here = namespace.and_then(|namespace| self.bindings.get(namespace).map(|bindings| (bindings, namespace)));
        let here = here.into_iter().flat_map(|(bindings, namespace)| bindings.iter().map(move |b| (b, namespace)));
        everywhere
            .chain(here)
            .filter(move |(binding, namespace)| {
                binding.subjects.iter().any(|subject| is_subject(user, subject, namespace))
            })
            .flat_map(|(binding, namespace)| self.rules_of(&binding.role, namespace))
    }

    fn rules_of(&self, role: &RoleRef, namespace: &str) -> &[PolicyRule] {
        self.find(role, namespace).unwrap_or_default()
    }

    /// The rules of a role that a binding in `namespace` refers to, if there is such a role.
    pub fn find(&self, role: &RoleRef, namespace: &str) -> Option<&[PolicyRule]> {
        let found = match role.kind.as_str() {
            "Role" => self.roles.get(&(namespace.to_owned(), role.name.clone())),
            _ => self.cluster_roles.get(&role.name),
        };
        found.map(Vec::as_slice)
    }
}

fn named_role(role: Role) -> ((String, String), Vec<PolicyRule>) {
    let metadata = role.metadata;
    ((metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default()), role.rules.unwrap_or_default())
}

/// The rules of each cluster role, with those it gathers by label from others, and they from others.
fn aggregate(roles: &[ClusterRole]) -> BTreeMap<String, Vec<PolicyRule>> {
    let parts: Vec<Vec<usize>> = roles.iter().map(|role| gathered(role, roles)).collect();
    let rules = |at: usize| {
        let (mut seen, mut open, mut rules) = (BTreeSet::from([at]), vec![at], Vec::new());
        while let Some(at) = open.pop() {
            for rule in roles[at].rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            open.extend(parts[at].iter().filter(|part| seen.insert(**part)));
        }
        rules
    };
    roles.iter().enumerate().map(|(at, role)| (role.metadata.name.clone().unwrap_or_default(), rules(at))).collect()
}

/// The indexes of the roles that a role gathers itself.
fn gathered(role: &ClusterRole, roles: &[ClusterRole]) -> Vec<usize> {
    let selectors = role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let selectors: Vec<Selector> =
        selectors.filter_map(|selector| Selector::from_label_selector(Some(selector)).ok()).collect();
    let none = BTreeMap::new();
    let matches = |other: &ClusterRole| {
        let labels = other.metadata.labels.as_ref().unwrap_or(&none);
        selectors.iter().any(|selector| selector.matches(labels))
    };
    roles.iter().enumerate().filter(|(_, other)| matches(other)).map(|(at, _)| at).collect()
}

/// A service account without a namespace is in the namespace of the binding.
fn is_subject(user: &User, subject: &Subject, namespace: &str) -> bool {
    match subject.kind.as_str() {
        "User" => user.name == subject.name,
        "Group" => user.in_group(&subject.name),
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().unwrap_or(namespace);
            user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
                == Some((namespace, &subject.name))
        }
        _ => false,
    }
}

fn covers(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    match attributes {
        Attributes::Resource { verb, group, resource, subresource, name, .. } => {
            has(&Some(rule.verbs.clone()), verb)
                && has(&rule.api_groups, group)
                && rule.resources.iter().flatten().any(|pattern| fits(pattern, resource, *subresource))
                && names_fit(rule, *name)
        }
        Attributes::NonResource { verb, path } => {
            has(&Some(rule.verbs.clone()), verb)
                && rule.non_resource_urls.iter().flatten().any(|pattern| match pattern.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => pattern == path,
                })
        }
    }
}

fn has(words: &Option<Vec<String>>, word: &str) -> bool {
    words.iter().flatten().any(|known| known == "*" || known == word)
}

/// `pods`, `pods/log`, `*/scale` or `*`.
fn fits(pattern: &str, resource: &str, subresource: Option<&str>) -> bool {
    match (pattern.split_once('/'), subresource) {
        (None, _) if pattern == "*" => true,
        (None, None) => pattern == resource,
        (Some((of, part)), Some(subresource)) => part == subresource && (of == "*" || of == resource),
        _ => false,
    }
}

fn names_fit(rule: &PolicyRule, name: Option<&str>) -> bool {
    match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => name.is_some_and(|name| names.iter().any(|known| known == name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(values: Value) -> Vec<T> {
        serde_json::from_value(values).unwrap()
    }

    fn rules() -> Rules {
        let cluster_roles = json!([
            {"metadata": {"name": "view"}, "rules": [],
             "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]}},
            {"metadata": {"name": "pods", "labels": {"to-view": "true"}},
             "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"]}]},
            {"metadata": {"name": "health"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez/*"]}]}
        ]);
        let roles = json!([{"metadata": {"name": "one", "namespace": "a"},
            "rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"]}]}]);
        let cluster_bindings = json!([
            {"metadata": {"name": "1"}, "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "health"},
             "subjects": [{"kind": "Group", "name": "system:unauthenticated"}]}
        ]);
        let bindings = json!([
            {"metadata": {"name": "1", "namespace": "a"}, "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "view"},
             "subjects": [{"kind": "User", "name": "u"}]},
            {"metadata": {"name": "2", "namespace": "a"}, "roleRef": {"apiGroup": "", "kind": "Role", "name": "one"},
             "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}
        ]);
        Rules::new(parse(cluster_roles), parse(roles), parse(cluster_bindings), parse(bindings))
    }

    fn asks(
        verb: &'static str,
        what: &'static str,
        namespace: &'static str,
        name: &'static str,
    ) -> Attributes<'static> {
        let (resource, subresource) = what.split_once('/').map_or((what, None), |(r, s)| (r, Some(s)));
        Attributes::Resource {
            verb,
            group: "",
            resource,
            subresource,
            namespace: Some(namespace).filter(|ns| !ns.is_empty()),
            name: Some(name).filter(|name| !name.is_empty()),
            field_selector: None,
        }
    }

    #[test]
    fn bindings_grant_what_their_role_says_and_no_more() {
        let rules = rules();
        let user = User::new("u", Vec::<String>::new());
        let account = User::new("system:serviceaccount:a:sa", Vec::<String>::new());
        let table = [
            (&user, asks("get", "pods", "a", "x"), true),
            (&user, asks("get", "pods", "b", "x"), false),
            (&user, asks("get", "pods", "", ""), false),
            (&user, asks("list", "pods", "a", ""), false),
            (&user, asks("get", "pods/log", "a", "x"), false),
            (&user, asks("get", "deployments/scale", "a", "x"), true),
            (&account, asks("delete", "secrets", "a", "x"), true),
            (&account, asks("delete", "secrets", "a", "y"), false),
            (&account, asks("list", "secrets", "a", ""), false),
        ];
        for (who, attributes, allowed) in table {
            assert_eq!(rules.allow(who, &attributes), allowed, "{} {attributes:?}", who.name);
        }
    }

    #[test]
    fn paths_may_end_in_a_star() {
        let rules = rules();
        for (path, allowed) in [("/healthz", true), ("/healthz/x", false), ("/livez/ping", true), ("/metrics", false)] {
            assert_eq!(
                rules.allow(&User::anonymous(), &Attributes::NonResource { verb: "get", path }),
                allowed,
                "{path}"
            );
        }
    }
}
