//! A client that watches: from the past, from now on, or from the future; all of it, or what filters leave.

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

use super::Station;
use crate::swarm::one_of;
use crate::watches::Watch;

/// A stream that says nothing for this long may be a lost one: simulated connections break without a word.
const SILENCE: Duration = Duration::from_secs(3);

pub async fn run(station: Station) {
    let mut resume = None;
    while !station.history.is_over() {
        let request = draw(&station, resume);
        let watch = watch(&station, request).await;
        resume = watch.next();
        station.history.watched(watch);
        station.rest().await;
    }
}

fn draw(station: &Station, resume: Option<i64>) -> pb::WatchCreateRequest {
    let (random, told) = (&station.world.random, station.history.told());
    let (from, to) = one_of(random, &[("\0", "\0"), ("k", "l"), ("k1", "k4"), ("k2", ""), ("held/", "held0")]);
    let past = told - random.within(0..60) as i64;
    let start = [0, past, told, told + 1, told + 4, resume.unwrap_or(0)][random.within(0..6) as usize];
    let filters = one_of(random, &[vec![], vec![], vec![FilterType::Noput], vec![FilterType::Nodelete]]);
    pb::WatchCreateRequest {
        key: from.into(),
        range_end: to.into(),
        start_revision: start.max(0),
        progress_notify: random.within(0..2) == 0,
        filters: filters.into_iter().map(Into::into).collect(),
        prev_kv: random.within(0..2) == 0,
        fragment: random.within(0..2) == 0,
        ..Default::default()
    }
}

/// Watches until the stream breaks or enough was seen.
async fn watch(station: &Station, request: pb::WatchCreateRequest) -> Watch {
    let clock = &station.world.clock;
    let mut watch = Watch::new(format!("c{}", station.number), request.clone());
    let (mut ask, requests) = futures::channel::mpsc::channel(4);
    let create = |union| pb::WatchRequest { request_union: Some(union) };
    ask.try_send(create(RequestUnion::CreateRequest(request))).expect("there is room for the first");
    let Ok(mut responses) = station.connect().watch(requests.boxed()).await else { return watch };
    let end = clock.now() + station.world.random.duration(Duration::from_millis(200)..Duration::from_secs(8));
    while clock.now() < end && !station.history.is_over() {
        if station.world.random.within(0..10) == 0 {
            // A full queue means that the stream is stuck; the silence will end it.
            let _ = ask.try_send(create(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})));
        }
        let Ok(Some(Ok(response))) = clock.timeout(SILENCE, responses.next()).await else { break };
        let over = response.canceled;
        watch.keep(response);
        if over {
            break;
        }
    }
    watch
}
