//! Pages in a sled database.
//!
//! sled's own flush does not survive a power failure on Linux: it never syncs its files. That is done here, after each
//! flush. sled may also panic over a damaged database instead of refusing it: a mark beside the database says that it
//! is being opened, and one that is found at the next start means that the last opening ended the process.

use std::io;
use std::path::{Path, PathBuf};

use super::pages::Pages;
use crate::world::Disk;
use crate::world::disk::{Access, DirLock, Open};

/// The notebook is small; sled's default is a gigabyte.
const CACHE_BYTES: u64 = 8 << 20;

pub struct Sled {
    disk: Disk,
    path: PathBuf,
    database: sled::Db,
    _lock: DirLock,
}

impl Sled {
    pub fn open(disk: Disk, path: &Path) -> io::Result<Sled> {
        disk.create_dir_all(path, Access::Owner)?;
        let lock = disk.lock_dir(path)?;
        let opening = path.with_extension("opening");
        if disk.exists(&opening) {
            disk.remove(&opening)?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its last opening never ended"));
        }
        disk.replace(&opening, b"", Access::Owner)?;
        let opened = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open();
        disk.remove(&opening)?;
        let opened = Sled { disk, path: path.to_owned(), database: opened?, _lock: lock };
        opened.sync()?;
        Ok(opened)
    }

    fn sync(&self) -> io::Result<()> {
        self.database.flush()?;
        self.disk.open(&self.path.join("db"), Open::Read)?.sync_data()?;
        let blobs = self.path.join("blobs");
        if self.disk.exists(&blobs) {
            for name in self.disk.list(&blobs)? {
                self.disk.open(&blobs.join(name), Open::Read)?.sync_data()?;
            }
            self.disk.sync_dir(&blobs)?;
        }
        self.disk.sync_dir(&self.path)
    }
}

impl Pages for Sled {
    fn put(&self, key: &str, page: &[u8]) -> io::Result<()> {
        self.database.insert(key, page)?;
        self.sync()
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        self.database.remove(key)?;
        self.sync()
    }

    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let pages = self.database.iter().map(|page| {
            let (key, page) = page?;
            Ok((String::from_utf8_lossy(&key).into_owned(), page.to_vec()))
        });
        pages.collect()
    }
}
