//! The paths of the store's files.
//!
//! ```text
//!   state/current          the number of the generation in force, and its checksum
//!   state/run-00000001     empty; its name counts how often the store was opened
//!   state/g00000001/       a generation: data segments, and `index`, the checkpoint
//!   state/snapshot-…/      a snapshot being sent to a peer: links to sealed segments, and an `index` of its own
//!   state/incoming-…/      a snapshot being received; becomes a generation when it is installed
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::generation::Generation;
use crate::world::disk::{Access, Open};
use crate::world::{Disk, World};

const CURRENT: &str = "current";
const INDEX: &str = "index";
const RUN: &str = "run-";

/// The directories of one member's store, as seen by one generation.
#[derive(Clone, Debug)]
pub struct Files {
    disk: Disk,
    root: PathBuf,
    pub generation: Generation,
    /// Counts the directories made for snapshots, of all generations.
    scratches: Arc<AtomicU32>,
}

/// A directory that is removed, with everything in it, when this is dropped, or at the next start.
#[derive(Debug)]
pub struct Scratch {
    disk: Disk,
    pub directory: PathBuf,
}

impl Files {
    /// Finds the generation in force and removes what a crash left of others.
    pub fn open(world: &World, data_dir: &Path) -> io::Result<Files> {
        let (disk, root) = (world.disk.clone(), data_dir.join("state"));
        disk.create_dir_all(&root, Access::Owner)?;
        let current = root.join(CURRENT);
        let generation = if disk.exists(&current) { parse(&current, &disk.read(&current)?)? } else { Generation(1) };
        let files = Files { disk, root, generation, scratches: Arc::default() };
        if files.disk.exists(&current) && !files.disk.exists(&files.directory()) {
            return Err(damaged(&current, "it names a generation that is not there"));
        }
        files.clear_leftovers()?;
        files.disk.create_dir_all(&files.directory(), Access::Owner)?;
        files.disk.sync_dir(&files.root)?;
        files.disk.sync_dir(data_dir)?;
        Ok(files)
    }

    /// Counts a run of this member, durably: no two have the same number. The count is a name, which changes at once
    /// and on a full disk, too.
    pub fn begin_run(&self) -> io::Result<u64> {
        let names = self.disk.list(&self.root)?;
        let last = names.iter().filter_map(|name| Some((name.strip_prefix(RUN)?.parse::<u64>().ok()?, name))).max();
        let run = last.map_or(1, |(last, _)| last + 1);
        let path = self.root.join(format!("{RUN}{run:08}"));
        match last {
            Some((_, name)) => self.disk.rename(&self.root.join(name), &path)?,
            None => drop(self.disk.open(&path, Open::CreateNew)?),
        }
        self.disk.sync_dir(&self.root)?;
        Ok(run)
    }

    /// The directory of the generation in force.
    pub fn directory(&self) -> PathBuf {
        self.root.join(format!("g{:08}", self.generation.0))
    }

    pub fn index(&self) -> PathBuf {
        self.directory().join(INDEX)
    }

    /// The checkpoint in a directory laid out like a generation.
    pub fn index_in(directory: &Path) -> PathBuf {
        directory.join(INDEX)
    }

    /// A new directory for files that are only read, such as those of a snapshot.
    pub fn scratch(&self) -> io::Result<Scratch> {
        Ok(Scratch { disk: self.disk.clone(), directory: self.fresh("snapshot")? })
    }

    /// A new directory for an incoming snapshot.
    pub fn incoming(&self) -> io::Result<PathBuf> {
        self.fresh("incoming")
    }

