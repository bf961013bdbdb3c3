//! Authentication: by client certificate, else by service-account token, else as anonymous. A request with an invalid
//! token is refused, not taken for anonymous.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;
use crate::world::tls::Certificate;
use crate::world::{Clock, Instant};

use super::storage::Storage;
use super::tokens::{Claims, Reference, Tokens};
use super::user::User;

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

    /// The service account behind a token, if it and what the token is bound to still exist.
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
        let namespace = claims.private.namespace.clone();
        let bound = [
            ("serviceaccounts", Some(&claims.private.serviceaccount)),
            ("pods", claims.private.pod.as_ref()),
            ("secrets", claims.private.secret.as_ref()),
        ];
        for (plural, reference) in bound {
            if let Some(reference) = reference
                && !self.exists(plural, &namespace, reference, deadline).await?
            {
                return Err(Status::unauthorized());
            }
        }
        Ok((account(&claims), claims))
    }

    /// Is there still an object of this name and UID? An object that the cache does not have is read from the store.
    async fn exists(
        &self,
        plural: &str,
        namespace: &str,
        wanted: &Reference,
        deadline: Instant,
    ) -> Result<bool, Status> {
        let resource = self.core(plural);
        let view = self.storage.cache(resource)?.any(deadline).await?;
        let cached = view.objects.get(&format!("{namespace}/{}", wanted.name));
        if cached.is_some_and(|item| item.object.meta.uid == wanted.uid) {
            return Ok(true);
        }
        let stored = self.storage.read(resource, Some(namespace), &wanted.name).await?;
        Ok(stored.is_some_and(|stored| stored.object.meta.uid == wanted.uid))
    }

    fn core(&self, plural: &str) -> &Arc<Resource> {
        self.table.get("", "v1", plural).expect("the table of resources has the core kinds")
    }
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
    fn bearer_tokens_are_found_whatever_the_case() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.insert(AUTHORIZATION, "bearer  abc".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert(AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }
}
