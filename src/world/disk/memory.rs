//! A file system in memory that knows what would survive a power failure.
//!
//! Each file keeps its durable bytes and the writes since its last sync; each directory entry is durable or not. What a
//! crash keeps of a file's unsynced writes is drawn from the seed: either a prefix, the last write cut anywhere, or any
//! set of sectors, as a disk that reorders its cache leaves them.
//!
//! Every operation is a yield point of simulated [threads](crate::world::threads): others may come before it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::{Access, Open, PlaceType};
use crate::world::Random;
use crate::world::threads::yield_point;

/// The disk of one simulated node. It outlives the node's crashes; clones share it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    bytes_max: Option<usize>,
    no_descriptors: bool,
    syncs_fail: bool,
    lag: Duration,
}

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

type Inode = Arc<Mutex<Content>>;

#[derive(Clone, Default)]
struct Content {
    written: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// The file has room up to here: it was written so far, or reserved. Growing it alone takes none.
    allocated: usize,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Change::SetLen(length) => content.resize(*length, 0),
        }
    }

    /// The parts of this change that reach the disk by themselves.
    fn sectors(&self) -> Vec<Change> {
        let Change::Write { offset, bytes } = self else { return vec![self.clone()] };
        let (mut at, mut rest, mut sectors) = (*offset, &bytes[..], Vec::new());
        while !rest.is_empty() {
            let (sector, more) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
            sectors.push(Change::Write { offset: at, bytes: sector.to_vec() });
            (at, rest) = (at + sector.len(), more);
        }
        sectors
    }
}

impl Content {
    fn crash(&mut self, random: &Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        if random.within(0..2) == 0 {
            keep_prefix(&unsynced, &mut self.durable, random);
        } else {
            keep_sectors(&unsynced, &mut self.durable, random);
        }
        self.written.clone_from(&self.durable);
        self.allocated = self.allocated.min(self.written.len());
    }
}

fn keep_prefix(unsynced: &[Change], kept: &mut Vec<u8>, random: &Random) {
    let whole = random.within(0..unsynced.len() as u64 + 1) as usize;
    for change in &unsynced[..whole] {
        change.apply(kept);
    }
    if let Some(Change::Write { offset, bytes }) = unsynced.get(whole) {
        let torn = random.within(0..bytes.len() as u64 + 1) as usize;
        Change::Write { offset: *offset, bytes: bytes[..torn].to_vec() }.apply(kept);
    }
}

