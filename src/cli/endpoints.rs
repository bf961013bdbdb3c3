//! Where the store listens that a command is for.

use std::path::Path;

use anyhow::bail;

use crate::cluster::config::Role;
use crate::cluster::local::LocalCluster;
use crate::world::World;

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
    match endpoint.trim().split_once("://") {
        None => Ok(format!("http://{}", endpoint.trim())),
        Some(("http" | "https" | "unix" | "unixs", _)) => Ok(endpoint.trim().to_owned()),
        Some((scheme, _)) => bail!("{endpoint}: {scheme} is none of http, https, unix and unixs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_with_and_without_a_scheme() {
        assert_eq!(url("127.0.0.1:2379").unwrap(), "http://127.0.0.1:2379");
        assert_eq!(url(" http://a:1 ").unwrap(), "http://a:1");
        assert_eq!(url("https://a:1").unwrap(), "https://a:1");
        assert!(url("ftp://a:1").is_err());
    }
}
