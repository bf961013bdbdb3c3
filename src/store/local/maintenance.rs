//! Checksums of this member's state, and defragmentation.

use chorus_proto::etcdserverpb as pb;
use crc32c::crc32c_append;
use prost::Message;

use super::Local;
use crate::store::Error;
use crate::store::command;
use crate::store::compactor::Defragment;
use crate::store::corruption::{CorruptionChecker, Inconsistent};
use crate::store::mvcc::hash::Hash;
use crate::store::view::View;
use crate::world::NodeId;

impl Local {
    /// The HashKV at `revision`. For a revision at which this member compacted it is the checksum taken then.
    pub(in crate::store) async fn hash_history(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        let (hash, current) = match self.0.member.hashes.at(revision) {
            Some(hash) => (hash, self.0.member.view().revision()),
            None => {
                let metrics = &self.0.member.metrics;
                let _hashing = metrics.measure(&metrics.disk.hash_revision, None);
                self.read(true, move |view| Ok((view.hash_kv(revision)?, view.revision()))).await?
            }
        };
        let mut header = Some(pb::ResponseHeader { revision: current, ..Default::default() });
        self.sign(&mut header);
        let Hash { hash, compacted: compact_revision, revision: hash_revision } = hash;
        Ok(pb::HashKvResponse { header, hash, compact_revision, hash_revision })
    }

    /// The files with its records, for tests.
    #[cfg(test)]
    pub(in crate::store) fn data_segments(&self) -> Vec<crate::disk::segments::Listed> {
        self.0.member.ledger().segments.list().expect("the files are there")
    }

    #[cfg(test)]
    pub(in crate::store) fn member(&self) -> &crate::store::member_state::MemberState {
        &self.0.member
    }

    /// The checksums that this member took at compactions, the newest first.
    pub(in crate::store) fn compaction_hashes(&self) -> Vec<Hash> {
        self.0.member.hashes.newest_first()
    }

    /// Raises the CORRUPT alarm for `member`.
    pub(in crate::store) async fn raise_corrupt(&self, member: NodeId) -> Result<(), Error> {
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate as i32,
            member_id: member.0,
            alarm: pb::AlarmType::Corrupt as i32,
        };
        let command = pb::InternalRaftRequest { alarm: Some(alarm), ..Default::default() };
        self.0.proposals.propose(command).await.map(drop)
    }

    /// Compares this member with its peers before it serves clients; etcd's feature `InitialCorruptCheck`. An error is
    /// a reason not to start.
    pub async fn check_initially(&self) -> Result<(), Inconsistent> {
        let (raft, config) = (self.0.raft.clone(), &self.0.config);
        CorruptionChecker::new(self.clone(), raft, config.node, config.request_timeout()).check_initially().await
    }

    /// A checksum of the history, the leases and the alarms.
    pub async fn hash(&self, _: pb::HashRequest) -> Result<pb::HashResponse, Error> {
        let metrics = &self.0.member.metrics;
        let _hashing = metrics.measure(&metrics.disk.hash, None);
        let (hash, revision) = self
            .read(true, |view| {
                let history = view.hash_kv(0)?.hash;
                Ok((hash_beside_history(view, history), view.revision()))
            })
            .await?;
        let mut header = Some(pb::ResponseHeader { revision, ..Default::default() });
        self.sign(&mut header);
        Ok(pb::HashResponse { header, hash })
    }

    pub async fn hash_kv(&self, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, Error> {
        self.hash_history(request.revision).await
    }

    pub async fn defragment(&self, _: pb::DefragmentRequest) -> Result<pb::DefragmentResponse, Error> {
        tracing::info!("starting defragment");
        let metrics = &self.0.member.metrics;
        let _defragmenting = metrics.measure(&metrics.disk.defragmentation, Some(&metrics.disk.defragmenting));
        let given_back = self.0.compactor.send(Defragment).await.map_err(|_| Error::Stopped)?;
        if let Err(reason) = given_back {
            tracing::warn!(error = %reason, "failed to defragment");
            return Err(Error::Other { code: tonic::Code::Unknown as i32, message: reason });
        }
        tracing::info!("finished defragment");
        Ok(pb::DefragmentResponse { header: None })
    }
}

fn hash_beside_history(view: &View, mut hash: u32) -> u32 {
    for (id, lease) in view.state.leases.iter() {
        hash = crc32c_append(hash, b"lease");
        // The remaining TTL depends on when a member was last started, if only by seconds.
        for number in [id, lease.ttl] {
            hash = crc32c_append(hash, &number.to_be_bytes());
        }
    }
    for alarm in command::alarms(&view.state, 0) {
        hash = crc32c_append(crc32c_append(hash, b"alarm"), &alarm.encode_to_vec());
    }
    hash
}
