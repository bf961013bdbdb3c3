//! The etcd v3 frontend of one member: gRPC and HTTP/1.1 on one port. Translation only: what a request means is
//! decided in `store`, and this room speaks to it through `store::client::Client` alone.
//!
//! ```text
//!   Frontend: one task a listener, one task a connection, a look at the leader, an orderly end
//!   client ──TCP──▶ serve ──▶ router ─┬─ dispatch ─┬─ unary, range ─────▶ store client ──▶ answer + trailers
//!     HTTP/1.1 or h2c, by its bytes   │            └─ watch, lease, ... ─▶ store client ══▶ a stream, cut at the end
//!                                     └─ http ─┬─ /version /health /livez /readyz /metrics
//!                                              └─ gateway: /v3/… ──▶ dispatch, as a gRPC call
//!   store::Error ──status──▶ gRPC code and etcd's exact text
//! ```
//!
//! - [`config`]: the configuration of a frontend, with etcd's defaults; `error`: why it does not start
//! - `frontend`: what starts and ends the rest
//! - `server`: what every connection and every call works with
//! - `listen`: the listeners and the handshake of their connections
//! - `connection`: what is known of a connection; `serve`: its limits and its end
//! - `pings`: clients that ping too often
//! - `router`: gRPC or plain HTTP; `dispatch`: which code answers an RPC
//! - `rpc`: the RPCs, by their paths
//! - `metadata`: what a call's headers ask for; `caller`: in whose name
//! - `frame`: gRPC's framing of messages
//! - `unary`: one message in, one message out: the hot path
//! - `slow`: calls that took long, for the log
//! - `stream`: what all streams share: cut without a leader, cut at the end, counted
//! - `range`: reading, few keys or many
//! - `watch`, `fragment`, `lease`, `range_stream`, `snapshot`, `alarm`, `health`: the RPCs that are more than one call of
//!   the store
//! - `concurrency`: the lock and election services
//! - `body`: bodies of requests and responses
//! - `gateway`: every RPC as JSON over HTTP
//! - `http`: the plain HTTP endpoints
//! - `peer_http`: plain HTTP on the peer port
//! - `metrics`: counters of the frontend and the text they are shown in
//! - [`proxy`]: a proxy in front of other members
//! - [`status`]: store errors as gRPC statuses

mod alarm;
mod body;
mod caller;
mod concurrency;
pub mod config;
mod connection;
mod dispatch;
mod error;
mod fragment;
mod frame;
mod frontend;
mod gateway;
mod health;
mod http;
mod lease;
mod listen;
mod metadata;
mod metrics;
mod peer_http;
mod pings;
pub mod proxy;
mod range;
mod range_stream;
mod router;
mod rpc;
mod serve;
mod server;
mod slow;
mod snapshot;
pub mod status;
mod stream;
mod unary;
mod watch;

#[cfg(test)]
mod tests;

pub use config::{Config, Feature, Http, Limits, Versions};
pub use error::Error;
pub use frontend::Frontend;
pub use peer_http::peer_http;
