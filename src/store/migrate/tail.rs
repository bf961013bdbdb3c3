//! etcd's log entries as ours. Pure.
//!
//! What etcd applies to its list of members becomes a membership here: changes of the configuration, and names and
//! client URLs that members publish. Everything else that is in a log is a command in both.

use std::collections::BTreeMap;

use bytes::Bytes;
use chorus_proto::etcdserverpb::InternalRaftRequest;
use prost::Message;
use serde::Deserialize;

use crate::disk::Position;
use crate::disk::etcd_wal::record::{ConfChangeKind, EntryKind};
use crate::disk::etcd_wal::{ConfChange, Entry};
use crate::raft::Member;
use crate::raft::offline::Content;
use crate::store::database::keys::MemberRow;
use crate::world::NodeId;

/// The members as the entries change them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BTreeMap<NodeId, Member>);

/// The request by which etcd 3.4 writes to its second store; of those in a log only what concerns members is of any
/// use.
#[derive(Clone, PartialEq, Eq, Message)]
struct OldRequest {
    #[prost(string, optional, tag = "2")]
    method: Option<String>,
    #[prost(string, optional, tag = "3")]
    path: Option<String>,
    #[prost(string, optional, tag = "4")]
    value: Option<String>,
}

/// The attributes that a member publishes of itself.
#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

/// The member that a change of the configuration is about.
#[derive(Deserialize)]
struct Context {
    #[serde(flatten)]
    member: MemberRow,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

impl Members {
    pub fn new(members: &[Member]) -> Members {
        Members(members.iter().map(|member| (member.id, member.clone())).collect())
    }

    pub fn to_vec(&self) -> Vec<Member> {
        self.0.values().cloned().collect()
    }

    /// Converts one entry; the error is a reason.
    pub fn convert(&mut self, entry: &Entry) -> Result<(Position, Content), String> {
        let at = Position { term: entry.term, index: entry.index };
        let data = entry.data.clone().unwrap_or_default();
        let content = match EntryKind::try_from(entry.kind) {
            Ok(EntryKind::Normal) if data.is_empty() => Content::Blank,
            Ok(EntryKind::Normal) => self.normal(data),
            Ok(EntryKind::ConfChange) => self.conf_change(data).map_err(|reason| format!("entry {at}: {reason}"))?,
            _ => return Err(format!("entry {at} is of a kind that etcd does not write: {}", entry.kind)),
        };
        Ok((at, content))
    }

    fn normal(&mut self, data: Bytes) -> Content {
        let Ok(request) = InternalRaftRequest::decode(data.clone()) else {
            return self.old_request(data);
        };
        match request.cluster_member_attr_set {
            Some(set) => {
                let attributes = set.member_attributes.unwrap_or_default();
                self.publish(NodeId(set.member_id), attributes.name, attributes.client_urls)
            }
            None => Content::Commands(vec![data]),
        }
    }

    fn old_request(&mut self, data: Bytes) -> Content {
        let request = OldRequest::decode(data).unwrap_or_default();
        let path = request.path.unwrap_or_default();
        let id = path.strip_prefix("/0/members/").and_then(|rest| rest.strip_suffix("/attributes"));
        let id =
            id.and_then(|id| u64::from_str_radix(id, 16).ok()).filter(|_| request.method.as_deref() == Some("PUT"));
        let published = serde_json::from_str::<Published>(request.value.as_deref().unwrap_or_default());
        match (id, published) {
            (Some(id), Ok(published)) => {
                self.publish(NodeId(id), published.name, published.client_urls.unwrap_or_default())
            }
            _ => Content::Blank,
        }
    }

    fn publish(&mut self, id: NodeId, name: String, client_urls: Vec<String>) -> Content {
        match self.0.get_mut(&id) {
            Some(member) => {
                (member.name, member.client_urls) = (name, client_urls);
                Content::Members(self.to_vec())
            }
            None => Content::Blank,
        }
    }

    /// A change that etcd would not make, because it does not fit the members, is none here either.
    fn conf_change(&mut self, data: Bytes) -> Result<Content, String> {
        let change = ConfChange::decode(data).map_err(|error| error.to_string())?;
        let id = NodeId(change.node);
        let kind = ConfChangeKind::try_from(change.kind).map_err(|error| error.to_string())?;
        let context = change.context.as_deref().filter(|context| !context.is_empty());
        let context = context.map(serde_json::from_slice::<Context>).transpose().map_err(|error| error.to_string())?;
        let before = self.clone();
        match (kind, context) {
            (ConfChangeKind::RemoveNode, _) => drop(self.0.remove(&id)),
            (ConfChangeKind::AddNode, Some(context)) if context.is_promote => {
                if let Some(member) = self.0.get_mut(&id) {
                    member.learner = false;
                }
            }
            (ConfChangeKind::AddNode | ConfChangeKind::AddLearnerNode, Some(context)) => {
                let mut member = Member::from(context.member);
                (member.id, member.learner) = (id, kind == ConfChangeKind::AddLearnerNode);
                self.0.entry(id).or_insert(member);
            }
            (ConfChangeKind::UpdateNode, Some(context)) => {
                if let Some(member) = self.0.get_mut(&id) {
                    member.peer_urls = context.member.peer_urls.unwrap_or_default();
                }
            }
            (_, None) => return Err(format!("it does not say who member {id} is")),
        }
        if self.0.values().all(|member| member.learner) {
            *self = before;
            return Ok(Content::Blank);
        }
        Ok(if *self == before { Content::Blank } else { Content::Members(self.to_vec()) })
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::etcdserverpb::PutRequest;
    use chorus_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};

