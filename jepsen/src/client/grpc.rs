//! The gRPC client: one channel to one member.

use std::time::Duration;

use anyhow::{Context, bail};
use chorus_proto::etcdserverpb as pb;
use prost::Message;
use tokio::sync::mpsc;
use tonic::codec::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::{CALL_LIMIT, Failed};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A client of one member. Connects on first use.
#[derive(Clone)]
pub struct Grpc(Channel);

impl Grpc {
    /// `url` is `http://host:port`.
    pub fn new(url: &str) -> Grpc {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("the cluster gives URLs");
        let endpoint = endpoint
            .connect_timeout(CONNECT_LIMIT)
            .http2_keep_alive_interval(KEEP_ALIVE * 10)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(false);
        Grpc(endpoint.connect_lazy())
    }

    pub(super) async fn call<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Failed>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.0.clone()).max_decoding_message_size(64 << 20);
        let called = async {
            client.ready().await.map_err(|error| Failed::Surely(format!("not connected: {error}")))?;
            let codec: ProstCodec<Q, R> = ProstCodec::default();
            let answer = client.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| failed(&status))
        };
        tokio::time::timeout(CALL_LIMIT, called).await.unwrap_or_else(|_| Err(Failed::timed_out()))
    }

    /// The version of what a member of Chorus speaks with its peers. It tells it to whoever calls it without one.
    pub async fn peer_protocol(&self) -> anyhow::Result<String> {
        let Err(refused) = self.call::<(), ()>("/chorus.raft.Peer/Hello", ()).await else {
            bail!("it takes calls of peers that do not say what they speak");
        };
        let refused = refused.to_string();
        let version = refused.split("speaks peer protocol ").nth(1).and_then(|rest| rest.split(',').next());
        version.map(str::to_owned).with_context(|| refused.clone())
    }

    /// Renews a lease once; the time to live that is left, in seconds, 0 when the lease is gone.
    pub async fn keep_alive(&self, lease: i64) -> Result<i64, Failed> {
        let mut client = pb::lease_client::LeaseClient::new(self.0.clone());
        let renewed = async {
            let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id: lease });
            let mut answers = client.lease_keep_alive(requests).await.map_err(|status| failed(&status))?.into_inner();
            let answer = answers.message().await.map_err(|status| failed(&status))?;
            answer.map(|answer| answer.ttl).ok_or_else(|| Failed::Perhaps("the stream ended".to_owned()))
        };
        tokio::time::timeout(CALL_LIMIT, renewed).await.unwrap_or_else(|_| Err(Failed::timed_out()))
    }

    /// Opens a watch stream with one watch on it.
    pub async fn watch(&self, create: pb::WatchCreateRequest) -> Result<Watching, Failed> {
        let (requests, receiver) = mpsc::channel(4);
        let first = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        requests.try_send(first).expect("the channel is empty");
        let mut client = pb::watch_client::WatchClient::new(self.0.clone()).max_decoding_message_size(64 << 20);
        let opening = client.watch(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let opened =
            tokio::time::timeout(CALL_LIMIT, opening).await.unwrap_or_else(|_| Err(tonic::Status::cancelled("")));
        let answers = opened.map_err(|status| failed(&status))?.into_inner();
        Ok(Watching { requests, answers })
    }

    /// The bytes of a snapshot of the member; their number.
    pub async fn snapshot(&self) -> Result<u64, Failed> {
        let mut client = pb::maintenance_client::MaintenanceClient::new(self.0.clone());
        let taken = async {
            let mut chunks =
                client.snapshot(pb::SnapshotRequest {}).await.map_err(|status| failed(&status))?.into_inner();
            let mut bytes = 0;
            while let Some(chunk) = chunks.message().await.map_err(|status| failed(&status))? {
                bytes += chunk.blob.len() as u64;
            }
            Ok(bytes)
        };
        tokio::time::timeout(CALL_LIMIT * 2, taken).await.unwrap_or_else(|_| Err(Failed::timed_out()))
    }
}

/// An open watch stream.
pub struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    /// The next answer; nothing when the stream is over.
    pub async fn next(&mut self) -> Option<pb::WatchResponse> {
        self.answers.message().await.ok().flatten()
    }

    /// Asks how far the watch has come.
    pub fn ask_progress(&self) {
        let request = pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        // A full queue only means that the last question is still open.
        let _ = self.requests.try_send(pb::WatchRequest { request_union: Some(request) });
    }
}

fn failed(status: &tonic::Status) -> Failed {
    // Nothing was sent over a connection that was never made.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        let refused = error.downcast_ref::<std::io::Error>();
        if refused.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return Failed::Surely("connection refused".to_owned());
        }
        cause = error.source();
    }
    Failed::of(status.code(), status.message())
}
