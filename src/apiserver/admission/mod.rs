//! Admission: what the cluster adds to an object before it is validated, and what it refuses although it is valid.
//!
//! ```text
//!   object ──admit──▶ defaults, validation ──validate──▶ Write: its conditions, and what is written with the object
//!            │ limit_ranger: defaults of LimitRanges      │ namespace_lifecycle: it exists and is not terminating
//!            │ service_account, priority,                 │ limit_ranger: minima and maxima
//!            │ default_toleration_seconds                 │ node_restriction: agents write only what is their own
//!            ▼                                            │ rbac: nobody grants rights that they do not hold
//!                                                         │ resource_quota: counted in the same transaction
//! ```
//!
//! - [`attributes`]: what plugins learn of a write
//! - [`scopes`], [`tally`], [`usage`]: what quotas count; the turns of writes that are charged to the same quotas
//! - [`namespace_lifecycle`], [`limit_ranger`], [`service_account`], [`default_toleration_seconds`], [`priority`],
//!   [`node_restriction`], [`rbac`], [`resource_quota`]: a plugin each; [`pod_security`]: a warning in place of one

mod attributes;
mod default_toleration_seconds;
pub mod limit_ranger;
pub mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
mod priority;
mod rbac;
pub mod resource_quota;
mod scopes;
mod service_account;
mod tally;
mod usage;

use std::sync::Arc;

use serde_json::Value;

use crate::kube::resources::{Resource, Table};
use crate::kube::status::Status;
use crate::world::World;

use super::authorization::Authorizer;
use super::storage::{Storage, Write};
use super::watch_cache::view::View;

pub use attributes::{AdmissionAttributes, Operation};
pub use tally::{Counted, Turn, Turns};

/// The admission plugins and the caches that they read.
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
    /// Adds to the object what the cluster adds. The write that is returned holds the conditions under which nothing
    /// is missing.
    pub async fn admit(&self, attributes: &AdmissionAttributes<'_>, object: &mut Value) -> Result<Write, Status> {
        let mut write = Write::default();
        if attributes.creates_pod() {
            write = self.admit_limits(attributes, object).await?;
            self.admit_service_account(attributes, object).await?;
            priority::admit(attributes, object)?;
            default_toleration_seconds::admit(object, self.toleration_seconds);
        }
        Ok(write)
    }

    /// Refuses the write, or returns the conditions and the further puts of its transaction. `turn` is held until the
    /// write is done.
    pub async fn validate(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &Value,
        turn: &mut Turn,
    ) -> Result<Write, Status> {
        let write = self.validate_namespace(attributes).await?;
        self.restrict_node(attributes, object).await?;
        self.validate_rbac(attributes, object).await?;
        if attributes.sizes_pod() {
            self.validate_limits(attributes, object).await?;
        }
        Ok(write.and(self.charge_quota(attributes, object, turn).await?))
    }

    fn core(&self, plural: &str) -> &Arc<Resource> {
        self.table.get("", "v1", plural).expect("the table of resources has the core kinds")
    }

    /// The prefix of a core kind's keys in the namespace.
    fn range(&self, plural: &str, attributes: &AdmissionAttributes<'_>) -> String {
        self.core(plural).storage_range(attributes.namespace).expect("core kinds are stored")
    }

    /// The cached objects of a core kind; after a conflict, a view that is as new as the store.
    async fn view(&self, plural: &str, attributes: &AdmissionAttributes<'_>) -> Result<Arc<View>, Status> {
        let cache = self.storage.cache(self.core(plural))?;
        if attributes.after_conflict {
            return self.storage.newest(&cache, attributes.deadline).await;
        }
        Ok(cache.any(attributes.deadline).await?)
    }
}
