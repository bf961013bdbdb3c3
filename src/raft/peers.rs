//! Connections to the other members: their addresses as the membership records them, and a connection for each purpose.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::uri::PathAndQuery;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::activity::Activity;
use super::metrics::Metrics;
use super::types::Peer;
use super::wire::{
    ASK, CALLER_HEADER, CLUSTER_HEADER, MESSAGE_BYTES_MAX, PROTOCOL, PROTOCOL_HEADER, PeerMessage, TARGET_HEADER,
    Untouched, open,
};
use super::{Config, Error, Timings};
use crate::world::net::{Address, Dialler, NotConnected};
use crate::world::{World, tls};

/// Flow-control window of one stream and of one connection.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Each purpose has a connection of its own, so that bulk never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Heartbeats, votes, read indices.
    Control,
    /// The log, and forwarded commands.
    Log,
    Snapshot,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The peer saw nothing of it.
    #[error("member {target:x} cannot be reached: {reason}")]
    Unreached { target: u64, reason: String },
    /// The peer may have acted on it.
    #[error("member {target:x} did not answer: {status}")]
    Failed { target: u64, status: Status },
    #[error("member {target:x} did not answer within {limit:?}")]
    Timeout { target: u64, limit: Duration },
}

/// The other members; shared by everything that calls them.
pub(super) struct Peers {
    world: World,
    cluster: MetadataValue<Ascii>,
    caller: MetadataValue<Ascii>,
    timings: Timings,
    tls: Option<tls::Client>,
    local: Option<IpAddr>,
    links: Mutex<BTreeMap<u64, Link>>,
    pub activity: Activity,
    pub metrics: Metrics,
}

struct Link {
    urls: Vec<String>,
    /// The URL in use; the next one is tried after a failure to connect.
    current: usize,
    channels: BTreeMap<Purpose, Channel>,
}

