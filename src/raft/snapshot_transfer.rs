//! A snapshot on its way: a manifest, then the files in checked chunks. Memory holds a few chunks on either side.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::SnapshotOf;

use super::encoding::malformed;
use super::machine::SnapshotFiles;
use super::peers::{CallError, Peers};
use super::state_machine::{Raft, SnapshotData};
use super::types::{Types, Vote};
use super::wire::{Chunk, Manifest, PeerMessage, SNAPSHOT, open};
use crate::world::disk::{Access, Open};
use crate::world::failpoints::failpoint;
use crate::world::{Clock, Disk, File, World};

const CHUNK_BYTES: u64 = 256 * 1024;
/// Time within which the peer must take the next chunk, or send it.
const CHUNK_LIMIT: Duration = Duration::from_secs(10);
const FILES_MAX: usize = 100_000;
const NAME_BYTES_MAX: usize = 255;

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("snapshot files of this member: {0}")]
    Local(#[from] io::Error),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the peer took no chunk for {CHUNK_LIMIT:?}")]
    Stuck,
}

/// Sends `snapshot` to `target`, which installs it within `install_limit` of the last chunk.
pub(super) async fn send(
    world: &World,
    peers: &Peers,
    target: u64,
    vote: Vote,
    snapshot: SnapshotOf<Types, SnapshotData>,
    install_limit: Duration,
) -> Result<SnapshotResponse<Types>, TransferError> {
    let SnapshotData::Outgoing(prepare) = snapshot.snapshot else {
        return Err(io::Error::other("this snapshot has no files to send").into());
    };
    let disk = world.disk.clone();
    let prepared = world.spawner.blocking(move || {
        let SnapshotFiles { paths, keep } = prepare()?;
        Ok::<_, io::Error>((opened(&disk, &paths)?, keep))
    });
    let (opened, keep) = prepared.await?;
    let sizes: Vec<(String, u64)> = opened.iter().map(|(name, length, _)| (name.clone(), *length)).collect();
    let total: u64 = sizes.iter().map(|(_, length)| length).sum();
    tracing::info!(target, files = sizes.len(), bytes = total, "sending a snapshot");
    let manifest = PeerMessage::new(&Manifest { vote, meta: snapshot.meta, files: sizes });
    let (chunks, messages) = mpsc::channel(2);
    // The call as a whole is bounded by the chunks, each of which has its own limit, and by the installation.
    let limit = install_limit + CHUNK_LIMIT * u32::try_from(total / CHUNK_BYTES + 1).unwrap_or(u32::MAX);
    let feeding = feed(world, opened, manifest, chunks);
    let delivery = peers.deliver(target, SNAPSHOT, messages, limit);
    tokio::pin!(feeding, delivery);
    tokio::select! {
        biased;
        response = &mut delivery => return Ok(response?),
        fed = &mut feeding => fed?,
    }
    let installed = world.clock.timeout(install_limit, delivery).await;
    world.spawner.blocking(move || drop(keep)).await;
    Ok(installed.map_err(|_| CallError::Timeout { target, limit: install_limit })??)
}

fn opened(disk: &Disk, paths: &[PathBuf]) -> io::Result<Vec<(String, u64, File)>> {
    let file = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| malformed("snapshot file name"))?;
        let file = disk.open(path, Open::Read)?;
        Ok((name.to_owned(), file.len()?, file))
    };
    paths.iter().map(file).collect()
}

async fn feed(
    world: &World,
    files: Vec<(String, u64, File)>,
    manifest: PeerMessage,
    mut chunks: mpsc::Sender<PeerMessage>,
) -> Result<(), TransferError> {
    offer(&world.clock, &mut chunks, manifest).await?;
    for (index, (_, length, file)) in (0u32..).zip(files) {
        let mut offset = 0;
        while offset < length {
            let (source, size) = (file.clone(), CHUNK_BYTES.min(length - offset) as usize);
            let bytes = world.spawner.blocking(move || piece(&source, offset, size)).await?;
            let chunk = Chunk { file: index, offset, crc32c: crc32c::crc32c(&bytes) };
            offer(&world.clock, &mut chunks, PeerMessage::with_body(&chunk, vec![bytes])).await?;
            offset += size as u64;
        }
    }
    Ok(())
}

