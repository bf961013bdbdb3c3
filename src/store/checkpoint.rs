//! The state as one file, so that a restart reads the index instead of all segments.
//!
//! Layout: a head; the rest of what is small; users and roles; every key in order with its newest change; every change in order of revisions, which names its key
//! by its number. Both orders make restoring a run of appends.

use std::io::{self, BufReader};
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::agreed::Agreed;
use super::auth;
use super::mvcc::{Back, Change, Key, Rev, Slot};
use super::state::State;
use crate::disk::checkpoint::{Reader, Writer};
use crate::disk::{Error, Point, Position, RecordLocation, codec};
use crate::world::World;

/// The version of this layout. Version 1 has neither a [`Rest`] nor users and roles.
pub const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Head {
    /// The frames before this point are in the state.
    point: Point,
    applied: Option<Position>,
    membership: Option<(Position, Bytes)>,
    revision: i64,
    compacted: i64,
    swept: Rev,
    /// With the seconds of its life, and those that are left of it where that is recorded.
    leases: Vec<(i64, i64, i64)>,
    alarms: Vec<(u64, i32)>,
    keys: u64,
    changes: u64,
}

/// What is small and not in the head.
#[derive(Default, Serialize, Deserialize)]
struct Rest {
    agreed: Agreed,
    /// Rows that make users and roles.
    auth: u64,
}

#[derive(Serialize, Deserialize)]
struct KeyRow {
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    latest: Rev,
    live: bool,
}

#[derive(Serialize, Deserialize)]
struct ChangeRow {
    at: Rev,
    key: u32,
    create: i64,
    version: i64,
    lease: i64,
    prev: Rev,
    place: RecordLocation,
}

/// Writes `state`, which holds the frames before `point`. Those must be durable.
pub fn write(world: &World, path: &Path, state: &State, point: Point) -> Result<(), Error> {
    let mut writer = Writer::create(world, path, VERSION)?;
    let index = &state.index;
    let head = Head {
        point,
        applied: state.applied,
        membership: state.membership.clone(),
        revision: index.revision,
        compacted: index.compacted,
        swept: index.swept,
        leases: state.leases.iter().map(|(id, lease)| (id, lease.ttl, state.leases.remaining_seconds(lease))).collect(),
        alarms: state.alarms.iter().copied().collect(),
        keys: index.keys_count() as u64,
        changes: index.changes_count() as u64,
    };
    put(&mut writer, &head)?;
    let auth = state.auth.changes();
    put(&mut writer, &Rest { agreed: state.agreed, auth: auth.len() as u64 })?;
    auth.iter().try_for_each(|row| put(&mut writer, row))?;
    let mut owners = Vec::with_capacity(index.changes_count());
    for (number, (key, latest)) in index.keys().enumerate() {
        let mut at = latest.rev();
        while let Some(change) = index.change(at) {
            owners.push((at, number as u32));
            at = change.prev;
        }
        let live = index.change(latest.rev()).is_some_and(|change| !change.is_deletion());
        put(&mut writer, &KeyRow { key: key.to_vec(), latest: latest.rev(), live })?;
    }
    owners.sort_unstable();
    assert_eq!(owners.len(), index.changes_count(), "every change is linked from its key's newest one");
    for ((at, change), (_, key)) in index.changes_from(Rev::NONE).zip(owners) {
        let Slot::Stored(place) = change.slot else { unreachable!("a published index holds no pending record") };
        let &Change { create, version, lease, prev, .. } = change;
        put(&mut writer, &ChangeRow { at, key, create, version, lease, prev, place })?;
    }
    writer.commit()
}

fn put<T: Serialize>(writer: &mut Writer, value: &T) -> Result<(), Error> {
    codec::encode_into(writer, value).map_err(|error| Error::Io(error.into()))
}

/// The state that a checkpoint holds and the point up to which frames are in it; `None` when there is none.
pub fn read(world: &World, path: &Path) -> Result<Option<(State, Point)>, Error> {
    let Some(reader) = Reader::open(world, path)? else { return Ok(None) };
    let version = reader.version();
    if version > VERSION {
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        return Err(Error::Newer { directory, what: "an index", found: version, known: VERSION });
    }
    let damaged = |error: codec::Error| Error::Io(io::Error::from(error));
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let head: Head = codec::decode_from(&mut reader).map_err(damaged)?;
    let rest = if version < 2 { Rest::default() } else { codec::decode_from(&mut reader).map_err(damaged)? };
    let mut state =
        State { agreed: rest.agreed, applied: head.applied, membership: head.membership, ..State::default() };
    for (id, ttl, remaining) in head.leases {
        state.leases.grant(id, ttl, 0).map_err(|error| Error::Io(io::Error::other(error)))?;
        state.leases.set_remaining(id, u64::try_from(remaining).unwrap_or_default());
    }
    state.alarms = head.alarms.into_iter().collect();
    for _ in 0..rest.auth {
        let change: auth::Change = codec::decode_from(&mut reader).map_err(damaged)?;
        state.auth.follow(&change).map_err(|error| Error::Io(error.into()))?;
    }
    let mut keys = Vec::with_capacity(usize::try_from(head.keys).unwrap_or_default().min(1 << 24));
    for _ in 0..head.keys {
        let row: KeyRow = codec::decode_from(&mut reader).map_err(damaged)?;
        let key = Key::new(&row.key);
        state.index.restore_key(key.clone(), row.latest, row.live);
        keys.push((key, row.latest));
    }
    for _ in 0..head.changes {
        let row: ChangeRow = codec::decode_from(&mut reader).map_err(damaged)?;
        let (key, latest) = keys.get(row.key as usize).ok_or_else(|| Error::Io(io::ErrorKind::InvalidData.into()))?;
        if *latest == row.at {
            state.leases.reattach(key, 0, row.lease);
        }
        let ChangeRow { at, create, version, lease, prev, place, .. } = row;
        let (key, back, slot) = (key.clone(), Back::default(), Slot::Stored(place));
        state.index.restore_change(at, Change { key, create, version, lease, prev, back, slot });
    }
    reader.into_inner().end()?;
    state.index.restored();
    state.index.revision = head.revision;
    state.index.compacted = head.compacted;
    state.index.swept = head.swept;
    Ok(Some((state, head.point)))
}
