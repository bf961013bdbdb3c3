//! Users, roles, and whether they matter: the replicated state. It changes by [`Change`]s alone, so that applying a
//! command and reading it back from the disk are one.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chorus_proto::authpb::permission::Type;
use chorus_proto::authpb::{Permission, Role, User};
use imbl::OrdMap;
use prost::{DecodeError, Message};
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// The user and the role that may do everything.
pub const ROOT: &str = "root";

/// The revision of a store in which nothing was ever changed.
const REVISION_FIRST: u64 = 1;

/// One step of a change, as the journal and checkpoints keep it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Enabled(bool),
    Revision(u64),
    /// A marshalled `authpb.User`.
    PutUser(Bytes),
    DeleteUser(String),
    /// A marshalled `authpb.Role`.
    PutRole(Bytes),
    DeleteRole(String),
}

/// Without the password that a user has.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Enabled(enabled) => write!(f, "Enabled({enabled})"),
            Change::Revision(revision) => write!(f, "Revision({revision})"),
            Change::PutUser(_) => f.write_str("PutUser"),
            Change::DeleteUser(name) => write!(f, "DeleteUser({name:?})"),
            Change::PutRole(role) => write!(f, "PutRole({role:?})"),
            Change::DeleteRole(name) => write!(f, "DeleteRole({name:?})"),
        }
    }
}

impl Change {
    pub fn put_user(user: &User) -> Change {
        Change::PutUser(user.encode_to_vec().into())
    }

    pub fn put_role(role: &Role) -> Change {
        Change::PutRole(role.encode_to_vec().into())
    }
}

/// What one user may do, made of all roles they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    pub everything: bool,
    pub reads: Ranges,
    pub writes: Ranges,
}

/// Users and roles. A copy costs nothing.
#[derive(Clone, PartialEq)]
pub struct Auth {
    pub enabled: bool,
    /// Counts the changes; a token is for one revision.
    pub revision: u64,
    users: OrdMap<String, Arc<User>>,
    roles: OrdMap<String, Arc<Role>>,
    /// By user. Follows from the two above.
    allowed: OrdMap<String, Arc<Allowed>>,
}

/// Without passwords.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (users, roles) = (self.users.keys(), self.roles.keys());
        let mut shown = f.debug_struct("Auth");
        shown.field("enabled", &self.enabled).field("revision", &self.revision);
        shown.field("users", &users.collect::<Vec<_>>()).field("roles", &roles.collect::<Vec<_>>()).finish()
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            enabled: false,
            revision: REVISION_FIRST,
            users: OrdMap::new(),
            roles: OrdMap::new(),
            allowed: OrdMap::new(),
        }
    }
}

