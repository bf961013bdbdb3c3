//! The file system of the machine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the one place that touches files")]

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::access::{Access, Open, PlaceType};
use super::named::named;
use super::reserve::Reserve;

pub fn open(reserve: &Reserve, path: &Path, how: Open) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(how != Open::Read).create_new(how == Open::CreateNew).mode(0o600);
    let opened = match how {
        Open::Read => options.open(path),
        // Whoever writes has promised something to somebody.
        Open::Write | Open::CreateNew => reserve.open(|| options.open(path)),
    };
    opened.map_err(|error| named(error, path))
}

pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| named(error, path))
}

/// Up to `bytes_max` bytes from the end of a regular file.
pub fn read_end(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let careful = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(careful).open(path).map_err(|error| named(error, path))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(named(io::Error::other("not a regular file"), path));
    }
    let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(bytes_max)];
    let start = metadata.len() - bytes.len() as u64;
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], start + filled as u64)? {
            // Somebody cut it meanwhile.
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

pub fn place_type(path: &Path) -> io::Result<PlaceType> {
    let found = fs::metadata(path).map_err(|error| named(error, path))?.file_type();
    Ok(match found {
        found if found.is_dir() => PlaceType::Directory,
        found if found.is_socket() => PlaceType::Socket,
        found if found.is_char_device() => PlaceType::CharDevice,
        found if found.is_block_device() => PlaceType::BlockDevice,
        _ => PlaceType::File,
    })
}

pub fn let_everyone_read(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(|error| named(error, path))
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}

pub fn create_dir_all(path: &Path, access: Access) -> io::Result<()> {
    let mode = if access == Access::Owner { 0o700 } else { 0o755 };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| named(error, path))
}

pub fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| named(error, path))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).map_err(|error| named(error, path))
}

pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path).map_err(|error| named(error, path))
}

pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).map_err(|error| named(error, from))
}

pub fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).map_err(|error| named(error, from))
}

pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| named(error, path))
}

pub fn set_group(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, None, Some(group)).map_err(|error| named(error, path))
}

pub fn set_file_mode(file: &fs::File, mode: u32) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(mode))
}

pub fn set_file_group(file: &fs::File, group: u32) -> io::Result<()> {
    std::os::unix::fs::fchown(file, None, Some(group))
}

pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link).map_err(|error| named(error, link))
}

pub fn sync_dir(reserve: &Reserve, path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    reserve.open(|| fs::File::open(path)).and_then(|dir| dir.sync_all()).map_err(|error| named(error, path))
}

pub fn lock_dir(path: &Path) -> io::Result<fs::File> {
    let dir = fs::File::open(path).map_err(|error| named(error, path))?;
    match dir.try_lock() {
        Ok(()) => Ok(dir),
        Err(fs::TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is in use by another process", path.display())))
        }
        Err(fs::TryLockError::Error(error)) => Err(named(error, path)),
    }
}

pub fn wait_for_dir(path: &Path) -> io::Result<fs::File> {
    let dir = fs::File::open(path).map_err(|error| named(error, path))?;
    dir.lock().map_err(|error| named(error, path))?;
    Ok(dir)
}

pub fn read_exact_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

pub fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

pub fn reserve(file: &fs::File, offset: u64, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, bytes) {
        // A file system that cannot reserve tells of missing room when it is written to.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub fn sync_data(file: &fs::File) -> io::Result<()> {
    file.sync_data()
}

pub fn len(file: &fs::File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

pub fn set_len(file: &fs::File, length: u64) -> io::Result<()> {
    file.set_len(length)
}
