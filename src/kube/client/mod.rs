//! The client through which every component reaches a frontend: one interface, two transports, in-process messages
//! (no HTTP, no protobuf) and HTTPS. Components do not know which one they use.
//!
//! ```text
//!   component ──▶ Api<Pod> (typed) ──▶ Client ──▶ dyn Transport ─┬─ in-process: the frontend of this node
//!                                                               └─ HTTPS: any frontend, another one if it does not answer
//! ```
//!
//! - [`typed`]: `client.api::<Pod>().namespaced("default").get("www")` over `k8s-openapi`'s types
//! - [`remote`]: HTTPS to any of several frontends; [`wire`]: how requests and answers look there
//! - [`account`]: tokens of service accounts, requested and renewed
//! - [`fake`]: an API in memory, for tests

pub mod account;
#[cfg(test)]
pub mod fake;
pub mod remote;
pub mod typed;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

use super::object::{Object, WatchEvent};
use super::status::Status;

pub use account::AccountToken;
pub use remote::{Identity, Remote, RemoteConfig, RemoteError};
pub use typed::{Api, Event, Kind, TypedList};

/// What a request is about: `/{api|apis/group}/{version}/namespaces/{namespace}/{resource}/{name}/{subresource}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// The plural: `pods`.
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// A verb with its body. Bodies are whole objects as compact JSON.
#[derive(Clone, Debug)]
pub enum Verb {
    Get,
    List(ListOptions),
    Create { body: Bytes },
    Update { body: Bytes },
    Patch { kind: PatchType, body: Bytes, force: bool },
    Delete(DeleteOptions),
    DeleteCollection(ListOptions, DeleteOptions),
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub limit: Option<u64>,
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
    pub allow_bookmarks: bool,
    pub send_initial_events: bool,
    pub timeout_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    /// `Foreground`, `Background` or `Orphan`.
    pub propagation_policy: Option<String>,
    pub precondition_uid: Option<String>,
    pub precondition_resource_version: Option<String>,
}

/// Options of writes.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    /// `Strict`, `Warn` or `Ignore`; `None` means `Warn`.
    pub field_validation: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub target: Target,
    pub verb: Verb,
    pub write: WriteOptions,
}

#[derive(Clone, Debug)]
pub enum Response {
    Object(Arc<Object>),
    List(List),
    /// A deletion that left nothing to show, a `Status` of success.
    Done,
}

#[derive(Clone, Debug, Default)]
pub struct List {
    pub items: Vec<Arc<Object>>,
    /// The revision at which the list was taken; a watch from it misses nothing.
    pub resource_version: String,
    pub continue_token: Option<String>,
    pub remaining_item_count: Option<u64>,
}

/// A path to a frontend, with the identity of the component that uses it. Every call has a deadline.
#[async_trait::async_trait]
pub trait Transport: Send + Sync + 'static {
    async fn call(&self, request: Request) -> Result<Response, Status>;

    /// Events in order, from `resource_version` on. An error item ends the stream; `is_expired` asks for a new list.
    async fn watch(
        &self,
        target: Target,
        options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status>;
}

/// A client of the API. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<dyn Transport>);

impl Client {
    pub fn new(transport: Arc<dyn Transport>) -> Client {
        Client(transport)
    }

    /// Typed access to the objects of kind `K`: of all namespaces, until [`Api::namespaced`] narrows it.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::new(self.clone())
    }
}

impl std::ops::Deref for Client {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
