//! The gateway's paths.

use crate::etcd::rpc::Rpc;

/// The RPC behind `path`.
pub(super) fn find(path: &str) -> Option<Rpc> {
    Some(match path.strip_prefix("/v3/")? {
        "kv/range" => Rpc::Range,
        "kv/put" => Rpc::Put,
        "kv/deleterange" => Rpc::DeleteRange,
        "kv/txn" => Rpc::Txn,
        "kv/compaction" => Rpc::Compact,
        "watch" => Rpc::Watch,
        "lease/grant" => Rpc::LeaseGrant,
        "lease/revoke" | "kv/lease/revoke" => Rpc::LeaseRevoke,
        "lease/keepalive" => Rpc::LeaseKeepAlive,
        "lease/timetolive" | "kv/lease/timetolive" => Rpc::LeaseTimeToLive,
        "lease/leases" | "kv/lease/leases" => Rpc::LeaseLeases,
        rest => return maintained(rest),
    })
}

fn maintained(rest: &str) -> Option<Rpc> {
    Some(match rest {
        "cluster/member/add" => Rpc::MemberAdd,
        "cluster/member/remove" => Rpc::MemberRemove,
        "cluster/member/update" => Rpc::MemberUpdate,
        "cluster/member/list" => Rpc::MemberList,
        "cluster/member/promote" => Rpc::MemberPromote,
        "maintenance/alarm" => Rpc::Alarm,
        "maintenance/status" => Rpc::Status,
        "maintenance/defragment" => Rpc::Defragment,
        "maintenance/hash" => Rpc::Hash,
        "maintenance/hashkv" => Rpc::HashKv,
        "maintenance/snapshot" => Rpc::Snapshot,
        "maintenance/transfer-leadership" => Rpc::MoveLeader,
        "maintenance/downgrade" => Rpc::Downgrade,
        "lock/lock" => Rpc::Lock,
        "lock/unlock" => Rpc::Unlock,
        "election/campaign" => Rpc::Campaign,
        "election/proclaim" => Rpc::Proclaim,
        "election/leader" => Rpc::Leader,
        "election/observe" => Rpc::Observe,
        "election/resign" => Rpc::Resign,
        rest => return authenticated(rest.strip_prefix("auth/")?),
    })
}

fn authenticated(rest: &str) -> Option<Rpc> {
    Some(match rest {
        "enable" => Rpc::AuthEnable,
        "disable" => Rpc::AuthDisable,
        "status" => Rpc::AuthStatus,
        "authenticate" => Rpc::Authenticate,
        "user/add" => Rpc::UserAdd,
        "user/get" => Rpc::UserGet,
        "user/list" => Rpc::UserList,
        "user/delete" => Rpc::UserDelete,
        "user/changepw" => Rpc::UserChangePassword,
        "user/grant" => Rpc::UserGrantRole,
        "user/revoke" => Rpc::UserRevokeRole,
        "role/add" => Rpc::RoleAdd,
        "role/get" => Rpc::RoleGet,
        "role/list" => Rpc::RoleList,
        "role/delete" => Rpc::RoleDelete,
        "role/grant" => Rpc::RoleGrantPermission,
        "role/revoke" => Rpc::RoleRevokePermission,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_rpcs() {
        assert_eq!(find("/v3/kv/range"), Some(Rpc::Range));
        assert_eq!(find("/v3/kv/lease/revoke"), Some(Rpc::LeaseRevoke));
        assert_eq!(find("/v3/auth/role/grant"), Some(Rpc::RoleGrantPermission));
        for nowhere in ["/v3/kv/nope", "/v3/kv/range/", "/v3/", "/v3/auth/", "/v2/keys", "/v3/kv/rangestream"] {
            assert_eq!(find(nowhere), None, "{nowhere}");
        }
    }
}
