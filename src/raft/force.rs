//! Making one member the only one, before it starts: the way out when a quorum is lost for good.
//!
//! The log keeps all that it holds. A last entry, which needs no agreement of other members, says that there are no
//! others any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::type_config::alias::VoteOf;
use tokio::sync::oneshot;

use super::Error;
use super::applied_membership::AppliedMembership;
use super::encoding::{decode, encode, parse, record};
use super::machine::{Applied, Position};
use super::types::{Membership, Payload, Types, Vote, log_id};
use crate::disk::{Entry, LogHandle, Recovered};
use crate::world::NodeId;

/// Entries read in one go.
const ENTRIES_PER_READ: u64 = 256;

/// Appends an entry to `log` that makes `node` the only member, and marks the whole log as committed. Does nothing to a
/// log without a membership: such a member has not started yet.
pub(super) async fn force_new_cluster(
    log: &LogHandle,
    recovered: &Recovered,
    applied: &Applied,
    node: NodeId,
    directory: &Path,
) -> Result<Option<Recovered>, Error> {
    let wrap = |error: std::io::Error| Error::unusable(directory, &error);
    let Some(membership) = last_membership(log, applied).map_err(wrap)? else { return Ok(None) };
    let Some(me) = membership.get_node(&node.0).cloned() else {
        return Err(Error::Config(format!("member {node} is not in the membership that its data directory holds")));
    };
    let at = [log.last(), log.purged(), applied.at].into_iter().flatten().max();
    let at = at.ok_or_else(|| Error::Config("the log is empty, but it has a membership".into()))?;
    let vote = recovered.vote.as_deref().map(parse::<Vote>).transpose().map_err(wrap)?;
    let term = at.term.max(vote.map_or(0, |vote| vote.leader_id.term)) + 1;
    let next = Position { term, index: at.index + 1 };
    let membership = Membership::new(vec![BTreeSet::from([node.0])], BTreeMap::from([(node.0, me)]))
        .map_err(|error| Error::Config(format!("member {node} alone is no membership: {error}")))?;

    let (vote, committed) = (record(&VoteOf::<Types>::new(term, node.0)), record(&log_id(next)));
    let io = |error: std::io::Error| Error::io("writing the membership to the log", &error);
    log.save_vote(vote.clone()).await.map_err(io)?;
    if log.last().map(|last| last.index) != Some(at.index) {
        // The state is ahead of the log, whose entries are of no use any more.
        log.purge(at);
    }
    log.save_committed(committed.clone());
    let (done, written) = oneshot::channel();
    let entry = Entry { at: next, payload: encode(&Payload::Membership(membership)) };
    log.append(vec![entry], move |result| drop(done.send(result)));
    written.await.map_err(|_| Error::Stopped)?.map_err(io)?;
    tracing::warn!(member = %node, at = %next, "this member is now the only one of its cluster");
    Ok(Some(Recovered { vote: Some(vote), committed: Some(committed), ..recovered.clone() }))
}

/// The last membership in the log, else in the state.
fn last_membership(log: &LogHandle, applied: &Applied) -> std::io::Result<Option<Membership>> {
    let mut found = match &applied.membership {
        Some((_, record)) => Some(AppliedMembership::decode(record)?.membership),
        None => None,
    };
    let end = log.last().map_or(0, |last| last.index + 1);
    let mut next = applied.at.map_or(1, |at| at.index + 1).max(log.purged().map_or(0, |at| at.index + 1));
    while next < end {
        for entry in log.read(next..end.min(next + ENTRIES_PER_READ))? {
            if let Payload::Membership(membership) = decode(entry.payload)? {
                found = Some(membership);
            }
        }
        next += ENTRIES_PER_READ;
    }
    Ok(found)
}
