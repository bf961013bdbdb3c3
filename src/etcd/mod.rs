//! The etcd v3 frontend of one member: gRPC and HTTP/1.1 on one port. Translation only: what a request means is
//! decided in `store`, and this room speaks to it through `store::client::Client` alone.
//!
//! ```text
//!             EtcdFrontend (actor): listeners, leader watch, orderly end
//!                  │ one task a listener, one task a connection
//!   client ──TCP──▶ connection ──▶ router ─┬─ unary ─────────────▶ store client ──▶ answer + trailers
//!          HTTP/1.1 or h2c, sniffed        ├─ watch, lease, ... ──▶ store client ══▶ stream, cut when it must end
//!                                          └─ http ─┬─ /version /health /livez /readyz /metrics
//!                                                   └─ gateway: /v3/… ──▶ router, as a gRPC call
//!   store::Error ──status──▶ gRPC code and etcd's exact text
//! ```
//!
//! - [`config`]: what a frontend is told at start, with etcd's defaults
//! - [`frontend`]: the actor and the handle on it
//! - `listen`: the listeners, what is served at each, and who is let in
//! - `connection`: one connection, its limits and its end
//! - `pings`: clients that ping too often
//! - `router`: which code answers a request
//! - `rpc`: the RPCs, by their paths
//! - `metadata`: what a call's headers ask for; `caller`: in whose name
//! - `unary`: one message in, one message out: the hot path
//! - `slow`: calls that took long, for the log
//! - `stream`: what all streams share: cut without a leader, cut at the end, counted
//! - `range`: reading, few keys or many
//! - `watch`, `fragment`, `lease`, `range_stream`, `snapshot`, `alarm`, `health`: the RPCs that are more than one call of
//!   the store
//! - `concurrency`: the lock and election services
//! - `body`: response bodies
//! - `gateway`: every RPC as JSON over HTTP
//! - `http`: the plain HTTP endpoints
//! - `peer_http`: plain HTTP on the peer port
//! - `metrics`: counters of the frontend and the text they are shown in
//! - [`proxy`]: a proxy that stands before other members
//! - [`status`]: store errors as gRPC statuses

mod alarm;
mod body;
mod caller;
mod concurrency;
pub mod config;
mod connection;
mod fragment;
pub mod frontend;
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
mod slow;
mod snapshot;
pub mod status;
mod stream;
mod unary;
mod watch;

#[cfg(test)]
mod tests;

pub use config::{Config, Feature, Http, Limits, Versions};
pub use frontend::{Error, Frontend};
pub use peer_http::peer_http;
