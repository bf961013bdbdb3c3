//! All streams and watchers of this member. Pure: it takes events and writes responses to outboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chorus_proto::mvccpb::Event;

use super::catch_up::{CaughtUp, Missed, UnsyncedWatcher};
use super::groups::{Groups, WatcherKey};
use super::interest::{Interest, previous};
use super::outbox::Outbox;
use super::response;
use crate::store::Error;
use crate::store::event_feed::EventBatch;
use crate::store::ledger::RevisionEvents;
use crate::store::mvcc::Rev;
use crate::store::view::View;
use crate::world::planted::planted;

/// A stream may be ended once its client has not read for this many ticks.
const STALLED_TICKS_MAX: u32 = 10;

/// Watchers that catch up together.
const CATCH_UP_WATCHERS_MAX: usize = 512;

/// Names a stream among all of this member.
pub type StreamKey = u64;

/// One stream of one client.
#[derive(Debug)]
pub struct Stream {
    pub outbox: Arc<Outbox>,
    pub watches: BTreeMap<i64, WatcherKey>,
    pub next_id: i64,
    /// The highest revision in a header on this stream.
    header_revision: i64,
    /// How far its client had read at the last tick, and for how many ticks it has read nothing.
    read: (u64, u32),
}

impl Stream {
    pub fn new(outbox: Arc<Outbox>) -> Stream {
        Stream { outbox, watches: BTreeMap::new(), next_id: 0, header_revision: 0, read: (0, 0) }
    }

    pub fn send(&mut self, response: chorus_proto::etcdserverpb::WatchResponse) {
        self.header_revision = self.header_revision.max(response.header.as_ref().map_or(0, |header| header.revision));
        self.outbox.push(response);
    }
}

/// One watch.
#[derive(Debug)]
pub struct Watcher {
    pub stream: StreamKey,
    pub id: i64,
    pub interest: Interest,
    pub fragment: bool,
    pub progress_notify: bool,
    /// The start revision of the request; 0 stands for the next one.
    pub start: i64,
    /// Events below this revision were sent, or are not wanted.
    pub next: i64,
    /// It gets events as they happen.
    pub synced: bool,
    /// Something was sent since the last progress tick.
    pub active: bool,
}

impl Watcher {
    /// Everything up to `revision` that it wants was sent. A watcher that starts later has seen nothing.
    fn has_seen(&self, revision: i64) -> bool {
        self.synced && self.next <= revision + 1 && self.start <= revision
    }
}

/// All streams and watchers.
#[derive(Debug)]
pub struct Watchers {
    /// Synced watchers saw everything up to here.
    pub revision: i64,
    pub streams: BTreeMap<StreamKey, Stream>,
    /// Streams whose clients asked for progress; each gets its answer once all of its watches are synced.
    pub progress_wanted: BTreeSet<StreamKey>,
    watchers: BTreeMap<WatcherKey, Watcher>,
    next_key: WatcherKey,
    synced: Groups,
    unsynced: BTreeSet<WatcherKey>,
    /// Where the last round of catching up ended, so that all watchers get their turn.
    turn: WatcherKey,
    response_bytes_max: usize,
    /// What all watchers take in memory.
    bytes: usize,
    bytes_max: usize,
    /// Events sent since they were last counted.
    sent: u64,
}

/// How many there are.
#[derive(Debug, PartialEq, Eq)]
pub struct Tally {
    pub streams: usize,
    pub watchers: usize,
    pub unsynced: usize,
    /// Events sent since the tally before.
    pub sent: u64,
}

impl Watchers {
    pub fn new(revision: i64, response_bytes_max: usize, bytes_max: usize) -> Watchers {
        Watchers {
            revision,
            streams: BTreeMap::new(),
            progress_wanted: BTreeSet::new(),
            watchers: BTreeMap::new(),
            next_key: 1,
            synced: Groups::default(),
            unsynced: BTreeSet::new(),
            turn: 0,
            response_bytes_max,
            bytes: 0,
            bytes_max,
            sent: 0,
        }
    }

    pub fn open(&mut self, stream: StreamKey, outbox: Arc<Outbox>) {
        self.streams.insert(stream, Stream::new(outbox));
    }

    pub fn close(&mut self, stream: StreamKey) {
        if let Some(stream) = self.streams.remove(&stream) {
            stream.watches.into_values().for_each(|key| drop(self.remove(key)));
            stream.outbox.close();
        }
    }

