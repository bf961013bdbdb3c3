//! Objects in the store: reads, lists, watches and writes of one resource at a time.
//!
//! ```text
//!   request path ──read──▶ Storage ──range──▶ store
//!                ──list, watch──▶ watch cache (or the store's history)
//!                ──commit(Write)──▶ one transaction: conditions on revisions, puts, removals
//! ```
//!
//! - [`write`]: what one transaction holds
//! - [`list`]: at which revision a list is taken, and its pages
//! - [`continue_token`]: where the next page begins
//! - [`leases`]: the leases of events
//! - [`refusal`]: the store's errors as statuses of the API

mod continue_token;
mod leases;
pub mod list;
mod refusal;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;

use crate::actor::Shutdown;
use crate::kube::object::Object;
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::store::client::Client;
use crate::store::error::Error;
use crate::world::{Instant, LeaseId, Revision, World};

use super::codec;
use super::selection::fields_of;
use super::watch_cache::WatchCache;
use super::watch_cache::lister_watcher::ListerWatcher;

pub use self::refusal::refusal;
pub use self::write::Write;

/// How long a read waits for the cache to reach a revision that the store has.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);

/// The objects in the store. Clones share the caches.
#[derive(Clone)]
pub struct Storage {
    world: World,
    store: Client,
    caches: Arc<Mutex<BTreeMap<String, Arc<WatchCache>>>>,
    leases: Arc<leases::EventLeases>,
    shutdown: Shutdown,
}

/// An object as the store has it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub object: Arc<Object>,
    pub revision: Revision,
    /// The store's revision when it was read.
    pub read_at: Revision,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    At(Revision),
    /// A condition did not hold; nothing was changed.
    Conflict,
}

impl Storage {
    pub fn new(world: World, store: Client, shutdown: Shutdown) -> Storage {
        Storage { world, store, caches: Arc::default(), leases: Arc::default(), shutdown }
    }

    /// The cache of a resource, started at its first use.
    pub fn cache(&self, resource: &Arc<Resource>) -> Result<Arc<WatchCache>, Status> {
        let prefix = resource.storage_range(None).ok_or_else(|| not_stored(resource))?;
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let lister_watcher = ListerWatcher {
                store: self.store.clone(),
                prefix: prefix.clone(),
                end: None,
                fields: fields_of(resource),
            };
            Arc::new(WatchCache::start(&self.world, lister_watcher, self.shutdown.clone()))
        };
        Ok(caches.entry(prefix.clone()).or_insert_with(start).clone())
    }

    /// The store's revision now: what was written before this call is at or before it.
    pub async fn revision(&self) -> Result<Revision, Status> {
        let request = pb::RangeRequest { key: "/registry/health".into(), ..Default::default() };
        let response = self.store.range(request).await.map_err(|error| refusal(&error))?;
        Ok(Revision(response.header.map_or(0, |header| header.revision)))
    }

    /// The object as it is now.
    pub async fn read(
        &self,
        resource: &Arc<Resource>,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Stored>, Status> {
        let key = self.key(resource, namespace, name)?;
        let Some((value, revision, read_at)) = self.read_key(&key).await? else { return Ok(None) };
        let short = key.strip_prefix(&resource.storage_range(None).unwrap_or_default()).unwrap_or_default().to_owned();
        let cached = self.cache(resource)?.now().and_then(|view| view.objects.get(&short).cloned());
        if let Some(item) = cached.filter(|item| item.object.meta.resource_version == revision.to_string()) {
            return Ok(Some(Stored { object: item.object.clone(), revision, read_at }));
        }
        let object = codec::decode(&value, revision).map_err(|error| {
            Status::new(
                500,
                "StorageReadError",
                format!("{} {name:?} in the store does not decode: {error}", resource.group_resource()),
            )
        })?;
        Ok(Some(Stored { object: Arc::new(object), revision, read_at }))
    }

    /// The object as it is now; an error if there is none.
    pub async fn get(&self, resource: &Arc<Resource>, namespace: Option<&str>, name: &str) -> Result<Stored, Status> {
        self.read(resource, namespace, name).await?.ok_or_else(|| resource.not_found(name))
    }

    /// A key's value, the revision of its last write, and the store's revision.
    pub async fn read_key(&self, key: &str) -> Result<Option<(Bytes, Revision, Revision)>, Status> {
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        let mut response = self.store.range(request).await.map_err(|error| refusal(&error))?;
        let read_at = Revision(response.header.map_or(0, |header| header.revision));
        Ok(response.kvs.pop().map(|kv| (kv.value, Revision(kv.mod_revision), read_at)))
    }

    /// The keys that begin with `prefix`, without it.
    pub async fn keys_under(&self, prefix: &str) -> Result<Vec<String>, Status> {
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: super::watch_cache::lister_watcher::prefix_end(prefix),
            keys_only: true,
            ..Default::default()
        };
        let response = self.store.range(request).await.map_err(|error| refusal(&error))?;
        let short = |kv: &chorus_proto::mvccpb::KeyValue| {
            std::str::from_utf8(&kv.key).ok()?.strip_prefix(prefix).map(str::to_owned)
        };
        Ok(response.kvs.iter().filter_map(short).collect())
    }

    /// Does all of `write`, or nothing.
    pub async fn commit(&self, write: Write) -> Result<Committed, Status> {
        self.try_commit(write).await.map_err(|error| refusal(&error))
    }

    async fn try_commit(&self, write: Write) -> Result<Committed, Error> {
        let response = self.store.txn(write.into_request()).await?;
        let revision = Revision(response.header.map_or(0, |header| header.revision));
        Ok(if response.succeeded { Committed::At(revision) } else { Committed::Conflict })
    }

    /// A lease for an event that is written now.
    pub async fn event_lease(&self) -> Result<LeaseId, Status> {
        self.leases.current(&self.store, &self.world.clock).await
    }

    /// The key of an object in the store.
    pub fn key(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<String, Status> {
        resource.storage_key(namespace, name).ok_or_else(|| not_stored(resource))
    }

    pub fn store(&self) -> &Client {
        &self.store
    }

    /// The time at which a reader that waits for the cache gives up.
    fn catch_up_deadline(&self) -> Instant {
        self.world.clock.now() + CATCH_UP_MAX
    }
}

fn not_stored(resource: &Resource) -> Status {
    Status::method_not_allowed(&resource.group, &resource.plural, "get")
}
