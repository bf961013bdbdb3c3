//! Mounts: a pinned place under a name of one's own, and directories in memory. A process without the privilege gets
//! [`io::ErrorKind::PermissionDenied`]; the twin in memory mounts nothing.
#![allow(clippy::disallowed_methods, reason = "a place that touches files")]

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::beneath::Pinned;
use super::{Access, Disk, Open, named};

/// Shows a pinned place under a second name until it is dropped.
#[derive(Debug)]
pub struct Bind {
    disk: Disk,
    at: PathBuf,
    is_dir: bool,
}

impl Bind {
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.at) {
            tracing::warn!(at = %self.at.display(), %error, "a mount stays");
        } else if self.is_dir {
            // Both are empty, and what stays is in nobody's way.
            let _ = std::fs::remove_dir(&self.at);
        } else {
            let _ = self.disk.remove(&self.at);
        }
    }
}

impl Disk {
    /// Shows `pinned` at `at`, which is made for it. Nobody else may write in the directory of `at`.
    pub fn bind(&self, pinned: &Pinned, at: &Path) -> io::Result<Bind> {
        self.unmount_below(at)?;
        if let Some(parent) = at.parent() {
            self.create_dir_all(parent, Access::Owner)?;
        }
        if !self.exists(at) {
            if pinned.is_dir() {
                self.create_dir_all(at, Access::Owner)?;
            } else {
                self.open(at, Open::CreateNew)?;
            }
        }
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&pinned.place, c"", clone).map_err(|error| named(error.into(), at))?;
        let here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let moved = rustix::mount::move_mount(&tree, c"", rustix::fs::CWD, at, here);
        moved.map_err(|error| named(error.into(), at))?;
        Ok(Bind { disk: self.clone(), at: at.to_owned(), is_dir: pinned.is_dir() })
    }

    /// Makes the directory `at` one in memory that holds up to `bytes_max`; `false` where it is so already.
    pub fn mount_memory(&self, at: &Path, bytes_max: Option<u64>) -> io::Result<bool> {
        if self.is_simulated() || is_mount_point(at)? {
            return Ok(false);
        }
        let options = bytes_max.map_or_else(|| "mode=0777".to_owned(), |bytes| format!("mode=0777,size={bytes}"));
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let mounted = rustix::mount::mount(c"tmpfs", at, c"tmpfs", flags, options.as_c_str());
        mounted.map(|()| true).map_err(|error| named(error.into(), at))
    }

    /// Undoes every mount at `dir` and below it, also those that somebody else made.
    pub fn unmount_below(&self, dir: &Path) -> io::Result<()> {
        if self.is_simulated() || !self.exists(dir) {
            return Ok(());
        }
        // The latest first: it may lie upon another.
        for point in mount_points(dir)?.into_iter().rev() {
            unmount(&point)?;
        }
        Ok(())
    }
}

fn unmount(at: &Path) -> io::Result<()> {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(at, flags).map_err(|error| named(error.into(), at))
}

fn is_mount_point(dir: &Path) -> io::Result<bool> {
    let real = dir.canonicalize().map_err(|error| named(error, dir))?;
    Ok(mount_points(dir)?.contains(&real))
}

/// The mount points at `dir` and below it, in the order in which they were made.
fn mount_points(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = dir.canonicalize().map_err(|error| named(error, dir))?;
    let table = std::fs::read("/proc/self/mountinfo")?;
    let points = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    Ok(points.map(unescape).filter(|point| point.starts_with(&dir)).collect())
}

/// A path of the kernel's table of mounts, where blanks stand as `\040`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Whether this process may mount; the tests say nothing where it may not.
    fn may<T>(result: io::Result<T>) -> Option<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            other => Some(other.unwrap()),
        }
    }

    #[test]
    fn a_bind_shows_what_was_pinned_and_goes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, at) = (dir.path().join("a volume"), dir.path().join("own/0"));
        fs::create_dir_all(volume.join("x")).unwrap();
        fs::write(volume.join("x/file"), "inside").unwrap();
        let disk = Disk::real();
        for path in ["x", "x/file"] {
            let pinned = disk.pin_beneath(&volume, Path::new(path)).unwrap();
            let Some(bind) = may(disk.bind(&pinned, &at)) else { return };
            let shown = if pinned.is_dir() { bind.path().join("file") } else { bind.path().to_owned() };
            assert_eq!(fs::read_to_string(shown).unwrap(), "inside");
            drop(bind);
            assert!(!at.exists());
        }
        assert_eq!(fs::read_to_string(volume.join("x/file")).unwrap(), "inside");
    }

    #[test]
    fn a_directory_in_memory_is_full_at_its_limit_and_mounts_below_a_directory_go() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("a volume");
        fs::create_dir(&at).unwrap();
        let disk = Disk::real();
        if may(disk.mount_memory(&at, Some(64 << 10))).is_none() {
            return;
        }
        fs::write(at.join("small"), "x").unwrap();
        assert_eq!(fs::write(at.join("big"), vec![0; 1 << 20]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!disk.mount_memory(&at, Some(64 << 10)).unwrap());
        assert!(at.join("small").exists(), "what is mounted already stays");
        disk.unmount_below(dir.path()).unwrap();
        assert!(!at.join("small").exists());
    }

    #[test]
    fn paths_of_the_kernel_s_table_are_read() {
        assert_eq!(unescape(br"/a\040b\134c\x"), Path::new(r"/a b\c\x"));
    }
}
