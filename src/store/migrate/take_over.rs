//! A data directory of etcd becomes one of ours, in place.
//!
//! Our directory is made beside etcd's files and gets its name once everything in it is durable: from that moment it is
//! in force. etcd's files are then moved aside; after a crash the next start finishes that.

use std::path::{Path, PathBuf};

use super::{Error, Imported, from_data_dir};
use crate::world::disk::Access;
use crate::world::{Disk, World};

/// The names of etcd's directories below that of its member.
const ETCDS: [&str; 2] = ["snap", "wal"];
const KEPT: &str = "etcd";

/// Makes `to`, a directory below `data_dir/member`, from the member of etcd in `data_dir`; `false` when there is none,
/// or `to` is there already. `seal` names a file with its content that goes with the member.
pub async fn take_over(
    world: &World,
    data_dir: &Path,
    wal_dir: Option<&Path>,
    to: &Path,
    seal: impl FnOnce(&Imported) -> (String, Vec<u8>),
) -> Result<bool, Error> {
    let (disk, member) = (&world.disk, data_dir.join("member"));
    let theirs = disk.exists(&member.join("snap/db"));
    if !theirs {
        return Ok(false);
    }
    let _lock = disk.lock_dir(&member)?;
    let made = !disk.exists(to);
    if made {
        make(world, data_dir, wal_dir, to, seal).await?;
    }
    put_aside(disk, &member)?;
    Ok(made)
}

async fn make(
    world: &World,
    data_dir: &Path,
    wal_dir: Option<&Path>,
    to: &Path,
    seal: impl FnOnce(&Imported) -> (String, Vec<u8>),
) -> Result<(), Error> {
    let (disk, making) = (&world.disk, to.with_extension("new"));
    if disk.exists(&making) {
        disk.remove_dir_all(&making)?;
    }
    let imported = from_data_dir(world, data_dir, wal_dir, &making).await?;
    let (name, content) = seal(&imported);
    disk.replace(&making.join(name), &content, Access::Owner)?;
    disk.rename(&making, to)?;
    disk.sync_dir(&data_dir.join("member"))?;
    tracing::info!(
        "data-dir" = %data_dir.display(),
        "local-member-id" = format!("{:x}", imported.node.0),
        "cluster-id" = %imported.cluster,
        revision = imported.revision,
        "compact-revision" = imported.compacted,
        entries = imported.entries,
        "took over the data of a member of etcd"
    );
    Ok(())
}

fn put_aside(disk: &Disk, member: &Path) -> Result<(), Error> {
    let aside = member.join(KEPT);
    disk.create_dir_all(&aside, Access::Owner)?;
    // The database goes last: as long as it is there, this is not done.
    for name in ETCDS.iter().rev().filter(|name| disk.exists(&member.join(name))) {
        disk.rename(&member.join(name), &unused(disk, &aside, name))?;
        disk.sync_dir(&aside)?;
        disk.sync_dir(member)?;
    }
    Ok(())
}

fn unused(disk: &Disk, directory: &Path, name: &str) -> PathBuf {
    let names = std::iter::once(name.to_owned()).chain((1..).map(|number| format!("{name}.{number}")));
    let mut paths = names.map(|name| directory.join(name));
    paths.find(|path| !disk.exists(path)).expect("there are more names than files")
}
