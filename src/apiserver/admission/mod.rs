//! Admission: what the cluster adds to an object before it is validated, and what it refuses although it is valid.
//!
//! ```text
//!   object ──mutate──▶ defaults, validation ──review──▶ Write: what must hold, and what is written with it
//!            │ limits: defaults of LimitRanges            │ namespaces: the namespace is there and not ending
//!            │ service_account, tolerations, priority     │ limits: minima and maxima
//!            ▼                                            │ node_restriction: agents keep to their own
//!                                                         │ rbac: nobody grants what they do not hold
//!                                                         │ quota: usage is counted in the same transaction
//! ```
//!
//! - [`scopes`], [`tally`], [`usage`]: what quotas count, and in whose turn
//! - [`namespaces`], [`limits`], [`service_account`], [`tolerations`], [`priority`], [`node_restriction`], [`rbac`],
//!   [`quota`]: a plugin each; [`pod_security`]: a warning in place of one

pub mod limits;
pub mod namespaces;
mod node_restriction;
mod pod_security;
mod priority;
pub mod quota;
mod rbac;
mod scopes;
mod service_account;
mod tally;
mod tolerations;
mod usage;

use std::sync::Arc;

use serde_json::Value;

use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;
use crate::world::{Instant, World};

use super::authorization::Authorizer;
use super::storage::{Storage, Write};
use super::user::User;
use super::watch_cache::view::View;

pub use tally::{Counted, Turn, Turns};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// A write on its way.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub user: &'a User,
    pub operation: Operation,
    pub resource: &'a Arc<Resource>,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// Empty while a generated name is not decided.
    pub name: &'a str,
    /// The state before; of a deletion, what is deleted.
    pub old: Option<&'a Value>,
    /// The caches turned out to be behind: read them at the store's revision.
    pub again: bool,
    pub deadline: Instant,
}

impl Attempt<'_> {
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// The resources of a pod's containers are decided: it is created or resized.
    fn sizes_pod(&self) -> bool {
        let resizes = self.operation == Operation::Update && self.subresource == Some("resize");
        self.creates_pod() || (resizes && self.is("", "pods"))
    }

    /// A pod is created.
    fn creates_pod(&self) -> bool {
        self.operation == Operation::Create && self.subresource.is_none() && self.is("", "pods")
    }

    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource.group, &self.resource.plural, self.name, why)
    }
}

/// The admission plugins and the caches that they ask.
pub struct Admission {
    pub world: World,
    pub storage: Storage,
    pub table: Arc<Table>,
    pub authorizer: Arc<Authorizer>,
    pub turns: Turns,
    /// How long pods stay on a node that is not ready, unless they say so themselves.
    pub toleration_seconds: u64,
}

impl Admission {
    /// Adds what the cluster adds, and says what has to hold for that to be all.
    pub async fn mutate(&self, attempt: &Attempt<'_>, object: &mut Value) -> Result<Write, Status> {
        let mut write = Write::default();
        if attempt.creates_pod() {
            write = self.apply_limit_defaults(attempt, object).await?;
            self.give_service_account(attempt, object).await?;
            priority::resolve(attempt, object)?;
            tolerations::add_default(object, self.toleration_seconds);
        }
        Ok(write)
    }

    /// Refuses, or says what has to hold and to be written together with the object. `turn` is held until the write is
    /// done.
    pub async fn review(&self, attempt: &Attempt<'_>, object: &Value, turn: &mut Turn) -> Result<Write, Status> {
        let write = self.review_namespace(attempt).await?;
        self.restrict_node(attempt, object).await?;
        self.review_rbac(attempt, object).await?;
        if attempt.sizes_pod() {
            self.review_limits(attempt, object).await?;
        }
        Ok(write.and(self.charge_quota(attempt, object, turn).await?))
    }

    fn core(&self, plural: &str) -> &Arc<Resource> {
        self.table.get("", "v1", plural).expect("the table of resources has the core kinds")
    }

    /// The prefix of a core kind's keys in the namespace.
    fn range(&self, plural: &str, attempt: &Attempt<'_>) -> String {
        self.core(plural).storage_range(attempt.namespace).expect("core kinds are stored")
    }

    /// What the cache knows of a core kind; after a conflict, all that the store knows.
    async fn view(&self, plural: &str, attempt: &Attempt<'_>) -> Result<Arc<View>, Status> {
        let cache = self.storage.cache(self.core(plural))?;
        if attempt.again {
            return self.storage.newest(&cache, attempt.deadline).await;
        }
        Ok(cache.any(attempt.deadline).await?)
    }
}

/// The elements of `object[part][list]`, to be changed. What is missing stays missing: indexing for change would put
/// a null there.
fn items_mut<'a>(object: &'a mut Value, part: &str, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.get_mut(part).and_then(|part| part.get_mut(list));
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

/// The elements of an array, or none.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
