//! Who has a certificate of the cluster, what it says, and what it is good for.
//!
//! One authority signs for everybody, so a signature alone admits nobody: each port looks at the name. What a
//! certificate may be shown for is as narrow as its use.

use crate::cluster::config::{ClusterConfig, NodeConfig, Role};

/// Somebody who has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// The person with the kubeconfig.
    Admin,
    Scheduler,
    ControllerManager,
    /// Frontends, to their clients.
    Frontend,
    /// Frontends, to members of the store.
    FrontendToStore,
    /// Frontends, to agents.
    FrontendToAgent,
    /// The agent of a node, to frontends.
    Agent(&'a str),
    /// The agent of a node, to those who ask it.
    AgentServer(&'a str),
    /// The member of the store on a node, to its clients.
    Member(&'a str),
    /// The member of the store on a node and the other members, both ways.
    Peer(&'a str),
}

/// What a certificate is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Server,
    Both,
}

impl<'a> Holder<'a> {
    /// Everybody in a cluster.
    pub fn all(config: &'a ClusterConfig) -> Vec<Holder<'a>> {
        use Holder::*;
        let mut all = vec![Admin, Scheduler, ControllerManager, Frontend, FrontendToStore, FrontendToAgent];
        for node in &config.nodes {
            if node.has(Role::Agent) {
                all.extend([Agent(&node.name), AgentServer(&node.name)]);
            }
            if node.has(Role::Store) {
                all.extend([Member(&node.name), Peer(&node.name)]);
            }
        }
        all
    }

    /// Where its files are below the directory of certificates, without their endings.
    pub fn file(&self) -> String {
        match self {
            Holder::Admin => "admin".to_owned(),
            Holder::Scheduler => "scheduler".to_owned(),
            Holder::ControllerManager => "controller-manager".to_owned(),
            Holder::Frontend => "apiserver".to_owned(),
            Holder::FrontendToStore => "apiserver-etcd-client".to_owned(),
            Holder::FrontendToAgent => "apiserver-kubelet-client".to_owned(),
            Holder::Agent(node) => format!("{node}/kubelet-client"),
            Holder::AgentServer(node) => format!("{node}/kubelet"),
            Holder::Member(node) => format!("{node}/etcd-server"),
            Holder::Peer(node) => format!("{node}/etcd-peer"),
        }
    }

    /// The name in the certificate: to frontends, the user's.
    pub fn common_name(&self) -> String {
        match self {
            Holder::Admin => "kubernetes-admin".to_owned(),
            Holder::Scheduler => "system:kube-scheduler".to_owned(),
            Holder::ControllerManager => "system:kube-controller-manager".to_owned(),
            Holder::Frontend => "kube-apiserver".to_owned(),
            Holder::FrontendToStore => "kube-apiserver-etcd-client".to_owned(),
            Holder::FrontendToAgent => "kube-apiserver-kubelet-client".to_owned(),
            Holder::Agent(node) | Holder::AgentServer(node) => format!("system:node:{node}"),
            Holder::Member(node) => format!("system:etcd-server:{node}"),
            Holder::Peer(node) => format!("system:etcd-peer:{node}"),
        }
    }

    /// The group that frontends find the user in.
    pub fn organization(&self) -> Option<&'static str> {
        match self {
            Holder::Admin => Some("system:masters"),
            Holder::Agent(_) | Holder::AgentServer(_) => Some("system:nodes"),
            _ => None,
        }
    }

    pub fn purpose(&self) -> Purpose {
        match self {
            Holder::Frontend | Holder::AgentServer(_) | Holder::Member(_) => Purpose::Server,
            Holder::Peer(_) => Purpose::Both,
            _ => Purpose::Client,
        }
    }

    /// The names and addresses under which it is dialled.
    pub fn hosts(&self, config: &ClusterConfig) -> Vec<String> {
        let of = |name: &str, address: fn(&NodeConfig) -> Option<&String>| -> Vec<String> {
            let dialled = config.node(name).and_then(address).and_then(|address| host(address));
            std::iter::once(name.to_owned()).chain(dialled).collect()
        };
        let mut hosts = match self {
            Holder::Frontend => {
                let own = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"];
                let listed = config.nodes.iter().filter_map(|node| host(node.api.as_ref()?));
                own.into_iter().map(str::to_owned).chain(listed).collect()
            }
            Holder::AgentServer(name) => of(name, |node| node.kubelet.as_ref()),
            Holder::Member(name) => of(name, |node| node.client.as_ref()),
            Holder::Peer(name) => of(name, |node| node.peer.as_ref()),
            _ => Vec::new(),
        };
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// The host part of an address, unless it stands for all addresses.
fn host(address: &str) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let is_any = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified());
    (!is_any).then(|| host.to_owned())
}
