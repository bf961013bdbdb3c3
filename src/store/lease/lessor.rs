//! The lessor.
//!
//! Owns the deadlines of leases while this member leads. Follows the replicated table and proposes the revocation of
//! leases that have ended, a bounded number at a time: the next ones when those are applied, and those that failed once
//! more. Records in the log when leases end that their clients do not renew, and the time that these records count
//! from. All of it is bound to the term in which this member leads: none of it enters the log after a decision of the
//! next leader. When the lessor dies with its node, the next leader goes on from what is recorded.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler, WrapFuture};
use chorus_proto::etcdserverpb as pb;
use futures::future::join_all;
use futures::stream;

use super::expiry::{Expiry, RecordId, Renewal};
use crate::actor::Shutdown;
use crate::raft;
use crate::store::Config;
use crate::store::member_state::MemberState;
use crate::store::proposals::Proposals;
use crate::world::planted::planted;
use crate::world::{Instant, Lane, Term, World};

/// How often the lessor looks for expired leases.
const TICK: Duration = Duration::from_millis(500);

/// Revocations under way at a time. They share a few log entries, between those of clients.
const REVOCATIONS_MAX: usize = 500;

/// Leases in one checkpoint.
const CHECKPOINTS_MAX: usize = 1_000;

/// Renews a lease. The second field is the record of its end that was taken back for that.
pub struct Renew(pub i64, pub Option<RecordId>);

impl Message for Renew {
    type Result = Renewal;
}

/// How long a lease still lives; `None` when unknown, or when this member does not lead.
pub struct Remaining(pub i64);

impl Message for Remaining {
    type Result = Option<Duration>;
}

/// All leases, in the order in which they end.
pub struct LeasesByExpiry;

impl Message for LeasesByExpiry {
    type Result = Vec<i64>;
}

/// Owns the deadlines of leases.
pub struct Lessor {
    world: World,
    raft: raft::Handle,
    member: Arc<MemberState>,
    proposals: Proposals,
    expiry: Expiry,
    /// The term in which this member came to lead.
    term: Term,
    revoking: bool,
    recording: bool,
    checkpoints: bool,
    /// A lease lives at least this long under a new leader: as long as the election may have taken.
    grace: Duration,
    shutdown: Shutdown,
}

impl Lessor {
    pub fn start(
        world: &World,
        raft: raft::Handle,
        member: Arc<MemberState>,
        proposals: Proposals,
        config: &Config,
        shutdown: Shutdown,
    ) -> actix::Addr<Lessor> {
        let lessor = Lessor {
            world: world.clone(),
            raft,
            member,
            proposals,
            expiry: Expiry::default(),
            term: Term::default(),
            revoking: false,
            recording: false,
            checkpoints: config.lease_checkpoints,
            grace: config.election_timeout,
            shutdown,
        };
        world.spawner.start(Lane::Store, "store/lessor", move |_| lessor)
    }

    /// Follows the applied state and the leadership. A new leader counts as one here once it has applied everything of
    /// earlier leaders: before that it knows neither the leases nor their time.
    fn follow(&mut self) -> Instant {
        let (now, view, known) = (self.world.clock.now(), self.member.view(), *self.raft.leadership().borrow());
        if !known.is_leader || known.term != self.term {
            self.expiry.demote();
        }
        let leases = &view.state.leases;
        let applied = view.state.applied.map(|at| Term(at.term));
        if known.is_leader && !self.expiry.leads() && applied == Some(known.term) {
            self.term = known.term;
            self.expiry.promote(leases, self.member.lease_time_since(), now, self.grace);
        }
        self.expiry.follow(leases, now);
        now
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.revoke(context);
        self.record(context);
    }

    /// Proposes the next revocations, unless some are under way.
    fn revoke(&mut self, context: &mut Context<Self>) {
        let now = self.follow();
        if self.revoking {
            return;
        }
        let due = self.expiry.due(now, REVOCATIONS_MAX);
        if due.is_empty() {
            return;
        }
        self.revoking = true;
        let (proposals, term) = (self.proposals.clone(), self.term);
        let revoked = async move { join_all(due.into_iter().map(|id| revoke(&proposals, term, id))).await };
        context.spawn(revoked.into_actor(self).map(|_, lessor, context| {
            lessor.revoking = false;
            lessor.revoke(context);
        }));
    }

    /// Proposes the next checkpoint, unless one is under way.
    fn record(&mut self, context: &mut Context<Self>) {
        let now = self.follow();
        if !self.checkpoints || self.recording {
            return;
        }
        let rows = self.expiry.checkpoint(now, CHECKPOINTS_MAX);
        if rows.is_empty() {
            return;
        }
        self.recording = true;
        let checkpoints = rows.into_iter().map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl });
        let request = pb::LeaseCheckpointRequest { checkpoints: checkpoints.collect() };
        let command = pb::InternalRaftRequest { lease_checkpoint: Some(request), ..Default::default() };
        let (proposals, term) = (self.proposals.clone(), self.term);
        let recorded = async move { proposals.propose_in(term, command).await };
        context.spawn(recorded.into_actor(self).map(|recorded, lessor, context| {
            lessor.recording = false;
            match recorded {
                Ok(_) => lessor.record(context),
                // The next leader will give those leases their whole TTL.
                Err(error) => tracing::debug!(%error, "failed to record when some leases end"),
            }
        }));
    }
}

/// Proposes the revocation of a lease that has ended.
async fn revoke(proposals: &Proposals, term: Term, id: i64) {
    let request = Some(pb::LeaseRevokeRequest { id });
    let command = pb::InternalRaftRequest { lease_revoke: request, ..Default::default() };
    let revoked = match planted!("two-lessors") {
        true => proposals.propose(command).await,
        false => proposals.propose_in(term, command).await,
    };
    match revoked {
        Ok(_) => proposals.member().metrics.leases.expired.inc(),
        Err(error) => {
            tracing::debug!(lease = id, %error, "failed to revoke an expired lease; trying again")
        }
    }
}

impl Actor for Lessor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let leadership = tokio_stream::wrappers::WatchStream::new(self.raft.leadership());
        context.add_stream(leadership);
        let end = self.shutdown.wait();
        context.add_stream(stream::once(async move {
            end.await;
            End
        }));
        context.run_interval(TICK, Self::tick);
    }
}

impl StreamHandler<raft::Leadership> for Lessor {
    fn handle(&mut self, _: raft::Leadership, _: &mut Context<Self>) {
        self.follow();
    }
}

/// The node ends.
struct End;

impl StreamHandler<End> for Lessor {
    fn handle(&mut self, _: End, context: &mut Context<Self>) {
        context.stop();
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<Renew> for Lessor {
    type Result = actix::MessageResult<Renew>;

    fn handle(&mut self, Renew(id, forgotten): Renew, _: &mut Context<Self>) -> Self::Result {
        let now = self.follow();
        actix::MessageResult(self.expiry.renew(id, now, forgotten))
    }
}

impl Handler<Remaining> for Lessor {
    type Result = Option<Duration>;

    fn handle(&mut self, Remaining(id): Remaining, _: &mut Context<Self>) -> Self::Result {
        let now = self.follow();
        self.expiry.remaining(id, now)
    }
}

impl Handler<LeasesByExpiry> for Lessor {
    type Result = Vec<i64>;

    fn handle(&mut self, _: LeasesByExpiry, _: &mut Context<Self>) -> Self::Result {
        self.follow();
        self.expiry.by_expiry()
    }
}