    /// Puts `directory` in force as the next generation, durably: after a crash there is this one or the next. The
    /// files of this one stay until they are [removed](Files::remove). Where there is no room, `directory` is as it
    /// was, and may be put in force later.
    pub fn replace(&self, directory: &Path) -> io::Result<Files> {
        let next = Files { generation: Generation(self.generation.0 + 1), ..self.clone() };
        let target = next.directory();
        if self.disk.exists(&target) {
            self.disk.remove_dir_all(&target)?;
        }
        let current =
            self.disk.stage(&self.root.join(CURRENT), record(next.generation).as_bytes(), Access::Everyone)?;
        self.disk.rename(directory, &target)?;
        if let Err(error) = self.disk.sync_dir(&target).and_then(|()| self.disk.sync_dir(&self.root)) {
            self.disk.rename(&target, directory)?;
            return Err(error);
        }
        current.commit()?;
        Ok(next)
    }

    /// Removes the files of this generation, after another one was put in force. Readers that have them open can still
    /// read them. The next start removes what is left of them.
    pub fn remove(&self) -> io::Result<()> {
        self.disk.remove_dir_all(&self.directory())
    }

    fn fresh(&self, what: &str) -> io::Result<PathBuf> {
        let number = self.scratches.fetch_add(1, Ordering::Relaxed) + 1;
        let directory = self.root.join(format!("{what}-{number}"));
        if self.disk.exists(&directory) {
            self.disk.remove_dir_all(&directory)?;
        }
        self.disk.create_dir_all(&directory, Access::Owner)?;
        Ok(directory)
    }

    fn clear_leftovers(&self) -> io::Result<()> {
        let current = self.directory();
        for name in self.disk.list(&self.root)? {
            let path = self.root.join(&name);
            let leftover = name.starts_with("snapshot-") || name.starts_with("incoming-") || name.starts_with('g');
            if leftover && path != current {
                self.disk.remove_dir_all(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "failed to remove a snapshot's files; the next start removes them");
        }
    }
}

fn record(generation: Generation) -> String {
    format!("{} {:08x}\n", generation.0, crc32c::crc32c(&generation.0.to_le_bytes()))
}

/// The number that `current` records. Earlier releases wrote it without a checksum.
fn parse(path: &Path, content: &[u8]) -> io::Result<Generation> {
    let text = String::from_utf8_lossy(content);
    let generation = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok().map(Generation));
    let whole = |generation: &Generation| text == record(*generation) || text == format!("{}\n", generation.0);
    let reason = || format!("it does not name a generation: {:?}", text.trim_end());
    generation.filter(whole).ok_or_else(|| damaged(path, &reason()))
}

fn damaged(path: &Path, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    #[test]
    fn no_flipped_bit_names_another_generation() {
        let disk = MemoryDisk::new();
        let world = World::simulated(1, disk.clone());
        let files = Files::open(&world, Path::new("/data")).unwrap();
        let incoming = files.incoming().unwrap();
        world.disk.replace(&incoming.join(INDEX), b"all there is", Access::Owner).unwrap();
        let replaced = files.replace(&incoming).unwrap();
        files.remove().unwrap();
        let current = Path::new("/data/state/current");
        for bit in 0..world.disk.read(current).unwrap().len() as u64 * 8 {
            disk.flip_bit(current, bit).unwrap();
            match Files::open(&world, Path::new("/data")) {
                Ok(opened) => assert_eq!(opened.generation, Generation(2), "bit {bit}"),
                Err(error) => assert!(error.to_string().contains("/data/state/current is damaged"), "{error}"),
            }
            disk.flip_bit(current, bit).unwrap();
            assert_eq!(world.disk.read(&replaced.index()).unwrap(), b"all there is");
        }
        world.disk.replace(current, b"2\n", Access::Everyone).unwrap();
        assert_eq!(Files::open(&world, Path::new("/data")).unwrap().generation, Generation(2));
    }

    #[test]
    fn every_run_has_a_number_of_its_own() {
        let disk = MemoryDisk::new();
        let world = World::simulated(1, disk.clone());
        for run in 1..=12 {
            let files = Files::open(&world, Path::new("/data")).unwrap();
            assert_eq!(files.begin_run().unwrap(), run);
            disk.crash(&world.random);
            disk.limit(Some(disk.used()));
        }
    }
}
