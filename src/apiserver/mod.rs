//! Kubernetes API frontends: stateless but for caches, any number of them over one store.
//!
//! ```text
//!   client ──TLS, HTTP──▶ Server ─▶ authentication ─┐
//!   component ──in-process transport────────────────┴▶ authorization ─▶ mutating admission ─▶ defaults, validation
//!                                                                            ─▶ validating admission ─▶ Storage
//!   store ──one watch a resource──▶ WatchCache ─▶ lists, watches                                          │
//!     ▲                                                                                                   │
//!     └─────────────────────────── one transaction with all that has to hold ─────────────────────────────┘
//! ```
//!
//! - [`frontend`]: starting a frontend, and its background duties
//! - [`config`], [`error`], [`user`]: its public types
//! - [`server`]: the listener; [`http`]: requests and responses; [`negotiation`]: formats of bodies and answers
//! - [`in_process`]: the transport for components of the same process
//! - [`request`]: the request path
//! - [`authentication`], [`tokens`], [`authorization`], [`admission`]: its steps
//! - [`subresources`]: subresources that do more than show an object
//! - [`storage`], [`codec`], [`watch_cache`], [`selection`]: objects in the store
//! - [`services`]: cluster IPs and node ports; [`endpoints`]: those of the Service `kubernetes`
//! - [`store_check`]: whether the store answers
//! - [`bootstrap`]: the built-in objects; [`recounts`]: quotas to be recounted; [`metrics`]

mod admission;
mod authentication;
mod authorization;
mod bootstrap;
mod codec;
mod config;
mod endpoints;
mod error;
mod frontend;
mod http;
mod in_process;
mod metrics;
mod negotiation;
mod recounts;
mod request;
mod selection;
mod server;
mod services;
mod storage;
mod store_check;
mod subresources;
mod tokens;
mod user;
mod watch_cache;

#[cfg(test)]
pub mod tests;

pub use config::{Config, Tls};
pub use error::Error;
pub use frontend::Frontend;
pub use user::User;

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
