use std::collections::BTreeMap;
use std::path::Path;

use chorus_proto::authpb::User;
use chorus_proto::mvccpb::KeyValue;
use prost::Message;

use super::export::{self, Facts};
use super::import::Database;
use super::keys::{self, LeaseRow};
use crate::disk::{Position, bbolt};
use crate::store::ledger::Ledger;
use crate::store::mvcc::Rev;
use crate::world::disk::Access;
use crate::world::{MemoryDisk, World};

const DATABASE: &str = "/etcd/db";
const DATA: &str = "/data";

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<Vec<u8>, Rows>;

fn world() -> World {
    let world = World::simulated(1, MemoryDisk::new());
    world.disk.create_dir_all(Path::new("/etcd"), Access::Owner).unwrap();
    world.disk.create_dir_all(Path::new(DATA), Access::Owner).unwrap();
    world
}

fn put(main: i64, key: &'static str, value: &'static str, lease: i64) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = (key.into(), value.into());
    let kv = KeyValue { key, create_revision: main, mod_revision: main, version: 1, value, lease };
    (keys::revision(Rev { main, sub: 0 }, false), kv.encode_to_vec())
}

fn deletion(main: i64, key: &'static str) -> (Vec<u8>, Vec<u8>) {
    (keys::revision(Rev { main, sub: 0 }, true), KeyValue { key: key.into(), ..Default::default() }.encode_to_vec())
}

/// Puts of `a` and `b`, and the deletion of `a`.
fn history() -> Rows {
    [put(2, "a", "1", 0), put(3, "b", "2", 0), deletion(4, "a")].into()
}

fn write(world: &World, buckets: &Buckets) {
    let mut writer = bbolt::Writer::create(&world.disk, Path::new(DATABASE), 1).unwrap();
    for (name, rows) in buckets {
        writer.bucket(name).unwrap();
        rows.iter().for_each(|(key, value)| writer.put(key, value).unwrap());
    }
    writer.finish().unwrap();
}

fn import(buckets: &Buckets) -> (World, Ledger) {
    let world = world();
    write(&world, buckets);
    let at = (Position { term: 1, index: 9 }, crate::raft::record_members(&[], &[]));
    Database::open(&world, Path::new(DATABASE)).unwrap().import(&world, Path::new(DATA), Some(at)).unwrap();
    let ledger = Ledger::open(&world, Path::new(DATA), 64 << 20).unwrap();
    (world, ledger)
}

fn compacted(scheduled: i64) -> Rows {
    let revision = keys::revision(Rev { main: scheduled, sub: 0 }, false);
    [(keys::SCHEDULED_COMPACT.to_vec(), revision)].into()
}

#[test]
fn imported_histories_have_etcds_hashes() {
    let empty: Buckets = [(keys::KEY.to_vec(), Rows::new())].into();
    let whole: Buckets = [(keys::KEY.to_vec(), history())].into();
    let mut cut = whole.clone();
    cut.insert(keys::META.to_vec(), compacted(3));
    for (buckets, hash, compacted, revision) in
        [(empty, 1_084_519_789, -1, 1), (whole, 1_562_576_432, -1, 4), (cut, 776_148_148, 3, 4)]
    {
        let (_, ledger) = import(&buckets);
        let found = ledger.view().hash_kv(0).unwrap();
        assert_eq!((found.hash, found.compacted, found.revision), (hash, compacted, revision));
    }
}

#[test]
fn a_revision_that_was_raised_at_a_restore_stays() {
    let mut rows = history();
    rows.insert(keys::revision(Rev { main: 1_000, sub: 0 }, false), Vec::new());
    let (_, ledger) = import(&[(keys::KEY.to_vec(), rows), (keys::META.to_vec(), compacted(1_000))].into());
    let index = &ledger.state.index;
    assert_eq!((index.revision, index.compacted), (1_000, 1_000));
    assert!(index.live(b"b").is_some() && index.live(b"a").is_none());
}

#[test]
fn what_is_imported_is_exported_again() {
    let lease = LeaseRow { id: 77, ttl: 60, remaining_ttl: 12 };
    let user = User { name: "alice".into(), password: "hash".into(), ..Default::default() };
    let mut buckets: Buckets = [
        (keys::KEY.to_vec(), [put(2, "a", "1", 77), deletion(3, "a"), put(4, "a", "2", 77)].into()),
        (keys::LEASE.to_vec(), [(77_i64.to_be_bytes().to_vec(), lease.encode_to_vec())].into()),
        (keys::ALARM.to_vec(), [(keys::alarm(5, 1), Vec::new())].into()),
        (keys::CLUSTER.to_vec(), [(keys::CLUSTER_VERSION.to_vec(), b"3.6.0".to_vec())].into()),
        (
            keys::AUTH.to_vec(),
            [(keys::AUTH_ENABLED.to_vec(), vec![1]), (keys::AUTH_REVISION.to_vec(), 12_u64.to_be_bytes().to_vec())]
                .into(),
        ),
        (keys::AUTH_USERS.to_vec(), [(b"alice".to_vec(), user.encode_to_vec())].into()),
    ]
    .into();
    let (world, ledger) = import(&buckets);
    let facts = Facts { applied: Position { term: 1, index: 9 }, versions: true, ..Facts::default() };
    let path = Path::new("/etcd/again");
    let mut writer = bbolt::Writer::create(&world.disk, path, 9).unwrap();
    export::write(&ledger.state, &ledger.segments.pin(), &facts, &mut writer).unwrap();
    writer.finish().unwrap();
    let reader = bbolt::Reader::open(&world.disk, path).unwrap();
    let mut found = Buckets::new();
    for name in reader.buckets().unwrap() {
        let rows = found.entry(name.clone()).or_default();
        reader
            .scan(&name, &mut |key, value| {
                rows.insert(key.to_vec(), value.to_vec());
                Ok(())
            })
            .unwrap();
    }
    let meta = found.remove(keys::META).unwrap();
    assert_eq!(meta[keys::CONSISTENT_INDEX], 9_u64.to_be_bytes());
    assert_eq!(meta[keys::STORAGE_VERSION], b"3.6.0");
    for name in [keys::MEMBERS, keys::MEMBERS_REMOVED, keys::AUTH_ROLES] {
        buckets.insert(name.to_vec(), Rows::new());
    }
    assert_eq!(found, buckets);
    let attached: Vec<_> = ledger.state.leases.get(77).unwrap().keys.iter().map(|key| key.to_vec()).collect();
    assert_eq!(attached, [b"a"]);
}

#[test]
fn a_file_that_is_no_database_of_etcd_is_refused() {
    let world = world();
    write(&world, &[(b"other".to_vec(), Rows::new())].into());
    let refused = Database::open(&world, Path::new(DATABASE)).unwrap_err().to_string();
    assert_eq!(refused, "/etcd/db does not hold a database of etcd: it has no bucket \"key\"");
}
