//! etcd's identifiers: every member derives the same ones from the same initial cluster.

use sha1::{Digest, Sha1};

use crate::world::NodeId;

/// The ID of an initial member: the first eight bytes of the SHA-1 of its sorted peer URLs and the cluster's token.
pub fn member_id(peer_urls: &[String], token: &str) -> NodeId {
    hashed(peer_urls, token, "")
}

/// The ID of a member that is added at `unix_seconds`. Adding the same URLs once more gives another ID.
pub fn added_member_id(peer_urls: &[String], unix_seconds: u64) -> NodeId {
    hashed(peer_urls, "", &unix_seconds.to_string())
}

fn hashed(peer_urls: &[String], token: &str, time: &str) -> NodeId {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut hash = Sha1::new();
    hash.update(urls.concat());
    hash.update(token);
    hash.update(time);
    NodeId(first_eight(&hash.finalize()))
}

/// The cluster's ID: the first eight bytes of the SHA-1 of its members' IDs, sorted.
pub fn cluster_id(members: impl IntoIterator<Item = NodeId>) -> u64 {
    let mut members: Vec<NodeId> = members.into_iter().collect();
    members.sort();
    let mut hash = Sha1::new();
    for NodeId(id) in members {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(*digest.first_chunk().expect("a SHA-1 has twenty bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:32380";

    #[test]
    fn ids_are_etcds() {
        let member = member_id(&[URL.to_owned()], "etcd-cluster");
        assert_eq!(member, NodeId(0x0628_170c_800d_bcee));
        assert_eq!(cluster_id([member]), 0xbabc_9795_b64f_03e3);
        assert_eq!(added_member_id(&[URL.to_owned()], 5), member_id(&[URL.to_owned()], "5"));
    }
}
