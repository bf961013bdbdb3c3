//! This member's store behind the interface that every store has: in the process's own name, or through the [`Guard`]
//! in a client's.

use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::Local;
use crate::store::Error;
use crate::store::auth::guard::Guard;
use crate::store::auth::permit::Author;
use crate::store::client::{Call, Caller, Client, Transport, Versions};
use crate::store::cluster_version::Release;
use crate::store::records::Ranged;
use crate::store::rpcs::rpcs;
use crate::world::panics::uncaught;

macro_rules! answers {
    (
        given { $($given:tt)* }
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $retry:ident, $($json:literal)|+;
        )* })* }
        own { $($own:tt)* }
    ) => {
        /// Each by the method of the same name. A panic in it ends the process, even where one of its caller would not.
        impl Transport for Local {
            $($(fn $method(&self, request: pb::$request) -> Call<'_, pb::$response> {
                Box::pin(uncaught(Local::$method(self, request)))
            })*)*
            $($given)*
        }
    };
}

rpcs!(answers {
    fn on_behalf(&self, caller: Caller) -> Client {
        let process = self.clone().written_by(Author::Process);
        match caller {
            Caller::Process => Client::new(process),
            caller => Client::new(Guard::new(process, caller)),
        }
    }

    fn authenticates(&self) -> bool {
        self.0.member.authenticates()
    }

    fn is_learner(&self) -> bool {
        self.is_without_vote()
    }

    fn versions(&self) -> Versions {
        let cluster = self.0.member.view().state.cluster_version;
        let text = |release: Option<Release>| release.map(|release| release.to_string());
        Versions { cluster: text(cluster.version), storage: Some(cluster.storage().to_string()) }
    }

    fn range_in_records(&self, request: pb::RangeRequest) -> Call<'_, Ranged> {
        Box::pin(uncaught(Local::range_in_records(self, request)))
    }

    fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Call<'_, pb::LeaseKeepAliveResponse> {
        Box::pin(uncaught(Local::lease_keep_alive(self, request)))
    }

    fn snapshot(&self) -> Call<'_, BoxStream<'static, Result<pb::SnapshotResponse, Error>>> {
        Box::pin(uncaught(Local::snapshot(self)))
    }

    fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Call<'_, BoxStream<'static, Result<pb::WatchResponse, Error>>> {
        Box::pin(uncaught(self.watch_judged(requests.map(|request| (request, None)).boxed())))
    }
});