    /// If room is `short`, ends the streams whose clients have not read for a while, and says how many.
    pub fn end_stalled(&mut self, short: bool) -> usize {
        let mut stalled = Vec::new();
        for (key, stream) in &mut self.streams {
            let Some(progress) = stream.outbox.progress() else {
                stream.read = (0, 0);
                continue;
            };
            stream.read = if stream.read.0 == progress { (progress, stream.read.1 + 1) } else { (progress, 0) };
            if short && stream.read.1 >= STALLED_TICKS_MAX {
                stalled.push(*key);
            }
        }
        for key in &stalled {
            self.streams[key].outbox.fail(Error::TooManyRequests);
            self.close(*key);
        }
        stalled.len()
    }

    pub fn close_all(&mut self) {
        let streams: Vec<_> = self.streams.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.close(stream));
    }

    /// Adds a watcher and gives its key, which the caller adds to the watcher's stream.
    pub fn insert(&mut self, watcher: Watcher) -> WatcherKey {
        let key = self.next_key;
        self.next_key += 1;
        if watcher.synced {
            self.synced.insert(&watcher.interest.range, key);
        } else {
            self.unsynced.insert(key);
        }
        self.bytes += watcher.interest.bytes();
        self.watchers.insert(key, watcher);
        key
    }

    /// Whether there is memory for another watcher with this interest.
    pub fn has_room(&self, interest: &Interest) -> bool {
        self.bytes + interest.bytes() <= self.bytes_max
    }

    pub fn remove(&mut self, key: WatcherKey) -> Option<Watcher> {
        let watcher = self.watchers.remove(&key)?;
        self.bytes -= watcher.interest.bytes();
        self.unsynced.remove(&key);
        self.synced.remove(&watcher.interest.range, key);
        Some(watcher)
    }

    /// Sends the events of `batch` to the synced watchers. `view` holds at least those revisions.
    pub fn notify(&mut self, batch: EventBatch, view: &View) {
        if batch.lost {
            self.unsync_all();
        }
        let mut seen: BTreeMap<WatcherKey, Vec<Event>> = BTreeMap::new();
        for applied in &batch.revisions {
            // Watchers read the revisions before a loss from the history.
            if applied.revision > self.revision {
                self.see(applied, view, &mut seen);
                self.revision = applied.revision;
            }
        }
        for (key, mut events) in seen {
            if planted!("watch-reorders") {
                events.reverse();
            }
            self.send_live(key, events);
        }
        self.revision = if batch.lost { view.revision() } else { self.revision };
        self.answer_progress();
    }

    fn see(&self, applied: &RevisionEvents, view: &View, seen: &mut BTreeMap<WatcherKey, Vec<Event>>) {
        for (event, sub) in applied.events.iter().zip(0..) {
            let kv = event.kv.as_ref().expect("every event has a key");
            let mut prev = None;
            self.synced.matching(&kv.key, |key| {
                let watcher = &self.watchers[&key];
                if applied.revision < watcher.next {
                    return;
                }
                let at = Rev { main: applied.revision, sub };
                let prev = || prev.get_or_insert_with(|| previous(view, at)).clone();
                if let Some(event) = watcher.interest.see(event, prev) {
                    seen.entry(key).or_default().push(event);
                }
            });
        }
    }

    /// Sends live events to a synced watcher, which becomes unsynced when its stream has no room.
    fn send_live(&mut self, key: WatcherKey, events: Vec<Event>) {
        let watcher = self.watchers.get_mut(&key).expect("a group names watchers that exist");
        let stream = self.streams.get_mut(&watcher.stream).expect("a watcher's stream exists");
        for events in response::split(events) {
            if !stream.outbox.has_room() {
                watcher.next = events.first().map_or(watcher.next, response::revision);
                watcher.synced = false;
                self.synced.remove(&watcher.interest.range, key);
                self.unsynced.insert(key);
                return;
            }
            let revision = events.last().map_or(0, response::revision);
            self.sent += events.len() as u64;
            send(stream, watcher, revision, events, self.response_bytes_max);
        }
    }

    /// Every synced watcher reads the history, from what it saw last.
    fn unsync_all(&mut self) {
        for (key, watcher) in self.watchers.iter_mut().filter(|(_, watcher)| watcher.synced) {
            watcher.synced = false;
            watcher.next = watcher.next.max(self.revision + 1);
            self.synced.remove(&watcher.interest.range, *key);
            self.unsynced.insert(*key);
        }
    }

    pub fn tally(&mut self) -> Tally {
        Tally {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            unsynced: self.unsynced.len(),
            sent: std::mem::take(&mut self.sent),
        }
    }

    /// The next unsynced watchers that should catch up, and whose streams have room.
    pub fn next_unsynced(&mut self) -> Vec<UnsyncedWatcher> {
        let order: Vec<WatcherKey> =
            self.unsynced.range(self.turn + 1..).chain(self.unsynced.range(..=self.turn)).copied().collect();
        let mut unsynced = Vec::new();
        for key in order {
            let watcher = &self.watchers[&key];
            if self.streams[&watcher.stream].outbox.has_room() {
                let next = watcher.next - i64::from(planted!("watch-repeats"));
                unsynced.push(UnsyncedWatcher { key, next, interest: watcher.interest.clone() });
                self.turn = key;
            }
            if unsynced.len() == CATCH_UP_WATCHERS_MAX {
                break;
            }
        }
        unsynced
    }

    /// Sends what was missed. Watchers that have seen everything are synced from here on.
    pub fn caught_up(&mut self, caught_up: CaughtUp) {
        for (key, missed) in caught_up.missed {
            match missed {
                Missed::Compacted(revision) => self.cancel_compacted(key, revision),
                Missed::Events(events) => self.catch_up(key, events, caught_up.upto, caught_up.revision),
            }
        }
        self.answer_progress();
    }

    fn catch_up(&mut self, key: WatcherKey, events: Vec<Event>, upto: i64, revision: i64) {
        let Some(watcher) = self.watchers.get_mut(&key).filter(|watcher| !watcher.synced) else { return };
        let stream = self.streams.get_mut(&watcher.stream).expect("a watcher's stream exists");
        for events in response::split(events) {
            if !stream.outbox.has_room() {
                watcher.next = events.first().map_or(watcher.next, response::revision);
                return;
            }
            self.sent += events.len() as u64;
            send(stream, watcher, revision, events, self.response_bytes_max);
        }
        watcher.next = watcher.next.max(upto + 1 + i64::from(planted!("watch-drops")));
        if watcher.next > self.revision {
            watcher.synced = true;
            self.unsynced.remove(&key);
            self.synced.insert(&watcher.interest.range, key);
        }
    }

    fn cancel_compacted(&mut self, key: WatcherKey, compact_revision: i64) {
        let Some(watcher) = self.remove(key) else { return };
        let stream = self.streams.get_mut(&watcher.stream).expect("a watcher's stream exists");
        stream.watches.remove(&watcher.id);
        stream.send(response::compacted(compact_revision, watcher.id));
    }

    /// Sends progress to idle synced watchers that asked for it.
    pub fn tick_progress(&mut self) {
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.progress_notify) {
            let stream = self.streams.get_mut(&watcher.stream).expect("a watcher's stream exists");
            let idle = !std::mem::take(&mut watcher.active);
            let caught_up = watcher.has_seen(self.revision) && stream.header_revision <= self.revision;
            if idle && caught_up && stream.outbox.has_room() {
                stream.send(response::empty(self.revision, watcher.id));
            }
        }
    }

    /// Answers those streams that asked for progress and whose watchers are all synced.
    pub fn answer_progress(&mut self) {
        let Watchers { revision, streams, watchers, progress_wanted, .. } = self;
        progress_wanted.retain(|stream| {
            let Some(stream) = streams.get_mut(stream) else { return false };
            let caught_up = |key| Watcher::has_seen(&watchers[key], *revision);
            let answered = stream.header_revision <= *revision
                && (planted!("progress-early") || stream.watches.values().all(caught_up));
            if answered {
                stream.send(response::empty(*revision, -1));
            }
            !answered
        });
    }
}

fn send(stream: &mut Stream, watcher: &mut Watcher, revision: i64, events: Vec<Event>, bytes_max: usize) {
    watcher.next = events.last().map_or(watcher.next, |event| response::revision(event) + 1);
    watcher.active = true;
    let whole = chorus_proto::etcdserverpb::WatchResponse { events, ..response::empty(revision, watcher.id) };
    if watcher.fragment {
        response::fragment(whole, bytes_max).into_iter().for_each(|piece| stream.send(piece));
    } else {
        stream.send(whole);
    }
}
