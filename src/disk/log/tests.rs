//! The log against a model of it, through crashes, damage and full disks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;

use proptest::prelude::*;
use tokio::task::LocalSet;

use super::files::Files;
use super::*;
use crate::world::{MemoryDisk, Random};

const DIRECTORY: &str = "/data/wal";
const SMALL: Options = Options { segment_bytes: 2048, cache_bytes_max: 100 };

fn at(term: u64, index: u64) -> Position {
    Position { term, index }
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    Entry { at: at(term, index), payload: Bytes::from(vec![index as u8; size]) }
}

/// What a log is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<Position>,
    entries: BTreeMap<u64, Entry>,
}

impl Model {
    fn next_index(&self) -> u64 {
        let last = self.entries.keys().next_back().copied();
        last.or(self.purged.map(|at| at.index)).unwrap_or(0) + 1
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { size: usize },
    Vote(u8),
    Committed(u8),
    Truncate { back: u64 },
    Purge { forward: u64 },
    Write,
    Sync,
    Chores,
    Close,
    Crash { seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0_usize..700).prop_map(|size| Step::Append { size }),
        1 => Just(Step::Append { size: 5000 }),
        1 => any::<u8>().prop_map(Step::Vote),
        2 => any::<u8>().prop_map(Step::Committed),
        1 => (0_u64..6).prop_map(|back| Step::Truncate { back }),
        2 => (0_u64..9).prop_map(|forward| Step::Purge { forward }),
        3 => Just(Step::Write),
        5 => Just(Step::Sync),
        2 => Just(Step::Chores),
        1 => Just(Step::Close),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ];
    prop::collection::vec(step, 1..80)
}

/// Files with a model beside them.
struct Run {
    disk: MemoryDisk,
    world: World,
    files: Option<Files>,
    term: u64,
    /// What the log held after each step since the last sync; the first is durable.
    history: Vec<Model>,
}

impl Run {
    fn new() -> Run {
        let disk = MemoryDisk::new();
        let world = World::simulated(7, disk.clone());
        let (files, ..) = recovery::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        Run { disk, world, files: Some(files), term: 1, history: vec![Model::default()] }
    }

    fn files(&mut self) -> &mut Files {
        self.files.as_mut().expect("the log is open")
    }

    fn step(&mut self, step: Step) {
        let mut model = self.history.last().expect("there is a state").clone();
        match step {
            Step::Append { size } => {
                let entry = entry(self.term, model.next_index(), size);
                self.files().add_entry(&entry).unwrap();
                model.entries.insert(entry.at.index, entry);
            }
            Step::Vote(byte) => {
                model.vote = Some(Bytes::from(vec![byte]));
                self.files().add_vote(&Bytes::from(vec![byte])).unwrap();
            }
            Step::Committed(byte) => {
                model.committed = Some(Bytes::from(vec![byte]));
                self.files().add_committed(&Bytes::from(vec![byte])).unwrap();
            }
            Step::Truncate { back } => {
                let floor = model.purged.map_or(0, |at| at.index);
                let after = (model.next_index() - 1).saturating_sub(back).max(floor);
                self.files().add_truncate(after).unwrap();
                model.entries.retain(|index, _| *index <= after);
                self.term += 1;
            }
            Step::Purge { forward } => {
                let floor = model.purged.map_or(0, |at| at.index);
                let up_to = at(self.term, floor + forward);
                if forward > 0 {
                    self.files().add_purge(up_to).unwrap();
                    model.entries.retain(|index, _| *index > up_to.index);
                    model.purged = Some(up_to);
                }
            }
            Step::Write => drop(self.files().write().unwrap()),
            Step::Sync => self.sync(),
            Step::Chores => {
                self.sync();
                let released = self.files().release();
                if let Some(chores) = self.files().chores(released) {
                    chores.run().unwrap();
                    self.files().chores_done();
                }
            }
            Step::Close => {
                self.files().close().unwrap();
                self.history.drain(..self.history.len() - 1);
                self.reopen();
            }
            Step::Crash { seed } => {
                self.files = None;
                self.disk.crash(&Random::from_seed(seed));
                self.reopen();
            }
        }
        if *self.history.last().expect("there is a state") != model && self.files.is_some() {
            self.history.push(model);
        }
    }

    fn sync(&mut self) {
        self.files().write().unwrap();
        self.files().sync();
        self.history.drain(..self.history.len() - 1);
    }

