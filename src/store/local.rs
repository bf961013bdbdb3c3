//! The transport to the store of this very member.
//!
//! - [`answering`]: what other members ask of this one
//! - [`authored`]: what is done in an author's name
//! - [`cluster`]: the members, who leads them, and their versions
//! - [`maintenance`]: checksums and defragmentation
//!
//! ```text
//!   write ──checks──▶ proposal ──▶ raft ──▶ state machine of this member ──Waiting──▶ answer
//!   read  ──checks──▶ read barrier (unless serializable) ──▶ newest view ──▶ answer
//! ```

mod answering;
mod authored;
mod cluster;
mod maintenance;

use std::sync::Arc;

use actix::Addr;
use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::agreed::Release;
use super::auth::guard::Guard;
use super::auth::password::Passwords;
use super::auth::permit::Author;
use super::client::{Call, Caller, Client, Transport, Versions};
use super::command::{self, Answer};
use super::compactor::Compactor;
use super::leader_leases::LeaderLeases;
use super::metrics::{Exposed, Kind, Ops};
use super::mvcc::Fault;
use super::proposals::Proposals;
use super::records::{Ranged, Records};
use super::rpcs::rpcs;
use super::state_machine::Shared;
use super::view::View;
use super::watch::Streams;
use super::{Config, Error, checks, database};
use crate::actor::metrics::Source;
use crate::actor::{Budget, Gate};
use crate::raft;
use crate::world::panics::uncaught;
use crate::world::{Instant, World};

/// Large reads that run at once. More would only wait for the disk, and keep its threads from others.
const LARGE_READS_MAX: usize = 8;

/// Databases that are sent to clients at once. Each takes as much of the disk as the store.
const SNAPSHOTS_MAX: usize = 4;

/// The store of this member, as a transport, in somebody's name. Cheap to clone.
#[derive(Clone)]
pub struct Local(Arc<Inner>, Author);

struct Inner {
    world: World,
    config: Config,
    raft: raft::Handle,
    shared: Arc<Shared>,
    proposals: Proposals,
    watches: Streams,
    leases: LeaderLeases,
    compactor: Addr<Compactor>,
    passwords: Passwords,
    /// Reads that take long, of which a few run at once.
    large_reads: Gate,
    /// Databases that are being sent to clients.
    snapshots: Gate,
    /// Of the places of records that large ranges under way are yet to read.
    range_bytes: Budget,
}

impl Local {
    #[allow(clippy::too_many_arguments, reason = "the parts of a store, put together in one place")]
    pub(super) fn new(
        world: World,
        config: Config,
        raft: raft::Handle,
        shared: Arc<Shared>,
        proposals: Proposals,
        watches: Streams,
        leases: LeaderLeases,
        compactor: Addr<Compactor>,
    ) -> Local {
        let passwords = Passwords::new(&world, shared.metrics.bounds.clone());
        let (large_reads, snapshots) = (Gate::new(LARGE_READS_MAX), Gate::new(SNAPSHOTS_MAX));
        let range_bytes = Budget::new(config.limits.range_bytes_max);
        let inner = Inner {
            world,
            config,
            raft,
            shared,
            proposals,
            watches,
            leases,
            compactor,
            passwords,
            large_reads,
            snapshots,
            range_bytes,
        };
        let local = Local(Arc::new(inner), Author::Process);
        local.answer_others();
        local
    }

    pub(super) fn deadline(&self) -> Instant {
        self.0.world.clock.now() + self.0.config.request_timeout()
    }

    /// Waits until this member has applied all that was committed before this call.
    pub(super) async fn barrier(&self) -> Result<(), Error> {
        let read = self.0.raft.read_index(self.deadline()).await.map_err(Error::from);
        match &read {
            Ok(()) => {}
            Err(Error::Timeout) => self.0.shared.metrics.read_indexes_slow.inc(),
            Err(_) => self.0.shared.metrics.read_indexes_failed.inc(),
        }
        read
    }

    /// Reads a range as `range` does it.
    async fn read_range<T, F>(&self, request: pb::RangeRequest, range: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&View, &pb::RangeRequest) -> Result<T, Fault> + Send + 'static,
    {
        if !request.serializable {
            self.barrier().await?;
        }
        let metrics = &self.0.shared.metrics;
        let started = metrics.clock.now();
        let large = self.0.shared.view().is_large(&request);
        let author = self.1.clone();
        let read = move |view: &View| {
            // The view that is read also says what the author may read.
            view.permit_range(&author, &request)?;
            range(view, &request)
        };
        let answer = self.read(large, read).await;
        metrics.ranges[usize::from(answer.is_ok())].observe(metrics.clock.now() - started);
        metrics.read(&Ops { ranges: 1, ..Ops::default() });
        answer
    }

    /// What the store counts.
    pub fn metrics(&self) -> Arc<dyn Source> {
        Arc::new(Exposed(self.0.shared.clone()))
    }

