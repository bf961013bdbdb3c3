//! The changes that a command makes to users and roles. Pure: the caller makes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chorus_proto::authpb::{Permission, Role, User};
use chorus_proto::etcdserverpb as pb;

use super::sessions::Session;
use super::state::{Auth, Change, ROOT};
use crate::store::Error;

/// The changes of a command.
#[derive(Debug, Default, PartialEq)]
pub struct Managed {
    pub changes: Vec<Change>,
    pub session: Option<Session>,
}

impl Managed {
    /// Changes that count as one revision.
    fn counted(auth: &Auth, mut changes: Vec<Change>) -> Managed {
        changes.push(Change::Revision(auth.revision + 1));
        Managed { changes, session: None }
    }

    fn ending(self, session: Session) -> Managed {
        Managed { session: Some(session), ..self }
    }
}

/// What `command` changes, if it is about users and roles at all.
pub fn manage(auth: &Auth, command: &pb::InternalRaftRequest) -> Option<Result<Managed, Error>> {
    Some(if command.auth_enable.is_some() {
        enable(auth)
    } else if command.auth_disable.is_some() {
        Ok(disable(auth))
    } else if let Some(request) = &command.auth_user_add {
        user_add(auth, request)
    } else if let Some(request) = &command.auth_user_delete {
        user_delete(auth, request)
    } else if let Some(request) = &command.auth_user_change_password {
        user_change_password(auth, request)
    } else if let Some(request) = &command.auth_user_grant_role {
        user_grant_role(auth, request)
    } else if let Some(request) = &command.auth_user_revoke_role {
        user_revoke_role(auth, request)
    } else if let Some(request) = &command.auth_role_add {
        role_add(auth, request)
    } else if let Some(request) = &command.auth_role_delete {
        role_delete(auth, request)
    } else if let Some(request) = &command.auth_role_grant_permission {
        role_grant_permission(auth, request)
    } else if let Some(request) = &command.auth_role_revoke_permission {
        role_revoke_permission(auth, request)
    } else {
        return None;
    })
}

/// Does not count as a revision, so that tokens made just before stay good.
fn enable(auth: &Auth) -> Result<Managed, Error> {
    if auth.enabled {
        return Ok(Managed::default());
    }
    let root = auth.user(ROOT).ok_or(Error::RootUserNotExist)?;
    if !has(root, ROOT) {
        return Err(Error::RootRoleNotExist);
    }
    Ok(Managed { changes: vec![Change::Enabled(true)], session: None })
}

fn disable(auth: &Auth) -> Managed {
    if !auth.enabled {
        return Managed::default();
    }
    Managed::counted(auth, vec![Change::Enabled(false)]).ending(Session::AllEnded)
}

/// The member that proposed this has checked the user's password.
pub fn authenticate(auth: &Auth, request: &pb::InternalAuthenticateRequest) -> Result<(), Error> {
    if !auth.enabled {
        return Err(Error::AuthNotEnabled);
    }
    match auth.user(&request.name) {
        Some(user) if !is_without_password(user) => Ok(()),
        _ => Err(Error::AuthFailed),
    }
}

fn user_add(auth: &Auth, request: &pb::AuthUserAddRequest) -> Result<Managed, Error> {
    if request.name.is_empty() {
        return Err(Error::UserEmpty);
    }
    if auth.user(&request.name).is_some() {
        return Err(Error::UserAlreadyExist);
    }
    let options = request.options.unwrap_or_default();
    let password = if options.no_password { Bytes::new() } else { password(&request.hashed_password)? };
    let user = User { name: request.name.clone().into(), password, roles: Vec::new(), options: Some(options) };
    Ok(Managed::counted(auth, vec![Change::put_user(&user)]))
}

fn user_delete(auth: &Auth, request: &pb::AuthUserDeleteRequest) -> Result<Managed, Error> {
    if auth.enabled && request.name == ROOT {
        return Err(Error::InvalidAuthMgmt);
    }
    auth.user(&request.name).ok_or(Error::UserNotFound)?;
    let managed = Managed::counted(auth, vec![Change::DeleteUser(request.name.clone())]);
    Ok(managed.ending(Session::Ended { user: request.name.clone() }))
}

