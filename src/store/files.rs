//! Where the store's files lie.
//!
//! ```text
//!   state/current          the number of the generation in force
//!   state/g00000001/       a generation: data segments, and `index`, the checkpoint
//!   state/snapshot-…/      what is being sent to a peer: links to sealed segments, and an `index` of its own
//!   state/incoming-…/      what is being received; becomes a generation when it is installed
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::world::disk::Access;
use crate::world::{Disk, World};

const CURRENT: &str = "current";
const INDEX: &str = "index";

/// The directories of one member's store.
#[derive(Clone, Debug)]
pub struct Files {
    disk: Disk,
    root: PathBuf,
    generation: u32,
    scratch: u32,
}

impl Files {
    /// Finds the generation in force and clears away what a crash left of others.
    pub fn open(world: &World, data_dir: &Path) -> io::Result<Files> {
        let (disk, root) = (world.disk.clone(), data_dir.join("state"));
        disk.create_dir_all(&root, Access::Owner)?;
        let current = root.join(CURRENT);
        let generation = if disk.exists(&current) { parse(&current, &disk.read(&current)?)? } else { 1 };
        let files = Files { disk, root, generation, scratch: 0 };
        files.clear_leftovers()?;
        files.disk.create_dir_all(&files.directory(), Access::Owner)?;
        files.disk.sync_dir(&files.root)?;
        files.disk.sync_dir(data_dir)?;
        Ok(files)
    }

    /// The directory of the generation in force.
    pub fn directory(&self) -> PathBuf {
        self.generation_directory(self.generation)
    }

    pub fn index(&self) -> PathBuf {
        self.directory().join(INDEX)
    }

    /// The checkpoint in a directory laid out like a generation.
    pub fn index_in(directory: &Path) -> PathBuf {
        directory.join(INDEX)
    }

    /// A fresh directory for a snapshot.
    pub fn snapshot(&mut self) -> io::Result<PathBuf> {
        self.fresh("snapshot")
    }

    /// A fresh directory for an incoming snapshot.
    pub fn incoming(&mut self) -> io::Result<PathBuf> {
        self.fresh("incoming")
    }

    /// Puts the files of `directory` in force, durably: after a crash there is the old generation or the new. The old one's files
    /// go; those who hold them open can still read them.
    pub fn replace(&mut self, directory: &Path) -> io::Result<()> {
        let next = self.generation + 1;
        let target = self.generation_directory(next);
        if self.disk.exists(&target) {
            self.disk.remove_dir_all(&target)?;
        }
        self.disk.create_dir_all(&target, Access::Owner)?;
        for name in self.disk.list(directory)? {
            self.disk.rename(&directory.join(&name), &target.join(&name))?;
        }
        self.disk.sync_dir(&target)?;
        self.disk.remove_dir_all(directory)?;
        self.disk.sync_dir(&self.root)?;
        self.disk.replace(&self.root.join(CURRENT), format!("{next}\n").as_bytes(), Access::Everyone)?;
        let old = self.directory();
        self.generation = next;
        self.disk.remove_dir_all(&old)
    }

    fn generation_directory(&self, generation: u32) -> PathBuf {
        self.root.join(format!("g{generation:08}"))
    }

    fn fresh(&mut self, what: &str) -> io::Result<PathBuf> {
        self.scratch += 1;
        let directory = self.root.join(format!("{what}-{}", self.scratch));
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

fn parse(path: &Path, content: &[u8]) -> io::Result<u32> {
    let text = String::from_utf8_lossy(content);
    let message = || format!("{} does not name a generation: {:?}", path.display(), text.trim_end());
    text.trim_end().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, message()))
}
