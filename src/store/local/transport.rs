//! This member's store behind the interface that every store has: in the process's own name, or through the [`Guard`]
//! in a client's.

use chorus_proto::etcdserverpb as pb;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt};

use super::Local;
use crate::store::Error;
use crate::store::auth::guard::Guard;
use crate::store::auth::permit::Author;
use crate::store::client::{Call, Caller, Client, Transport, Versions};
use crate::store::cluster_version::Release;
use crate::store::records::Ranged;
use crate::store::rpcs::rpcs;
use crate::world::panics::abort_on_panics;

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
        /// Each by the method of the same name. A panic in it ends the process, even where one of its caller would not:
        /// components that are supervised call the store here. Clients of etcd come through the [`Guard`], from tasks
        /// that nobody supervises.
        impl Transport for Local {
            $($(fn $method(&self, request: pb::$request) -> Call<'_, pb::$response> {
                Box::pin(abort_on_panics(Local::$method(self, request)))
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
        Box::pin(abort_on_panics(Local::range_in_records(self, request)))
    }

    fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Call<'_, pb::LeaseKeepAliveResponse> {
        Box::pin(abort_on_panics(Local::lease_keep_alive(self, request)))
    }

    fn snapshot(&self) -> Call<'_, BoxStream<'static, Result<pb::SnapshotResponse, Error>>> {
        Box::pin(abort_on_panics(Local::snapshot(self).map_ok(|parts| abort_on_panics(parts).boxed())))
    }

    fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Call<'_, BoxStream<'static, Result<pb::WatchResponse, Error>>> {
        let requests = requests.map(|request| (request, None)).boxed();
        Box::pin(abort_on_panics(self.watch_judged(requests).map_ok(|events| abort_on_panics(events).boxed())))
    }
});
