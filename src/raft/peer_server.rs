//! The peer port: what other members ask of this one.
//!
//! Every call names the cluster and the member it is meant for, and is refused when either is wrong: an address may
//! belong to another cluster by mistake, or to another member by now.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, Request};
use openraft::async_runtime::watch::WatchReceiver;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Response, Status, Streaming};
use tower::service_fn;

use super::change::{ChangeError, ChangeRequest, ChangeResult};
use super::cluster_space::ClusterSpace;
use super::context::ReplicaContext;
use super::encoding::unpack;
use super::machine::Validate;
use super::membership;
use super::membership_view::MembershipView;
use super::metrics::Traffic;
use super::proposer::surely_not;
use super::snapshot_transfer::Receiver;
use super::state_machine::Raft;
use super::store_questions::StoreQuestions;
use super::types::{Callback, CommandBatch, Types};
use super::wire::{
    APPEND, ASK, CALLER_HEADER, CHANGE, CLUSTER_HEADER, FORWARD, Forwarded, HEARTBEAT, HELLO, Hello, Introduction,
    MESSAGE_BYTES_MAX, PRE_VOTE, PROTOCOL, PROTOCOL_HEADER, PeerMessage, READ_INDEX, ReadIndex, SNAPSHOT,
    TARGET_HEADER, TRANSFER_LEADER, Untouched, VOTE, open, open_append,
};
use super::{ClusterId, Config, read_gate, runtime};
use crate::actor::Gate;
use crate::world::failpoints::failpoint;
use crate::world::{NodeId, World};

/// Forwarded batches under way.
const FORWARDS_MAX: usize = 1_024;

/// Serves the peer port. Clones share everything.
#[derive(Clone)]
pub(super) struct PeerService(Arc<Inner>);

struct Inner {
    world: World,
    raft: Raft,
    cluster: ClusterId,
    node: NodeId,
    /// Until this member knows that it may take part, it answers no calls but hello.
    taking_part: AtomicBool,
    receiver: Receiver,
    store_questions: StoreQuestions,
    validate: Validate,
    forwards: Gate,
    /// What changes of the membership depend on.
    membership_view: MembershipView,
    space: ClusterSpace,
    version: String,
    introduction: Introduction,
    /// Limit of work whose caller may have gone.
    limit: Duration,
}

impl PeerService {
    pub fn new(context: &ReplicaContext, config: &Config, validate: Validate) -> PeerService {
        let (world, raft) = (context.world.clone(), context.raft.clone());
        PeerService(Arc::new(Inner {
            receiver: Receiver::new(world.clone(), raft.clone()),
            world,
            raft,
            cluster: config.cluster,
            node: config.node,
            taking_part: AtomicBool::new(false),
            store_questions: context.store_questions.clone(),
            validate,
            forwards: Gate::new(FORWARDS_MAX),
            membership_view: context.membership_view.clone(),
            space: context.space.clone(),
            version: config.version.clone(),
            introduction: Introduction { name: config.name.clone(), client_urls: config.client_urls.clone() },
            limit: config.timings.election.end * 2,
        }))
    }

    /// Serves all calls from now on, not only hello.
    pub fn take_part(&self) {
        self.0.taking_part.store(true, Ordering::Relaxed);
    }

    pub async fn answer(&self, request: Request<Body>) -> http::Response<Body> {
        let served = self.0.clone();
        // openraft may start tasks on behalf of a call: they draw from this node's randomness, too.
        let random = served.world.random.clone();
        runtime::scope(random, served.answer(request)).await
    }
}

impl Inner {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> http::Response<Body> {
        if let Err(status) = admit(request.headers(), self.cluster, self.node) {
            return status.into_http();
        }
        if !self.taking_part.load(Ordering::Relaxed) && request.uri().path() != HELLO {
            return Status::failed_precondition(format!("member {} is starting", self.node)).into_http();
        }
        let mut grpc = Grpc::new(Untouched)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match request.uri().path() {
            APPEND => grpc.streaming(service_fn(|requests| self.clone().append(requests)), request).await,
            SNAPSHOT => grpc.client_streaming(service_fn(|chunks| self.clone().snapshot(chunks)), request).await,
            path => {
                let path = path.to_owned();
                grpc.unary(service_fn(|message| self.clone().single(path.clone(), message)), request).await
            }
        }
    }

    /// The traffic with the calling member, if the call names a member.
    fn traffic<T>(&self, request: &tonic::Request<T>) -> Option<Arc<Traffic>> {
        self.caller(request).map(|id| self.membership_view.peers.metrics.with(id))
    }

