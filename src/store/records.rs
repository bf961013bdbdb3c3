//! A large range on its way out: which records it has is known at once, what they say is read as it is sent, so that an
//! answer takes no more memory than a piece of it.
//!
//! A record is stored as it travels, a marshalled `mvccpb.KeyValue`: the length of the whole answer is known before the
//! first one is read.

use bytes::{BufMut, Bytes, BytesMut};
use chorus_proto::etcdserverpb as pb;
use futures::{Stream, stream};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::Error;
use super::mvcc::Fault;
use crate::disk::Place;
use crate::disk::segments::Pinned;
use crate::world::Spawner;

/// The field of a `RangeResponse` that holds the keys.
const KVS: u32 = 2;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The answer to a range.
pub enum Ranged {
    Whole(pb::RangeResponse),
    InRecords(Records),
}

/// A marshalled `RangeResponse` whose records are yet to be read.
pub struct Records {
    /// All of the answer but its keys.
    head: pb::RangeResponse,
    places: Vec<Place>,
    segments: Pinned,
    /// Where this is read, once it is.
    spawner: Option<Spawner>,
}

impl Records {
    pub(super) fn new(head: pb::RangeResponse, places: Vec<Place>, segments: Pinned) -> Records {
        Records { head, places, segments, spawner: None }
    }

    pub(super) fn header(&mut self) -> &mut Option<pb::ResponseHeader> {
        &mut self.head.header
    }

    pub(super) fn read_on(self, spawner: Spawner) -> Records {
        Records { spawner: Some(spawner), ..self }
    }

    /// Bytes of the whole answer.
    pub fn length(&self) -> u64 {
        let record = |place: &Place| key_len(KVS) + encoded_len_varint(u64::from(place.length)) + place.length as usize;
        self.head.encoded_len() as u64 + self.places.iter().map(|place| record(place) as u64).sum::<u64>()
    }

    /// The answer in pieces, each read when it is asked for. An error ends it: what was sent is then not the whole.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        let Records { head, places, segments, spawner } = self;
        let begin = Bytes::from(head.encode_to_vec());
        let rest = stream::try_unfold((places.into_iter(), segments, spawner), async |(places, segments, spawner)| {
            if places.len() == 0 {
                return Ok(None);
            }
            let read = move || {
                let mut places = places;
                piece(&mut places, &segments).map(|bytes| (bytes, places, segments))
            };
            let outcome = match &spawner {
                Some(spawner) => spawner.blocking(read).await,
                None => read(),
            };
            let (bytes, places, segments) = outcome.map_err(Fault::from)?;
            Ok(Some((bytes, (places, segments, spawner))))
        });
        futures::StreamExt::chain(stream::once(async move { Ok(begin) }), rest)
    }
}

fn piece(places: &mut std::vec::IntoIter<Place>, segments: &Pinned) -> Result<Bytes, crate::disk::Error> {
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
