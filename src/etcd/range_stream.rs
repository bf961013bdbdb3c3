//! RangeStream: a large range in chunks, all read at the revision of the first.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use futures::{StreamExt, stream};
use http::{Request, Response};
use prost::Message;
use tonic::Status;

use super::body::{Body, RequestBody};
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::status;
use super::stream as streams;
use crate::store::client::Client;
use crate::store::error::Error;
use crate::world::failpoints::failpoint;

/// Small, so that the first keys arrive soon and the size of the others becomes known.
const FIRST_CHUNK_KEYS: i64 = 10;

pub(super) async fn answer(server: &Arc<EtcdServer>, store: &Client, request: Request<RequestBody>) -> Response<Body> {
    streams::server_stream(server, Rpc::RangeStream, request, async |range: pb::RangeRequest| {
        check(&range)?;
        let chunks = Chunks::new(range, server.config.limits.request_bytes_max);
        let state = (Some(chunks), store.clone());
        let answers = stream::try_unfold(state, async |(chunks, store)| {
            let Some(chunks) = chunks else { return Ok(None) };
            let (response, rest) = next(chunks, &store).await.map_err(|error| status::of(&error))?;
            Ok(Some((pb::RangeStreamResponse { range_response: Some(response) }, (rest, store))))
        });
        Ok(answers.boxed())
    })
    .await
}

