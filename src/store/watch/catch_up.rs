//! Reading the history for unsynced watchers: one scan for many of them.

use std::collections::BTreeMap;

use chorus_proto::mvccpb::Event;

use super::groups::{Groups, WatcherKey};
use super::interest::{Interest, previous};
use crate::store::mvcc::{Change, Fault, Rev, Values, write::event};
use crate::store::view::View;

/// Changes that one scan looks at, and events that it gathers, before it lets others have their turn.
const CHANGES_MAX: usize = 20_000;
const EVENTS_MAX: usize = 10_000;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A watcher that reads the history.
#[derive(Clone, Debug)]
pub struct UnsyncedWatcher {
    pub key: WatcherKey,
    /// The first revision whose events it has not seen.
    pub next: i64,
    pub interest: Interest,
}

/// What a scan of the history gives.
#[derive(Debug, PartialEq)]
pub struct CaughtUp {
    pub missed: Vec<(WatcherKey, Missed)>,
    /// All revisions up to this one were looked at.
    pub upto: i64,
    /// The newest revision there was.
    pub revision: i64,
}

/// What one watcher has missed.
#[derive(Debug, PartialEq)]
pub enum Missed {
    Events(Vec<Event>),
    /// The next event may be gone; this is the compaction's revision.
    Compacted(i64),
}

/// Looks at the history from the first revision that any of `unsynced` is missing.
pub fn catch_up(view: &View, unsynced: Vec<UnsyncedWatcher>) -> Result<CaughtUp, Fault> {
    let compacted = view.state.index.compacted;
    let (gone, unsynced): (Vec<UnsyncedWatcher>, Vec<UnsyncedWatcher>) =
        unsynced.into_iter().partition(|watcher| watcher.next < compacted);
    let (events, upto) = scan(view, &unsynced)?;
    let gone = gone.into_iter().map(|watcher| (watcher.key, Missed::Compacted(compacted)));
    let missed = events.into_iter().map(|(key, events)| (key, Missed::Events(events)));
    Ok(CaughtUp { missed: gone.chain(missed).collect(), upto, revision: view.revision() })
}

type Gathered = BTreeMap<WatcherKey, Vec<Event>>;

fn scan(view: &View, unsynced: &[UnsyncedWatcher]) -> Result<(Gathered, i64), Fault> {
    let mut groups = Groups::default();
    let by_key: BTreeMap<WatcherKey, &UnsyncedWatcher> =
        unsynced.iter().map(|watcher| (watcher.key, watcher)).collect();
    unsynced.iter().for_each(|watcher| groups.insert(&watcher.interest.range, watcher.key));
    let mut gathered: Gathered = unsynced.iter().map(|watcher| (watcher.key, Vec::new())).collect();
    let first = unsynced.iter().map(|watcher| watcher.next).min().unwrap_or(i64::MAX);
    let (mut looked, mut events, mut bytes, mut last) = (0, 0, 0, first - 1);
    for (at, change) in view.state.index.changes_from(Rev { main: first, sub: 0 }) {
        let full = looked >= CHANGES_MAX || events >= EVENTS_MAX || bytes >= BYTES_MAX;
        if at.main != last && full {
            return Ok((gathered, last));
        }
        (looked, last) = (looked + 1, at.main);
        let mut watchers = Vec::new();
        groups.matching(&change.key.to_bytes(), |key| watchers.push(key));
        watchers.retain(|key| by_key[key].next <= at.main);
        if watchers.is_empty() {
            continue;
        }
        let event = read(view, at, change)?;
        bytes += event.kv.as_ref().map_or(0, |kv| kv.value.len());
        let mut prev = None;
        for key in watchers {
            let prev = || prev.get_or_insert_with(|| previous(view, at)).clone();
            if let Some(event) = by_key[&key].interest.see(&event, prev) {
                gathered.get_mut(&key).expect("every watcher has a list").push(event);
                events += 1;
            }
        }
    }
    Ok((gathered, view.revision()))
}

fn read(view: &View, at: Rev, change: &Change) -> Result<Event, Fault> {
    Ok(event(view.segments.key_value(change.slot)?, at.main))
}
