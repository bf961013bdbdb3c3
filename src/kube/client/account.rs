//! The token of a service account, for a component that runs as one: requested through a client with the right to do
//! so, and renewed in time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Mutex;

use super::Client;
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::{Instant, World};

/// The lifetime that is requested for a token.
const SECONDS: i64 = 3600;

/// Tokens of one service account. Clones share the current one.
#[derive(Clone)]
pub struct AccountToken(Arc<Inner>);

struct Inner {
    world: World,
    /// Has the right to request tokens of the account, and to create the account.
    asks: Client,
    namespace: String,
    name: String,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: String,
    renew_at: Instant,
}

impl AccountToken {
    pub fn new(world: &World, asks: Client, namespace: &str, name: &str) -> AccountToken {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        AccountToken(Arc::new(Inner { world: world.clone(), asks, namespace, name, held: Mutex::default() }))
    }

    /// A token that is not about to expire.
    pub async fn token(&self) -> Result<String, Status> {
        let mut held = self.0.held.lock().await;
        let now = self.0.world.clock.now();
        if let Some(Held { token, .. }) = held.as_ref().filter(|held| now < held.renew_at) {
            return Ok(token.clone());
        }
        let fresh = self.0.ask(now).await?;
        Ok(held.insert(fresh).token.clone())
    }

    /// The current token was refused: the account may have been recreated.
    pub async fn forget(&self) {
        *self.0.held.lock().await = None;
    }
}

impl Inner {
    async fn ask(&self, now: Instant) -> Result<Held, Status> {
        let accounts = self.asks.api::<ServiceAccount>().namespaced(&self.namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let issued = match accounts.create_token(&self.name, &request).await {
            Err(status) if status.is_not_found() => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                match accounts.create(&ServiceAccount { metadata, ..ServiceAccount::default() }).await {
                    Err(status) if !status.is_already_exists() => return Err(status),
                    _ => accounts.create_token(&self.name, &request).await?,
                }
            }
            issued => issued?,
        };
        let status =
            issued.status.ok_or_else(|| Status::new(500, "InternalError", "a TokenRequest without a token"))?;
        let life = status.expiration_timestamp.0.duration_since(time::timestamp(&self.world.clock));
        let life = Duration::try_from(life).unwrap_or_default();
        Ok(Held { token: status.token, renew_at: now + life * 4 / 5 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use futures::stream::BoxStream;
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::client::{Request, Response, Target, Transport, Verb, WatchOptions};
    use crate::kube::object::{Object, WatchEvent};
    use crate::world::MemoryDisk;

    /// Has no service account at first, and numbers the tokens it gives.
    struct Api {
        world: World,
        told: Lock<Vec<String>>,
    }

    #[async_trait::async_trait]
    impl Transport for Api {
        async fn call(&self, request: Request) -> Result<Response, Status> {
            let Verb::Create { body } = request.verb else { panic!("only creations") };
            let mut object: Value = serde_json::from_slice(&body).unwrap();
            let mut told = self.told.lock().unwrap();
            if request.target.subresource.is_none() {
                told.push("account".to_owned());
            } else if told.is_empty() {
                return Err(Status::new(404, "NotFound", "there is no such account"));
            } else {
                let number = told.len();
                told.push(format!("token {number}"));
                let life = Duration::from_secs(SECONDS.unsigned_abs());
                let expires = time::timestamp(&self.world.clock) + jiff::SignedDuration::try_from(life).unwrap();
                object["kind"] = json!("TokenRequest");
                object["status"] = json!({"token": told.last(), "expirationTimestamp": expires.to_string()});
            }
            Ok(Response::Object(Arc::new(Object::from_value(&object).unwrap())))
        }

        async fn watch(
            &self,
            _: Target,
            _: WatchOptions,
        ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
            panic!("only creations")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_until_it_ages_or_is_refused() {
        let world = World::simulated(1, MemoryDisk::default());
        let api = Arc::new(Api { world: world.clone(), told: Lock::default() });
        let token = AccountToken::new(&world, Client::new(api.clone()), "kube-system", "x");
        assert_eq!(token.token().await.unwrap(), "token 1");
        world.clock.sleep(Duration::from_secs(2700)).await;
        assert_eq!(token.token().await.unwrap(), "token 1");
        world.clock.sleep(Duration::from_secs(200)).await;
        assert_eq!(token.token().await.unwrap(), "token 2");
        token.forget().await;
        assert_eq!(token.token().await.unwrap(), "token 3");
        assert_eq!(*api.told.lock().unwrap(), ["account", "token 1", "token 2", "token 3"]);
    }
}
