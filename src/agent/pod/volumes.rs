//! A pod's files on the node.
//!
//! ```text
//!   <data_dir>/pods/<uid>/volumes/<volume>                  what containers write to, or what the agent publishes
//!                         subpaths/<container>/<number>     a part of a volume, while its container starts
//!                         containers/<container>/<attempt>  the termination message
//! ```
//!
//! Containers work in their volumes with root's rights at the same time as the agent, so the agent never follows a link
//! out of a volume. The directories above a volume are the agent's alone.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;

use super::atomic_writer;
use super::content::{Content, EmptyDir};
use crate::agent::error::Error;
use crate::world::Disk;
use crate::world::disk::{Access, Bind, Open, PlaceType};

/// Any user of a container may write into an `emptyDir`.
const MODE_EMPTY_DIR: u32 = 0o777;
/// New files in a directory with this bit belong to the directory's group.
const SET_GROUP: u32 = 0o2000;
/// What is kept of a termination message.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The directory of one pod's files.
#[derive(Clone, Debug)]
pub struct PodDir {
    disk: Disk,
    path: PathBuf,
}

/// A volume, or a part of one, on the node.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    /// Holds the part of a volume until the container that mounts it has started.
    pub held: Option<Bind>,
}

impl PodDir {
    pub fn new(disk: Disk, data_dir: &Path, uid: &str) -> PodDir {
        PodDir { disk, path: pods_dir(data_dir).join(uid) }
    }

    /// Where a volume is on the node.
    pub fn volume_path(&self, volume: &str, content: &Content) -> PathBuf {
        match content {
            Content::Host { path, .. } => path.clone(),
            Content::Empty(_) | Content::Files(_) => self.path.join("volumes").join(volume),
        }
    }

    /// Prepares a volume, unless it is so already. `group` owns it if it is the pod's own.
    pub fn prepare(&self, volume: &str, content: &Content, group: Option<u32>) -> Result<(), Error> {
        let path = self.volume_path(volume, content);
        match content {
            Content::Empty(wanted) => self.prepare_empty(&path, *wanted, group),
            Content::Host { kind, .. } => self.prepare_host(&path, kind),
            Content::Files(files) => Ok(atomic_writer::publish(&self.disk, &path, files, group)?),
        }
    }

    fn prepare_empty(&self, path: &Path, wanted: EmptyDir, group: Option<u32>) -> Result<(), Error> {
        let mut is_new = !self.disk.exists(path);
        self.disk.create_dir_all(path, Access::Everyone)?;
        if wanted.in_memory {
            let mounted = self.disk.mount_memory(path, wanted.bytes_max);
            is_new |= mounted.map_err(|error| needs_root(error, "an emptyDir in memory"))?;
        }
        if !is_new {
            return Ok(());
        }
        // After the group, since a change of the owner clears the bit.
        if let Some(group) = group {
            self.disk.set_group(path, group)?;
        }
        Ok(self.disk.set_mode(path, MODE_EMPTY_DIR | if group.is_some() { SET_GROUP } else { 0 })?)
    }

