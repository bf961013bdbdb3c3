//! Plays operations on one server. What may differ between servers is taken out of the answers: the ids, the Raft term,
//! the order where etcd gives none, and what is left of a lease's time.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use chorus_proto::etcdserverpb::lease_client::LeaseClient;
use chorus_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use chorus_proto::etcdserverpb::response_op::Response;
use chorus_proto::etcdserverpb::watch_client::WatchClient;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use chorus_proto::mvccpb::Event;
use futures::{StreamExt, stream};
use tonic::Status;
use tonic::transport::Channel;

use crate::history::{self, Operation};
use crate::server::Server;

/// What came back, or code and text of the refusal.
pub type Answer = Result<Said, (tonic::Code, String)>;

#[derive(Debug, PartialEq)]
pub enum Said {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    HashKv(pb::HashKvResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
    KeepAlive(Option<pb::LeaseKeepAliveResponse>),
    TimeToLive(pb::LeaseTimeToLiveResponse),
    Leases(pb::LeaseLeasesResponse),
    Defragment,
    Restart,
}

pub struct Player {
    server: Server,
    channel: Channel,
    /// The newest revision that an answer told of.
    newest: i64,
    compacted: i64,
    /// Major and minor of the etcd that is compared with.
    version: (u32, u32),
}

impl Player {
    pub async fn new(mut server: Server, version: (u32, u32)) -> Player {
        let channel = server.channel().await;
        Player { server, channel, newest: 1, compacted: 0, version }
    }

    pub async fn play(&mut self, operation: &Operation) -> Answer {
        self.ask(operation).await.map_err(|refused| match operation {
            // Older ones look at the puts of a transaction before its ranges.
            Operation::Txn(_) if self.version < (3, 7) => (tonic::Code::Unknown, "refused".to_owned()),
            _ => (refused.code(), refused.message().to_owned()),
        })
    }

    async fn ask(&mut self, operation: &Operation) -> Result<Said, Status> {
        let mut kv = KvClient::new(self.channel.clone());
        let mut lease = LeaseClient::new(self.channel.clone());
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        Ok(match operation {
            Operation::Range(request) => {
                let mut said = kv.range(history::resolved_range(request, self.newest)).await?.into_inner();
                self.note(&mut said.header);
                self.age(&mut said);
                Said::Range(said)
            }
            Operation::Put(request) => {
                let mut said = kv.put(request.clone()).await?.into_inner();
                self.note(&mut said.header);
                Said::Put(said)
            }
            Operation::DeleteRange(request) => {
                let mut said = kv.delete_range(request.clone()).await?.into_inner();
                self.note(&mut said.header);
                Said::DeleteRange(said)
            }
            Operation::Txn(request) => {
                let mut said = kv.txn(history::resolved_txn(request, self.newest)).await?.into_inner();
                self.note(&mut said.header);
                self.age_all(&mut said.responses);
                Said::Txn(said)
            }
            Operation::Compact { back } => {
                let revision = history::revision(*back, self.newest);
                // Older etcds remember no checksum of a compaction before the first revision.
                let revision = if self.version < (3, 6) { revision.max(1) } else { revision };
                let mut said = kv.compact(pb::CompactionRequest { revision, physical: true }).await?.into_inner();
                self.note(&mut said.header);
                self.compacted = self.compacted.max(revision);
                Said::Compact(said)
            }
            Operation::HashKv { back } => {
                let revision = history::revision(*back, self.newest);
                let mut said = maintenance.hash_kv(pb::HashKvRequest { revision }).await?.into_inner();
                self.note(&mut said.header);
                said.hash_revision = if self.version < (3, 6) { 0 } else { said.hash_revision };
                Said::HashKv(said)
            }
            Operation::Grant { id, ttl } => {
                let mut said = lease.lease_grant(pb::LeaseGrantRequest { id: *id, ttl: *ttl }).await?.into_inner();
                self.note(&mut said.header);
                Said::Grant(said)
            }
            Operation::Revoke { id } => {
                let mut said = lease.lease_revoke(pb::LeaseRevokeRequest { id: *id }).await?.into_inner();
                self.note(&mut said.header);
                Said::Revoke(said)
            }
            Operation::KeepAlive { id } => {
                let asked = stream::iter([pb::LeaseKeepAliveRequest { id: *id }]);
                let mut said = lease.lease_keep_alive(asked).await?.into_inner().message().await?;
                if let Some(said) = &mut said {
                    self.note(&mut said.header);
                }
                Said::KeepAlive(said)
            }
            Operation::TimeToLive { id, keys } => {
                let asked = pb::LeaseTimeToLiveRequest { id: *id, keys: *keys };
                let mut said = lease.lease_time_to_live(asked).await?.into_inner();
                self.note(&mut said.header);
                said.keys.sort();
                said.ttl = said.ttl.signum();
                Said::TimeToLive(said)
            }
            Operation::Leases => {
                let mut said = lease.lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner();
                self.note(&mut said.header);
                said.leases.sort_by_key(|lease| lease.id);
                Said::Leases(said)
            }
            Operation::Defragment => {
                maintenance.defragment(pb::DefragmentRequest {}).await?;
                Said::Defragment
            }
            Operation::Restart => {
                self.server.restart();
                self.channel = self.server.channel().await;
                Said::Restart
            }
        })
    }

    /// All events since the last compaction, as one watch gives them.
    pub async fn events(&mut self) -> Vec<Event> {
        if self.newest <= self.compacted.max(1) {
            return Vec::new();
        }
        let everything = bytes::Bytes::from_static(b"\0");
        let create = pb::WatchCreateRequest {
            key: everything.clone(),
            range_end: everything,
            start_revision: self.compacted + 1,
            prev_kv: true,
            ..Default::default()
        };
        let asked = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let asked = stream::iter([asked]).chain(stream::pending());
        let mut watch = WatchClient::new(self.channel.clone()).watch(asked).await.expect("a stream").into_inner();
        let mut events: Vec<Event> = Vec::new();
        let modified = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        while events.last().map_or(0, modified) < self.newest {
            let told = tokio::time::timeout(std::time::Duration::from_secs(30), watch.message());
            let told = told.await.expect("events come in time").expect("the watch lives").expect("the stream is open");
            events.extend(told.events);
        }
        events
    }

    fn note(&mut self, header: &mut Option<pb::ResponseHeader>) {
        let header = header.as_mut().expect("every answer has a header");
        self.newest = self.newest.max(header.revision);
        *header = pb::ResponseHeader { revision: header.revision, ..Default::default() };
    }

    /// Newer ones give no lease where they read no values.
    fn age(&self, said: &mut pb::RangeResponse) {
        if self.version < (3, 7) {
            said.kvs.iter_mut().filter(|kv| kv.value.is_empty()).for_each(|kv| kv.lease = 0);
        }
    }

    fn age_all(&self, said: &mut [pb::ResponseOp]) {
        for op in said {
            match &mut op.response {
                Some(Response::ResponseRange(range)) => self.age(range),
                Some(Response::ResponseTxn(txn)) => self.age_all(&mut txn.responses),
                _ => {}
            }
        }
    }
}
