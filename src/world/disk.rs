//! Files and directories, with durability spelled out: bytes written count only after [`File::sync_data`], names
//! created, renamed or removed only after [`Disk::sync_dir`].
//!
//! The twin in memory keeps what is durable apart from what is merely written; [`MemoryDisk::crash`] throws away the
//! latter, as a power failure does. All calls block: make them on a lane that may, or through
//! [`Spawner::blocking`](super::Spawner::blocking).

mod access;
mod beneath;
mod memory;
mod mounts;
mod named;
mod real;
mod reserve;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use access::{Access, Open, PlaceType};
pub use beneath::Pinned;
pub use memory::MemoryDisk;
pub use mounts::Bind;
use named::named;
use reserve::Reserve;

/// A handle on a file system.
#[derive(Clone, Debug)]
pub struct Disk(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real(Reserve),
    /// As the real one, but nothing waits for bytes to be durable.
    Careless(Reserve),
    Memory(MemoryDisk),
}

macro_rules! forward {
    ($self:ident, $name:ident($($arg:expr),*)) => {
        match &$self.0 {
            Kind::Real(_) | Kind::Careless(_) => real::$name($($arg),*),
            Kind::Memory(disk) => disk.$name($($arg),*),
        }
    };
}

impl Disk {
    pub fn real() -> Disk {
        Disk(Kind::Real(Reserve::default()))
    }

    pub fn memory(disk: MemoryDisk) -> Disk {
        Disk(Kind::Memory(disk))
    }

    /// The same files, but nothing waits for bytes to be durable: a power failure may lose what was told to be safe.
    pub fn without_sync(&self) -> Disk {
        match &self.0 {
            Kind::Real(reserve) | Kind::Careless(reserve) => Disk(Kind::Careless(reserve.clone())),
            Kind::Memory(disk) => Disk::memory(disk.clone()),
        }
    }

    /// Whether files live in memory: for what brings its own files and needs a twin in a simulation.
    pub fn is_simulated(&self) -> bool {
        matches!(self.0, Kind::Memory(_))
    }

    /// How long a simulated disk takes before it syncs; a real one takes its time while it does.
    pub fn lag(&self) -> Duration {
        match &self.0 {
            Kind::Real(_) | Kind::Careless(_) => Duration::ZERO,
            Kind::Memory(disk) => disk.lag(),
        }
    }

    /// Opens a file. Where no file descriptor is to be had, that is an [`io::ErrorKind::QuotaExceeded`]: it passes, as a
    /// full disk does. For files that are written some are held back. A file that [`Open::CreateNew`] makes is readable by its owner only, and its name durable only
    /// after [`sync_dir`](Disk::sync_dir).
    pub fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        match &self.0 {
            Kind::Real(reserve) => real::open(reserve, path, how).map(|file| File(FileKind::Real(Arc::new(file)))),
            Kind::Careless(reserve) => {
                real::open(reserve, path, how).map(|file| File(FileKind::Careless(Arc::new(file))))
            }
            Kind::Memory(disk) => disk.open(path, how).map(|file| File(FileKind::Memory(file))),
        }
    }

    /// The whole content of a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if !self.is_simulated() {
            // Files of /proc do not tell their length.
            return real::read(path);
        }
        let file = self.open(path, Open::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Up to `bytes_max` bytes from the end of a file that somebody else may write to: a link is not followed, a FIFO
    /// not waited for.
    pub fn read_end(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        if !self.is_simulated() {
            return real::read_end(path, bytes_max);
        }
        let bytes = self.read(path)?;
        Ok(bytes[bytes.len().saturating_sub(bytes_max)..].to_vec())
    }

    /// What is at `path`, behind links.
    pub fn place_type(&self, path: &Path) -> io::Result<PlaceType> {
        forward!(self, place_type(path))
    }

    /// Replaces a file's content durably and at once: after a crash there is the old content or the new.
    pub fn replace(&self, path: &Path, content: &[u8], access: Access) -> io::Result<()> {
        self.stage(path, content, access)?.commit()
    }

    /// Does all of [`replace`](Disk::replace) that needs room; what was there stays in force until
    /// [`Staged::commit`].
    pub fn stage(&self, path: &Path, content: &[u8], access: Access) -> io::Result<Staged> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let scratch = path.with_file_name(format!(".{name}.new"));
        if self.exists(&scratch) {
            self.remove(&scratch)?;
        }
        let staged = Staged { disk: self.clone(), scratch, path: path.to_owned(), committed: false };
        let file = self.open(&staged.scratch, Open::CreateNew)?;
        file.write_all_at(content, 0)?;
        file.sync_data()?;
        if access == Access::Everyone {
            forward!(self, let_everyone_read(&staged.scratch))?;
        }
        Ok(staged)
    }

    pub fn exists(&self, path: &Path) -> bool {
        forward!(self, exists(path))
    }

    /// Creates a directory and those above it; one that exists is left as it is.
    pub fn create_dir_all(&self, path: &Path, access: Access) -> io::Result<()> {
        forward!(self, create_dir_all(path, access))
    }

    /// The names in a directory, sorted.
    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        forward!(self, list(path))
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        forward!(self, remove(path))
    }

    /// Removes a directory and all below it.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        forward!(self, remove_dir_all(path))
    }

    /// Renames a file, replacing one of that name; or a directory, to a name that is free.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        forward!(self, rename(from, to))
    }

    /// A second name for a file's bytes.
    pub fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        forward!(self, hard_link(from, to))
    }

    /// Sets the permission bits of a file or directory, also of one that a link leads to: where somebody else may put
    /// a link, use [`File::set_mode`].
    pub fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        forward!(self, set_mode(path, mode))
    }

    /// Gives a file or directory to a group.
    pub fn set_group(&self, path: &Path, group: u32) -> io::Result<()> {
        forward!(self, set_group(path, group))
    }

    /// Makes `link` a symbolic link to `target`, which is taken as it is. The twin in memory knows none.
    pub fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        forward!(self, symlink(target, link))
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Kind::Real(reserve) => real::sync_dir(reserve, path),
            Kind::Careless(_) => Ok(()),
            Kind::Memory(disk) => disk.sync_dir(path),
        }
    }

    /// Takes a directory for this process alone, until the lock is dropped or the process ends.
    pub fn lock_dir(&self, path: &Path) -> io::Result<DirLock> {
        match &self.0 {
            Kind::Real(_) | Kind::Careless(_) => real::lock_dir(path).map(|file| DirLock { _file: Some(file) }),
            Kind::Memory(_) => Ok(DirLock { _file: None }),
        }
    }

    /// As [`lock_dir`](Disk::lock_dir), but waits until the process that holds it is done.
    pub fn wait_for_dir(&self, path: &Path) -> io::Result<DirLock> {
        match &self.0 {
            Kind::Real(_) | Kind::Careless(_) => real::wait_for_dir(path).map(|file| DirLock { _file: Some(file) }),
            Kind::Memory(_) => Ok(DirLock { _file: None }),
        }
    }
}