    fn prepare_host(&self, path: &Path, kind: &str) -> Result<(), Error> {
        let found = match self.disk.place_type(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let is = |wanted: PlaceType, what: &str| match found {
            Some(found) if found == wanted => Ok(()),
            _ => Err(Error::Config(format!("hostPath type check failed: {} is not {what}", path.display()))),
        };
        match kind {
            "" if found.is_some() => Ok(()),
            "" | "DirectoryOrCreate" if found.is_none() => Ok(self.disk.create_dir_all(path, Access::Everyone)?),
            "FileOrCreate" if found.is_none() => Ok(self.disk.open(path, Open::CreateNew)?.set_mode(0o644)?),
            "Directory" | "DirectoryOrCreate" => is(PlaceType::Directory, "a directory"),
            "File" | "FileOrCreate" => is(PlaceType::File, "a file"),
            "Socket" => is(PlaceType::Socket, "a socket file"),
            "CharDevice" => is(PlaceType::CharDevice, "a character device"),
            "BlockDevice" => is(PlaceType::BlockDevice, "a block device"),
            other => Err(Error::Config(format!("{other} is an invalid volume type"))),
        }
    }

    /// The source of a mount. A part of a volume that containers may have created, or may change while this one starts,
    /// is found once and held under a name that they don't reach.
    pub fn source(
        &self,
        content: &Content,
        mount: &VolumeMount,
        sub_path: Option<&str>,
        holder: &str,
    ) -> Result<Source, Error> {
        let volume = self.volume_path(&mount.name, content);
        let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) else {
            return Ok(Source { path: volume, held: None });
        };
        let failed =
            |why: String| Error::Config(format!("failed to prepare subPath for volumeMount {:?}: {why}", mount.name));
        let pinned = self.disk.pin_beneath(&volume, Path::new(sub_path)).map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => failed(format!("{sub_path:?} leads out of the volume")),
            _ => failed(error.to_string()),
        })?;
        if matches!(content, Content::Files(_)) {
            return Ok(Source { path: pinned.path()?, held: None });
        }
        let held = self.disk.bind(&pinned, &self.path.join("subpaths").join(holder));
        let held = held.map_err(|error| needs_root(error, "a subPath of a volume that containers write to"))?;
        Ok(Source { path: held.path().to_owned(), held: Some(held) })
    }

    /// Creates an empty file for a container's termination message.
    pub fn termination_message(&self, container: &str, attempt: u32) -> Result<PathBuf, Error> {
        let dir = self.path.join("containers").join(container);
        self.disk.create_dir_all(&dir, Access::Everyone)?;
        let path = dir.join(attempt.to_string());
        if self.disk.exists(&path) {
            self.disk.remove(&path)?;
        }
        self.disk.open(&path, Open::CreateNew)?.set_mode(0o666)?;
        Ok(path)
    }

    /// The end of a container's termination message.
    pub fn read_message(&self, path: &Path) -> Option<String> {
        let bytes = self.disk.read_end(path, MESSAGE_BYTES_MAX).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
    }

    /// Removes all files of the pod, but nothing that is mounted below its directory.
    pub fn remove(&self) -> Result<(), Error> {
        if self.disk.exists(&self.path) {
            self.disk.unmount_below(&self.path)?;
            self.disk.remove_dir_all(&self.path)?;
        }
        Ok(())
    }
}

/// Where the files of all pods are.
pub fn pods_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("pods")
}

