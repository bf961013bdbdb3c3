//! The membership as the state keeps it, for those who read or write a state while no replica runs.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;

use super::Member;
use super::encoding::{malformed, parse, record};
use super::membership::{first, members};
use super::types::Membership;

/// The members that a record, which [`Payload::Membership`](super::machine::Payload) carried, names.
pub fn recorded_members(membership: &[u8]) -> io::Result<Vec<Member>> {
    Ok(members(&parse::<Membership>(membership)?))
}

/// The record of a membership in which all but the learners vote.
pub fn record_members(all: &[Member]) -> io::Result<Bytes> {
    let mut nodes = first(all);
    nodes.values_mut().for_each(|peer| peer.started = !peer.name.is_empty());
    let voters: BTreeSet<u64> = all.iter().filter(|member| !member.learner).map(|member| member.id.0).collect();
    let membership = Membership::new(vec![voters], nodes).map_err(|error| malformed(format!("membership: {error}")))?;
    Ok(record(&membership))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::NodeId;

    #[test]
    fn members_come_back() {
        let member = |id, learner| Member {
            id: NodeId(id),
            name: format!("n{id}"),
            peer_urls: vec![format!("http://h{id}:2380")],
            client_urls: vec![format!("http://h{id}:2379")],
            learner,
        };
        let all = vec![member(1, false), member(2, false), member(3, true)];
        assert_eq!(recorded_members(&record_members(&all).unwrap()).unwrap(), all);
        assert!(recorded_members(b"nonsense").is_err());
    }
}
