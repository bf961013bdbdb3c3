//! The one gate for everything that clients ask.
//!
//! Every call of a client goes through here, by the rule that the table of RPCs has for it, or by the checks written
//! out below. Permissions on keys are checked where the keys are: by the view that is read, or when a command is
//! applied.

use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::alarm_request::AlarmAction;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::permit::{Access, Author};
use crate::store::client::{Call, Caller, Client, Transport, Versions};
use crate::store::local::Local;
use crate::store::records::Ranged;
use crate::store::rpcs::rpcs;
use crate::store::{Error, checks};

/// What an RPC asks of its caller once authentication is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing; even a token that was sent along is ignored.
    Anyone,
    /// A known user.
    Somebody,
    /// The root role.
    Root,
    /// Permission on the keys that it reads or changes, or on the users and roles.
    Content,
}

/// A store, as one caller may use it.
pub struct Guard {
    local: Local,
    /// The same, in the name of an unknown client.
    nobody: Local,
    caller: Caller,
}

impl Guard {
    pub fn new(local: Local, caller: Caller) -> Guard {
        Guard { nobody: local.clone().written_by(Author::Nobody), local, caller }
    }

    /// The store in the caller's name, if `rule` lets them in.
    async fn admit(&self, rule: Rule) -> Result<Local, Error> {
        if !self.local.authenticates() || rule == Rule::Anyone {
            return Ok(self.nobody.clone());
        }
        let author = self.author().await?;
        let auth = self.local.auth();
        match rule {
            Rule::Anyone | Rule::Content => {}
            Rule::Somebody => auth.require(&author)?,
            Rule::Root => auth.permit_admin(&author)?,
        }
        Ok(self.local.clone().written_by(author))
    }

    /// The same on a voting member; a learner refuses.
    async fn pass(&self, rule: Rule) -> Result<Local, Error> {
        self.votes()?;
        self.admit(rule).await
    }

    fn votes(&self) -> Result<(), Error> {
        if self.local.is_learner() { Err(Error::NotSupportedForLearner) } else { Ok(()) }
    }

    /// Authentication is disabled and this member votes: there is nothing to check.
    fn is_open(&self) -> bool {
        !self.local.authenticates() && !self.local.is_learner()
    }

    async fn author(&self) -> Result<Author, Error> {
        match &self.caller {
            Caller::Process => Ok(Author::Process),
            Caller::Client { token: Some(token), .. } => self.local.recognise(token).await,
            Caller::Client { token: None, common_name: Some(name) } => Ok(self.local.named(name.clone())),
            Caller::Client { token: None, common_name: None } => Ok(Author::Nobody),
        }
    }

    /// For a linearizable read the check, too, sees every change before the read.
    async fn range_checked(&self, mut request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.admit_to_range(&mut request).await?.range(request).await
    }

    async fn range_in_records_checked(&self, mut request: pb::RangeRequest) -> Result<Ranged, Error> {
        self.admit_to_range(&mut request).await?.range_in_records(request).await
    }

    /// A learner answers serializable reads only.
    async fn admit_to_range(&self, request: &mut pb::RangeRequest) -> Result<Local, Error> {
        if !request.serializable {
            self.votes()?;
        }
        checks::range(request)?;
        if !request.serializable {
            self.local.barrier().await?;
            request.serializable = true;
        }
        self.admit(Rule::Content).await
    }

    async fn txn_checked(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.votes()?;
        if !checks::is_read_only(&request) {
            return self.pass(Rule::Content).await?.txn(request).await;
        }
        self.local.check_txn(&request)?;
        if !checks::is_serializable(&request) {
            self.local.barrier().await?;
        }
        self.pass(Rule::Content).await?.txn_now(request).await
    }

    /// Why a watch is refused to the caller.
    async fn refuse_watch(&self, request: &pb::WatchRequest) -> Option<Error> {
        let Some(RequestUnion::CreateRequest(create)) = &request.request_union else { return None };
        if !self.local.authenticates() {
            return None;
        }
        let author = match self.author().await {
            Ok(author) => author,
            Err(error) => return Some(error),
        };
        // As in etcd: an empty key stands for the first possible one, and an empty end for one key.
        let key = if create.key.is_empty() { &b"\0"[..] } else { &create.key };
        self.local.auth().permit(&author, Access::Read, key, &create.range_end).err()
    }
}

