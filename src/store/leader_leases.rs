//! Lease requests that the leader alone can answer: here when this member leads, else by asking the leader.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use chorus_proto::etcdserverpb as pb;

use super::Error;
use super::lease::{LeasesByExpiry, Lessor, RecordId, Remaining, Renew, Renewal};
use super::member_state::MemberState;
use super::proposals::Proposals;
use super::questions::{self, Question};
use crate::raft;
use crate::world::failpoints::failpoint;
use crate::world::{Instant, NodeId, World};

/// Pause before a request is tried again while leadership changes or a revocation is under way.
const RETRY: Duration = Duration::from_millis(50);

/// How long the leader may take before it is asked again, or another one.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);

/// The leases of the leader. Cheap to clone.
#[derive(Clone)]
pub struct LeaderLeases(Arc<Inner>);

struct Inner {
    world: World,
    raft: raft::Handle,
    member: Arc<MemberState>,
    proposals: Proposals,
    lessor: Addr<Lessor>,
    timeout: Duration,
}

/// Who leads.
enum Leader {
    ThisMember,
    Other(NodeId),
}

impl LeaderLeases {
    pub fn new(
        world: &World,
        raft: raft::Handle,
        member: Arc<MemberState>,
        proposals: Proposals,
        lessor: Addr<Lessor>,
        timeout: Duration,
    ) -> LeaderLeases {
        LeaderLeases(Arc::new(Inner { world: world.clone(), raft, member, proposals, lessor, timeout }))
    }

    /// Renews a lease. An unknown one is no error but has a lifetime of 0. The header is for the caller to sign.
    pub async fn keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let question = Question::KeepAlive { id: request.id };
        self.until_answered(Error::Timeout, question, || self.keep_alive_here(request.id)).await
    }

    /// How long a lease still lives. An unknown one is no error but has a lifetime of -1.
    pub async fn time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request;
        self.until_answered(Error::LeaderChanged, Question::TimeToLive { id, keys }, || {
            self.time_to_live_here(id, keys)
        })
        .await
    }

    /// Asks the leader until there is an answer. [`Error::NotLeader`] is none: when there is no other in time, the
    /// outcome is `unanswered`.
    async fn until_answered<A, F>(
        &self,
        unanswered: Error,
        question: Question,
        here: impl Fn() -> F,
    ) -> Result<A, Error>
    where
        A: prost::Message + Default,
        F: Future<Output = Result<A, Error>>,
    {
        let deadline = self.deadline();
        loop {
            let answered = match self.leader() {
                Some(Leader::ThisMember) => here().await,
                Some(Leader::Other(leader)) => questions::ask(&self.0.raft, leader, question, LEADER_PATIENCE).await,
                None => Err(Error::NoLeader),
            };
            let error = match answered {
                Err(Error::NotLeader) => unanswered.clone(),
                Err(error @ (Error::NoLeader | Error::LeaderChanged | Error::Other { .. })) => error,
                answer => return answer,
            };
            self.pause(deadline, error).await?;
        }
    }

    fn deadline(&self) -> Instant {
        self.0.world.clock.now() + self.0.timeout
    }

    /// Renews as the leader. [`Error::NotLeader`]: ask again, leadership is changing or a revocation is under way.
    pub async fn keep_alive_here(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        self.lead().await?;
        failpoint!("beforeCheckpointInLeaseRenew", self.0.world.clock);
        let mut renewal = self.renew(id, None).await?;
        if let Renewal::Recorded(record) = renewal {
            self.forget_remaining(id).await?;
            renewal = self.renew(id, Some(record)).await?;
        }
        renewed(id, renewal)
    }

    async fn renew(&self, id: i64, forgotten: Option<RecordId>) -> Result<Renewal, Error> {
        let renewal = self.0.lessor.send(Renew(id, forgotten)).await.map_err(|_| Error::Stopped)?;
        if matches!(renewal, Renewal::Renewed(_)) {
            self.0.member.metrics.leases.renewed.inc();
        }
        Ok(renewal)
    }

    /// Takes back the record of when the lease ends: by that, the next leader would end it too early.
    async fn forget_remaining(&self, id: i64) -> Result<(), Error> {
        let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl: 0 }];
        let request = pb::LeaseCheckpointRequest { checkpoints };
        let command = pb::InternalRaftRequest { lease_checkpoint: Some(request), ..Default::default() };
        let term = self.0.raft.leadership().borrow().term;
        self.0.proposals.propose_in(term, command).await.map(drop)
    }

    /// How long a lease still lives, answered as the leader; errors as for
    /// [`keep_alive_here`](LeaderLeases::keep_alive_here).
    pub async fn time_to_live_here(&self, id: i64, keys: bool) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        self.lead().await?;
        failpoint!("beforeLookupWhenLeaseTimeToLive", self.0.world.clock);
        let remaining = self.0.lessor.send(Remaining(id)).await.map_err(|_| Error::Stopped)?;
        let view = self.0.member.view();
        let Some(lease) = view.state.leases.get(id) else {
            return Ok(pb::LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() });
        };
        let remaining = remaining.ok_or(Error::NotLeader)?;
        let keys = lease.keys.iter().filter(|_| keys).map(|key| key.to_bytes()).collect();
        let ttl = remaining.as_secs() as i64;
        Ok(pb::LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl: lease.ttl, keys })
    }

    /// Makes sure that this member leads and has applied every grant and revocation before this call.
    async fn lead(&self) -> Result<(), Error> {
        if !matches!(self.leader(), Some(Leader::ThisMember)) {
            return Err(Error::NotLeader);
        }
        self.0.raft.read_index(self.deadline()).await.map_err(Error::from)
    }

    /// The leases that this member knows.
    pub async fn list(&self) -> Result<Vec<pb::LeaseStatus>, Error> {
        let ids = self.0.lessor.send(LeasesByExpiry).await.map_err(|_| Error::Stopped)?;
        Ok(ids.into_iter().map(|id| pb::LeaseStatus { id }).collect())
    }

    async fn pause(&self, deadline: Instant, error: Error) -> Result<(), Error> {
        let clock = &self.0.world.clock;
        if clock.now() + RETRY >= deadline {
            return Err(error);
        }
        clock.sleep(RETRY).await;
        Ok(())
    }

    fn leader(&self) -> Option<Leader> {
        let known = *self.0.raft.leadership().borrow();
        if known.is_leader { Some(Leader::ThisMember) } else { known.leader.map(Leader::Other) }
    }
}

fn renewed(id: i64, renewal: Renewal) -> Result<pb::LeaseKeepAliveResponse, Error> {
    let ttl = match renewal {
        Renewal::Renewed(ttl) => ttl,
        Renewal::Unknown => 0,
        Renewal::Recorded(_) | Renewal::Expired | Renewal::NotLeader => return Err(Error::NotLeader),
    };
    Ok(pb::LeaseKeepAliveResponse { header: None, id, ttl })
}
