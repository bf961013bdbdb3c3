//! A large range on its way out: which records it has is known at once, what they say is read as it is sent, so that an
//! answer takes no more memory than a piece of it.
//!
//! A record is stored as it travels, a marshalled `mvccpb.KeyValue`: the length of the whole answer is known before the
//! first one is read.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use chorus_proto::etcdserverpb as pb;
use futures::{Stream, stream};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::Error;
use super::bounds::Bounds;
use super::held::Held;
use super::mvcc::Fault;
use crate::actor::Share;
use crate::disk::RecordLocation;
use crate::disk::segments::Pinned;
use crate::world::World;

/// The field of a `RangeResponse` that holds the keys.
const KVS: u32 = 2;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The answer to a range.
pub enum Ranged {
    Whole(pb::RangeResponse),
    InRecords(Records),
}

/// What a view finds of a large range.
pub struct Found {
    /// All of the answer but its keys.
    pub head: pb::RangeResponse,
    pub places: Vec<RecordLocation>,
    pub segments: Pinned,
}

/// A marshalled `RangeResponse` whose records are yet to be read.
pub struct Records {
    /// All of the answer but its keys.
    head: pb::RangeResponse,
    places: Vec<RecordLocation>,
    segments: Pinned,
    world: World,
    bounds: Arc<Bounds>,
    /// Of the memory for the places.
    share: Option<Share>,
}

/// What is left to be read of a range that is under way.
struct Rest {
    places: std::vec::IntoIter<RecordLocation>,
    segments: Pinned,
    _share: Option<Share>,
}

impl Records {
    pub(super) fn new(found: Found, world: &World, bounds: Arc<Bounds>) -> Records {
        let Found { head, places, segments } = found;
        Records { head, places, segments, world: world.clone(), bounds, share: None }
    }

    pub(super) fn header(&mut self) -> &mut Option<pb::ResponseHeader> {
        &mut self.head.header
    }

    /// What it takes to remember where the records lie.
    pub(super) fn places_bytes(&self) -> u64 {
        size_of_val(&self.places[..]) as u64
    }

    /// Keeps its share of the memory for places as long as those.
    pub(super) fn hold(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Bytes of the whole answer.
    pub fn length(&self) -> u64 {
        let record =
            |place: &RecordLocation| key_len(KVS) + encoded_len_varint(u64::from(place.length)) + place.length as usize;
        self.head.encoded_len() as u64 + self.places.iter().map(|place| record(place) as u64).sum::<u64>()
    }

    /// The answer in pieces, each read when it is asked for. An error ends it: what was sent is then not the whole.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        let Records { head, places, segments, world, bounds, share } = self;
        let begin = Bytes::from(head.encode_to_vec());
        let rest = Held::new(&world, bounds, Rest { places: places.into_iter(), segments, _share: share });
        let rest = stream::try_unfold((0, rest, world), async |(pieces, held, world)| {
            let mut rest = held.take()?;
            if rest.places.len() == 0 {
                return Ok(None);
            }
            let read = move || piece(&mut rest.places, &rest.segments).map(|bytes| (bytes, rest));
            let (bytes, rest) = world.spawner.blocking(read).await.map_err(Fault::from)?;
            held.put_back(pieces + 1, rest);
            Ok(Some((bytes, (pieces + 1, held, world))))
        });
        futures::StreamExt::chain(stream::once(async move { Ok(begin) }), rest)
    }
}

fn piece(places: &mut std::vec::IntoIter<RecordLocation>, segments: &Pinned) -> Result<Bytes, crate::disk::Error> {
    let mut bytes = BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
    while bytes.len() < PIECE_BYTES
        && let Some(place) = places.next()
    {
        encode_key(KVS, WireType::LengthDelimited, &mut bytes);
        encode_varint(u64::from(place.length), &mut bytes);
        bytes.put(segments.read(place)?);
    }
    Ok(bytes.freeze())
}
