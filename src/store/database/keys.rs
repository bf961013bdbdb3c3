//! Keys and values of etcd's buckets. Pure.

use chorus_proto::etcdserverpb::AlarmMember;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::raft::Member;
use crate::store::mvcc::Rev;
use crate::world::NodeId;

pub const KEY: &[u8] = b"key";
pub const META: &[u8] = b"meta";
pub const LEASE: &[u8] = b"lease";
pub const ALARM: &[u8] = b"alarm";
pub const CLUSTER: &[u8] = b"cluster";
pub const MEMBERS: &[u8] = b"members";
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub const AUTH: &[u8] = b"auth";
pub const AUTH_USERS: &[u8] = b"authUsers";
pub const AUTH_ROLES: &[u8] = b"authRoles";

pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub const TERM: &[u8] = b"term";
pub const CONF_STATE: &[u8] = b"confState";
pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub const STORAGE_VERSION: &[u8] = b"storageVersion";
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
pub const AUTH_REVISION: &[u8] = b"authRevision";
pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub const DOWNGRADE: &[u8] = b"downgrade";

const REVISION_BYTES: usize = 17;
const DELETION: u8 = b't';

/// The key of a change.
pub fn revision(at: Rev, is_deletion: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(REVISION_BYTES + 1);
    key.extend_from_slice(&at.main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(at.sub).to_be_bytes());
    if is_deletion {
        key.push(DELETION);
    }
    key
}

/// The change that a key names, and whether it is a deletion.
pub fn parse_revision(key: &[u8]) -> Option<(Rev, bool)> {
    let (at, rest) = key.split_at_checked(REVISION_BYTES)?;
    let is_deletion = match rest {
        [] => false,
        [DELETION] => true,
        _ => return None,
    };
    let main = i64::from_be_bytes(at[..8].try_into().ok()?);
    let sub = i64::from_be_bytes(at[9..].try_into().ok()?);
    let sub = u32::try_from(sub).ok()?;
    (main >= 0 && at[8] == b'_').then_some((Rev { main, sub }, is_deletion))
}

/// `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseRow {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

/// The key of an alarm.
pub fn alarm(member: u64, kind: i32) -> Vec<u8> {
    AlarmMember { member_id: member, alarm: kind }.encode_to_vec()
}

/// The key of a member.
pub fn member_key(id: NodeId) -> Vec<u8> {
    format!("{:x}", id.0).into_bytes()
}

/// The member that a key names.
pub fn parse_member_key(key: &[u8]) -> Option<NodeId> {
    u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok().map(NodeId)
}

/// A member as etcd writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    pub id: u64,
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Option::is_none")]
    pub client_urls: Option<Vec<String>>,
}

impl From<&Member> for MemberRow {
    fn from(member: &Member) -> MemberRow {
        MemberRow {
            id: member.id.0,
            peer_urls: Some(member.peer_urls.clone()),
            is_learner: member.learner,
            name: member.name.clone(),
            client_urls: Some(member.client_urls.clone()).filter(|urls| !urls.is_empty()),
        }
    }
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Member {
        Member {
            id: NodeId(row.id),
            name: row.name,
            peer_urls: row.peer_urls.unwrap_or_default(),
            client_urls: row.client_urls.unwrap_or_default(),
            learner: row.is_learner,
        }
    }
}

/// The voters, as etcd writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfState {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    #[serde(default)]
    pub auto_leave: bool,
}

impl ConfState {
    pub fn of(members: &[Member]) -> ConfState {
        let ids = |learner| {
            let mut ids: Vec<u64> =
                members.iter().filter(|member| member.learner == learner).map(|member| member.id.0).collect();
            ids.sort_unstable();
            ids
        };
        ConfState { voters: ids(false), learners: ids(true), auto_leave: false }
    }
}

/// Whether a downgrade is under way, as etcd writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DowngradeRow {
    #[serde(rename = "target-version", default)]
    pub target: String,
    #[serde(default)]
    pub enabled: bool,
}

/// A value of the buckets that hold JSON.
pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and text are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_look_as_etcd_writes_them() {
        let at = Rev { main: 2, sub: 1 };
        assert_eq!(revision(at, false), b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01");
        assert_eq!(revision(at, true), b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01t");
        assert_eq!(parse_revision(&revision(at, true)), Some((at, true)));
        assert_eq!(parse_revision(b"\0\0\0\0\0\0\0\x02-\0\0\0\0\0\0\0\x01"), None);
        let member = Member {
            id: NodeId(0x628),
            name: "n1".to_owned(),
            peer_urls: vec!["http://a:1".to_owned()],
            client_urls: vec![],
            learner: true,
        };
        assert_eq!(member_key(member.id), b"628");
        let row = String::from_utf8(json(&MemberRow::from(&member))).unwrap();
        assert_eq!(row, r#"{"id":1576,"peerURLs":["http://a:1"],"isLearner":true,"name":"n1"}"#);
        let conf = String::from_utf8(json(&ConfState::of(&[member]))).unwrap();
        assert_eq!(conf, r#"{"learners":[1576],"auto_leave":false}"#);
    }
}
