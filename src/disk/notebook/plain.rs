//! Pages as files, one each, of the simulated disk.

use std::io;
use std::path::{Path, PathBuf};

use super::pages::Pages;
use crate::world::Disk;
use crate::world::disk::Access;

pub struct Plain {
    disk: Disk,
    directory: PathBuf,
}

impl Plain {
    pub fn open(disk: Disk, directory: &Path) -> Plain {
        Plain { disk, directory: directory.to_owned() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

impl Pages for Plain {
    fn put(&self, key: &str, page: &[u8]) -> io::Result<()> {
        self.disk.replace(&self.path(key), page, Access::Owner)
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        match self.disk.remove(&self.path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.disk.sync_dir(&self.directory),
        }
    }

    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut pages = Vec::new();
        for name in self.disk.list(&self.directory)? {
            // Others are pages that were being replaced when the power failed.
            if let Some(key) = key_of(&name) {
                pages.push((key, self.disk.read(&self.directory.join(name))?));
            }
        }
        Ok(pages)
    }
}

fn key_of(name: &str) -> Option<String> {
    let digits = name.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}