fn needs_root(error: io::Error, what: &str) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Config(format!("{what} needs an agent that runs as root: {error}")),
        _ => error.into(),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a container does to its volume")]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

    use super::*;
    use crate::agent::pod::content::FileContent;

    const EMPTY: Content = Content::Empty(EmptyDir { in_memory: false, bytes_max: None });

    fn pod(dir: &Path) -> PodDir {
        PodDir::new(Disk::real(), dir, "u")
    }

    fn mount(volume: &str) -> VolumeMount {
        VolumeMount { name: volume.to_owned(), ..VolumeMount::default() }
    }

    #[test]
    fn a_sub_path_never_leaves_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(dir.path());
        pod.prepare("v", &EMPTY, None).unwrap();
        let volume = pod.volume_path("v", &EMPTY);
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("/", volume.join("x")).unwrap();
        symlink("../../../../outside", volume.join("up")).unwrap();
        for path in ["x", "x/etc", "up", "up/new", "../v", "/etc"] {
            let error = pod.source(&EMPTY, &mount("v"), Some(path), "c/0").unwrap_err().to_string();
            assert!(error.ends_with("leads out of the volume"), "{path}: {error}");
        }
        assert!(std::fs::read_dir(dir.path().join("outside")).unwrap().next().is_none());
        let source = match pod.source(&EMPTY, &mount("v"), Some("a/b"), "c/0") {
            Err(error) if error.to_string().contains("runs as root") => return,
            other => other.unwrap(),
        };
        std::fs::write(volume.join("a/b/file"), "").unwrap();
        // A container renames and links while another starts.
        std::fs::rename(volume.join("a"), volume.join("old")).unwrap();
        symlink("/etc", volume.join("a")).unwrap();
        assert!(!source.path.starts_with(&volume) && source.path.join("file").exists());
        // An agent that ended before it could undo its mount.
        std::mem::forget(source);
        pod.remove().unwrap();
        assert!(!dir.path().join("pods/u").exists());
    }

    #[test]
    fn a_sub_path_of_published_files_is_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(dir.path());
        let file = FileContent { bytes: "x".into(), mode: 0o640 };
        let content = Content::Files([("d/key".to_owned(), file)].into());
        pod.prepare("v", &content, Some(4321)).unwrap();
        let source = pod.source(&content, &mount("v"), Some("d/key"), "c/0").unwrap();
        let found = std::fs::symlink_metadata(&source.path).unwrap();
        assert!(found.is_file() && source.held.is_none());
        assert_eq!((found.gid(), found.mode() & 0o7777), (4321, 0o640));
    }

    #[test]
    fn an_empty_dir_belongs_to_the_pods_group() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(dir.path());
        let memory = Content::Empty(EmptyDir { in_memory: true, bytes_max: Some(1 << 20) });
        for (name, content) in [("disk", &EMPTY), ("memory", &memory)] {
            for _ in 0..2 {
                match pod.prepare(name, content, Some(4321)) {
                    Err(error) if error.to_string().contains("runs as root") => return,
                    other => other.unwrap(),
                }
            }
            let found = std::fs::metadata(pod.volume_path(name, content)).unwrap();
            assert_eq!((found.gid(), found.mode() & 0o7777), (4321, 0o2777), "{name}");
        }
        let volume = pod.volume_path("memory", &memory);
        assert!(std::fs::write(volume.join("big"), vec![0; 2 << 20]).is_err(), "it is as large as it may be");
        pod.remove().unwrap();
        assert!(!volume.exists());
    }

    #[test]
    fn last_words_are_the_end_of_a_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(dir.path());
        let path = pod.termination_message("c", 0).unwrap();
        assert_eq!(pod.read_message(&path), None);
        std::fs::write(&path, format!("{}end", "x".repeat(10_000))).unwrap();
        let words = pod.read_message(&path).unwrap();
        assert!(words.len() == MESSAGE_BYTES_MAX && words.ends_with("end"));
        std::fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert_eq!(pod.read_message(&path), None, "a link is not followed");
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
        assert_eq!(pod.read_message(&path), None, "nobody waits for a FIFO");
    }

    #[test]
    fn host_paths_are_of_the_kind_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(dir.path());
        let host = |name: &str, kind: &str| Content::Host { path: dir.path().join(name), kind: kind.to_owned() };
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let good = [
            ("made", "DirectoryOrCreate"),
            ("made", "Directory"),
            ("file", "FileOrCreate"),
            ("file", ""),
            ("new", ""),
            ("new", "Directory"),
            ("socket", "Socket"),
            ("/dev/null", "CharDevice"),
        ];
        for (name, kind) in good {
            pod.prepare("v", &host(name, kind), None).unwrap();
        }
        let bad = [
            ("made", "File", "is not a file"),
            ("file", "Directory", "is not a directory"),
            ("none", "Directory", "is not a directory"),
            ("none", "Socket", "is not a socket file"),
            ("file", "Socket", "is not a socket file"),
            ("file", "CharDevice", "is not a character device"),
            ("made", "BlockDevice", "is not a block device"),
            ("socket", "FileOrCreate", "is not a file"),
        ];
        for (name, kind, why) in bad {
            let error = pod.prepare("v", &host(name, kind), None).unwrap_err().to_string();
            assert!(error.starts_with("hostPath type check failed") && error.ends_with(why), "{name} {kind}: {error}");
        }
    }
}
