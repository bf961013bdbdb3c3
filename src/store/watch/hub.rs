//! The watch hub.
//!
//! Owns every watcher of this member. Gets events through the [`EventFeed`](crate::store::event_feed::EventFeed), and
//! requests from the pumps of [`Streams`](super::Streams), each of which waits for its last request before it sends
//! another. Writes to outboxes, never waits for a client. Its end closes all streams.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, StreamHandler};
use chorus_proto::etcdserverpb as pb;
use futures::stream;

use super::catch_up::{CaughtUp, catch_up};
use super::outbox::{Outbox, Unread};
use super::watchers::{StreamKey, Watchers};
use crate::actor::Shutdown;
use crate::store::Error;
use crate::store::event_feed::EventBatch;
use crate::store::member_state::MemberState;
use crate::store::mvcc::Fault;
use crate::world::failpoints::failpoint;
use crate::world::{Lane, World};

/// Pause before the next scan of the history after one that failed.
const RETRY: Duration = Duration::from_millis(100);

/// How often the hub looks for streams whose clients do not read.
const PATIENCE_TICK: Duration = Duration::from_secs(1);

/// A client opens a stream.
pub struct OpenStream(pub StreamKey, pub Arc<Outbox>);

/// A client asks something of its stream.
pub struct Request(pub StreamKey, pub pb::WatchRequest, pub Option<Error>);

/// A stream has ended.
pub struct CloseStream(pub StreamKey);

/// A scan of the history has ended.
struct Scanned(Result<CaughtUp, Fault>);

impl Message for OpenStream {
    type Result = ();
}

impl Message for Request {
    type Result = ();
}

impl Message for CloseStream {
    type Result = ();
}

impl Message for Scanned {
    type Result = ();
}

/// How the hub runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub progress_interval: Duration,
    pub response_bytes_max: usize,
    pub watches_per_stream_max: usize,
    /// Bytes that all watches of this member take, keys and ranges included.
    pub watch_bytes_max: usize,
}

/// Owns the watchers of this member.
pub struct WatchHub {
    world: World,
    config: Config,
    member: Arc<MemberState>,
    watchers: Watchers,
    unread: Unread,
    scanning: bool,
    shutdown: Shutdown,
}

impl WatchHub {
    pub fn start(
        world: &World,
        config: Config,
        member: Arc<MemberState>,
        unread: Unread,
        shutdown: Shutdown,
    ) -> actix::Addr<WatchHub> {
        // From here on the feed keeps what the hub has yet to see.
        member.feed.open();
        let watchers = Watchers::new(member.view().revision(), config.response_bytes_max, config.watch_bytes_max);
        let world_of_hub = world.clone();
        world.spawner.start(Lane::Store, "store/watch_hub", move |_| WatchHub {
            world: world_of_hub,
            config,
            member,
            watchers,
            unread,
            scanning: false,
            shutdown,
        })
    }

    /// Takes the events up to now from the feed, so that answers to requests come after them.
    fn drain(&mut self) {
        if let Some(batch) = self.member.feed.take_now() {
            self.watchers.notify(batch, &self.member.view());
        }
    }

    fn count(&mut self) {
        let tally = self.watchers.tally();
        let watches = &self.member.metrics.watches;
        watches.streams.set(tally.streams as i64);
        watches.watchers.set(tally.watchers as i64);
        watches.unsynced.set(tally.unsynced as i64);
        watches.events.add(tally.sent);
        watches.unread_bytes.set(self.unread.bytes() as i64);
    }

    /// Starts a scan of the history for unsynced watchers, unless one is under way.
    fn scan(&mut self, context: &mut Context<Self>) {
        if self.scanning {
            return;
        }
        let unsynced = self.watchers.next_unsynced();
        if unsynced.is_empty() {
            return;
        }
        self.scanning = true;
        let (hub, spawner, member) = (context.address(), self.world.spawner.clone(), self.member.clone());
        self.world.spawner.task(async move {
            let scan = move || {
                failpoint!("beforeSyncWatchers");
                catch_up(&member.view(), unsynced)
            };
            let scanned = spawner.blocking(scan).await;
            hub.do_send(Scanned(scanned));
        });
    }

