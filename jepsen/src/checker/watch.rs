//! What a watcher may rely on, property by property: filter, ordered, unique, atomic, bookmarkable, resumable,
//! reliable, prev_kv, is_create.
//!
//! The yardstick is the list of all changes, as a watch from the first revision shows it once the cluster is whole
//! again; where members differ on it, that alone is a violation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Anomaly, Report, Verdict};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub revision: u64,
    pub key: String,
    /// `None` for a deletion.
    pub value: Option<String>,
    /// Whether the key did not exist before.
    pub create: bool,
    /// What it held before; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<String>,
}

/// One answer on a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The revision in its header.
    pub revision: u64,
    pub changes: Vec<Change>,
    /// It says that all changes up to its revision were delivered.
    pub progress: bool,
    /// The watch is over, because its start was compacted.
    pub compacted: bool,
}

/// One watch from its creation to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    pub client: u64,
    pub node: String,
    /// `[from, to)`; without `to` the single key.
    pub from: String,
    pub to: Option<String>,
    /// The first revision asked for; 0 for those to come.
    pub start: u64,
    pub without_puts: bool,
    pub without_deletes: bool,
    pub previous: bool,
    pub responses: Vec<Response>,
}

impl Watch {
    fn matches(&self, change: &Change) -> bool {
        let inside = match &self.to {
            None => change.key == self.from,
            Some(to) => change.key >= self.from && change.key < *to,
        };
        inside && if change.value.is_some() { !self.without_puts } else { !self.without_deletes }
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.responses.iter().flat_map(|response| &response.changes)
    }
}

/// All changes, in order, and the revision up to which the history was compacted when they were collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub changes: Vec<Change>,
    /// Changes up to here may be missing.
    pub compacted: u64,
}

pub fn check(watches: &[Watch], log: &Log) -> Report {
    let mut anomalies = Vec::new();
    let replay = Replay::of(log);
    for watch in watches {
        let mut found = |name: &str, what: String| {
            let what = format!(
                "client {} on {}, watching {:?} from {}: {what}",
                watch.client, watch.node, watch.from, watch.start
            );
            anomalies.push(Anomaly { name: name.to_owned(), what, events: Vec::new(), because: Vec::new() });
        };
        filter(watch, &mut found);
        ordered(watch, &mut found);
        unique(watch, &mut found);
        atomic(watch, &mut found);
        bookmarkable(watch, &mut found);
        resumable(watch, log, &mut found);
        reliable(watch, log, &mut found);
        replayed(watch, &replay, log, &mut found);
    }
    let seen: usize = watches.iter().map(|watch| watch.changes().count()).sum();
    let report = Report::of("watch", anomalies).note(format!(
        "{} watches saw {seen} changes; {} were made",
        watches.len(),
        log.changes.len()
    ));
    if seen == 0 { Report { verdict: report.verdict.and(Verdict::Unknown), ..report } } else { report }
}

type Found<'a> = dyn FnMut(&str, String) + 'a;

fn filter(watch: &Watch, found: &mut Found<'_>) {
    for change in watch.changes().filter(|change| !watch.matches(change)) {
        found("filter", format!("{:?} at {} was not asked for", change.key, change.revision));
    }
}

fn ordered(watch: &Watch, found: &mut Found<'_>) {
    let revisions: Vec<u64> = watch.changes().map(|change| change.revision).collect();
    for pair in revisions.windows(2).filter(|pair| pair[0] > pair[1]) {
        found("ordered", format!("revision {} came after {}", pair[1], pair[0]));
    }
}

fn unique(watch: &Watch, found: &mut Found<'_>) {
    let mut seen = BTreeSet::new();
    for change in watch.changes().filter(|change| !seen.insert((change.revision, change.key.as_str()))) {
        found("unique", format!("{:?} at {} came twice", change.key, change.revision));
    }
}

