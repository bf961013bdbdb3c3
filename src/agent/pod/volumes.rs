//! A pod's files on the node.
//!
//! ```text
//!   <data_dir>/pods/<uid>/volumes/<volume>/..data -> ..<digest>/     files appear under their names through ..data,
//!                                          <name> -> ..data/<name>   so an update is one rename and never half done
//!   <data_dir>/pods/<uid>/containers/<name>/<attempt>                 the termination message
//! ```

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;
use sha2::{Digest, Sha256};

use super::content::{Content, Files};
use crate::agent::error::Error;
use crate::world::Disk;
use crate::world::disk::{Access, Open};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// Any user of a container may write into an `emptyDir`.
const MODE_EMPTY_DIR: u32 = 0o777;
/// What is kept of a termination message.
const MESSAGE_BYTES_MAX: u64 = 4096;

/// The place of one pod's files.
#[derive(Clone, Debug)]
pub struct PodDir {
    disk: Disk,
    path: PathBuf,
}

impl PodDir {
    pub fn new(disk: Disk, data_dir: &Path, uid: &str) -> PodDir {
        PodDir { disk, path: pods_dir(data_dir).join(uid) }
    }

    /// Where a volume is on the node.
    pub fn volume_path(&self, volume: &str, content: &Content) -> PathBuf {
        match content {
            Content::Host { path, .. } => path.clone(),
            Content::Empty | Content::Files(_) => self.path.join("volumes").join(volume),
        }
    }

    /// Makes a volume what it should be; one that is so already is left alone.
    pub fn prepare(&self, volume: &str, content: &Content) -> Result<(), Error> {
        let path = self.volume_path(volume, content);
        match content {
            Content::Empty => {
                if !self.disk.exists(&path) {
                    self.disk.create_dir_all(&path, Access::Everyone)?;
                    self.disk.set_mode(&path, MODE_EMPTY_DIR)?;
                }
                Ok(())
            }
            Content::Host { kind, .. } => self.prepare_host(&path, kind),
            Content::Files(files) => Ok(self.publish(&path, files)?),
        }
    }

    fn prepare_host(&self, path: &Path, kind: &str) -> Result<(), Error> {
        let exists = self.disk.exists(path);
        let is_dir = || self.disk.list(path).is_ok();
        match kind {
            "DirectoryOrCreate" | "" if !exists => Ok(self.disk.create_dir_all(path, Access::Everyone)?),
            "FileOrCreate" if !exists => {
                self.disk.open(path, Open::CreateNew)?;
                Ok(self.disk.set_mode(path, 0o644)?)
            }
            "Directory" | "DirectoryOrCreate" if exists && !is_dir() => {
                Err(Error::Config(format!("hostPath type check failed: {} is not a directory", path.display())))
            }
            "File" | "FileOrCreate" if exists && is_dir() => {
                Err(Error::Config(format!("hostPath type check failed: {} is not a file", path.display())))
            }
            "" => Ok(()),
            _ if exists => Ok(()),
            _ => Err(Error::Config(format!("hostPath type check failed: {} does not exist", path.display()))),
        }
    }

    /// Publishes a set of files at once.
    fn publish(&self, dir: &Path, files: &Files) -> io::Result<()> {
        let version = format!("..{}", digest(files));
        let target = dir.join(&version);
        let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
        // The links come last, so one pass that was cut short is repeated.
        if self.disk.exists(&dir.join(DATA).join(".published")) && self.disk.exists(&target.join(".published")) {
            return Ok(());
        }
        if self.disk.exists(&target) {
            self.disk.remove_dir_all(&target)?;
        }
        self.disk.create_dir_all(&target, Access::Everyone)?;
        for (path, file) in files {
            let path = target.join(path);
            self.disk.create_dir_all(path.parent().unwrap_or(&target), Access::Everyone)?;
            self.disk.open(&path, Open::CreateNew)?.write_all_at(&file.bytes, 0)?;
            self.disk.set_mode(&path, file.mode)?;
        }
        let link = dir.join(DATA_NEW);
        // A link left over from a pass that was cut short; absent otherwise.
        let _ = self.disk.remove(&link);
        self.disk.symlink(Path::new(&version), &link)?;
        self.disk.rename(&link, &dir.join(DATA))?;
        for old in self.disk.list(dir)? {
            let path = dir.join(&old);
            if old.starts_with("..") {
                if old != version && old != DATA {
                    self.disk.remove_dir_all(&path)?;
                }
            } else if !names.contains(old.as_str()) {
                self.disk.remove(&path)?;
            }
        }
        for name in names {
            if !self.disk.exists(&dir.join(name)) {
                self.disk.symlink(&Path::new(DATA).join(name), &dir.join(name))?;
            }
        }
        self.disk.open(&target.join(".published"), Open::CreateNew)?;
        Ok(())
    }