/// Refuses a range that cannot be read piece by piece in key order.
fn check(range: &pb::RangeRequest) -> Result<(), Status> {
    if range.key.is_empty() {
        return Err(status::of(&Error::EmptyKey));
    }
    let (Ok(order), Ok(target)) = (SortOrder::try_from(range.sort_order), SortTarget::try_from(range.sort_target))
    else {
        return Err(status::of(&Error::InvalidSortOption));
    };
    if order != SortOrder::None && (order, target) != (SortOrder::Ascend, SortTarget::Key) {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    let filters =
        [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
    if filters.iter().any(|filter| *filter != 0) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    Ok(())
}

async fn next(chunks: Chunks, store: &Client) -> Result<(pb::RangeResponse, Option<Chunks>), Error> {
    failpoint!("beforeRangeStreamChunk");
    let response = store.range(chunks.request()).await?;
    Ok(chunks.take(response))
}

/// A range that is being read in chunks.
#[derive(Debug)]
struct Chunks {
    /// The rest of the range; its limit is the caller's, counted down.
    rest: pb::RangeRequest,
    chunk_keys: i64,
    bytes_aim: usize,
    /// The header and the count of the whole range, as the first chunk saw them.
    first: Option<(Option<pb::ResponseHeader>, i64)>,
}

impl Chunks {
    fn new(mut range: pb::RangeRequest, bytes_aim: usize) -> Chunks {
        // A target without an order is left: it sorts within a chunk.
        range.sort_order = SortOrder::None as i32;
        Chunks { rest: range, chunk_keys: FIRST_CHUNK_KEYS, bytes_aim, first: None }
    }

    /// The request for the next chunk.
    fn request(&self) -> pb::RangeRequest {
        let limit = if self.rest.limit > 0 { self.rest.limit.min(self.chunk_keys) } else { self.chunk_keys };
        pb::RangeRequest { limit, ..self.rest.clone() }
    }

    /// The chunk as it is sent, and the rest of the range.
    fn take(mut self, mut chunk: pb::RangeResponse) -> (pb::RangeResponse, Option<Chunks>) {
        let (header, count) = *self.first.get_or_insert((chunk.header, chunk.count));
        let keys = i64::try_from(chunk.kvs.len()).expect("a chunk has few keys");
        let limit_reached = self.rest.limit > 0 && keys >= self.rest.limit;
        let last_key = match chunk.kvs.iter().map(|kv| &kv.key).max() {
            Some(last) if chunk.more && !limit_reached => last.clone(),
            _ => return (pb::RangeResponse { header, count, ..chunk }, None),
        };
        if self.rest.revision == 0 {
            self.rest.revision = header.map_or(0, |header| header.revision);
        }
        // The first chunk was read after every write before the call; its revision is here, so the rest is local.
        self.rest.serializable = true;
        self.rest.key = successor(&last_key);
        if self.rest.limit > 0 {
            self.rest.limit -= keys;
        }
        self.chunk_keys = adjusted(self.chunk_keys, chunk.encoded_len(), self.bytes_aim);
        (chunk.header, chunk.more, chunk.count) = (None, false, 0);
        (chunk, Some(self))
    }
}

fn adjusted(keys: i64, bytes: usize, bytes_aim: usize) -> i64 {
    if bytes < bytes_aim / 2 {
        keys.saturating_mul(2)
    } else if bytes > bytes_aim * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// The smallest key after `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut successor = BytesMut::with_capacity(key.len() + 1);
    successor.put_slice(key);
    successor.put_u8(0);
    successor.freeze()
}

#[cfg(test)]
mod tests {
    use chorus_proto::mvccpb::KeyValue;

    use super::*;

    /// A store of `count` keys at revision 50.
    fn read(count: i64, request: &pb::RangeRequest) -> pb::RangeResponse {
        let all: Vec<_> =
            (0..count).map(|i| format!("k{i:04}")).filter(|key| key.as_bytes() >= &request.key[..]).collect();
        let keys = all.iter().take(usize::try_from(request.limit).unwrap());
        pb::RangeResponse {
            header: Some(pb::ResponseHeader { revision: 50, ..Default::default() }),
            kvs: keys.map(|key| KeyValue { key: key.clone().into(), ..Default::default() }).collect(),
            more: all.len() as i64 > request.limit,
            count: all.len() as i64,
        }
    }

    fn stream(count: i64, limit: i64, bytes_aim: usize) -> Vec<pb::RangeResponse> {
        let range = pb::RangeRequest { key: "k".into(), range_end: "l".into(), limit, ..Default::default() };
        let (mut sent, mut rest) = (vec![], Some(Chunks::new(range, bytes_aim)));
        while let Some(chunks) = rest.take() {
            let request = chunks.request();
            assert_eq!(request.revision, if sent.is_empty() { 0 } else { 50 });
            let response = read(count, &request);
            let (chunk, remaining) = chunks.take(response);
            sent.push(chunk);
            rest = remaining;
        }
        sent
    }

    #[test]
    fn the_chunks_together_are_the_range() {
        for (count, limit) in [(0, 0), (1, 0), (10, 0), (11, 0), (1000, 0), (1000, 1), (1000, 37), (30, 30), (30, 40)] {
            let chunks = stream(count, limit, 500);
            let (last, rest) = chunks.split_last().unwrap();
            let keys: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.kvs).map(|kv| kv.key.clone()).collect();
            let expected = if limit == 0 { count } else { count.min(limit) };
            assert_eq!(keys.len() as i64, expected, "{count} {limit}");
            assert!(keys.is_sorted());
            assert_eq!((last.count, last.more, last.header.unwrap().revision), (count, expected < count, 50));
            assert!(rest.iter().all(|chunk| chunk.header.is_none() && !chunk.more && chunk.count == 0));
        }
    }

    #[test]
    fn chunks_grow_and_shrink_towards_the_aim() {
        assert_eq!(adjusted(10, 100, 1000), 20);
        assert_eq!(adjusted(10, 1000, 1000), 10);
        assert_eq!(adjusted(10, 2001, 1000), 5);
        assert_eq!(adjusted(1, 5000, 1000), 1);
        let sizes: Vec<_> = stream(100, 0, 1 << 20).iter().map(|chunk| chunk.kvs.len()).collect();
        assert_eq!(sizes, [10, 20, 40, 30]);
    }

    #[test]
    fn what_cannot_be_streamed_is_refused() {
        let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
        check(&range).unwrap();
        check(&pb::RangeRequest { sort_order: SortOrder::Ascend as i32, ..range.clone() }).unwrap();
        check(&pb::RangeRequest { sort_target: SortTarget::Mod as i32, ..range.clone() }).unwrap();
        for (refused, text) in [
            (pb::RangeRequest::default(), "etcdserver: key is not provided"),
            (pb::RangeRequest { sort_order: 99, ..range.clone() }, "etcdserver: invalid sort option"),
            (
                pb::RangeRequest { sort_order: SortOrder::Descend as i32, min_mod_revision: 1, ..range.clone() },
                "RangeStream does not support custom sort orders",
            ),
            (pb::RangeRequest { min_mod_revision: 1, ..range }, "RangeStream does not support revision filters"),
        ] {
            assert_eq!(check(&refused).unwrap_err().message(), text);
        }
    }
}
