//! Discovery: members that do not know of each other meet in the keys of another store, under a token.
//!
//! ```text
//!   /_etcd/registry/TOKEN/_config/size    how many members the cluster is to have
//!   /_etcd/registry/TOKEN/members/ID      name=url,... of one of them; the first ones to come are the members
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::mvccpb;
use futures::{StreamExt, stream};
use http::Uri;

use super::options::Options;
use super::plan::initial_members;
use crate::cluster::member_plan::InitialMember;
use crate::raft::identity;
use crate::store::client::{Caller, Client};
use crate::store::{Error, Remote, RemoteConfig};
use crate::world::{NodeId, World, tls};

/// Exponential growth of the pause between tries ends here.
const DOUBLINGS_MAX: u32 = 8;
const SIZE_MAX: usize = 1_000;

/// Why no cluster was found. Surface it: a token is good for one cluster, whose size must be set beforehand.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("discovery: size key not found")]
    SizeNotFound,
    #[error("discovery: size key is bad")]
    BadSize,
    #[error("discovery: cluster is full")]
    Full,
    #[error("discovery: invalid peer URL")]
    InvalidUrl,
    #[error("discovery cluster {0} has duplicate url")]
    DuplicateUrl(String),
    #[error(transparent)]
    Endpoint(#[from] crate::store::BadEndpoint),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("cannot log in to the discovery service: {0}")]
    LogIn(Error),
}

/// Registers the member that `options` describe, and waits until as many members have come as there are to be.
pub async fn members(world: &World, options: &Options) -> Result<Vec<InitialMember>, DiscoveryError> {
    let urls = options.initial_advertise_peer_urls.texts();
    let info = urls.iter().map(|url| format!("{}={url}", options.name)).collect::<Vec<_>>().join(",");
    let registry = Registry {
        world: world.clone(),
        store: store(world, options).await?,
        token: options.discovery_token.clone(),
        node: identity::member_id(&urls, &options.discovery_token),
    };
    let found = registry.join(&info).await;
    match &found {
        Ok(cluster) => tracing::info!(cluster, "discovery joined cluster successfully"),
        Err(error) => tracing::error!(%error, "discovery failed to join cluster"),
    }
    let cluster = found?;
    let members = initial_members(&cluster).map_err(|_| DiscoveryError::InvalidUrl)?;
    let mut urls: Vec<&String> = members.iter().flat_map(|member| &member.peer_urls).collect();
    urls.sort();
    match urls.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(DiscoveryError::DuplicateUrl(cluster)),
        false => Ok(members),
    }
}

async fn store(world: &World, options: &Options) -> Result<Client, DiscoveryError> {
    let tls = tls_options(options);
    let secure = !options.discovery_insecure_transport || tls != tls::Options::default();
    let endpoints = options.discovery_endpoints.0.iter().map(|endpoint| with_scheme(endpoint, secure));
    let config = RemoteConfig {
        tls: Some(tls::Client::new(world, tls)?),
        request_timeout: options.discovery_request_timeout.positive().unwrap_or(Duration::from_secs(5)),
        ..RemoteConfig::new(endpoints.collect())
    };
    log_in(Client::new(Remote::new(world, config)?), options).await
}

/// The store in the name of the user that the options name, if they do.
async fn log_in(store: Client, options: &Options) -> Result<Client, DiscoveryError> {
    let Some((name, password)) = credentials(&options.discovery_user, &options.discovery_password) else {
        return Ok(store);
    };
    let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    let answer = store.authenticate(request).await.map_err(DiscoveryError::LogIn)?;
    Ok(store.on_behalf(Caller::Client { token: Some(answer.token), common_name: None }))
}

/// `name:password`, unless the password is given by itself.
fn credentials<'a>(user: &'a str, password: &'a str) -> Option<(&'a str, &'a str)> {
    match password {
        _ if user.is_empty() => None,
        "" => Some(user.split_once(':').unwrap_or((user, ""))),
        password => Some((user, password)),
    }
}

fn tls_options(options: &Options) -> tls::Options {
    let file = |given: &str| (!given.is_empty()).then(|| given.into());
    tls::Options {
        cert_file: file(&options.discovery_cert),
        key_file: file(&options.discovery_key),
        trusted_ca_file: file(&options.discovery_cacert),
        insecure_skip_verify: options.discovery_insecure_skip_tls_verify,
        ..tls::Options::default()
    }
}

/// An endpoint without a scheme is as safe as it can be.
fn with_scheme(endpoint: &str, secure: bool) -> String {
    match endpoint.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() && endpoint.contains("://") => endpoint.to_owned(),
        _ if secure => format!("https://{endpoint}"),
        _ => format!("http://{endpoint}"),
    }
}

/// The keys under one token.
struct Registry {
    world: World,
    store: Client,
    token: String,
    node: NodeId,
}

/// Those that came so far: when, who, and what they said.
type Arrivals = BTreeMap<(i64, String), String>;

