//! openraft's own suite over the store's state machine and the log beside it.

use crate::raft::ClusterId;
use crate::raft::tests::conformance;
use crate::store::{Config, Store};
use crate::world::NodeId;

#[test]
fn the_store_is_what_openraft_wants() {
    conformance::run(|world, directory| {
        let config = Config::new(directory.to_owned(), NodeId(1), ClusterId(1));
        Box::new(Store::open(world, config).unwrap().0)
    });
}
