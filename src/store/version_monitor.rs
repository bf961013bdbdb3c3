//! The version monitor: on the leader, keeps the cluster's version in step with those of the members.
//!
//! ```text
//!   Monitor (on the leader) ──asks every member its version──▶ raft
//!        │ next: a pure function of the answers and of what was agreed
//!        └──ClusterVersionSet, DowngradeInfoSet──▶ proposals ──▶ State::agreed
//! ```

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::{etcdserverpb as pb, membershippb};

use super::cluster_version::{Agreed, Release, downgrade_to};
use super::member_state::MemberState;
use super::proposals::Proposals;
use crate::actor::Shutdown;
use crate::raft;
use crate::world::World;

/// Between two looks at the members' versions once the cluster has one.
const PACE: Duration = Duration::from_secs(4);
/// The same while some member has yet to tell its version.
const HURRY: Duration = Duration::from_millis(500);
/// Between two looks whether a downgrade is complete.
const DOWNGRADE_PACE: Duration = Duration::from_secs(5);
/// For a member's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// On the leader: keeps the agreed versions in step with those of the members.
#[derive(Clone)]
pub struct Monitor {
    pub world: World,
    pub raft: raft::Handle,
    pub member: Arc<MemberState>,
    pub proposals: Proposals,
}

impl Monitor {
    pub fn start(self, shutdown: &Shutdown) {
        let (spawner, end) = (self.world.spawner.clone(), shutdown.wait());
        spawner.keep("store/version_monitor", async move {
            tokio::select! {
                () = self.run() => (),
                () = end => (),
            }
        });
    }

    async fn run(self) {
        let mut leadership = self.raft.leadership();
        let mut looked_for_end = self.world.clock.now();
        loop {
            let mut pace = PACE;
            if leadership.borrow_and_update().is_leader {
                let known = self.look().await;
                if !known {
                    pace = HURRY;
                }
                if looked_for_end + DOWNGRADE_PACE <= self.world.clock.now() {
                    looked_for_end = self.world.clock.now();
                    self.end_downgrade().await;
                }
            }
            if let Ok(Err(_)) = self.world.clock.timeout(pace, leadership.changed()).await {
                return;
            }
        }
    }

    fn agreed(&self) -> Agreed {
        self.member.view().state.agreed
    }

    /// The members' versions, if all are known.
    async fn versions(&self) -> Option<Vec<Release>> {
        let versions = self.raft.versions(ANSWER_LIMIT).await;
        let release = |(member, version): (_, Option<String>)| {
            let version = version?;
            let read = version.parse();
            read.inspect_err(|_| tracing::warn!(%member, version, "the version of a member cannot be read")).ok()
        };
        versions.into_iter().map(release).collect()
    }

    /// Brings the cluster's version up to date; false while some member's is not known.
    async fn look(&self) -> bool {
        let least = self.versions().await.and_then(|versions| versions.into_iter().min());
        let agreed = self.agreed();
        if let Some(next) = agreed.next(least) {
            let request = membershippb::ClusterVersionSetRequest { ver: next.to_string() };
            let command = pb::InternalRaftRequest { cluster_version_set: Some(request), ..Default::default() };
            match (self.proposals.propose(command).await, agreed.cluster) {
                (Ok(_), None) => tracing::info!("cluster-version" = %next, "set initial cluster version"),
                (Ok(_), Some(from)) => tracing::info!(%from, to = %next, "updated cluster version"),
                (Err(error), _) => tracing::warn!(%error, "failed to update cluster version"),
            }
        }
        least.is_some()
    }

    /// A downgrade is over once every member runs the version that it leads to.
    async fn end_downgrade(&self) {
        let Some(target) = self.agreed().downgrade else { return };
        let Some(versions) = self.versions().await else { return };
        if versions.iter().all(|version| *version == target) {
            tracing::info!("cluster-version" = %target, "the cluster has been downgraded");
            if let Err(error) = self.proposals.propose(downgrade_to(None)).await {
                tracing::warn!(%error, "failed to cancel downgrade");
            }
        }
    }
}
