//! `watch`: the changes of some keys, across lost connections, each once.

use std::time::Duration;

use anyhow::bail;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::watch_create_request::FilterType;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::{StreamExt, stream};

use super::args::Keys;
use super::session::Session;
use crate::cli::terminal::note;
use crate::store::error::Error;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    keys: Keys,
    /// From this revision on; 0 means from now on.
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// Show the previous key and value, too.
    #[arg(long)]
    prev_kv: bool,
    /// Ask the store to report its progress from time to time.
    #[arg(long)]
    progress_notify: bool,
    /// Leave out changes of this kind.
    #[arg(long, value_enum)]
    filter: Vec<Filter>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Filter {
    Put,
    Delete,
}

const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    let (key, range_end) = args.keys.bounds()?;
    let filters = args.filter.iter().map(|filter| match filter {
        Filter::Put => FilterType::Noput as i32,
        Filter::Delete => FilterType::Nodelete as i32,
    });
    let mut create = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: args.rev,
        prev_kv: args.prev_kv,
        progress_notify: args.progress_notify,
        filters: filters.collect(),
        ..Default::default()
    };
    let mut failing = false;
    loop {
        let lost = follow(session, &mut create, &mut failing).await?;
        // Printed once for a series of failures, beside the output.
        if !std::mem::replace(&mut failing, true) {
            note(format!("the watch was interrupted ({lost}); resuming"));
        }
        session.world.clock.sleep(RETRY).await;
    }
}

/// Prints what one stream brings until it breaks, and notes from where to go on. An error is one that cannot be
/// resumed from.
async fn follow(session: &Session, create: &mut pb::WatchCreateRequest, failing: &mut bool) -> anyhow::Result<Error> {
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create.clone())) };
    let requests = stream::iter([request]).chain(stream::pending()).boxed();
    let mut responses = match session.store.watch(requests).await {
        Ok(responses) => responses,
        Err(error) => return Ok(error),
    };
    while let Some(response) = responses.next().await {
        let response = match response {
            Ok(response) => response,
            Err(error) => return Ok(error),
        };
        if response.canceled {
            refuse(&response)?;
        }
        *failing = false;
        if let Some(header) = &response.header {
            create.start_revision = next_start(create.start_revision, &response, header.revision);
        }
        session.printer.watch(&response)?;
    }
    Ok(Error::Stopped)
}

/// From where a new stream would have to start after `response`.
fn next_start(start: i64, response: &pb::WatchResponse, revision: i64) -> i64 {
    if response.created && start != 0 {
        return start;
    }
    let seen = response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
    // Events of one revision never come in two responses, unless in fragments, which are not asked for.
    start.max(seen.unwrap_or(revision) + 1)
}

fn refuse(response: &pb::WatchResponse) -> anyhow::Result<()> {
    if response.compact_revision > 0 {
        bail!(
            "the history from there on is forgotten: watch from --rev={} or later, or without --rev",
            response.compact_revision
        );
    }
    bail!("the store ended the watch: {}", response.cancel_reason)
}

#[cfg(test)]
mod tests {
    use chorus_proto::mvccpb::{Event, KeyValue};

    use super::*;

    #[test]
    fn a_watch_resumes_after_the_last_revision_it_saw() {
        let created = pb::WatchResponse { created: true, ..Default::default() };
        assert_eq!(next_start(0, &created, 9), 10);
        assert_eq!(next_start(4, &created, 9), 4);
        let kv = KeyValue { mod_revision: 12, ..Default::default() };
        let events =
            pb::WatchResponse { events: vec![Event { kv: Some(kv), ..Default::default() }], ..Default::default() };
        assert_eq!(next_start(10, &events, 20), 13);
        assert_eq!(next_start(10, &pb::WatchResponse::default(), 20), 21);
    }
}
