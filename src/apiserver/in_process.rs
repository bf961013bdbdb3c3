//! The path from a component of the same process: the same steps, no HTTP, no serialization.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::kube::client::{Request, Response, Target, Transport, WatchOptions};
use crate::kube::object::WatchEvent;
use crate::kube::status::Status;
use crate::world::panics;

use super::request::{self, Api};
use super::user::User;
use super::watch_cache::stream::Event;
use super::watch_cache::view::EventType;

pub(super) struct InProcess {
    pub api: Arc<Api>,
    pub user: User,
}

#[async_trait::async_trait]
impl Transport for InProcess {
    async fn call(&self, request: Request) -> Result<Response, Status> {
        let resource = request.target.resource.clone();
        let answered = panics::catch_panics(self.api.call(&self.user, request)).await;
        let outcome = answered.unwrap_or_else(|panic| Err(request::panicked(&resource, &panic)));
        outcome.map(|outcome| outcome.response)
    }

    async fn watch(
        &self,
        target: Target,
        options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let resource = target.resource.clone();
        let opened = panics::catch_panics(self.api.watch(&self.user, target, options)).await;
        let watched = opened.unwrap_or_else(|panic| Err(request::panicked(&resource, &panic)))?;
        Ok(watched.events.map(|event| event.map(watch_event)).boxed())
    }
}

fn watch_event(event: Event) -> WatchEvent {
    match event {
        Event::Initial(object) => WatchEvent::Added(object),
        Event::Change(event_type, change) => {
            let object = change.item.object.clone();
            match event_type {
                EventType::Added => WatchEvent::Added(object),
                EventType::Modified => WatchEvent::Modified(object),
                EventType::Deleted => WatchEvent::Deleted(object),
            }
        }
        Event::Bookmark { revision, initial_events_end } => {
            WatchEvent::Bookmark { resource_version: revision.to_string(), initial_events_end }
        }
    }
}
