//! `serviceaccounts/token`: a token for one account, bound to what it is used in.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::creation;
use crate::apiserver::request::{Api, Outcome, RequestInfo, timestamp};
use crate::apiserver::tokens::{Claims, PrivateClaims, Reference};
use crate::kube::client::Response;
use crate::kube::object::Object;
use crate::kube::status::Status;

const SECONDS_DEFAULT: u64 = 3600;
const SECONDS_MIN: u64 = 600;
const SECONDS_MAX: u64 = 1 << 32;
/// Agents ask for this on behalf of pods. Old client libraries read the file once only, so that such tokens live for
/// a year, and say when they ought to have been renewed.
const SECONDS_OF_AGENTS: u64 = 3607;
const SECONDS_EXTENDED: u64 = 365 * 24 * 3600;

impl Api {
    pub(super) async fn issue_token(&self, info: &RequestInfo<'_>, mut request: Value) -> Result<Outcome, Status> {
        let (namespace, name) = (info.namespace().unwrap_or_default(), info.name()?);
        let account = self.storage.get(info.resource, Some(namespace), name).await?.object;
        let longest = self.admission.restrict_token(&creation(info, name, None), &request).await?;
        let asked = seconds(&request)?;
        let seconds = longest.map_or(asked, |longest| longest.max(SECONDS_MIN).min(asked));
        let own = self.tokens.issuer().to_owned();
        let audiences: Vec<String> = serde_json::from_value(request["spec"]["audiences"].clone()).unwrap_or_default();
        let audiences = if audiences.is_empty() { vec![own.clone()] } else { audiences };
        let mut private = PrivateClaims {
            namespace: namespace.to_owned(),
            serviceaccount: Reference { name: name.to_owned(), uid: account.meta.uid.clone() },
            ..PrivateClaims::default()
        };
        self.bind_token(info, &mut request, &mut private, name).await?;
        let now = self.world.clock.unix().as_secs();
        let extended =
            asked == SECONDS_OF_AGENTS && seconds == asked && private.pod.is_some() && audiences == [own.clone()];
        private.warnafter = extended.then_some(now + seconds);
        let claims = Claims {
            aud: audiences.clone(),
            exp: now + if extended { SECONDS_EXTENDED } else { seconds },
            iat: now,
            iss: own,
            jti: self.world.random.uuid().to_string(),
            private,
            nbf: now,
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let token = self.tokens.sign(&claims).map_err(Status::internal_error)?;
        request["apiVersion"] = json!("authentication.k8s.io/v1");
        request["kind"] = json!("TokenRequest");
        request["metadata"] =
            json!({"name": name, "namespace": namespace, "creationTimestamp": timestamp(Duration::from_secs(now))});
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(seconds);
        request["status"] =
            json!({"token": token, "expirationTimestamp": timestamp(Duration::from_secs(now + seconds))});
        let object = Object::from_value(&request).map_err(Status::internal_error)?;
        let mut outcome = Outcome { created: true, ..Outcome::of(Response::Object(Arc::new(object))) };
        if seconds < asked {
            let why = format!("requested expiration of {asked} seconds shortened to {seconds} seconds");
            outcome.warnings.push(why);
        }
        Ok(outcome)
    }

    /// Binds the token to the pod or secret that the request names, which has to exist.
    async fn bind_token(
        &self,
        info: &RequestInfo<'_>,
        request: &mut Value,
        private: &mut PrivateClaims,
        account: &str,
    ) -> Result<(), Status> {
        let Some(bound) = request.pointer_mut("/spec/boundObjectRef").filter(|bound| !bound.is_null()) else {
            return Ok(());
        };
        let name = bound["name"].as_str().unwrap_or_default().to_owned();
        let plural = match bound["kind"].as_str() {
            Some("Pod") => "pods",
            Some("Secret") => "secrets",
            other => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {:?}",
                    other.unwrap_or_default()
                )));
            }
        };
        let resource = self.table.get("", "v1", plural).ok_or_else(Status::no_such_resource)?;
        let object = self.storage.get(resource, info.namespace(), &name).await?.object;
        let wanted = bound["uid"].as_str().filter(|uid| !uid.is_empty());
        if let Some(wanted) = wanted.filter(|uid| *uid != object.meta.uid) {
            return Err(Status::uid_mismatch("", plural, &name, wanted, &object.meta.uid));
        }
        bound["uid"] = json!(object.meta.uid);
        let reference = Some(Reference { name, uid: object.meta.uid.clone() });
        if plural == "secrets" {
            private.secret = reference;
            return Ok(());
        }
        let pod = object.value();
        if pod["spec"]["serviceAccountName"].as_str() != Some(account) {
            let why = format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            );
            return Err(Status::bad_request(why));
        }
        private.pod = reference;
        if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
            private.node = Some(self.node_reference(node).await?);
        }
        Ok(())
    }

    async fn node_reference(&self, name: &str) -> Result<Reference, Status> {
        let nodes = self.table.get("", "v1", "nodes").ok_or_else(Status::no_such_resource)?;
        let node = self.storage.read(nodes, None, name).await?;
        let uid = node.map(|node| node.object.meta.uid.clone()).unwrap_or_default();
        Ok(Reference { name: name.to_owned(), uid })
    }
}

fn seconds(request: &Value) -> Result<u64, Status> {
    let wanted = match &request["spec"]["expirationSeconds"] {
        Value::Null => SECONDS_DEFAULT,
        value => value.as_u64().unwrap_or(0),
    };
    let refuse = |why: &str| {
        let text = format!("spec.expirationSeconds: Invalid value: {wanted}: {why}");
        Err(Status::invalid_with("authentication.k8s.io", "TokenRequest", "", &text, Vec::new()))
    };
    match wanted {
        ..SECONDS_MIN => refuse("may not specify a duration less than 10 minutes"),
        SECONDS_MIN..=SECONDS_MAX => Ok(wanted),
        _ => refuse("may not specify a duration larger than 2^32 seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_token_lives() {
        let asks = |value: Value| seconds(&json!({"spec": {"expirationSeconds": value}}));
        assert_eq!(asks(Value::Null), Ok(3600));
        assert_eq!(asks(json!(600)), Ok(600));
        assert_eq!(asks(json!(599)).unwrap_err().code, 422);
        assert_eq!(asks(json!(-5)).unwrap_err().code, 422);
        assert_eq!(asks(json!(SECONDS_MAX + 1)).unwrap_err().code, 422);
    }
}
