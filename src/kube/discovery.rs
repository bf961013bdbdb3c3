//! Discovery: what is served, in both forms that clients accept. Pure: the frontend picks a document by path and
//! `Accept`, and sends its ETag.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::resources::{ApiSubresource, Resource, Scope, Table, group_version};

/// A document that is built once for a table and served many times.
#[derive(Clone, Debug)]
pub struct Document {
    pub body: Bytes,
    /// The value of the header `ETag`, quotes included.
    pub etag: String,
}

impl Document {
    pub fn of(value: &Value) -> Document {
        Document::of_bytes(serde_json::to_vec(value).expect("a document has string keys only"))
    }

    pub fn of_bytes(body: Vec<u8>) -> Document {
        use sha2::Digest;
        let hash = sha2::Sha512::digest(&body);
        let hex: String = hash.iter().take(32).map(|byte| format!("{byte:02X}")).collect();
        Document { body: body.into(), etag: format!("\"{hex}\"") }
    }

    /// The hash alone, for URLs.
    pub fn hash(&self) -> &str {
        self.etag.trim_matches('"')
    }
}

/// Content type of the aggregated documents, and what clients put in `Accept` for them.
pub const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
pub const AGGREGATED_V2_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// `GET /api` as `APIVersions`. `server_address` is this frontend's own `host:port`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `GET /apis` as `APIGroupList`.
pub fn api_group_list(table: &Table) -> Value {
    let groups: Vec<Value> = groups(table).into_iter().map(|(group, versions)| api_group(&group, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/{group}` as `APIGroup`; `None` when nothing of the group is served.
pub fn api_group_of(table: &Table, group: &str) -> Option<Value> {
    let (group, versions) = groups(table).into_iter().find(|(name, _)| name == group)?;
    let mut value = api_group(&group, &versions);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

fn api_group(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions[0]})
}

/// Named groups with their versions, preferred first.
fn groups(table: &Table) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (group, version) in table.group_versions().into_iter().filter(|(group, _)| !group.is_empty()) {
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| version_rank(version));
    }
    groups
}

/// v2 before v1 before v1beta2 before v1beta1 before v1alpha1.
fn version_rank(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>) {
    let digits = version.strip_prefix('v').unwrap_or_default();
    let number = |text: &str| std::cmp::Reverse(text.parse().unwrap_or(0));
    for (rank, word) in [(1, "beta"), (2, "alpha")] {
        if let Some((major, minor)) = digits.split_once(word) {
            return (rank, number(major), number(minor));
        }
    }
    (0, number(digits), number(""))
}

/// `GET /api/v1` or `/apis/{group}/{version}` as `APIResourceList`; `None` when nothing of it is served.
pub fn api_resource_list(table: &Table, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in of_group_version(table, group, version) {
        resources.push(legacy_resource(resource));
        resources.extend(resource.subresources.iter().map(|sub| legacy_subresource(resource, sub)));
    }
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(group, version),
            "resources": resources,
        })
    })
}

fn of_group_version<'a>(table: &'a Table, group: &str, version: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
    table.iter().filter(move |entry| entry.group == group && entry.version == version)
}

fn legacy_resource(resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.is_namespaced(),
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if resource.storage_prefix.is_some() {
        value["storageVersionHash"] = json!(storage_version_hash(resource));
    }
    value
}

fn legacy_subresource(resource: &Resource, sub: &ApiSubresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.is_namespaced(),
        "kind": resource.kind,
        "verbs": sub.verbs,
    });
    if let Some((group, version, kind)) = &sub.response_kind {
        value["kind"] = json!(kind);
        if (group, version) != (&resource.group, &resource.version) {
            value["group"] = json!(group);
            value["version"] = json!(version);
        }
    }
    value
}

/// Changes when the stored form of a resource changes, so that clients notice.
fn storage_version_hash(resource: &Resource) -> String {
    use base64::Engine;
    use sha2::Digest;
    let identity = format!("{}/{}/{}", resource.group, resource.version, resource.kind);
    base64::engine::general_purpose::STANDARD.encode(&sha2::Sha256::digest(identity)[..8])
}

/// Which of the two roots an aggregated document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: all others.
    Groups,
}

/// `GET /api` or `/apis` in the aggregated form. `version` is `v2`, or `v2beta1` for kubectl up to 1.29.
pub fn aggregated(table: &Table, root: Root, version: &str) -> Value {
    let mut all = groups(table);
    if root == Root::Core {
        all = vec![(String::new(), vec!["v1".to_owned()])];
    }
    let items: Vec<Value> = all.iter().map(|(group, versions)| aggregated_group(table, group, versions)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(table: &Table, group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> =
                of_group_version(table, group, version).map(|resource| aggregated_resource(resource)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let scope = match resource.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources = resource.subresources.iter().map(|sub| aggregated_subresource(resource, sub));
        value["subresources"] = subresources.collect();
    }
    value
}

fn aggregated_subresource(resource: &Resource, sub: &ApiSubresource) -> Value {
    let kind = match &sub.response_kind {
        Some((group, version, kind)) => json!({"group": group, "version": version, "kind": kind}),
        None => json!({"group": resource.group, "version": resource.version, "kind": resource.kind}),
    };
    json!({"subresource": sub.name, "responseKind": kind, "verbs": sub.verbs})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_list_names_resources_and_subresources() {
        let list = api_resource_list(&Table::builtin(), "", "v1").unwrap();
        assert_eq!(list["groupVersion"], "v1");
        let find = |name: &str| list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap();
        assert_eq!(find("pods")["shortNames"], json!(["po"]));
        assert_eq!(find("pods/eviction")["group"], "policy");
        assert_eq!(find("pods/log")["verbs"], json!(["get"]));
        assert_eq!(find("endpoints")["singularName"], "endpoints");
        assert_eq!(find("replicationcontrollers/scale")["kind"], "Scale");
        assert_eq!(api_resource_list(&Table::builtin(), "nope", "v1"), None);
    }

    #[test]
    fn both_forms_agree_on_groups_and_resources() {
        let table = Table::builtin();
        let legacy = api_group_list(&table);
        let aggregated = aggregated(&table, Root::Groups, "v2");
        let names = |list: &Value, pointer: &str| -> Vec<Value> {
            list.as_array().unwrap().iter().map(|group| group.pointer(pointer).unwrap().clone()).collect()
        };
        assert_eq!(names(&legacy["groups"], "/name"), names(&aggregated["items"], "/metadata/name"));
        for group in aggregated["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap();
            for version in group["versions"].as_array().unwrap() {
                let list = api_resource_list(&table, name, version["version"].as_str().unwrap()).unwrap();
                let plain = list["resources"].as_array().unwrap().iter();
                let plain = plain.filter(|r| !r["name"].as_str().unwrap().contains('/')).count();
                assert_eq!(plain, version["resources"].as_array().unwrap().len());
            }
        }
    }

    #[test]
    fn versions_are_ranked_as_clients_expect() {
        let mut versions = ["v1beta1", "v1", "v2alpha1", "v2", "v1beta2"];
        versions.sort_by_key(|version| version_rank(version));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v2alpha1"]);
    }

    #[test]
    fn an_etag_is_quoted_and_follows_the_content() {
        let (a, b) = (Document::of(&json!({"a": 1})), Document::of(&json!({"a": 2})));
        assert!(a.etag.starts_with('"') && a.etag.ends_with('"') && a.etag != b.etag);
    }
}
