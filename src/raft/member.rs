//! Members of the cluster, as the log records them.

use crate::world::NodeId;

/// A member and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    /// Empty until the member has started for the first time.
    pub name: String,
    /// `http://host:port`, where other members reach it.
    pub peer_urls: Vec<String>,
    /// `http://host:port`, where clients reach it. Empty until the member has started for the first time.
    pub client_urls: Vec<String>,
    /// Receives the log but does not vote. A member that was added to vote and has yet to catch up is none.
    pub learner: bool,
}
