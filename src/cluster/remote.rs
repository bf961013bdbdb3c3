//! Clients of stores and frontends that run elsewhere.

use super::pki::Pki;
use crate::kube::client::{Client, Identity, Remote, RemoteConfig, RemoteError};
use crate::store;
use crate::world::World;

/// A client of the store behind `urls`.
pub fn store_client(world: &World, urls: Vec<String>) -> Result<store::client::Client, store::BadEndpoint> {
    Ok(store::client::Client::new(store::Remote::new(world, store::RemoteConfig::new(urls))?))
}

/// A client of the frontends at `addresses` (`host:port`), as the administrator.
pub fn admin_client(world: &World, pki: &Pki, addresses: Vec<String>) -> Result<Client, RemoteError> {
    let config = RemoteConfig {
        servers: addresses.into_iter().map(|address| format!("https://{address}")).collect(),
        ca_pem: Some(pki.ca_certificate.clone()),
        identity: Identity::Certificate {
            certificate_pem: pki.admin.certificate.clone(),
            key_pem: pki.admin.key.clone(),
        },
    };
    Ok(Client::new(std::sync::Arc::new(Remote::new(world, config)?)))
}
