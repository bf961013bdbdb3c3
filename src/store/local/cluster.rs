//! The Cluster service: the members and their changes, leadership, downgrades.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::downgrade_request::DowngradeAction;

use super::Local;
use crate::raft::{self, identity};
use crate::store::Error;
use crate::store::checks;
use crate::store::cluster_version::{Release, downgrade_to};
use crate::world::NodeId;
use crate::world::failpoints::failpoint;

/// Not the request's own deadline, and in no table: clients read the text alone.
const TRANSFER_TIMEOUT: &str = "etcdserver: request timed out, leader transfer took too long";

impl Local {
    pub async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Error> {
        if request.linearizable {
            // Operators take the answer for a sign that the cluster can go on with the members that it lists.
            self.0.raft.settled(self.deadline()).await?;
            self.barrier().await?;
        }
        Ok(pb::MemberListResponse { header: self.signed(), members: listed(self.0.raft.members()) })
    }

    pub async fn member_add(&self, request: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, Error> {
        let peer_urls = checks::peer_urls(request.peer_ur_ls)?;
        let id = identity::added_member_id(&peer_urls, self.0.world.clock.unix().as_secs());
        let added =
            raft::Member { id, name: String::new(), peer_urls, client_urls: Vec::new(), learner: request.is_learner };
        let members = self.0.raft.add_member(added.clone(), self.deadline()).await?;
        Ok(pb::MemberAddResponse { header: self.signed(), member: Some(row(added)), members: listed(members) })
    }

    pub async fn member_remove(&self, request: pb::MemberRemoveRequest) -> Result<pb::MemberRemoveResponse, Error> {
        let members = self.0.raft.remove_member(NodeId(request.id), self.deadline()).await?;
        Ok(pb::MemberRemoveResponse { header: self.signed(), members: listed(members) })
    }

    pub async fn member_update(&self, request: pb::MemberUpdateRequest) -> Result<pb::MemberUpdateResponse, Error> {
        let (id, urls) = (NodeId(request.id), request.peer_ur_ls);
        let members = self.0.raft.update_peer_urls(id, urls, self.deadline()).await?;
        Ok(pb::MemberUpdateResponse { header: self.signed(), members: listed(members) })
    }

    pub async fn member_promote(&self, request: pb::MemberPromoteRequest) -> Result<pb::MemberPromoteResponse, Error> {
        let members = self.0.raft.promote_member(NodeId(request.id), self.deadline()).await.map_err(Error::from);
        self.0.member.metrics.promotions.ended(&members);
        Ok(pb::MemberPromoteResponse { header: self.signed(), members: listed(members?) })
    }

    pub async fn move_leader(&self, request: pb::MoveLeaderRequest) -> Result<pb::MoveLeaderResponse, Error> {
        match self.0.raft.transfer_leader(NodeId(request.target_id), self.deadline()).await {
            Ok(()) => Ok(pb::MoveLeaderResponse { header: None }),
            Err(raft::Error::Timeout) => {
                Err(Error::Other { code: tonic::Code::Unknown as i32, message: TRANSFER_TIMEOUT.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub async fn downgrade(&self, request: pb::DowngradeRequest) -> Result<pb::DowngradeResponse, Error> {
        let unknown =
            |_| Error::Other { code: tonic::Code::Unknown as i32, message: "etcdserver: unknown method".into() };
        let action = DowngradeAction::try_from(request.action).map_err(unknown)?;
        let target = match action {
            DowngradeAction::Cancel => None,
            DowngradeAction::Validate | DowngradeAction::Enable => Some(request.version.parse::<Release>()?),
        };
        self.barrier().await?;
        let known = self.0.member.view().state.cluster_version;
        if let Some(target) = target {
            known.may_downgrade(target)?;
        }
        let version = known.version.ok_or(Error::ClusterVersionUnavailable)?;
        match action {
            DowngradeAction::Validate => (),
            // Operators cancel to be sure; that there is nothing to cancel is no reason to fail.
            DowngradeAction::Cancel if known.downgrade.is_none() => {
                tracing::warn!("failed to cancel downgrade: no inflight downgrade job");
            }
            DowngradeAction::Cancel | DowngradeAction::Enable => {
                self.0.proposals.propose(downgrade_to(target)).await?;
            }
        }
        Ok(pb::DowngradeResponse {
            header: Some(self.header()),
            version: format!("{}.{}", version.major, version.minor),
        })
    }

    /// This member is a learner: it refuses most calls of clients.
    pub(super) fn is_without_vote(&self) -> bool {
        failpoint!("afterIsMemberExist");
        self.0.raft.is_learner()
    }

    /// The header of an answer that shows no revision.
    fn signed(&self) -> Option<pb::ResponseHeader> {
        let mut header = None;
        self.sign(&mut header);
        header
    }
}

fn listed(members: Vec<raft::Member>) -> Vec<pb::Member> {
    members.into_iter().map(row).collect()
}

fn row(member: raft::Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.learner,
    }
}
