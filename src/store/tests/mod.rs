//! The store without consensus: commands go straight into the state machine of one member.

mod auth;
mod background;
mod commands;
mod conformance;
mod flips;
mod full;
mod golden;
mod history;
mod leaders;
mod learner;
mod model;
mod recovery;
mod single;
mod work;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request;
use chorus_proto::mvccpb::KeyValue;
use prost::Message;

use super::command::Answer;
use super::ledger::Ledger;
use super::member_state::MemberState;
use super::open::Store;
use super::open_error::OpenError;
use super::state_machine::StateMachine;
use super::waiting::Outcome;
use super::{Config, Error, checks};
use crate::raft::ClusterId;
use crate::raft::machine::{Committed, Machine, Payload, Position};
use crate::world::disk::Open;
use crate::world::{MemoryDisk, NodeId, Random, World};

/// One member's state machine on a disk in memory.
pub struct Member {
    pub disk: MemoryDisk,
    pub world: World,
    pub machine: StateMachine,
    pub next_index: u64,
}

impl Member {
    pub fn new(seed: u64) -> Member {
        Member::on(seed, MemoryDisk::new()).expect("an empty disk opens")
    }

    pub fn on(seed: u64, disk: MemoryDisk) -> Result<Member, OpenError> {
        Member::with(seed, disk, |_| ())
    }

    pub fn with(seed: u64, disk: MemoryDisk, tune: impl FnOnce(&mut Config)) -> Result<Member, OpenError> {
        let world = World::simulated(seed, disk.clone());
        let mut config = Config::new("/data".into(), NodeId(1), ClusterId(1));
        tune(&mut config);
        let (machine, _) = Store::open(&world, config)?;
        let next_index = machine.applied().at.map_or(1, |at| at.index + 1);
        Ok(Member { disk, world, machine, next_index })
    }

    pub fn state(&self) -> &MemberState {
        &self.machine.member
    }

    /// Ends the process and starts it again; what was not synced may be lost.
    pub fn crash(self, seed: u64) -> Member {
        let disk = self.disk.clone();
        drop(self);
        disk.crash(&Random::from_seed(seed));
        Member::on(seed, disk).expect("what a crash leaves opens")
    }

    /// Ends the process and starts it again; everything written is there.
    pub fn restart(self) -> Member {
        let disk = self.disk.clone();
        drop(self);
        Member::on(7, disk).expect("what was written opens")
    }

    /// Writes the index of this moment.
    pub fn checkpoint(&self) {
        let checkpoint = self.state().ledger().checkpoint().unwrap();
        self.state().ledger().segments.sync().unwrap();
        checkpoint.write(&self.world).unwrap();
    }

    /// Lays down files of `sender` as those of a snapshot that arrived, and says where.
    pub fn receive(&mut self, sender: &Member, files: &[PathBuf]) -> PathBuf {
        let directory = self.machine.incoming().unwrap();
        for file in files {
            let path = directory.join(file.file_name().unwrap());
            let copy = self.world.disk.open(&path, Open::CreateNew).unwrap();
            copy.write_all_at(&sender.world.disk.read(file).unwrap(), 0).unwrap();
            copy.sync_data().unwrap();
        }
        directory
    }

    /// Applies `commands` as one log entry and gives their outcomes.
    pub fn apply_all(&mut self, commands: Vec<pb::InternalRaftRequest>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut marshalled = Vec::new();
        for mut command in commands {
            let (id, outcome) = self.state().waiting.register().unwrap();
            command.header = Some(self.state().waiting.header(id));
            marshalled.push(Bytes::from(command.encode_to_vec()));
            outcomes.push(outcome);
        }
        self.apply_payload(Payload::Batch(marshalled));
        outcomes.into_iter().map(|mut outcome| outcome.try_recv().expect("applying answers")).collect()
    }

    pub fn apply_payload(&mut self, payload: Payload) {
        let at = Position { term: 1, index: self.next_index };
        self.next_index += 1;
        self.machine.apply(vec![Committed { at, payload }]).unwrap();
    }

    fn apply(&mut self, command: pb::InternalRaftRequest) -> Outcome {
        self.apply_all(vec![command]).pop().expect("one outcome a command")
    }

    pub fn put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        checks::put(&request)?;
        match self.apply(put_command(request))? {
            Answer::Put(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    pub fn delete(&mut self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        checks::delete_range(&request)?;
        match self.apply(pb::InternalRaftRequest { delete_range: Some(request), ..Default::default() })? {
            Answer::DeleteRange(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    pub fn txn(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        checks::txn(&request, 128)?;
        if checks::is_read_only(&request) {
            return Ok(self.state().view().txn(request)?.0);
        }
        match self.apply(pb::InternalRaftRequest { txn: Some(request), ..Default::default() })? {
            Answer::Txn(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    pub fn compact(&mut self, revision: i64) -> Result<i64, Error> {
        let request = pb::CompactionRequest { revision, physical: false };
        match self.apply(pb::InternalRaftRequest { compaction: Some(request), ..Default::default() })? {
            Answer::Compact(answer) => Ok(revision_of(&answer.header)),
            other => panic!("{other:?}"),
        }
    }

    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<i64, Error> {
        let request = pb::LeaseGrantRequest { id, ttl };
        checks::lease_grant(&request)?;
        match self.apply(pb::InternalRaftRequest { lease_grant: Some(request), ..Default::default() })? {
            Answer::LeaseGrant(answer) => Ok(revision_of(&answer.header)),
            other => panic!("{other:?}"),
        }
    }

    pub fn revoke(&mut self, id: i64) -> Result<i64, Error> {
        let request = pb::LeaseRevokeRequest { id };
        match self.apply(pb::InternalRaftRequest { lease_revoke: Some(request), ..Default::default() })? {
            Answer::LeaseRevoke(answer) => Ok(revision_of(&answer.header)),
            other => panic!("{other:?}"),
        }
    }

    pub fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        checks::range(&request)?;
        Ok(self.state().view().range(&request)?)
    }

    pub fn sweep_all(&self) {
        let mut ledger = self.state().ledger();
        while ledger.sweep(3).is_some() {}
        self.state().publish(&ledger);
    }

    pub fn ledger_path(&self) -> &Path {
        Path::new("/data/state")
    }

    pub fn with_ledger<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.state().ledger();
        let done = work(&mut ledger);
        self.state().publish(&ledger);
        done
    }
}

pub fn put_command(request: pb::PutRequest) -> pb::InternalRaftRequest {
    pb::InternalRaftRequest { put: Some(request), ..Default::default() }
}

pub fn revision_of(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), ..Default::default() }
}

pub fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: bytes("\0"), range_end: bytes("\0"), ..Default::default() }
}

pub fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), ..Default::default() }
}

pub fn delete_range(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { range_end: bytes(range_end), ..delete(key) }
}

pub fn ops(ops: Vec<Request>) -> Vec<pb::RequestOp> {
    ops.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect()
}

/// A key as the contract writes it: `a{2,5,2,"9"}`.
pub fn shown(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease {}", kv.lease) };
    let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    format!("{key}{{{},{},{},{value:?}}}{lease}", kv.create_revision, kv.mod_revision, kv.version)
}

/// An answer as the contract writes it.
pub fn shown_range(answer: &pb::RangeResponse) -> String {
    let mut parts = vec![format!("rev {}", revision_of(&answer.header))];
    parts.extend(answer.kvs.iter().map(shown));
    if answer.more {
        parts.push("more".to_owned());
    }
    if answer.count > 0 {
        parts.push(format!("count {}", answer.count));
    }
    parts.join("; ")
}
