//! The log against a model of it, through crashes, damage and full disks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

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
    Append {
        size: usize,
    },
    Vote(u8),
    Committed(u8),
    Truncate {
        back: u64,
    },
    Purge {
        forward: u64,
    },
    Write,
    Sync,
    Chores,
    Close,
    Crash {
        seed: u64,
    },
    /// The disk has so much room left.
    Limit {
        room: usize,
    },
    /// Nothing can be opened.
    Withhold,
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
        1 => (0_usize..3000).prop_map(|room| Step::Limit { room }),
        1 => Just(Step::Withhold),
    ];
    prop::collection::vec(step, 1..80)
}

/// Files with a model beside them.
struct Run {
    disk: MemoryDisk,
    world: World,
    files: Option<Files>,
    term: u64,
    /// Segments that chores have not done with.
    released: Vec<PathBuf>,
    /// What the log held after each step since the last sync; the first is durable.
    history: Vec<Model>,
}

impl Run {
    fn new() -> Run {
        let disk = MemoryDisk::new();
        let world = World::simulated(7, disk.clone());
        let (files, ..) = recovery::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        Run { disk, world, files: Some(files), term: 1, released: Vec::new(), history: vec![Model::default()] }
    }

    fn files(&mut self) -> &mut Files {
        self.files.as_mut().expect("the log is open")
    }

    /// Where the disk is full, or no file can be opened, there is room again for the next try, or the power fails before.
    fn step(&mut self, step: Step) {
        let mut model = self.history.last().expect("there is a state").clone();
        match self.attempt(&step, &mut model) {
            Err(error) if error.is_full() && self.world.random.within(0..4) == 0 => return self.crash(self.term),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                self.make_room();
                model.clone_from(self.history.last().expect("there is a state"));
                self.attempt(&step, &mut model).unwrap();
            }
            Ok(()) => (),
        }
        if *self.history.last().expect("there is a state") != model && !reopens(&step) && self.files.is_some() {
            self.history.push(model);
        }
    }

    fn attempt(&mut self, step: &Step, model: &mut Model) -> Result<(), Error> {
        match *step {
            Step::Append { size } => {
                let entry = entry(self.term, model.next_index(), size);
                self.files().add_entry(&entry)?;
                model.entries.insert(entry.at.index, entry);
            }
            Step::Vote(byte) => {
                self.files().add_vote(&Bytes::from(vec![byte]))?;
                model.vote = Some(Bytes::from(vec![byte]));
            }
            Step::Committed(byte) => {
                self.files().add_committed(&Bytes::from(vec![byte]))?;
                model.committed = Some(Bytes::from(vec![byte]));
            }
            Step::Truncate { back } => {
                let floor = model.purged.map_or(0, |at| at.index);
                let after = (model.next_index() - 1).saturating_sub(back).max(floor);
                self.files().add_truncate(after)?;
                model.entries.retain(|index, _| *index <= after);
                self.term += 1;
            }
            Step::Purge { forward } => {
                let floor = model.purged.map_or(0, |at| at.index);
                let up_to = at(self.term, floor + forward);
                if forward > 0 {
                    self.files().add_purge(up_to)?;
                    model.entries.retain(|index, _| *index > up_to.index);
                    model.purged = Some(up_to);
                }
            }
            Step::Write => drop(self.files().write()?),
            Step::Sync => self.sync()?,
            Step::Chores => {
                self.sync()?;
                let released = self.files().release();
                self.released.extend(released);
                let released = std::mem::take(&mut self.released);
                if let Some(mut chores) = self.files().chores(released) {
                    match chores.run() {
                        Ok(()) => self.files().chores_done(),
                        Err(_) => self.released = chores.left(),
                    }
                }
            }
            Step::Close => {
                self.files().close()?;
                self.history.drain(..self.history.len() - 1);
                self.reopen();
            }
            Step::Crash { seed } => self.crash(seed),
            Step::Limit { room } => self.disk.limit(Some(self.disk.used() + room)),
            Step::Withhold => self.disk.withhold_descriptors(true),
        }
        Ok(())
    }

    fn make_room(&self) {
        self.disk.limit(None);
        self.disk.withhold_descriptors(false);
    }

    fn crash(&mut self, seed: u64) {
        self.files = None;
        self.make_room();
        self.disk.crash(&Random::from_seed(seed));
        self.reopen();
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.files().write()?;
        self.files().sync();
        self.history.drain(..self.history.len() - 1);
        Ok(())
    }

    /// Opens the log again: it must hold what it held after one of the steps since the last sync.
    fn reopen(&mut self) {
        self.files = None;
        self.disk.withhold_descriptors(false);
        let (found, files) = read_back(&self.world).unwrap();
        assert!(self.history.contains(&found), "found {found:#?}, expected one of {:#?}", self.history);
        self.files = Some(files);
        self.released.clear();
        self.history = vec![found];
    }
}

