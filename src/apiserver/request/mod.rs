//! The request path after authentication: the same for requests over HTTP and for those of components in the same
//! process.
//!
//! ```text
//!   Request ─▶ Gate ─▶ RequestInfo ─▶ authorization ─┬▶ get, list, watch ──────────────────────▶ Storage, watch cache
//!                                                    └▶ decode ─▶ default ─▶ mutating admission
//!                                                              ─▶ validate ─▶ validating admission ─▶ commit
//! ```
//!
//! - [`body`]: bodies as objects, and the checks that they fit the path
//! - [`read`]: get, list, watch
//! - [`create`], [`update`], [`delete`]: the writes

mod body;
mod create;
mod delete;
mod read;
mod update;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::actor::{Budget, Gate, Shutdown};
use crate::kube::client::{ListOptions, Request, Response, Target, Verb, WatchOptions, WriteOptions};
use crate::kube::names::path_segment;
use crate::kube::resources::{Resource, Table};
use crate::kube::schema::Schemas;
use crate::kube::status::Status;
use crate::world::panics::Panicked;
use crate::world::{Instant, World};

use super::admission::{Admission, Counted};
use super::authentication::Authenticator;
use super::authorization::{Attributes, Authorizer};
use super::config::Config;
use super::metrics::Metrics;
use super::recounts::Recounts;
use super::selection::SelectionPredicate;
use super::services::Addresses;
use super::storage::Storage;
use super::store_check::StoreCheck;
use super::tokens::Tokens;
use super::user::User;

pub use body::{no_apply, timestamp};
pub use create::{showing, shown};
pub use read::Watched;
pub use update::{UpdatedObjectInfo, should_delete};

/// A request other than a watch is answered within this time.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Requests in flight, at most; further ones are refused with 429 and `Retry-After`.
pub const READS_MAX: usize = 400;
pub const WRITES_MAX: usize = 200;
/// Bytes of the bodies of all requests that are being read or answered.
pub const BODIES_BYTES_MAX: u64 = 64 << 20;

/// The answer to a request that panicked; the log has the rest.
pub fn panicked(what: &str, panic: &Panicked) -> Status {
    tracing::error!(request = what, %panic, "a request panicked");
    Status::new(500, "InternalError", "This request caused apiserver to panic. Look in the logs for details.")
}

/// One frontend's request path.
pub struct Api {
    pub world: World,
    pub config: Config,
    pub table: Arc<Table>,
    pub storage: Storage,
    pub tokens: Arc<Tokens>,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub admission: Admission,
    pub addresses: Addresses,
    pub schemas: Arc<Schemas>,
    pub metrics: Metrics,
    pub recounts: Recounts,
    pub store_check: StoreCheck,
    pub reads: Gate,
    pub writes: Gate,
    pub bodies: Budget,
    /// The built-in objects are in the store.
    pub ready: watch::Receiver<bool>,
    pub shutdown: Shutdown,
}

/// The outcome of a request.
#[derive(Debug)]
pub struct Outcome {
    pub response: Response,
    /// 201 instead of 200.
    pub created: bool,
    /// Sent as `Warning` headers.
    pub warnings: Vec<String>,
    /// The answer to a deletion that left no object.
    pub status: Option<Status>,
}

impl Outcome {
    pub fn of(response: Response) -> Outcome {
        Outcome { response, created: false, warnings: Vec::new(), status: None }
    }

    fn created(object: Arc<crate::kube::object::Object>, warnings: Vec<String>) -> Outcome {
        Outcome { created: true, warnings, ..Outcome::of(Response::Object(object)) }
    }

    pub fn done(status: Status) -> Outcome {
        Outcome { status: Some(status), ..Outcome::of(Response::Done) }
    }
}

/// What a request says before its body: all that it is authorized by.
pub struct RequestLine<'a> {
    pub user: &'a User,
    pub target: &'a Target,
    pub verb: &'static str,
    /// How a list or the deletion of a collection selects.
    pub list: Option<&'a ListOptions>,
    pub deadline: Instant,
}

/// What is known of a request: who sends it, which resource and object it is about, and the options of a write.
pub struct RequestInfo<'a> {
    pub user: &'a User,
    pub target: &'a Target,
    pub resource: &'a Arc<Resource>,
    pub write: &'a WriteOptions,
    pub deadline: Instant,
}

