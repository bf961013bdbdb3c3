//! Clients of stores and frontends that run elsewhere.

use super::config::{ClusterConfig, Role};
use super::pki::{Holder, Pki, PkiError};
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

/// A client of the cluster's own store, or of the one it names, as a frontend.
pub fn frontend_store_client(
    world: &World,
    pki: &Pki,
    config: &ClusterConfig,
) -> Result<store::client::Client, store::BadEndpoint> {
    let members = config.with_role(Role::Store).map(|node| Holder::Member(&node.name).common_name());
    let foreign = !config.store_endpoints.is_empty() || config.nodes.iter().any(|node| node.client_tls.is_some());
    let tls = if foreign { config.store_tls.options() } else { pki.tls(Holder::FrontendToStore, members) };
    store_client(world, config.store_urls(), tls)
}

/// How the frontends at `addresses` (`host:port`) are reached by the holder of a certificate.
pub fn api_config(pki: &Pki, holder: Holder<'_>, addresses: Vec<String>) -> Result<RemoteConfig, PkiError> {
    let pair = pki.pair(holder)?;
    Ok(RemoteConfig {
        servers: addresses.into_iter().map(|address| format!("https://{address}")).collect(),
        ca_pem: Some(pki.ca_certificate.clone()),
        identity: Identity::Certificate { certificate_pem: pair.certificate, key_pem: pair.key },
    })
}

/// A client of the frontends at `addresses`, as the holder of a certificate.
pub fn api_client(world: &World, pki: &Pki, holder: Holder<'_>, addresses: Vec<String>) -> Result<Client, ClientError> {
    Ok(Client::new(std::sync::Arc::new(Remote::new(world, api_config(pki, holder, addresses)?)?)))
}

/// Why there is no client. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}
