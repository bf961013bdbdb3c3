//! The replicated state of a store: keys, leases, alarms, users, and the position up to which the log is in it. A copy
//! costs nothing, so that readers keep one.

use bytes::Bytes;
use chorus_proto::etcdserverpb::AlarmType;
use imbl::OrdSet;

use super::auth::Auth;
use super::cluster_version::ClusterVersion;
use super::lease::Leases;
use super::mvcc::Index;
use crate::disk::Position;

/// The same on every member after the same entries.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub index: Index,
    pub leases: Leases,
    /// Member and kind.
    pub alarms: OrdSet<(u64, i32)>,
    pub cluster_version: ClusterVersion,
    pub auth: Auth,
    pub applied: Option<Position>,
    pub membership: Option<(Position, Bytes)>,
}

impl State {
    pub fn has_alarm(&self, kind: AlarmType) -> bool {
        self.alarms.iter().any(|(_, raised)| *raised == kind as i32)
    }
}
