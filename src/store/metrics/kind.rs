//! Kinds of requests, as metrics name them.

use chorus_proto::etcdserverpb as pb;

macro_rules! kinds {
    ($($kind:ident $field:ident)*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($kind,)*
            /// A transaction that does not go through the log.
            ReadonlyTxn,
            Unknown,
        }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind,)* Kind::ReadonlyTxn, Kind::Unknown];

            pub fn of(command: &pb::InternalRaftRequest) -> Kind {
                $(if command.$field.is_some() { return Kind::$kind; })*
                Kind::Unknown
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => stringify!($kind),)*
                    Kind::ReadonlyTxn => "ReadonlyTxn",
                    Kind::Unknown => "unknown",
                }
            }
        }
    };
}

// The most frequent ones first.
kinds! {
    Put put
    Txn txn
    DeleteRange delete_range
    LeaseGrant lease_grant
    LeaseRevoke lease_revoke
    LeaseCheckpoint lease_checkpoint
    Compaction compaction
    Alarm alarm
    Range range
    Authenticate authenticate
    AuthEnable auth_enable
    AuthDisable auth_disable
    AuthStatus auth_status
    AuthUserAdd auth_user_add
    AuthUserDelete auth_user_delete
    AuthUserGet auth_user_get
    AuthUserChangePassword auth_user_change_password
    AuthUserGrantRole auth_user_grant_role
    AuthUserRevokeRole auth_user_revoke_role
    AuthUserList auth_user_list
    AuthRoleAdd auth_role_add
    AuthRoleDelete auth_role_delete
    AuthRoleGet auth_role_get
    AuthRoleList auth_role_list
    AuthRoleGrantPermission auth_role_grant_permission
    AuthRoleRevokePermission auth_role_revoke_permission
    ClusterVersionSet cluster_version_set
    ClusterMemberAttrSet cluster_member_attr_set
    DowngradeInfoSet downgrade_info_set
    DowngradeVersionTest downgrade_version_test
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named_by_their_field() {
        let command = pb::InternalRaftRequest { auth_user_add: Some(Default::default()), ..Default::default() };
        assert_eq!(Kind::of(&command).name(), "AuthUserAdd");
        assert_eq!(Kind::of(&pb::InternalRaftRequest::default()).name(), "unknown");
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }
}
