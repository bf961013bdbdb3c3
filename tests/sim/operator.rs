//! Whoever changes the membership and looks after members, through the API.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chorus::cluster::member_plan::Origin;
use chorus::raft::ClusterId;
use chorus::store::Error;
use chorus::world::{NodeId, World};
use chorus_proto::etcdserverpb as pb;

use crate::history::History;
use crate::member::peer_url;
use crate::traffic::client_of;

/// No cluster grows by more.
const ADDED_MAX: u64 = 3;

/// What the operator is asked to do.
#[derive(Debug)]
pub enum Ask {
    Add { learner: bool },
    Remove(String),
    MoveLeader(String),
    Defragment(String),
}

/// Where the operator is asked, and tells what came of it.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: VecDeque<Ask>,
    added: u64,
    joined: Vec<(String, Origin)>,
    removed: Vec<String>,
}

impl Desk {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().expect("a simulation that panics is over"))
    }

    pub fn ask(&self, ask: Ask) {
        self.with(|state| state.asked.push_back(ask));
    }

    /// Members that may be started now, and where they belong.
    pub fn joined(&self) -> Vec<(String, Origin)> {
        self.with(|state| std::mem::take(&mut state.joined))
    }

    /// Members that were removed and may not know it.
    pub fn removed(&self) -> Vec<String> {
        self.with(|state| std::mem::take(&mut state.removed))
    }
}

/// Does what is asked of it, one thing after the other.
pub async fn work(world: World, members: Vec<String>, desk: Desk, history: History) {
    loop {
        world.clock.sleep(Duration::from_millis(20)).await;
        let Some(ask) = desk.with(|state| state.asked.pop_front()) else { continue };
        let what = format!("{ask:?}");
        let operator = Operator { world: &world, members: &members, desk: &desk, history: &history };
        match operator.answer(ask).await {
            Ok(()) => history.note(format_args!("{what}: done")),
            Err(error) => history.note(format_args!("{what}: {error}")),
        }
    }
}

struct Operator<'a> {
    world: &'a World,
    members: &'a [String],
    desk: &'a Desk,
    history: &'a History,
}

impl Operator<'_> {
    async fn answer(&self, ask: Ask) -> Result<(), Error> {
        match ask {
            Ask::Add { learner } => self.add(learner).await,
            Ask::Remove(name) => self.remove(name).await,
            Ask::MoveLeader(name) => self.move_leader(name).await,
            Ask::Defragment(name) => {
                client_of(self.world, &[name]).defragment(pb::DefragmentRequest {}).await?;
                self.done("defragmentation");
                Ok(())
            }
        }
    }

    fn done(&self, what: &'static str) {
        self.history.count(what);
    }

    async fn add(&self, learner: bool) -> Result<(), Error> {
        let number = self.desk.with(|state| {
            state.added += 1;
            state.added
        });
        if number > ADDED_MAX {
            return Ok(());
        }
        let name = format!("m{}", 10 + number);
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url(&name)], is_learner: learner };
        let store = client_of(self.world, self.members);
        let response = store.member_add(request).await?;
        let node = response.member.map_or(0, |member| member.id);
        let cluster = response.header.map_or(0, |header| header.cluster_id);
        let origin = Origin::Existing { node: NodeId(node), cluster: ClusterId(cluster) };
        self.desk.with(|state| state.joined.push((name.clone(), origin)));
        self.done(if learner { "learner added" } else { "member added" });
        if learner {
            self.promote(node).await;
        }
        Ok(())
    }

    /// A learner that has caught up votes from here on; one that never does stays what it is.
    async fn promote(&self, id: u64) {
        for _ in 0..20 {
            self.world.clock.sleep(Duration::from_millis(500)).await;
            let store = client_of(self.world, self.members);
            if store.member_promote(pb::MemberPromoteRequest { id }).await.is_ok() {
                self.done("learner promoted");
                return;
            }
        }
    }

    async fn remove(&self, name: String) -> Result<(), Error> {
        let store = client_of(self.world, self.members);
        let list = store.member_list(pb::MemberListRequest { linearizable: true }).await?;
        // Clients know the first members alone, so that one of them has to stay.
        let removable = |member: &&pb::Member| member.name == name && name != self.members[0];
        let Some(member) = list.members.iter().find(removable) else { return Ok(()) };
        store.member_remove(pb::MemberRemoveRequest { id: member.id }).await?;
        self.desk.with(|state| state.removed.push(name));
        self.done("member removed");
        Ok(())
    }

    async fn move_leader(&self, name: String) -> Result<(), Error> {
        for member in self.members {
            let store = client_of(self.world, std::slice::from_ref(member));
            let status = store.status(pb::StatusRequest {}).await?;
            let list = store.member_list(pb::MemberListRequest { linearizable: false }).await?;
            let me = status.header.map_or(0, |header| header.member_id);
            let to = list.members.iter().find(|member| member.name == name).map_or(0, |member| member.id);
            if status.leader == me && to != me {
                store.move_leader(pb::MoveLeaderRequest { target_id: to }).await?;
                self.done("leader moved");
                return Ok(());
            }
        }
        Ok(())
    }
}
