//! The lock and election services. They are recipes of ordinary writes, reads and watches on the caller's own store
//! client, as a client library would do them: the caller's permissions hold, and the store knows nothing of locks.
//!
//! ```text
//!   Lock, Campaign ──▶ QueuedKey::put: put `name/<lease>` unless it is there ──▶ wait until no older key is left
//!   Unlock, Resign ──▶ delete the key               Leader, Observe ──▶ the oldest key under `name/`
//! ```
//!
//! - `queue`: a key in a queue, ordered by when each was created
//! - `wait`: until a key is gone
//! - `lock`, `election`: the RPCs
//! - `observe`: the stream of an election's leaders

pub(super) mod election;
pub(super) mod lock;
pub(super) mod observe;
mod queue;
mod wait;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use tonic::{Code, Status};

use crate::store::client::Client;
use crate::store::error::Error;

/// How long the session lives that the server makes for a caller without a lease.
const SESSION_TTL_SECONDS: i64 = 60;

/// An error of the store as the status that these services answer with. etcd runs them on its own client library, whose
/// errors lose their code on the way; an error that the library does not know passes unchanged.
fn to_status(error: Error) -> Status {
    match error.to_wire() {
        (code, text) if matches!(error, Error::Other { .. }) => Status::new(Code::from_i32(code), text),
        (_, text) => Status::unknown(text),
    }
}

/// The caller's lease, or a new one. Keeping it alive is up to the caller.
async fn session(store: &Client, lease: i64) -> Result<i64, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    let granted =
        store.lease_grant(pb::LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, id: 0 }).await.map_err(to_status)?;
    Ok(granted.id)
}

/// The keys of the queue `name` lie under this prefix.
fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// One key under `prefix`: the one created first or last.
fn edge(prefix: &[u8], order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: after(prefix),
        limit: 1,
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// The first key that does not start with `prefix`, which ends in a slash.
fn after(prefix: &[u8]) -> Bytes {
    let (_, name) = prefix.split_last().expect("a prefix ends in a slash");
    Bytes::from([name, b"0"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_queue_lie_between_slash_and_zero() {
        assert_eq!((prefix(b"lk"), after(b"lk/")), (b"lk/".to_vec(), Bytes::from("lk0")));
        assert_eq!((prefix(b""), after(b"/")), (b"/".to_vec(), Bytes::from("0")));
    }

    #[test]
    fn errors_of_the_store_lose_their_code() {
        let lost = to_status(Error::LeaseNotFound);
        assert_eq!((lost.code(), lost.message()), (Code::Unknown, "etcdserver: requested lease not found"));
        let kept = to_status(Error::Other { code: 12, message: "no".into() });
        assert_eq!((kept.code(), kept.message()), (Code::Unimplemented, "no"));
    }
}
