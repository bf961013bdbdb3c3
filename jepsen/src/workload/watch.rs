//! Watchers beside writers: watches begin at old, present and coming revisions, with and without filters, ask for
//! progress, and are cut short.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::watch_create_request::FilterType;
use chorus_proto::mvccpb::{Event as Changed, event::EventType};
use rand::Rng;
use serde_json::{Value, json};

use super::{Session, Workload, put_op, text, txn};
use crate::checker::watch::{Change, Log, Response, Watch};
use crate::checker::{Anomaly, Report, Verdict, watch};
use crate::client::{Failed, Grpc};
use crate::history::Event;

const PREFIX: &str = "watch/";
const PREFIX_END: &str = "watch0";
/// The last key that is written.
const END: &str = "watch/end";
const KEYS: u32 = 10;
/// How far behind the present a watch may begin.
const BEHIND_MAX: i64 = 100;
const WATCH_MS_MAX: u64 = 4_000;
/// How long a member may take to show the whole history in the end.
const HISTORY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Watchers {
    watches: Mutex<Vec<Watch>>,
    /// What each member shows in the end.
    logs: Mutex<Vec<(String, Log)>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait::async_trait(?Send)]
impl Workload for Watchers {
    fn name(&self) -> &'static str {
        "watch"
    }

    async fn step(&self, session: &mut Session) {
        if session.random.random_bool(0.8) { change(session).await } else { self.look(session).await }
    }

    async fn finish(&self, session: &mut Session) {
        let mark = pb::PutRequest { key: END.into(), ..Default::default() };
        if session.client.put(mark).await.is_err() {
            return;
        }
        for (name, grpc) in session.everyone.clone().iter() {
            let whole = tokio::time::timeout(HISTORY_LIMIT, history(grpc)).await;
            if let Ok(Some(log)) = whole {
                held(&self.logs).push((name.clone(), log));
            }
        }
    }

    fn check(&self, _events: &[Event], _limit: Duration) -> Vec<Report> {
        let (watches, logs) = (held(&self.watches), held(&self.logs));
        let Some((first, log)) = logs.first() else {
            let report = Report::of("watch", Vec::new()).note("no member showed its history in the end");
            return vec![Report { verdict: Verdict::Unknown, ..report }];
        };
        let differ = logs.iter().filter(|(_, other)| other != log).map(|(name, _)| Anomaly {
            name: "histories-differ".to_owned(),
            what: format!("{first} and {name} show different histories"),
            events: Vec::new(),
            because: Vec::new(),
        });
        let members = Report::of("histories", differ.collect()).note(format!("{} members compared", logs.len()));
        vec![members, watch::check(&watches, log)]
    }

    fn needs_history(&self) -> bool {
        true
    }

    fn is_judged_by_history(&self) -> bool {
        false
    }

    fn attachments(&self) -> Vec<(String, String)> {
        let line = |value: Value| format!("{value}\n");
        let watches = held(&self.watches).iter().map(|watch| line(json!(watch))).collect();
        let logs = held(&self.logs).iter().map(|(name, log)| line(json!([name, log]))).collect();
        vec![("watches.jsonl".to_owned(), watches), ("histories.jsonl".to_owned(), logs)]
    }
}

/// Puts, deletes, or both of several keys at once.
async fn change(session: &mut Session) {
    let count = session.random.random_range(1..=3);
    let mut keys: Vec<String> =
        (0..count).map(|_| format!("{PREFIX}{}", session.random.random_range(0..KEYS))).collect();
    keys.sort();
    keys.dedup();
    let mut operations = Vec::new();
    for key in &keys {
        operations.push(if session.random.random_bool(0.25) {
            let delete = pb::DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) }
        } else {
            put_op(key, session.random.random_range(0..1_000_000).to_string())
        });
    }
    let write = async |session: &mut Session| {
        let answer = session.client.txn(txn(Vec::new(), operations)).await?;
        Ok(json!(answer.header.map_or(0, |header| header.revision)))
    };
    session.write("change", json!(keys), write).await;
}

