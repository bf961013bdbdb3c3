//! The table itself: an immutable value with lookups. Custom resources make a new table from an old one; a frontend keeps
//! the current one behind a swap.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::resource::Resource;
use super::{apps, authorization, coordination, core, discovery, rbac};

/// The order of groups in discovery: it decides how an unqualified name (`events`) resolves.
const GROUP_ORDER: [&str; 21] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
];

/// All resources that are served. Clones share the entries.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<Arc<Resource>>,
    /// (group, version, plural) to place in `entries`.
    by_path: BTreeMap<(String, String, String), usize>,
    /// (group, version, kind) to place in `entries`.
    by_kind: BTreeMap<(String, String, String), usize>,
}

impl Table {
    /// The built-in resources; built once.
    pub fn builtin() -> Arc<Table> {
        static BUILTIN: LazyLock<Arc<Table>> = LazyLock::new(|| {
            let groups = [
                core::resources(),
                apps::resources(),
                authorization::resources(),
                rbac::resources(),
                coordination::resources(),
                discovery::resources(),
            ];
            Arc::new(Table::new(groups.into_iter().flatten()))
        });
        BUILTIN.clone()
    }

    /// A table of these entries, put in the order of discovery. A later entry for a path replaces an earlier one.
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Table {
        Table::from_shared(resources.into_iter().map(Arc::new))
    }

    fn from_shared(resources: impl IntoIterator<Item = Arc<Resource>>) -> Table {
        let by_path: BTreeMap<_, _> = resources
            .into_iter()
            .map(|entry| ((entry.group.clone(), entry.version.clone(), entry.plural.clone()), entry))
            .collect();
        let mut entries: Vec<Arc<Resource>> = by_path.into_values().collect();
        entries.sort_by_key(|entry| group_rank(&entry.group));
        let mut table = Table { entries, ..Table::default() };
        for (place, entry) in table.entries.iter().enumerate() {
            let path = (entry.group.clone(), entry.version.clone(), entry.plural.clone());
            let kind = (entry.group.clone(), entry.version.clone(), entry.kind.clone());
            table.by_path.insert(path, place);
            table.by_kind.insert(kind, place);
        }
        table
    }

    /// This table with more entries: custom resources.
    #[must_use]
    pub fn with(&self, resources: impl IntoIterator<Item = Resource>) -> Table {
        Table::from_shared(self.entries.iter().cloned().chain(resources.into_iter().map(Arc::new)))
    }

    /// The resource at `/apis/{group}/{version}/.../{plural}`; the core group is `""`.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let path = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.by_path.get(&path).map(|&place| &self.entries[place])
    }

    /// The resource whose objects say this `apiVersion` (`apps/v1`) and `kind`.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = (group.to_owned(), version.to_owned(), kind.to_owned());
        self.by_kind.get(&kind).map(|&place| &self.entries[place])
    }

    /// All entries: groups in the order of discovery, plurals in alphabetical order within a group-version.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.entries.iter()
    }

    /// (group, version), each once, in the order of discovery.
    pub fn group_versions(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for entry in &self.entries {
            let this = (entry.group.clone(), entry.version.clone());
            if !all.contains(&this) {
                all.push(this);
            }
        }
        all
    }

    /// Is there any resource under `/apis/{group}/{version}`?
    pub fn has_group_version(&self, group: &str, version: &str) -> bool {
        self.entries.iter().any(|entry| entry.group == group && entry.version == version)
    }
}

/// Built-in groups in their order, others behind them by name.
fn group_rank(group: &str) -> (usize, String) {
    match GROUP_ORDER.iter().position(|known| *known == group) {
        Some(place) => (place, String::new()),
        None => (GROUP_ORDER.len(), group.to_owned()),
    }
}
