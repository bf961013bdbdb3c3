//! Calls that took long, for the log. One that did not costs a look at the clock.

use prost::Message;

use super::frontend::Shared;
use super::rpc::Rpc;
use crate::world::Instant;

/// Logs the call of `rpc` that `began` then, if it took long, or if everything is logged. Keys and values stay out of
/// the log.
pub(super) fn look(shared: &Shared, rpc: Rpc, began: Instant, answer: Option<&impl Message>) {
    let took = shared.world.clock.now() - began;
    let slow = took > shared.config.slow_call;
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
