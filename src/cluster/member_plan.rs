//! What a member of the store is started with.

use std::path::PathBuf;

use super::identity::Identity;
use crate::disk::log;
use crate::world::NodeId;
use crate::{etcd, raft, store};

/// Everything a member is started with.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    pub name: String,
    /// The member's own directory. It exists, and no other process uses it.
    pub data_dir: PathBuf,
    /// Where other members reach this one, as URLs.
    pub peer_urls: Vec<String>,
    /// Where clients reach this one, as URLs.
    pub client_urls: Vec<String>,
    /// Where peers are served, as URLs; a bare `host:port` is one of `http`.
    pub listen_peers: Vec<String>,
    /// How members tell each other from strangers.
    pub security: raft::Security,
    /// What a member whose directory is empty belongs to.
    pub origin: Origin,
    /// Should its files be damaged, have its peers replace it by a new member that starts with nothing.
    pub heal_from_peers: bool,
    /// Make this member the only one and keep its data, if it has run before.
    pub force_new_cluster: bool,
    /// What it asks of changes of the membership.
    pub rules: raft::Rules,
    /// Whether a member that has data compares them with its peers' before it serves.
    pub check_initially: bool,
    /// Where a copy of the log is kept as etcd writes it, for tools.
    pub mirror: Option<PathBuf>,
    pub timings: raft::Timings,
    pub limits: raft::Limits,
    /// Sizes of the log.
    pub log: log::Options,
    /// The member's and the cluster's ID in here are filled in at start.
    pub store: store::Config,
    pub frontend: etcd::Config,
}

/// How a member comes to its identity and its first membership. A member that has both ignores it.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A new cluster of these members, each of which is given the same list and the same token.
    New { members: Vec<InitialMember>, token: String },
    /// A cluster that runs already, to which this member was added.
    Existing { node: NodeId, cluster: raft::ClusterId },
}

/// A member of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    pub peer_urls: Vec<String>,
    /// May be left empty: a member tells the others once it has started.
    pub client_urls: Vec<String>,
}

impl MemberPlan {
    /// How the member's replica is started.
    pub(super) fn replica_config(&self, identity: Identity, bootstrap: raft::Bootstrap) -> raft::Config {
        let plan = self.clone();
        raft::Config {
            node: identity.node,
            cluster: identity.cluster(),
            name: plan.name,
            client_urls: plan.client_urls,
            data_dir: plan.data_dir,
            listen: plan.listen_peers,
            security: plan.security,
            bootstrap,
            force_new_cluster: plan.force_new_cluster,
            rules: plan.rules,
            version: plan.store.version,
            timings: plan.timings,
            limits: plan.limits,
            log: plan.log,
        }
    }
}
