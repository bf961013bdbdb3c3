//! Lease requests that the leader alone can answer: here when this member leads, else through the leader's client URLs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Addr;
use chorus_proto::etcdserverpb as pb;

use super::Error;
use super::client::Transport;
use super::lease::{LeasesByExpiry, Lessor, Remaining, Renew, Renewal};
use super::remote::{Remote, RemoteConfig};
use super::state_machine::Shared;
use crate::raft;
use crate::world::{Instant, NodeId, World};

/// How soon a request is tried again while the leadership moves or a revocation is under way.
const RETRY: Duration = Duration::from_millis(50);

/// The leases of the leader. Cheap to clone.
#[derive(Clone)]
pub struct LeaderLeases(Arc<Inner>);

struct Inner {
    world: World,
    raft: raft::Handle,
    shared: Arc<Shared>,
    lessor: Addr<Lessor>,
    node: NodeId,
    timeout: Duration,
    /// The way to the member that led last.
    remote: Mutex<Option<(NodeId, Vec<String>, Remote)>>,
}

/// Who answers.
enum Place {
    Here,
    There(Remote),
}

impl LeaderLeases {
    pub fn new(
        world: &World,
        raft: raft::Handle,
        shared: Arc<Shared>,
        lessor: Addr<Lessor>,
        node: NodeId,
        timeout: Duration,
    ) -> LeaderLeases {
        let world = world.clone();
        LeaderLeases(Arc::new(Inner { world, raft, shared, lessor, node, timeout, remote: Mutex::default() }))
    }

    /// Renews a lease. An unknown one is no error but has a lifetime of 0. The header is for the caller to sign, unless
    /// the leader did.
    pub async fn keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let deadline = self.0.world.clock.now() + self.0.timeout;
        loop {
            let error = match self.leader() {
                Some(Place::Here) => match self.renew_here(request.id, deadline).await? {
                    Some(ttl) => return Ok(pb::LeaseKeepAliveResponse { header: None, id: request.id, ttl }),
                    None => Error::Timeout,
                },
                Some(Place::There(remote)) => match remote.lease_keep_alive(request).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                None => Error::NoLeader,
            };
            self.pause(deadline, error).await?;
        }
    }

    /// `None` says: ask again, the leadership moves or a revocation is under way.
    async fn renew_here(&self, id: i64, deadline: Instant) -> Result<Option<i64>, Error> {
        // Proves the leadership and brings in every grant and revocation before this call.
        match self.0.raft.read_index(deadline).await {
            Err(raft::Error::LeaderChanged) => return Ok(None),
            outcome => outcome?,
        }
        match self.0.lessor.send(Renew(id)).await.map_err(|_| Error::Stopped)? {
            Renewal::Renewed(ttl) => Ok(Some(ttl)),
            Renewal::Unknown => Ok(Some(0)),
            Renewal::Expired | Renewal::NotLeader => Ok(None),
        }
    }

    /// How long a lease still lives. An unknown one is no error but has a lifetime of -1.
    pub async fn time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let deadline = self.0.world.clock.now() + self.0.timeout;
        loop {
            let error = match self.leader() {
                Some(Place::Here) => match self.look_here(request, deadline).await? {
                    Some(answer) => return Ok(answer),
                    None => Error::LeaderChanged,
                },
                Some(Place::There(remote)) => match remote.lease_time_to_live(request).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                None => Error::NoLeader,
            };
            self.pause(deadline, error).await?;
        }
    }

    async fn look_here(
        &self,
        request: pb::LeaseTimeToLiveRequest,
        deadline: Instant,
    ) -> Result<Option<pb::LeaseTimeToLiveResponse>, Error> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request;
        match self.0.raft.read_index(deadline).await {
            Err(raft::Error::LeaderChanged) => return Ok(None),
            outcome => outcome?,
        }
        let remaining = self.0.lessor.send(Remaining(id)).await.map_err(|_| Error::Stopped)?;
        let view = self.0.shared.view();
        let Some(lease) = view.state.leases.get(id) else {
            return Ok(Some(pb::LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() }));
        };
        let Some(remaining) = remaining else { return Ok(None) };
        let keys = lease.keys.iter().filter(|_| keys).map(|key| key.to_bytes()).collect();
        let ttl = remaining.as_secs() as i64;
        Ok(Some(pb::LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl: lease.ttl, keys }))
    }

    /// The leases that this member knows.
    pub async fn list(&self) -> Result<Vec<pb::LeaseStatus>, Error> {
        let ids = self.0.lessor.send(LeasesByExpiry).await.map_err(|_| Error::Stopped)?;
        Ok(ids.into_iter().map(|id| pb::LeaseStatus { id }).collect())
    }

    async fn pause(&self, deadline: Instant, error: Error) -> Result<(), Error> {
        let clock = &self.0.world.clock;
        if clock.now() + RETRY >= deadline {
            return Err(error);
        }
        clock.sleep(RETRY).await;
        Ok(())
    }

    fn leader(&self) -> Option<Place> {
        let leader = self.0.raft.leadership().borrow().leader?;
        if leader == self.0.node {
            return Some(Place::Here);
        }
        let urls = self.0.raft.members().into_iter().find(|member| member.id == leader)?.client_urls;
        let mut remote = self.0.remote.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, known)) = remote.as_ref().filter(|(of, at, _)| *of == leader && *at == urls) {
            return Some(Place::There(known.clone()));
        }
        let config = RemoteConfig { request_timeout: Duration::from_secs(2), ..RemoteConfig::new(urls.clone()) };
        let fresh = Remote::new(&self.0.world, config).ok()?;
        *remote = Some((leader, urls, fresh.clone()));
        Some(Place::There(fresh))
    }
}
