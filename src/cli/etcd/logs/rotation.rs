//! A log file that is renamed when it is full, and begun anew.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::line::timestamp;
use crate::world::disk::{Access, Open};
use crate::world::{File, World};

/// When a file is full, and how many full ones stay; etcd's `--log-rotation-config-json`. Unknown members are
/// ignored, times in names are UTC, and full files stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// Megabytes of a full file; 0 is 100.
    maxsize: u64,
    /// Days for which full files stay; 0 is for ever.
    maxage: u64,
    /// Full files that stay; 0 is all of them.
    maxbackups: usize,
}

impl Rotation {
    pub fn megabytes_max(&self) -> u64 {
        if self.maxsize == 0 { 100 } else { self.maxsize }
    }
}

/// A file that lines are added to.
pub struct LogFile {
    world: World,
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Option<Rotation>,
}

impl LogFile {
    /// Opens the file at `path`, or creates it and the directories above it.
    pub fn open(world: World, path: &Path, rotation: Option<Rotation>) -> io::Result<LogFile> {
        let (file, bytes) = open(&world, path)?;
        Ok(LogFile { world, path: path.to_owned(), file, bytes, rotation })
    }

    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(rotation) = self.rotation {
            let bytes_max = rotation.megabytes_max() << 20;
            if self.bytes > 0 && self.bytes + line.len() as u64 > bytes_max {
                self.rotate(rotation)?;
            }
        }
        self.file.write_all_at(line, self.bytes)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, rotation: Rotation) -> io::Result<()> {
        let now = self.world.clock.unix();
        self.world.disk.rename(&self.path, &full_name(&self.path, &timestamp(now)))?;
        (self.file, self.bytes) = open(&self.world, &self.path)?;
        let oldest = timestamp(now.saturating_sub(std::time::Duration::from_secs(rotation.maxage * 86_400)));
        let mut full = self.full_files()?;
        let many = if rotation.maxbackups == 0 { 0 } else { full.len().saturating_sub(rotation.maxbackups) };
        let mut gone: Vec<PathBuf> = full.drain(..many).collect();
        if rotation.maxage > 0 {
            let limit = full_name(&self.path, &oldest);
            gone.extend(full.into_iter().filter(|path| *path < limit));
        }
        gone.iter().try_for_each(|path| self.world.disk.remove(path))
    }

    /// The full files of this one, from the oldest on.
    fn full_files(&self) -> io::Result<Vec<PathBuf>> {
        let directory = directory(&self.path);
        let (stem, extension) = parts(&self.path);
        let (before, after) = (format!("{stem}-"), format!(".{extension}"));
        let names = self.world.disk.list(directory)?.into_iter();
        let full = names.filter(|name| name.starts_with(&before) && (extension.is_empty() || name.ends_with(&after)));
        Ok(full.map(|name| directory.join(name)).collect())
    }
}

fn open(world: &World, path: &Path) -> io::Result<(File, u64)> {
    world.disk.create_dir_all(directory(path), Access::Everyone)?;
    let how = if world.disk.exists(path) { Open::Write } else { Open::CreateNew };
    let file = world.disk.open(path, how)?;
    let bytes = file.len()?;
    Ok((file, bytes))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Name without extension, and extension.
fn parts(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    (text(path.file_stem()), text(path.extension()))
}

/// `etcd-2026-01-02T03-04-05.678.log` for a time that ends in microseconds and `Z`.
fn full_name(path: &Path, time: &str) -> PathBuf {
    let (stem, extension) = parts(path);
    let time = time.replace(':', "-");
    let millis = &time[..time.len().saturating_sub("000Z".len())];
    let dot = if extension.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}-{millis}{dot}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    #[test]
    fn a_full_file_makes_room_for_a_new_one() {
        let world = World::simulated(1, MemoryDisk::default());
        let path = Path::new("/logs/etcd.log");
        let rotation = Rotation { maxsize: 1, maxbackups: 1, maxage: 0 };
        let mut log = LogFile::open(world.clone(), path, Some(rotation)).unwrap();
        log.append(&vec![b'x'; 1 << 20]).unwrap();
        log.append(b"second\n").unwrap();
        assert_eq!(world.disk.read(path).unwrap(), b"second\n");
        assert_eq!(world.disk.list(Path::new("/logs")).unwrap(), ["etcd-2026-01-01T00-00-00.000.log", "etcd.log"]);
        let mut again = LogFile::open(world.clone(), path, None).unwrap();
        again.append(b"third\n").unwrap();
        assert_eq!(world.disk.read(path).unwrap(), b"second\nthird\n");
    }
}