    /// Ends streams whose clients do not read, when what waits for them leaves too little room for others.
    fn end_stalled(&mut self, _: &mut Context<Self>) {
        let ended = self.watchers.end_stalled(self.unread.is_short());
        if ended > 0 {
            tracing::warn!(
                ended,
                "ended watch streams whose clients do not read: too many bytes of events wait for them"
            );
            self.member.metrics.watches.ended.add(ended as u64);
            self.count();
        }
    }

    fn tick_progress(&mut self, context: &mut Context<Self>) {
        self.drain();
        self.watchers.tick_progress();
        self.schedule_progress(context);
    }

    /// The ticks of the members drift apart, so that progress answers do not go to all clients at once.
    fn schedule_progress(&self, context: &mut Context<Self>) {
        let interval = self.config.progress_interval.max(Duration::from_millis(100));
        let jitter = self.world.random.duration(Duration::ZERO..interval / 10 + Duration::from_millis(1));
        context.run_later(interval + jitter, Self::tick_progress);
    }
}

impl Actor for WatchHub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let feed = self.member.clone();
        context.add_stream(stream::unfold(feed, async |member| Some((member.feed.take().await, member))));
        let unread = self.unread.clone();
        context.add_stream(stream::unfold(unread, async |unread| {
            unread.room().await;
            Some((RoomAgain, unread))
        }));
        context.run_interval(PATIENCE_TICK, Self::end_stalled);
        let end = self.shutdown.wait();
        context.add_stream(stream::once(async move {
            end.await;
            End
        }));
        self.schedule_progress(context);
    }
}

impl StreamHandler<EventBatch> for WatchHub {
    fn handle(&mut self, batch: EventBatch, context: &mut Context<Self>) {
        self.watchers.notify(batch, &self.member.view());
        self.scan(context);
        self.count();
    }
}

/// Some stream has room again.
struct RoomAgain;

impl StreamHandler<RoomAgain> for WatchHub {
    fn handle(&mut self, _: RoomAgain, context: &mut Context<Self>) {
        failpoint!("beforeMoveVictims");
        self.scan(context);
    }
}

/// The node ends.
struct End;

impl StreamHandler<End> for WatchHub {
    fn handle(&mut self, _: End, context: &mut Context<Self>) {
        self.watchers.close_all();
        context.stop();
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<OpenStream> for WatchHub {
    type Result = ();

    fn handle(&mut self, OpenStream(stream, outbox): OpenStream, _: &mut Context<Self>) {
        self.watchers.open(stream, outbox);
        self.count();
    }
}

impl Handler<Request> for WatchHub {
    type Result = ();

    fn handle(&mut self, Request(stream, request, refusal): Request, context: &mut Context<Self>) {
        self.drain();
        let current = self.member.view().revision();
        self.watchers.request(stream, request, refusal, current, self.config.watches_per_stream_max);
        self.scan(context);
        self.count();
    }
}

impl Handler<CloseStream> for WatchHub {
    type Result = ();

    fn handle(&mut self, CloseStream(stream): CloseStream, _: &mut Context<Self>) {
        self.watchers.close(stream);
        self.count();
    }
}

impl Handler<Scanned> for WatchHub {
    type Result = ();

    fn handle(&mut self, Scanned(scanned): Scanned, context: &mut Context<Self>) {
        self.scanning = false;
        match scanned {
            Ok(caught) => {
                self.watchers.caught_up(caught);
                self.scan(context);
                self.count();
            }
            // Watchers stay where they are.
            Err(fault) => {
                tracing::warn!(%fault, "failed to read the history for watchers; trying again");
                context.run_later(RETRY, |hub, context| hub.scan(context));
            }
        }
    }
}
