//! The version monitor: on the leader, keeps the cluster's version in step with those of the members.
//!
//! ```text
//!   Monitor (on the leader) ──asks every member its version──▶ raft
//!        │ ClusterVersion::next: a pure function of the answers
//!        └──ClusterVersionSet, DowngradeInfoSet──▶ proposals ──▶ State::cluster_version
//! ```

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::{etcdserverpb as pb, membershippb};

use super::cluster_version::{ClusterVersion, Release, downgrade_to};
use super::member_state::MemberState;
use super::proposals::Proposals;
use crate::actor::Shutdown;
use crate::raft;
use crate::world::World;

/// How often the members are asked for their versions once the cluster has one.
const PACE: Duration = Duration::from_secs(4);
/// The same while the version of some member is not known.
const HURRY: Duration = Duration::from_millis(500);
/// How often the leader checks whether a downgrade is complete.
const DOWNGRADE_PACE: Duration = Duration::from_secs(5);
/// How long a member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// On the leader: keeps the cluster's version in step with those of the members.
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
        let mut downgrade_checked = self.world.clock.now();
        loop {
            let mut pace = PACE;
            if leadership.borrow_and_update().is_leader {
                let known = self.update_cluster_version().await;
                if !known {
                    pace = HURRY;
                }
                if downgrade_checked + DOWNGRADE_PACE <= self.world.clock.now() {
                    downgrade_checked = self.world.clock.now();
                    self.end_downgrade().await;
                }
            }
            if let Ok(Err(_)) = self.world.clock.timeout(pace, leadership.changed()).await {
                return;
            }
        }
    }

    fn cluster_version(&self) -> ClusterVersion {
        self.member.view().state.cluster_version
    }

    /// The members' versions, if all are known.
    async fn versions(&self) -> Option<Vec<Release>> {
        let versions = self.raft.versions(ANSWER_LIMIT).await;
        let release = |(member, version): (_, Option<String>)| {
            let version = version?;
            let read = version.parse();
            read.inspect_err(|_| tracing::warn!(%member, version, "cannot parse the version of a member")).ok()
        };
        versions.into_iter().map(release).collect()
    }

    /// Brings the cluster's version up to date; `false` while the version of some member is not known.
    async fn update_cluster_version(&self) -> bool {
        let least = self.versions().await.and_then(|versions| versions.into_iter().min());
        let cluster = self.cluster_version();
        if let Some(next) = cluster.next(least) {
            let request = membershippb::ClusterVersionSetRequest { ver: next.to_string() };
            let command = pb::InternalRaftRequest { cluster_version_set: Some(request), ..Default::default() };
            match (self.proposals.propose(command).await, cluster.version) {
                (Ok(_), None) => tracing::info!("cluster-version" = %next, "set initial cluster version"),
                (Ok(_), Some(from)) => tracing::info!(%from, to = %next, "updated cluster version"),
                (Err(error), _) => tracing::warn!(%error, "failed to update cluster version"),
            }
        }
        least.is_some()
    }

    /// A downgrade is over once every member runs its target version.
    async fn end_downgrade(&self) {
        let Some(target) = self.cluster_version().downgrade else { return };
        let Some(versions) = self.versions().await else { return };
        if versions.iter().all(|version| *version == target) {
            tracing::info!("cluster-version" = %target, "the cluster has been downgraded");
            if let Err(error) = self.proposals.propose(downgrade_to(None)).await {
                tracing::warn!(%error, "failed to cancel downgrade");
            }
        }
    }
}
