//! Authentication: by client certificate, else by service-account token, else as anonymous. A request with an invalid
//! token is refused, not taken for anonymous.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kube::object::{Key, Meta, Object};
use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;
use crate::world::tls::Certificate;
use crate::world::{Clock, Instant};

use super::storage::Storage;
use super::tokens::{Claims, Reference, Tokens};
use super::user::User;

/// The type of Secrets that hold a token of a service account.
const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";
/// Seconds for which a token outlives the deletion of what it is bound to.
const DELETED_LEEWAY: i64 = 60;

/// Finds the user of a request.
pub struct Authenticator {
    pub clock: Clock,
    pub tokens: Arc<Tokens>,
    pub storage: Storage,
    pub table: Arc<Table>,
}

impl Authenticator {
    /// The user behind a request: `certificate` is the verified user of its connection.
    pub async fn authenticate(
        &self,
        certificate: Option<&User>,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Result<User, Status> {
        match (certificate, bearer(headers)) {
            (Some(user), _) => Ok(user.clone()),
            (None, Some(token)) => self.authenticate_token(token, None, deadline).await.map(|(user, _)| user),
            (None, None) if headers.contains_key(AUTHORIZATION) => Err(Status::unauthorized()),
            (None, None) => Ok(User::anonymous()),
        }
    }

    /// The service account behind a token, if it and what the token is bound to still exist, and are not being deleted.
    pub async fn authenticate_token(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        deadline: Instant,
    ) -> Result<(User, Claims), Status> {
        let claims = self.tokens.verify(token, audiences, self.clock.unix()).map_err(|refused| {
            tracing::debug!(%refused, "a bearer token was refused");
            Status::unauthorized()
        })?;
        let private = &claims.private;
        // The node of a pod's token only says where the pod is.
        let node = private.node.as_ref().filter(|_| private.pod.is_none());
        let namespace = Some(private.namespace.as_str());
        let bound = [
            ("serviceaccounts", namespace, Some(&private.serviceaccount)),
            ("pods", namespace, private.pod.as_ref()),
            ("secrets", namespace, private.secret.as_ref()),
            ("nodes", None, node),
        ];
        for (plural, namespace, reference) in bound {
            let Some(reference) = reference else { continue };
            let object = self.find(plural, namespace, reference, deadline).await?.ok_or_else(Status::unauthorized)?;
            if is_gone(&object.meta, self.clock.unix()) || plural == "secrets" && !holds(&object, token) {
                return Err(Status::unauthorized());
            }
        }
        Ok((account(&claims), claims))
    }

    /// The object of this name and UID. One that the cache does not have is read from the store.
    async fn find(
        &self,
        plural: &str,
        namespace: Option<&str>,
        wanted: &Reference,
        deadline: Instant,
    ) -> Result<Option<Arc<Object>>, Status> {
        let resource = self.core(plural);
        let view = self.storage.cache(resource)?.any(deadline).await?;
        let key = Key::new(namespace.unwrap_or_default(), &wanted.name).to_string();
        let is_wanted = |object: &Arc<Object>| object.meta.uid == wanted.uid;
        if let Some(cached) = view.objects.get(&key).map(|item| item.object.clone()).filter(is_wanted) {
            return Ok(Some(cached));
        }
        let stored = self.storage.read(resource, namespace, &wanted.name).await?;
        Ok(stored.map(|stored| stored.object).filter(is_wanted))
    }

    fn core(&self, plural: &str) -> &Arc<Resource> {
        self.table.get("", "v1", plural).expect("the table of resources has the core kinds")
    }
}

/// Was the object to be deleted for a while? What shuts down may still ask something.
fn is_gone(meta: &Meta, now: Duration) -> bool {
    let Some(deleted) = meta.deletion_timestamp.as_deref() else { return false };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    deleted.parse::<Timestamp>().is_ok_and(|deleted| deleted.as_second() < now - DELETED_LEEWAY)
}

/// A Secret that holds a token vouches for that one only. Digests are compared: how long it takes then tells nothing.
fn holds(secret: &Object, token: &str) -> bool {
    let secret = secret.value();
    if secret["type"] != TOKEN_SECRET {
        return true;
    }
    let held = secret["data"]["token"].as_str().unwrap_or_default();
    Sha256::digest(held) == Sha256::digest(STANDARD.encode(token))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn account(claims: &Claims) -> User {
    let private = &claims.private;
    let mut user = User::service_account(&private.namespace, &private.serviceaccount.name);
    user.uid = private.serviceaccount.uid.clone();
    let mut add_extra = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    add_extra("credential-id", format!("JTI={}", claims.jti));
    if let Some(pod) = &private.pod {
        add_extra("pod-name", pod.name.clone());
        add_extra("pod-uid", pod.uid.clone());
    }
    if let Some(node) = &private.node {
        add_extra("node-name", node.name.clone());
        add_extra("node-uid", node.uid.clone());
    }
    user
}

/// The user that a verified client certificate names: CN is the name, each O a group.
pub fn certificate_user(der: &[u8]) -> Option<User> {
    let subject = Certificate::read(der).filter(|certificate| !certificate.common_name.is_empty())?;
    let mut user = User::new(subject.common_name, subject.organizations);
    let fingerprint = format!("X509SHA256={}", super::hex(&Sha256::digest(der)));
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![fingerprint]);
    Some(user)
}

/// `userInfo` as reviews show it.
pub fn user_info(user: &User) -> Value {
    let mut info = serde_json::json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = Value::String(user.uid.clone());
    }
    if !user.extra.is_empty() {
        info["extra"] = serde_json::json!(user.extra);
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_user_and_groups() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let certificate = params.self_signed(&key).unwrap();
        let user = certificate_user(certificate.der()).unwrap();
        assert_eq!(user.name, "system:node:n1");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        assert!(certificate_user(b"no certificate").is_none());
    }

    #[test]
    fn what_is_being_deleted_vouches_for_a_minute_more() {
        let deleted = Meta { deletion_timestamp: Some("2027-01-15T08:00:00Z".to_owned()), ..Meta::default() };
        let at = |seconds: u64| Duration::from_secs(1_800_000_000 + seconds);
        assert_eq!([0_u64, 60, 61].map(|later| is_gone(&deleted, at(later))), [false, false, true]);
        assert!(!is_gone(&Meta::default(), at(1_000)));
    }

    #[test]
    fn a_secret_vouches_for_the_token_that_it_holds() {
        let secret = |kind: &str, token: &str| Object {
            meta: Meta::default(),
            json: serde_json::json!({"type": kind, "data": {"token": STANDARD.encode(token)}}).to_string().into(),
        };
        assert!(holds(&secret(TOKEN_SECRET, "a.b.c"), "a.b.c"));
        assert!(!holds(&secret(TOKEN_SECRET, "new"), "a.b.c"));
        assert!(holds(&secret("Opaque", "other"), "a.b.c"));
    }

    #[test]
    fn bearer_tokens_are_found_whatever_the_case() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.insert(AUTHORIZATION, "bearer  abc".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert(AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }
}