    use super::*;

    fn entry(kind: EntryKind, data: Vec<u8>) -> Entry {
        Entry { kind: kind as i32, term: 2, index: 5, data: Some(data.into()) }
    }

    fn conf(kind: ConfChangeKind, node: u64, context: &str) -> Entry {
        let context = Some(Bytes::copy_from_slice(context.as_bytes()));
        entry(EntryKind::ConfChange, ConfChange { id: 1, kind: kind as i32, node, context }.encode_to_vec())
    }

    fn converted(members: &mut Members, entry: &Entry) -> Content {
        members.convert(entry).unwrap().1
    }

    #[test]
    fn commands_stay_as_they_are() {
        let mut members = Members::default();
        let put = PutRequest { key: "k".into(), ..Default::default() };
        let data = InternalRaftRequest { id: 9, put: Some(put), ..Default::default() }.encode_to_vec();
        let command = Content::Commands(vec![data.clone().into()]);
        assert_eq!(converted(&mut members, &entry(EntryKind::Normal, data)), command);
        assert_eq!(converted(&mut members, &entry(EntryKind::Normal, vec![])), Content::Blank);
        assert!(members.convert(&entry(EntryKind::ConfChangeV2, vec![])).is_err());
    }

    #[test]
    fn members_come_change_and_go() {
        let mut members = Members::default();
        let steps = [
            (conf(ConfChangeKind::AddNode, 10, r#"{"id":10,"peerURLs":["http://a:1"],"name":"a"}"#), "a=voter"),
            (
                conf(ConfChangeKind::AddLearnerNode, 11, r#"{"id":11,"peerURLs":["http://b:1"],"isLearner":true}"#),
                "a=voter =learner",
            ),
            (conf(ConfChangeKind::AddNode, 11, r#"{"id":11,"peerURLs":null,"isPromote":true}"#), "a=voter =voter"),
            (conf(ConfChangeKind::RemoveNode, 10, ""), "=voter"),
        ];
        for (entry, expected) in steps {
            let Content::Members(now) = converted(&mut members, &entry) else { panic!("a change to {expected}") };
            let shown: Vec<String> =
                now.iter().map(|m| format!("{}={}", m.name, if m.learner { "learner" } else { "voter" })).collect();
            assert_eq!(shown.join(" "), expected);
        }
        assert_eq!(converted(&mut members, &conf(ConfChangeKind::RemoveNode, 10, "")), Content::Blank);
        assert_eq!(
            converted(&mut members, &conf(ConfChangeKind::RemoveNode, 11, "")),
            Content::Blank,
            "the last voter stays"
        );
        assert!(members.convert(&conf(ConfChangeKind::AddNode, 12, "")).is_err());
    }

    #[test]
    fn members_publish_themselves_in_both_ways() {
        let mut members = Members::new(&[Member {
            id: NodeId(0xab),
            name: String::new(),
            peer_urls: vec![],
            client_urls: vec![],
            learner: false,
        }]);
        let attributes = Attributes { name: "new".into(), client_urls: vec!["http://c:2379".into()] };
        let set = ClusterMemberAttrSetRequest { member_id: 0xab, member_attributes: Some(attributes) };
        let data = InternalRaftRequest { cluster_member_attr_set: Some(set), ..Default::default() }.encode_to_vec();
        let Content::Members(now) = converted(&mut members, &entry(EntryKind::Normal, data)) else {
            panic!("a change")
        };
        assert_eq!(now[0].name, "new");
        let old = OldRequest {
            method: Some("PUT".into()),
            path: Some("/0/members/ab/attributes".into()),
            value: Some(r#"{"name":"old","clientURLs":["http://d:2379"]}"#.into()),
        };
        let data = [&[0x08, 0x01], &old.encode_to_vec()[..]].concat();
        let Content::Members(now) = converted(&mut members, &entry(EntryKind::Normal, data)) else {
            panic!("a change")
        };
        assert_eq!((&*now[0].name, &*now[0].client_urls[0]), ("old", "http://d:2379"));
    }
}
