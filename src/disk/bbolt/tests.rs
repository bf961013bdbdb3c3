use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::page::{Meta, PAGE_HEAD_BYTES, PageHead, bucket_head};
use super::*;
use crate::disk::Error;
use crate::world::disk::Open;
use crate::world::{Disk, MemoryDisk};

const PATH: &str = "/data/db";

type Content = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn disk() -> Disk {
    Disk::memory(MemoryDisk::new())
}

fn write(disk: &Disk, content: &Content) -> Vec<u8> {
    let mut writer = Writer::create(disk, Path::new(PATH), 7).unwrap();
    for (name, bucket) in content {
        writer.bucket(name).unwrap();
        bucket.iter().for_each(|(key, value)| writer.put(key, value).unwrap());
    }
    let bytes = writer.finish().unwrap();
    let file = disk.read(Path::new(PATH)).unwrap();
    assert_eq!(file.len() as u64, bytes);
    file
}

fn read(disk: &Disk) -> Result<Content, Error> {
    let reader = Reader::open(disk, Path::new(PATH))?;
    let mut content = Content::new();
    for name in reader.buckets()? {
        let bucket = content.entry(name.clone()).or_default();
        reader.scan(&name, &mut |key, value| {
            bucket.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
    }
    Ok(content)
}

fn read_bytes(bytes: &[u8]) -> Result<Content, Error> {
    let disk = disk();
    disk.open(Path::new(PATH), Open::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
    read(&disk)
}

fn sample() -> Content {
    let many = (0..3000_u32).map(|i| (i.to_be_bytes().to_vec(), vec![7; (i % 90) as usize])).collect();
    let large = [(b"a".to_vec(), vec![1; 10_000]), (b"b".to_vec(), vec![2; 4_080])].into();
    [(b"key".to_vec(), many), (b"large".to_vec(), large), (b"none".to_vec(), BTreeMap::new())].into()
}

#[test]
fn what_is_written_comes_back_and_is_always_the_same() {
    let (one, two) = (disk(), disk());
    let bytes = write(&one, &sample());
    assert_eq!(bytes, write(&two, &sample()));
    assert_eq!(read(&one).unwrap(), sample());
    assert_eq!(crc32c::crc32c(&bytes), 0x6a0e_6dd0, "the layout has changed");
    let reader = Reader::open(&one, Path::new(PATH)).unwrap();
    assert_eq!((reader.transaction(), reader.pages_bytes()), (7, bytes.len() as u64));
    assert!(!reader.scan(b"missing", &mut |_, _| panic!("it has no keys")).unwrap());
}

#[test]
fn a_small_bucket_may_stand_in_the_root_itself() {
    let mut bytes = write(&disk(), &[(b"meta".to_vec(), BTreeMap::new())].into());
    // The root leaf is the last page; its only value becomes a bucket of one key, `k` = `v`.
    let root = bytes.len() - 4096;
    let mut value = bucket_head(0, 0).to_vec();
    value.extend(PageHead { id: 0, flags: 2, count: 1, overflow: 0 }.encode());
    value.extend([0_u32, 16, 1, 1].into_iter().flat_map(u32::to_le_bytes));
    value.extend(b"kv");
    bytes[root + 28..root + 32].copy_from_slice(&(value.len() as u32).to_le_bytes());
    let at = root + PAGE_HEAD_BYTES + 16 + 4;
    bytes[at..at + value.len()].copy_from_slice(&value);
    let expected = [(b"meta".to_vec(), [(b"k".to_vec(), b"v".to_vec())].into())].into();
    assert_eq!(read_bytes(&bytes).unwrap(), expected);
}

#[test]
fn the_other_meta_serves_where_one_is_damaged() {
    let bytes = write(&disk(), &sample());
    for meta in [0, 4096] {
        for byte in 0..64 {
            let mut damaged = bytes.clone();
            damaged[meta + PAGE_HEAD_BYTES + byte] ^= 1;
            assert_eq!(read_bytes(&damaged).unwrap(), sample(), "meta at {meta}, byte {byte}");
        }
    }
    let mut damaged = bytes;
    damaged[20] ^= 1;
    damaged[4096 + 20] ^= 1;
    let error = read_bytes(&damaged).unwrap_err().to_string();
    assert_eq!(error, "/data/db is damaged at byte 0: neither of the two meta pages of a bbolt file is sound");
}

/// A file of one page that is its own child many times over must not keep a reader busy.
#[test]
fn pages_that_are_no_tree_are_refused() {
    let mut bytes = write(&disk(), &sample());
    let root = bytes.len() - 4096;
    let id = (root / 4096) as u64;
    bytes[root..root + 16].copy_from_slice(&PageHead { id, flags: 1, count: 200, overflow: 0 }.encode());
    for i in 0..200 {
        let at = root + 16 + 16 * i;
        bytes[at..at + 4].copy_from_slice(&16_u32.to_le_bytes());
        bytes[at + 4..at + 8].fill(0);
        bytes[at + 8..at + 16].copy_from_slice(&id.to_le_bytes());
    }
    let error = read_bytes(&bytes).unwrap_err().to_string();
    assert!(error.ends_with("the pages are no tree"), "{error}");
}

#[test]
fn every_page_that_is_missing_is_missed() {
    let bytes = write(&disk(), &sample());
    for pages in 3..bytes.len() / 4096 {
        assert!(read_bytes(&bytes[..pages * 4096]).is_err(), "cut to {pages} pages");
    }
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = |max: usize| prop::collection::vec(any::<u8>(), 0..max);
    let value = prop_oneof![8 => bytes(40), 2 => bytes(3000), 1 => bytes(20_000)];
    let bucket = prop::collection::btree_map(bytes(60), value, 0..200);
    prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..20), bucket, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_content_comes_back(content in content()) {
        let disk = disk();
        write(&disk, &content);
        prop_assert_eq!(read(&disk).unwrap(), content);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..20_000), metas: bool) {
        if metas && bytes.len() >= 8192 {
            let pages = bytes.len() as u64 / 4096 + 1;
            for id in [0_u64, 1] {
                let at = id as usize * 4096;
                let meta = Meta { page_bytes: 4096, root: 2 + id, sequence: 0, free_list: 2, pages, transaction: id };
                bytes[at..at + 16].copy_from_slice(&PageHead { id, flags: 4, count: 0, overflow: 0 }.encode());
                bytes[at + 16..at + 80].copy_from_slice(&meta.encode());
            }
        }
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn no_change_of_a_file_makes_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = write(&disk(), &sample());
        // Most of the file is values: aim at the heads of pages, too.
        for (number, (index, byte)) in changes.into_iter().enumerate() {
            let at = if number % 2 == 0 { index.index(bytes.len()) } else { index.index(bytes.len() / 4096) * 4096 + usize::from(byte) };
            bytes[at] ^= byte;
        }
        let _ = read_bytes(&bytes);
    }
}
