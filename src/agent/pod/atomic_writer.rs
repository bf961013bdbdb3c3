//! Files of a volume that appear, and change, all at once.
//!
//! ```text
//!   <volume>/..data -> ..<digest>/     files appear under their names through ..data,
//!            <name> -> ..data/<name>   so an update is one rename and never half done
//! ```
//!
//! Containers get such a volume read-only: only the agent changes anything in it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::content::Files;
use crate::world::Disk;
use crate::world::disk::{Access, Open, PlaceType};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
const PUBLISHED: &str = ".published";
/// A group that owns the files may read them.
const MODE_OF_GROUP: u32 = 0o440;

/// Publishes a set of files in `dir`; `group` owns them, if it is given.
pub fn publish(disk: &Disk, dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    let version = format!("..{}", digest(files, group));
    let target = dir.join(&version);
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    // The links come last, so an update that was cut short is repeated.
    if disk.exists(&dir.join(DATA).join(PUBLISHED)) && disk.exists(&target.join(PUBLISHED)) {
        return Ok(());
    }
    if disk.exists(&target) {
        disk.remove_dir_all(&target)?;
    }
    disk.create_dir_all(&target, Access::Everyone)?;
    for (path, content) in files {
        let path = target.join(path);
        disk.create_dir_all(path.parent().unwrap_or(&target), Access::Everyone)?;
        let file = disk.open(&path, Open::CreateNew)?;
        file.write_all_at(&content.bytes, 0)?;
        if let Some(group) = group {
            file.set_group(group)?;
        }
        file.set_mode(content.mode | if group.is_some() { MODE_OF_GROUP } else { 0 })?;
    }
    let link = dir.join(DATA_NEW);
    // A link is left over if an update was cut short.
    let _ = disk.remove(&link);
    disk.symlink(Path::new(&version), &link)?;
    disk.rename(&link, &dir.join(DATA))?;
    for old in disk.list(dir)? {
        let path = dir.join(&old);
        if old.starts_with("..") {
            if old != version && old != DATA {
                disk.remove_dir_all(&path)?;
            }
        } else if !names.contains(old.as_str()) && disk.place_type(&path).ok() != Some(PlaceType::Directory) {
            // A directory was made for a subPath that names no file.
            disk.remove(&path)?;
        }
    }
    for name in names {
        if !disk.exists(&dir.join(name)) {
            disk.symlink(&Path::new(DATA).join(name), &dir.join(name))?;
        }
    }
    disk.open(&target.join(PUBLISHED), Open::CreateNew)?;
    Ok(())
}

fn digest(files: &Files, group: Option<u32>) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{group:?}"));
    for (path, file) in files {
        for part in [path.as_bytes(), &file.mode.to_le_bytes(), &file.bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::content::FileContent;
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        let file = |text: &str| FileContent { bytes: text.into(), mode: 0o640 };
        entries.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn files_are_published_and_replaced_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, volume) = (Disk::real(), dir.path().join("v"));
        let read = |name: &str| String::from_utf8(disk.read(&volume.join(name)).unwrap()).unwrap();
        publish(&disk, &volume, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!((read("a"), read("d/b")), ("1".into(), "2".into()));
        // What a subPath that names no file left behind.
        disk.create_dir_all(&volume.join("none"), Access::Everyone).unwrap();
        publish(&disk, &volume, &files(&[("a", "3")]), None).unwrap();
        assert_eq!(read("a"), "3");
        assert!(!disk.exists(&volume.join("d")));
        assert_eq!(disk.list(&volume).unwrap().len(), 4, "..data, one version, one link, one directory");
    }
}
