//! Who may do what. Pure: one function for each kind of access, and one for commands about to be applied.

use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request;

use super::state::{Allowed, Auth};
use crate::store::Error;
use crate::store::state::State;

/// A user, and the revision of users and roles at which the store recognised them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub revision: u64,
}

/// In whose name something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// The process itself: everything is permitted.
    Process,
    /// A client that did not say who it is.
    Nobody,
    User(Arc<Identity>),
}

impl Author {
    /// The author of a command in the log. The process signs as root.
    fn of(command: &pb::InternalRaftRequest) -> Author {
        match &command.header {
            Some(header) if header.auth_revision != 0 || !header.username.is_empty() => {
                Author::User(Arc::new(Identity { user: header.username.clone(), revision: header.auth_revision }))
            }
            _ => Author::Nobody,
        }
    }
}

/// What is done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Auth {
    /// The author must be known.
    pub fn require(&self, author: &Author) -> Result<(), Error> {
        if self.enabled && *author == Author::Nobody { Err(Error::UserEmpty) } else { Ok(()) }
    }

    /// For authors with the root role only.
    pub fn permit_admin(&self, author: &Author) -> Result<(), Error> {
        let user = match author {
            _ if !self.enabled => return Ok(()),
            Author::Process => return Ok(()),
            Author::User(identity) if !identity.user.is_empty() => &identity.user,
            Author::User(_) | Author::Nobody => return Err(Error::UserEmpty),
        };
        let allowed = self.allowed(user).ok_or(Error::UserNotFound)?;
        if allowed.everything { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    /// A range as a request has it: without an end it is one key, and an end of `\0` stands for no end.
    pub fn permit(&self, author: &Author, access: Access, key: &[u8], range_end: &[u8]) -> Result<(), Error> {
        let Some(allowed) = self.bounds(author)? else { return Ok(()) };
        let ranges = match access {
            Access::Read => &allowed.reads,
            Access::Write => &allowed.writes,
        };
        if ranges.contain(key, range_end) { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    /// The permissions of the author, unless everything is permitted.
    fn bounds(&self, author: &Author) -> Result<Option<&Allowed>, Error> {
        let identity = match author {
            _ if !self.enabled => return Ok(None),
            Author::Process => return Ok(None),
            Author::Nobody => return Err(Error::UserEmpty),
            Author::User(identity) => identity,
        };
        match identity.revision {
            0 => return Err(Error::UserEmpty),
            revision if revision < self.revision => return Err(Error::AuthOldRevision),
            _ => {}
        }
        let allowed = self.allowed(&identity.user).ok_or(Error::PermissionDenied)?;
        Ok(if allowed.everything { None } else { Some(allowed) })
    }

    /// One's own user, or as root.
    pub fn permit_user_get(&self, author: &Author, name: &str) -> Result<(), Error> {
        match self.permit_admin(author) {
            Err(_) if matches!(author, Author::User(identity) if identity.user == name) => Ok(()),
            other => other,
        }
    }

    /// A role one has, or as root.
    pub fn permit_role_get(&self, author: &Author, role: &str) -> Result<(), Error> {
        let has = |identity: &Identity| {
            self.user(&identity.user).is_some_and(|user| user.roles.iter().any(|granted| granted == role))
        };
        match self.permit_admin(author) {
            Err(_) if matches!(author, Author::User(identity) if has(identity)) => Ok(()),
            other => other,
        }
    }
}

pub fn range(auth: &Auth, author: &Author, request: &pb::RangeRequest) -> Result<(), Error> {
    auth.permit(author, Access::Read, &request.key, &request.range_end)
}

fn put(state: &State, author: &Author, request: &pb::PutRequest) -> Result<(), Error> {
    state.auth.permit(author, Access::Write, &request.key, b"")?;
    // A client that attaches a key to a lease can delete all of its keys by revoking it.
    lease(state, author, Access::Write, request.lease)?;
    if request.prev_kv {
        state.auth.permit(author, Access::Read, &request.key, b"")?;
    }
    Ok(())
}

fn delete_range(auth: &Auth, author: &Author, request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    auth.permit(author, Access::Write, &request.key, &request.range_end)?;
    if request.prev_kv {
        auth.permit(author, Access::Read, &request.key, &request.range_end)?;
    }
    Ok(())
}

/// Whichever branch runs, and at every depth.
pub fn txn(state: &State, author: &Author, request: &pb::TxnRequest) -> Result<(), Error> {
    for compare in &request.compare {
        state.auth.permit(author, Access::Read, &compare.key, &compare.range_end)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(&state.auth, author, request)?,
            Some(Request::RequestPut(request)) => put(state, author, request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(&state.auth, author, request)?,
            Some(Request::RequestTxn(request)) => txn(state, author, request)?,
            None => {}
        }
    }
    Ok(())
}

/// Access to every key of a lease. One that does not exist has none.
pub fn lease(state: &State, author: &Author, access: Access, id: i64) -> Result<(), Error> {
    if !state.auth.enabled || state.auth.permit_admin(author).is_ok() {
        return Ok(());
    }
    let keys = state.leases.get(id).map(|lease| &lease.keys);
    keys.into_iter().flatten().try_for_each(|key| state.auth.permit(author, access, key, b""))
}

/// Whether a command may be applied. The state to which it is applied decides, so that no permission outlives its
/// revocation while the command is on its way through the log.
pub fn command(state: &State, command: &pb::InternalRaftRequest) -> Result<(), Error> {
    // Before anything else: most stores never have users.
    if !state.auth.enabled {
        return Ok(());
    }
    let author = Author::of(command);
    if is_management(command) {
        return state.auth.permit_admin(&author);
    }
    if let Some(request) = &command.put {
        put(state, &author, request)
    } else if let Some(request) = &command.txn {
        txn(state, &author, request)
    } else if let Some(request) = &command.delete_range {
        delete_range(&state.auth, &author, request)
    } else if let Some(request) = &command.lease_revoke {
        lease(state, &author, Access::Write, request.id)
    } else {
        // The others touch no key, and were let in by the member that proposed them.
        Ok(())
    }
}

fn is_management(command: &pb::InternalRaftRequest) -> bool {
    command.auth_enable.is_some()
        || command.auth_disable.is_some()
        || command.auth_user_add.is_some()
        || command.auth_user_delete.is_some()
        || command.auth_user_change_password.is_some()
        || command.auth_user_grant_role.is_some()
        || command.auth_user_revoke_role.is_some()
        || command.auth_role_add.is_some()
        || command.auth_role_delete.is_some()
        || command.auth_role_grant_permission.is_some()
        || command.auth_role_revoke_permission.is_some()
}

#[cfg(test)]
mod tests {
    use chorus_proto::authpb::permission::Type;
    use chorus_proto::authpb::{Permission, Role, User};

    use super::*;
    use crate::store::mvcc::Key;

    const REVISION: u64 = 9;

    /// Alice reads a..c and writes b..d.
    fn state(enabled: bool) -> State {
        let grant = |kind: Type, key: &'static str, range_end: &'static str| Permission {
            perm_type: kind as i32,
            key: key.into(),
            range_end: range_end.into(),
        };
        let key_permission = vec![grant(Type::Read, "a", "c"), grant(Type::Write, "b", "d")];
        let user = |name: &'static str, role: &str| User {
            name: name.into(),
            roles: vec![role.to_owned()],
            ..Default::default()
        };
        let users = vec![user("root", "root"), user("alice", "r")];
        let auth = Auth::import(enabled, REVISION, users, vec![Role { name: "r".into(), key_permission }]);
        let mut state = State { auth, ..State::default() };
        for (lease, key) in [(1, &b"b"[..]), (2, b"a"), (3, b"x")] {
            state.leases.grant(lease, 60, 0).unwrap();
            state.leases.reattach(&Key::new(key), 0, lease);
        }
        state
    }

    fn author(user: &str, revision: u64) -> Author {
        Author::User(Arc::new(Identity { user: user.into(), revision }))
    }

    fn by(user: &str, revision: u64, command: pb::InternalRaftRequest) -> pb::InternalRaftRequest {
        let header = pb::RequestHeader { username: user.into(), auth_revision: revision, ..Default::default() };
        pb::InternalRaftRequest { header: Some(header), ..command }
    }

    fn putting(key: &'static str, lease: i64, prev_kv: bool) -> pb::PutRequest {
        pb::PutRequest { key: key.into(), lease, prev_kv, ..Default::default() }
    }

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    fn reading(key: &'static str) -> pb::RequestOp {
        op(Request::RequestRange(pb::RangeRequest { key: key.into(), ..Default::default() }))
    }

    macro_rules! applied {
        ($field:ident: $request:expr) => {
            command(
                &state(true),
                &by("alice", REVISION, pb::InternalRaftRequest { $field: Some($request), ..Default::default() }),
            )
        };
    }

    #[test]
    fn who_one_is_comes_first() {
        let put = || pb::InternalRaftRequest { put: Some(putting("b", 0, false)), ..Default::default() };
        for (user, revision, outcome) in [
            ("alice", REVISION, Ok(())),
            ("alice", REVISION + 1, Ok(())),
            ("alice", REVISION - 1, Err(Error::AuthOldRevision)),
            ("", 0, Err(Error::UserEmpty)),
            ("alice", 0, Err(Error::UserEmpty)),
            ("bob", REVISION, Err(Error::PermissionDenied)),
            ("root", REVISION, Ok(())),
            ("root", REVISION - 1, Err(Error::AuthOldRevision)),
        ] {
            assert_eq!(command(&state(true), &by(user, revision, put())), outcome, "{user:?} {revision}");
            assert_eq!(command(&state(false), &by(user, revision, put())), Ok(()), "not enabled");
        }
        assert_eq!(command(&state(true), &put()), Err(Error::UserEmpty), "without a header");
    }

    #[test]
    fn a_put_writes_its_key_and_those_of_its_lease_and_reads_what_it_shows() {
        for (put, outcome) in [
            (putting("b", 0, false), Ok(())),
            (putting("c", 0, false), Ok(())),
            (putting("a", 0, false), Err(Error::PermissionDenied)),
            (putting("b", 0, true), Ok(())),
            (putting("c", 0, true), Err(Error::PermissionDenied)),
            (putting("b", 1, false), Ok(())),
            (putting("b", 3, false), Err(Error::PermissionDenied)),
            (putting("b", 7, false), Ok(())),
        ] {
            assert_eq!(applied!(put: put.clone()), outcome, "{put:?}");
        }
    }

    #[test]
    fn a_deletion_writes_its_range_and_reads_what_it_shows() {
        for (key, range_end, prev_kv, outcome) in [
            ("b", "d", false, Ok(())),
            ("b", "c", true, Ok(())),
            ("b", "d", true, Err(Error::PermissionDenied)),
            ("b", "e", false, Err(Error::PermissionDenied)),
            ("b", "\0", false, Err(Error::PermissionDenied)),
        ] {
            let request = pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv };
            assert_eq!(applied!(delete_range: request), outcome, "{key} {range_end:?} {prev_kv}");
        }
    }

    #[test]
    fn a_transaction_is_checked_in_both_branches_and_at_every_depth() {
        let denied = || Err(Error::PermissionDenied);
        let compare = |key: &'static str| pb::Compare { key: key.into(), ..Default::default() };
        let nested = |txn: pb::TxnRequest| op(Request::RequestTxn(txn));
        for (line, (txn, outcome)) in [
            (pb::TxnRequest { compare: vec![compare("a")], ..Default::default() }, Ok(())),
            (pb::TxnRequest { compare: vec![compare("c")], ..Default::default() }, denied()),
            (
                pb::TxnRequest {
                    compare: vec![pb::Compare { range_end: "\0".into(), ..compare("a") }],
                    ..Default::default()
                },
                denied(),
            ),
            (pb::TxnRequest { success: vec![reading("a")], failure: vec![reading("b")], ..Default::default() }, Ok(())),
            (pb::TxnRequest { success: vec![reading("a"), reading("x")], ..Default::default() }, denied()),
            (pb::TxnRequest { failure: vec![reading("x")], ..Default::default() }, denied()),
            (
                pb::TxnRequest { success: vec![op(Request::RequestPut(putting("a", 0, false)))], ..Default::default() },
                denied(),
            ),
            (
                pb::TxnRequest {
                    failure: vec![nested(pb::TxnRequest {
                        success: vec![nested(pb::TxnRequest { failure: vec![reading("x")], ..Default::default() })],
                        ..Default::default()
                    })],
                    ..Default::default()
                },
                denied(),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(applied!(txn: txn), outcome, "line {line}");
        }
    }

    #[test]
    fn a_lease_is_revoked_by_who_may_write_all_its_keys() {
        for (id, outcome) in [(1, Ok(())), (2, Err(Error::PermissionDenied)), (7, Ok(()))] {
            assert_eq!(applied!(lease_revoke: pb::LeaseRevokeRequest { id }), outcome, "{id}");
        }
    }

    #[test]
    fn users_and_roles_are_managed_by_root_alone() {
        let add = || pb::InternalRaftRequest { auth_role_add: Some(Default::default()), ..Default::default() };
        for (user, outcome) in [
            ("root", Ok(())),
            ("alice", Err(Error::PermissionDenied)),
            ("bob", Err(Error::UserNotFound)),
            ("", Err(Error::UserEmpty)),
        ] {
            assert_eq!(command(&state(true), &by(user, 1, add())), outcome, "{user}");
        }
    }

    #[test]
    fn one_sees_oneself_and_ones_roles() {
        let auth = state(true).auth;
        let alice = author("alice", REVISION);
        assert_eq!(auth.permit_user_get(&alice, "alice"), Ok(()));
        assert_eq!(auth.permit_user_get(&alice, "root"), Err(Error::PermissionDenied));
        assert_eq!(auth.permit_role_get(&alice, "r"), Ok(()));
        assert_eq!(auth.permit_role_get(&alice, "root"), Err(Error::PermissionDenied));
        assert_eq!(auth.permit_user_get(&Author::Nobody, "alice"), Err(Error::UserEmpty));
        assert_eq!(auth.permit_user_get(&Author::Process, "alice"), Ok(()));
        assert_eq!(auth.require(&Author::Nobody), Err(Error::UserEmpty));
        assert_eq!(auth.require(&author("bob", 1)), Ok(()));
    }
}
