//! The transport to the client URLs of any etcd: one gRPC channel an endpoint, the next one tried when one fails.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use futures::future::TryFutureExt;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::client::{Caller, Client, Transport};
use super::{Error, checks};
use crate::world::net::{Address, Dialler, NotConnected};
use crate::world::{World, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An etcd closes connections that ping it more often than every five seconds, or without a call under way.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a remote store is reached.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// Of each member, `http://host:port`, or `https://host:port` with `tls`.
    pub endpoints: Vec<String>,
    /// For endpoints that ask for TLS.
    pub tls: Option<tls::Client>,
    /// Of each call, retries included.
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
    shared: Arc<Shared>,
    /// As the store gave it to the caller.
    token: Option<AsciiMetadataValue>,
}

struct Shared {
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
        let shared = Shared { world: world.clone(), config, channels, preferred: AtomicUsize::new(0) };
        Ok(Remote { shared: Arc::new(shared), token: None })
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
        let next = (at + 1) % self.shared.channels.len();
        let _ = self.shared.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        from_status(status)
    }

    fn open_watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> BoxStream<'static, Result<pb::WatchResponse, Error>> {
        let at = self.shared.preferred.load(Ordering::Relaxed);
        let limit = self.shared.config.answer_bytes_max;
        let mut client = Watch::new(self.shared.channels[at].clone()).max_decoding_message_size(limit);
        // A server answers the call itself only with its first message, so the stream is handed out before that.
        let requests = self.signed(Requests(requests));
        let answers = async move { client.watch(requests).await.map(tonic::Response::into_inner) };
        let remote = self.clone();
        answers.try_flatten_stream().map(move |answer| answer.map_err(|status| remote.lost(at, &status))).boxed()
    }

    /// Calls one endpoint after the other, from the preferred one on, until one gives an answer that stands.
    async fn call<T, F>(&self, retry: Retry, call: impl Fn(Channel) -> F + Send + Sync) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let shared = &*self.shared;
        let deadline = shared.world.clock.now() + shared.config.request_timeout;
        let first = shared.preferred.load(Ordering::Relaxed);
        let mut last = Error::Timeout;
        for attempt in 0..shared.channels.len() {
            let at = (first + attempt) % shared.channels.len();
            let answer = shared.world.clock.timeout_at(deadline, call(shared.channels[at].clone())).await;
            let status = match answer {
                Err(_) => {
                    shared.preferred.store((at + 1) % shared.channels.len(), Ordering::Relaxed);
                    return Err(Error::Timeout);
                }
                Ok(Ok(response)) => {
                    shared.preferred.store(at, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(Err(status)) => status,
            };
            last = from_status(&status);
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
    /// It changes nothing, or the same twice.
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
    Error::from_wire(status.code() as i32, status.message())
}

macro_rules! unary {
    ($self:ident, $retry:expr, $client:path, $method:ident, $request:ident) => {{
        let limit = $self.shared.config.answer_bytes_max;
        let call = |channel| {
            let mut client = <$client>::new(channel).max_decoding_message_size(limit);
            let request = $self.signed($request.clone());
            async move { client.$method(request).await.map(tonic::Response::into_inner) }
        };
        $self.call($retry, call).await
    }};
}

/// A named type for the requests of a watch: the compiler cannot prove a boxed one `Send` inside the call.
struct Requests(BoxStream<'static, pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<pb::WatchRequest>> {
        self.0.as_mut().poll_next(context)
    }
}

type Kv = pb::kv_client::KvClient<Channel>;
type Lease = pb::lease_client::LeaseClient<Channel>;
type Cluster = pb::cluster_client::ClusterClient<Channel>;
type Maintenance = pb::maintenance_client::MaintenanceClient<Channel>;
type Auth = pb::auth_client::AuthClient<Channel>;
type Watch = pb::watch_client::WatchClient<Channel>;

#[async_trait::async_trait]
impl Transport for Remote {
    /// Sends the caller's token along. A certificate of theirs stays behind: the store sees this process's own.
    fn on_behalf(&self, caller: Caller) -> Client {
        let token = match caller {
            Caller::Process => None,
            Caller::Client { token, .. } => token.and_then(|token| token.parse().ok()),
        };
        Client::new(Remote { token, ..self.clone() })
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        unary!(self, Retry::Always, Kv, range, request)
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        unary!(self, Retry::Unsent, Kv, put, request)
    }

    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        unary!(self, Retry::Unsent, Kv, delete_range, request)
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let retry = if checks::is_read_only(&request) { Retry::Always } else { Retry::Unsent };
        unary!(self, retry, Kv, txn, request)
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        unary!(self, Retry::Unsent, Kv, compact, request)
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        unary!(self, Retry::Unsent, Lease, lease_grant, request)
    }

    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error> {
        unary!(self, Retry::Unsent, Lease, lease_revoke, request)
    }

    async fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let call = |channel| async move {
            let requests = self.signed(stream::iter([request]).chain(stream::pending()));
            let mut answers = Lease::new(channel).lease_keep_alive(requests).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the keep-alive stream ended"))
        };
        self.call(Retry::Always, call).await
    }

    async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        unary!(self, Retry::Always, Lease, lease_time_to_live, request)
    }

    async fn lease_leases(&self, request: pb::LeaseLeasesRequest) -> Result<pb::LeaseLeasesResponse, Error> {
        unary!(self, Retry::Always, Lease, lease_leases, request)
    }

    async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Error> {
        unary!(self, Retry::Always, Cluster, member_list, request)
    }

    async fn member_add(&self, request: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, Error> {
        unary!(self, Retry::Unsent, Cluster, member_add, request)
    }

    async fn member_remove(&self, request: pb::MemberRemoveRequest) -> Result<pb::MemberRemoveResponse, Error> {
        unary!(self, Retry::Unsent, Cluster, member_remove, request)
    }

    async fn member_update(&self, request: pb::MemberUpdateRequest) -> Result<pb::MemberUpdateResponse, Error> {
        unary!(self, Retry::Unsent, Cluster, member_update, request)
    }

    async fn member_promote(&self, request: pb::MemberPromoteRequest) -> Result<pb::MemberPromoteResponse, Error> {
        unary!(self, Retry::Unsent, Cluster, member_promote, request)
    }

    async fn move_leader(&self, request: pb::MoveLeaderRequest) -> Result<pb::MoveLeaderResponse, Error> {
        unary!(self, Retry::Unsent, Maintenance, move_leader, request)
    }

    async fn downgrade(&self, request: pb::DowngradeRequest) -> Result<pb::DowngradeResponse, Error> {
        unary!(self, Retry::Unsent, Maintenance, downgrade, request)
    }

    async fn status(&self, request: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
        unary!(self, Retry::Always, Maintenance, status, request)
    }

    async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        unary!(self, Retry::Unsent, Maintenance, alarm, request)
    }

    async fn hash_kv(&self, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, Error> {
        unary!(self, Retry::Always, Maintenance, hash_kv, request)
    }

    async fn hash(&self, request: pb::HashRequest) -> Result<pb::HashResponse, Error> {
        unary!(self, Retry::Always, Maintenance, hash, request)
    }

    async fn defragment(&self, request: pb::DefragmentRequest) -> Result<pb::DefragmentResponse, Error> {
        unary!(self, Retry::Always, Maintenance, defragment, request)
    }

    async fn auth_enable(&self, request: pb::AuthEnableRequest) -> Result<pb::AuthEnableResponse, Error> {
        unary!(self, Retry::Unsent, Auth, auth_enable, request)
    }

    async fn auth_disable(&self, request: pb::AuthDisableRequest) -> Result<pb::AuthDisableResponse, Error> {
        unary!(self, Retry::Unsent, Auth, auth_disable, request)
    }

    async fn user_delete(&self, request: pb::AuthUserDeleteRequest) -> Result<pb::AuthUserDeleteResponse, Error> {
        unary!(self, Retry::Unsent, Auth, user_delete, request)
    }

    async fn user_grant_role(
        &self,
        request: pb::AuthUserGrantRoleRequest,
    ) -> Result<pb::AuthUserGrantRoleResponse, Error> {
        unary!(self, Retry::Unsent, Auth, user_grant_role, request)
    }

    async fn user_revoke_role(
        &self,
        request: pb::AuthUserRevokeRoleRequest,
    ) -> Result<pb::AuthUserRevokeRoleResponse, Error> {
        unary!(self, Retry::Unsent, Auth, user_revoke_role, request)
    }

    async fn role_add(&self, request: pb::AuthRoleAddRequest) -> Result<pb::AuthRoleAddResponse, Error> {
        unary!(self, Retry::Unsent, Auth, role_add, request)
    }

    async fn role_delete(&self, request: pb::AuthRoleDeleteRequest) -> Result<pb::AuthRoleDeleteResponse, Error> {
        unary!(self, Retry::Unsent, Auth, role_delete, request)
    }

    async fn role_grant_permission(
        &self,
        request: pb::AuthRoleGrantPermissionRequest,
    ) -> Result<pb::AuthRoleGrantPermissionResponse, Error> {
        unary!(self, Retry::Unsent, Auth, role_grant_permission, request)
    }

    async fn role_revoke_permission(
        &self,
        request: pb::AuthRoleRevokePermissionRequest,
    ) -> Result<pb::AuthRoleRevokePermissionResponse, Error> {
        unary!(self, Retry::Unsent, Auth, role_revoke_permission, request)
    }

    async fn user_add(&self, request: pb::AuthUserAddRequest) -> Result<pb::AuthUserAddResponse, Error> {
        unary!(self, Retry::Unsent, Auth, user_add, request)
    }

    async fn user_change_password(
        &self,
        request: pb::AuthUserChangePasswordRequest,
    ) -> Result<pb::AuthUserChangePasswordResponse, Error> {
        unary!(self, Retry::Unsent, Auth, user_change_password, request)
    }

    async fn user_get(&self, request: pb::AuthUserGetRequest) -> Result<pb::AuthUserGetResponse, Error> {
        unary!(self, Retry::Always, Auth, user_get, request)
    }

    async fn user_list(&self, request: pb::AuthUserListRequest) -> Result<pb::AuthUserListResponse, Error> {
        unary!(self, Retry::Always, Auth, user_list, request)
    }

    async fn role_get(&self, request: pb::AuthRoleGetRequest) -> Result<pb::AuthRoleGetResponse, Error> {
        unary!(self, Retry::Always, Auth, role_get, request)
    }

    async fn role_list(&self, request: pb::AuthRoleListRequest) -> Result<pb::AuthRoleListResponse, Error> {
        unary!(self, Retry::Always, Auth, role_list, request)
    }

    async fn auth_status(&self, request: pb::AuthStatusRequest) -> Result<pb::AuthStatusResponse, Error> {
        unary!(self, Retry::Always, Auth, auth_status, request)
    }

    async fn authenticate(&self, request: pb::AuthenticateRequest) -> Result<pb::AuthenticateResponse, Error> {
        unary!(self, Retry::Always, Auth, authenticate, request)
    }

    /// Goes to one endpoint; after an error the next call goes to the next one.
    async fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error> {
        Ok(self.open_watch(requests))
    }
}

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