fn piece(file: &File, offset: u64, size: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

async fn offer(clock: &Clock, chunks: &mut mpsc::Sender<PeerMessage>, frame: PeerMessage) -> Result<(), TransferError> {
    match clock.timeout(CHUNK_LIMIT, chunks.send(frame)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(TransferError::Stuck),
    }
}

/// Receives snapshots, one at a time: a newer one ends an older one that is still under way.
#[derive(Clone)]
pub(super) struct Receiver {
    pub world: World,
    pub raft: Raft,
    newest: Arc<AtomicU64>,
}

impl Receiver {
    pub fn new(world: World, raft: Raft) -> Receiver {
        Receiver { world, raft, newest: Arc::default() }
    }

    /// Writes the files that `messages` carry, and installs them.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        mut messages: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> io::Result<SnapshotResponse<Types>> {
        let turn = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let (manifest, _) = open::<Manifest>(self.next(&mut messages).await?.ok_or_else(|| cut("manifest"))?)?;
        check(&manifest)?;
        let mut arriving = Arriving { disk: self.world.disk.clone(), directory: Some(self.directory().await?) };
        let directory = arriving.directory.clone().expect("it was just made");
        let mut files = Incoming::create(&self.world, &directory, &manifest)?;
        while let Some(message) = self.next(&mut messages).await? {
            if self.newest.load(Ordering::Relaxed) != turn {
                return Err(io::Error::other("a newer snapshot is being received"));
            }
            let (chunk, bytes) = open::<Chunk>(message)?;
            files.expect(&chunk, &bytes)?;
            let file = files.files[chunk.file as usize].0.clone();
            self.world.spawner.blocking(move || file.write_all_at(&bytes, chunk.offset)).await?;
        }
        files.complete()?;
        failpoint!("raftBeforeSaveSnap", self.world.clock);
        failpoint!("raftBeforeWALSaveSnaphot", self.world.clock);
        let (disk, synced) = (self.world.disk.clone(), directory.clone());
        self.world
            .spawner
            .blocking(move || {
                files.files.iter().try_for_each(|(file, ..)| file.sync_data())?;
                disk.sync_dir(&synced)
            })
            .await?;
        failpoint!("raftAfterSaveSnap", self.world.clock);
        failpoint!("raftBeforeApplySnap", self.world.clock);
        // From here on it is in use, whether or not anyone still waits for it.
        arriving.directory = None;
        let incoming = SnapshotData::Incoming(directory.clone());
        let snapshot = SnapshotOf::<Types, _> { meta: manifest.meta, snapshot: incoming };
        let installed = self.raft.install_full_snapshot(manifest.vote, snapshot).await.map_err(io::Error::other);
        // It may have been refused, or no longer be needed.
        arriving.directory = Some(directory);
        drop(arriving);
        failpoint!("raftAfterApplySnap", self.world.clock);
        failpoint!("raftAfterWALRelease", self.world.clock);
        installed
    }

    async fn next<E: std::fmt::Display>(
        &self,
        messages: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> io::Result<Option<Bytes>> {
        match self.world.clock.timeout(CHUNK_LIMIT, messages.next()).await {
            Ok(message) => message.transpose().map_err(|error| io::Error::other(error.to_string())),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn directory(&self) -> io::Result<PathBuf> {
        let made = self.raft.with_state_machine(|machine| Box::pin(async move { machine.incoming() })).await;
        made.map_err(io::Error::other)?
    }
}

/// A directory of files that arrive. Dropping it removes the directory, so a transfer that ends early leaves nothing
/// behind.
struct Arriving {
    disk: Disk,
    directory: Option<PathBuf>,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take().filter(|directory| self.disk.exists(directory)) else { return };
        if let Err(error) = self.disk.remove_dir_all(&directory) {
            tracing::warn!(%error, directory = %directory.display(), "the files of an incomplete snapshot could not be removed");
        }
    }
}

fn cut(what: &str) -> io::Error {
    malformed(format!("snapshot: it ended before its {what}"))
}

/// Refuses names that could leave the directory.
fn check(manifest: &Manifest) -> io::Result<()> {
    if manifest.files.len() > FILES_MAX {
        return Err(malformed(format!("snapshot: {} files are more than {FILES_MAX}", manifest.files.len())));
    }
    let plain = |name: &str| {
        !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && Path::new(name).components().eq([std::path::Component::Normal(name.as_ref())])
    };
    match manifest.files.iter().find(|(name, _)| !plain(name)) {
        Some((name, _)) => Err(malformed(format!("snapshot: file name {name:?}"))),
        None => Ok(()),
    }
}

/// Files that are being filled, in order.
struct Incoming {
    /// Each with the announced length and the bytes seen so far.
    files: Vec<(File, u64, u64)>,
}

impl Incoming {
    fn create(world: &World, directory: &Path, manifest: &Manifest) -> io::Result<Incoming> {
        world.disk.create_dir_all(directory, Access::Owner)?;
        let file = |(name, length): &(String, u64)| {
            let file = world.disk.open(&directory.join(name), Open::CreateNew)?;
            Ok((file, *length, 0))
        };
        Ok(Incoming { files: manifest.files.iter().map(file).collect::<io::Result<_>>()? })
    }

    /// Accepts a chunk that is intact and in order.
    fn expect(&mut self, chunk: &Chunk, bytes: &[u8]) -> io::Result<()> {
        let (_, length, seen) =
            self.files.get_mut(chunk.file as usize).ok_or_else(|| malformed("snapshot: a file too many"))?;
        let after = chunk.offset.saturating_add(bytes.len() as u64);
        if chunk.offset != *seen || after > *length {
            return Err(malformed(format!("snapshot: chunk at {} of file {}", chunk.offset, chunk.file)));
        }
        if crc32c::crc32c(bytes) != chunk.crc32c {
            return Err(malformed(format!("snapshot: checksum at {} of file {}", chunk.offset, chunk.file)));
        }
        *seen = after;
        Ok(())
    }

    fn complete(&self) -> io::Result<()> {
        let whole = self.files.iter().all(|(_, length, seen)| length == seen);
        if whole { Ok(()) } else { Err(cut("last chunk")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        let files = files.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
        Manifest { vote: Vote::new_committed(1, 1), meta: Default::default(), files }
    }

    #[test]
    fn names_stay_inside_the_directory() {
        for name in ["", "/etc/passwd", "..", "a/b", "../a", "."] {
            assert!(check(&manifest(&[(name, 1)])).is_err(), "{name:?}");
        }
        check(&manifest(&[("000001.seg", 1)])).unwrap();
    }

    #[test]
    fn chunks_must_be_whole_and_in_order() {
        let world = World::simulated(1, MemoryDisk::default());
        let mut files = Incoming::create(&world, Path::new("/in"), &manifest(&[("a", 4)])).unwrap();
        let chunk = |offset, bytes: &[u8]| Chunk { file: 0, offset, crc32c: crc32c::crc32c(bytes) };
        assert!(files.expect(&chunk(2, b"cd"), b"cd").is_err(), "a gap");
        assert!(files.expect(&chunk(0, b"ab"), b"xb").is_err(), "a flipped bit");
        files.expect(&chunk(0, b"ab"), b"ab").unwrap();
        assert!(files.complete().is_err());
        assert!(files.expect(&chunk(2, b"cde"), b"cde").is_err(), "longer than told");
        files.expect(&chunk(2, b"cd"), b"cd").unwrap();
        files.complete().unwrap();
    }

    #[test]
    fn what_arrives_in_part_goes_and_what_is_being_installed_stays() {
        let world = World::simulated(1, MemoryDisk::default());
        let directory = Path::new("/in");
        for (begun, stays) in [(Some(directory.to_owned()), false), (None, true)] {
            drop(Incoming::create(&world, directory, &manifest(&[("a", 4)])).unwrap());
            drop(Arriving { disk: world.disk.clone(), directory: begun });
            assert_eq!(world.disk.exists(directory), stays);
        }
    }
}
