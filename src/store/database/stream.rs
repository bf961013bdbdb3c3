//! The answers of `Snapshot`: the database goes to a file beside the state first, because its first page is known last,
//! and is read from there in chunks. Memory is bounded by a chunk.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use futures::stream::{self, BoxStream, StreamExt};
use sha2::{Digest, Sha256};

use super::export::{self, Facts};
use crate::actor::Permit;
use crate::disk;
use crate::disk::bbolt;
use crate::raft::recorded_members;
use crate::store::Error;
use crate::store::files::Scratch;
use crate::store::held::Held;
use crate::store::member_state::MemberState;
use crate::store::mvcc::Fault;
use crate::world::disk::Open;
use crate::world::{File, World};

const CHUNK_BYTES: u64 = 32 << 10;

/// A database that is being sent.
struct Sending {
    world: World,
    file: File,
    bytes: u64,
    sent: u64,
    sha: Sha256,
    version: String,
    _scratch: Scratch,
    _turn: Permit,
}

/// Writes the database of this moment and sends it: chunks, then the SHA-256 of them all.
pub async fn stream(
    world: &World,
    member: Arc<MemberState>,
    turn: Permit,
) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Error>>, Error> {
    let (work, of) = (world.clone(), member.clone());
    let spooled = world.spawner.blocking(move || spool(&work, &of)).await;
    let Spooled { file, bytes, version, scratch } = spooled.map_err(Error::from)?;
    let size = humanize(bytes);
    tracing::info!("total-bytes" = bytes, size, "storage-version" = version, "sending database snapshot to client");
    let (world, sha) = (world.clone(), Sha256::new());
    let sending = Sending { world: world.clone(), file, bytes, sent: 0, sha, version, _scratch: scratch, _turn: turn };
    let held = Held::new(&world, member.metrics.bounds.clone(), Some(sending));
    Ok(stream::try_unfold(held, async |held| {
        let Some(sending) = held.take()? else { return Ok(None) };
        let (answer, rest) = sending.next().await?;
        held.put_back(rest.as_ref().map_or(u64::MAX, |rest| rest.sent), rest);
        Ok(Some((answer, held)))
    })
    .boxed())
}

/// A database in a file that goes with `scratch`.
struct Spooled {
    file: File,
    bytes: u64,
    /// Names the format of etcd's files; empty while the members have not agreed on one.
    version: String,
    scratch: Scratch,
}

fn spool(world: &World, member: &MemberState) -> Result<Spooled, Fault> {
    // Rather than the ledger's own state, which may be ahead of its files.
    let view = member.view();
    let files = member.ledger().files();
    let scratch = files.scratch().map_err(disk::Error::from)?;
    let state = &view.state;
    let applied = state.applied.unwrap_or_default();
    let (members, removed) = match &state.membership {
        Some((_, membership)) => recorded_members(membership).map_err(disk::Error::from)?,
        None => Default::default(),
    };
    let facts = Facts { applied, members, removed, versions: true };
    let path = scratch.directory.join("db");
    let mut writer = bbolt::Writer::create(&world.disk, &path, applied.index)?;
    export::write(state, &view.segments, &facts, &mut writer)?;
    let bytes = writer.finish()?;
    let file = world.disk.open(&path, Open::Read).map_err(disk::Error::from)?;
    let version = export::storage_version(&state.cluster_version).unwrap_or_default();
    Ok(Spooled { file, bytes, version, scratch })
}

impl Sending {
    async fn next(mut self) -> Result<(pb::SnapshotResponse, Option<Sending>), Error> {
        let version = self.version.clone();
        if self.sent == self.bytes {
            let sha = Bytes::copy_from_slice(&self.sha.finalize());
            tracing::info!(
                "total-bytes" = self.bytes,
                "checksum-size" = sha.len(),
                "sending database sha256 checksum to client"
            );
            tracing::info!("total-bytes" = self.bytes, "successfully sent database snapshot to client");
            return Ok((pb::SnapshotResponse { blob: sha, version, ..Default::default() }, None));
        }
        let length = (self.bytes - self.sent).min(CHUNK_BYTES);
        let (file, at) = (self.file.clone(), self.sent);
        let read = self.world.spawner.blocking(move || {
            let mut chunk = vec![0; length as usize];
            file.read_exact_at(&mut chunk, at).map(|()| chunk)
        });
        let chunk = read.await.map_err(|error: io::Error| Error::from(Fault::Disk(error.into())))?;
        self.sha.update(&chunk);
        self.sent += length;
        let remaining_bytes = self.bytes - self.sent;
        let answer = pb::SnapshotResponse { remaining_bytes, blob: chunk.into(), version, ..Default::default() };
        Ok((answer, Some(self)))
    }
}

/// A size for people, in powers of a thousand.
fn humanize(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if size < 10.0 => format!("{size:.1} {}", UNITS[unit]),
        _ => format!("{size:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (20_480, "20 kB"), (1_234_567, "1.2 MB"), (82_854_982, "83 MB")]
        {
            assert_eq!(humanize(bytes), text);
        }
    }
}
