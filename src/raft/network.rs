//! How openraft calls the other members.
//!
//! Two hazards of streaming over gRPC are closed here. A stream that cannot be opened fails before openraft's own
//! backoff applies, so the failure is delayed. And the task that feeds a request stream may outlive the response
//! stream, whose state it shares with its successor, so the end of the responses ends the requests.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{AbortHandle, BoxStream, abortable};
use futures::{FutureExt, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{RaftNetworkFactory, RaftNetworkV2};

use super::peers::{CallError, Peers, Purpose, head};
use super::snapshot_transfer;
use super::state_machine::SnapshotData;
use super::types::{Peer, Types, Vote};
use super::wire::{APPEND, HEARTBEAT, PRE_VOTE, PeerMessage, TRANSFER_LEADER, VOTE, append_message, open};
use crate::world::World;
use crate::world::failpoints::failpoint;

/// Bounds of the pause after a stream could not be opened.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(200);

type TransferLeaderResponse = openraft::raft::TransferLeaderResponse<Types>;

/// Makes connections.
pub struct Network {
    pub(super) world: World,
    pub(super) peers: Arc<Peers>,
    /// For opening a stream.
    pub(super) open_limit: Duration,
}

/// A connection to one member.
pub struct Connection {
    world: World,
    peers: Arc<Peers>,
    target: u64,
    open_limit: Duration,
    /// Heartbeats are single calls: a stream for each would cost more than it carries.
    heartbeat: bool,
}

impl Network {
    fn connection(&self, target: u64, node: &Peer, heartbeat: bool) -> Connection {
        self.peers.know(target, node);
        let (world, peers) = (self.world.clone(), self.peers.clone());
        Connection { world, peers, target, open_limit: self.open_limit, heartbeat }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Connection {
        self.connection(target, node, true)
    }
}

fn unreachable(error: &CallError) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// Ends the requests of a stream when its responses are dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    async fn open_append(
        &self,
        requests: impl Stream<Item = PeerMessage> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>> {
        let (requests, handle) = abortable(requests);
        let guard = AbortOnDrop(handle);
        let traffic = self.peers.metrics.with(self.target);
        match self.peers.converse(self.target, APPEND, requests, self.open_limit).await {
            Ok(replies) => Ok(replies
                .map(move |reply| {
                    let _lives_with_the_replies = &guard;
                    let reply = reply.map_err(|status| RPCError::Network(NetworkError::new(&status)))?;
                    traffic.received_bytes.add(reply.len() as u64);
                    let (result, _) = open(reply).map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
                    Ok(result)
                })
                .boxed()),
            Err(error) => {
                self.world.clock.sleep(self.world.random.duration(PAUSE)).await;
                Err(unreachable(&error))
            }
        }
    }

    async fn ask_vote(
        &self,
        method: &'static str,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.peers
            .call(self.target, Purpose::Control, method, head(&request), option.soft_ttl())
            .await
            .map_err(|error| unreachable(&error))
    }
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // A leader whose log is stuck must not go on sending heartbeats: etcd saves and sends in one loop.
        failpoint!("raftBeforeLeaderSend", self.world.clock);
        failpoint!("raftBeforeSave", self.world.clock);
        failpoint!("raftAfterSave", self.world.clock);
        let frame = append_message(&request);
        // All the time that openraft allows: on a busy machine an answer may be late, and only answers keep the
        // leader's lease.
        self.peers
            .call(self.target, Purpose::Control, HEARTBEAT, frame, option.hard_ttl())
            .await
            .inspect_err(|error| {
                if let CallError::Timeout { .. } = error {
                    self.peers.metrics.heartbeats_late.inc();
                }
            })
            .map_err(|error| unreachable(&error))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if self.heartbeat {
            return stream_append_sequential(self, requests, option);
        }
        let requests = requests.map(|request| {
            failpoint!("raftBeforeLeaderSend");
            append_message(&request)
        });
        async move { self.open_append(requests).await.map(|replies| replies as BoxStream<'s, _>) }.boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(VOTE, request, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(PRE_VOTE, request, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let transfer = self.peers.metrics.snapshot_to(self.target, &self.world.clock);
        let sending = snapshot_transfer::send(&self.world, &self.peers, self.target, vote, snapshot, option.soft_ttl());
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = sending => match sent {
                Ok(response) => {
                    transfer.arrived();
                    Ok(response)
                }
                Err(error) => {
                    self.world.clock.sleep(self.world.random.duration(PAUSE)).await;
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RPCError<Types>> {
        self.peers
            .call(self.target, Purpose::Control, TRANSFER_LEADER, head(&request), option.soft_ttl())
            .await
            .map_err(|error| unreachable(&error))
    }
}