fn atomic(watch: &Watch, found: &mut Found<'_>) {
    let ends = |response: &Response| Some((response.changes.first()?.revision, response.changes.last()?.revision));
    let ends: Vec<(u64, u64)> = watch.responses.iter().filter_map(ends).collect();
    for pair in ends.windows(2).filter(|pair| pair[0].1 == pair[1].0) {
        found("atomic", format!("revision {} was torn over two answers", pair[1].0));
    }
}

fn bookmarkable(watch: &Watch, found: &mut Found<'_>) {
    let (mut bookmark, mut delivered) = (0, 0);
    for response in &watch.responses {
        for change in &response.changes {
            if change.revision <= bookmark {
                found("bookmarkable", format!("{} came after the bookmark {bookmark}", change.revision));
            }
            delivered = delivered.max(change.revision);
        }
        if response.progress {
            if response.revision < bookmark {
                found("bookmarkable", format!("the bookmark went back from {bookmark} to {}", response.revision));
            }
            if response.revision < delivered {
                found(
                    "bookmarkable",
                    format!("the bookmark {} is below {delivered}, which came before", response.revision),
                );
            }
            bookmark = bookmark.max(response.revision);
        }
    }
}

/// The first matching change at or after `from`, where the log has everything from there on.
fn first_from<'a>(watch: &'a Watch, log: &'a Log, from: u64) -> Option<&'a Change> {
    log.changes.iter().find(|change| change.revision >= from && watch.matches(change))
}

fn resumable(watch: &Watch, log: &Log, found: &mut Found<'_>) {
    if watch.start == 0 || watch.start <= log.compacted {
        return;
    }
    let (Some(first), Some(expected)) = (watch.changes().next(), first_from(watch, log, watch.start)) else { return };
    if (first.revision, &first.key) != (expected.revision, &expected.key) {
        found(
            "resumable",
            format!(
                "the first change was {:?} at {}, not {:?} at {}",
                first.key, first.revision, expected.key, expected.revision
            ),
        );
    }
}

fn reliable(watch: &Watch, log: &Log, found: &mut Found<'_>) {
    let bookmarked =
        watch.responses.iter().filter(|response| response.progress).map(|response| response.revision).max();
    let Some(to) = watch.changes().map(|change| change.revision).chain(bookmarked).max() else { return };
    let first_bookmark =
        watch.responses.first().filter(|response| response.progress).map(|response| response.revision + 1);
    let from = match watch.start {
        0 => first_bookmark.or(watch.changes().next().map(|change| change.revision)).unwrap_or(u64::MAX),
        start => start,
    };
    if from <= log.compacted {
        return;
    }
    let expected = log.changes.iter().filter(|change| (from..=to).contains(&change.revision) && watch.matches(change));
    let expected: BTreeSet<(u64, &str)> = expected.map(|change| (change.revision, change.key.as_str())).collect();
    let seen: BTreeSet<(u64, &str)> = watch.changes().map(|change| (change.revision, change.key.as_str())).collect();
    if let Some((revision, key)) = expected.difference(&seen).next() {
        found("reliable", format!("{key:?} at {revision} was never delivered, though the watch went on to {to}"));
    }
    if let Some((revision, key)) = seen.difference(&expected).next() {
        found("reliable", format!("{key:?} at {revision} was delivered and never happened"));
    }
}

/// What each key held before each of its changes.
struct Replay<'a>(BTreeMap<(&'a str, u64), (Option<&'a str>, &'a Change)>);

