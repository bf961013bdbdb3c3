//! Places below a directory in which somebody else works, such as a volume of a container.
//!
//! Others rename and link there at any time, so what was looked up by path may be something else a moment later. A
//! place is found once, by the kernel, which does not leave the directory on the way (`openat2` with
//! `RESOLVE_BENEATH`), and is held open from then on.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Disk, named};

/// The kernel gives up a lookup that a rename disturbed; so often it is tried again.
const LOOKUPS_MAX: usize = 64;

/// A file or directory that stays the same, whatever happens to the names that led to it.
#[derive(Debug)]
pub struct Pinned {
    pub(super) place: OwnedFd,
    is_dir: bool,
}

impl Pinned {
    pub fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn new(place: OwnedFd) -> io::Result<Pinned> {
        let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode).is_dir();
        Ok(Pinned { place, is_dir })
    }

    /// The path that leads to it now. Only where nobody else may rename is that of any use.
    pub fn path(&self) -> io::Result<PathBuf> {
        use std::os::fd::AsRawFd;
        use std::os::unix::ffi::OsStringExt;
        let link = rustix::fs::readlink(format!("/proc/self/fd/{}", self.place.as_raw_fd()), Vec::new())?;
        Ok(std::ffi::OsString::from_vec(link.into_bytes()).into())
    }
}

impl Disk {
    /// Pins `path` below the directory `root`. Links are followed as long as they stay below it:
    /// [`io::ErrorKind::CrossesDevices`] where they do not. Where there is nothing, directories are made, with the
    /// permissions of `root`. The twin in memory knows no links and pins nothing.
    pub fn pin_beneath(&self, root: &Path, path: &Path) -> io::Result<Pinned> {
        if self.is_simulated() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no places are pinned in memory"));
        }
        let shown = || root.join(path);
        pin_beneath(root, path).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::XDEV | Errno::LOOP) => {
                let leads = format!("{} leads out of {}", shown().display(), root.display());
                io::Error::new(io::ErrorKind::CrossesDevices, leads)
            }
            _ => named(error, &shown()),
        })
    }
}

fn pin_beneath(root: &Path, path: &Path) -> io::Result<Pinned> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&root)?;
    let mut found = lookup(&root, Path::new("."))?;
    let mut so_far = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) => {
                so_far.push(name);
                found = match lookup(&root, &so_far) {
                    Err(Errno::NOENT) => {
                        make_dir(&found, name, Mode::from_raw_mode(stat.st_mode))?;
                        // A link to nothing is still one: nothing is made where it leads.
                        lookup(&root, &so_far)?
                    }
                    other => other?,
                };
            }
            _ => return Err(Errno::XDEV.into()),
        }
    }
    Pinned::new(found)
}

fn lookup(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let (flags, resolve) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS);
    for _ in 0..LOOKUPS_MAX {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn make_dir(parent: &OwnedFd, name: &OsStr, mode: Mode) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error),
    }
    // The process's mask took permissions away.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&made, mode)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a container does to its volume")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn volume() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volume");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        (dir, root)
    }

    #[test]
    fn what_is_missing_is_made_with_the_permissions_of_the_root() {
        let (_dir, root) = volume();
        let made = Disk::real().pin_beneath(&root, Path::new("a/./b")).unwrap();
        assert!(made.is_dir());
        assert_eq!(made.path().unwrap(), root.join("a/b").canonicalize().unwrap());
        assert_eq!(fs::metadata(root.join("a/b")).unwrap().permissions().mode() & 0o7777, 0o777);
        fs::write(root.join("a/file"), "").unwrap();
        assert!(!Disk::real().pin_beneath(&root, Path::new("a/file")).unwrap().is_dir());
    }

    #[test]
    fn links_that_stay_are_followed_and_others_are_not() {
        let (dir, root) = volume();
        fs::create_dir(root.join("inside")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        for (target, link) in
            [("inside", "in"), ("/", "root"), ("..", "up"), ("../outside", "out"), ("none", "dangling")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let disk = Disk::real();
        let inside = disk.pin_beneath(&root, Path::new("in/new")).unwrap();
        assert!(inside.path().unwrap().ends_with("inside/new"));
        for path in ["root", "root/etc", "up", "out", "out/new", "magic/etc", "../outside", "/etc"] {
            let error = disk.pin_beneath(&root, Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices, "{path}: {error}");
        }
        assert!(fs::read_dir(dir.path().join("outside")).unwrap().next().is_none(), "nothing is made outside");
        assert_eq!(disk.pin_beneath(&root, Path::new("dangling")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!root.join("none").exists());
    }

    #[test]
    fn a_pinned_place_stays_what_it_was() {
        let (dir, root) = volume();
        fs::create_dir(root.join("x")).unwrap();
        let pinned = Disk::real().pin_beneath(&root, Path::new("x")).unwrap();
        fs::rename(root.join("x"), root.join("y")).unwrap();
        symlink(dir.path(), root.join("x")).unwrap();
        assert!(pinned.path().unwrap().ends_with("volume/y"));
    }
}