    fn caller<T>(&self, request: &tonic::Request<T>) -> Option<u64> {
        let id = u64::from_str_radix(request.metadata().get(CALLER_HEADER)?.to_str().ok()?, 16).ok()?;
        self.membership_view.applied.borrow().membership.nodes().any(|(known, _)| *known == id).then_some(id)
    }

    async fn append(
        self: Arc<Self>,
        requests: tonic::Request<Streaming<Bytes>>,
    ) -> Result<Response<BoxStream<'static, Result<PeerMessage, Status>>>, Status> {
        let traffic = self.traffic(&requests);
        let requests = requests.into_inner().map(move |message| {
            if let (Ok(message), Some(traffic)) = (&message, &traffic) {
                traffic.received_bytes.add(message.len() as u64);
            }
            let request = message.map_err(|status| status.to_string());
            request.and_then(|message| open_append(message).map_err(|error| error.to_string()))
        });
        // A stream that cannot be read ends here; the leader opens another one.
        let readable = requests.scan((), |(), request| {
            std::future::ready(
                request.inspect_err(|error| tracing::debug!(%error, "a log stream could not be read")).ok(),
            )
        });
        let replies = self.raft.stream_append(readable);
        let replies = replies.map(|reply| {
            failpoint!("raftBeforeFollowerSend");
            reply.map(|result| PeerMessage::new(&result)).map_err(internal)
        });
        Ok(Response::new(replies.boxed()))
    }

    async fn snapshot(
        self: Arc<Self>,
        chunks: tonic::Request<Streaming<Bytes>>,
    ) -> Result<Response<PeerMessage>, Status> {
        let peers = &self.membership_view.peers;
        let transfer = self.caller(&chunks).map(|id| peers.metrics.snapshot_from(id, &self.world.clock));
        match self.receiver.receive(chunks.into_inner()).await {
            Ok(response) => {
                if let Some(transfer) = transfer {
                    transfer.arrived();
                }
                Ok(Response::new(PeerMessage::new(&response)))
            }
            Err(error) => {
                tracing::warn!(%error, "receiving a snapshot failed");
                Err(Status::aborted(error.to_string()))
            }
        }
    }

    async fn single(
        self: Arc<Self>,
        method: String,
        message: tonic::Request<Bytes>,
    ) -> Result<Response<PeerMessage>, Status> {
        let traffic = self.traffic(&message);
        let message = message.into_inner();
        if let Some(traffic) = &traffic {
            traffic.received_bytes.add(message.len() as u64);
        }
        let reply = match method.as_str() {
            HEARTBEAT => {
                failpoint!("raftDropHeartbeat", |dropped| Err(Status::unavailable(dropped)));
                let request = open_append(message).map_err(|error| unreadable(&error))?;
                failpoint!("raftBeforeSave", self.world.clock);
                failpoint!("raftAfterSave", self.world.clock);
                failpoint!("raftBeforeFollowerSend", self.world.clock);
                PeerMessage::new(&self.raft.append_entries(request).await.map_err(internal)?)
            }
            VOTE => PeerMessage::new(&self.raft.vote(head(message)?).await.map_err(internal)?),
            PRE_VOTE => PeerMessage::new(&self.raft.pre_vote(head(message)?).await.map_err(internal)?),
            TRANSFER_LEADER => {
                PeerMessage::new(&self.raft.handle_transfer_leader(head(message)?).await.map_err(internal)?)
            }
            FORWARD => PeerMessage::new(&self.forward(message).await?),
            READ_INDEX => PeerMessage::new(&self.read_index().await?),
            CHANGE => PeerMessage::new(&self.change(head(message)?).await?),
            ASK => self.answer_question(message).await?,
            HELLO => PeerMessage::new(&self.hello(head(message)?)),
            _ => return Err(Status::unimplemented(format!("peers do not serve {method}"))),
        };
        Ok(Response::new(reply))
    }

    /// Proposes a follower's batch, and answers once its fate is known.
    async fn forward(&self, message: Bytes) -> Result<Forwarded, Status> {
        let ((), batch) = open::<()>(message).map_err(|error| unreadable(&error))?;
        let batch = CommandBatch(batch);
        if let Err(reason) = self.check(&batch) {
            tracing::warn!(reason, "another member sent commands that cannot be applied");
            return Ok(Forwarded::Malformed);
        }
        let Ok(_permit) = self.forwards.enter() else { return Ok(Forwarded::Busy) };
        let (told, fate) = oneshot::channel();
        let hear = Callback::new(move |result| _ = told.send(fate_of(&result)));
        self.raft.client_write_ff(batch, Some(hear)).await.map_err(internal)?;
        let fate = self.world.clock.timeout(self.limit, fate).await;
        Ok(fate.map_or(Forwarded::Unknown, |fate| fate.unwrap_or(Forwarded::Unknown)))
    }

    /// Every member gets what is in the log, so nothing may enter it that cannot be read or applied.
    fn check(&self, batch: &CommandBatch) -> Result<(), String> {
        let commands = unpack(batch).map_err(|error| error.to_string())?;
        commands.iter().try_for_each(self.validate)
    }

    async fn answer_question(&self, message: Bytes) -> Result<PeerMessage, Status> {
        let ((), question) = open::<()>(message).map_err(|error| unreadable(&error))?;
        let answer = self.store_questions.answer(question).await;
        let answer = answer.ok_or_else(|| Status::unavailable(format!("member {} is starting", self.node)))?;
        Ok(PeerMessage::with_body(&(), vec![answer]))
    }

    async fn read_index(&self) -> Result<ReadIndex, Status> {
        Ok(read_gate::confirmed_index(&self.raft).await.map_or(ReadIndex::NotLeader, ReadIndex::At))
    }

    /// Changes the membership in a task of its own: a caller that goes away must not leave it half done.
    async fn change(&self, request: ChangeRequest) -> Result<ChangeResult, Status> {
        let raft = self.raft.clone();
        let random = self.world.random.clone();
        let known = self.membership_view.known_members();
        let work = async move { membership::execute(&raft, request, known).await };
        let done = self.world.spawner.detached(runtime::scope(random, work));
        Ok(match self.world.clock.timeout(self.limit, done).await {
            Ok(Ok(changed)) => changed,
            Ok(Err(_)) | Err(_) => Err(ChangeError::Unknown),
        })
    }

    fn hello(&self, caller: u64) -> Hello {
        let last = self.raft.data_metrics().borrow_watched().last_log;
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        let known = server.membership_config.get_node(&caller);
        Hello {
            leader: server.current_leader,
            last,
            you_started: known.is_some_and(|peer| peer.started),
            you_removed: self.membership_view.was_removed(caller),
            version: self.version.clone(),
            introduction: self.taking_part.load(Ordering::Relaxed).then(|| self.introduction.clone()),
            short: self.space.is_short(),
        }
    }
}

