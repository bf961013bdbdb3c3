//! Watch responses in fragments: what a client that asked for them gets instead of one response too large for it.

use std::collections::{BTreeSet, VecDeque};

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use prost::Message;

/// A tag and a length before each event of a response, at most.
const EVENT_OVERHEAD_BYTES: usize = 6;

/// Which watches of one stream want fragments. Create requests are answered in the order they came, so the wish of a
/// request is matched with the id in its answer.
#[derive(Debug)]
pub(super) struct Fragments {
    bytes_max: usize,
    unanswered: VecDeque<bool>,
    wanted: BTreeSet<i64>,
}

impl Fragments {
    pub fn new(bytes_max: usize) -> Fragments {
        Fragments { bytes_max, unanswered: VecDeque::new(), wanted: BTreeSet::new() }
    }

    /// Looks at a request on its way to the store.
    pub fn requested(&mut self, request: &pb::WatchRequest) {
        if let Some(RequestUnion::CreateRequest(create)) = &request.request_union {
            self.unanswered.push_back(create.fragment);
        }
    }

    /// Cuts a response on its way to the client, if it has to be cut.
    pub fn cut(&mut self, response: pb::WatchResponse) -> Pieces {
        self.follow(&response);
        if self.wanted.contains(&response.watch_id)
            && response.events.len() > 1
            && response.encoded_len() >= self.bytes_max
        {
            return Pieces::Many(pieces(response, self.bytes_max).into_iter());
        }
        Pieces::One(Some(response))
    }

    fn follow(&mut self, response: &pb::WatchResponse) {
        let wanted = response.created && self.unanswered.pop_front().unwrap_or(false);
        if response.canceled {
            self.wanted.remove(&response.watch_id);
        } else if wanted {
            self.wanted.insert(response.watch_id);
        }
    }
}

/// A response, whole or in pieces. Nearly all are whole, and cost no allocation.
pub(super) enum Pieces {
    One(Option<pb::WatchResponse>),
    Many(std::vec::IntoIter<pb::WatchResponse>),
}

impl Iterator for Pieces {
    type Item = pb::WatchResponse;

    fn next(&mut self) -> Option<pb::WatchResponse> {
        match self {
            Pieces::One(response) => response.take(),
            Pieces::Many(responses) => responses.next(),
        }
    }
}

/// Each piece but the last says that more follows. A single event is never cut.
fn pieces(mut response: pb::WatchResponse, bytes_max: usize) -> Vec<pb::WatchResponse> {
    let events = std::mem::take(&mut response.events);
    let mut pieces = vec![response.clone()];
    let mut bytes = 0;
    for event in events {
        let event_bytes = event.encoded_len() + EVENT_OVERHEAD_BYTES;
        let open = pieces.last_mut().expect("there is a first piece");
        if open.events.is_empty() || bytes + event_bytes < bytes_max {
            bytes += event_bytes;
            open.events.push(event);
        } else {
            open.fragment = true;
            bytes = event_bytes;
            pieces.push(pb::WatchResponse { events: vec![event], ..response.clone() });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use chorus_proto::mvccpb;

    use super::*;

    fn create(fragment: bool) -> pb::WatchRequest {
        let create = pb::WatchCreateRequest { fragment, ..Default::default() };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    fn created(watch_id: i64) -> pb::WatchResponse {
        pb::WatchResponse { watch_id, created: true, ..Default::default() }
    }

    fn events(watch_id: i64, count: usize) -> pb::WatchResponse {
        let kv = mvccpb::KeyValue { key: "k".into(), value: vec![b'v'; 100].into(), ..Default::default() };
        let event = mvccpb::Event { kv: Some(kv), ..Default::default() };
        pb::WatchResponse { watch_id, events: vec![event; count], ..Default::default() }
    }

    #[test]
    fn only_the_watch_that_asked_gets_fragments() {
        let mut fragments = Fragments::new(300);
        for fragment in [false, true, true] {
            fragments.requested(&create(fragment));
        }
        for id in [0, 7] {
            assert_eq!(fragments.cut(created(id)).count(), 1);
        }
        let refused = pb::WatchResponse { canceled: true, ..created(-1) };
        assert_eq!(fragments.cut(refused).count(), 1);
        assert_eq!(fragments.cut(events(0, 9)).count(), 1);
        let pieces: Vec<_> = fragments.cut(events(7, 9)).collect();
        assert_eq!(pieces.iter().map(|piece| piece.events.len()).sum::<usize>(), 9);
        let (last, rest) = pieces.split_last().unwrap();
        assert!(!last.fragment && rest.len() > 2 && rest.iter().all(|piece| piece.fragment));
        assert!(pieces.iter().all(|piece| piece.encoded_len() < 300 && piece.watch_id == 7));
    }

    #[test]
    fn small_responses_and_single_events_stay_whole() {
        let mut fragments = Fragments::new(50);
        fragments.requested(&create(true));
        fragments.cut(created(0)).for_each(drop);
        let single: Vec<_> = fragments.cut(events(0, 1)).collect();
        assert!(single.len() == 1 && !single[0].fragment);
        let each: Vec<_> = fragments.cut(events(0, 2)).collect();
        assert_eq!(each.iter().map(|piece| piece.fragment).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_canceled_watch_is_forgotten() {
        let mut fragments = Fragments::new(50);
        fragments.requested(&create(true));
        fragments.cut(created(3)).for_each(drop);
        fragments.cut(pb::WatchResponse { watch_id: 3, canceled: true, ..Default::default() }).for_each(drop);
        assert_eq!(fragments.cut(events(3, 5)).count(), 1);
    }
}
