//! A view as etcd's database.
//!
//! The file gets the history that a finished compaction leaves, whether or not this member's sweep is done: all members
//! with the same state write the same file.

use std::collections::BTreeMap;

use prost::Message;

use super::keys::{self, ConfState, DowngradeRow, LeaseRow, MemberRow};
use crate::disk::bbolt::Writer;
use crate::disk::{self, Position};
use crate::raft::Member;
use crate::store::auth::Auth;
use crate::store::cluster_version::{ClusterVersion, Release};
use crate::store::mvcc::{Change, Fault, Index, Rev, Values};
use crate::store::state::State;
use crate::world::NodeId;

const FORMATS_NAMED: Release = Release { major: 3, minor: 6 };

/// Contents of the file besides the state.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The entry up to which the log is in it.
    pub applied: Position,
    pub members: Vec<Member>,
    pub removed: Vec<NodeId>,
    /// Whether the file has the versions that the members agreed on: an older etcd refuses it then.
    pub versions: bool,
}

/// Writes all buckets.
pub fn write(state: &State, values: &impl Values, facts: &Facts, file: &mut Writer) -> Result<(), Fault> {
    write_keys(&state.index, values, file)?;
    let leases = state.leases.iter().map(|(id, lease)| {
        let row = LeaseRow { id, ttl: lease.ttl, remaining_ttl: state.leases.remaining_seconds(lease) };
        (id.to_be_bytes().to_vec(), row.encode_to_vec())
    });
    let alarms = state.alarms.iter().map(|(member, kind)| (keys::alarm(*member, *kind), Vec::new()));
    let members =
        facts.members.iter().map(|member| (keys::member_key(member.id), keys::json(&MemberRow::from(member))));
    let removed = facts.removed.iter().map(|id| (keys::member_key(*id), b"removed".to_vec()));
    let users = state.auth.users().map(|(name, user)| (name.into(), user.encode_to_vec()));
    let roles = state.auth.roles().map(|(name, role)| (name.into(), role.encode_to_vec()));
    for (name, rows) in [
        (keys::META, meta(state, facts)),
        (keys::LEASE, leases.collect()),
        (keys::ALARM, alarms.collect()),
        (keys::CLUSTER, if facts.versions { cluster(&state.cluster_version) } else { Rows::new() }),
        (keys::MEMBERS, members.collect()),
        (keys::MEMBERS_REMOVED, removed.collect()),
        (keys::AUTH, auth(&state.auth)),
        (keys::AUTH_USERS, users.collect()),
        (keys::AUTH_ROLES, roles.collect()),
    ] {
        write_bucket(name, &rows, file)?;
    }
    Ok(())
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn write_bucket(name: &[u8], rows: &Rows, file: &mut Writer) -> Result<(), disk::Error> {
    file.bucket(name)?;
    rows.iter().try_for_each(|(key, value)| file.put(key, value))
}

fn write_keys(index: &Index, values: &impl Values, file: &mut Writer) -> Result<(), Fault> {
    file.bucket(keys::KEY)?;
    for (at, change) in index.changes_from(Rev::NONE).filter(|(at, change)| survives(index, *at, change)) {
        file.put(&keys::revision(at, change.is_deletion()), &values.record(change.slot)?)?;
    }
    Ok(())
}

/// Whether a finished compaction leaves a change.
fn survives(index: &Index, at: Rev, change: &Change) -> bool {
    at.main > index.compacted
        || (at.main == index.compacted && change.is_deletion())
        || index.is_kept(at, change, index.compacted)
}

fn meta(state: &State, facts: &Facts) -> Rows {
    let index = &state.index;
    let mut rows = Rows::from([
        (keys::CONSISTENT_INDEX.to_vec(), facts.applied.index.to_be_bytes().to_vec()),
        (keys::TERM.to_vec(), facts.applied.term.to_be_bytes().to_vec()),
        (keys::CONF_STATE.to_vec(), keys::json(&ConfState::of(&facts.members))),
    ]);
    if index.compacted >= 0 {
        let compacted = keys::revision(Rev { main: index.compacted, sub: 0 }, false);
        rows.insert(keys::SCHEDULED_COMPACT.to_vec(), compacted.clone());
        rows.insert(keys::FINISHED_COMPACT.to_vec(), compacted);
    }
    if let Some(version) = storage_version(&state.cluster_version).filter(|_| facts.versions) {
        rows.insert(keys::STORAGE_VERSION.to_vec(), version.into());
    }
    rows
}

/// The name of the format of the files; etcd before 3.6 has none.
pub fn storage_version(cluster: &ClusterVersion) -> Option<String> {
    let release = cluster.storage();
    (release >= FORMATS_NAMED).then(|| release.to_string())
}

fn cluster(cluster: &ClusterVersion) -> Rows {
    let version = cluster.version.map(|version| (keys::CLUSTER_VERSION.to_vec(), version.to_string().into_bytes()));
    let downgrade = cluster.downgrade.map(|target| {
        let row = DowngradeRow { target: target.to_string(), enabled: true };
        (keys::DOWNGRADE.to_vec(), keys::json(&row))
    });
    version.into_iter().chain(downgrade).collect()
}

fn auth(auth: &Auth) -> Rows {
    Rows::from([
        (keys::AUTH_ENABLED.to_vec(), vec![u8::from(auth.enabled)]),
        (keys::AUTH_REVISION.to_vec(), auth.revision.to_be_bytes().to_vec()),
    ])
}
