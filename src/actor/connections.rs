//! Metrics of the connections to a member.

use super::metrics::Exposition;
use crate::world::Network;
use crate::world::net::Connections;

/// A metric of connections: its name, its help text, and its value.
type Row = (&'static str, &'static str, fn(&Connections) -> u64);

const GAUGES: [Row; 4] = [
    ("chorus_connections", "Open connections.", |all| all.open() as u64),
    ("chorus_connections_max", "How many connections may be open.", |all| all.max() as u64),
    ("chorus_calls", "Calls under way.", |all| all.calls() as u64),
    ("chorus_unread_bytes", "Bytes of answers that clients have yet to read.", Connections::unread),
];

const COUNTERS: [Row; 5] = [
    ("chorus_connections_refused_total", "Connections refused: there were too many.", Connections::refused),
    ("chorus_connections_displaced_total", "Idle connections that gave way to others.", Connections::displaced),
    (
        "chorus_connections_abandoned_total",
        "Connections closed before their clients sent a request.",
        Connections::abandoned,
    ),
    ("chorus_connections_stalled_total", "Connections whose clients did not read.", Connections::stalled),
    ("chorus_calls_refused_total", "Calls refused: too many, or too much unread.", Connections::calls_refused),
];

/// Appends the metrics of the connections of clients and of peers.
pub fn expose(text: &mut Exposition, network: &Network) {
    for (kind, rows) in [("gauge", &GAUGES[..]), ("counter", &COUNTERS[..])] {
        for (name, help, count) in rows {
            text.family(name, kind, help);
            for (port, connections) in [("client", network.clients()), ("peer", network.peers())] {
                text.sample(name, &[("port", port)], count(connections));
            }
        }
    }
}
