//! The store client: how frontends and the control plane reach the store, on this node or over the network, and in
//! whose name.

use chorus_proto::etcdserverpb as pb;
use futures::future::{self, BoxFuture};
use futures::stream::BoxStream;

use super::error::Error;
use super::records::Ranged;
use super::rpcs::rpcs;

/// One interface, two transports: the store of this node, or the client URLs of any etcd. Cheap to clone.
#[derive(Clone)]
pub struct Client(std::sync::Arc<dyn Transport>);

/// In whose name a call is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// A component of this process, which may do everything.
    #[default]
    Process,
    /// A client on a connection, with its token or certificate if it has one; the store decides what it may do.
    Client {
        /// As `Authenticate` gave it.
        token: Option<String>,
        /// The common name of the certificate that the connection was accepted with. A token takes precedence.
        common_name: Option<String>,
    },
}

impl Caller {
    /// A client that does not say who it is.
    pub const ANONYMOUS: Caller = Caller::Client { token: None, common_name: None };
}

/// Versions that the members of a store have agreed on, `X.Y.0`; nothing before they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub cluster: Option<String>,
    pub storage: Option<String>,
}

/// A call of a store that is under way. It is no `async_trait` method: the `where` clauses of those keep the compiler
/// from remembering which types are `Send`, so that it would check everything in a store again for every method.
pub type Call<'a, T> = BoxFuture<'a, Result<T, Error>>;

macro_rules! transport {
    (
        given { $($given:tt)* }
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $retry:ident, $($json:literal)|+;
        )* })* }
        own { $($own:tt)* }
    ) => {
        /// A path to a store. Linearizable unless a request asks otherwise; every call has a deadline. A store answers
        /// a method that it does not have as a gRPC server does.
        ///
        /// Calls in a client's name go through [`Guard`](super::auth::guard::Guard): it refuses methods that it does
        /// not have.
        pub trait Transport: Send + Sync + 'static {
            $($($(#[$doc])*
            fn $method(&self, _: pb::$request) -> Call<'_, pb::$response> {
                Box::pin(future::ready(Err(Error::unimplemented($path))))
            })*)*
            $($given)*
        }
    };
}

rpcs!(transport {
    /// The same store in the name of `caller`.
    fn on_behalf(&self, caller: Caller) -> Client;

    /// Whether authentication is enabled, so that it matters in whose name a call is made. Costs nothing.
    fn authenticates(&self) -> bool {
        true
    }

    /// Whether this member is a learner, which refuses most calls. Costs nothing.
    fn is_learner(&self) -> bool {
        false
    }

    /// The versions, as this member knows them. Costs nothing.
    fn versions(&self) -> Versions {
        Versions::default()
    }

    /// A range that may be large: its records are read as they are sent, where the store can do that.
    fn range_in_records(&self, request: pb::RangeRequest) -> Call<'_, Ranged> {
        let answer = self.range(request);
        Box::pin(async move { answer.await.map(Ranged::Whole) })
    }

    fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Call<'_, pb::LeaseKeepAliveResponse>;

    /// The database of this one member in etcd's format, in chunks, and the SHA-256 of them all at the end.
    fn snapshot(&self) -> Call<'_, BoxStream<'static, Result<pb::SnapshotResponse, Error>>> {
        Box::pin(future::ready(Err(Error::unimplemented("/etcdserverpb.Maintenance/Snapshot"))))
    }

    /// One watch stream, as the gRPC one: many watches by id, requests in, responses out. The stream ends when
    /// `requests` ends or the store goes away; a caller resumes from the last revision it saw.
    fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Call<'_, BoxStream<'static, Result<pb::WatchResponse, Error>>>;
});

impl Client {
    pub fn new(transport: impl Transport) -> Client {
        Client(std::sync::Arc::new(transport))
    }
}

impl std::ops::Deref for Client {
    type Target = dyn Transport;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
