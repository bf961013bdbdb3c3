//! etcd's Auth service on this member: commands for the log, and reads that see everything before them.

use std::sync::Arc;

use chorus_proto::authpb::Permission;
use chorus_proto::authpb::permission::Type;
use chorus_proto::etcdserverpb as pb;

use super::jwt::SignError;
use super::permit::{self, Access, Author, Identity};
use super::state::{Auth, ROOT};
use super::tokens::Tokens;
use super::{manage, password, sessions};
use crate::store::Error;
use crate::store::command::Answer;
use crate::store::local::Local;
use crate::store::view::View;

/// Pause before the next look for a token whose entry this member has not applied yet.
const TOKEN_POLL: std::time::Duration = std::time::Duration::from_millis(5);

/// Recognising callers and checking their permissions.
impl Local {
    /// Users and roles as of now.
    pub fn auth(&self) -> Auth {
        self.view().state.auth.clone()
    }

    /// The user of a token. When another member has given it out, this one may have to catch up first.
    pub async fn recognise(&self, token: &str) -> Result<Author, Error> {
        let identity = match &self.config().auth.tokens {
            Tokens::Simple { .. } => self.find_session(token).await.map(|user| self.identity(user)),
            Tokens::Jwt(jwt) => jwt.verify(token, self.world().clock.unix()),
            Tokens::None => None,
        };
        identity.map(|identity| Author::User(Arc::new(identity))).ok_or_else(|| {
            tracing::warn!("refused a token: it is unknown to this member, or expired");
            Error::InvalidAuthToken
        })
    }

    async fn find_session(&self, token: &str) -> Option<String> {
        let index = sessions::index_of(token)?;
        let deadline = self.deadline();
        loop {
            // The order matters: what is applied by now could be found before.
            let applied = self.view().state.applied.map_or(0, |applied| applied.index);
            if let Some(user) = self.sessions().find(token) {
                return Some(user);
            }
            let clock = &self.world().clock;
            if applied >= index || clock.now() >= deadline {
                return None;
            }
            clock.sleep(TOKEN_POLL).await;
        }
    }

    /// The user that a certificate names; it need not exist.
    pub fn named(&self, user: String) -> Author {
        Author::User(Arc::new(self.identity(user)))
    }

    fn identity(&self, user: String) -> Identity {
        Identity { user, revision: self.view().state.auth.revision }
    }

    /// Access of the author to every key of a lease, as far as this member knows.
    pub fn permit_lease(&self, access: Access, lease: i64) -> Result<(), Error> {
        permit::lease(&self.view().state, self.author(), access, lease)
    }

    /// Reading each of `keys` by the author.
    pub fn permit_keys(&self, keys: &[bytes::Bytes]) -> Result<(), Error> {
        let view = self.view();
        let auth = &view.state.auth;
        if keys.is_empty() || auth.permit_admin(self.author()).is_ok() {
            return Ok(());
        }
        keys.iter().try_for_each(|key| auth.permit(self.author(), Access::Read, key, b""))
    }
}

/// Reading and changing users and roles.
impl Local {
    /// Reads with everything before this call in it.
    async fn read_auth<T>(&self, read: impl FnOnce(&Auth, &Author) -> Result<T, Error>) -> Result<T, Error> {
        self.barrier().await?;
        read(&self.view().state.auth, self.author())
    }

    /// Proposes a change of users and roles; the header of its answer.
    async fn manage(&self, command: pb::InternalRaftRequest) -> Result<Option<pb::ResponseHeader>, Error> {
        self.propose(command).await?;
        Ok(Some(self.header()))
    }

    pub async fn auth_status(&self, _: pb::AuthStatusRequest) -> Result<pb::AuthStatusResponse, Error> {
        let (enabled, auth_revision) = self.read_auth(|auth, _| Ok((auth.enabled, auth.revision))).await?;
        Ok(pb::AuthStatusResponse { header: Some(self.header()), enabled, auth_revision })
    }

    pub async fn authenticate(&self, request: pb::AuthenticateRequest) -> Result<pb::AuthenticateResponse, Error> {
        let token = self.give_token(request).await?;
        Ok(pb::AuthenticateResponse { header: Some(self.header()), token })
    }

    /// Gives a token to a caller who knows the user's password. The password does not leave this member.
    async fn give_token(&self, request: pb::AuthenticateRequest) -> Result<String, Error> {
        let pb::AuthenticateRequest { name, password } = request;
        self.barrier().await?;
        loop {
            let revision = self.check_password(&name, &password).await?;
            let simple = matches!(self.config().auth.tokens, Tokens::Simple { .. });
            let simple_token = if simple { sessions::letters(&self.world().random) } else { String::new() };
            let request = pb::InternalAuthenticateRequest { name: name.clone(), simple_token, ..Default::default() };
            let command = pb::InternalRaftRequest { authenticate: Some(request), ..Default::default() };
            let Answer::Authenticated { token, revision: now } = self.propose(command).await? else {
                unreachable!("an authentication is answered in kind")
            };
            // If the user changed meanwhile, the password that was checked may be an old one.
            if now != revision {
                continue;
            }
            return match &self.config().auth.tokens {
                Tokens::Simple { .. } => Ok(token),
                Tokens::Jwt(jwt) => jwt.sign(&name, now, self.world().clock.unix()).map_err(Error::from),
                Tokens::None => Err(Error::AuthFailed),
            };
        }
    }

