//! How the components of a node reach the API, each under its own name: through the node's own frontend in the process,
//! else over the network with a certificate, or with a token that a certificate got it.

use std::sync::Arc;

use super::config::{ClusterConfig, Role};
use super::pki::{Holder, Pki};
use super::remote::{ClientError, api_client, api_config};
use crate::apiserver::{Frontend, User};
use crate::kube::client::{AccountToken, Client, Identity, Remote, RemoteConfig};
use crate::world::World;

/// Where the controllers' service accounts are.
const NAMESPACE: &str = "kube-system";

pub struct Api<'a> {
    world: &'a World,
    pki: &'a Pki,
    frontend: Option<Frontend>,
    /// Those of other nodes.
    addresses: Vec<String>,
}

impl<'a> Api<'a> {
    pub fn new(world: &'a World, pki: &'a Pki, config: &ClusterConfig, frontend: Option<Frontend>) -> Api<'a> {
        let addresses = config.with_role(Role::Apiserver).filter_map(|node| node.api.clone()).collect();
        Api { world, pki, frontend, addresses }
    }

    /// A client for `user`, whom frontends elsewhere know by the certificate of `holder`.
    pub fn client(&self, user: User, holder: Holder<'_>) -> Result<Client, ClientError> {
        match &self.frontend {
            Some(frontend) => Ok(Client::new(frontend.transport(user))),
            None => api_client(self.world, self.pki, holder, self.addresses.clone()),
        }
    }

    /// A client for a controller's service account.
    pub fn controller(&self, manager: &Client, name: &str) -> Result<Client, ClientError> {
        if let Some(frontend) = &self.frontend {
            return Ok(Client::new(frontend.transport(User::service_account(NAMESPACE, name))));
        }
        let token = AccountToken::new(self.world, manager.clone(), NAMESPACE, name);
        let config = api_config(self.pki, Holder::ControllerManager, self.addresses.clone())?;
        let config = RemoteConfig { identity: Identity::Account(token), ..config };
        Ok(Client::new(Arc::new(Remote::new(self.world, config)?)))
    }
}
