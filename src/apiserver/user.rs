//! The user of a request.

use std::collections::BTreeMap;

/// The user of a request, as authentication found it: upstream's user.Info.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user known by name and groups; `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> User {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        groups.push("system:authenticated".to_owned());
        User { name: name.into(), groups, ..User::default() }
    }

    /// A member of `system:masters`: may do everything.
    pub fn master(name: impl Into<String>) -> User {
        User::new(name, ["system:masters"])
    }

    /// The agent of the node `name`.
    pub fn node(name: &str) -> User {
        User::new(format!("system:node:{name}"), ["system:nodes"])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> User {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        User::new(format!("system:serviceaccount:{namespace}:{name}"), groups)
    }

    pub fn anonymous() -> User {
        User {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..User::default()
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
