//! Range: reading keys as they are or were.

use std::cmp::Ordering;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use chorus_proto::mvccpb::KeyValue;

use super::index::{Change, Index, Key, Rev, Slot};
use super::values::{Fault, Values};
use crate::store::Error;
use crate::store::range::KeyRange;

/// Answers `request` from the index as it stands at `current`. The header carries the revision alone.
pub fn range(
    index: &Index,
    values: &impl Values,
    current: i64,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, Fault> {
    let keys = KeyRange::new(request.key.clone(), request.range_end.clone());
    let (mut answer, kept) = choose(index, values, current, request, &keys)?;
    answer.kvs = kept.iter().map(|found| found.key_value(values, request)).collect::<Result<_, _>>()?;
    Ok(answer)
}

/// As [`range`], but for the keys themselves: where their records lie.
pub fn slots(
    index: &Index,
    values: &impl Values,
    current: i64,
    request: &pb::RangeRequest,
) -> Result<(pb::RangeResponse, Vec<Slot>), Fault> {
    let keys = KeyRange::new(request.key.clone(), request.range_end.clone());
    let (answer, kept) = choose(index, values, current, request, &keys)?;
    Ok((answer, kept.iter().map(|found| found.change.slot).collect()))
}

/// The answer without its keys, and which ones of `keys` those are.
fn choose<'a>(
    index: &'a Index,
    values: &impl Values,
    current: i64,
    request: &pb::RangeRequest,
    keys: &'a KeyRange,
) -> Result<(pb::RangeResponse, Vec<Found<'a>>), Fault> {
    let revision = if request.revision <= 0 { current } else { request.revision };
    if revision > current {
        return Err(Error::FutureRevision.into());
    }
    if revision < index.compacted {
        return Err(Error::Compacted.into());
    }
    let mut answer = pb::RangeResponse { header: Some(header(current)), ..Default::default() };
    if request.count_only {
        answer.count = index.count(keys, revision) as i64;
        return Ok((answer, Vec::new()));
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let (found, count) = fetch(index, keys, revision, &Plan::of(request, limit));
    let kept = found.into_iter().filter(|found| passes(request, found)).collect();
    let mut kept = sort(kept, values, request)?;
    answer.count = count as i64;
    answer.more = kept.len() > limit;
    kept.truncate(limit);
    Ok((answer, kept))
}

pub fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..Default::default() }
}

struct Found<'a> {
    key: &'a Key,
    at: Rev,
    change: &'a Change,
}

impl Found<'_> {
    /// Where no value is read, the answer comes from the index, which gives no lease either.
    fn key_value(&self, values: &impl Values, request: &pb::RangeRequest) -> Result<KeyValue, Fault> {
        if !request.keys_only {
            return values.key_value(self.change.slot);
        }
        if request.sort_target() == SortTarget::Value {
            return Ok(KeyValue { value: Bytes::new(), ..values.key_value(self.change.slot)? });
        }
        Ok(KeyValue {
            key: self.key.to_bytes(),
            create_revision: self.change.create,
            mod_revision: self.at.main,
            version: self.change.version,
            ..Default::default()
        })
    }
}

/// How many keys to fetch, from which end.
struct Plan {
    fetch_max: usize,
    backwards: bool,
}

impl Plan {
    /// An explicit order other than that of the keys, and any filter, need all keys. A sort target alone does not: then
    /// the limit cuts in key order before the sort.
    fn of(request: &pb::RangeRequest, limit: usize) -> Plan {
        let fetch_max = if looks_at_all(request) { usize::MAX } else { limit.saturating_add(1) };
        let by_key = request.sort_target() == SortTarget::Key;
        Plan { fetch_max, backwards: by_key && request.sort_order() == SortOrder::Descend }
    }
}

/// The first keys of the plan, and the count of all in the range.
fn fetch<'a>(index: &'a Index, keys: &'a KeyRange, revision: i64, plan: &Plan) -> (Vec<Found<'a>>, usize) {
    let all = index.range(keys, revision).map(|(key, at, change)| Found { key, at, change });
    let found: Vec<_> =
        if plan.backwards { all.rev().take(plan.fetch_max).collect() } else { all.take(plan.fetch_max).collect() };
    let count = if found.len() < plan.fetch_max { found.len() } else { index.count(keys, revision) };
    (found, count)
}

/// Whether all keys of the range are looked at, whatever the limit says.
pub fn looks_at_all(request: &pb::RangeRequest) -> bool {
    let ordered = request.sort_order() != SortOrder::None && request.sort_target() != SortTarget::Key;
    !request.count_only && (ordered || is_filtered(request))
}

fn is_filtered(request: &pb::RangeRequest) -> bool {
    let filters =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    filters.iter().any(|filter| *filter != 0)
}

fn passes(request: &pb::RangeRequest, found: &Found) -> bool {
    let above = |min: i64, value: i64| min == 0 || value >= min;
    let below = |max: i64, value: i64| max == 0 || value <= max;
    above(request.min_mod_revision, found.at.main)
        && below(request.max_mod_revision, found.at.main)
        && above(request.min_create_revision, found.change.create)
        && below(request.max_create_revision, found.change.create)
}

/// Sorts as asked; in both directions equal keys, versions and so on stay in the order of the keys.
fn sort<'a>(
    mut found: Vec<Found<'a>>,
    values: &impl Values,
    request: &pb::RangeRequest,
) -> Result<Vec<Found<'a>>, Fault> {
    let descend = request.sort_order() == SortOrder::Descend;
    let directed = |ordering: Ordering| if descend { ordering.reverse() } else { ordering };
    match request.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => found.sort_by(|one, two| directed(one.change.version.cmp(&two.change.version))),
        SortTarget::Create => found.sort_by(|one, two| directed(one.change.create.cmp(&two.change.create))),
        SortTarget::Mod => found.sort_by(|one, two| directed(one.at.main.cmp(&two.at.main))),
        SortTarget::Value => {
            let with_values = found.into_iter().map(|f| Ok((values.key_value(f.change.slot)?.value, f)));
            let mut with_values = with_values.collect::<Result<Vec<_>, Fault>>()?;
            with_values.sort_by(|(one, _), (two, _)| directed(one.cmp(two)));
            found = with_values.into_iter().map(|(_, found)| found).collect();
        }
    }
    Ok(found)
}
