//! What a member shows of the connections to it.

use super::metrics::Exposition;
use crate::world::Network;
use crate::world::net::Connections;

/// What is counted of connections: its name, what it is, and where it stands.
type Row = (&'static str, &'static str, fn(&Connections) -> u64);

const GAUGES: [Row; 4] = [
    ("chorus_connections", "Connections that others have open.", |all| all.open() as u64),
    ("chorus_connections_max", "How many there may be.", |all| all.max() as u64),
    ("chorus_calls", "Calls under way.", |all| all.calls() as u64),
    ("chorus_unread_bytes", "Bytes of answers that are yet to be read.", Connections::unread),
];

const COUNTERS: [Row; 5] = [
    ("chorus_connections_refused_total", "Connections refused: there were too many.", Connections::refused),
    ("chorus_connections_displaced_total", "Idle connections that gave way to others.", Connections::displaced),
    ("chorus_connections_abandoned_total", "Connections that never said what they speak.", Connections::abandoned),
    ("chorus_connections_stalled_total", "Connections whose clients did not read.", Connections::stalled),
    ("chorus_calls_refused_total", "Calls refused: too many, or too much unread.", Connections::calls_refused),
];

/// Appends what is counted of the connections of clients and of peers.
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
