//! Watches without their actor: what each stream gets, in which order.

use std::sync::Arc;

use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use chorus_proto::mvccpb::Event;

use super::*;
use crate::store::watch::testing::{Outbox, Unread, Watchers, catch_up};

/// A member and the watchers on it, one stream each call of `open`.
struct Hub {
    member: Member,
    watchers: Watchers,
}

impl Hub {
    fn new() -> Hub {
        let member = Member::new(1);
        member.state().feed.open();
        Hub { watchers: Watchers::new(1, 1536 * 1024, usize::MAX), member }
    }

    fn open(&mut self, stream: u64) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(Unread::new(usize::MAX)));
        self.watchers.open(stream, outbox.clone());
        outbox
    }

    fn ask(&mut self, stream: u64, request: RequestUnion) {
        self.feed();
        let current = self.member.state().view().revision();
        self.watchers.request(stream, pb::WatchRequest { request_union: Some(request) }, None, current, 100);
    }

    fn create(&mut self, stream: u64, request: pb::WatchCreateRequest) {
        self.ask(stream, RequestUnion::CreateRequest(request));
    }

    fn feed(&mut self) {
        if let Some(batch) = self.member.state().feed.take_now() {
            self.watchers.notify(batch, &self.member.state().view());
        }
    }

    /// Lets one round of unsynced watchers read the history.
    fn scan(&mut self) -> bool {
        let wanted = self.watchers.next_unsynced();
        let any = !wanted.is_empty();
        self.watchers.caught_up(catch_up(&self.member.state().view(), wanted).unwrap());
        any
    }

    fn settle(&mut self) {
        self.feed();
        while self.scan() {}
    }
}

fn watch(key: &str, range_end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), range_end: bytes(range_end), start_revision, ..Default::default() }
}

fn shown_event(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let what = if event.r#type == 0 {
        shown(kv)
    } else {
        format!("-{}@{}", shown(kv).split('{').next().unwrap(), kv.mod_revision)
    };
    let prev = event.prev_kv.as_ref().map_or(String::new(), |kv| format!(" prev {}", shown(kv)));
    what + &prev
}

fn shown_response(response: &pb::WatchResponse) -> String {
    let mut parts = vec![format!("#{} rev {}", response.watch_id, revision_of(&response.header))];
    parts.extend(response.created.then(|| "created".to_owned()));
    parts.extend(response.canceled.then(|| "canceled".to_owned()));
    parts.extend((response.compact_revision != 0).then(|| format!("compacted {}", response.compact_revision)));
    parts.extend((!response.cancel_reason.is_empty()).then(|| response.cancel_reason.clone()));
    parts.extend(response.fragment.then(|| "fragment".to_owned()));
    parts.extend(response.events.iter().map(shown_event));
    parts.join("; ")
}

fn drain(outbox: &Outbox) -> Vec<String> {
    std::iter::from_fn(|| outbox.pop()).map(|response| shown_response(&response)).collect()
}

#[test]
fn a_watch_replays_history_and_goes_on_live() {
    let mut hub = Hub::new();
    let outbox = hub.open(1);
    hub.member.put(put("a", "1")).unwrap();
    hub.member.put(put("b", "1")).unwrap();
    hub.create(1, pb::WatchCreateRequest { prev_kv: true, ..watch("a", "", 2) });
    hub.member.put(put("a", "2")).unwrap();
    hub.settle();
    hub.member.delete(delete("a")).unwrap();
    hub.settle();
    assert_eq!(
        drain(&outbox),
        [
            "#0 rev 3; created",
            r#"#0 rev 4; a{2,2,1,"1"}; a{2,4,2,"2"} prev a{2,2,1,"1"}"#,
            r#"#0 rev 5; -a@5 prev a{2,4,2,"2"}"#,
        ]
    );
}