impl<'a> Replay<'a> {
    fn of(log: &'a Log) -> Replay<'a> {
        let mut held: BTreeMap<&str, &str> = BTreeMap::new();
        let mut before = BTreeMap::new();
        for change in &log.changes {
            before.insert((change.key.as_str(), change.revision), (held.get(change.key.as_str()).copied(), change));
            match &change.value {
                Some(value) => held.insert(&change.key, value),
                None => held.remove(change.key.as_str()),
            };
        }
        Replay(before)
    }
}

fn replayed(watch: &Watch, replay: &Replay<'_>, log: &Log, found: &mut Found<'_>) {
    // Without the beginning nothing is known of what keys held.
    if log.compacted > 0 {
        return;
    }
    for change in watch.changes() {
        let Some((before, made)) = replay.0.get(&(change.key.as_str(), change.revision)) else { continue };
        let Change { key, revision, .. } = change;
        if change.value != made.value {
            found("value", format!("{key:?} at {revision} came as {:?}, made as {:?}", change.value, made.value));
        }
        if change.value.is_some() && change.create != before.is_none() {
            found(
                "is_create",
                format!("{key:?} at {revision} says create={}, before it held {before:?}", change.create),
            );
        }
        if watch.previous && change.previous.as_deref() != *before {
            found(
                "prev_kv",
                format!("{key:?} at {revision} came with previous {:?}, it was {before:?}", change.previous),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, key: &str, value: Option<&str>, create: bool, previous: Option<&str>) -> Change {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Change { revision, key: key.to_owned(), value: own(value), create, previous: own(previous) }
    }

    fn log() -> Log {
        let changes = vec![
            change(2, "a", Some("1"), true, None),
            change(3, "a", Some("2"), false, Some("1")),
            change(3, "b", Some("1"), true, None),
            change(4, "a", None, false, Some("2")),
            change(5, "b", Some("2"), false, Some("1")),
        ];
        Log { changes, compacted: 0 }
    }

    /// Watches everything from revision 2 on; one response a revision.
    fn watch() -> Watch {
        let mut responses: Vec<Response> = Vec::new();
        for change in log().changes {
            match responses.last_mut() {
                Some(last) if last.revision == change.revision => last.changes.push(change),
                _ => {
                    responses.push(Response { revision: change.revision, changes: vec![change], ..Response::default() })
                }
            }
        }
        responses.push(Response { revision: 5, progress: true, ..Response::default() });
        Watch {
            from: "a".to_owned(),
            to: Some("z".to_owned()),
            start: 2,
            previous: true,
            responses,
            ..Watch::default()
        }
    }

    fn names(watch: Watch) -> Vec<String> {
        check(&[watch], &log()).anomalies.into_iter().map(|anomaly| anomaly.name).collect()
    }

    #[test]
    fn a_whole_watch_is_fine() {
        assert!(names(watch()).is_empty());
        let mut later = watch();
        later.start = 4;
        later.responses.drain(..2);
        assert!(names(later).is_empty());
    }

    #[test]
    fn each_broken_property_is_named() {
        type Damage = fn(&mut Watch);
        let breaks: [(&str, Damage); 12] = [
            ("filter", |watch| watch.without_deletes = true),
            ("ordered", |watch| watch.responses.swap(0, 1)),
            ("unique", |watch| {
                let again = watch.responses[1].changes[0].clone();
                watch.responses[1].changes.push(again);
            }),
            ("atomic", |watch| {
                let torn = watch.responses[1].changes.pop().unwrap();
                watch.responses.insert(2, Response { revision: 3, changes: vec![torn], ..Response::default() });
            }),
            ("bookmarkable", |watch| {
                watch.responses.insert(0, Response { revision: 4, progress: true, ..Response::default() })
            }),
            ("bookmarkable", |watch| watch.responses[4].revision = 3),
            ("resumable", |watch| {
                watch.responses.remove(0);
            }),
            ("reliable", |watch| {
                watch.responses.remove(2);
            }),
            ("reliable", |watch| watch.responses[3].changes.push(change(6, "c", Some("9"), true, None))),
            ("value", |watch| watch.responses[3].changes[0].value = Some("9".to_owned())),
            ("is_create", |watch| watch.responses[3].changes[0].create = true),
            ("prev_kv", |watch| watch.responses[2].changes[0].previous = Some("1".to_owned())),
        ];
        for (name, damage) in breaks {
            let mut watch = watch();
            damage(&mut watch);
            let found = names(watch);
            assert!(found.iter().any(|found| found == name), "{name} was not found: {found:?}");
        }
    }

    #[test]
    fn a_watch_that_saw_nothing_proves_nothing() {
        assert_eq!(check(&[Watch::default()], &log()).verdict, Verdict::Unknown);
    }
}
