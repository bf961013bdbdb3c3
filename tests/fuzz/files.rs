//! Files of other programs and of ours.

use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use chorus::disk::log::Options as LogOptions;
use chorus::disk::segments::{Options, Point, Segments};
use chorus::disk::{Entry, LogHandle, Position, bbolt, checkpoint, etcd_wal};
use chorus::world::disk::{Access, Open};
use chorus::world::{Disk, MemoryDisk, World};
use tokio::task::LocalSet;

use crate::mutate::bend;

const DIRECTORY: &str = "/data/files";

/// A world whose disk holds the directory and nothing else.
fn empty() -> World {
    let world = World::simulated(1, MemoryDisk::new());
    world.disk.create_dir_all(Path::new(DIRECTORY), Access::Owner).unwrap();
    world
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(DIRECTORY).join(name)
}

fn store(disk: &Disk, name: &str, bytes: &[u8]) {
    disk.open(&path(name), Open::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
}

/// The files that `write` leaves in the directory.
fn written(world: &World) -> Vec<(String, Vec<u8>)> {
    let names = world.disk.list(Path::new(DIRECTORY)).unwrap();
    names.into_iter().map(|name| (name.clone(), world.disk.read(&path(&name)).unwrap())).collect()
}

#[test]
fn a_database_of_etcd() {
    let world = empty();
    let mut writer = bbolt::Writer::create(&world.disk, &path("db"), 7).unwrap();
    for name in ["alarm", "key", "lease", "meta"] {
        writer.bucket(name.as_bytes()).unwrap();
        for number in 0..60_u32 {
            writer.put(&number.to_be_bytes(), &vec![7; (number % 9 * 40) as usize]).unwrap();
        }
    }
    writer.finish().unwrap();
    let samples = [world.disk.read(&path("db")).unwrap(), vec![0; 8192]];
    bend("bbolt", &samples, |bytes| {
        let world = empty();
        store(&world.disk, "db", bytes);
        let Ok(reader) = bbolt::Reader::open(&world.disk, &path("db")) else { return };
        for bucket in reader.buckets().unwrap_or_default() {
            let _ = reader.scan(&bucket, &mut |_, _| Ok(()));
        }
    });
}

#[test]
fn a_log_of_etcd() {
    let world = empty();
    let metadata = etcd_wal::Metadata::default();
    let mut writer = etcd_wal::Writer::create(&world.disk, Path::new(DIRECTORY), metadata, 4096).unwrap();
    for index in 1..20 {
        let data = Some(Bytes::from(vec![3; 40]));
        writer.entry(&etcd_wal::Entry { term: 1, index, data, ..Default::default() });
        writer.state(etcd_wal::HardState { term: 1, vote: 1, commit: index });
    }
    writer.write().unwrap();
    writer.sync().unwrap();
    drop(writer);
    let files = written(&world);
    let name = files[0].0.clone();
    let samples: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes).collect();
    bend("etcd's log", &samples, |bytes| {
        let world = empty();
        store(&world.disk, &name, bytes);
        let _ = etcd_wal::read(&world.disk, Path::new(DIRECTORY));
        let _ = etcd_wal::snap::decode(Bytes::copy_from_slice(bytes));
    });
}

#[test]
fn a_checkpoint() {
    let world = empty();
    let mut writer = checkpoint::Writer::create(&world, &path("checkpoint"), 3).unwrap();
    writer.write_all(&[5; 3000]).unwrap();
    writer.commit().unwrap();
    let samples = [world.disk.read(&path("checkpoint")).unwrap()];
    bend("checkpoint", &samples, |bytes| {
        let world = empty();
        store(&world.disk, "checkpoint", bytes);
        let Ok(Some(mut reader)) = checkpoint::Reader::open(&world, &path("checkpoint")) else { return };
        let mut content = Vec::new();
        if reader.by_ref().take(1 << 20).read_to_end(&mut content).is_ok() {
            let _ = reader.end();
        }
    });
}

#[test]
fn segments() {
    let world = empty();
    let options = || Options { segment_bytes: 1500, durable: Point::START };
    let segments = Segments::open(&world, Path::new(DIRECTORY), options()).unwrap();
    for size in [10_usize, 300, 0, 700] {
        segments.append(b"head", &[&vec![1; size], b"two"]).unwrap();
    }
    segments.sync().unwrap();
    drop(segments);
    let files = written(&world);
    let name = files[0].0.clone();
    let samples: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes).collect();
    bend("segments", &samples, |bytes| {
        let world = empty();
        store(&world.disk, &name, bytes);
        let Ok(segments) = Segments::open(&world, Path::new(DIRECTORY), options()) else { return };
        let _ = segments.scan(Point::START, |_| Ok(()));
    });
}

#[test]
fn the_write_ahead_log() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = || LogOptions { segment_bytes: 2048, cache_bytes_max: 100 };
    let world = empty();
    LocalSet::new().block_on(&runtime, async {
        let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), options()).unwrap();
        let entry = |index| Entry { at: Position { term: 1, index }, payload: Bytes::from(vec![9; 90]) };
        let (done, durable) = tokio::sync::oneshot::channel();
        log.append((1..12).map(entry).collect(), |result| drop(done.send(result)));
        durable.await.unwrap().unwrap();
        log.save_vote(Bytes::from_static(b"vote")).await.unwrap();
        log.close().await.unwrap();
    });
    let files = written(&world);
    let (name, _) = files.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().clone();
    let samples: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes).collect();
    bend("log", &samples, |bytes| {
        let world = empty();
        store(&world.disk, &name, bytes);
        // A set of its own ends the actor with the input.
        LocalSet::new().block_on(&runtime, async {
            let _ = LogHandle::open(&world, Path::new(DIRECTORY), options());
        });
    });
}