#[test]
fn refusals_read_as_etcds() {
    let mut hub = Hub::new();
    for value in ["1", "2", "3"] {
        hub.member.put(put("a", value)).unwrap();
    }
    hub.member.compact(3).unwrap();
    let outbox = hub.open(1);
    hub.create(1, watch("b", "a", 0));
    hub.create(1, watch("a", "", -3));
    hub.create(1, pb::WatchCreateRequest { watch_id: 7, ..watch("a", "", 0) });
    hub.create(1, pb::WatchCreateRequest { watch_id: 7, ..watch("a", "", 0) });
    hub.create(1, watch("a", "", 2));
    hub.create(1, watch("a", "", 3));
    hub.ask(1, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 5 }));
    hub.ask(1, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 7 }));
    hub.settle();
    assert_eq!(
        drain(&outbox),
        [
            "#-1 rev 4; created; canceled; mvcc: watcher range is empty",
            "#-1 rev 4; created; canceled; etcdserver: mvcc: required revision has been compacted",
            "#7 rev 4; created",
            "#-1 rev 4; created; canceled; mvcc: duplicate watch ID provided on the WatchStream",
            "#0 rev 4; created",
            "#1 rev 4; created",
            "#7 rev 4; canceled",
            "#0 rev 0; canceled; compacted 3",
            r#"#1 rev 4; a{2,3,2,"2"}; a{2,4,3,"3"}"#,
        ]
    );
}