impl RequestInfo<'_> {
    pub fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref().filter(|_| self.resource.is_namespaced())
    }

    /// The name in the path.
    pub fn name(&self) -> Result<&str, Status> {
        let named = self.target.name.as_deref().filter(|name| !name.is_empty());
        named.ok_or_else(|| Status::bad_request("the name of the object is missing in the path"))
    }
}

impl Api {
    /// Answers a request of `user`.
    pub async fn call(&self, user: &User, request: Request) -> Result<Outcome, Status> {
        let Request { target, verb, write } = request;
        let list = match &verb {
            Verb::List(options) | Verb::DeleteCollection(options, _) => Some(options.clone()),
            _ => None,
        };
        let deadline = self.world.clock.now() + DEADLINE;
        let line = RequestLine { user, target: &target, verb: verb_name(&verb), list: list.as_ref(), deadline };
        self.call_reading(line, async { Ok((verb, write)) }).await
    }

    /// Answers a request whose verb is read by `body`, once the request is one of those in flight and authorized: what
    /// nobody may ask for takes no memory.
    pub async fn call_reading(
        &self,
        line: RequestLine<'_>,
        body: impl Future<Output = Result<(Verb, WriteOptions), Status>>,
    ) -> Result<Outcome, Status> {
        let gate = if matches!(line.verb, "get" | "list") { &self.reads } else { &self.writes };
        let _permit = gate.enter().map_err(|_| Status::too_many_requests(1))?;
        self.until(line.deadline, self.answer(&line, body)).await
    }

    /// Opens a watch for `user`.
    pub async fn watch(&self, user: &User, target: Target, options: WatchOptions) -> Result<Watched, Status> {
        let deadline = self.world.clock.now() + DEADLINE;
        let opened = async {
            self.wait_until_ready(deadline).await?;
            let resource = self.resource(&target)?;
            let selection = SelectionPredicate::parse(
                resource,
                options.label_selector.as_deref(),
                options.field_selector.as_deref(),
            )?;
            self.authorize_selection(user, "watch", &target, &selection, deadline).await?;
            let write = WriteOptions::default();
            let info = RequestInfo { user, target: &target, resource, write: &write, deadline };
            self.open_watch(&info, selection, &options).await
        };
        self.until(deadline, opened).await
    }

