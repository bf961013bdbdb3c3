//! Newtypes shared by every room, so that no public signature carries a bare number.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

id!(
    /// A member of the store's cluster; etcd's member ID, printed in hexadecimal as etcd does.
    NodeId(u64),
    "{:x}"
);
id!(
    /// A revision of the key space: one more for each write transaction, from 1 for the empty store.
    Revision(i64),
    "{}"
);
id!(
    /// A lease, printed in hexadecimal as etcdctl does.
    LeaseId(i64),
    "{:016x}"
);
id!(
    /// A Raft term.
    Term(u64),
    "{}"
);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}
