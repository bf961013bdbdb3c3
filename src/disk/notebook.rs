//! The notebook: what a node knows of its own pods, so that an agent that restarts while no frontend answers keeps them
//! running. Everything in it can be found out again, so a damaged notebook is removed and begun again. It never keeps a
//! node from starting.
//!
//! On a real disk it is a sled database, in a simulation its twin. Calls block: make them through
//! [`Spawner::blocking`](crate::world::Spawner::blocking).
//!
//! - [`pages`]: where its pages are kept
//! - [`sled`](self::sled): pages in a sled database
//! - [`plain`]: pages in files of the simulated disk

mod pages;
mod plain;
mod sled;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crc32c::{crc32c, crc32c_append};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::pages::Pages;
use crate::disk::{Error, codec};
use crate::world::World;

const CRC_BYTES: usize = 4;

/// Values by key; clones share them.
#[derive(Clone)]
pub struct Notebook(Arc<dyn Pages>);

impl Notebook {
    /// Opens the notebook in the directory `path`, which belongs to it alone. A damaged one is removed.
    pub fn open(world: &World, path: &Path) -> Result<Notebook, Error> {
        match open_and_verify(world, path) {
            Ok(notebook) => Ok(notebook),
            Err(error) if !is_damage(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the notebook is unreadable; a new one replaces it");
                discard(world, path)?;
                open_and_verify(world, path)
            }
        }
    }

    /// Writes down a value, durably.
    pub fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let content = codec::encode(value).map_err(io::Error::from)?;
        Ok(self.0.put(key, &seal(key, &content))?)
    }

    /// Removes a value, durably. A missing one is no error.
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.remove(key)?)
    }

    /// All values, by key. A value that is not a `T`, which another version may have left, is removed.
    pub fn all<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, Error> {
        let mut values = Vec::new();
        for (key, page) in self.0.all()? {
            let content = unseal(&key, &page).ok_or_else(|| damaged(&key))?;
            match codec::decode(content) {
                Ok(value) => values.push((key, value)),
                Err(error) => {
                    tracing::warn!(%error, key, "removing an unknown page of the notebook");
                    self.remove(&key)?;
                }
            }
        }
        Ok(values)
    }
}

fn open_and_verify(world: &World, path: &Path) -> Result<Notebook, Error> {
    let notebook = if world.disk.is_simulated() {
        Notebook(Arc::new(plain::Plain::open(world.disk.clone(), path)))
    } else {
        Notebook(Arc::new(sled::Sled::open(world.disk.clone(), path)?))
    };
    for (key, page) in notebook.0.all()? {
        unseal(&key, &page).ok_or_else(|| damaged(&key))?;
    }
    Ok(notebook)
}

/// Whether the error is about what is in the notebook. A notebook that another process has open, or that the operating
/// system denies to this one, is left alone.
fn is_damage(error: &Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy, StorageFull};
    let Error::Io(error) = error else { return true };
    !matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy | StorageFull)
}

fn discard(world: &World, path: &Path) -> Result<(), Error> {
    if world.disk.exists(path) {
        world.disk.remove_dir_all(path)?;
    }
    Ok(world.disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?)
}

fn damaged(key: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the checksum of page {key:?} does not match"))
}

fn seal(key: &str, content: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(CRC_BYTES + content.len());
    page.extend_from_slice(&crc(key, content).to_le_bytes());
    page.extend_from_slice(content);
    page
}

fn unseal<'a>(key: &str, page: &'a [u8]) -> Option<&'a [u8]> {
    let (expected, content) = page.split_first_chunk::<CRC_BYTES>()?;
    (u32::from_le_bytes(*expected) == crc(key, content)).then_some(content)
}

