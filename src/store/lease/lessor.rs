//! The lessor.
//!
//! Owns the deadlines of leases while this member leads. Follows the replicated table; proposes the revocation of what
//! has ended, a bounded number at a time, and again when that does not come through. A member that has lost the
//! leadership can't revoke: its proposals go to the new leader's log and find the lease renewed there at worst. When it
//! dies with its node, the next leader gives every lease its whole life again.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, StreamHandler};
use chorus_proto::etcdserverpb as pb;
use futures::stream;

use super::expiry::Expiry;
pub use super::expiry::Renewal;
use crate::actor::Shutdown;
use crate::raft;
use crate::store::proposals::Proposals;
use crate::store::state_machine::Shared;
use crate::world::{Clock, Instant, Lane, World};

/// How often expired leases are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Revocations proposed at a tick.
const REVOCATIONS_MAX: usize = 500;

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
        grace: Duration,
        shutdown: Shutdown,
    ) -> actix::Addr<Lessor> {
        let expiry = Expiry::default();
        let lessor = Lessor { world: world.clone(), raft, shared, proposals, expiry, grace, shutdown };
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

    fn tick(&mut self, _: &mut Context<Self>) {
        let now = self.follow();
        for id in self.expiry.due(now, REVOCATIONS_MAX) {
            let command =
                pb::InternalRaftRequest { lease_revoke: Some(pb::LeaseRevokeRequest { id }), ..Default::default() };
            let proposals = self.proposals.clone();
            self.world.spawner.task(async move {
                if let Err(error) = proposals.propose(command).await {
                    tracing::debug!(lease = id, %error, "an expired lease is not revoked yet");
                }
            });
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
        if leadership.is_leader == self.expiry.leads() {
            return;
        }
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
