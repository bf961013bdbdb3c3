//! The RPCs of a frontend: which path names which, and how metrics name it.

use crate::store::rpcs::rpcs;

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

macro_rules! names {
    (
        given {}
        unary { $($part:ident { $(
            $(#[$doc:meta])*
            $name:ident $path:literal $method:ident($request:ident) -> $response:ident,
            $rule:ident, $retry:ident, $($json:literal)|+;
        )* })* }
        own { $($own:ident $own_path:literal $kind:ident $(, $own_json:literal)?;)* }
    ) => {
        names! {
            $($($name $path Unary $($json)+;)*)*
            $($own $own_path $kind $($own_json)?;)*
        }
    };
    ($($name:ident $path:literal $kind:ident $($json:literal)*;)*) => {
        /// One RPC of etcd's interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Rpc { $($name),* }

        impl Rpc {
            pub const ALL: &[Rpc] = &[$(Rpc::$name),*];

            /// The RPC at `path`, `/package.Service/Method`.
            pub fn find(path: &str) -> Option<Rpc> {
                match path {
                    $($path => Some(Rpc::$name),)*
                    _ => None,
                }
            }

            /// The RPC that the JSON gateway has at `path`.
            pub fn find_json(path: &str) -> Option<Rpc> {
                match path.strip_prefix("/v3/")? {
                    $($($json => Some(Rpc::$name),)*)*
                    _ => None,
                }
            }

            pub fn path(self) -> &'static str {
                match self { $(Rpc::$name => $path),* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Rpc::$name => Kind::$kind),* }
            }
        }
    };
}

rpcs!(names {});

impl Rpc {
    pub fn service(self) -> &'static str {
        self.halves().0
    }

    pub fn method(self) -> &'static str {
        self.halves().1
    }

    fn halves(self) -> (&'static str, &'static str) {
        self.path()[1..].split_once('/').expect("a path is a service and a method")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_is_found_at_its_path() {
        for rpc in Rpc::ALL {
            assert_eq!(Rpc::find(&format!("/{}/{}", rpc.service(), rpc.method())), Some(*rpc));
        }
        assert_eq!(Rpc::find("/etcdserverpb.KV/range"), None);
        assert_eq!(Rpc::find("/version"), None);
    }

    #[test]
    fn paths_of_the_gateway_lead_to_rpcs() {
        assert_eq!(Rpc::find_json("/v3/kv/range"), Some(Rpc::Range));
        assert_eq!(Rpc::find_json("/v3/kv/lease/revoke"), Some(Rpc::LeaseRevoke));
        assert_eq!(Rpc::find_json("/v3/auth/role/grant"), Some(Rpc::RoleGrantPermission));
        for nowhere in ["/v3/kv/nope", "/v3/kv/range/", "/v3/", "/v3/auth/", "/v2/keys", "/v3/kv/rangestream"] {
            assert_eq!(Rpc::find_json(nowhere), None, "{nowhere}");
        }
    }
}
