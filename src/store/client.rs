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

/// In whose name the store is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// A component of this very process, which may do everything.
    #[default]
    Process,
    /// Somebody on a connection, as far as they say who they are; the store decides what they may do.
    Client {
        /// As `Authenticate` gave it.
        token: Option<String>,
        /// The common name of the certificate that their connection was accepted with. A token goes before it.
        common_name: Option<String>,
    },
}

impl Caller {
    /// Somebody who does not say who they are.
    pub const ANONYMOUS: Caller = Caller::Client { token: None, common_name: None };
}

/// Versions that the members of a store have agreed on, `X.Y.0`; nothing before they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub cluster: Option<String>,
    pub storage: Option<String>,
}

/// A call of a store that is under way. Not by `async_trait`, whose `where` clauses keep the compiler from remembering
/// what may be sent between threads: it would look through all that a store holds once more for every method.
pub type Call<'a, T> = BoxFuture<'a, Result<T, Error>>;

macro_rules! transport {
    (
        given { $($given:tt)* }
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $again:ident, $($json:literal)|+;
        )* })* }
        own { $($own:tt)* }
    ) => {
        /// A path to a store. Linearizable unless a request asks otherwise; every call has a deadline. A store answers
        /// what it does not have as a server without that method does.
        ///
        /// What is asked in a client's name goes through [`Guard`](super::auth::guard::Guard): a method that it does
        /// not have is refused to clients.
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
    /// The same store, asked in the name of `caller` from here on.
    fn on_behalf(&self, caller: Caller) -> Client;

    /// Whether it matters in whose name the store is asked: it does once authentication is enabled. Costs nothing.
    fn authenticates(&self) -> bool {
        true
    }

    /// Whether this is a member without a vote, which answers hardly anything. Costs nothing.
    fn is_learner(&self) -> bool {
        false
    }

    /// What the members have agreed on, as this one knows it. Costs nothing.
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
        Box::pin(future::ready(Err(Error::unimplemented("Snapshot"))))
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