    /// Reads from the newest view. A large read runs where it keeps no other task waiting.
    async fn read<T, F>(&self, large: bool, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&View) -> Result<T, Fault> + Send + 'static,
    {
        let shared = self.0.shared.clone();
        let look = move || read(&shared.view());
        let outcome = if large { self.read_away(look).await? } else { look() };
        outcome.map_err(Error::from)
    }

    /// Runs a large read when it is its turn, away from the tasks.
    async fn read_away<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let turn = {
            let waiting = &self.0.shared.metrics.bounds.large_reads_waiting;
            let _waiting = waiting.one_more();
            let turn = self.0.large_reads.wait();
            self.0.world.clock.timeout_at(self.deadline(), turn).await.map_err(|_| Error::Timeout)?
        };
        // A caller that goes away leaves its work behind: it counts until that is done.
        let (done, _turn) = self.0.world.spawner.blocking(move || (read(), turn)).await;
        Ok(done)
    }

    /// The header of an answer that shows the newest revision.
    pub(super) fn header(&self) -> pb::ResponseHeader {
        let mut header = Some(pb::ResponseHeader { revision: self.0.shared.view().revision(), ..Default::default() });
        self.sign(&mut header);
        header.unwrap_or_default()
    }

    /// Fills in who answers.
    fn sign(&self, header: &mut Option<pb::ResponseHeader>) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.0.config.cluster.0;
        header.member_id = self.0.config.node.0;
        header.raft_term = self.0.raft.leadership().borrow().term.0;
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Refused(error) => error,
            fault => {
                tracing::error!(%fault, "a read failed");
                Error::Other { code: tonic::Code::Internal as i32, message: format!("etcdserver: {fault}") }
            }
        }
    }
}

impl From<raft::Error> for Error {
    fn from(error: raft::Error) -> Error {
        match error {
            raft::Error::NoLeader => Error::NoLeader,
            raft::Error::Timeout => Error::Timeout,
            raft::Error::Busy => Error::TooManyRequests,
            raft::Error::Stopped => Error::Stopped,
            raft::Error::MemberNotFound(_) => Error::MemberNotFound,
            raft::Error::MemberExists(_) => Error::MemberExists,
            raft::Error::PeerUrlExists(_) => Error::PeerUrlExists,
            raft::Error::NotLearner(_) => Error::MemberNotLearner,
            raft::Error::LearnerNotReady(_) => Error::LearnerNotReady,
            raft::Error::NotEnoughStarted | raft::Error::LastVoter => Error::MemberNotEnoughStarted,
            raft::Error::Unhealthy => Error::Unhealthy,
            raft::Error::TooManyLearners => Error::TooManyLearners,
            raft::Error::BadTransferee(_) => Error::BadLeaderTransferee,
            other => Error::Other { code: tonic::Code::Unknown as i32, message: format!("etcdserver: {other}") },
        }
    }
}

/// Proposes `$request` as the command's field `$field` and takes the answer of the same kind, signed.
macro_rules! propose {
    ($self:ident, $field:ident: $request:expr, $kind:ident) => {{
        let command = pb::InternalRaftRequest { $field: Some($request), ..Default::default() };
        match $self.propose(command).await? {
            Answer::$kind(mut answer) => {
                $self.sign(&mut answer.header);
                Ok::<_, Error>(answer)
            }
            other => unreachable!("a command is answered in kind, not by {other:?}"),
        }
    }};
}

