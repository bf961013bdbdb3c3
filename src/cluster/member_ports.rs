//! What is spoken on the ports of a node's member of the store: mutual TLS or plain text.
//!
//! Which one peers speak is decided when a member first starts, and kept beside its data: the URLs of all members are
//! in the cluster's membership, so that one that changed by itself would find nobody.

use std::path::Path;

use super::config::{ClusterConfig, NodeConfig, Role, Security, is_loopback};
use super::identity::Identity;
use super::pki::{Holder, Pki};
use crate::world::disk::Access;
use crate::world::{Disk, tls};

/// The file that keeps what a member speaks to its peers.
const KEPT: &str = "peer-scheme";

/// What is spoken, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    peer: Security,
    /// What the configuration says; by itself a port speaks TLS, and plain text where that stays on the machine.
    client: Option<Security>,
    /// Whether there are certificates at all.
    secure: bool,
}

impl Ports {
    /// For a cluster without any TLS.
    pub fn plain() -> Ports {
        Ports { peer: Security::Plain, client: Some(Security::Plain), secure: false }
    }

    /// What the member that keeps its data in `data_dir` speaks: the configuration's word counts first, then what it
    /// has spoken so far.
    pub fn decide(disk: &Disk, data_dir: &Path, config: &ClusterConfig, node: &NodeConfig) -> std::io::Result<Ports> {
        let kept = data_dir.join(KEPT);
        let spoken = match disk.exists(&kept) {
            true if disk.read(&kept)? == Security::Plain.scheme().as_bytes() => Some(Security::Plain),
            true => Some(Security::Mutual),
            // Members of earlier releases kept nothing, and spoke plain.
            false => Identity::is_kept(disk, data_dir).then_some(Security::Plain),
        };
        let stated = config.tls.peer;
        let peer = stated.or(spoken).unwrap_or(Security::Mutual);
        if spoken != Some(peer) || !disk.exists(&kept) {
            disk.replace(&kept, peer.scheme().as_bytes(), Access::Owner)?;
        }
        if stated.is_none() && peer == Security::Plain {
            tracing::warn!(
                node = node.name,
                "the members of this cluster reach each other without TLS, as they did when it was made; say `peer = \
                 \"plain\"` below [tls] to keep it so, or update their peer URLs to https and say `peer = \"mutual\"`"
            );
        }
        Ok(Ports { peer, client: config.tls.client, secure: true })
    }

    pub fn peer_urls(&self, node: &NodeConfig) -> Vec<String> {
        node.peer.iter().map(|address| format!("{}://{address}", self.peer.scheme())).collect()
    }

    /// Where a member listens for clients; one URL may be the other's twin on the same port.
    pub fn listen_clients(&self, node: &NodeConfig) -> Vec<String> {
        let Some(address) = &node.client else { return Vec::new() };
        // Clients of a cluster that has always spoken plain go on as they are.
        let is_plain_by_itself = is_loopback(address) || self.peer == Security::Plain;
        let spoken: &[Security] = match self.client {
            Some(Security::Mutual) => &[Security::Mutual],
            Some(Security::Plain) => &[Security::Plain],
            None if is_plain_by_itself => &[Security::Plain, Security::Mutual],
            None => &[Security::Mutual],
        };
        spoken.iter().map(|security| format!("{}://{address}", security.scheme())).collect()
    }

    /// Where the members tell clients to go.
    pub fn client_urls(&self, node: &NodeConfig) -> Vec<String> {
        self.listen_clients(node).into_iter().take(1).collect()
    }

    /// For the other members, both ways. It is there for plain members, too: they may have to call one that is not.
    pub fn peer_tls(&self, pki: &Pki, config: &ClusterConfig, node: &NodeConfig) -> tls::Options {
        match &node.peer_tls {
            _ if !self.secure => tls::Options::default(),
            Some(files) => files.mutual(),
            None => {
                let members = config.with_role(Role::Store);
                pki.tls(Holder::Peer(&node.name), members.map(|member| Holder::Peer(&member.name).common_name()))
            }
        }
    }

    /// For clients: frontends, and the person with the kubeconfig. Others with a certificate of the cluster go through
    /// the API.
    pub fn client_tls(&self, pki: &Pki, node: &NodeConfig) -> tls::Options {
        match &node.client_tls {
            _ if !self.secure => tls::Options::default(),
            Some(files) => files.mutual(),
            None => {
                let clients = [Holder::FrontendToStore, Holder::Admin].map(|holder| holder.common_name());
                pki.tls(Holder::Member(&node.name), clients)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::config::ClusterConfig;

    #[test]
    fn plain_text_stays_on_the_machine() {
        let mut node = ClusterConfig::three_local_nodes().nodes[0].clone();
        let ports = |peer, client| Ports { peer, client, secure: true };
        let (mutual, plain) = (Security::Mutual, Security::Plain);
        let both = vec!["http://127.0.0.1:2379".to_owned(), "https://127.0.0.1:2379".to_owned()];
        assert_eq!(ports(mutual, None).listen_clients(&node), both);
        assert_eq!(ports(mutual, None).client_urls(&node), both[..1]);
        assert_eq!(ports(mutual, None).peer_urls(&node), ["https://127.0.0.1:2380"]);
        assert_eq!(ports(mutual, Some(mutual)).listen_clients(&node), both[1..]);
        node.client = Some("192.0.2.1:2379".to_owned());
        assert_eq!(ports(mutual, None).listen_clients(&node), ["https://192.0.2.1:2379"]);
        assert_eq!(ports(mutual, Some(plain)).listen_clients(&node), ["http://192.0.2.1:2379"]);
        let of_an_earlier_release = ports(plain, None).listen_clients(&node);
        assert_eq!(of_an_earlier_release, ["http://192.0.2.1:2379", "https://192.0.2.1:2379"]);
    }
}
