//! Clients of stores and frontends that run elsewhere.

use super::pki::Pki;
use crate::kube::client::{Client, Identity, Remote, RemoteConfig, RemoteError};
use crate::store;
use crate::world::{World, tls};

/// A client of the store behind `urls`; `tls` is for those that are `https`.
pub fn store_client(
    world: &World,
    urls: Vec<String>,
    tls: tls::Options,
) -> Result<store::client::Client, store::BadEndpoint> {
    let tls = match urls.iter().find(|url| url.starts_with("https:")) {
        Some(url) => {
            let tls = tls::Client::new(world, tls);
            Some(tls.map_err(|error| store::BadEndpoint { endpoint: url.clone(), message: error.to_string() })?)
        }
        None => None,
    };
    let config = store::RemoteConfig { tls, ..store::RemoteConfig::new(urls) };
    Ok(store::client::Client::new(store::Remote::new(world, config)?))
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