fn fate_of(result: &openraft::raft::ClientWriteResult<Types>) -> Forwarded {
    match result {
        Ok(_) => Forwarded::Committed,
        Err(error) if surely_not(error) => Forwarded::NotLeader,
        Err(_) => Forwarded::Unknown,
    }
}

/// Checks that a call is meant for this member.
fn admit(headers: &HeaderMap, cluster: ClusterId, node: NodeId) -> Result<(), Status> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let (protocol, theirs, target) = (header(PROTOCOL_HEADER), header(CLUSTER_HEADER), header(TARGET_HEADER));
    if protocol != PROTOCOL {
        return Err(Status::failed_precondition(format!(
            "this member speaks peer protocol {PROTOCOL}, the caller speaks {protocol}"
        )));
    }
    if theirs != cluster.to_string() {
        return Err(Status::failed_precondition(format!(
            "cluster ID mismatch: this member is of cluster {cluster}, the caller of {theirs}"
        )));
    }
    if target != node.to_string() {
        return Err(Status::failed_precondition(format!("this is member {node}, not {target}")));
    }
    Ok(())
}

fn head<T: DeserializeOwned>(message: Bytes) -> Result<T, Status> {
    open::<T>(message).map(|(head, _)| head).map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_for_another_cluster_or_member_are_refused() {
        let headers = |protocol: &str, cluster: &str, target: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(PROTOCOL_HEADER, protocol.parse().unwrap());
            headers.insert(CLUSTER_HEADER, cluster.parse().unwrap());
            headers.insert(TARGET_HEADER, target.parse().unwrap());
            headers
        };
        let admit =
            |headers: HeaderMap| admit(&headers, ClusterId(0xc1), NodeId(0xa)).map_err(|s| s.message().to_owned());
        assert_eq!(admit(headers(PROTOCOL, "c1", "a")), Ok(()));
        assert_eq!(
            admit(headers(PROTOCOL, "c2", "a")),
            Err("cluster ID mismatch: this member is of cluster c1, the caller of c2".into())
        );
        assert_eq!(admit(headers(PROTOCOL, "c1", "b")), Err("this is member a, not b".into()));
        assert!(admit(headers("9", "c1", "a")).is_err());
        assert!(admit(HeaderMap::new()).is_err());
    }
}
