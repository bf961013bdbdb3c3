//! Applying one command: a pure function of the state and the command, which may also read records.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::alarm_request::AlarmAction;
use chorus_proto::mvccpb::KeyValue;

use super::auth::manage::{self, Managed};
use super::auth::permit;
use super::auth::sessions::{self, Session};
use super::cluster_version::ClusterVersion;
use super::journal::Step;
use super::metrics::Ops;
use super::mvcc::read::header;
use super::mvcc::txn::{self, Path};
use super::mvcc::{Fault, Transaction, Values};
use super::range::KeyRange;
use super::state::State;
use super::{Error, checks};
use crate::disk::Position;
use crate::world::Term;
use crate::world::planted::planted;

/// The changes of the commands of one log entry, not yet written.
#[derive(Debug, Default)]
pub struct Batch {
    pub steps: Vec<Step>,
    /// In the order of the steps.
    pub records: Vec<KeyValue>,
    /// Counts of the operations, for the metrics.
    pub ops: Ops,
    /// Changes of tokens, which are no part of the state.
    pub sessions: Vec<Session>,
    /// The entry.
    pub at: Position,
}

/// The answer to a command. Its header carries the revision alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    Alarm(pb::AlarmResponse),
    /// The user exists and authentication is enabled, at this revision of users and roles.
    Authenticated {
        token: String,
        revision: u64,
    },
    /// To a command that no client waits for.
    Done,
}

/// Applies `command`. [`Fault::Refused`] changed nothing and is the answer; any other fault is fatal. With `answer`
/// false, what only an answer needs is left out.
pub fn apply<V: Values>(
    state: &mut State,
    stored: &V,
    batch: &mut Batch,
    command: pb::InternalRaftRequest,
    answer: bool,
) -> Result<Answer, Fault> {
    checks::command(&command)?;
    if !planted!("auth-unchecked") {
        permit::command(state, &command)?;
    }
    if let Some(request) = command.put {
        put(state, stored, batch, request, answer).map(Answer::Put)
    } else if let Some(request) = command.txn {
        transact(state, stored, batch, request, answer).map(Answer::Txn)
    } else if let Some(request) = command.delete_range {
        delete_range(state, stored, batch, request, answer).map(Answer::DeleteRange)
    } else if let Some(request) = command.lease_grant {
        lease_grant(state, batch, request).map(Answer::LeaseGrant)
    } else if let Some(request) = command.lease_revoke {
        lease_revoke(state, stored, batch, request).map(Answer::LeaseRevoke)
    } else if let Some(request) = command.lease_checkpoint {
        lease_checkpoint(state, batch, &request);
        Ok(Answer::Done)
    } else if let Some(request) = command.cluster_version_set {
        if let Ok(release) = request.ver.parse() {
            set_cluster_version(state, batch, ClusterVersion { version: Some(release), ..state.cluster_version });
        }
        Ok(Answer::Done)
    } else if let Some(request) = command.downgrade_info_set {
        let target = request.ver.parse().ok().filter(|_| request.enabled);
        set_cluster_version(state, batch, ClusterVersion { downgrade: target, ..state.cluster_version });
        Ok(Answer::Done)
    } else if let Some(request) = command.compaction {
        compact(state, batch, request).map(Answer::Compact)
    } else if let Some(request) = command.alarm {
        Ok(Answer::Alarm(alarm(state, batch, request)))
    } else if let Some(request) = command.authenticate {
        authenticate(state, batch, request)
    } else {
        change_auth(state, batch, &command)
    }
}

