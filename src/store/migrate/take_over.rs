//! A data directory of etcd becomes one of ours, in place.
//!
//! Everything is made beside first. The directory named [`READY`] exists only once all in it is durable, and from then
//! on its content is in force: what a crash left undone is done at the next start. etcd's files stay, under another
//! name.

use std::path::{Path, PathBuf};

use super::{Error, Imported, from_data_dir};
use crate::world::disk::Access;
use crate::world::{Disk, World};

const MAKING: &str = "taking-over";
const READY: &str = "taken-over";
const MEMBER: &str = "member";
const KEPT: &str = "member.etcd";

/// Takes over the directory when there is a member of etcd in it and none of ours; `false` when there is nothing to take
/// over. `seal` names a file with its content that goes with the member.
pub async fn take_over(
    world: &World,
    data_dir: &Path,
    wal_dir: Option<&Path>,
    seal: impl FnOnce(&Imported) -> (String, Vec<u8>),
) -> Result<bool, Error> {
    let (disk, ready) = (&world.disk, data_dir.join(READY));
    if !disk.exists(&ready) {
        if !is_etcds(disk, data_dir) {
            return Ok(false);
        }
        make(world, data_dir, wal_dir, seal).await?;
    }
    put_in_force(disk, data_dir, &ready)?;
    Ok(true)
}

fn is_etcds(disk: &Disk, data_dir: &Path) -> bool {
    let ours = ["state", "wal"].iter().any(|name| disk.exists(&data_dir.join(name)));
    disk.exists(&data_dir.join("member/snap/db")) && !ours
}

async fn make(
    world: &World,
    data_dir: &Path,
    wal_dir: Option<&Path>,
    seal: impl FnOnce(&Imported) -> (String, Vec<u8>),
) -> Result<(), Error> {
    let (disk, making) = (&world.disk, data_dir.join(MAKING));
    if disk.exists(&making) {
        disk.remove_dir_all(&making)?;
    }
    let imported = from_data_dir(world, data_dir, wal_dir, &making).await?;
    let (name, content) = seal(&imported);
    disk.replace(&making.join(name), &content, Access::Owner)?;
    tracing::info!(
        "data-dir" = %data_dir.display(),
        "local-member-id" = format!("{:x}", imported.node.0),
        "cluster-id" = %imported.cluster,
        revision = imported.revision,
        "compact-revision" = imported.compacted,
        entries = imported.entries,
        "took over the data of a member of etcd"
    );
    disk.rename(&making, &data_dir.join(READY))?;
    Ok(disk.sync_dir(data_dir)?)
}

fn put_in_force(disk: &Disk, data_dir: &Path, ready: &Path) -> Result<(), Error> {
    for name in disk.list(ready)? {
        disk.rename(&ready.join(&name), &data_dir.join(&name))?;
    }
    disk.sync_dir(data_dir)?;
    if disk.exists(&data_dir.join(MEMBER)) {
        disk.rename(&data_dir.join(MEMBER), &unused(disk, data_dir))?;
    }
    disk.remove_dir_all(ready)?;
    Ok(disk.sync_dir(data_dir)?)
}

/// A name for etcd's files.
fn unused(disk: &Disk, data_dir: &Path) -> PathBuf {
    let names = std::iter::once(KEPT.to_owned()).chain((1..).map(|number| format!("{KEPT}.{number}")));
    let mut paths = names.map(|name| data_dir.join(name));
    paths.find(|path| !disk.exists(path)).expect("there are more names than files")
}
