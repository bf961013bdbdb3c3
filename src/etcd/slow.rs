//! Calls that took long, for the log. A call that did not costs one reading of the clock.

use prost::Message;

use super::rpc::Rpc;
use super::server::EtcdServer;
use crate::world::Instant;

/// Logs the call of `rpc` that `began` then, if it took long, or if everything is logged. Keys and values stay out of
/// the log.
pub(super) fn log(server: &EtcdServer, rpc: Rpc, began: Instant, answer: Option<&impl Message>) {
    let took = server.world.clock.now() - began;
    let slow = took > server.config.slow_call;
    if !slow && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let path = format!("/{}/{}", rpc.service(), rpc.method());
    let bytes = answer.map_or(0, Message::encoded_len);
    if slow {
        tracing::warn!("time spent" = ?took, "response type" = path, "response size" = bytes, "request stats");
    } else {
        tracing::debug!("time spent" = ?took, "response type" = path, "response size" = bytes, "request stats");
    }
}