/// Runs `change` as one transaction and notes what it changed.
fn write<V: Values, T>(
    state: &mut State,
    stored: &V,
    batch: &mut Batch,
    change: impl FnOnce(&mut Transaction<V>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut txn = Transaction::begin(&mut state.index, &mut state.leases, stored, &mut batch.records);
    let answer = change(&mut txn)?;
    let (changes, ops) = (txn.changes(), txn.ops);
    let revision = txn.end();
    batch.ops.add(&ops);
    if changes > 0 {
        batch.steps.push(Step::Write { revision, changes });
    }
    Ok(answer)
}

/// Writes are refused while the cluster is known to be corrupt, and those that grow it while it is full.
fn check_alarms(state: &State, grows: bool) -> Result<(), Error> {
    if state.has_alarm(pb::AlarmType::Corrupt) {
        return Err(Error::Corrupt);
    }
    if grows && state.has_alarm(pb::AlarmType::Nospace) {
        return Err(Error::NoSpace);
    }
    Ok(())
}

fn put<V: Values>(
    state: &mut State,
    stored: &V,
    batch: &mut Batch,
    request: pb::PutRequest,
    answer: bool,
) -> Result<pb::PutResponse, Fault> {
    check_alarms(state, true)?;
    txn::check_put(&state.index, &state.leases, &request)?;
    write(state, stored, batch, |txn| txn::put(txn, request, answer))
}

fn delete_range<V: Values>(
    state: &mut State,
    stored: &V,
    batch: &mut Batch,
    request: pb::DeleteRangeRequest,
    answer: bool,
) -> Result<pb::DeleteRangeResponse, Fault> {
    check_alarms(state, false)?;
    write(state, stored, batch, |txn| txn::delete_range(txn, request, answer))
}

fn transact<V: Values>(
    state: &mut State,
    stored: &V,
    batch: &mut Batch,
    request: pb::TxnRequest,
    answer: bool,
) -> Result<pb::TxnResponse, Fault> {
    check_alarms(state, checks::has_put(&request))?;
    let path = {
        let txn = Transaction::begin(&mut state.index, &mut state.leases, stored, &mut batch.records);
        Path::choose(txn.index, &txn.values(), &request)?
    };
    txn::check(&state.index, &state.leases, &request, &path)?;
    write(state, stored, batch, |txn| txn::run(txn, request, &path, answer))
}

fn lease_grant(
    state: &mut State,
    batch: &mut Batch,
    request: pb::LeaseGrantRequest,
) -> Result<pb::LeaseGrantResponse, Fault> {
    check_alarms(state, true)?;
    let pb::LeaseGrantRequest { id, ttl } = request;
    state.leases.grant(id, ttl, batch.at.index)?;
    batch.steps.push(Step::Grant { lease: id, ttl, remaining_ttl: 0 });
    Ok(pb::LeaseGrantResponse { header: Some(header(state.index.revision)), id, ttl, ..Default::default() })
}

/// Deletes the attached keys, in order and under one revision, and the lease.
fn lease_revoke<V: Values>(
    state: &mut State,
    stored: &V,
    batch: &mut Batch,
    request: pb::LeaseRevokeRequest,
) -> Result<pb::LeaseRevokeResponse, Fault> {
    check_alarms(state, false)?;
    let keys = state.leases.get(request.id).ok_or(Error::LeaseNotFound)?.keys.clone();
    write(state, stored, batch, |txn| {
        for key in &keys {
            txn.delete_range(&KeyRange::single(key.to_bytes()));
        }
        Ok(())
    })?;
    state.leases.remove(request.id);
    batch.steps.push(Step::Revoke { lease: request.id });
    Ok(pb::LeaseRevokeResponse { header: Some(header(state.index.revision)) })
}

fn set_cluster_version(state: &mut State, batch: &mut Batch, next: ClusterVersion) {
    if state.cluster_version != next {
        state.cluster_version = next;
        batch.steps.push(Step::ClusterVersion(next));
    }
}

fn lease_checkpoint(state: &mut State, batch: &mut Batch, request: &pb::LeaseCheckpointRequest) {
    for &pb::LeaseCheckpoint { id, remaining_ttl } in &request.checkpoints {
        state.leases.checkpoint(Term(batch.at.term), id, remaining_ttl);
        batch.steps.push(Step::Remaining { lease: id, ttl: remaining_ttl });
    }
}

fn compact(
    state: &mut State,
    batch: &mut Batch,
    request: pb::CompactionRequest,
) -> Result<pb::CompactionResponse, Fault> {
    check_alarms(state, false)?;
    state.index.compact(request.revision)?;
    batch.steps.push(Step::Compact { revision: request.revision });
    Ok(pb::CompactionResponse { header: Some(header(state.index.revision)) })
}

/// Raising or disarming an alarm a second time changes nothing.
fn alarm(state: &mut State, batch: &mut Batch, request: pb::AlarmRequest) -> pb::AlarmResponse {
    let (member, alarm) = (request.member_id, request.alarm);
    let header = Some(header(state.index.revision));
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => alarms(state, alarm),
        Ok(AlarmAction::Activate) if alarm != pb::AlarmType::None as i32 => {
            if state.alarms.insert((member, alarm)).is_none() {
                batch.steps.push(Step::Raise { member, alarm });
            }
            vec![pb::AlarmMember { member_id: member, alarm }]
        }
        Ok(AlarmAction::Deactivate) if state.alarms.remove(&(member, alarm)).is_some() => {
            batch.steps.push(Step::Disarm { member, alarm });
            vec![pb::AlarmMember { member_id: member, alarm }]
        }
        _ => Vec::new(),
    };
    pb::AlarmResponse { header, alarms }
}

/// The member that proposed this has checked the password.
fn authenticate(state: &State, batch: &mut Batch, request: pb::InternalAuthenticateRequest) -> Result<Answer, Fault> {
    manage::authenticate(&state.auth, &request)?;
    let mut token = String::new();
    if !request.simple_token.is_empty() {
        token = sessions::token(&request.simple_token, batch.at.index);
        batch.sessions.push(Session::Begun { user: request.name, token: token.clone() });
    }
    Ok(Answer::Authenticated { token, revision: state.auth.revision })
}

/// Changes users and roles, if that is what the command is about. Other commands change nothing.
fn change_auth(state: &mut State, batch: &mut Batch, command: &pb::InternalRaftRequest) -> Result<Answer, Fault> {
    if let Some(managed) = manage::manage(&state.auth, command) {
        let Managed { changes, session } = managed?;
        for change in changes {
            state.auth.follow(&change)?;
            batch.steps.push(Step::Auth(change));
        }
        batch.sessions.extend(session);
    }
    Ok(Answer::Done)
}

/// The alarms of one kind, of all members, or of every kind when that is `NONE`.
pub fn alarms(state: &State, kind: i32) -> Vec<pb::AlarmMember> {
    let matches = |(_, alarm): &&(u64, i32)| kind == pb::AlarmType::None as i32 || kind == *alarm;
    let row = |(member_id, alarm): &(u64, i32)| pb::AlarmMember { member_id: *member_id, alarm: *alarm };
    state.alarms.iter().filter(matches).map(row).collect()
}
