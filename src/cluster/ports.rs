//! The ports of a local cluster, looked at before its nodes start: those that are taken, others that are free, and those
//! that the kernel may give to anyone.

use std::fmt;
use std::io;

use super::config::{ClusterConfig, NodeConfig, port};
use super::local::LocalCluster;
use crate::world::World;
use crate::world::net::ports::Ephemeral;

/// Offsets that are tried for a free set of ports.
const OFFSETS: [u16; 12] = [100, 200, 300, 1000, 2000, 3000, 10, 20, 30, 40, 50, 60];

/// Some nodes cannot listen where they should. Surface it: the user ends what holds the ports, or chooses others.
#[derive(Debug, thiserror::Error)]
#[error("the cluster cannot listen where its configuration says:{}\n{advice}", list(.refused))]
pub struct PortsTaken {
    refused: Vec<Refused>,
    advice: String,
}

#[derive(Debug)]
struct Refused {
    node: String,
    field: &'static str,
    address: String,
    cause: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: {}", self.node, self.field, self.address, self.cause)
    }
}

fn list(refused: &[Refused]) -> String {
    refused.iter().map(|refused| format!("\n  {refused}")).collect()
}

/// Whether the nodes of `cluster` that do not run could listen now.
pub async fn check(world: &World, cluster: &LocalCluster) -> Result<(), PortsTaken> {
    let idle = cluster.config.nodes.iter().filter(|node| cluster.process(&node.name).is_none());
    let refused = refused(world, idle).await;
    if refused.is_empty() {
        return Ok(());
    }
    let advice = match (free_offset(world, &cluster.config).await, cluster.exists()) {
        (None, _) => "End what holds them, then try again".to_owned(),
        (Some(free), false) => {
            let dir = cluster.dir.display();
            format!(
                "End what holds them, or start the cluster on other ports: \
                 `chorus up --data-dir {dir} --port-offset {free}`"
            )
        }
        // The members of a store know each other by their ports.
        (Some(free), true) => format!(
            "End what holds them; a cluster keeps its ports, but another one finds free ones with \
             `chorus up --port-offset {free} --data-dir DIR`"
        ),
    };
    Err(PortsTaken { refused, advice })
}

async fn refused(world: &World, nodes: impl Iterator<Item = &NodeConfig>) -> Vec<Refused> {
    let mut refused = Vec::new();
    for node in nodes {
        for (field, address) in node.addresses() {
            if let Err(cause) = world.net.listen(address).await {
                refused.push(Refused { node: node.name.clone(), field, address: address.to_owned(), cause });
            }
        }
    }
    refused
}

/// An offset with which all ports of the configuration are free now.
async fn free_offset(world: &World, config: &ClusterConfig) -> Option<u16> {
    let ephemeral = crate::world::net::ports::ephemeral();
    for offset in OFFSETS {
        let Ok(moved) = config.with_port_offset(config.port_offset.saturating_add(offset)) else { continue };
        if given_away(&moved, ephemeral.as_ref()).len() <= given_away(config, ephemeral.as_ref()).len()
            && refused(world, moved.nodes.iter()).await.is_empty()
        {
            return Some(moved.port_offset);
        }
    }
    None
}

/// The ports of the configuration that the kernel gives to outgoing connections.
fn given_away(config: &ClusterConfig, ephemeral: Option<&Ephemeral>) -> Vec<u16> {
    let addresses = config.nodes.iter().flat_map(NodeConfig::addresses);
    let ports = addresses.filter_map(|(_, address)| port(address));
    ports.filter(|port| ephemeral.is_some_and(|ephemeral| ephemeral.contains(*port))).collect()
}

/// What the operator should know of the ports in `config`.
pub fn warning(config: &ClusterConfig, ephemeral: Option<Ephemeral>) -> Option<String> {
    let ephemeral = ephemeral?;
    let ports: Vec<String> = given_away(config, Some(&ephemeral)).iter().map(u16::to_string).collect();
    if ports.is_empty() {
        return None;
    }
    let (ports, first, last) = (ports.join(","), ephemeral.range.start(), ephemeral.range.end());
    Some(format!(
        "ports {ports} lie in the range that the kernel gives to outgoing connections ({first}-{last}), so that a node \
         may find its own taken when it starts: choose others, or set them aside with \
         `sysctl -w net.ipv4.ip_local_reserved_ports={ports}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_kernel_are_named() {
        let ephemeral = Some(Ephemeral::new(22000..=23000));
        let config = ClusterConfig::three_local_nodes();
        let warning = warning(&config, ephemeral.clone()).unwrap();
        assert!(warning.starts_with("ports 22379,22380 lie in the range"), "{warning}");
        assert!(warning.contains("(22000-23000)"), "{warning}");
        assert_eq!(super::warning(&config.with_port_offset(1000).unwrap(), ephemeral), None);
        assert_eq!(super::warning(&config, None), None);
    }
}
