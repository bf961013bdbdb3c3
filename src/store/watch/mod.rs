//! Watches: which watcher sees which events, in which order, within bounds.
//!
//! ```text
//!   client requests ──▶ pump ──▶ WatchHub ──▶ Watchers (pure) ──▶ Outbox, one a stream ──▶ client
//!   state machine ──EventFeed─────▶ │                                 │
//!                                   ◀───────── room again ────────────┘
//!                 history ◀── catch_up, on another thread ── unsynced watchers
//! ```
//!
//! As in etcd, a watcher is synced and gets events as they happen, or it is unsynced and reads the history until it is
//! synced. A watcher whose stream has no room becomes unsynced: nothing is lost, and nothing piles up.
//!
//! - [`hub`]: the actor
//! - [`watchers`]: streams and watchers; pure
//! - [`requests`]: what a client asks of its stream; pure
//! - [`catch_up`]: reading the history; pure
//! - [`groups`]: which watchers a key concerns; [`interest`]: what a watcher wants to see
//! - [`response`]: building and splitting responses
//! - [`outbox`]: the bounded queue of one stream, and the bound on all of them
//! - [`stream`]: from a client's requests to the hub and back

mod catch_up;
mod groups;
mod hub;
mod interest;
mod outbox;
mod requests;
mod response;
mod stream;
mod watchers;

pub use hub::{Config, WatchHub};
pub use outbox::Unread;
pub use stream::Streams;

/// The pure parts, for tests of the room.
#[cfg(test)]
pub mod testing {
    pub use super::catch_up::catch_up;
    pub use super::outbox::{Outbox, Unread};
    pub use super::watchers::Watchers;
}