    /// Opens the log again: it must hold what it held after one of the steps since the last sync.
    fn reopen(&mut self) {
        self.files = None;
        let (found, files) = read_back(&self.world).unwrap();
        assert!(self.history.contains(&found), "found {found:#?}, expected one of {:#?}", self.history);
        self.files = Some(files);
        self.history = vec![found];
        // The step that led here left nothing else to record.
    }
}

fn read_back(world: &World) -> Result<(Model, Files), Error> {
    let (files, window, recovered) = recovery::open(world, Path::new(DIRECTORY), SMALL)?;
    let entries: Vec<Entry> = window.find(0..u64::MAX).into_iter().map(found).collect::<Result<_, _>>()?;
    assert_eq!(recovered.first, entries.first().map(|entry| entry.at));
    assert_eq!(recovered.last, entries.last().map(|entry| entry.at));
    let Recovered { vote, committed, purged, .. } = recovered;
    let entries = entries.into_iter().map(|entry| (entry.at.index, entry)).collect();
    Ok((Model { vote, committed, purged, entries }, files))
}

fn found(found: Found<Place>) -> Result<Entry, Error> {
    match found {
        Found::InMemory(entry) => Ok(entry),
        Found::OnDisk(at, place) => place.read(at),
    }
}

proptest! {
    #[test]
    fn no_crash_loses_what_was_synced_or_brings_back_what_was_cut(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            let reopened = matches!(step, Step::Crash { .. } | Step::Close);
            run.step(step);
            if reopened {
                run.history.truncate(1);
            }
        }
    }
}

/// A log of several segments that was closed in good order.
fn closed_log(disk: &MemoryDisk) -> World {
    let world = World::simulated(3, disk.clone());
    let (mut files, ..) = recovery::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
    files.add_vote(&Bytes::from_static(b"vote")).unwrap();
    for index in 1..16 {
        files.add_entry(&entry(1, index, 301)).unwrap();
        files.write().unwrap();
        files.sync();
    }
    files.close().unwrap();
    world
}

#[test]
fn a_flipped_bit_is_refused_by_file_and_offset() {
    let disk = MemoryDisk::new();
    let (expected, files) = read_back(&closed_log(&disk)).unwrap();
    drop(files);
    let world = World::simulated(3, disk.clone());
    let segments: Vec<_> = files::list(&world.disk, Path::new(DIRECTORY)).unwrap();
    assert!(segments.len() > 1, "the test needs several segments");
    let mut refused = 0;
    for id in segments {
        let path = Path::new(DIRECTORY).join(format!("{id:016x}.wal"));
        for bit in (0..SMALL.segment_bytes * 8).step_by(3) {
            disk.flip_bit(&path, bit).unwrap();
            match read_back(&world) {
                Ok((found, _)) => assert_eq!(found, expected, "{} bit {bit}", path.display()),
                Err(error) => {
                    refused += 1;
                    let text = error.to_string();
                    assert!(text.starts_with(&format!("{} is damaged at byte ", path.display())), "{text}");
                }
            }
            disk.flip_bit(&path, bit).unwrap();
        }
    }
    assert!(refused > 8000, "only {refused} were refused");
}

#[test]
fn damage_to_the_last_write_is_known_as_such_while_the_machine_stays_up() {
    let disk = MemoryDisk::new();
    let world = World::simulated(3, disk.clone());
    let (mut files, ..) = recovery::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
    files.add_entry(&entry(1, 1, 60)).unwrap();
    files.write().unwrap();
    files.sync();
    drop(files);
    let path = Path::new(DIRECTORY).join(format!("{:016x}.wal", 1));
    disk.flip_bit(&path, 8 * 90).unwrap();
    let error = read_back(&world).map(drop).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} is damaged at byte ", path.display())), "{error}");
    // Without its mark it can't be told from a write that a crash tore.
    disk.flip_bit(&Path::new(DIRECTORY).join("synced"), 3).unwrap();
    assert_eq!(read_back(&world).unwrap().0.entries.len(), 0);
}