fn crc(key: &str, content: &[u8]) -> u32 {
    crc32c_append(crc32c(key.as_bytes()), content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Disk, MemoryDisk, Random};

    fn both() -> Vec<(World, tempfile::TempDir)> {
        let simulated = World::simulated(1, MemoryDisk::new());
        let real = World { disk: Disk::real(), ..simulated.clone() };
        [simulated, real].into_iter().map(|world| (world, tempfile::tempdir().unwrap())).collect()
    }

    #[test]
    fn values_are_there_again_after_a_restart() {
        for (world, directory) in both() {
            let path = directory.path().join("notebook");
            let notebook = Notebook::open(&world, &path).unwrap();
            notebook.put("default/www", &("pod", 1)).unwrap();
            notebook.put("default/www", &("pod", 2)).unwrap();
            notebook.put("kube-system/dns", &("pod", 3)).unwrap();
            notebook.put("gone", &("pod", 4)).unwrap();
            notebook.remove("gone").unwrap();
            notebook.remove("never there").unwrap();
            drop(notebook);
            let all = Notebook::open(&world, &path).unwrap().all::<(String, i32)>().unwrap();
            let expected = [("default/www", 2), ("kube-system/dns", 3)];
            assert_eq!(all, expected.map(|(key, n)| (key.to_owned(), ("pod".to_owned(), n))));
        }
    }

    #[test]
    fn a_large_value_is_there_again() {
        for (world, directory) in both() {
            let path = directory.path().join("notebook");
            let large = "x".repeat(1_500_000);
            Notebook::open(&world, &path).unwrap().put("large", &large).unwrap();
            assert_eq!(Notebook::open(&world, &path).unwrap().all::<String>().unwrap(), [("large".to_owned(), large)]);
        }
    }

    #[test]
    fn a_value_of_another_type_is_struck_out() {
        for (world, directory) in both() {
            let notebook = Notebook::open(&world, &directory.path().join("notebook")).unwrap();
            notebook.put("short", &1_u8).unwrap();
            notebook.put("long", &(1_u64, 2_u64, "three")).unwrap();
            assert_eq!(notebook.all::<u8>().unwrap(), [("short".to_owned(), 1)]);
            assert_eq!(notebook.all::<u8>().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_damaged_notebook_is_begun_anew() {
        let (disk, path) = (MemoryDisk::new(), Path::new("/data/notebook"));
        let world = World::simulated(1, disk.clone());
        Notebook::open(&world, path).unwrap().put("default/www", &7).unwrap();
        let page = world.disk.list(path).unwrap().remove(0);
        disk.flip_bit(&path.join(page), 35).unwrap();
        assert!(Notebook::open(&world, path).unwrap().all::<i32>().unwrap().is_empty());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test breaks the database's files behind its back")]
    fn a_database_that_does_not_open_is_begun_anew() {
        let (world, directory) = both().remove(1);
        let path = directory.path().join("notebook");
        Notebook::open(&world, &path).unwrap().put("default/www", &7).unwrap();
        std::fs::write(path.join("conf"), b"not a configuration of sled").unwrap();
        let notebook = Notebook::open(&world, &path).unwrap();
        assert!(notebook.all::<i32>().unwrap().is_empty());
        notebook.put("default/www", &8).unwrap();
        drop(notebook);
        std::fs::write(path.with_extension("opening"), b"").unwrap();
        assert!(
            Notebook::open(&world, &path).unwrap().all::<i32>().unwrap().is_empty(),
            "its last opening never ended"
        );
    }

    #[test]
    fn a_notebook_in_use_is_left_alone() {
        let (world, directory) = both().remove(1);
        let notebook = Notebook::open(&world, directory.path()).unwrap();
        notebook.put("default/www", &7).unwrap();
        let error = Notebook::open(&world, directory.path()).map(drop).unwrap_err().to_string();
        assert!(error.ends_with("is in use by another process"), "{error}");
        assert_eq!(notebook.all::<i32>().unwrap().len(), 1);
    }

    #[test]
    fn what_was_put_survives_a_power_failure() {
        let (disk, path) = (MemoryDisk::new(), Path::new("/data/notebook"));
        let world = World::simulated(1, disk.clone());
        Notebook::open(&world, path).unwrap().put("default/www", &7).unwrap();
        disk.crash(&Random::from_seed(1));
        assert_eq!(Notebook::open(&world, path).unwrap().all::<i32>().unwrap(), [("default/www".to_owned(), 7)]);
    }
}
