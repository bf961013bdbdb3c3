//! Authentication and permissions: users, roles, tokens.
//!
//! ```text
//!   caller ──▶ Guard ──who: sessions, jwt──▶ Author ──rule of the RPC──▶ Local ──▶ View: permit ──▶ read
//!                                                                          └──▶ command, signed ──▶ log
//!   log ──▶ command::apply ──▶ permit::command ──▶ manage ──Changes──▶ Auth (in the state), journal
//!                                                    └──Session──▶ sessions of each member
//! ```
//!
//! A read is permitted by the very view that it reads, and a write by the state that it changes. Both compare the
//! revision at which the caller was recognised with that of users and roles now, so that no permission outlives its
//! revocation.
//!
//! - [`guard`]: the one gate for everything that clients ask
//! - [`permit`]: who may do what; pure
//! - [`manage`]: what a command changes among users and roles; pure
//! - [`state`]: users and roles, replicated; pure
//! - [`ranges`]: unions of key ranges; pure
//! - [`service`]: etcd's Auth service on this member
//! - [`tokens`]: which tokens there are; [`sessions`]: simple ones; [`jwt`]: signed ones
//! - `bad_token`: why the options of tokens are refused
//! - [`password`]: hashing

mod bad_token;
pub mod guard;
mod jwt;
pub mod manage;
pub mod password;
pub mod permit;
mod ranges;
mod service;
pub mod sessions;
mod state;
mod tokens;

pub use bad_token::BadToken;
pub use guard::Rule;
pub use state::{Auth, Change, ROOT};
pub use tokens::Tokens;

/// How clients authenticate with a member.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    pub tokens: Tokens,
    /// The cost of hashing a password, 4 to 31; etcd's `--bcrypt-cost`. Any other is the default.
    pub bcrypt_cost: u32,
}

impl Default for AuthConfig {
    fn default() -> AuthConfig {
        AuthConfig { tokens: Tokens::default(), bcrypt_cost: password::COST_DEFAULT }
    }
}
