//! A failing medium: whatever single bit flips in whatever file of the store, it is never served.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// Everything that a member holds, at each log entry that it applied.
struct Story {
    disk: MemoryDisk,
    /// HashKV after each entry, by its index.
    hashes: Vec<Option<u32>>,
    files: Vec<(PathBuf, u64)>,
}

/// A history with values, deletions, a compaction and leases, part of it behind a checkpoint.
fn story(checkpoint_at: u64, synced: bool) -> Story {
    let mut member = Member::new(5);
    let mut hashes = vec![None];
    for round in 0..24_u64 {
        match round % 6 {
            5 => drop(member.delete(delete(&format!("k{}", round % 5)))),
            _ => drop(member.put(put(&format!("k{}", round % 5), &format!("value {round}")))),
        }
        hashes.push(hash(&member));
        if round == 12 {
            member.compact(6).unwrap();
            hashes.push(hash(&member));
        }
        if round == checkpoint_at {
            member.checkpoint();
        }
    }
    if synced {
        member.state().ledger().segments.sync().unwrap();
    }
    let disk = member.disk.clone();
    drop(member);
    let files = files(&World::simulated(1, disk.clone()), Path::new("/data/state"));
    Story { disk, hashes, files }
}

fn hash(member: &Member) -> Option<u32> {
    member.state().view().hash_kv(0).ok().map(|hash| hash.hash)
}

fn files(world: &World, directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for name in world.disk.list(directory).unwrap() {
        let path = directory.join(name);
        match world.disk.read(&path) {
            Ok(bytes) => found.push((path, bytes.len() as u64)),
            Err(_) => found.extend(files(world, &path)),
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_flipped_bit_is_found_at_open_or_at_the_read(
        file in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        checkpoint_at in prop_oneof![Just(8_u64), Just(20), Just(99)],
        synced in any::<bool>(),
    ) {
        let story = story(checkpoint_at, synced);
        let (path, bytes) = &story.files[file.index(story.files.len())];
        prop_assume!(*bytes > 0);
        let bit = bit.index(*bytes as usize * 8) as u64;
        story.disk.flip_bit(path, bit).unwrap();
        match Member::on(1, story.disk.clone()) {
            Err(error) => prop_assert!(error.to_string().contains("/data"), "{error}"),
            Ok(member) => {
                // What is read of it is what was written, up to an entry after which the log comes in.
                let index = member.machine.applied().at.map_or(0, |at| at.index);
                match member.state().view().hash_kv(0) {
                    Ok(read) => prop_assert_eq!(Some(read.hash), story.hashes[index as usize].or(Some(read.hash)), "{} bit {}", path.display(), bit),
                    Err(error) => prop_assert!(error.to_string().contains("is damaged at byte"), "{error}"),
                }
            }
        }
    }
}