    /// The outcome within the deadline.
    pub async fn until<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        match self.world.clock.timeout_at(deadline, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Status::timeout("request did not complete within the allotted timeout")),
        }
    }

    async fn answer(
        &self,
        line: &RequestLine<'_>,
        body: impl Future<Output = Result<(Verb, WriteOptions), Status>>,
    ) -> Result<Outcome, Status> {
        let RequestLine { user, target, deadline, .. } = *line;
        self.wait_until_ready(deadline).await?;
        let resource = self.resource(target)?;
        let selection = match line.list {
            Some(options) => SelectionPredicate::parse(
                resource,
                options.label_selector.as_deref(),
                options.field_selector.as_deref(),
            )?,
            None => SelectionPredicate::default(),
        };
        self.authorize_selection(user, line.verb, target, &selection, deadline).await?;
        check_verb(resource, target, line.verb)?;
        let (verb, write) = body.await?;
        let info = RequestInfo { user, target, resource, write: &write, deadline };
        if let Some(subresource) = target.subresource.as_deref().filter(|sub| !shows_object(resource, sub)) {
            return self.subresource(&info, subresource, verb).await;
        }
        match verb {
            Verb::Get => self.get(&info).await,
            Verb::List(options) => self.list(&info, &selection, &options).await,
            Verb::Create { body } => {
                let outcome = self.create(&info, &body).await?;
                self.after_create(&info).await;
                Ok(outcome)
            }
            Verb::Update { body } => self.replace(&info, &body).await,
            Verb::Patch { kind, body, .. } => self.patch(&info, kind, &body).await,
            Verb::Delete(options) => self.delete(&info, &options).await,
            Verb::DeleteCollection(list, options) => self.delete_collection(&info, &selection, &list, &options).await,
        }
    }

    /// Waits until the built-in objects are in the store: before that no user has any rights.
    pub async fn wait_until_ready(&self, deadline: Instant) -> Result<(), Status> {
        let mut ready = self.ready.clone();
        let waited = self.world.clock.timeout_at(deadline, ready.wait_for(|ready| *ready)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::service_unavailable("the store does not answer yet").retry_after(1)),
        }
    }

    /// The resource of a path. A path with a namespace for a resource that has none, or without one for an object that
    /// needs one, is not found: the request is authorized by its path, so the path must say what is then done.
    pub fn resource(&self, target: &Target) -> Result<&Arc<Resource>, Status> {
        let found = self.table.get(&target.group, &target.version, &target.resource);
        let resource = found.ok_or_else(Status::no_such_resource)?;
        let misplaced = match target.namespace {
            Some(_) => !resource.is_namespaced(),
            None => resource.is_namespaced() && target.name.is_some(),
        };
        let known = target.subresource.as_deref().is_none_or(|name| resource.subresource(name).is_some());
        if misplaced || !known {
            return Err(Status::no_such_resource());
        }
        check_segment("Namespace", target.namespace.as_deref())?;
        check_segment("Name", target.name.as_deref())?;
        Ok(resource)
    }

    pub async fn authorize(&self, user: &User, verb: &str, target: &Target, deadline: Instant) -> Result<(), Status> {
        self.authorize_selection(user, verb, target, &SelectionPredicate::default(), deadline).await
    }

    /// May the user do this to what is selected?
    async fn authorize_selection(
        &self,
        user: &User,
        verb: &str,
        target: &Target,
        selection: &SelectionPredicate,
        deadline: Instant,
    ) -> Result<(), Status> {
        let name = target.name.as_deref().or(selection.name());
        let attributes = Attributes::Resource {
            verb,
            group: &target.group,
            resource: &target.resource,
            subresource: target.subresource.as_deref(),
            // A request for a namespace itself is authorized inside that namespace.
            namespace: target.namespace.as_deref().or_else(|| {
                target.name.as_deref().filter(|_| target.group.is_empty() && target.resource == "namespaces")
            }),
            name,
            field_selector: Some(selection.field_selector()),
        };
        self.authorizer.check(user, &attributes, deadline).await
    }

    /// Has the quotas of a namespace recounted after a write that may make its objects use less, or that changed a
    /// quota.
    fn after_change(&self, info: &RequestInfo<'_>, old: &Value, new: &Value) {
        let Some(namespace) = info.namespace() else { return };
        let counted = |object| Counted::of(info.resource, object);
        if new.is_null() || info.resource.plural == "resourcequotas" || counted(old) != counted(new) {
            self.recounts.add(namespace.to_owned());
        }
    }

    /// Counts what a new quota limits before its creation is answered.
    async fn after_create(&self, info: &RequestInfo<'_>) {
        let is_quota = info.resource.group.is_empty() && info.resource.plural == "resourcequotas";
        let Some(namespace) = info.namespace().filter(|_| is_quota && !info.write.dry_run) else { return };
        if let Err(status) = self.admission.count_new_quota(namespace, info.deadline).await {
            tracing::debug!(namespace, %status, "a new quota could not be counted at once");
            self.recounts.add(namespace.to_owned());
        }
    }
}

fn check_verb(resource: &Resource, target: &Target, verb: &str) -> Result<(), Status> {
    // Only lists and watches go across all namespaces.
    let everywhere = resource.is_namespaced() && target.namespace.is_none();
    let allowed = match target.subresource.as_deref() {
        None => resource.allows(verb) && (!everywhere || verb == "list"),
        Some(name) => resource.subresource(name).is_some_and(|sub| sub.verbs.iter().any(|known| known == verb)),
    };
    if allowed {
        return Ok(());
    }
    Err(Status::method_not_allowed(&resource.group, &resource.plural, verb))
}

/// A name in a path is one segment of the object's key.
fn check_segment(what: &str, text: Option<&str>) -> Result<(), Status> {
    let Some(text) = text else { return Ok(()) };
    match path_segment(text, false).as_slice() {
        [] => Ok(()),
        broken => Err(Status::bad_request(format!("{what} parameter invalid: {text:?}: {}", broken.join(";")))),
    }
}

/// A subresource that shows the object itself.
fn shows_object(resource: &Resource, name: &str) -> bool {
    resource.subresource(name).is_some_and(|sub| sub.response_kind.is_none())
        && !matches!((resource.plural.as_str(), name), ("pods", "log") | ("namespaces", "finalize"))
}

/// The verb as authorization and discovery name it.
pub fn verb_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::List(_) => "list",
        Verb::Create { .. } => "create",
        Verb::Update { .. } => "update",
        Verb::Patch { .. } => "patch",
        Verb::Delete(_) => "delete",
        Verb::DeleteCollection(..) => "deletecollection",
    }
}