/// A file that is whole and durable beside its final name. Dropped, it goes.
#[derive(Debug)]
pub struct Staged {
    disk: Disk,
    scratch: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl Staged {
    /// Puts it in the place of what was there, durably.
    pub fn commit(mut self) -> io::Result<()> {
        self.disk.rename(&self.scratch, &self.path)?;
        self.committed = true;
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed && self.disk.exists(&self.scratch) {
            // The next one under this name removes it, too.
            let _ = self.disk.remove(&self.scratch);
        }
    }
}

/// Holds a directory for this process.
#[derive(Debug)]
pub struct DirLock {
    _file: Option<std::fs::File>,
}

/// An open file; clones share it. Offsets and lengths are in bytes.
#[derive(Clone, Debug)]
pub struct File(FileKind);

#[derive(Clone, Debug)]
enum FileKind {
    Real(Arc<std::fs::File>),
    /// Whose bytes are never waited for.
    Careless(Arc<std::fs::File>),
    Memory(memory::MemoryFile),
}

impl File {
    /// Fills `buffer` from `offset` on; [`io::ErrorKind::UnexpectedEof`] where the file ends first.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::read_exact_at(file, buffer, offset),
            FileKind::Memory(file) => file.read_exact_at(buffer, offset),
        }
    }

    /// Writes all of `bytes` at `offset`, growing the file where needed.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::write_all_at(file, bytes, offset),
            FileKind::Memory(file) => file.write_all_at(bytes, offset),
        }
    }

    /// Takes room for `bytes` bytes from `offset` on, so that writes there need none. The length stays.
    pub fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::reserve(file, offset, bytes),
            FileKind::Memory(file) => file.reserve(offset, bytes),
        }
    }

    /// Makes all that was written, and the length, durable. An error means that nothing is known of the bytes since
    /// the last success: end the process, never try again.
    pub fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) => real::sync_data(file),
            FileKind::Careless(_) => Ok(()),
            FileKind::Memory(file) => file.sync_data(),
        }
    }

    pub fn len(&self) -> io::Result<u64> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::len(file),
            FileKind::Memory(file) => file.len(),
        }
    }

    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or grows it with zeroes, which take no room. Room that was reserved beyond the length goes.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::set_len(file, length),
            FileKind::Memory(file) => file.set_len(length),
        }
    }

    /// Sets its permission bits.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::set_file_mode(file, mode),
            FileKind::Memory(_) => Ok(()),
        }
    }

    /// Gives it to a group.
    pub fn set_group(&self, group: u32) -> io::Result<()> {
        match &self.0 {
            FileKind::Real(file) | FileKind::Careless(file) => real::set_file_group(file, group),
            FileKind::Memory(_) => Ok(()),
        }
    }
}
