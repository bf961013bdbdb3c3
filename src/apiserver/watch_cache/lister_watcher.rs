//! Lists and watches of one prefix of the store, decoded: the pages of a list, and watch responses as changes.

use std::sync::Arc;

use bytes::Bytes;
use chorus_proto::{etcdserverpb as pb, mvccpb};
use futures::StreamExt;
use futures::stream::BoxStream;
use imbl::OrdMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::apiserver::codec;
use crate::kube::object::Object;
use crate::store::client::Client;
use crate::store::error::Error;
use crate::world::Revision;

use super::view::{Change, Item, View};

/// Reads the values of an object's selectable fields.
pub type Fields = Arc<dyn Fn(&Object) -> Vec<String> + Send + Sync>;

/// Lists and watches the objects of one resource in the store: upstream's ListerWatcher.
#[derive(Clone)]
pub struct ListerWatcher {
    pub store: Client,
    /// With the slash at its end.
    pub prefix: String,
    /// A longer prefix at which lists end: that of one namespace.
    pub end: Option<String>,
    pub fields: Fields,
}

/// Objects asked of the store at once.
const PAGE_KEYS: i64 = 500;

/// One watch stream of the store with one watch on it.
pub struct StoreWatch {
    lister_watcher: ListerWatcher,
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: BoxStream<'static, Result<pb::WatchResponse, Error>>,
}

/// The events of one watch response of the store.
pub struct Batch {
    pub events: Vec<StoreEvent>,
    /// Every event up to here has arrived.
    pub revision: Option<Revision>,
}

/// One event of the store.
pub enum StoreEvent {
    Change(Change),
    /// A deletion whose last state the store no longer has.
    Removed {
        key: String,
        revision: Revision,
    },
}

/// The first key after all that begin with `prefix`.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    let last = end.last_mut().expect("a prefix is not empty");
    *last += 1; // a prefix ends in '/', never in 0xff
    end.into()
}

impl ListerWatcher {
    /// All objects, at one revision.
    pub async fn list(&self) -> Result<View, Error> {
        let mut objects = OrdMap::new();
        let mut from = Bytes::copy_from_slice(self.prefix.as_bytes());
        let mut revision = Revision(0);
        loop {
            let page = self.page(from, revision, PAGE_KEYS).await?;
            objects.extend(page.items);
            revision = page.revision;
            match page.next {
                Some(next) => from = next,
                None => return Ok(View::listed(revision, objects)),
            }
        }
    }

    /// Up to `limit` keys from the key `from` on, as of `revision`; of the newest if that is 0.
    pub async fn page(&self, from: Bytes, revision: Revision, limit: i64) -> Result<Page, Error> {
        let range_end = prefix_end(self.end.as_deref().unwrap_or(&self.prefix));
        let request = pb::RangeRequest { key: from, range_end, limit, revision: revision.0, ..Default::default() };
        let response = self.store.range(request).await?;
        let now = response.header.as_ref().map_or(Revision(0), |header| Revision(header.revision));
        Ok(Page {
            revision: if revision.0 > 0 { revision } else { now },
            next: response.kvs.last().filter(|_| response.more).map(|last| after(&last.key)),
            remaining: response.count.saturating_sub(response.kvs.len() as i64),
            items: response.kvs.iter().filter_map(|kv| self.decode(kv, Revision(kv.mod_revision))).collect(),
        })
    }

    fn change(&self, event: &mvccpb::Event) -> Option<StoreEvent> {
        let kv = event.kv.as_ref()?;
        let revision = Revision(kv.mod_revision);
        let before = event.prev_kv.as_ref();
        let previous = before.and_then(|kv| self.decode(kv, Revision(kv.mod_revision))).map(|(_, item)| item);
        if event.r#type() != mvccpb::event::EventType::Delete {
            let (key, item) = self.decode(kv, revision)?;
            return Some(StoreEvent::Change(Change::new(key, revision, item, previous, false)));
        }
        Some(match before.and_then(|kv| self.decode(kv, revision)) {
            Some((key, last)) => StoreEvent::Change(Change::new(key, revision, last, previous, true)),
            None => StoreEvent::Removed { key: self.short(&kv.key)?, revision },
        })
    }

    /// An object that does not decode is logged and left out: one bad record must not hide the others.
    fn decode(&self, kv: &mvccpb::KeyValue, revision: Revision) -> Option<(String, Arc<Item>)> {
        match codec::decode(&kv.value, revision) {
            Ok(object) => Some((self.short(&kv.key)?, self.item(object))),
            Err(error) => {
                tracing::error!(key = %kv.key.escape_ascii(), %error, "a stored object does not decode");
                None
            }
        }
    }

    pub fn item(&self, object: Object) -> Arc<Item> {
        let fields = (self.fields)(&object);
        Arc::new(Item { object: Arc::new(object), fields })
    }

    /// What follows the prefix in a key.
    fn short(&self, key: &[u8]) -> Option<String> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix).map(str::to_owned)
    }
}

/// A part of a list.
pub struct Page {
    pub items: Vec<(String, Arc<Item>)>,
    pub revision: Revision,
    /// Where the next page begins.
    pub next: Option<Bytes>,
    /// Keys after this page.
    pub remaining: i64,
}

/// The first key after `key`.
pub fn after(key: &[u8]) -> Bytes {
    let mut next = key.to_vec();
    next.push(0);
    next.into()
}

impl StoreWatch {
    /// Watches for everything after `revision`.
    pub async fn after(lister_watcher: &ListerWatcher, revision: Revision) -> Result<StoreWatch, Error> {
        let (requests, receiver) = mpsc::channel(4);
        let create = pb::WatchCreateRequest {
            key: Bytes::copy_from_slice(lister_watcher.prefix.as_bytes()),
            range_end: prefix_end(&lister_watcher.prefix),
            start_revision: revision.next().0,
            progress_notify: true,
            prev_kv: true,
            ..Default::default()
        };
        let first = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        requests.try_send(first).expect("the channel is new and has room");
        let responses = lister_watcher.store.watch(ReceiverStream::new(receiver).boxed()).await?;
        Ok(StoreWatch { lister_watcher: lister_watcher.clone(), requests, responses })
    }

    /// Asks how far the store is. The answer comes as an empty batch; asking again before it came is harmless.
    pub fn ask_progress(&self) {
        let request = pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        let _ = self.requests.try_send(pb::WatchRequest { request_union: Some(request) });
    }

    /// The next batch. [`Error::Compacted`]: the history before it is gone; every other error: watch again from the
    /// last revision seen.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        let response = self.responses.next().await.unwrap_or(Err(Error::Stopped))?;
        if response.compact_revision > 0 {
            return Err(Error::Compacted);
        }
        if response.canceled {
            return Err(Error::Stopped);
        }
        let reached = match response.events.last().and_then(|event| event.kv.as_ref()) {
            Some(kv) => Some(kv.mod_revision),
            None if response.created => None,
            None => response.header.as_ref().map(|header| header.revision),
        };
        let events = response.events.iter().filter_map(|event| self.lister_watcher.change(event)).collect();
        Ok(Batch { events, revision: reached.filter(|_| !response.fragment).map(Revision) })
    }
}