fn keep_sectors(unsynced: &[Change], kept: &mut Vec<u8>, random: &Random) {
    for sector in unsynced.iter().flat_map(Change::sectors) {
        if matches!(sector, Change::SetLen(_)) || random.within(0..2) == 0 {
            sector.apply(kept);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives all below `from` their names below `to`; false when there is nothing.
fn move_below(names: &mut BTreeMap<PathBuf, Inode>, from: &Path, to: &Path) -> bool {
    let moved: Vec<_> = names.extract_if(.., |name, _| name.starts_with(from)).collect();
    let found = !moved.is_empty();
    let renamed = |name: &Path| to.join(name.strip_prefix(from).expect("it is below"));
    names.extend(moved.into_iter().map(|(name, inode)| (renamed(&name), inode)));
    found
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryDisk({} files)", lock(&self.0).names.len())
    }
}

impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Power fails: what was not synced is lost, but for what `random` keeps of it.
    pub fn crash(&self, random: &Random) {
        let mut state = lock(&self.0);
        state.names = state.durable_names.clone();
        for inode in state.names.values() {
            lock(inode).crash(random);
        }
    }

    /// A disk that holds the same, made as two disks are cloned.
    pub fn image(&self) -> MemoryDisk {
        let state = lock(&self.0);
        let mut copies: BTreeMap<*const Mutex<Content>, Inode> = BTreeMap::new();
        let mut copy = |names: &BTreeMap<PathBuf, Inode>| -> BTreeMap<PathBuf, Inode> {
            let mut twin = |inode: &Inode| {
                let copied = copies.entry(Arc::as_ptr(inode));
                copied.or_insert_with(|| Arc::new(Mutex::new(lock(inode).clone()))).clone()
            };
            names.iter().map(|(name, inode)| (name.clone(), twin(inode))).collect()
        };
        let (names, durable_names) = (copy(&state.names), copy(&state.durable_names));
        let State { bytes_max, no_descriptors, syncs_fail, lag, .. } = *state;
        let copy = State { names, durable_names, bytes_max, no_descriptors, syncs_fail, lag };
        MemoryDisk(Arc::new(Mutex::new(copy)))
    }

    /// Makes every sync from now on fail, as a dying medium does, or lets them succeed again.
    pub fn fail_syncs(&self, fail: bool) {
        lock(&self.0).syncs_fail = fail;
    }

    /// From now on the log's syncs take this long.
    pub fn slow_down(&self, lag: Duration) {
        lock(&self.0).lag = lag;
    }

    pub(super) fn lag(&self) -> Duration {
        lock(&self.0).lag
    }

    /// Limits the disk to `bytes_max`; what needs more room than that fails as on a full disk. `None` lifts it.
    pub fn limit(&self, bytes_max: Option<usize>) {
        lock(&self.0).bytes_max = bytes_max;
    }

    /// From now on nothing can be opened, as when a process has used up its file descriptors; or it can again.
    pub fn withhold_descriptors(&self, withhold: bool) {
        lock(&self.0).no_descriptors = withhold;
    }

    /// The room that all files take, in bytes.
    pub fn used(&self) -> usize {
        lock(&self.0).used()
    }

    /// Flips one bit of a file, as a failing medium does.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let inode = self.inode(path)?;
        let Content { written, durable, .. } = &mut *lock(&inode);
        for bytes in [written, durable] {
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<Inode> {
        lock(&self.0).names.get(path).cloned().ok_or_else(|| missing(path))
    }

    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<MemoryFile> {
        yield_point();
        let mut state = lock(&self.0);
        state.take_descriptor()?;
        let inode = match (state.names.get(path), how) {
            (Some(_), Open::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (None, Open::Read | Open::Write) => return Err(missing(path)),
            (Some(inode), _) => inode.clone(),
            (None, Open::CreateNew) => state.names.entry(path.to_owned()).or_default().clone(),
        };
        Ok(MemoryFile { inode, disk: self.clone() })
    }

    pub(super) fn let_everyone_read(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        yield_point();
        lock(&self.0).names.keys().any(|name| name.starts_with(path))
    }

    pub(super) fn create_dir_all(&self, _path: &Path, _access: Access) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        yield_point();
        let state = lock(&self.0);
        state.take_descriptor()?;
        let below = state.names.keys().filter_map(|name| name.strip_prefix(path).ok());
        let mut names: Vec<String> = below
            .filter_map(|rest| rest.components().next())
            .map(|first| first.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        yield_point();
        lock(&self.0).names.remove(path).map(drop).ok_or_else(|| missing(path))
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        yield_point();
        lock(&self.0).names.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        yield_point();
        let State { names, durable_names, .. } = &mut *lock(&self.0);
        if let Some(inode) = names.remove(from) {
            names.insert(to.to_owned(), inode);
            return Ok(());
        }
        // A directory; its new name is durable at once.
        if !move_below(names, from, to) {
            return Err(missing(from));
        }
        move_below(durable_names, from, to);
        Ok(())
    }

    pub(super) fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        yield_point();
        let inode = self.inode(from)?;
        lock(&self.0).names.insert(to.to_owned(), inode);
        Ok(())
    }

    pub(super) fn set_mode(&self, path: &Path, _mode: u32) -> io::Result<()> {
        if self.exists(path) { Ok(()) } else { Err(missing(path)) }
    }

    pub(super) fn set_group(&self, path: &Path, _group: u32) -> io::Result<()> {
        if self.exists(path) { Ok(()) } else { Err(missing(path)) }
    }

    pub(super) fn place_type(&self, path: &Path) -> io::Result<PlaceType> {
        match lock(&self.0).names.contains_key(path) {
            true => Ok(PlaceType::File),
            false if self.exists(path) => Ok(PlaceType::Directory),
            false => Err(missing(path)),
        }
    }

    pub(super) fn symlink(&self, _target: &Path, link: &Path) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::Unsupported, format!("{}: no symbolic links in memory", link.display())))
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        yield_point();
        let mut state = lock(&self.0);
        state.take_descriptor()?;
        let inside = |name: &PathBuf| name.parent() == Some(path);
        state.durable_names.retain(|name, _| !inside(name));
        let now: Vec<_> =
            state.names.iter().filter(|(name, _)| inside(name)).map(|(n, i)| (n.clone(), i.clone())).collect();
        state.durable_names.extend(now);
        Ok(())
    }

    /// How much more the files may take.
    fn room(&self) -> usize {
        let state = lock(&self.0);
        state.bytes_max.map_or(usize::MAX, |bytes_max| bytes_max.saturating_sub(state.used()))
    }
}

