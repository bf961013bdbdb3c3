//! The identities of a controller: it lists and watches, which fills caches, as the controller manager, whose role
//! reads everything; it does all else as a service account whose role is no wider than the controller's work.

use std::sync::Arc;

use futures::stream::BoxStream;

use crate::kube::client::{Client, Request, Response, Target, Transport, Verb, WatchOptions};
use crate::kube::object::WatchEvent;
use crate::kube::status::Status;

struct Account {
    manager: Client,
    own: Client,
}

/// A client that uses `manager` for caches and `own` for the rest.
pub(super) fn client(manager: Client, own: Client) -> Client {
    Client::new(Arc::new(Account { manager, own }))
}

#[async_trait::async_trait]
impl Transport for Account {
    async fn call(&self, request: Request) -> Result<Response, Status> {
        match request.verb {
            Verb::List(_) => self.manager.call(request).await,
            _ => self.own.call(request).await,
        }
    }

    async fn watch(
        &self,
        target: Target,
        options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        self.manager.watch(target, options).await
    }
}
