//! [`EtcdServer`]: what every connection and every call of one frontend works with. The parts of this room take it by
//! reference; it keeps no state of its own but counters and bounds.

use tokio::sync::watch;

use super::config::Config;
use super::metrics::Metrics;
use crate::actor::{Budget, Gate, Shutdown};
use crate::store::client::{Caller, Client};
use crate::world::World;

/// The server that answers the clients of one member.
pub(super) struct EtcdServer {
    pub world: World,
    pub config: Config,
    /// The store in the process's own name: for what no client asks.
    pub store: Client,
    /// The store in the name of a client that did not say who it is.
    pub anonymous: Client,
    pub metrics: Metrics,
    /// The calls of the gateway under way, bounded as the streams of one connection are.
    pub gateway_calls: Gate,
    /// The bytes of the bodies of requests that are being read or answered.
    pub bodies: Budget,
    /// The bytes of the gateway's answers that are being made or sent.
    pub answers: Budget,
    /// Begins when the node ends: no new calls, streams are cut.
    pub shutdown: Shutdown,
    /// How often the member found no leader for three election timeouts.
    pub leaders_lost: watch::Receiver<u64>,
}

impl EtcdServer {
    pub fn new(
        world: World,
        config: Config,
        store: Client,
        shutdown: Shutdown,
        leaders_lost: watch::Receiver<u64>,
    ) -> EtcdServer {
        EtcdServer {
            metrics: Metrics::new(config.http.extensive_metrics.then(|| world.clock.clone())),
            gateway_calls: Gate::new(config.limits.concurrent_streams_max as usize),
            bodies: Budget::new(config.limits.body_bytes_max),
            answers: Budget::new(config.limits.answer_bytes_max),
            anonymous: store.on_behalf(Caller::ANONYMOUS),
            store,
            world,
            config,
            shutdown,
            leaders_lost,
        }
    }
}