impl State {
    fn take_descriptor(&self) -> io::Result<()> {
        match self.no_descriptors {
            true => Err(io::Error::new(ErrorKind::QuotaExceeded, "too many open files")),
            false => Ok(()),
        }
    }

    fn used(&self) -> usize {
        let mut inodes: Vec<&Inode> = self.names.values().collect();
        // A file may have several names.
        inodes.sort_by_key(|inode| Arc::as_ptr(inode));
        inodes.dedup_by_key(|inode| Arc::as_ptr(inode));
        inodes.into_iter().map(|inode| lock(inode).allocated).sum()
    }
}

/// A file of a [`MemoryDisk`].
#[derive(Clone)]
pub(super) struct MemoryFile {
    inode: Inode,
    disk: MemoryDisk,
}

impl std::fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryFile({} bytes)", lock(&self.inode).written.len())
    }
}

impl MemoryFile {
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        yield_point();
        let content = lock(&self.inode);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = content.written.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        yield_point();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let allocated = self.allocate(offset + bytes.len());
        // A disk that fills up takes the beginning.
        let taken = bytes.len().min(allocated.saturating_sub(offset));
        self.change(Change::Write { offset, bytes: bytes[..taken].to_vec() });
        if taken < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()> {
        yield_point();
        let end = usize::try_from(offset + bytes).map_err(io::Error::other)?;
        if self.allocate(end) < end { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Takes room up to `end`, as far as there is any, and says how far the file has it.
    fn allocate(&self, end: usize) -> usize {
        let before = lock(&self.inode).allocated;
        let growth = end.saturating_sub(before);
        let taken = if growth == 0 { 0 } else { growth.min(self.disk.room()) };
        lock(&self.inode).allocated = before + taken;
        before + taken
    }

    pub fn sync_data(&self) -> io::Result<()> {
        yield_point();
        if lock(&self.disk.0).syncs_fail {
            return Err(io::Error::other("the medium failed"));
        }
        let mut content = lock(&self.inode);
        for change in std::mem::take(&mut content.unsynced) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).written.len() as u64)
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        yield_point();
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.change(Change::SetLen(length));
        let mut content = lock(&self.inode);
        content.allocated = content.allocated.min(length);
        Ok(())
    }

    fn change(&self, change: Change) {
        let mut content = lock(&self.inode);
        change.apply(&mut content.written);
        content.unsynced.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_at_most_a_prefix_of_the_rest() {
        for seed in 0..50 {
            let (disk, path) = (MemoryDisk::new(), Path::new("/d/file"));
            let file = disk.open(path, Open::CreateNew).unwrap();
            file.write_all_at(b"durable", 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_all_at(b"-pending", 7).unwrap();
            disk.crash(&Random::from_seed(seed));
            let kept = lock(&disk.inode(path).unwrap()).written.clone();
            assert!(kept.starts_with(b"durable") && b"durable-pending".starts_with(&kept[..]), "{kept:?}");
        }
    }

    #[test]
    fn a_name_that_was_not_synced_is_gone_after_a_crash() {
        let disk = MemoryDisk::new();
        disk.open(Path::new("/d/new"), Open::CreateNew).unwrap().sync_data().unwrap();
        disk.crash(&Random::from_seed(1));
        assert!(!disk.exists(Path::new("/d/new")));
    }
}
