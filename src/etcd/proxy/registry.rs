//! The proxies that run beside this one: each puts itself under a common prefix, with a lease, and a client that asks
//! for the members gets all of them.

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use serde_json::json;

use super::config::Config;
use super::upstream::Upstream;
use crate::actor::Shutdown;
use crate::store::Error;
use crate::world::World;

/// Pause after a failure to register.
const RETRY: Duration = Duration::from_secs(1);

/// The proxies that `MemberList` shows to clients. Cheap to clone.
#[derive(Clone)]
pub(super) struct Registry {
    world: World,
    upstream: Arc<Upstream>,
    name: String,
    advertise: String,
    prefix: Option<String>,
}

impl Registry {
    /// Registers this proxy, if a resolver is configured, until the end.
    pub fn start(world: &World, config: &Config, upstream: Arc<Upstream>, shutdown: &Shutdown) -> Registry {
        let name = world.disk.read(std::path::Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
        let registry = Registry {
            world: world.clone(),
            upstream,
            name: String::from_utf8_lossy(&name).trim().to_owned(),
            advertise: config.advertise.clone(),
            prefix: config.resolver.as_ref().map(|resolver| resolver.prefix.clone()),
        };
        if let Some(resolver) = config.resolver.clone() {
            let (registering, shutdown) = (registry.clone(), shutdown.clone());
            world.spawner.keep("proxy/registration", async move {
                let registering = async {
                    loop {
                        let Err(error) = registering.register(&resolver.prefix, resolver.ttl).await;
                        tracing::warn!(%error, "failed to create a session");
                        registering.world.clock.sleep(RETRY).await;
                    }
                };
                tokio::select! {
                    () = registering => {}
                    () = shutdown.wait() => {}
                }
            });
        }
        registry
    }

    /// Registers, and keeps the lease alive until that fails.
    async fn register(&self, prefix: &str, ttl: i64) -> Result<std::convert::Infallible, Error> {
        let store = self.upstream.store();
        let lease = store.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await?.id;
        let metadata = json!({ "name": self.name }).to_string();
        let value = json!({ "Op": 0, "Addr": self.advertise, "Metadata": metadata }).to_string();
        let key = format!("{prefix}/{}", self.advertise);
        let put = pb::PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() };
        store.put(put).await?;
        tracing::info!(addr = self.advertise, "lease-ttl" = ttl, "registered session with lease");
        let pause = Duration::from_secs(ttl.unsigned_abs()) / 3;
        loop {
            self.world.clock.sleep(pause).await;
            let kept = self.upstream.store().lease_keep_alive(pb::LeaseKeepAliveRequest { id: lease }).await?;
            if kept.ttl <= 0 {
                return Err(Error::LeaseNotFound);
            }
        }
    }

    /// The answer to `MemberList`; `None` if the members themselves are to answer.
    pub async fn members(&self) -> Option<Result<pb::MemberListResponse, Error>> {
        if self.advertise.is_empty() {
            return None;
        }
        let mut members = match &self.prefix {
            Some(prefix) => match self.registered(prefix).await {
                Ok(members) => members,
                Err(error) => return Some(Err(error)),
            },
            None => Vec::new(),
        };
        if members.is_empty() {
            members.push(member(self.name.clone(), self.advertise.clone()));
        }
        Some(Ok(pb::MemberListResponse { header: None, members }))
    }

    async fn registered(&self, prefix: &str) -> Result<Vec<pb::Member>, Error> {
        let (key, range_end) = (format!("{prefix}/"), format!("{prefix}0"));
        let range = pb::RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        let range = self.upstream.store().range(range).await?;
        Ok(range.kvs.iter().filter_map(|pair| registered_member(&pair.value)).collect())
    }
}

fn registered_member(value: &[u8]) -> Option<pb::Member> {
    let endpoint: serde_json::Value = serde_json::from_slice(value).ok()?;
    let metadata: serde_json::Value = serde_json::from_str(endpoint["Metadata"].as_str()?).ok()?;
    Some(member(metadata["name"].as_str()?.to_owned(), endpoint["Addr"].as_str()?.to_owned()))
}

fn member(name: String, address: String) -> pb::Member {
    pb::Member { name, client_ur_ls: vec![address], ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_proxy_is_a_member() {
        let value = br#"{"Op":0,"Addr":"127.0.0.1:23790","Metadata":"{\"name\":\"host\"}"}"#;
        let found = registered_member(value).unwrap();
        assert_eq!((found.name.as_str(), found.client_ur_ls[0].as_str()), ("host", "127.0.0.1:23790"));
        assert!(registered_member(b"{}").is_none() && registered_member(b"x").is_none());
    }
}
