//! What a watcher may rely on: that its filter holds, and that events come in order, once, whole revisions at a time, as
//! announced by bookmarks, from where it asked on, without gaps, with what was there before.
//!
//! With the log of all changes at hand most of this is one comparison: what a watch delivered is what the log has
//! between where the watch began and where it ended.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb::Event;
use chorus_proto::mvccpb::event::EventType;
use pb::watch_create_request::FilterType;

use crate::member::revision;
use crate::replay::{Replay, contains};

/// One watch from its creation to its end.
pub struct Watch {
    watcher: String,
    request: pb::WatchCreateRequest,
    responses: Vec<pb::WatchResponse>,
}

impl Watch {
    pub fn new(watcher: String, request: pb::WatchCreateRequest) -> Watch {
        Watch { watcher, request, responses: Vec::new() }
    }

    pub fn keep(&mut self, response: pb::WatchResponse) {
        self.responses.push(response);
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.responses.iter().flat_map(|response| &response.events)
    }

    /// From where a watcher that saw this would go on.
    pub fn next(&self) -> Option<i64> {
        self.events().last().map(|event| revision(event) + 1)
    }

    pub fn seen(&self) -> usize {
        self.events().count()
    }

    /// Checks everything against the log.
    pub fn check(&self, replay: &Replay) {
        self.delivers_whole_revisions();
        self.keeps_to_its_bookmarks();
        self.delivers_the_log(replay);
    }

    fn delivers_whole_revisions(&self) {
        let with_events: Vec<_> = self.responses.iter().filter(|response| !response.events.is_empty()).collect();
        for pair in with_events.windows(2).filter(|pair| !pair[0].fragment) {
            let (last, first) = (pair[0].events.last().map(revision), pair[1].events.first().map(revision));
            assert!(last < first, "{self}: {first:?} came after {last:?}");
        }
    }

    fn keeps_to_its_bookmarks(&self) {
        let (mut bookmark, mut delivered) = (0, 0);
        for response in self.responses.iter().filter(|response| !response.canceled) {
            let told = response.header.as_ref().map_or(0, |header| header.revision);
            for event in &response.events {
                assert!(revision(event) > bookmark, "{self}: {event:?} came after the bookmark {bookmark}");
                delivered = delivered.max(revision(event));
            }
            if is_bookmark(response) {
                assert!(told >= bookmark, "{self}: the bookmark went back from {bookmark} to {told}");
                assert!(told >= delivered, "{self}: the bookmark {told} came after {delivered}");
                bookmark = told;
            }
        }
    }

    fn delivers_the_log(&self, replay: &Replay) {
        let Some(created) = self.responses.first() else { return };
        assert!(created.created, "{self}: the first answer is {created:?}");
        let from = match self.request.start_revision {
            0 => created.header.as_ref().map_or(0, |header| header.revision) + 1,
            start => start,
        };
        if let Some(over) = self.responses.iter().find(|response| response.compact_revision > 0) {
            assert!(from < over.compact_revision, "{self} was ended by a compaction at {}", over.compact_revision);
        }
        let bookmarks = self.responses.iter().filter(|response| is_bookmark(response));
        let told = bookmarks.filter_map(|response| Some(response.header.as_ref()?.revision));
        let Some(to) = told.chain(self.events().map(revision)).max() else { return };
        let expected: Vec<&Event> = replay.events(from..=to).filter(|event| self.asks_for(event)).collect();
        let delivered: Vec<Event> = self.events().map(without_past).collect();
        let known: Vec<Event> = expected.iter().copied().map(without_past).collect();
        assert!(delivered == known, "{self}: from {from} to {to} it delivered {delivered:?}, the log has {known:?}");
        if self.request.prev_kv {
            self.events().for_each(|event| self.knows_the_past(replay, event));
        }
    }

    /// What was there before may be gone by a compaction, but it is never something else.
    fn knows_the_past(&self, replay: &Replay, event: &Event) {
        let key = &event.kv.as_ref().expect("every event names its key").key;
        let before = replay.state(revision(event) - 1).get(key);
        match (&event.prev_kv, before) {
            (None, Some(held)) if held.mod_revision > replay.compacted => panic!("{self}: no past in {event:?}"),
            (Some(past), held) if Some(past) != held => panic!("{self}: before {event:?} there was {held:?}"),
            _ => {}
        }
    }

    fn asks_for(&self, event: &Event) -> bool {
        let unwanted = match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        let key = &event.kv.as_ref().expect("every event names its key").key;
        contains(&self.request.key, &self.request.range_end, key) && !self.request.filters().any(|f| f == unwanted)
    }
}

fn is_bookmark(response: &pb::WatchResponse) -> bool {
    response.events.is_empty() && !response.created && !response.canceled
}

pub fn without_past(event: &Event) -> Event {
    Event { prev_kv: None, ..event.clone() }
}

impl std::fmt::Display for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the watch of {} for {:?}", self.watcher, self.request)
    }
}
