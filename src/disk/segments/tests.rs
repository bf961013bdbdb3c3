//! The segments against a model of them, through crashes and damage.

use proptest::prelude::*;

use super::*;
use crate::world::MemoryDisk;
use crate::world::disk::Open;

const DIRECTORY: &str = "/data/state";
const SMALL: Options = Options { segment_bytes: 1500, durable: Point::START };

type Content = (Vec<u8>, Vec<Vec<u8>>);

#[derive(Clone, Debug)]
enum Step {
    Append { head: usize, records: Vec<usize> },
    Sync,
    Seal,
    RemoveOldest,
    Reopen,
    Crash { seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let records = prop::collection::vec(0_usize..600, 0..4);
    let step = prop_oneof![
        12 => (0_usize..100, records).prop_map(|(head, records)| Step::Append { head, records }),
        3 => Just(Step::Sync),
        1 => Just(Step::Seal),
        1 => Just(Step::RemoveOldest),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ];
    prop::collection::vec(step, 1..60)
}

struct Run {
    disk: MemoryDisk,
    world: World,
    segments: Option<Segments>,
    /// Every frame that was appended and not removed, with the point after it.
    frames: Vec<(Point, Content)>,
    synced: Point,
    count: u8,
}

fn content(frame: &Frame) -> Content {
    (frame.head.to_vec(), frame.records.iter().map(|record| record.bytes.to_vec()).collect())
}

fn open(world: &World, durable: Point) -> Result<Segments, Error> {
    Segments::open(world, Path::new(DIRECTORY), Options { durable, ..SMALL })
}

fn frames(segments: &Segments, from: Point) -> Result<Vec<(Point, Content)>, Error> {
    let mut frames = Vec::new();
    segments.scan(from, |frame| {
        for record in &frame.records {
            assert_eq!(segments.read(record.location)?, record.bytes);
        }
        frames.push((frame.end, content(&frame)));
        Ok(())
    })?;
    Ok(frames)
}

impl Run {
    fn new() -> Run {
        let disk = MemoryDisk::new();
        let world = World::simulated(11, disk.clone());
        let segments = Some(open(&world, Point::START).unwrap());
        Run { disk, world, segments, frames: Vec::new(), synced: Point::START, count: 0 }
    }

    fn step(&mut self, step: Step) {
        let segments = self.segments.as_ref().expect("the segments are open");
        match step {
            Step::Append { head, records } => {
                self.count = self.count.wrapping_add(1);
                let head = vec![self.count; head];
                let records: Vec<Vec<u8>> = records.into_iter().map(|size| vec![self.count; size]).collect();
                let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                let locations = segments.append(&head, &slices).unwrap();
                for (location, record) in locations.into_iter().zip(&records) {
                    assert_eq!(segments.read(location).unwrap(), record[..]);
                }
                self.frames.push((segments.end(), (head, records)));
            }
            Step::Sync => self.synced = segments.sync().unwrap(),
            Step::Seal => drop(segments.seal().unwrap()),
            Step::RemoveOldest => self.remove_oldest(),
            Step::Reopen => self.reopen(),
            Step::Crash { seed } => {
                self.segments = None;
                self.disk.crash(&Random::from_seed(seed));
                self.reopen();
            }
        }
    }

    fn remove_oldest(&mut self) {
        let segments = self.segments.as_ref().expect("the segments are open");
        let oldest = segments.list().unwrap()[0];
        if oldest.sealed && oldest.id < self.synced.segment {
            segments.remove(&[oldest.id]).unwrap();
            self.frames.retain(|(end, _)| end.segment > oldest.id);
        }
    }

    /// Opens the segments again, as a store without a checkpoint and as one with the freshest: what was synced must be
    /// there, and of the rest a prefix.
    fn reopen(&mut self) {
        self.segments = None;
        let segments = open(&self.world, self.synced).unwrap();
        let found = frames(&segments, Point::START).unwrap();
        drop(segments);
        let segments = open(&self.world, Point::START).unwrap();
        assert_eq!(frames(&segments, Point::START).unwrap(), found);
        assert!(self.frames.starts_with(&found), "found {found:?}, appended {:?}", self.frames);
        let lost = self.frames.get(found.len()).map(|(end, _)| *end);
        assert!(lost.is_none_or(|end| end > self.synced), "{lost:?} was synced up to {:?}", self.synced);
        let tail: Vec<_> = found.iter().filter(|(end, _)| *end > self.synced).cloned().collect();
        assert_eq!(frames(&segments, self.synced).unwrap(), tail);
        self.frames = found;
        self.segments = Some(segments);
    }
}

proptest! {
    #[test]
    fn a_crash_keeps_all_that_was_synced_and_a_prefix_of_the_rest(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
    }
}

/// Some segments, of which all but the last frame is known to be durable.
fn filled(disk: &MemoryDisk) -> (World, Segments, Vec<RecordLocation>) {
    let world = World::simulated(2, disk.clone());
    let segments = open(&world, Point::START).unwrap();
    let mut locations = Vec::new();
    for n in 0..12_u8 {
        locations.extend(segments.append(&[n; 20], &[&[n; 150], &[n; 99]]).unwrap());
        segments.sync().unwrap();
    }
    segments.append(b"last", &[]).unwrap();
    (world, segments, locations)
}

#[test]
fn a_flipped_bit_is_never_served() {
    let disk = MemoryDisk::new();
    let (_, segments, locations) = filled(&disk);
    assert!(segments.list().unwrap().len() > 2);
    for location in locations {
        let path = path_of(Path::new(DIRECTORY), location.segment);
        for bit in (0..u64::from(location.length + 8) * 8).step_by(5) {
            let bit = u64::from(location.offset) * 8 + bit;
            disk.flip_bit(&path, bit).unwrap();
            let error = segments.read(location).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{} is damaged at byte {}", path.display(), location.offset)),
                "{error}"
            );
            assert!(segments.scan(Point::START, |_| Ok(())).is_err(), "bit {bit}");
            disk.flip_bit(&path, bit).unwrap();
        }
    }
}

