//! What a directory holds, and in which format: one line in a file named `format`.

use std::path::Path;

use crate::disk::Error;
use crate::world::Disk;
use crate::world::disk::{Access, DirLock};

const NAME: &str = "format";

/// Takes `directory` for this process and for `what` in format `known`. It is created where needed; one of a newer
/// format, or that holds something else, is refused and left as it is.
pub fn claim(disk: &Disk, directory: &Path, what: &'static str, known: u32) -> Result<DirLock, Error> {
    create(disk, directory)?;
    let lock = disk.lock_dir(directory)?;
    let path = directory.join(NAME);
    if disk.exists(&path) {
        let found = disk.read(&path)?;
        check(directory, what, known, &found)?;
    } else {
        label(disk, directory, what, known)?;
    }
    Ok(lock)
}

/// Says in `directory` that it holds `what` in format `known`, durably.
pub fn label(disk: &Disk, directory: &Path, what: &'static str, known: u32) -> Result<(), Error> {
    Ok(disk.replace(&directory.join(NAME), format!("chorus {what} {known}\n").as_bytes(), Access::Everyone)?)
}

/// Creates `directory` and those above it, durably.
fn create(disk: &Disk, directory: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !disk.exists(path)).collect();
    disk.create_dir_all(directory, Access::Owner)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        disk.sync_dir(parent)?;
    }
    Ok(())
}

fn check(directory: &Path, what: &'static str, known: u32, found: &[u8]) -> Result<(), Error> {
    let found = String::from_utf8_lossy(found);
    let version = found.trim_end().strip_prefix("chorus ").and_then(|rest| rest.strip_prefix(what));
    match version.and_then(|version| version.trim_start().parse::<u32>().ok()) {
        Some(version) if version == known => Ok(()),
        Some(version) if version > known => {
            Err(Error::Newer { directory: directory.to_owned(), what, found: version, known })
        }
        _ => {
            let reason = format!("its file {NAME:?} says {:?}", found.trim_end());
            Err(Error::Foreign { directory: directory.to_owned(), what, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;
    use crate::world::disk::Open;

    #[test]
    fn a_directory_keeps_its_format_and_refuses_others() {
        let disk = Disk::memory(MemoryDisk::new());
        let directory = Path::new("/data/wal");
        claim(&disk, directory, "log", 1).unwrap();
        claim(&disk, directory, "log", 1).unwrap();
        let other = claim(&disk, directory, "state", 1).unwrap_err().to_string();
        assert_eq!(other, r#"/data/wal does not hold state: its file "format" says "chorus log 1""#);
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let disk = Disk::memory(MemoryDisk::new());
        disk.open(Path::new("/data/wal/format"), Open::CreateNew).unwrap().write_all_at(b"chorus log 7\n", 0).unwrap();
        let error = claim(&disk, Path::new("/data/wal"), "log", 1).unwrap_err().to_string();
        assert_eq!(error, "/data/wal holds log in format 7, newer than format 1 which this program knows");
    }
}