fn user_change_password(auth: &Auth, request: &pb::AuthUserChangePasswordRequest) -> Result<Managed, Error> {
    let mut user = auth.user(&request.name).ok_or(Error::UserNotFound)?.clone();
    user.password = if is_without_password(&user) { Bytes::new() } else { password(&request.hashed_password)? };
    let managed = Managed::counted(auth, vec![Change::put_user(&user)]);
    Ok(managed.ending(Session::Ended { user: request.name.clone() }))
}

/// Granting a role a second time is no change.
fn user_grant_role(auth: &Auth, request: &pb::AuthUserGrantRoleRequest) -> Result<Managed, Error> {
    let mut user = auth.user(&request.user).ok_or(Error::UserNotFound)?.clone();
    // The role of that name need not have been added to be granted.
    if request.role != ROOT {
        auth.role(&request.role).ok_or(Error::RoleNotFound)?;
    }
    if has(&user, &request.role) {
        return Ok(Managed::default());
    }
    user.roles.push(request.role.clone());
    user.roles.sort_unstable();
    Ok(Managed::counted(auth, vec![Change::put_user(&user)]))
}

fn user_revoke_role(auth: &Auth, request: &pb::AuthUserRevokeRoleRequest) -> Result<Managed, Error> {
    if auth.enabled && request.name == ROOT && request.role == ROOT {
        return Err(Error::InvalidAuthMgmt);
    }
    let user = auth.user(&request.name).ok_or(Error::UserNotFound)?;
    if !has(user, &request.role) {
        return Err(Error::RoleNotGranted);
    }
    Ok(Managed::counted(auth, vec![Change::put_user(&without(user, &request.role))]))
}

fn role_add(auth: &Auth, request: &pb::AuthRoleAddRequest) -> Result<Managed, Error> {
    if request.name.is_empty() {
        return Err(Error::RoleEmpty);
    }
    if auth.role(&request.name).is_some() {
        return Err(Error::RoleAlreadyExist);
    }
    let role = Role { name: request.name.clone().into(), key_permission: Vec::new() };
    Ok(Managed::counted(auth, vec![Change::put_role(&role)]))
}

fn role_delete(auth: &Auth, request: &pb::AuthRoleDeleteRequest) -> Result<Managed, Error> {
    if auth.enabled && request.role == ROOT {
        return Err(Error::InvalidAuthMgmt);
    }
    auth.role(&request.role).ok_or(Error::RoleNotFound)?;
    let mut changes = vec![Change::DeleteRole(request.role.clone())];
    let holders = auth.users().filter(|(_, user)| has(user, &request.role));
    changes.extend(holders.map(|(_, user)| Change::put_user(&without(user, &request.role))));
    Ok(Managed::counted(auth, changes))
}

/// A permission on the same range is replaced.
fn role_grant_permission(auth: &Auth, request: &pb::AuthRoleGrantPermissionRequest) -> Result<Managed, Error> {
    let permission = request.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
    if !is_range(permission) {
        return Err(Error::InvalidAuthMgmt);
    }
    let mut role = auth.role(&request.name).ok_or(Error::RoleNotFound)?.clone();
    let same = |of: &&mut Permission| of.key == permission.key && of.range_end == permission.range_end;
    match role.key_permission.iter_mut().find(same) {
        Some(granted) => granted.perm_type = permission.perm_type,
        None => {
            let at = role.key_permission.partition_point(|of| of.key <= permission.key);
            role.key_permission.insert(at, permission.clone());
        }
    }
    Ok(Managed::counted(auth, vec![Change::put_role(&role)]))
}

fn role_revoke_permission(auth: &Auth, request: &pb::AuthRoleRevokePermissionRequest) -> Result<Managed, Error> {
    let mut role = auth.role(&request.role).ok_or(Error::RoleNotFound)?.clone();
    let before = role.key_permission.len();
    role.key_permission.retain(|of| of.key != request.key || of.range_end != request.range_end);
    if role.key_permission.len() == before {
        return Err(Error::PermissionNotGranted);
    }
    Ok(Managed::counted(auth, vec![Change::put_role(&role)]))
}