    /// The part of a volume that is mounted; `sub_path` is made as a directory where there is nothing.
    pub fn mount_path(&self, volume: &Path, mount: &VolumeMount, sub_path: Option<&str>) -> Result<PathBuf, Error> {
        let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) else { return Ok(volume.to_owned()) };
        if !Path::new(sub_path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Error::Config(format!("volumeMount {:?}: subPath {sub_path:?} leaves the volume", mount.name)));
        }
        let path = volume.join(sub_path);
        if !self.disk.exists(&path) {
            self.disk.create_dir_all(&path, Access::Everyone)?;
        }
        Ok(path)
    }

    /// A fresh file for a container's last words.
    pub fn termination_message(&self, container: &str, attempt: u32) -> Result<PathBuf, Error> {
        let dir = self.path.join("containers").join(container);
        self.disk.create_dir_all(&dir, Access::Everyone)?;
        let path = dir.join(attempt.to_string());
        if self.disk.exists(&path) {
            self.disk.remove(&path)?;
        }
        self.disk.open(&path, Open::CreateNew)?;
        self.disk.set_mode(&path, 0o666)?;
        Ok(path)
    }

    /// What a container left as its last words.
    pub fn read_message(&self, path: &Path) -> Option<String> {
        let file = self.disk.open(path, Open::Read).ok()?;
        let length = file.len().ok()?.min(MESSAGE_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
    }

    /// Removes all files of the pod.
    pub fn remove(&self) -> Result<(), Error> {
        if self.disk.exists(&self.path) {
            self.disk.remove_dir_all(&self.path)?;
        }
        Ok(())
    }
}

/// Where the files of all pods are.
pub fn pods_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("pods")
}

fn digest(files: &Files) -> String {
    let mut hash = Sha256::new();
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

    fn files(entries: &[(&str, &str)]) -> Content {
        let file = |text: &str| FileContent { bytes: text.into(), mode: 0o640 };
        Content::Files(entries.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect())
    }

    #[test]
    fn files_are_published_and_replaced_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::real();
        let pod = PodDir::new(disk.clone(), dir.path(), "u");
        let volume = dir.path().join("pods/u/volumes/v");
        let read = |name: &str| String::from_utf8(disk.read(&volume.join(name)).unwrap()).unwrap();
        pod.prepare("v", &files(&[("a", "1"), ("d/b", "2")])).unwrap();
        assert_eq!((read("a"), read("d/b")), ("1".into(), "2".into()));
        pod.prepare("v", &files(&[("a", "3")])).unwrap();
        assert_eq!(read("a"), "3");
        assert!(!disk.exists(&volume.join("d")));
        assert_eq!(disk.list(&volume).unwrap().len(), 3, "..data, one version, one link");
        pod.remove().unwrap();
        assert!(!disk.exists(&dir.path().join("pods/u")));
    }

    #[test]
    fn host_paths_are_of_the_kind_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let pod = PodDir::new(Disk::real(), dir.path(), "u");
        let host = |name: &str, kind: &str| Content::Host { path: dir.path().join(name), kind: kind.to_owned() };
        pod.prepare("v", &host("made", "DirectoryOrCreate")).unwrap();
        pod.prepare("v", &host("made", "Directory")).unwrap();
        pod.prepare("v", &host("file", "FileOrCreate")).unwrap();
        pod.prepare("v", &host("file", "")).unwrap();
        for (name, kind) in [("made", "File"), ("file", "Directory"), ("none", "Directory"), ("none", "Socket")] {
            let error = pod.prepare("v", &host(name, kind)).unwrap_err();
            assert!(error.to_string().starts_with("hostPath type check failed"), "{name} {kind}: {error}");
        }
    }
}
