//! etcd's identifiers: every member derives the same ones from the same initial cluster, or finds its own among the
//! members of the one that it joins.

use sha1::{Digest, Sha1};

use super::Member;
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

/// Why a member cannot join a running cluster: its idea of the members is another one. Surface it, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("member count is unequal")]
    Count,
    #[error("PeerURLs: no match found for existing member ({id}, [{}])", .urls.join(" "))]
    Url { id: NodeId, urls: Vec<String> },
}

/// The ID of the member called `name`, which is to join a running cluster: `initial` holds names and peer URLs as it
/// was told, `existing` the members that there are. Both must have the same peer URLs.
pub fn joining(initial: &[(String, Vec<String>)], existing: &[Member], name: &str) -> Result<Option<NodeId>, Mismatch> {
    if initial.len() != existing.len() {
        return Err(Mismatch::Count);
    }
    let mut joining = None;
    for member in existing {
        let same = initial.iter().find(|(_, urls)| sorted(urls) == sorted(&member.peer_urls));
        let (known_as, _) = same.ok_or_else(|| Mismatch::Url { id: member.id, urls: member.peer_urls.clone() })?;
        if known_as == name {
            joining = Some(member.id);
        }
    }
    Ok(joining)
}

fn sorted(urls: &[String]) -> Vec<&str> {
    let mut urls: Vec<&str> = urls.iter().map(|url| url.trim_end_matches('/')).collect();
    urls.sort_unstable();
    urls
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

    #[test]
    fn a_joining_member_finds_itself_by_its_urls() {
        let member = |id, url: &str| Member {
            id: NodeId(id),
            name: String::new(),
            peer_urls: vec![url.to_owned()],
            client_urls: vec![],
            learner: false,
        };
        let told = |name: &str, url: &str| (name.to_owned(), vec![url.to_owned()]);
        let existing = [member(7, "http://a:1"), member(8, "http://b:1")];
        let initial = [told("b", "http://b:1"), told("a", "http://a:1")];
        assert_eq!(joining(&initial, &existing, "b"), Ok(Some(NodeId(8))));
        assert_eq!(joining(&initial, &existing, "c"), Ok(None));
        assert_eq!(joining(&initial[..1], &existing, "b"), Err(Mismatch::Count));
        let moved = [told("b", "http://b:2"), told("a", "http://a:1")];
        let refused = joining(&moved, &existing, "b").unwrap_err();
        assert_eq!(refused.to_string(), "PeerURLs: no match found for existing member (8, [http://b:1])");
    }
}
