//! Building responses. Their headers carry the revision alone.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb::Event;
use prost::Message;

use crate::store::mvcc::read::header;
use crate::store::weight;

/// Revisions in one response; as in etcd.
const REVISIONS_MAX: usize = 1_000;

/// Bytes of events after which a response takes no further revision.
const BYTES_TARGET: usize = 1024 * 1024;

pub fn empty(revision: i64, watch_id: i64) -> pb::WatchResponse {
    pb::WatchResponse { header: Some(header(revision)), watch_id, ..Default::default() }
}

pub fn created(revision: i64, watch_id: i64) -> pb::WatchResponse {
    pb::WatchResponse { created: true, ..empty(revision, watch_id) }
}

/// A watch that could not be created.
pub fn refused(revision: i64, reason: impl Into<String>) -> pb::WatchResponse {
    pb::WatchResponse { created: true, canceled: true, cancel_reason: reason.into(), ..empty(revision, -1) }
}

pub fn canceled(revision: i64, watch_id: i64) -> pb::WatchResponse {
    pb::WatchResponse { canceled: true, ..empty(revision, watch_id) }
}

/// A watch whose next event is gone. The header has no revision.
pub fn compacted(compact_revision: i64, watch_id: i64) -> pb::WatchResponse {
    pb::WatchResponse { canceled: true, compact_revision, ..empty(0, watch_id) }
}

/// Responses that hold `events`, in order; a revision is never split between two of them.
pub fn split(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut parts: Vec<Vec<Event>> = Vec::new();
    let (mut revisions, mut bytes, mut last) = (0, 0, 0);
    for event in events {
        let revision = revision(&event);
        if revision != last && (revisions == REVISIONS_MAX || bytes >= BYTES_TARGET || parts.is_empty()) {
            parts.push(Vec::new());
            (revisions, bytes) = (0, 0);
        }
        revisions += usize::from(revision != last);
        last = revision;
        bytes += weight::weight(&event);
        parts.last_mut().expect("a part was begun").push(event);
    }
    parts
}

/// Cuts a response that is larger than `bytes_max` into pieces; all but the last say that more follows.
pub fn fragment(response: pb::WatchResponse, bytes_max: usize) -> Vec<pb::WatchResponse> {
    if response.encoded_len() <= bytes_max {
        return vec![response];
    }
    let pb::WatchResponse { header, watch_id, events, .. } = response;
    let mut pieces: Vec<pb::WatchResponse> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let more = event.encoded_len();
        if pieces.is_empty() || bytes + more > bytes_max {
            pieces.push(pb::WatchResponse { header, watch_id, fragment: true, ..Default::default() });
            bytes = 0;
        }
        bytes += more;
        pieces.last_mut().expect("a piece was begun").events.push(event);
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}

pub fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// About how many bytes a response takes in memory.
pub fn weight(response: &pb::WatchResponse) -> usize {
    64 + response.cancel_reason.len() + response.events.iter().map(weight::weight).sum::<usize>()
}
