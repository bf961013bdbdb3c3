//! A filesystem a member, on an image of its own, so that its power can be cut.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::ioctl;

use super::namespaces::run;

/// Room for a run's data; sparse, so that it costs what is used.
const IMAGE_BYTES: u64 = 1 << 30;

/// `_IOR('X', 125, u32)`
const EXT4_IOC_SHUTDOWN: ioctl::Opcode = 0x8004_587d;
/// What was not synced is gone, as when the power fails.
const WITHOUT_FLUSHING_THE_JOURNAL: u32 = 2;
/// How much of a full disk is left to the filesystem itself.
const FILLER: &str = "filler";

/// An ext4 image and where it is mounted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
    /// Its power was cut, and is not back yet.
    dark: bool,
}

impl Disk {
    /// Makes and mounts a fresh one.
    pub fn make(dir: &Path, name: &str) -> anyhow::Result<Disk> {
        let disk = Disk { image: dir.join(format!("{name}.img")), mounted: dir.join(name), dark: false };
        std::fs::create_dir_all(&disk.mounted)?;
        let _ = run(&format!("umount {}", disk.mounted.display()));
        File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        run(&format!("mkfs.ext4 -q -F -E lazy_itable_init=1 -m 0 {}", disk.image.display()))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where a member's data goes.
    pub fn data(&self) -> PathBuf {
        self.mounted.join("data")
    }

    fn mount(&self) -> anyhow::Result<()> {
        run(&format!("mount -o loop {} {}", self.image.display(), self.mounted.display()))
    }

    /// Cuts the power: from now on nothing is written any more, and what was not synced is lost. The process that uses
    /// the disk must be killed before [`Disk::repower`].
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        let root = File::open(&self.mounted).with_context(|| format!("{} is not there", self.mounted.display()))?;
        // SAFETY: the opcode takes a pointer to a u32, which is what the setter passes.
        let shutdown = unsafe { ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(WITHOUT_FLUSHING_THE_JOURNAL) };
        // SAFETY: the descriptor is that of an open directory on the filesystem, and the call keeps no pointer.
        unsafe { ioctl::ioctl(root.as_fd(), shutdown) }.context("the filesystem could not be shut down")?;
        self.dark = true;
        Ok(())
    }

    pub fn is_dark(&self) -> bool {
        self.dark
    }

    /// Mounts the filesystem again, which replays its journal.
    pub fn repower(&mut self) -> anyhow::Result<()> {
        run(&format!("umount {}", self.mounted.display()))?;
        self.mount()?;
        self.dark = false;
        Ok(())
    }

    /// Takes all the space there is.
    pub fn fill(&self) -> anyhow::Result<()> {
        let filler = File::create(self.mounted.join(FILLER))?;
        // Down to single blocks, so that nothing is left.
        for step in [1_u64 << 26, 1 << 22, 1 << 16, 1 << 12] {
            while rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), filler.metadata()?.len(), step)
                .is_ok()
            {}
        }
        Ok(())
    }

    /// Gives it back.
    pub fn empty(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.mounted.join(FILLER)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Lets nothing be written any more, or again.
    pub fn read_only(&self, on: bool) -> anyhow::Result<()> {
        let mode = if on { "ro" } else { "rw" };
        run(&format!("mount -o remount,{mode} {}", self.mounted.display()))
    }

    /// The data files, largest first.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.data()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => open.push(entry.path()),
                    Ok(meta) if meta.len() > 0 => found.push((meta.len(), entry.path())),
                    _ => {}
                }
            }
        }
        found.sort();
        found.into_iter().rev().map(|(_, path)| path).collect()
    }

    /// Unmounts and removes the image.
    pub fn remove(&self) {
        let _ = run(&format!("umount {}", self.mounted.display()));
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir(&self.mounted);
    }
}
