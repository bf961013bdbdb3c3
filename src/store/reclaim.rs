//! Giving back the space of dead records: what still lives in a mostly dead segment is copied to the end, and the
//! segment goes once a checkpoint holds the copies' places.

use bytes::Bytes;

use super::generation::{Basis, Generation, StepError};
use super::journal::{Head, Step};
use super::mvcc::Rev;
use super::state_machine::Shared;
use crate::disk::segments::{Frame, Listed};
use crate::disk::{self, RecordLocation, SegmentId, codec};

/// Bytes that are copied while applying waits.
const COPY_BYTES: usize = 1 << 20;

/// The sealed segment before `end` whose removal frees most, if less than half of it lives.
pub fn candidate(
    shared: &Shared,
    basis: &Basis,
    end: SegmentId,
    emptied: &[SegmentId],
) -> Result<Option<SegmentId>, StepError> {
    let listed = basis.segments.list()?.into_iter();
    let ledger = shared.ledger_of(basis.generation)?;
    let half_dead = |listed: &Listed| listed.bytes > 2 * ledger.usage.live(listed.id);
    let candidates = listed.filter(|listed| listed.sealed && listed.id < end && !emptied.contains(&listed.id));
    let dead = |listed: &Listed| listed.bytes.saturating_sub(ledger.usage.live(listed.id));
    Ok(candidates.filter(half_dead).max_by_key(dead).map(|listed| listed.id))
}

/// The sealed segments before `end` in which nothing lives.
pub fn dead(
    shared: &Shared,
    basis: &Basis,
    end: SegmentId,
    emptied: &[SegmentId],
) -> Result<Vec<SegmentId>, StepError> {
    let listed = basis.segments.list()?.into_iter();
    let ledger = shared.ledger_of(basis.generation)?;
    let dead = listed.filter(|listed| listed.sealed && listed.id < end && ledger.usage.live(listed.id) == 0);
    Ok(dead.map(|listed| listed.id).filter(|segment| !emptied.contains(segment)).collect())
}

/// The sealed segments before `end` of which more than a quarter is dead.
pub fn with_dead(shared: &Shared, basis: &Basis, end: SegmentId) -> Result<Vec<SegmentId>, StepError> {
    let listed = basis.segments.list()?.into_iter();
    let ledger = shared.ledger_of(basis.generation)?;
    let dead = |listed: &Listed| listed.bytes.saturating_sub(ledger.usage.live(listed.id));
    let worth_it = listed.filter(|listed| listed.sealed && listed.id < end && 4 * dead(listed) > listed.bytes);
    Ok(worth_it.map(|listed| listed.id).collect())
}

/// Copies what lives in `segment` to the end of the segments.
pub fn empty(shared: &Shared, basis: &Basis, segment: SegmentId) -> Result<(), StepError> {
    let mut moving: Vec<(Rev, RecordLocation, Bytes)> = Vec::new();
    let mut bytes = 0;
    basis.segments.scan_segment(segment, |frame| {
        for (at, place, record) in records(&frame)? {
            bytes += record.len();
            moving.push((at, place, Bytes::copy_from_slice(&record)));
        }
        if bytes >= COPY_BYTES {
            bytes = 0;
            copy(shared, basis.generation, &mut moving)?;
        }
        Ok::<_, StepError>(())
    })?;
    copy(shared, basis.generation, &mut moving)
}

fn copy(
    shared: &Shared,
    generation: Generation,
    moving: &mut Vec<(Rev, RecordLocation, Bytes)>,
) -> Result<(), StepError> {
    let mut ledger = shared.ledger_of(generation)?;
    ledger.relocate(moving)?;
    shared.publish(&ledger);
    moving.clear();
    Ok(())
}

/// The changes whose records a frame holds.
fn records(frame: &Frame) -> Result<Vec<(Rev, RecordLocation, Bytes)>, disk::Error> {
    let changes: Vec<Rev> = match codec::decode(&frame.head).map_err(|error| disk::Error::Io(error.into()))? {
        Head::Moved { changes } => changes,
        Head::Applied { steps, .. } => {
            let writes = steps.into_iter().filter_map(|step| match step {
                Step::Write { revision, changes } => Some((revision, changes)),
                _ => None,
            });
            writes.flat_map(|(main, changes)| (0..changes).map(move |sub| Rev { main, sub })).collect()
        }
    };
    Ok(changes
        .into_iter()
        .zip(&frame.records)
        .map(|(at, record)| (at, record.location, record.bytes.clone()))
        .collect())
}