macro_rules! answers {
    (
        given { $($given:tt)* }
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $again:ident, $($json:literal)|+;
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
        self.0.shared.authenticates()
    }

    fn is_learner(&self) -> bool {
        self.is_without_vote()
    }

    fn versions(&self) -> Versions {
        let agreed = self.0.shared.view().state.agreed;
        let text = |release: Option<Release>| release.map(|release| release.to_string());
        Versions { cluster: text(agreed.cluster), storage: Some(agreed.storage().to_string()) }
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

impl Local {
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        checks::range(&request)?;
        let metrics = &self.0.shared.metrics;
        let started = metrics.clock.now();
        let answer = self.read_range(request, View::range).await;
        metrics.requested(Kind::Range, answer.is_ok(), started);
        let mut answer = answer?;
        self.sign(&mut answer.header);
        Ok(answer)
    }

    pub async fn range_in_records(&self, request: pb::RangeRequest) -> Result<Ranged, Error> {
        checks::range(&request)?;
        if !self.0.shared.view().is_large(&request) {
            return self.range(request).await.map(Ranged::Whole);
        }
        let metrics = &self.0.shared.metrics;
        let started = metrics.clock.now();
        let records = self.read_range(request, View::range_in_records).await;
        metrics.requested(Kind::Range, records.is_ok(), started);
        let bounds = &self.0.shared.metrics.bounds;
        let mut records = Records::new(records?, &self.0.world, bounds.clone());
        let share = self.0.range_bytes.take(records.places_bytes()).map_err(|_| {
            bounds.large_reads_refused.inc();
            Error::TooManyRequests
        })?;
        records.hold(share);
        self.sign(records.header());
        Ok(Ranged::InRecords(records))
    }

    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        checks::put(&request)?;
        self.0.proposals.reserve(checks::put_cost(&request)).await?;
        propose!(self, put: request, Put)
    }

    pub async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        checks::delete_range(&request)?;
        propose!(self, delete_range: request, DeleteRange)
    }

    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.check_txn(&request)?;
        if !checks::is_read_only(&request) {
            self.0.shared.view().check_txn(&request)?;
            self.0.proposals.reserve(checks::txn_cost(&request)).await?;
            return propose!(self, txn: request, Txn);
        }
        if !checks::is_serializable(&request) {
            self.barrier().await?;
        }
        self.txn_now(request).await
    }

    pub async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        let pb::CompactionRequest { revision, physical } = request;
        let answer = propose!(self, compaction: request, Compact)?;
        if physical {
            let swept = self.0.shared.wait_swept(revision);
            self.0.world.clock.timeout_at(self.deadline(), swept).await.map_err(|_| Error::Timeout)?;
        }
        Ok(answer)
    }

    pub async fn lease_grant(&self, mut request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        checks::lease_grant(&request)?;
        self.0.proposals.reserve(checks::LEASE_COST).await?;
        // Drawn and raised here, so that applying it is the same on every member.
        while request.id == 0 {
            request.id = (self.0.world.random.u64() & i64::MAX as u64) as i64;
        }
        request.ttl = request.ttl.max(self.0.config.lease_ttl_min());
        propose!(self, lease_grant: request, LeaseGrant)
    }

    pub async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error> {
        propose!(self, lease_revoke: request, LeaseRevoke)
    }

    pub async fn lease_keep_alive(
        &self,
        request: pb::LeaseKeepAliveRequest,
    ) -> Result<pb::LeaseKeepAliveResponse, Error> {
        // Taken first: the revision of the answer is not above that of the lease's revocation.
        let header = self.header();
        let answer = self.0.leases.keep_alive(request).await?;
        Ok(pb::LeaseKeepAliveResponse { header: Some(header), ..answer })
    }

    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let answer = self.0.leases.time_to_live(request).await?;
        Ok(pb::LeaseTimeToLiveResponse { header: Some(self.header()), ..answer })
    }

    pub async fn lease_leases(&self, _request: pb::LeaseLeasesRequest) -> Result<pb::LeaseLeasesResponse, Error> {
        let leases = self.0.leases.list().await?;
        Ok(pb::LeaseLeasesResponse { header: Some(self.header()), leases })
    }

    pub async fn status(&self, _request: pb::StatusRequest) -> Result<pb::StatusResponse, Error> {
        let raft = self.0.raft.status();
        let agreed = self.0.shared.view().state.agreed;
        let size = self.0.shared.size() as i64;
        let mut errors = Vec::new();
        if raft.leader.is_none() {
            errors.push(Error::NoLeader.to_wire().1.to_owned());
        }
        let mut alarms = command::alarms(&self.0.shared.view().state, 0);
        if self.0.raft.is_short_of_space() {
            let (member_id, alarm) = (self.0.config.node.0, pb::AlarmType::Nospace as i32);
            alarms.push(pb::AlarmMember { member_id, alarm });
        }
        for alarm in alarms {
            // As Go prints a message: what is zero is left out.
            let member = if alarm.member_id == 0 { String::new() } else { format!("memberID:{} ", alarm.member_id) };
            errors.push(format!("{member}alarm:{} ", alarm.alarm().as_str_name()));
        }
        Ok(pb::StatusResponse {
            header: Some(self.header()),
            version: self.0.config.version.clone(),
            db_size: size,
            db_size_in_use: size,
            // As etcd shows that there is none.
            db_size_quota: self.0.config.limits.quota_bytes.map_or(-1, |bytes| bytes as i64),
            leader: raft.leader.map_or(0, |leader| leader.0),
            raft_index: raft.committed,
            raft_term: raft.term.0,
            raft_applied_index: raft.applied,
            errors,
            is_learner: raft.is_learner,
            storage_version: agreed.storage().to_string(),
            downgrade_info: Some(pb::DowngradeInfo {
                enabled: agreed.downgrade.is_some(),
                target_version: agreed.downgrade.map(|target| target.to_string()).unwrap_or_default(),
            }),
        })
    }

    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Error> {
        propose!(self, alarm: request, Alarm)
    }

    pub async fn snapshot(&self) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Error>>, Error> {
        let metrics = &self.0.shared.metrics;
        let turn = self.0.snapshots.enter().map_err(|_| {
            metrics.bounds.snapshots_refused.inc();
            Error::TooManyRequests
        })?;
        let _spooling = metrics.measure(&metrics.disk.snapshot, None);
        database::stream(&self.0.world, self.0.shared.clone(), turn).await
    }
}
