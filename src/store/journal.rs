//! What a frame of the data segments says besides its records, and how it is brought back.
//!
//! One frame holds what one log entry changed, so that the applied position is atomic with the data. The records of a
//! frame are marshalled `mvccpb.KeyValue`s in the order of the changes; a deletion's record is the key alone.

use bytes::Bytes;
use chorus_proto::mvccpb::KeyValue;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::agreed::Agreed;
use super::auth;
use super::mvcc::{Back, Change, Key, Rev, Slot};
use super::state::State;
use crate::disk::segments::{Frame, Record};
use crate::disk::{Position, codec};
use crate::world::Term;
use crate::world::planted::planted;

/// The head of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    Applied {
        at: Position,
        membership: Option<Bytes>,
        steps: Vec<Step>,
    },
    /// Records that were copied out of an older segment, unchanged.
    Moved {
        changes: Vec<Rev>,
    },
}

/// One command's effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The next `changes` records of the frame.
    Write {
        revision: i64,
        changes: u32,
    },
    Grant {
        lease: i64,
        ttl: i64,
        /// Nothing is recorded of a lease that was only just granted: 0.
        remaining_ttl: i64,
    },
    /// Comes after the deletion of its keys.
    Revoke {
        lease: i64,
    },
    /// See [`Leases::checkpoint`](super::lease::Leases::checkpoint).
    Remaining {
        lease: i64,
        ttl: i64,
    },
    Compact {
        revision: i64,
    },
    Raise {
        member: u64,
        alarm: i32,
    },
    Disarm {
        member: u64,
        alarm: i32,
    },
    Agree(Agreed),
    Auth(auth::Change),
}

/// A frame that does not fit the state before it.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error("the head of a frame does not decode: {0}")]
    Head(#[from] codec::Error),
    #[error("a record does not decode: {0}")]
    Record(#[from] prost::DecodeError),
    #[error("a frame has {found} records where its head says {said}")]
    Count { found: usize, said: usize },
    #[error("revision {found} follows {before}")]
    Revision { found: i64, before: i64 },
    #[error("a frame of {found} follows one of {before}")]
    Order { found: Position, before: Position },
    #[error("{0}")]
    Refused(#[from] super::Error),
}

/// Brings back a frame.
pub fn replay(state: &mut State, frame: &Frame) -> Result<(), Mismatch> {
    match codec::decode(&frame.head)? {
        Head::Applied { at, membership, steps } => {
            if let Some(before) = state.applied.filter(|before| *before >= at) {
                return Err(Mismatch::Order { found: at, before });
            }
            replay_steps(state, at, &steps, &frame.records)?;
            if let Some(membership) = membership {
                state.membership = Some((at, membership));
            }
            if !planted!("forget-applied") {
                state.applied = Some(at);
            }
        }
        Head::Moved { changes } => {
            if changes.len() != frame.records.len() {
                return Err(Mismatch::Count { found: frame.records.len(), said: changes.len() });
            }
            for (at, record) in changes.into_iter().zip(&frame.records) {
                // Compaction may have taken the change since it was moved.
                state.index.relocate(at, Slot::Stored(record.location));
            }
        }
    }
    Ok(())
}

fn replay_steps(state: &mut State, at: Position, steps: &[Step], records: &[Record]) -> Result<(), Mismatch> {
    let mut records = records.iter();
    for step in steps {
        match *step {
            Step::Write { revision, changes } => {
                let before = state.index.revision;
                if revision != before + 1 {
                    return Err(Mismatch::Revision { found: revision, before });
                }
                for sub in 0..changes {
                    let said = changes as usize;
                    let record = records.next().ok_or(Mismatch::Count { found: sub as usize, said })?;
                    replay_change(state, Rev { main: revision, sub }, record)?;
                }
                state.index.revision = revision;
            }
            Step::Grant { lease, ttl, .. } => state.leases.grant(lease, ttl, at.index)?,
            Step::Revoke { lease } => state.leases.remove(lease),
            Step::Remaining { lease, ttl } => state.leases.checkpoint(Term(at.term), lease, ttl),
            Step::Compact { revision } => state.index.compact(revision)?,
            Step::Raise { member, alarm } => drop(state.alarms.insert((member, alarm))),
            Step::Disarm { member, alarm } => drop(state.alarms.remove(&(member, alarm))),
            Step::Agree(agreed) => state.agreed = agreed,
            Step::Auth(ref change) => state.auth.follow(change)?,
        }
    }
    match records.len() {
        0 => Ok(()),
        found => Err(Mismatch::Count { found, said: 0 }),
    }
}

fn replay_change(state: &mut State, at: Rev, record: &Record) -> Result<(), Mismatch> {
    let kv = KeyValue::decode(&record.bytes[..])?;
    let (key, prev, old_lease) = match state.index.latest(&kv.key) {
        Some((prev, change)) => (change.key.clone(), prev, change.lease),
        None => (Key::new(&kv.key), Rev::NONE, 0),
    };
    state.leases.reattach(&key, old_lease, kv.lease);
    let slot = Slot::Stored(record.location);
    let (create, version, lease, back) = (kv.create_revision, kv.version, kv.lease, Back::default());
    let change = Change { key, create, version, lease, prev, back, slot };
    state.index.insert(at, change);
    Ok(())
}
