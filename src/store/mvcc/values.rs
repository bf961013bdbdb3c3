//! Where records are read from: the data segments, or the batch that is being applied.

use bytes::Bytes;
use chorus_proto::mvccpb::KeyValue;
use prost::Message;

use super::index::Slot;
use crate::disk::segments::Pinned;
use crate::disk::{self, Segments};
use crate::store::Error;

/// Why a read or a change failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The request is refused: answer it so.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The disk failed: fatal while applying.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A record does not decode: fatal.
    #[error("cannot decode a record: {0}")]
    Record(#[from] prost::DecodeError),
}

/// A source of records.
pub trait Values {
    /// The marshalled `mvccpb.KeyValue`.
    fn record(&self, slot: Slot) -> Result<Bytes, Fault>;

    fn key_value(&self, slot: Slot) -> Result<KeyValue, Fault> {
        Ok(KeyValue::decode(self.record(slot)?)?)
    }
}

impl Values for Segments {
    fn record(&self, slot: Slot) -> Result<Bytes, Fault> {
        match slot {
            Slot::Stored(place) => Ok(self.read(place)?),
            Slot::Pending(_) => unreachable!("a published index holds no pending record"),
        }
    }
}

impl Values for Pinned {
    fn record(&self, slot: Slot) -> Result<Bytes, Fault> {
        match slot {
            Slot::Stored(place) => Ok(self.read(place)?),
            Slot::Pending(_) => unreachable!("a published index holds no pending record"),
        }
    }
}

/// The records of the batch that is being applied, before those on disk.
pub struct Overlay<'a, V> {
    pub stored: &'a V,
    pub pending: &'a [KeyValue],
}

impl<V: Values> Values for Overlay<'_, V> {
    fn record(&self, slot: Slot) -> Result<Bytes, Fault> {
        match slot {
            Slot::Pending(at) => Ok(self.pending[at as usize].encode_to_vec().into()),
            Slot::Stored(_) => self.stored.record(slot),
        }
    }

    fn key_value(&self, slot: Slot) -> Result<KeyValue, Fault> {
        match slot {
            Slot::Pending(at) => Ok(self.pending[at as usize].clone()),
            Slot::Stored(_) => self.stored.key_value(slot),
        }
    }
}
