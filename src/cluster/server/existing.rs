//! Joining a cluster that runs already: its members are asked who they are, and which of them this one is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::urls::Url;
use crate::cluster::http;
use crate::cluster::member_plan::{InitialMember, Origin};
use crate::raft::ClusterId;
use crate::world::net::{Address, Dialler};
use crate::world::{NodeId, World, tls};

/// For one peer's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const CLUSTER_ID: &str = "X-Etcd-Cluster-ID";

/// Why this member cannot join. Surface it: the member has to be added first, or the options differ from what is so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs")]
    NoAnswer,
    #[error("error validating peerURLs {found}: member count is unequal")]
    Count { found: String },
    #[error("error validating peerURLs {found}: unmatched member while checking PeerURLs ({given})")]
    Unmatched { found: String, given: String },
}

/// A member as its peers know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KnownMember {
    pub id: u64,
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    pub name: String,
    #[serde(rename = "isLearner")]
    pub learner: bool,
}

/// Finds out which member of which cluster the member `name` among those `given` is.
pub async fn join(
    world: &World,
    name: &str,
    given: &[InitialMember],
    tls: Option<tls::Client>,
) -> Result<Origin, JoinError> {
    let others = given.iter().filter(|member| member.name != name).flat_map(|member| &member.peer_urls);
    let others: BTreeSet<&String> = others.collect();
    let mut refused = JoinError::NoAnswer;
    for url in others {
        match members(world, url, tls.clone()).await {
            Ok((cluster, known)) => match this_member(world, name, given, &known).await {
                Ok(node) => return Ok(Origin::Existing { node, cluster }),
                // That peer may not have heard yet of who was added last.
                Err(error) => refused = error,
            },
            Err(error) => {
                tracing::warn!(address = format!("{url}/members"), error, "failed to get cluster response");
            }
        }
    }
    Err(refused)
}

/// Which cluster the peer at `url` belongs to, and its members. The error is a reason.
pub async fn members(
    world: &World,
    url: &str,
    tls: Option<tls::Client>,
) -> Result<(ClusterId, Vec<KnownMember>), String> {
    let asked = world.clock.timeout(ANSWER_LIMIT, ask(world, url, tls)).await;
    asked.unwrap_or_else(|_| Err("no answer in time".into()))
}

async fn ask(world: &World, url: &str, tls: Option<tls::Client>) -> Result<(ClusterId, Vec<KnownMember>), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let address = Address::parse(url).map_err(|error| failed(&error))?;
    let (head, body) = http::get(world, &Dialler { address, tls, local: None }, "/members").await?;
    let cluster = head.headers.get(CLUSTER_ID).and_then(|id| id.to_str().ok());
    let cluster = cluster.and_then(|id| u64::from_str_radix(id, 16).ok());
    let cluster = cluster.ok_or_else(|| format!("the answer has no {CLUSTER_ID}"))?;
    let known: Vec<KnownMember> = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    match known.is_empty() {
        true => Err("the peer knows no members".into()),
        false => Ok((ClusterId(cluster), known)),
    }
}

/// Which of the `known` members `name` is. All of `members` must be known, by URLs that lead to the same places.
async fn this_member(
    world: &World,
    name: &str,
    members: &[InitialMember],
    known: &[KnownMember],
) -> Result<NodeId, JoinError> {
    let found = known.iter().flat_map(|member| member.peer_urls.clone()).collect::<Vec<_>>().join(",");
    if members.len() != known.len() {
        return Err(JoinError::Count { found });
    }
    let mut places = Vec::with_capacity(known.len());
    for member in known {
        places.push((member.id, places_of(world, &member.peer_urls).await));
    }
    let mut this = None;
    for member in members {
        let wanted = places_of(world, &member.peer_urls).await;
        let same = places.iter().position(|(_, place)| *place == wanted);
        let Some(at) = same else {
            return Err(JoinError::Unmatched { found, given: member.peer_urls.join(",") });
        };
        let (id, _) = places.swap_remove(at);
        if member.name == name {
            this = Some(NodeId(id));
        }
    }
    this.ok_or_else(|| JoinError::Unmatched { found, given: name.to_owned() })
}

/// Whether both lead to the same places, whatever the names.
pub async fn same_places(world: &World, some: &[String], others: &[String]) -> bool {
    places_of(world, some).await == places_of(world, others).await
}

/// Where `urls` lead: scheme, address and port of each. A name that cannot be resolved stands for itself.
async fn places_of(world: &World, urls: &[String]) -> BTreeSet<(String, String, String)> {
    let mut places = BTreeSet::new();
    for url in urls {
        let Ok(url) = Url::read(url) else { continue };
        let host = url.host();
        let mut hosts = Vec::new();
        if !url.is_unix() && host.parse::<IpAddr>().is_err() {
            hosts = world.net.lookup(host).await.unwrap_or_default();
            hosts.sort_unstable();
        }
        let host = hosts.first().map_or_else(|| host.to_owned(), ToString::to_string);
        let port = if url.is_unix() { url.address() } else { url.port() };
        places.insert((url.scheme().to_owned(), host, port.to_owned()));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    fn member(name: &str, url: &str) -> InitialMember {
        InitialMember { name: name.into(), peer_urls: vec![url.into()], client_urls: Vec::new() }
    }

    fn known(id: u64, url: &str) -> KnownMember {
        KnownMember { id, peer_urls: vec![url.into()], ..KnownMember::default() }
    }

    #[tokio::test]
    async fn a_member_finds_itself_by_its_urls() {
        let world = World::simulated(1, MemoryDisk::default());
        let members = [member("a", "http://10.0.0.1:2380"), member("b", "http://10.0.0.2:2380")];
        let both = [known(7, "http://10.0.0.2:2380"), known(8, "http://10.0.0.1:2380")];
        assert_eq!(this_member(&world, "a", &members, &both).await, Ok(NodeId(8)));
        let refused = this_member(&world, "a", &members, &both[..1]).await.unwrap_err().to_string();
        assert_eq!(refused, "error validating peerURLs http://10.0.0.2:2380: member count is unequal");
        let other = [known(7, "http://10.0.0.2:2380"), known(8, "http://10.0.0.1:2381")];
        assert!(matches!(this_member(&world, "a", &members, &other).await, Err(JoinError::Unmatched { .. })));
    }

    #[test]
    fn peers_tell_of_members_in_json() {
        let text = r#"[{"id":443629905751424238,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]}]"#;
        let read: Vec<KnownMember> = serde_json::from_str(text).unwrap();
        assert_eq!((read[0].id, read[0].name.as_str()), (443_629_905_751_424_238, "a"));
    }
}