impl Peers {
    pub fn new(world: World, config: &Config) -> Result<Peers, Error> {
        let hexadecimal = |text: String| text.parse().expect("hexadecimal digits are a valid header");
        let (cluster, caller) = (hexadecimal(config.cluster.to_string()), hexadecimal(config.node.to_string()));
        let timings = config.timings.clone();
        let activity = Activity::new(world.clock.now(), timings.election.end);
        let tls = tls(&world, config).map_err(|error| Error::Config(error.to_string()))?;
        let local = config.security.local_address;
        let (links, metrics) = (Mutex::new(BTreeMap::new()), Metrics::default());
        Ok(Peers { world, cluster, caller, timings, tls, local, links, activity, metrics })
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<u64, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the addresses of a member. When they change, its connections are dropped.
    pub fn know(&self, id: u64, peer: &Peer) {
        let mut links = self.links();
        if links.get(&id).is_none_or(|link| link.urls != peer.peer_urls) {
            links.insert(id, Link { urls: peer.peer_urls.clone(), current: 0, channels: BTreeMap::new() });
        }
    }

    /// Forgets those that are no longer members.
    pub fn keep(&self, known: impl Fn(u64) -> bool + Copy) {
        self.links().retain(|id, _| known(*id));
        self.activity.keep(known);
        self.metrics.keep(known);
    }

    fn channel(&self, target: u64, purpose: Purpose) -> Result<Channel, CallError> {
        let unreached = |reason: String| CallError::Unreached { target, reason };
        let mut links = self.links();
        let link = links.get_mut(&target).ok_or_else(|| unreached("it is not a member".into()))?;
        if let Some(channel) = link.channels.get(&purpose) {
            return Ok(channel.clone());
        }
        let url = link.urls.get(link.current).ok_or_else(|| unreached("it has no peer URL".into()))?;
        let address = Address::parse(url).map_err(|error| unreached(error.to_string()))?;
        let dialler = Dialler { address, tls: self.tls.clone(), local: self.local };
        let limit = self.timings.election.start / 2;
        let channel = self.world.net.channel_by(dialler, limit, |endpoint| self.tuned(endpoint));
        link.channels.insert(purpose, channel.clone());
        Ok(channel)
    }

    /// Finds a dead connection in less than the shortest election timeout.
    fn tuned(&self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .http2_keep_alive_interval(self.timings.election.start / 4)
            .keep_alive_timeout(self.timings.election.start / 2)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
    }

    /// After a failure to connect, turns to another address, if there is one.
    fn turn(&self, target: u64) {
        if let Some(link) = self.links().get_mut(&target)
            && link.urls.len() > 1
        {
            link.current = (link.current + 1) % link.urls.len();
            link.channels.clear();
        }
    }

    fn request<T>(&self, target: u64, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(CLUSTER_HEADER, self.cluster.clone());
        headers.insert(CALLER_HEADER, self.caller.clone());
        headers.insert(TARGET_HEADER, format!("{target:x}").parse().expect("hexadecimal digits are a valid header"));
        headers.insert(PROTOCOL_HEADER, MetadataValue::from_static(PROTOCOL));
        request
    }

    async fn ready(&self, target: u64, purpose: Purpose) -> Result<Grpc<Channel>, CallError> {
        let mut client = Grpc::new(self.channel(target, purpose)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match client.ready().await {
            Ok(()) => Ok(client),
            Err(error) => {
                self.turn(target);
                Err(CallError::Unreached { target, reason: error.to_string() })
            }
        }
    }

    fn failure(&self, target: u64, status: Status) -> CallError {
        if never_connected(&status) {
            self.turn(target);
            return CallError::Unreached { target, reason: status.to_string() };
        }
        CallError::Failed { target, status }
    }

    /// Sends one message and waits for one answer, within `limit`.
    pub async fn call<A: DeserializeOwned>(
        &self,
        target: u64,
        purpose: Purpose,
        method: &'static str,
        message: PeerMessage,
        limit: Duration,
    ) -> Result<A, CallError> {
        let (traffic, started) = (self.metrics.with(target), self.world.clock.now());
        traffic.sent_bytes.add(message.bytes());
        let exchange = async {
            let mut client = self.ready(target, purpose).await?;
            let request = self.request(target, message);
            let reply = client.unary(request, PathAndQuery::from_static(method), Untouched).await;
            reply.map_err(|status| self.failure(target, status))
        };
        let reply = self.within(target, limit, exchange).await.inspect_err(|_| traffic.failures.inc())?;
        let now = self.world.clock.now();
        self.activity.hear(target, now);
        traffic.round_trip.observe(now - started);
        traffic.received_bytes.add(reply.get_ref().len() as u64);
        answer(target, reply.into_inner())
    }

    /// Sends bytes and waits for bytes, within `limit`.
    pub async fn ask(&self, target: u64, question: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let exchange = async {
            let mut client = self.ready(target, Purpose::Log).await?;
            let request = self.request(target, PeerMessage::with_body(&(), vec![question]));
            let reply = client.unary(request, PathAndQuery::from_static(ASK), Untouched).await;
            reply.map_err(|status| self.failure(target, status))
        };
        let reply = self.within(target, limit, exchange).await?;
        let opened = open::<()>(reply.into_inner()).map(|((), body)| body);
        opened.map_err(|error| CallError::Failed { target, status: Status::data_loss(error.to_string()) })
    }

    /// Opens a stream in each direction; `limit` is for the opening only.
    pub async fn converse(
        &self,
        target: u64,
        method: &'static str,
        messages: impl Stream<Item = PeerMessage> + Send + 'static,
        limit: Duration,
    ) -> Result<Streaming<Bytes>, CallError> {
        let traffic = self.metrics.with(target);
        let sent = traffic.clone();
        let messages = messages.inspect(move |message| sent.sent_bytes.add(message.bytes()));
        let exchange = async {
            let mut client = self.ready(target, Purpose::Log).await?;
            let request = self.request(target, messages);
            let reply = client.streaming(request, PathAndQuery::from_static(method), Untouched).await;
            reply.map(Response::into_inner).map_err(|status| self.failure(target, status))
        };
        self.within(target, limit, exchange).await.inspect_err(|_| traffic.failures.inc())
    }

    /// Sends a stream and waits for one answer, within `limit`.
    pub async fn deliver<A: DeserializeOwned>(
        &self,
        target: u64,
        method: &'static str,
        messages: impl Stream<Item = PeerMessage> + Send + 'static,
        limit: Duration,
    ) -> Result<A, CallError> {
        let traffic = self.metrics.with(target);
        let sent = traffic.clone();
        let messages = messages.inspect(move |message| sent.sent_bytes.add(message.bytes()));
        let exchange = async {
            let mut client = self.ready(target, Purpose::Snapshot).await?;
            let request = self.request(target, messages);
            let reply = client.client_streaming(request, PathAndQuery::from_static(method), Untouched).await;
            reply.map_err(|status| self.failure(target, status))
        };
        let reply = self.within(target, limit, exchange).await.inspect_err(|_| traffic.failures.inc())?;
        answer(target, reply.into_inner())
    }

    async fn within<T>(
        &self,
        target: u64,
        limit: Duration,
        exchange: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        self.world.clock.timeout(limit, exchange).await.unwrap_or(Err(CallError::Timeout { target, limit }))
    }
}

/// TLS for members whose URLs ask for it; `None` when neither options nor URLs mention TLS.
fn tls(world: &World, config: &Config) -> Result<Option<tls::Client>, tls::Error> {
    let options = &config.security.tls;
    let asked = |url: &String| Address::parse(url).is_ok_and(|address| address.is_secure());
    let is_used = !options.is_empty() || options.trusted_ca_file.is_some() || config.listen.iter().any(asked);
    is_used.then(|| tls::Client::new(world, options.clone())).transpose()
}

fn answer<A: DeserializeOwned>(target: u64, message: Bytes) -> Result<A, CallError> {
    let opened = open::<A>(message).map(|(answer, _)| answer);
    opened.map_err(|error| CallError::Failed { target, status: Status::data_loss(error.to_string()) })
}

/// A call without a payload.
pub(super) fn empty() -> PeerMessage {
    PeerMessage::new(&())
}

/// A message with only a head.
pub(super) fn head<T: Serialize>(value: &T) -> PeerMessage {
    PeerMessage::new(value)
}

/// No connection could be made, so nothing was sent. Other failures leave that open.
fn never_connected(status: &Status) -> bool {
    let mut causes = std::iter::successors(status.source(), |&cause| cause.source());
    causes.any(|cause| cause.is::<NotConnected>())
}