/// One key, a range with keys in it, or all keys from one on.
fn is_range(permission: &Permission) -> bool {
    let Permission { key, range_end, .. } = permission;
    !key.is_empty() && (range_end.is_empty() || key < range_end || &range_end[..] == b"\0")
}

pub fn is_without_password(user: &User) -> bool {
    user.options.is_some_and(|options| options.no_password)
}

fn has(user: &User, role: &str) -> bool {
    user.roles.iter().any(|of| of == role)
}

fn without(user: &User, role: &str) -> User {
    let mut user = user.clone();
    user.roles.retain(|of| of != role);
    user
}

/// Passwords travel hashed, and the hash as base64.
fn password(hashed: &str) -> Result<Bytes, Error> {
    STANDARD.decode(hashed).map(Bytes::from).map_err(|_| Error::NoPasswordUser)
}

#[cfg(test)]
mod tests {
    use chorus_proto::authpb::UserAddOptions;
    use chorus_proto::authpb::permission::Type;

    use super::*;

    /// Manages as the state machine does.
    fn run(auth: &mut Auth, command: pb::InternalRaftRequest) -> Result<Option<Session>, Error> {
        let managed = manage(auth, &command).unwrap()?;
        managed.changes.iter().for_each(|change| auth.follow(change).unwrap());
        Ok(managed.session)
    }

    macro_rules! command {
        ($field:ident: $request:expr) => {
            pb::InternalRaftRequest { $field: Some($request), ..Default::default() }
        };
    }

    fn add_user(name: &str) -> pb::InternalRaftRequest {
        let hashed_password = STANDARD.encode("hash");
        command!(auth_user_add: pb::AuthUserAddRequest { name: name.into(), hashed_password, ..Default::default() })
    }

    fn add_role(name: &str) -> pb::InternalRaftRequest {
        command!(auth_role_add: pb::AuthRoleAddRequest { name: name.into() })
    }

