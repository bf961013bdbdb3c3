//! What the machine has, and how several agents divide it.

use std::path::Path;

use rustix::fs::statvfs;
use rustix::system::{sysinfo, uname};

use crate::agent::config::{Capacity, CapacitySource};
use crate::agent::error::Error;
use crate::world::Disk;
use crate::world::disk::Open;

/// Upstream's default; the engine copes with so many.
const PODS: u32 = 110;
/// Below these the node takes no new pods.
const MEMORY_AVAILABLE_MIN: u64 = 100 << 20;
const DISK_AVAILABLE_MIN_PERCENT: u64 = 10;
/// Of the kernel's process numbers, so many must be free.
const PIDS_AVAILABLE_MIN_PERCENT: u64 = 10;
const CORE_MILLIS: u64 = 1000;

/// What the kernel says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub id: String,
    pub boot_id: String,
    pub kernel: String,
    /// By Go's name: `amd64`, `arm64`.
    pub architecture: &'static str,
}

/// Which resources run out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// The capacity that an agent registers.
pub fn capacity(source: CapacitySource, data_dir: &Path) -> Result<Capacity, Error> {
    match source {
        CapacitySource::Fixed(capacity) => Ok(capacity),
        CapacitySource::Machine { agents } => Ok(divide(whole(data_dir)?, agents)),
    }
}

fn whole(data_dir: &Path) -> Result<Capacity, Error> {
    let info = sysinfo();
    let disk = statvfs(data_dir).map_err(std::io::Error::from)?;
    let cores = std::thread::available_parallelism()?.get() as u64;
    Ok(Capacity {
        cpu_millis: cores * CORE_MILLIS,
        // The kernel's word has the width of the machine's, on every machine that this is built for.
        #[allow(clippy::unnecessary_cast, reason = "narrower on 32-bit machines")]
        memory_bytes: info.totalram as u64 * u64::from(info.mem_unit),
        storage_bytes: disk.f_blocks * disk.f_frsize,
        pods: PODS,
    })
}

/// One agent's share. Memory and disk are handed out once; processor time is a weight, so an agent offers a whole core
/// at least, where the machine has one: pods that ask for most of a core then fit on small machines, too.
fn divide(whole: Capacity, agents: u32) -> Capacity {
    let agents = u64::from(agents.max(1));
    Capacity {
        cpu_millis: (whole.cpu_millis / agents).max(whole.cpu_millis.min(CORE_MILLIS)),
        memory_bytes: whole.memory_bytes / agents,
        storage_bytes: whole.storage_bytes / agents,
        pods: whole.pods,
    }
}

/// What pods may use: some of the capacity is held back so that the node does not run out.
pub fn allocatable(capacity: Capacity) -> Capacity {
    Capacity {
        memory_bytes: capacity.memory_bytes.saturating_sub(MEMORY_AVAILABLE_MIN),
        storage_bytes: capacity.storage_bytes / 100 * (100 - DISK_AVAILABLE_MIN_PERCENT),
        ..capacity
    }
}

pub fn machine(disk: &Disk) -> Machine {
    let uname = uname();
    Machine {
        id: disk.read(Path::new("/etc/machine-id")).map(|id| text(&id)).unwrap_or_default(),
        boot_id: read_start(disk, Path::new("/proc/sys/kernel/random/boot_id"), 36).unwrap_or_default(),
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: architecture(),
    }
}

/// The processor's family, by Go's name.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The first bytes of a file that has no length, as those of the kernel.
fn read_start(disk: &Disk, path: &Path, length: usize) -> Option<String> {
    let mut bytes = vec![0; length];
    disk.open(path, Open::Read).ok()?.read_exact_at(&mut bytes, 0).ok()?;
    Some(text(&bytes))
}

/// What runs out on this machine now.
pub fn pressure(disk: &Disk, data_dir: &Path) -> Pressure {
    // Three lines of 28 bytes: MemTotal, MemFree, MemAvailable.
    let memory = read_start(disk, Path::new("/proc/meminfo"), 84).and_then(|text| available_memory(&text));
    let volume = statvfs(data_dir).ok();
    let pids = disk.open(Path::new("/proc/sys/kernel/pid_max"), Open::Read).ok().and_then(|_| {
        let digits = (1..=8).rev().find_map(|n| read_start(disk, Path::new("/proc/sys/kernel/pid_max"), n))?;
        digits.parse::<u64>().ok()
    });
    let processes = u64::from(sysinfo().procs);
    Pressure {
        memory: memory.is_some_and(|available| available < MEMORY_AVAILABLE_MIN),
        disk: volume.is_some_and(|disk| disk.f_bavail * 100 < disk.f_blocks * DISK_AVAILABLE_MIN_PERCENT),
        pids: pids.is_some_and(|pids| pids.saturating_sub(processes) * 100 < pids * PIDS_AVAILABLE_MIN_PERCENT),
    }
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_divide_the_machine_but_offer_a_core_each() {
        let machine =
            |cores: u64| Capacity { cpu_millis: cores * 1000, memory_bytes: 24 << 30, storage_bytes: 300, pods: 110 };
        let table = [(8, 1, 8000, 24), (8, 3, 2666, 8), (2, 3, 1000, 8), (1, 5, 1000, 4)];
        for (cores, agents, cpu_millis, gib) in table {
            let share = divide(machine(cores), agents);
            assert_eq!((share.cpu_millis, share.memory_bytes >> 30, share.pods), (cpu_millis, gib, 110));
        }
    }

    #[test]
    fn memory_that_is_available_is_read_from_the_kernel_s_words() {
        let text = "MemTotal:       24683920 kB\nMemFree:        23345678 kB\nMemAvailable:   23999999 kB\n";
        assert_eq!(available_memory(text), Some(23_999_999 << 10));
        assert_eq!(available_memory("MemTotal: 1 kB"), None);
    }
}
