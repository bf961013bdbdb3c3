//! Range: one message for a few keys; for many, one message that is sent while it is read.

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, Response};
use tonic::{Code, Status};

use super::body::{Body, RequestBody};
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::{frame, status, unary};
use crate::store::client::Client;
use crate::store::records::{Ranged, Records};

/// A range that is limited to so many keys is answered at once.
const SMALL_KEYS: i64 = 256;

pub(super) async fn answer(server: &EtcdServer, store: &Client, request: Request<RequestBody>) -> Response<Body> {
    let mut counted = server.metrics.start(Rpc::Range);
    // The gateway wants its messages whole.
    let from_wire = matches!(request.body(), RequestBody::Wire(_));
    let ask = async |message: pb::RangeRequest| {
        let answered = match from_wire && may_be_large(&message) {
            false => store.range(message).await.map(Ranged::Whole),
            true => Box::pin(store.range_in_records(message)).await,
        };
        match answered.map_err(|error| status::of(&error))? {
            Ranged::Whole(message) => {
                let framed = frame::frame(&message);
                let bytes = framed.len() - frame::PREFIX_BYTES;
                Ok((Body::message(framed), bytes))
            }
            Ranged::InRecords(records) => body(records),
        }
    };
    match unary::run(server, Rpc::Range, request, ask).await {
        Ok((body, bytes)) => {
            counted.sent(bytes);
            counted.end(Code::Ok);
            unary::respond(body)
        }
        Err(status) => {
            counted.end(status.code());
            status.into_http()
        }
    }
}

fn may_be_large(request: &pb::RangeRequest) -> bool {
    let limited = (1..=SMALL_KEYS).contains(&request.limit);
    !(request.range_end.is_empty() || limited || request.keys_only || request.count_only)
}

fn body(records: Records) -> Result<(Body, usize), Status> {
    let length = records.length();
    let length = u32::try_from(length).map_err(|_| {
        Status::resource_exhausted(format!("grpc: trying to send message larger than max ({length} vs. {})", u32::MAX))
    })?;
    let prefix = Bytes::copy_from_slice(&frame::prefix(length));
    let pieces = records.pieces().map_err(|error| status::of(&error));
    Ok((Body::Stream(Some(stream::once(async move { Ok(prefix) }).chain(pieces).boxed())), length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_without_a_small_limit_are_sent_in_pieces() {
        let all = pb::RangeRequest { key: "a".into(), range_end: "b".into(), ..Default::default() };
        assert!(may_be_large(&all));
        assert!(may_be_large(&pb::RangeRequest { limit: 1000, ..all.clone() }));
        for small in [
            pb::RangeRequest { range_end: "".into(), ..all.clone() },
            pb::RangeRequest { limit: 256, ..all.clone() },
            pb::RangeRequest { keys_only: true, ..all.clone() },
            pb::RangeRequest { count_only: true, ..all },
        ] {
            assert!(!may_be_large(&small));
        }
    }
}
