//! Whether a cluster that is left alone has come to rest: all members hold the same, and nothing that should have ended
//! is left.

use chorus::store::Error;
use chorus::world::World;
use chorus_proto::etcdserverpb as pb;

use crate::history::History;
use crate::traffic::{HELD, client_of};

/// Whether all members answer, and answer the same. An error counts as no.
pub async fn all_agree(world: &World, first_members: &[String], history: &History) -> bool {
    let answer = async {
        let store = client_of(world, first_members);
        let held = pb::RangeRequest { key: HELD.into(), range_end: "held0".into(), ..Default::default() };
        let held = store.range(held).await?;
        if held.count > 0 {
            return Ok(Vec::new());
        }
        let revision = held.header.map_or(0, |header| header.revision);
        let list = store.member_list(pb::MemberListRequest { linearizable: true }).await?;
        let mut states = Vec::new();
        // A member without a name was added and never started.
        for member in list.members.into_iter().filter(|member| !member.name.is_empty()) {
            let hash = client_of(world, &[member.name]).hash_kv(pb::HashKvRequest { revision }).await?;
            states.push((revision, hash.compact_revision, hash.hash));
        }
        Ok::<_, Error>(states)
    };
    match answer.await {
        Ok(states) => {
            history.note(format_args!("members are at {states:?}"));
            !states.is_empty() && states.windows(2).all(|pair| pair[0] == pair[1])
        }
        Err(error) => {
            history.note(format_args!("not yet at rest: {error}"));
            false
        }
    }
}