macro_rules! gate {
    (
        given { $($given:tt)* }
        unary {
            plain { $(
                $(#[$doc:meta])*
                $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
                $rule:ident, $retry:ident, $($json:literal)|+;
            )* }
            judged { $(
                $(#[$judged_doc:meta])*
                $judged_name:ident $judged_path:literal $judged:ident($judged_request:ident) -> $judged_response:ident,
                $judged_rule:ident, $judged_retry:ident, $($judged_json:literal)|+;
            )* }
        }
        own { $($own:tt)* }
    ) => {
        impl Transport for Guard {
            $(fn $method(&self, request: pb::$request) -> Call<'_, pb::$response> {
                Box::pin(async move { self.pass(Rule::$rule).await?.$method(request).await })
            })*
            $(fn $judged(&self, request: pb::$judged_request) -> Call<'_, pb::$judged_response> {
                Guard::$judged(self, request)
            })*
            $($given)*
        }
    };
}

rpcs!(gate {
    fn on_behalf(&self, caller: Caller) -> Client {
        self.local.on_behalf(caller)
    }

    fn authenticates(&self) -> bool {
        self.local.authenticates()
    }

    fn is_learner(&self) -> bool {
        self.local.is_learner()
    }

    fn versions(&self) -> Versions {
        self.local.versions()
    }

    fn range_in_records(&self, request: pb::RangeRequest) -> Call<'_, Ranged> {
        match self.is_open() {
            true => Transport::range_in_records(&self.nobody, request),
            false => Box::pin(self.range_in_records_checked(request)),
        }
    }

    fn lease_keep_alive(&self, request: pb::LeaseKeepAliveRequest) -> Call<'_, pb::LeaseKeepAliveResponse> {
        Box::pin(async move {
            let local = self.pass(Rule::Somebody).await?;
            local.permit_lease(Access::Write, request.id)?;
            local.lease_keep_alive(request).await
        })
    }

    fn snapshot(&self) -> Call<'_, BoxStream<'static, Result<pb::SnapshotResponse, Error>>> {
        Box::pin(async move { self.admit(Rule::Root).await?.snapshot().await })
    }

    fn watch(
        &self,
        requests: BoxStream<'static, pb::WatchRequest>,
    ) -> Call<'_, BoxStream<'static, Result<pb::WatchResponse, Error>>> {
        Box::pin(async move {
            self.votes()?;
            // Checked for every watch: a stream may last longer than permissions do.
            let guard = Arc::new(Guard::new(self.local.clone(), self.caller.clone()));
            let judged = requests.then(move |request| {
                let guard = guard.clone();
                async move {
                    let refusal = guard.refuse_watch(&request).await;
                    (request, refusal)
                }
            });
            self.local.watch_judged(judged.boxed()).await
        })
    }
});

/// The calls for which the rule is not the only check.
impl Guard {
    // A store without authentication pays for one check and nothing else.
    fn range(&self, request: pb::RangeRequest) -> Call<'_, pb::RangeResponse> {
        if self.is_open() { Transport::range(&self.nobody, request) } else { Box::pin(self.range_checked(request)) }
    }

    fn put(&self, request: pb::PutRequest) -> Call<'_, pb::PutResponse> {
        if self.is_open() {
            return Transport::put(&self.nobody, request);
        }
        Box::pin(async move { self.pass(Rule::Content).await?.put(request).await })
    }

    fn txn(&self, request: pb::TxnRequest) -> Call<'_, pb::TxnResponse> {
        if self.is_open() { Transport::txn(&self.nobody, request) } else { Box::pin(self.txn_checked(request)) }
    }

    /// Permission on the keys is checked in the answer: the member that gives it may know more keys than this one.
    fn lease_time_to_live(&self, request: pb::LeaseTimeToLiveRequest) -> Call<'_, pb::LeaseTimeToLiveResponse> {
        Box::pin(async move {
            let local = self.pass(Rule::Somebody).await?;
            let answer = local.lease_time_to_live(request).await?;
            local.permit_keys(&answer.keys)?;
            Ok(answer)
        })
    }

    fn lease_leases(&self, request: pb::LeaseLeasesRequest) -> Call<'_, pb::LeaseLeasesResponse> {
        Box::pin(async move {
            let local = self.pass(Rule::Somebody).await?;
            let answer = local.lease_leases(request).await?;
            answer.leases.iter().try_for_each(|lease| local.permit_lease(Access::Read, lease.id))?;
            Ok(answer)
        })
    }

    fn alarm(&self, request: pb::AlarmRequest) -> Call<'_, pb::AlarmResponse> {
        let rule = if request.action() == AlarmAction::Get { Rule::Somebody } else { Rule::Root };
        Box::pin(async move { self.pass(rule).await?.alarm(request).await })
    }

    fn status(&self, request: pb::StatusRequest) -> Call<'_, pb::StatusResponse> {
        Box::pin(async move { self.admit(Rule::Somebody).await?.status(request).await })
    }
}