impl Registry {
    async fn join(&self, info: &str) -> Result<String, DiscoveryError> {
        self.check().await?;
        self.patiently("register member itself", || self.register(info)).await;
        tracing::info!("memberKey" = self.key(), "memberInfo" = info, "register member itself successfully");
        let (size, mut arrivals, mut revision) = self.check().await?;
        while arrivals.len() < size {
            tracing::info!(
                "clusterSize" = size,
                "found-peers" = arrivals.len(),
                "waiting for peers from discovery service"
            );
            if self.wait(size, revision, &mut arrivals).await.is_err() {
                self.world.clock.sleep(Duration::from_secs(1)).await;
            }
            (_, arrivals, revision) = self.check().await?;
        }
        tracing::info!(
            "clusterSize" = size,
            "found-peers" = arrivals.len(),
            "found all needed peers from discovery service"
        );
        let first: Vec<String> = arrivals.into_values().take(size).collect();
        Ok(first.join(","))
    }

    fn prefix(&self) -> String {
        format!("/_etcd/registry/{}/members", self.token)
    }

    fn key(&self) -> String {
        format!("{}/{}", self.prefix(), self.node)
    }

    /// Tries for ever, ever more slowly.
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(&self, step: &str, attempt: impl Fn() -> F) -> T {
        let mut tries = 0;
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => tracing::warn!(%error, reason = step, "retry connecting to discovery service"),
            }
            tries = (tries + 1).min(DOUBLINGS_MAX);
            self.world.clock.sleep(Duration::from_secs(1 << tries)).await;
        }
    }

    async fn register(&self, info: &str) -> Result<(), Error> {
        let put = pb::PutRequest { key: self.key().into(), value: info.to_owned().into(), ..Default::default() };
        self.store.put(put).await.map(drop)
    }

    /// The size of the cluster, who has come, and as of which revision. This member must be among the first, or there
    /// must still be room for it.
    async fn check(&self) -> Result<(usize, Arrivals, i64), DiscoveryError> {
        let key = format!("/_etcd/registry/{}/_config/size", self.token);
        let get = || self.store.range(pb::RangeRequest { key: key.clone().into(), ..Default::default() });
        let size = self.patiently("cluster status check", get).await;
        let size = size.kvs.first().ok_or(DiscoveryError::SizeNotFound)?;
        let size = std::str::from_utf8(&size.value).ok().and_then(|size| size.trim().parse().ok());
        let size = size.filter(|size| (1..=SIZE_MAX).contains(size)).ok_or(DiscoveryError::BadSize)?;
        let (key, range_end) = (self.prefix(), end_of(&self.prefix()));
        let get = || {
            self.store.range(pb::RangeRequest {
                key: key.clone().into(),
                range_end: range_end.clone().into(),
                ..Default::default()
            })
        };
        let range = self.patiently("cluster status check", get).await;
        let mut arrivals = Arrivals::new();
        range.kvs.iter().for_each(|pair| add(&mut arrivals, pair));
        let own = self.key();
        let ahead = arrivals.keys().take_while(|(_, key)| *key != own).count();
        if ahead >= size {
            return Err(DiscoveryError::Full);
        }
        Ok((size, arrivals, range.header.unwrap_or_default().revision))
    }

    /// Watches until enough have come, or until the watch breaks.
    async fn wait(&self, size: usize, revision: i64, arrivals: &mut Arrivals) -> Result<(), Error> {
        let create = pb::WatchCreateRequest {
            key: self.prefix().into(),
            range_end: end_of(&self.prefix()).into(),
            start_revision: revision + 1,
            ..Default::default()
        };
        let create = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        let requests = stream::iter([create]).chain(stream::pending());
        let mut answers = self.store.watch(requests.boxed()).await?;
        while arrivals.len() < size {
            let Some(answer) = answers.next().await else { break };
            answer?.events.iter().filter_map(|event| event.kv.as_ref()).for_each(|pair| add(arrivals, pair));
        }
        Ok(())
    }
}

fn add(arrivals: &mut Arrivals, pair: &mvccpb::KeyValue) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (key, info) = (text(&pair.key), text(&pair.value));
    if !info.contains('=') {
        tracing::warn!("memberKey" = key, "memberInfo" = info, "invalid peer info returned from discovery service");
        return;
    }
    tracing::info!("memberKey" = key, "memberInfo" = info, "found peer from discovery service");
    arrivals.insert((pair.create_revision, key), info);
}

/// The end of the range of all keys that begin with `prefix`, which ends in an ASCII letter.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str, create_revision: i64) -> mvccpb::KeyValue {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        mvccpb::KeyValue { key, value, create_revision, ..Default::default() }
    }

    #[test]
    fn members_are_those_that_came_first() {
        let mut arrivals = Arrivals::new();
        for found in [pair("m/2", "b=http://b:1", 9), pair("m/1", "a=http://a:1", 5), pair("m/3", "junk", 4)] {
            add(&mut arrivals, &found);
        }
        let first: Vec<&str> = arrivals.values().map(String::as_str).collect();
        assert_eq!(first, ["a=http://a:1", "b=http://b:1"]);
    }

    #[test]
    fn a_password_may_stand_with_its_user() {
        assert_eq!(credentials("", "p"), None);
        assert_eq!(credentials("u:p:q", ""), Some(("u", "p:q")));
        assert_eq!(credentials("u:p", "q"), Some(("u:p", "q")));
    }

    #[test]
    fn endpoints_may_lack_a_scheme() {
        assert_eq!(with_scheme("127.0.0.1:1", false), "http://127.0.0.1:1");
        assert_eq!(with_scheme("a.b:1", true), "https://a.b:1");
        assert_eq!(with_scheme("http://a:1", true), "http://a:1");
        assert_eq!(end_of("members"), b"membert");
    }
}
