//! The lessor.
//!
//! Owns the deadlines of leases while this member leads. Follows the replicated table; proposes the revocation of what
//! has ended, a bounded number at a time, the next ones as soon as those came through, and again what did not. Records
//! from time to time what is left of long lives. When it dies with its node, the next leader gives every lease the life
//! that is recorded for it.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, StreamHandler, WrapFuture};
use chorus_proto::etcdserverpb as pb;
use futures::future::join_all;
use futures::stream;

use super::expiry::Expiry;
pub use super::expiry::Renewal;
use crate::actor::Shutdown;
use crate::raft;
use crate::store::Config;
use crate::store::proposals::Proposals;
use crate::store::state_machine::Shared;
use crate::world::planted::planted;
use crate::world::{Clock, Instant, Lane, Term, World};

/// How often expired leases are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Revocations under way at a time. They share a few log entries, between those of clients.
const REVOCATIONS_MAX: usize = 500;

/// Leases in one record of what is left of their lives.
const CHECKPOINTS_MAX: usize = 1_000;

/// Renews a lease.
pub struct Renew(pub i64);

impl Message for Renew {
    type Result = Renewal;
}

/// How long a lease still lives; `None` when unknown, or when this member does not lead.
pub struct Remaining(pub i64);

impl Message for Remaining {
    type Result = Option<Duration>;
}

/// All leases, those that end first before the others.
pub struct LeasesByExpiry;

impl Message for LeasesByExpiry {
    type Result = Vec<i64>;
}

/// Keeps the deadlines of leases.
pub struct Lessor {
    world: World,
    raft: raft::Handle,
    shared: Arc<Shared>,
    proposals: Proposals,
    expiry: Expiry,
    /// The term in which this member came to lead.
    term: Term,
    revoking: bool,
    checkpoints: bool,
    /// Given to every lease by a new leader: what its election may have taken.
    grace: Duration,
    shutdown: Shutdown,
}

impl Lessor {
    pub fn start(
        world: &World,
        raft: raft::Handle,
        shared: Arc<Shared>,
        proposals: Proposals,
        config: &Config,
        shutdown: Shutdown,
    ) -> actix::Addr<Lessor> {
        let lessor = Lessor {
            world: world.clone(),
            raft,
            shared,
            proposals,
            expiry: Expiry::default(),
            term: Term::default(),
            revoking: false,
            checkpoints: config.lease_checkpoints,
            grace: config.election_timeout,
            shutdown,
        };
        world.spawner.start(Lane::Store, move |_| lessor)
    }

    fn clock(&self) -> &Clock {
        &self.world.clock
    }

    fn follow(&mut self) -> Instant {
        let now = self.clock().now();
        self.expiry.follow(&self.shared.view().state.leases, now);
        now
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.revoke(context);
        self.record();
    }

    /// Proposes the next revocations, unless some are under way.
    fn revoke(&mut self, context: &mut Context<Self>) {
        let now = self.follow();
        if self.revoking || !self.leads() {
            return;
        }
        let due = self.expiry.due(now, REVOCATIONS_MAX);
        if due.is_empty() {
            return;
        }
        self.revoking = true;
        let revoking = Revoking {
            raft: self.raft.clone(),
            proposals: self.proposals.clone(),
            term: self.term,
            deadline: now + self.grace,
        };
        let revoked = revoking.run(due).into_actor(self).map(|(), lessor, context| {
            lessor.revoking = false;
            lessor.revoke(context);
        });
        context.spawn(revoked);
    }

    /// Still leads in the term in which it came to lead: an old leader's clock says nothing.
    fn leads(&self) -> bool {
        let known = *self.raft.leadership().borrow();
        self.expiry.leads() && (planted!("two-lessors") || known.is_leader && known.term == self.term)
    }

    fn record(&mut self) {
        if !self.checkpoints || !self.leads() {
            return;
        }
        let now = self.clock().now();
        let left = self.expiry.due_records(now, CHECKPOINTS_MAX);
        if left.is_empty() {
            return;
        }
        let checkpoints = left.into_iter().map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl });
        let request = pb::LeaseCheckpointRequest { checkpoints: checkpoints.collect() };
        let command = pb::InternalRaftRequest { lease_checkpoint: Some(request), ..Default::default() };
        let proposals = self.proposals.clone();
        self.world.spawner.task(async move {
            if let Err(error) = proposals.propose(command).await {
                tracing::debug!(%error, "what is left of some leases is not recorded");
            }
        });
    }
}

/// Revocations on their way.
struct Revoking {
    raft: raft::Handle,
    proposals: Proposals,
    term: Term,
    deadline: Instant,
}

impl Revoking {
    /// Proposes them all, once a quorum has said that this member still leads: what a leader proposes that was cut off
    /// may reach the log of the next one, where the lease has been renewed.
    async fn run(self, due: Vec<i64>) {
        if self.raft.read_index(self.deadline).await.is_err() {
            return;
        }
        let known = *self.raft.leadership().borrow();
        if planted!("two-lessors") || known.is_leader && known.term == self.term {
            join_all(due.into_iter().map(|id| self.revoke(id))).await;
        }
    }

    async fn revoke(&self, id: i64) {
        let request = Some(pb::LeaseRevokeRequest { id });
        let command = pb::InternalRaftRequest { lease_revoke: request, ..Default::default() };
        match self.proposals.propose(command).await {
            Ok(_) => self.proposals.shared().metrics.leases.expired.inc(),
            Err(error) => tracing::debug!(lease = id, %error, "an expired lease is not revoked yet"),
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
    fn handle(&mut self, leadership: raft::Leadership, _: &mut Context<Self>) {
        if leadership.is_leader == self.expiry.leads() && leadership.term == self.term {
            return;
        }
        self.term = leadership.term;
        if leadership.is_leader {
            self.expiry.promote(&self.shared.view().state.leases, self.clock().now(), self.grace);
        } else {
            self.expiry.demote();
        }
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

    fn handle(&mut self, Renew(id): Renew, _: &mut Context<Self>) -> Self::Result {
        let now = self.follow();
        actix::MessageResult(self.expiry.renew(id, now))
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