impl Auth {
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(|role| &**role)
    }

    /// In the order of their names.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (&name[..], &**user))
    }

    /// In the order of their names.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Role)> {
        self.roles.iter().map(|(name, role)| (&name[..], &**role))
    }

    /// What a user may do; `None` when there is no such user.
    pub fn allowed(&self, user: &str) -> Option<&Allowed> {
        self.allowed.get(user).map(|allowed| &**allowed)
    }

    /// Makes one change.
    pub fn follow(&mut self, change: &Change) -> Result<(), DecodeError> {
        match change {
            Change::Enabled(enabled) => self.enabled = *enabled,
            Change::Revision(revision) => self.revision = *revision,
            Change::PutUser(user) => self.put_user(User::decode(&user[..])?),
            Change::DeleteUser(name) => {
                self.users.remove(name);
                self.allowed.remove(name);
            }
            Change::PutRole(role) => {
                let role = Role::decode(&role[..])?;
                let name = text(&role.name);
                self.roles.insert(name.clone(), Arc::new(role));
                self.role_changed(&name);
            }
            Change::DeleteRole(name) => {
                self.roles.remove(name);
                self.role_changed(name);
            }
        }
        Ok(())
    }

    /// The changes that make this state out of an empty one.
    pub fn changes(&self) -> Vec<Change> {
        let settings = [Change::Revision(self.revision), Change::Enabled(self.enabled)];
        let roles = self.roles.values().map(|role| Change::put_role(role));
        let users = self.users.values().map(|user| Change::put_user(user));
        settings.into_iter().chain(roles).chain(users).collect()
    }

    /// The state that another store of etcd's interface holds, for migrations. A revision of 0 is one that was never
    /// counted.
    pub fn import(enabled: bool, revision: u64, users: Vec<User>, roles: Vec<Role>) -> Auth {
        let mut auth = Auth { enabled, revision: revision.max(REVISION_FIRST), ..Auth::default() };
        auth.roles = roles.into_iter().map(|role| (text(&role.name), Arc::new(role))).collect();
        users.into_iter().for_each(|user| auth.put_user(user));
        auth
    }

    fn put_user(&mut self, user: User) {
        let name = text(&user.name);
        self.allowed.insert(name.clone(), Arc::new(self.allow(&user)));
        self.users.insert(name, Arc::new(user));
    }

    fn role_changed(&mut self, role: &str) {
        let has = |user: &User| user.roles.iter().any(|of| of == role);
        let concerned: Vec<_> =
            self.users.iter().filter(|(_, user)| has(user)).map(|(name, user)| (name.clone(), user.clone())).collect();
        for (name, user) in concerned {
            self.allowed.insert(name, Arc::new(self.allow(&user)));
        }
    }

    fn allow(&self, user: &User) -> Allowed {
        let granted = |wanted: Type| {
            let roles = user.roles.iter().filter_map(|role| self.role(role));
            let matching = move |permission: &&Permission| [wanted, Type::Readwrite].contains(&permission.perm_type());
            let range = |permission: &Permission| (permission.key.clone(), permission.range_end.clone());
            Ranges::union(roles.flat_map(|role| &role.key_permission).filter(matching).map(range))
        };
        let everything = user.roles.iter().any(|role| role == ROOT);
        Allowed { everything, reads: granted(Type::Read), writes: granted(Type::Write) }
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &'static str, permissions: &[(Type, &'static str, &'static str)]) -> Role {
        let permission = |&(kind, key, end): &(Type, &'static str, &'static str)| Permission {
            perm_type: kind as i32,
            key: key.into(),
            range_end: end.into(),
        };
        Role { name: name.into(), key_permission: permissions.iter().map(permission).collect() }
    }

    fn user(name: &'static str, roles: &[&str]) -> User {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        User { name: name.into(), password: "secret".into(), roles, options: None }
    }

    fn store() -> Auth {
        let roles = vec![
            role("reader", &[(Type::Read, "a", "c")]),
            role("writer", &[(Type::Write, "b", "d"), (Type::Readwrite, "x", "")]),
        ];
        Auth::import(true, 7, vec![user("alice", &["reader", "writer"]), user("root", &["root"])], roles)
    }

    #[test]
    fn a_user_may_what_any_of_the_roles_may() {
        let auth = store();
        let alice = auth.allowed("alice").unwrap();
        assert!(alice.reads.contain(b"b", b"") && !alice.reads.contain(b"c", b""));
        assert!(alice.writes.contain(b"c", b"") && !alice.writes.contain(b"a", b""));
        assert!(alice.reads.contain(b"x", b"") && alice.writes.contain(b"x", b""));
        assert!(!alice.everything && auth.allowed("root").unwrap().everything);
        assert_eq!(auth.allowed("bob"), None);
    }

    #[test]
    fn a_changed_role_changes_those_who_have_it() {
        let mut auth = store();
        auth.follow(&Change::put_role(&role("reader", &[(Type::Read, "m", "")]))).unwrap();
        auth.follow(&Change::DeleteRole("writer".into())).unwrap();
        let alice = auth.allowed("alice").unwrap();
        assert!(alice.reads.contain(b"m", b"") && !alice.reads.contain(b"b", b""));
        assert!(!alice.writes.contain(b"c", b""));
        auth.follow(&Change::DeleteUser("alice".into())).unwrap();
        assert_eq!(auth.allowed("alice"), None);
    }

    #[test]
    fn the_changes_of_a_state_make_it_again() {
        let auth = store();
        let mut again = Auth::default();
        auth.changes().iter().for_each(|change| again.follow(change).unwrap());
        assert_eq!(again, auth);
        assert!(!format!("{auth:?} {:?}", auth.changes()).contains("secret"), "passwords are not shown");
    }
}
