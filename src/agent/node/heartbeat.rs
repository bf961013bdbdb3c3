//! The actor that keeps the node known to the API.
//!
//! It owns nothing but the facts of the node. Four times within the duration of the node's Lease, and every ten seconds
//! at least, it makes one round: registers the node if it is missing, writes its status if the API has another, renews
//! its Lease. After a round that failed the next one comes sooner; rounds never overlap. When it dies, the Lease runs
//! out and the node controller takes over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context as Ctx, WrapFuture};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::capacity::{self, Pressure};
use super::object::{self, Facts};
use crate::actor::Shutdown;
use crate::kube::client::{Client, PatchType};
use crate::kube::status::Status;
use crate::kube::time;
use crate::world::World;

/// Rounds within the duration of the Lease, as upstream: so many must fail in a row before the node counts as lost.
const ROUNDS_PER_LEASE: u32 = 4;
const PERIOD_MAX: Duration = Duration::from_secs(10);
/// After a round that failed; the API may just be coming up.
const RETRY: Duration = Duration::from_secs(1);
const ROUND_MAX: Duration = Duration::from_secs(8);
/// The status is written at least this often, so that people see that it is fresh.
const TELL_AT_LEAST: Duration = Duration::from_secs(300);

pub struct Heartbeat {
    round: Arc<Round>,
    shutdown: Shutdown,
}

/// What a round needs.
pub struct Round {
    pub world: World,
    pub client: Client,
    pub facts: Facts,
    pub data_dir: PathBuf,
    /// Whether this machine's resources are the node's.
    pub watches_pressure: bool,
}

impl Heartbeat {
    pub fn new(round: Arc<Round>, shutdown: Shutdown) -> Heartbeat {
        Heartbeat { round, shutdown }
    }

    fn beat(&mut self, ctx: &mut Ctx<Heartbeat>) {
        if self.shutdown.begun() {
            return ctx.stop();
        }
        let round = self.round.clone();
        let period = period(round.facts.lease_duration);
        let beat = self.round.world.spawner.task(async move {
            let clock = round.world.clock.clone();
            clock.timeout(ROUND_MAX, round.run()).await.unwrap_or_else(|_| {
                Err(Status::new(504, "Timeout", format!("the API did not answer within {ROUND_MAX:?}")))
            })
        });
        ctx.spawn(beat.into_actor(self).map(move |result, _, ctx| {
            let next = match result {
                Ok(Ok(())) => period,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the node's heartbeat did not reach the API");
                    RETRY
                }
                Err(_) => return,
            };
            ctx.run_later(next, Heartbeat::beat);
        }));
    }
}

impl Actor for Heartbeat {
    type Context = Ctx<Heartbeat>;

    fn started(&mut self, ctx: &mut Ctx<Heartbeat>) {
        self.beat(ctx);
    }
}

impl Round {
    async fn run(&self) -> Result<(), Status> {
        let node = self.write_status().await?;
        self.renew_lease(node.metadata.uid.as_deref().unwrap_or_default()).await
    }

    fn pressure(&self) -> Pressure {
        if self.watches_pressure { capacity::pressure(&self.world.disk, &self.data_dir) } else { Pressure::default() }
    }

    /// Registers the node, or writes its status if that has changed.
    async fn write_status(&self) -> Result<Node, Status> {
        let nodes = self.client.api::<Node>();
        let now = time::timestamp(&self.world.clock);
        let node = match nodes.get_opt(&self.facts.name).await? {
            Some(node) => node,
            None => {
                // A creation sets no status; the write below does.
                let created = nodes.create(&object::node(&self.facts, self.pressure(), now)).await?;
                tracing::info!(node = self.facts.name, "node registered");
                created
            }
        };
        let labels = object::labels(&self.facts);
        let borne = node.metadata.labels.as_ref();
        if labels.iter().any(|(key, value)| borne.and_then(|borne| borne.get(key)) != Some(value)) {
            let patch = json!({ "metadata": { "labels": labels } });
            nodes.patch(&self.facts.name, PatchType::Merge, &patch).await?;
        }
        let reported = node.status.clone().unwrap_or_default();
        let before = reported.conditions.as_deref().unwrap_or_default();
        let status = object::status(&self.facts, self.pressure(), before, now);
        let last = before.iter().filter_map(|condition| condition.last_heartbeat_time.as_ref()).max();
        let fresh = last.is_some_and(|last| time::since(&self.world.clock, last.0) < TELL_AT_LEAST);
        if fresh && object::is_known(&reported, &status) {
            return Ok(node);
        }
        // A strategic patch keeps conditions that others write meanwhile.
        nodes.patch_status(&self.facts.name, PatchType::Strategic, &json!({ "status": status })).await
    }

    async fn renew_lease(&self, node_uid: &str) -> Result<(), Status> {
        let leases = self.client.api::<Lease>().namespaced(object::LEASE_NAMESPACE);
        let before = leases.get_opt(&self.facts.name).await?;
        let is_new = before.is_none();
        let lease = object::lease(&self.facts, node_uid, before, time::timestamp(&self.world.clock));
        let written = if is_new { leases.create(&lease).await } else { leases.update(&lease).await };
        written.map(|_| ())
    }
}

/// How long after a round the next one follows.
fn period(lease_duration: Duration) -> Duration {
    (lease_duration / ROUNDS_PER_LEASE).clamp(RETRY, PERIOD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_four_times_while_it_holds() {
        for (lease, seconds) in [(0, 1), (16, 4), (40, 10), (50, 10), (600, 10)] {
            assert_eq!(period(Duration::from_secs(lease)), Duration::from_secs(seconds), "{lease}");
        }
    }
}
