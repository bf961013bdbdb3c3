use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::record::EntryKind;
use super::*;
use crate::disk::Error;
use crate::world::disk::{Access, Open};
use crate::world::{Disk, MemoryDisk};

const DIRECTORY: &str = "/data/member/wal";
const METADATA: Metadata = Metadata { node: 0x628_170c_800d_bcee, cluster: 0xbabc_9795_b64f_03e3 };

fn disk() -> Disk {
    Disk::memory(MemoryDisk::new())
}

fn entry(term: u64, index: u64, data: &[u8]) -> Entry {
    Entry { kind: EntryKind::Normal as i32, term, index, data: Some(Bytes::copy_from_slice(data)) }
}

fn create(disk: &Disk, file_bytes: u64) -> Writer {
    Writer::create(disk, Path::new(DIRECTORY), METADATA, file_bytes).unwrap()
}

fn read(disk: &Disk) -> Result<Log, Error> {
    Ok(super::read(disk, Path::new(DIRECTORY))?.expect("there is a log"))
}

fn only_file(disk: &Disk) -> Vec<u8> {
    disk.read(&Path::new(DIRECTORY).join(file_name(0, 0))).unwrap()
}

fn with_file(bytes: &[u8]) -> Disk {
    let disk = disk();
    disk.create_dir_all(Path::new(DIRECTORY), Access::Owner).unwrap();
    let file = disk.open(&Path::new(DIRECTORY).join(file_name(0, 0)), Open::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    disk
}

/// As etcd 3.4 writes it.
#[test]
fn the_first_records_are_etcds() {
    let disk = disk();
    let mut writer = create(&disk, 512);
    writer.state(HardState { term: 1, vote: METADATA.node, commit: 1 });
    writer.write().unwrap();
    let bytes = only_file(&disk);
    assert_eq!(bytes[..16], *b"\x04\0\0\0\0\0\0\x84\x08\x04\x10\0\0\0\0\0");
    let log = read(&disk).unwrap();
    assert_eq!((log.metadata, log.state.vote, log.snapshots.len()), (METADATA, METADATA.node, 1));
    assert_eq!(bytes.len(), 512);
    assert_eq!(parse_file_name(&file_name(7, 0xab)), Some((7, 0xab)));
    assert_eq!(parse_file_name("0000000000000000-+000000000000ab.wal"), None);
}

#[test]
fn the_log_goes_on_over_files_and_restarts() {
    let disk = disk();
    let mut writer = create(&disk, 1024);
    let mut expected = Vec::new();
    for index in 1..=100 {
        expected.push(entry(1, index, &vec![index as u8; index as usize]));
        writer.entry(&expected[index as usize - 1]);
        writer.state(HardState { term: 1, vote: 9, commit: index });
        writer.write().unwrap();
        if index % 30 == 0 {
            let log = read(&disk).unwrap();
            writer = Writer::resume(&disk, Path::new(DIRECTORY), &log, 1024).unwrap();
            assert_eq!(writer.last(), index);
        }
    }
    writer.sync().unwrap();
    let log = read(&disk).unwrap();
    assert_eq!(log.entries, expected);
    assert_eq!(log.state.commit, 100);
    assert!(log.end.sequence > 3);
}

#[test]
fn entries_take_the_place_of_others() {
    let disk = disk();
    let mut writer = create(&disk, 4096);
    for (term, index) in [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (2, 4)] {
        writer.entry(&entry(term, index, b""));
    }
    writer.write().unwrap();
    let places: Vec<_> = read(&disk).unwrap().entries.iter().map(|entry| (entry.term, entry.index)).collect();
    assert_eq!(places, [(1, 1), (2, 2), (2, 3), (2, 4)]);
    // The log of a member that was sent a snapshot goes on behind it.
    writer.snapshot(&Snapshot { index: 9, term: 3, conf_state: None });
    writer.entry(&entry(3, 10, b""));
    writer.write().unwrap();
    assert_eq!(read(&disk).unwrap().entries, [entry(3, 10, b"")]);
}

fn sample() -> Vec<u8> {
    let disk = disk();
    let mut writer = create(&disk, 8192);
    (1..=20).for_each(|index| writer.entry(&entry(1, index, &[0xab; 100])));
    writer.state(HardState { term: 1, vote: 1, commit: 20 });
    writer.write().unwrap();
    only_file(&disk)
}

#[test]
fn a_torn_end_is_cut_and_damage_before_it_is_not() {
    let bytes = sample();
    let end = read(&with_file(&bytes)).unwrap().end.offset as usize;
    for cut in 0..=end {
        let log = read(&with_file(&bytes[..cut])).unwrap();
        assert!(log.entries.iter().zip(1..).all(|(entry, index)| entry.index == index), "cut to {cut}");
    }
    // The last sector was never written.
    let mut torn = bytes.clone();
    torn[end / 512 * 512..].fill(0);
    assert!(read(&with_file(&torn)).unwrap().entries.len() < 20);
    let mut damaged = bytes;
    damaged[200] ^= 1;
    let error = read(&with_file(&damaged)).unwrap_err().to_string();
    assert!(error.starts_with("/data/member/wal/0000000000000000-0000000000000000.wal is damaged at byte "), "{error}");
}

#[test]
fn a_missing_file_is_missed() {
    let disk = disk();
    let mut writer = create(&disk, 256);
    for index in 1..=20 {
        writer.entry(&entry(1, index, &[1; 60]));
        writer.write().unwrap();
    }
    let names = disk.list(Path::new(DIRECTORY)).unwrap();
    disk.remove(&Path::new(DIRECTORY).join(&names[2])).unwrap();
    assert!(read(&disk).unwrap_err().to_string().ends_with("a file is missing before it"));
}

#[test]
fn snap_files_come_back_and_damage_is_seen() {
    let metadata = snap::SnapMetadata {
        conf_state: Some(ConfState { voters: vec![1, 2], ..Default::default() }),
        index: 9,
        term: 2,
    };
    let snap = snap::Snap { data: None, metadata: Some(metadata) };
    let (name, bytes) = snap::encode(&snap);
    assert_eq!(name, "0000000000000002-0000000000000009.snap");
    assert_eq!(snap::decode(bytes.clone().into()).as_ref(), Ok(&snap));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Some bits of a number mean nothing.
        let read = snap::decode(damaged.into());
        assert!(read.is_err() || read.as_ref() == Ok(&snap), "bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_come_back(data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40), file_bytes in 200_u64..5000) {
        let disk = disk();
        let mut writer = create(&disk, file_bytes);
        let entries: Vec<_> = data.iter().zip(1..).map(|(data, index)| entry(1, index, data)).collect();
        for entry in &entries {
            writer.entry(entry);
            writer.write().unwrap();
        }
        writer.sync().unwrap();
        prop_assert_eq!(read(&disk).unwrap().entries, entries);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let _ = read(&with_file(&bytes));
        let _ = snap::decode(bytes.into());
    }

    #[test]
    fn a_flipped_bit_never_passes(index in any::<prop::sample::Index>()) {
        let mut bytes = sample();
        let sound = read(&with_file(&bytes)).unwrap();
        let bit = index.index(sound.end.offset as usize * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(log) = read(&with_file(&bytes)) {
            // A length or the padding may have changed so that less is read, or nothing else than before.
            prop_assert!(sound.entries.starts_with(&log.entries));
        }
    }
}