    fn grant(user: &str, role: &str) -> pb::InternalRaftRequest {
        command!(auth_user_grant_role: pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
    }

    fn revoke(user: &str, role: &str) -> pb::InternalRaftRequest {
        command!(auth_user_revoke_role: pb::AuthUserRevokeRoleRequest { name: user.into(), role: role.into() })
    }

    fn permit(role: &str, perm_type: Type, key: &'static str, range_end: &'static str) -> pb::InternalRaftRequest {
        let perm = Some(Permission { perm_type: perm_type as i32, key: key.into(), range_end: range_end.into() });
        command!(auth_role_grant_permission: pb::AuthRoleGrantPermissionRequest { name: role.into(), perm })
    }

    fn delete_user(name: &str) -> pb::InternalRaftRequest {
        command!(auth_user_delete: pb::AuthUserDeleteRequest { name: name.into() })
    }

    fn delete_role(role: &str) -> pb::InternalRaftRequest {
        command!(auth_role_delete: pb::AuthRoleDeleteRequest { role: role.into() })
    }

    fn forbid(role: &str, key: &'static str, range_end: &'static str) -> pb::InternalRaftRequest {
        let request =
            pb::AuthRoleRevokePermissionRequest { role: role.into(), key: key.into(), range_end: range_end.into() };
        command!(auth_role_revoke_permission: request)
    }

    fn change_password(name: &str, hash: &str) -> pb::InternalRaftRequest {
        let hashed_password = STANDARD.encode(hash);
        let request = pb::AuthUserChangePasswordRequest { name: name.into(), hashed_password, ..Default::default() };
        command!(auth_user_change_password: request)
    }

    fn enable() -> pb::InternalRaftRequest {
        command!(auth_enable: pb::AuthEnableRequest {})
    }

    fn disable() -> pb::InternalRaftRequest {
        command!(auth_disable: pb::AuthDisableRequest {})
    }

    /// A story: each command, what it comes to, and the revision after it.
    #[test]
    fn every_change_counts_and_every_refusal_has_its_reason() {
        let mut auth = Auth::default();
        let ended = |user: &str| Ok(Some(Session::Ended { user: user.into() }));
        for (line, (command, outcome, revision)) in [
            (enable(), Err(Error::RootUserNotExist), 1),
            (disable(), Ok(None), 1),
            (add_user(""), Err(Error::UserEmpty), 1),
            (add_user("root"), Ok(None), 2),
            (add_user("root"), Err(Error::UserAlreadyExist), 2),
            (enable(), Err(Error::RootRoleNotExist), 2),
            (grant("root", "root"), Ok(None), 3),
            (grant("root", "root"), Ok(None), 3),
            (grant("root", "nope"), Err(Error::RoleNotFound), 3),
            (grant("nope", "root"), Err(Error::UserNotFound), 3),
            (add_role(""), Err(Error::RoleEmpty), 3),
            (add_role("r"), Ok(None), 4),
            (add_role("r"), Err(Error::RoleAlreadyExist), 4),
            (permit("nope", Type::Read, "a", ""), Err(Error::RoleNotFound), 4),
            (permit("r", Type::Read, "", "\0"), Err(Error::InvalidAuthMgmt), 4),
            (permit("r", Type::Read, "b", "a"), Err(Error::InvalidAuthMgmt), 4),
            (permit("r", Type::Read, "b", "b"), Err(Error::InvalidAuthMgmt), 4),
            (permit("r", Type::Read, "b", "\0"), Ok(None), 5),
            (permit("r", Type::Write, "a", ""), Ok(None), 6),
            (permit("r", Type::Readwrite, "b", "\0"), Ok(None), 7),
            (forbid("r", "b", ""), Err(Error::PermissionNotGranted), 7),
            (forbid("nope", "b", ""), Err(Error::RoleNotFound), 7),
            (add_user("u"), Ok(None), 8),
            (grant("u", "r"), Ok(None), 9),
            (revoke("u", "root"), Err(Error::RoleNotGranted), 9),
            (revoke("nope", "r"), Err(Error::UserNotFound), 9),
            (enable(), Ok(None), 9),
            (enable(), Ok(None), 9),
            (delete_user("root"), Err(Error::InvalidAuthMgmt), 9),
            (delete_role("root"), Err(Error::InvalidAuthMgmt), 9),
            (revoke("root", "root"), Err(Error::InvalidAuthMgmt), 9),
            (change_password("nope", "x"), Err(Error::UserNotFound), 9),
            (change_password("u", "new"), ended("u"), 10),
            (delete_user("nope"), Err(Error::UserNotFound), 10),
            (delete_role("nope"), Err(Error::RoleNotFound), 10),
            (delete_role("r"), Ok(None), 11),
            (delete_user("u"), ended("u"), 12),
            (disable(), Ok(Some(Session::AllEnded)), 13),
            (delete_user("root"), ended("root"), 14),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(run(&mut auth, command), outcome, "line {line}");
            assert_eq!(auth.revision, revision, "line {line}");
            if line == 21 {
                let keys: Vec<_> =
                    auth.role("r").unwrap().key_permission.iter().map(|of| (&of.key[..], of.perm_type())).collect();
                assert_eq!(keys, [(&b"a"[..], Type::Write), (&b"b"[..], Type::Readwrite)], "in order, one a range");
            }
            if line == 33 {
                assert_eq!(auth.user("u").unwrap().password, "new");
            }
            if line == 35 {
                assert!(auth.user("u").unwrap().roles.is_empty(), "a deleted role is nobody's");
            }
        }
    }

    #[test]
    fn a_user_without_a_password_never_gets_one() {
        let mut auth = Auth::default();
        let options = Some(UserAddOptions { no_password: true });
        let request = pb::AuthUserAddRequest { name: "u".into(), options, ..Default::default() };
        run(&mut auth, command!(auth_user_add: request)).unwrap();
        run(&mut auth, change_password("u", "new")).unwrap();
        assert_eq!(auth.user("u").unwrap().password, "");
        let request = pb::AuthUserAddRequest { name: "v".into(), hashed_password: "!".into(), ..Default::default() };
        assert_eq!(run(&mut auth, command!(auth_user_add: request)), Err(Error::NoPasswordUser));
    }
}