impl Watchers {
    async fn look(&self, session: &mut Session) {
        let mut look = Watch { client: session.process(), node: session.node.clone(), ..Watch::default() };
        let now =
            session.client.range(pb::RangeRequest { key: PREFIX.into(), serializable: true, ..Default::default() });
        let Ok(answer) = now.await else { return };
        let now = answer.header.map_or(0, |header| header.revision);
        look.start = match session.random.random_range(0..4) {
            0 => 0,
            1 => 1,
            _ => u64::try_from((now + session.random.random_range(-BEHIND_MAX..=5)).max(1)).unwrap_or(1),
        };
        look.previous = session.random.random_bool(0.5);
        look.without_puts = session.random.random_bool(0.1);
        look.without_deletes = session.random.random_bool(0.1);
        (look.from, look.to) = match session.random.random_bool(0.5) {
            true => (PREFIX.to_owned(), Some(PREFIX_END.to_owned())),
            false => (format!("{PREFIX}{}", session.random.random_range(0..KEYS)), None),
        };
        let lives = Duration::from_millis(session.random.random_range(100..WATCH_MS_MAX));
        let asks = session.random.random_bool(0.5);
        let watching = async |session: &mut Session| {
            follow(&session.grpc, &mut look, lives, asks).await?;
            let seen: usize = look.responses.iter().map(|response| response.changes.len()).sum();
            held(&self.watches).push(look);
            Ok(json!(seen))
        };
        session.read("watch", json!(null), watching).await;
    }
}

/// Takes in what a watch delivers for as long as it lives.
async fn follow(grpc: &Grpc, look: &mut Watch, lives: Duration, asks: bool) -> Result<(), Failed> {
    let mut filters = Vec::new();
    filters.extend(look.without_puts.then_some(FilterType::Noput as i32));
    filters.extend(look.without_deletes.then_some(FilterType::Nodelete as i32));
    let create = pb::WatchCreateRequest {
        key: look.from.clone().into(),
        range_end: look.to.clone().unwrap_or_default().into(),
        start_revision: i64::try_from(look.start).unwrap_or_default(),
        prev_kv: look.previous,
        filters,
        ..Default::default()
    };
    let mut watching = grpc.watch(create).await?;
    let end = tokio::time::sleep(lives);
    tokio::pin!(end);
    let mut questions = tokio::time::interval(Duration::from_millis(300));
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            _ = questions.tick(), if asks => watching.ask_progress(),
            answer = watching.next() => match answer {
                None => return Ok(()),
                Some(answer) => {
                    if answer.canceled {
                        look.responses.push(Response { compacted: answer.compact_revision > 0, ..Response::default() });
                        return Ok(());
                    }
                    if !answer.created {
                        look.responses.push(response(&answer));
                    }
                }
            },
        }
    }
}

fn response(answer: &pb::WatchResponse) -> Response {
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    Response {
        revision: u64::try_from(revision).unwrap_or_default(),
        changes: answer.events.iter().map(changed).collect(),
        progress: answer.events.is_empty(),
        compacted: false,
    }
}

fn changed(event: &Changed) -> Change {
    let kv = event.kv.clone().unwrap_or_default();
    let put = event.r#type() == EventType::Put;
    Change {
        revision: u64::try_from(kv.mod_revision).unwrap_or_default(),
        key: text(&kv.key),
        value: put.then(|| text(&kv.value)),
        create: put && kv.create_revision == kv.mod_revision,
        previous: event.prev_kv.as_ref().map(|kv| text(&kv.value)),
    }
}

/// All changes up to the one that marks the end, as one member tells them; `None` when it can't.
async fn history(grpc: &Grpc) -> Option<Log> {
    let create = pb::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        start_revision: 1,
        ..Default::default()
    };
    let mut watching = grpc.watch(create).await.ok()?;
    let mut log = Log::default();
    while log.changes.last().is_none_or(|last: &Change| last.key != END) {
        let answer = watching.next().await.filter(|answer| !answer.canceled)?;
        log.changes.extend(answer.events.iter().map(changed));
    }
    Some(log)
}
