//! The table of all RPCs: what a path names, and how metrics call it.

/// How many messages go which way, as the metric label `grpc_type` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! rpcs {
    ($($name:ident = $kind:ident $service:literal $method:literal)*) => {
        /// One RPC of etcd's interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Rpc { $($name),* }

        impl Rpc {
            pub const ALL: &[Rpc] = &[$(Rpc::$name),*];

            /// The RPC at `path`, `/package.Service/Method`.
            pub fn find(path: &str) -> Option<Rpc> {
                match path {
                    $(concat!("/", $service, "/", $method) => Some(Rpc::$name),)*
                    _ => None,
                }
            }

            pub fn service(self) -> &'static str {
                match self { $(Rpc::$name => $service),* }
            }

            pub fn method(self) -> &'static str {
                match self { $(Rpc::$name => $method),* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Rpc::$name => Kind::$kind),* }
            }
        }
    };
}

rpcs! {
    Range = Unary "etcdserverpb.KV" "Range"
    RangeStream = ServerStream "etcdserverpb.KV" "RangeStream"
    Put = Unary "etcdserverpb.KV" "Put"
    DeleteRange = Unary "etcdserverpb.KV" "DeleteRange"
    Txn = Unary "etcdserverpb.KV" "Txn"
    Compact = Unary "etcdserverpb.KV" "Compact"
    Watch = BidiStream "etcdserverpb.Watch" "Watch"
    LeaseGrant = Unary "etcdserverpb.Lease" "LeaseGrant"
    LeaseRevoke = Unary "etcdserverpb.Lease" "LeaseRevoke"
    LeaseKeepAlive = BidiStream "etcdserverpb.Lease" "LeaseKeepAlive"
    LeaseTimeToLive = Unary "etcdserverpb.Lease" "LeaseTimeToLive"
    LeaseLeases = Unary "etcdserverpb.Lease" "LeaseLeases"
    MemberAdd = Unary "etcdserverpb.Cluster" "MemberAdd"
    MemberRemove = Unary "etcdserverpb.Cluster" "MemberRemove"
    MemberUpdate = Unary "etcdserverpb.Cluster" "MemberUpdate"
    MemberList = Unary "etcdserverpb.Cluster" "MemberList"
    MemberPromote = Unary "etcdserverpb.Cluster" "MemberPromote"
    Alarm = Unary "etcdserverpb.Maintenance" "Alarm"
    Status = Unary "etcdserverpb.Maintenance" "Status"
    Defragment = Unary "etcdserverpb.Maintenance" "Defragment"
    Hash = Unary "etcdserverpb.Maintenance" "Hash"
    HashKv = Unary "etcdserverpb.Maintenance" "HashKV"
    Snapshot = ServerStream "etcdserverpb.Maintenance" "Snapshot"
    MoveLeader = Unary "etcdserverpb.Maintenance" "MoveLeader"
    Downgrade = Unary "etcdserverpb.Maintenance" "Downgrade"
    AuthEnable = Unary "etcdserverpb.Auth" "AuthEnable"
    AuthDisable = Unary "etcdserverpb.Auth" "AuthDisable"
    AuthStatus = Unary "etcdserverpb.Auth" "AuthStatus"
    Authenticate = Unary "etcdserverpb.Auth" "Authenticate"
    UserAdd = Unary "etcdserverpb.Auth" "UserAdd"
    UserGet = Unary "etcdserverpb.Auth" "UserGet"
    UserList = Unary "etcdserverpb.Auth" "UserList"
    UserDelete = Unary "etcdserverpb.Auth" "UserDelete"
    UserChangePassword = Unary "etcdserverpb.Auth" "UserChangePassword"
    UserGrantRole = Unary "etcdserverpb.Auth" "UserGrantRole"
    UserRevokeRole = Unary "etcdserverpb.Auth" "UserRevokeRole"
    RoleAdd = Unary "etcdserverpb.Auth" "RoleAdd"
    RoleGet = Unary "etcdserverpb.Auth" "RoleGet"
    RoleList = Unary "etcdserverpb.Auth" "RoleList"
    RoleDelete = Unary "etcdserverpb.Auth" "RoleDelete"
    RoleGrantPermission = Unary "etcdserverpb.Auth" "RoleGrantPermission"
    RoleRevokePermission = Unary "etcdserverpb.Auth" "RoleRevokePermission"
    Lock = Unary "v3lockpb.Lock" "Lock"
    Unlock = Unary "v3lockpb.Lock" "Unlock"
    Campaign = Unary "v3electionpb.Election" "Campaign"
    Proclaim = Unary "v3electionpb.Election" "Proclaim"
    Leader = Unary "v3electionpb.Election" "Leader"
    Observe = ServerStream "v3electionpb.Election" "Observe"
    Resign = Unary "v3electionpb.Election" "Resign"
    HealthCheck = Unary "grpc.health.v1.Health" "Check"
    HealthWatch = ServerStream "grpc.health.v1.Health" "Watch"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::auth::RULES;

    /// Those that ask nothing of the store themselves: what they do is made of calls that have rules.
    const RECIPES: [&str; 3] = ["v3lockpb.Lock", "v3electionpb.Election", "grpc.health.v1.Health"];

    #[test]
    fn every_rpc_has_a_rule_of_who_may_call_it() {
        for rpc in Rpc::ALL.iter().filter(|rpc| !RECIPES.contains(&rpc.service())) {
            let service = rpc.service().strip_prefix("etcdserverpb.").unwrap();
            let name = format!("{service}/{}", rpc.method());
            let rules = RULES.iter().filter(|(ruled, _)| *ruled == name).count();
            assert_eq!(rules, 1, "{name}");
        }
    }

    #[test]
    fn every_rpc_is_found_at_its_path() {
        for rpc in Rpc::ALL {
            assert_eq!(Rpc::find(&format!("/{}/{}", rpc.service(), rpc.method())), Some(*rpc));
        }
        assert_eq!(Rpc::find("/etcdserverpb.KV/range"), None);
        assert_eq!(Rpc::find("/version"), None);
    }
}