fn reopens(step: &Step) -> bool {
    matches!(step, Step::Crash { .. } | Step::Close)
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

fn found(found: Found<EntryLocation>) -> Result<Entry, Error> {
    match found {
        Found::InMemory(entry) => Ok(entry),
        Found::OnDisk(at, location) => location.read(at),
    }
}

proptest! {
    #[test]
    fn no_crash_loses_what_was_synced_or_brings_back_what_was_cut(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
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
    let segments: Vec<_> = segment::list(&world.disk, Path::new(DIRECTORY)).unwrap();
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
fn a_flipped_bit_beside_the_segments_changes_nothing_or_is_refused() {
    let disk = MemoryDisk::new();
    let world = closed_log(&disk);
    let (expected, files) = read_back(&world).unwrap();
    drop(files);
    let names = world.disk.list(Path::new(DIRECTORY)).unwrap();
    let others: Vec<_> = names.iter().filter(|name| !name.ends_with(".wal")).collect();
    assert!(others.len() >= 2, "{others:?}");
    for name in others {
        let path = Path::new(DIRECTORY).join(name);
        for bit in 0..world.disk.read(&path).unwrap().len() as u64 * 8 {
            disk.flip_bit(&path, bit).unwrap();
            match read_back(&world) {
                Ok((found, _)) => assert_eq!(found, expected, "{name} bit {bit}"),
                Err(error) => assert!(error.to_string().contains(DIRECTORY), "{name} bit {bit}: {error}"),
            }
            disk.flip_bit(&path, bit).unwrap();
        }
    }
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

/// Fills the disk and appends until the log no longer answers; says how much it acknowledged.
async fn append_until_full(disk: &MemoryDisk, log: &LogHandle) -> (u64, oneshot::Receiver<io::Result<()>>) {
    disk.limit(Some(disk.used()));
    append_until_it_waits(log).await
}

async fn append_until_it_waits(log: &LogHandle) -> (u64, oneshot::Receiver<io::Result<()>>) {
    for index in 1.. {
        let (done, mut result) = oneshot::channel();
        log.append(vec![entry(1, index, 900)], move |outcome| drop(done.send(outcome)));
        tokio::select! {
            outcome = &mut result => outcome.expect("the log answers").unwrap(),
            () = tokio::time::sleep(Duration::from_secs(5)) => return (index - 1, result),
        }
    }
    unreachable!("no disk is endless")
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let disk = MemoryDisk::new();
    let world = World::simulated(5, disk.clone());
    let test = async {
        let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        log.save_vote(Bytes::from_static(b"mine")).await.unwrap();
        let mut short = log.space().subscribe();
        let (acknowledged, waiting) = append_until_full(&disk, &log).await;
        assert!(acknowledged > 1 && *short.borrow_and_update(), "{acknowledged}");
        let vote = tokio::task::spawn_local({
            let log = log.clone();
            async move { log.save_vote(Bytes::from_static(b"later")).await }
        });
        disk.limit(None);
        waiting.await.unwrap().unwrap();
        vote.await.unwrap().unwrap();
        assert!(!*short.wait_for(|short| !short).await.unwrap());
        append(&log, vec![entry(1, acknowledged + 2, 1)]).await.unwrap();
        disk.crash(&Random::from_seed(1));
        let recovered = read_back(&world).unwrap().0;
        assert_eq!((recovered.entries.len() as u64, recovered.vote.unwrap()), (acknowledged + 2, "later".into()));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn file_descriptors_that_have_run_out_are_waited_for_as_a_full_disk_is() {
    let disk = MemoryDisk::new();
    let world = World::simulated(5, disk.clone());
    let test = async {
        let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        let mut short = log.space().subscribe();
        disk.withhold_descriptors(true);
        let (acknowledged, waiting) = append_until_it_waits(&log).await;
        assert!(acknowledged > 0 && *short.borrow_and_update(), "{acknowledged}");
        tokio::time::sleep(Duration::from_secs(600)).await;
        disk.withhold_descriptors(false);
        waiting.await.unwrap().unwrap();
        assert!(!*short.wait_for(|short| !short).await.unwrap());
        append(&log, vec![entry(1, acknowledged + 2, 1)]).await.unwrap();
        disk.crash(&Random::from_seed(1));
        assert_eq!(read_back(&world).unwrap().0.entries.len() as u64, acknowledged + 2);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_found_no_room_beside_a_spare_leaves_nobody_short() {
    let disk = MemoryDisk::new();
    let world = World::simulated(5, disk.clone());
    let test = async {
        let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        let mut short = log.space().subscribe();
        while !world.disk.exists(&Path::new(DIRECTORY).join(segment::SPARE)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        disk.limit(Some(disk.used()));
        let (done, result) = oneshot::channel();
        let larger_than_a_segment = entry(1, 1, 3 * SMALL.segment_bytes as usize);
        log.append(vec![larger_than_a_segment], move |outcome| drop(done.send(outcome)));
        assert!(*short.wait_for(|short| *short).await.unwrap());
        disk.limit(None);
        result.await.unwrap().unwrap();
        let long = Duration::from_secs(60);
        assert!(!*tokio::time::timeout(long, short.wait_for(|short| !short)).await.expect("short for ever").unwrap());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_gives_up_refuses_what_waits_and_keeps_what_it_acknowledged() {
    let disk = MemoryDisk::new();
    let world = World::simulated(5, disk.clone());
    let test = async {
        let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
        let (acknowledged, waiting) = append_until_full(&disk, &log).await;
        log.give_up();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::StorageFull);
        log.close().await.unwrap_err();
        assert!(read_back(&world).unwrap().0.entries.len() as u64 >= acknowledged, "also while the disk is full");
    };
    LocalSet::new().run_until(test).await;
}

#[test]
fn a_nearly_full_disk_gets_a_smaller_spare_and_a_full_one_is_left_clean() {
    let disk = MemoryDisk::new();
    let world = World::simulated(5, disk.clone());
    let (files, ..) = recovery::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
    let used = disk.used();
    for (room, spare) in [(100, None), (600, Some(512)), (5000, Some(512))] {
        disk.limit(Some(used + room));
        let outcome = files.chores(Vec::new()).expect("a spare is to be made").run();
        let made = world.disk.open(&Path::new(DIRECTORY).join(segment::SPARE), crate::world::disk::Open::Read).ok();
        assert_eq!(made.map(|file| file.len().unwrap()), spare, "{outcome:?}");
        assert_eq!(outcome.is_ok(), spare.is_some());
        assert_eq!(disk.used(), used + spare.unwrap_or(0) as usize);
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_power_failure() {
    let test = async {
        for (seed, voted) in (0..20).map(|seed| (seed, seed >= 10)) {
            let disk = MemoryDisk::new();
            let world = World::simulated(seed, disk.clone());
            let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
            append(&log, vec![entry(1, 1, 300)]).await.unwrap();
            if voted {
                log.save_vote(Bytes::from_static(b"mine")).await.unwrap();
            }
            disk.crash(&Random::from_seed(seed));
            let (_, recovered) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
            assert_eq!(recovered.last, Some(at(1, 1)), "an acknowledged entry is lost");
            assert_eq!(recovered.vote.is_some(), voted, "a vote that was given is lost");
        }
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

#[test]
fn a_closed_log_leaves_its_directory_alone() {
    for seed in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let world = World::simulated(seed, MemoryDisk::new());
            let (log, _) = LogHandle::open(&world, Path::new(DIRECTORY), SMALL).unwrap();
            log.save_vote(Bytes::from_static(b"a vote")).await.unwrap();
            log.close().await.unwrap();
            let closed = world.disk.list(Path::new(DIRECTORY)).unwrap();
            world.clock.sleep(Duration::from_secs(1)).await;
            assert_eq!(world.disk.list(Path::new(DIRECTORY)).unwrap(), closed, "seed {seed}");
        });
    }
}