#[test]
fn filters_and_starts_in_the_future_hide_what_is_not_wanted() {
    let mut hub = Hub::new();
    let outbox = hub.open(1);
    hub.create(1, pb::WatchCreateRequest { filters: vec![0], ..watch("", "\0", 0) });
    hub.create(1, watch("a", "", 4));
    hub.ask(1, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    hub.member.put(put("a", "2")).unwrap();
    hub.member.put(put("a", "3")).unwrap();
    hub.settle();
    hub.member.delete(delete("a")).unwrap();
    hub.settle();
    assert_eq!(
        drain(&outbox),
        ["#0 rev 1; created", "#1 rev 1; created", "#0 rev 4; -a@4", "#1 rev 4; -a@4", "#-1 rev 4"]
    );
}

#[test]
fn progress_is_told_after_everything_before_it() {
    let mut hub = Hub::new();
    hub.member.put(put("a", "1")).unwrap();
    let outbox = hub.open(1);
    hub.create(1, watch("a", "", 1));
    hub.ask(1, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    assert_eq!(drain(&outbox), ["#0 rev 2; created"], "progress waits for the events before it");
    hub.settle();
    assert_eq!(drain(&outbox), [r#"#0 rev 2; a{2,2,1,"1"}"#, "#-1 rev 2"]);
    let empty = hub.open(2);
    hub.ask(2, RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    assert!(drain(&empty).is_empty(), "nothing to tell without watches");
    let notified = hub.open(3);
    hub.create(3, pb::WatchCreateRequest { progress_notify: true, ..watch("a", "", 0) });
    hub.create(3, pb::WatchCreateRequest { progress_notify: true, ..watch("a", "", 9) });
    hub.watchers.tick_progress();
    assert_eq!(drain(&notified), ["#0 rev 2; created", "#1 rev 2; created", "#0 rev 2"]);
}

#[test]
fn large_responses_come_in_fragments_when_asked_for() {
    let mut hub = Hub::new();
    hub.watchers = Watchers::new(1, 100, usize::MAX);
    let (whole, pieces) = (hub.open(1), hub.open(2));
    hub.create(1, watch("k", "l", 0));
    hub.create(2, pb::WatchCreateRequest { fragment: true, ..watch("k", "l", 0) });
    let puts = (0..4).map(|n| Request::RequestPut(put(&format!("k{n}"), "a value of some length"))).collect();
    hub.member.txn(pb::TxnRequest { success: ops(puts), ..Default::default() }).unwrap();
    hub.settle();
    let count = |outbox: &Outbox| {
        let responses = std::iter::from_fn(|| outbox.pop()).skip(1);
        responses.map(|response| (response.events.len(), response.fragment)).collect::<Vec<_>>()
    };
    assert_eq!(count(&whole), [(4, false)]);
    assert_eq!(count(&pieces), [(2, true), (2, false)]);
}

/// The modification revisions of everything that `outbox` holds, each response's checked to be whole.
fn revisions(outbox: &Outbox) -> Vec<i64> {
    let events = std::iter::from_fn(|| outbox.pop()).flat_map(|response| response.events);
    events.map(|event| event.kv.unwrap().mod_revision).collect()
}

#[test]
fn what_happens_together_is_told_in_order() {
    let mut hub = Hub::new();
    let (one, all) = (hub.open(1), hub.open(2));
    hub.create(1, watch("k", "", 0));
    hub.create(2, watch("\0", "\0", 0));
    for value in 0..5 {
        let puts = ["a", "k", "z"].map(|key| Request::RequestPut(put(key, &value.to_string())));
        hub.member.txn(pb::TxnRequest { success: ops(puts.into()), ..Default::default() }).unwrap();
    }
    hub.feed();
    let keys = |outbox: &Outbox| {
        let events = std::iter::from_fn(|| outbox.pop()).flat_map(|response| response.events);
        let kvs = events.map(|event| event.kv.unwrap());
        kvs.map(|kv| (kv.mod_revision, String::from_utf8_lossy(&kv.key).into_owned())).collect::<Vec<_>>()
    };
    assert_eq!(keys(&one), (2..=6).map(|revision| (revision, "k".to_owned())).collect::<Vec<_>>());
    let each = |revision| ["a", "k", "z"].map(|key| (revision, key.to_owned()));
    assert_eq!(keys(&all), (2..=6).flat_map(each).collect::<Vec<_>>());
}

#[test]
fn a_slow_client_loses_nothing_and_fills_no_memory() {
    let mut hub = Hub::new();
    let (slow, fast) = (hub.open(1), hub.open(2));
    hub.create(1, watch("k", "", 0));
    hub.create(2, watch("k", "", 0));
    let mut seen = Vec::new();
    for value in 0..1000 {
        hub.member.put(put("k", &value.to_string())).unwrap();
        hub.settle();
        seen.extend(revisions(&fast));
    }
    let waiting = std::iter::from_fn(|| slow.pop()).collect::<Vec<_>>();
    assert!(waiting.len() <= 130, "{}", waiting.len());
    let mut slowly: Vec<i64> =
        waiting.into_iter().flat_map(|r| r.events).map(|event| event.kv.unwrap().mod_revision).collect();
    hub.settle();
    slowly.extend(revisions(&slow));
    let all: Vec<i64> = (2..=1001).collect();
    assert_eq!(seen, all, "a fast client sees each revision once");
    assert_eq!(slowly, all, "a slow client sees each revision once");
}

#[test]
fn after_a_loss_watchers_read_the_history() {
    let mut hub = Hub::new();
    let outbox = hub.open(1);
    hub.create(1, watch("k", "", 0));
    hub.member.put(put("k", "1")).unwrap();
    hub.member.state().feed.lose();
    hub.member.put(put("k", "2")).unwrap();
    hub.settle();
    hub.member.put(put("k", "3")).unwrap();
    hub.settle();
    assert_eq!(revisions(&outbox), [2, 3, 4]);
}

#[test]
fn watches_are_bounded_in_bytes() {
    let mut hub = Hub::new();
    hub.watchers = Watchers::new(1, 1 << 20, 10 << 10);
    let outbox = hub.open(1);
    let long = "k".repeat(1_000);
    (0..5).for_each(|_| hub.create(1, watch(&long, "", 0)));
    let created = |outbox: &Outbox| {
        std::iter::from_fn(|| outbox.pop()).map(|response| response.cancel_reason).collect::<Vec<_>>()
    };
    let refused = "etcdserver: too many requests".to_owned();
    assert_eq!(created(&outbox), [String::new(), String::new(), String::new(), String::new(), refused]);
    hub.ask(1, RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 }));
    hub.create(1, watch(&long, "", 0));
    assert_eq!(created(&outbox), [String::new(), String::new()], "what is given up makes room");
}

#[test]
fn streams_that_are_not_read_end_when_room_is_short() {
    let mut hub = Hub::new();
    let (stalls, reads, idle) = (hub.open(1), hub.open(2), hub.open(3));
    for stream in 1..=3 {
        hub.create(stream, watch("k", "", 0));
    }
    while idle.pop().is_some() {}
    let mut tick = |short| {
        hub.member.put(put("k", "v")).unwrap();
        hub.feed();
        while reads.pop().is_some() {}
        while idle.pop().is_some() {}
        hub.watchers.end_stalled(short)
    };
    assert_eq!((0..20).map(|_| tick(false)).sum::<usize>(), 0, "there is room");
    assert_eq!((0..20).map(|_| tick(true)).sum::<usize>(), 1);
    assert_eq!(hub.watchers.streams.keys().collect::<Vec<_>>(), [&2, &3]);
    let end = futures::executor::block_on(stalls.next());
    assert_eq!(end, Some(Err(Error::TooManyRequests)));
}
