//! The endpoints of the store that a command talks to.

use std::path::Path;

use anyhow::bail;

use crate::cluster::config::Role;
use crate::cluster::local::LocalCluster;
use crate::world::World;
use crate::world::net::Address;

/// Where a store listens by default.
const DEFAULT_ENDPOINT: &str = "127.0.0.1:2379";

/// The endpoints that were `given`, or else those of the local cluster in `data_dir`, or else the default one.
pub fn endpoints(world: &World, given: &[String], data_dir: &Path) -> anyhow::Result<Vec<String>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let Some(local) = LocalCluster::find(world, &std::path::absolute(data_dir)?)? else {
        return Ok(vec![DEFAULT_ENDPOINT.to_owned()]);
    };
    let members = local.config.with_role(Role::Store).filter_map(|node| local.config.client_url(node));
    Ok(local.config.store_endpoints.iter().cloned().chain(members).collect())
}

/// The URL of an endpoint, which may be given without a scheme.
pub fn url(endpoint: &str) -> anyhow::Result<String> {
    let endpoint = endpoint.trim();
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    if Address::parse(&url).is_err() {
        bail!("the endpoint {endpoint:?} is neither HOST:PORT nor a URL such as https://HOST:PORT");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_with_and_without_a_scheme() {
        assert_eq!(url("127.0.0.1:2379").unwrap(), "http://127.0.0.1:2379");
        assert_eq!(url(" http://a:1 ").unwrap(), "http://a:1");
        assert_eq!(url("https://a:1").unwrap(), "https://a:1");
        for wrong in ["ftp://a:1", "", "127.0.0.1", "a:b"] {
            let error = url(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the endpoint {wrong:?} is neither")), "{error}");
        }
    }
}
