//! From a client's requests to the hub, and from its outbox back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Addr;
use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::hub::{CloseStream, OpenStream, Request, WatchHub};
use super::outbox::{Outbox, Unread};
use crate::actor::{Gate, Permit, Shutdown};
use crate::store::Error;
use crate::world::World;
use crate::world::failpoints::failpoint;

/// Opens streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    world: World,
    hub: Addr<WatchHub>,
    /// The hub's own, for outboxes.
    unread: Unread,
    gate: Gate,
    next: AtomicU64,
    shutdown: Shutdown,
}

/// Ends the pump when the client drops its responses.
struct Open {
    outbox: Arc<Outbox>,
    ended: Shutdown,
    node: Shutdown,
    _permit: Permit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.ended.begin();
    }
}

impl Streams {
    pub fn new(world: &World, hub: Addr<WatchHub>, unread: Unread, max: usize, shutdown: Shutdown) -> Streams {
        let (world, gate) = (world.clone(), Gate::new(max));
        Streams(Arc::new(Inner { world, hub, unread, gate, next: AtomicU64::new(1), shutdown }))
    }

    /// Serves one stream: requests in, responses out, until either side ends or the node does. A request may come with
    /// a reason to refuse the watch that it asks for.
    pub async fn open(
        &self,
        requests: BoxStream<'static, (pb::WatchRequest, Option<Error>)>,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error> {
        let inner = &*self.0;
        let permit = inner.gate.enter().map_err(|_| Error::TooManyRequests)?;
        let key = inner.next.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::new(Outbox::new(inner.unread.clone()));
        inner.hub.send(OpenStream(key, outbox.clone())).await.map_err(|_| Error::Stopped)?;
        let ended = inner.shutdown.below();
        let open = Open { outbox: outbox.clone(), ended: ended.clone(), node: inner.shutdown.clone(), _permit: permit };
        let hub = inner.hub.clone();
        inner.world.spawner.task(async move {
            tokio::select! {
                () = pump(&hub, key, &outbox, requests) => {}
                () = ended.wait() => {}
            }
            // Without a hub there is no stream left to close.
            let _ = hub.send(CloseStream(key)).await;
            outbox.close();
        });
        Ok(stream::unfold(Some(open), respond).boxed())
    }
}

/// Hands requests to the hub, one after the other, no faster than the client reads.
async fn pump(
    hub: &Addr<WatchHub>,
    key: u64,
    outbox: &Outbox,
    mut requests: BoxStream<'static, (pb::WatchRequest, Option<Error>)>,
) {
    while let Some((request, refusal)) = requests.next().await {
        outbox.drained().await;
        if hub.send(Request(key, request, refusal)).await.is_err() {
            return;
        }
    }
}

/// The next response. When the node ends, an error that says so is the last one.
async fn respond(open: Option<Open>) -> Option<(Result<pb::WatchResponse, Error>, Option<Open>)> {
    let open = open?;
    match open.outbox.next().await {
        Some(Ok(response)) => {
            failpoint!("beforeSendWatchResponse");
            Some((Ok(response), Some(open)))
        }
        Some(Err(error)) => Some((Err(error), None)),
        None if open.node.begun() => Some((Err(Error::Stopped), None)),
        None => None,
    }
}
