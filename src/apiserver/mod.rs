//! Kubernetes API frontends, stateless over the store.

mod config;
mod error;
mod frontend;
mod in_process;
mod user;

pub use config::{Config, Tls};
pub use error::Error;
pub use frontend::Frontend;
pub use user::User;