#[test]
fn a_missing_segment_is_refused() {
    for missing in [1, 2] {
        let disk = MemoryDisk::new();
        let world = closed_log(&disk);
        world.disk.remove(&Path::new(DIRECTORY).join(format!("{missing:016x}.wal"))).unwrap();
        let error = read_back(&world).map(drop).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let world = closed_log(&MemoryDisk::new());
    let path = Path::new(DIRECTORY).join("format");
    world.disk.replace(&path, b"chorus write-ahead log 2\n", crate::world::disk::Access::Owner).unwrap();
    let error = read_back(&world).map(drop).unwrap_err().to_string();
    assert_eq!(error, "/data/wal holds write-ahead log in format 2, newer than format 1 which this program knows");
}

#[test]
#[should_panic(expected = "sync failed")]
fn a_failed_sync_ends_the_process() {
    let disk = MemoryDisk::new();
    let world = World::simulated(3, disk.clone());
    let (mut files, ..) = recovery::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
    files.add_entry(&entry(1, 1, 8)).unwrap();
    files.write().unwrap();
    disk.fail_syncs(true);
    files.sync();
}

/// Appends through the handle and waits until it is durable, or refused.
async fn append(log: &LogHandle, entries: Vec<Entry>) -> io::Result<()> {
    let (done, result) = oneshot::channel();
    log.append(entries, move |outcome| drop(done.send(outcome)));
    result.await.expect("the log answers")
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing_acknowledged() {
    let disk = MemoryDisk::new();
    let world = World::simulated(5, disk.clone());
    let test = async {
        let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        disk.limit(Some(16 << 10));
        let mut acknowledged = 0;
        let error = loop {
            match append(&log, vec![entry(1, acknowledged + 1, 900)]).await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(acknowledged > 5, "{acknowledged}");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let again = append(&log, vec![entry(1, acknowledged + 2, 1)]).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::StorageFull, "nothing more is taken");
        log.close().await.unwrap_err();
        disk.limit(None);
        let (log, recovered) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        assert!(recovered.last.unwrap().index >= acknowledged);
        append(&log, vec![entry(2, recovered.last.unwrap().index + 1, 1)]).await.unwrap();
    };
    LocalSet::new().run_until(test).await;
}

async fn exercise(world: &World, directory: &Path) {
    let (log, recovered) = LogHandle::open(world, directory, SMALL).unwrap();
    assert_eq!(recovered, Recovered::default());
    let (order, done) = mpsc::channel();
    for index in 1..=20 {
        let order = order.clone();
        log.append(vec![entry(1, index, 300)], move |outcome| order.send((index, outcome.is_ok())).unwrap());
        assert_eq!(log.last(), Some(at(1, index)), "readable before it is durable");
    }
    log.save_vote(Bytes::from_static(b"mine")).await.unwrap();
    assert_eq!(done.try_iter().collect::<Vec<_>>(), (1..=20).map(|index| (index, true)).collect::<Vec<_>>());
    log.save_committed(Bytes::from_static(b"so far"));
    assert_eq!(log.read(3..6).unwrap(), (3..6).map(|index| entry(1, index, 300)).collect::<Vec<_>>());
    log.truncate_after(18);
    log.purge(at(1, 9));
    append(&log, vec![entry(2, 19, 10)]).await.unwrap();
    log.close().await.unwrap();

    let (log, recovered) = LogHandle::open(world, directory, SMALL).unwrap();
    let expected = Recovered {
        vote: Some(Bytes::from_static(b"mine")),
        committed: Some(Bytes::from_static(b"so far")),
        purged: Some(at(1, 9)),
        first: Some(at(1, 10)),
        last: Some(at(2, 19)),
    };
    assert_eq!(recovered, expected);
    let mut entries: Vec<Entry> = (10..=18).map(|index| entry(1, index, 300)).collect();
    entries.push(entry(2, 19, 10));
    assert_eq!(log.read(0..100).unwrap(), entries);
    log.close().await.unwrap();
}

#[tokio::test]
async fn the_actor_answers_in_order_and_everything_is_there_again() {
    let world = World::simulated(1, MemoryDisk::new());
    LocalSet::new().run_until(exercise(&world, Path::new(DIRECTORY))).await;
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test is the program: it makes the world")]
fn the_same_on_real_files_and_threads() {
    let directory = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let world = World::real();
        exercise(&world, &directory.path().join("wal")).await;
        let (_log, _) = LogHandle::open(&world, &directory.path().join("wal"), SMALL).unwrap();
        let busy = LogHandle::open(&world, &directory.path().join("wal"), SMALL).map(drop).unwrap_err().to_string();
        assert!(busy.ends_with("is in use by another process"), "{busy}");
    });
}
