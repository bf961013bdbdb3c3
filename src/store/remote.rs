//! The transport to the client URLs of any etcd: one gRPC channel an endpoint, the next one tried when one fails.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use futures::future::TryFutureExt;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::Error;
use super::client::{Call, Caller, Client, Transport};
use super::rpcs::{retry, rpcs};
use crate::world::net::{Address, Dialler, NotConnected};
use crate::world::{World, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An etcd closes connections that ping it more often than every five seconds, or without a call under way.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a remote store is reached.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// The client URLs: `http://host:port`, or `https://host:port` with `tls`.
    pub endpoints: Vec<String>,
    /// For endpoints that ask for TLS.
    pub tls: Option<tls::Client>,
    /// The deadline of each call, retries included.
    pub request_timeout: Duration,
    /// Bytes of one answer.
    pub answer_bytes_max: usize,
}

impl RemoteConfig {
    pub fn new(endpoints: Vec<String>) -> RemoteConfig {
        RemoteConfig {
            endpoints,
            tls: None,
            request_timeout: Duration::from_secs(10),
            answer_bytes_max: 512 * 1024 * 1024,
        }
    }
}

/// The given endpoint is not a URL that can be dialled. Surface it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint:?} is not a store endpoint: {message}")]
pub struct BadEndpoint {
    pub endpoint: String,
    pub message: String,
}

/// A store behind client URLs. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    endpoints: Arc<Endpoints>,
    /// As the store gave it to the caller.
    token: Option<AsciiMetadataValue>,
}

struct Endpoints {
    world: World,
    config: RemoteConfig,
    channels: Vec<Channel>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
}

impl Remote {
    /// Connects on first use.
    pub fn new(world: &World, config: RemoteConfig) -> Result<Remote, BadEndpoint> {
        let bad =
            |endpoint: &str, message: &str| BadEndpoint { endpoint: endpoint.to_owned(), message: message.to_owned() };
        if config.endpoints.is_empty() {
            return Err(bad("", "the list of endpoints is empty"));
        }
        let mut channels = Vec::with_capacity(config.endpoints.len());
        for url in &config.endpoints {
            let address = Address::parse(url).map_err(|error| bad(url, &error.to_string()))?;
            if address.is_secure() && config.tls.is_none() {
                return Err(bad(url, "it asks for TLS, which is not set up here"));
            }
            let dialler = Dialler { address, tls: config.tls.clone(), local: None };
            channels.push(world.net.channel_by(dialler, CONNECT_TIMEOUT, |endpoint| {
                endpoint.http2_keep_alive_interval(KEEP_ALIVE_INTERVAL).keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            }));
        }
        let endpoints = Endpoints { world: world.clone(), config, channels, preferred: AtomicUsize::new(0) };
        Ok(Remote { endpoints: Arc::new(endpoints), token: None })
    }

    /// A request with the caller's token.
    fn signed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Notes that a stream of endpoint `at` broke.
    fn lost(&self, at: usize, status: &Status) -> Error {
        let next = (at + 1) % self.endpoints.channels.len();
        let _ = self.endpoints.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        from_status(status)
    }

    fn open_watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> BoxStream<'static, Result<pb::WatchResponse, Error>> {
        let at = self.endpoints.preferred.load(Ordering::Relaxed);
        let limit = self.endpoints.config.answer_bytes_max;
        let mut client = Watch::new(self.endpoints.channels[at].clone()).max_decoding_message_size(limit);
        // A server answers the call itself only with its first message, so the stream is handed out before that.
        let requests = self.signed(Requests(requests));
        let answers = async move { client.watch(requests).await.map(tonic::Response::into_inner) };
        let remote = self.clone();
        answers.try_flatten_stream().map(move |answer| answer.map_err(|status| remote.lost(at, &status))).boxed()
    }

    /// One message there and one back; `again` says that it may be sent twice.
    async fn unary<Q, A>(&self, path: &'static str, again: bool, message: Q) -> Result<A, Error>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let retry = if again { Retry::Always } else { Retry::Unsent };
        let limit = self.endpoints.config.answer_bytes_max;
        let call = |channel| {
            let request = self.signed(message.clone());
            async move {
                let mut client = Grpc::new(channel).max_decoding_message_size(limit);
                client.ready().await.map_err(|error| Status::unknown(format!("Service was not ready: {error}")))?;
                let codec = ProstCodec::<Q, A>::default();
                client.unary(request, PathAndQuery::from_static(path), codec).await.map(tonic::Response::into_inner)
            }
        };
        self.call(retry, call).await
    }

    /// Calls one endpoint after the other, from the preferred one on, until a call succeeds or must not be repeated.
    async fn call<T, F>(&self, retry: Retry, call: impl Fn(Channel) -> F + Send + Sync) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let endpoints = &*self.endpoints;
        let deadline = endpoints.world.clock.now() + endpoints.config.request_timeout;
        let first = endpoints.preferred.load(Ordering::Relaxed);
        let mut last = Error::Timeout;
        for attempt in 0..endpoints.channels.len() {
            let at = (first + attempt) % endpoints.channels.len();
            let answer = endpoints.world.clock.timeout_at(deadline, call(endpoints.channels[at].clone())).await;
            let status = match answer {
                Err(_) => {
                    endpoints.preferred.store((at + 1) % endpoints.channels.len(), Ordering::Relaxed);
                    return Err(Error::Timeout);
                }
                Ok(Ok(response)) => {
                    endpoints.preferred.store(at, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(Err(status)) => status,
            };
            // One endpoint that answers tells more than others that do not.
            if attempt == 0 || !never_sent(&status) {
                last = from_status(&status);
            }
            if !retry.another(&status) {
                break;
            }
        }
        Err(last)
    }
}