    /// The revision at which `password` is that of `name`.
    async fn check_password(&self, name: &str, password: &str) -> Result<u64, Error> {
        let auth = self.auth();
        if !auth.enabled {
            return Err(Error::AuthNotEnabled);
        }
        let user = auth.user(name).ok_or(Error::AuthFailed)?;
        if manage::is_without_password(user) {
            return Err(Error::NoPasswordUser);
        }
        if !self.passwords().match_hash(password.to_owned(), user.password.clone()).await? {
            tracing::info!(user = name, "invalid password");
            return Err(Error::AuthFailed);
        }
        Ok(auth.revision)
    }

    pub async fn user_add(&self, mut request: pb::AuthUserAddRequest) -> Result<pb::AuthUserAddResponse, Error> {
        let password = std::mem::take(&mut request.password);
        if !request.options.is_some_and(|options| options.no_password) {
            request.hashed_password = self.hash_password(password).await?;
        }
        let command = pb::InternalRaftRequest { auth_user_add: Some(request), ..Default::default() };
        Ok(pb::AuthUserAddResponse { header: self.manage(command).await? })
    }

    pub async fn user_change_password(
        &self,
        mut request: pb::AuthUserChangePasswordRequest,
    ) -> Result<pb::AuthUserChangePasswordResponse, Error> {
        let password = std::mem::take(&mut request.password);
        if !password.is_empty() {
            request.hashed_password = self.hash_password(password).await?;
        }
        let command = pb::InternalRaftRequest { auth_user_change_password: Some(request), ..Default::default() };
        Ok(pb::AuthUserChangePasswordResponse { header: self.manage(command).await? })
    }

    async fn hash_password(&self, password: String) -> Result<String, Error> {
        self.passwords().hash(password, password::cost(self.config().auth.bcrypt_cost)).await
    }

    pub async fn user_get(&self, request: pb::AuthUserGetRequest) -> Result<pb::AuthUserGetResponse, Error> {
        let name = request.name;
        let get = |auth: &Auth, author: &Author| {
            auth.permit_user_get(author, &name)?;
            Ok(auth.user(&name).ok_or(Error::UserNotFound)?.roles.clone())
        };
        let roles = self.read_auth(get).await?;
        Ok(pb::AuthUserGetResponse { header: Some(self.header()), roles })
    }

    pub async fn user_list(&self, _: pb::AuthUserListRequest) -> Result<pb::AuthUserListResponse, Error> {
        let list = |auth: &Auth, author: &Author| {
            auth.permit_admin(author)?;
            Ok(auth.users().map(|(name, _)| name.to_owned()).collect())
        };
        let users = self.read_auth(list).await?;
        Ok(pb::AuthUserListResponse { header: Some(self.header()), users })
    }

    pub async fn role_get(&self, request: pb::AuthRoleGetRequest) -> Result<pb::AuthRoleGetResponse, Error> {
        let name = request.role;
        let get = |auth: &Auth, author: &Author| {
            auth.permit_role_get(author, &name)?;
            let role = auth.role(&name).ok_or(Error::RoleNotFound)?;
            Ok(if name == ROOT { vec![everything()] } else { role.key_permission.clone() })
        };
        let perm = self.read_auth(get).await?;
        Ok(pb::AuthRoleGetResponse { header: Some(self.header()), perm })
    }

    pub async fn role_list(&self, _: pb::AuthRoleListRequest) -> Result<pb::AuthRoleListResponse, Error> {
        let list = |auth: &Auth, author: &Author| {
            auth.permit_admin(author)?;
            Ok(auth.roles().map(|(name, _)| name.to_owned()).collect())
        };
        let roles = self.read_auth(list).await?;
        Ok(pb::AuthRoleListResponse { header: Some(self.header()), roles })
    }
}

/// Those that are proposed as they are.
macro_rules! changes {
    ($($method:ident($request:ident) -> $response:ident as $field:ident;)*) => {
        impl Local {
            $(pub async fn $method(&self, request: pb::$request) -> Result<pb::$response, Error> {
                let command = pb::InternalRaftRequest { $field: Some(request), ..Default::default() };
                Ok(pb::$response { header: self.manage(command).await? })
            })*
        }
    };
}

changes! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse as auth_enable;
    auth_disable(AuthDisableRequest) -> AuthDisableResponse as auth_disable;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse as auth_user_delete;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse as auth_user_grant_role;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse as auth_user_revoke_role;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse as auth_role_add;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse as auth_role_delete;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse
        as auth_role_grant_permission;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse
        as auth_role_revoke_permission;
}

/// How the root role is shown.
fn everything() -> Permission {
    Permission { perm_type: Type::Readwrite as i32, key: "".into(), range_end: "\0".into() }
}

/// Permission to read, by the view that is read.
impl View {
    pub fn permit_range(&self, author: &Author, request: &pb::RangeRequest) -> Result<(), Error> {
        permit::range(&self.state.auth, author, request)
    }

    pub fn permit_txn(&self, author: &Author, request: &pb::TxnRequest) -> Result<(), Error> {
        if !self.state.auth.enabled {
            return Ok(());
        }
        permit::txn(&self.state, author, request)
    }
}

impl From<SignError> for Error {
    fn from(error: SignError) -> Error {
        Error::Other { code: tonic::Code::Unknown as i32, message: error.to_string() }
    }
}