#[test]
fn a_flipped_bit_before_the_synced_point_is_refused_at_open() {
    let disk = MemoryDisk::new();
    let (world, segments, locations) = filled(&disk);
    let (end, before_last) = (segments.end(), frames(&segments, Point::START).unwrap());
    drop(segments);
    let active = path_of(Path::new(DIRECTORY), end.segment);
    let last = locations[locations.len() - 1];
    let synced = u64::from(last.offset + 8 + last.length);
    for bit in (0..synced * 8).step_by(3) {
        disk.flip_bit(&active, bit).unwrap();
        let error = open(&world, Point::START).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} is damaged at byte ", active.display())), "{error}");
        disk.flip_bit(&active, bit).unwrap();
    }
    disk.flip_bit(&active, synced * 8 + 40).unwrap();
    let segments = open(&world, Point::START).unwrap();
    let left = frames(&segments, Point::START).unwrap();
    assert_eq!(left[..], before_last[..before_last.len() - 1], "the last frame was never promised");
}

#[test]
fn what_the_checkpoint_saw_must_still_be_there() {
    let disk = MemoryDisk::new();
    let (world, segments, _) = filled(&disk);
    let end = segments.sync().unwrap();
    drop(segments);
    let path = path_of(Path::new(DIRECTORY), end.segment);
    world.disk.open(&path, Open::Write).unwrap().set_len(u64::from(end.offset) - 1).unwrap();
    let error = open(&world, end).map(drop).unwrap_err().to_string();
    assert!(error.contains("is damaged at byte"), "{error}");
    world.disk.remove(&path).unwrap();
    let error = open(&world, end).map(drop).unwrap_err().to_string();
    assert!(error.ends_with("the segment is missing"), "{error}");
}

#[test]
fn a_full_disk_adds_nothing_and_goes_on_when_there_is_room() {
    let disk = MemoryDisk::new();
    let world = World::simulated(2, disk.clone());
    let segments = open(&world, Point::START).unwrap();
    segments.append(b"first", &[b"kept"]).unwrap();
    let before = segments.end();
    disk.limit(Some(400));
    let error = io::Error::from(segments.append(b"second", &[&[0; 300]]).unwrap_err());
    assert_eq!((error.kind(), segments.end()), (io::ErrorKind::StorageFull, before));
    disk.limit(None);
    segments.append(b"third", &[b"kept, too"]).unwrap();
    let heads: Vec<_> = frames(&segments, Point::START).unwrap().into_iter().map(|(_, (head, _))| head).collect();
    assert_eq!(heads, [b"first", b"third"]);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let disk = MemoryDisk::new();
    let (world, segments, _) = filled(&disk);
    let expected = frames(&segments, Point::START).unwrap();
    let hold = segments.hold();
    segments.append(b"later", &[]).unwrap();
    segments.seal().unwrap();
    let sealed: Vec<_> = segments.list().unwrap().iter().filter(|l| l.sealed).map(|l| l.id).collect();
    segments.remove(&sealed).unwrap();
    assert!(segments.list().unwrap().iter().all(|listed| !sealed.contains(&listed.id)));
    hold.link_into(Path::new("/data/snapshot")).unwrap();
    let copy = Segments::open(&world, Path::new("/data/snapshot"), SMALL).unwrap();
    assert_eq!(frames(&copy, Point::START).unwrap(), expected);

    let files = || world.disk.list(Path::new(DIRECTORY)).unwrap().iter().filter(|name| name.ends_with(".seg")).count();
    segments.provide().unwrap();
    assert!(files() > sealed.len(), "a file went that somebody held");
    drop(hold);
    segments.provide().unwrap();
    assert_eq!(files(), 1, "what nobody holds goes");
}

#[test]
fn readers_and_syncs_run_beside_appends_on_real_files() {
    let directory = tempfile::tempdir().unwrap();
    let world = World { disk: Disk::real(), ..World::simulated(1, MemoryDisk::new()) };
    let segments = Segments::open(&world, directory.path(), SMALL).unwrap();
    std::thread::scope(|scope| {
        let syncing = segments.clone();
        scope.spawn(move || (0..20).for_each(|_| assert!(syncing.sync().is_ok())));
        for n in 0..200_u8 {
            let (segments, location) = (segments.clone(), segments.append(&[n], &[&[n; 100]]).unwrap()[0]);
            scope.spawn(move || assert_eq!(segments.read(location).unwrap(), vec![n; 100]));
        }
    });
    let expected = frames(&segments, Point::START).unwrap();
    assert_eq!(expected.len(), 200);
    drop(segments);
    let segments = Segments::open(&world, directory.path(), SMALL).unwrap();
    assert_eq!(frames(&segments, Point::START).unwrap(), expected);
}