/// Whether a failed call may be sent to another endpoint.
#[derive(Clone, Copy)]
enum Retry {
    /// It changes nothing, or the second time nothing more.
    Always,
    /// Only when it surely was not sent.
    Unsent,
}

impl Retry {
    fn another(self, status: &Status) -> bool {
        status.code() == Code::Unavailable
            && match self {
                Retry::Always => true,
                Retry::Unsent => never_sent(status),
            }
    }
}

/// The connection could not be made, so that the request never left.
fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<NotConnected>() {
            return true;
        }
        if let Some(hyper) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return hyper.is_connect();
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

fn from_status(status: &Status) -> Error {
    match Error::from_wire(status.code() as i32, status.message()) {
        Error::Other { code, message } => Error::Other { code, message: with_cause(message, status) },
        known => known,
    }
}

/// A text with the innermost cause of a failed connection, which is the most exact; what a store sends has none.
fn with_cause(text: String, status: &Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    match causes.last().map(ToString::to_string) {
        Some(cause) if !text.contains(&cause) => format!("{text}: {cause}"),
        _ => text,
    }
}

/// A named type for the requests of a watch: the compiler cannot prove a boxed one `Send` inside the call.
struct Requests(BoxStream<'static, pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<pb::WatchRequest>> {
        self.0.as_mut().poll_next(context)
    }
}

type Lease = pb::lease_client::LeaseClient<Channel>;
type Watch = pb::watch_client::WatchClient<Channel>;

macro_rules! calls {
    (
        given { $($given:tt)* }
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $retry:ident, $($json:literal)|+;
        )* })* }
        own { $($own:tt)* }
    ) => {
        impl Transport for Remote {
            $($(fn $method(&self, request: pb::$request) -> Call<'_, pb::$response> {
                Box::pin(self.unary($path, retry::$retry(&request), request))
            })*)*
            $($given)*
        }
    };
}

rpcs!(calls {
    /// Sends the caller's token along, but not its certificate: the remote store sees that of this process.
    fn on_behalf(&self, caller: Caller) -> Client {
        let token = match caller {
            Caller::Process => None,
            Caller::Client { token, .. } => token.and_then(|token| token.parse().ok()),
        };
        Client::new(Remote { token, ..self.clone() })
    }

    fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Call<'_, pb::LeaseKeepAliveResponse> {
        let call = move |channel| async move {
            let requests = self.signed(stream::iter([request]).chain(stream::pending()));
            let mut answers = Lease::new(channel).lease_keep_alive(requests).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the keep-alive stream ended"))
        };
        Box::pin(self.call(Retry::Always, call))
    }

    /// Goes to one endpoint; after an error the next call goes to the next one.
    fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Call<'_, BoxStream<'static, Result<pb::WatchResponse, Error>>> {
        Box::pin(async move { Ok(self.open_watch(requests)) })
    }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_are_checked_at_once() {
        let world = World::simulated(1, crate::world::MemoryDisk::default());
        let open = |endpoints: &[&str]| {
            let endpoints = endpoints.iter().map(|endpoint| endpoint.to_string()).collect();
            Remote::new(&world, RemoteConfig::new(endpoints)).map(|_| ()).map_err(|error| error.endpoint)
        };
        assert_eq!(open(&[]), Err(String::new()));
        assert_eq!(open(&["http://a:1", "nonsense"]), Err("nonsense".to_owned()));
    }

    #[test]
    fn a_write_goes_to_another_endpoint_only_if_it_was_never_sent() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let unsent = Status::from_error(Box::new(refused));
        let unsent = Status::new(Code::Unavailable, unsent.message());
        assert!(Retry::Always.another(&unsent));
        assert!(!Retry::Unsent.another(&Status::unavailable("etcdserver: request timed out")));
        assert!(!Retry::Always.another(&Status::invalid_argument("etcdserver: key is not provided")));
    }
}
