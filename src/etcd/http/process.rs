//! The kernel's figures about this process, under the names that every Prometheus client library uses.

use std::path::Path;

use crate::actor::metrics::Exposition;
use crate::world::Disk;

/// Ticks in which the kernel counts processor time for programs, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Leaves out what cannot be read, as in a simulation.
pub(in crate::etcd) fn expose(text: &mut Exposition, disk: &Disk) {
    if let Some(bytes) = resident(disk) {
        text.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes);
    }
    if let Some(bytes) = read(disk, "statm").as_deref().and_then(virtual_bytes) {
        text.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", bytes);
    }
    if let Some(seconds) = start_seconds(disk) {
        text.gauge("process_start_time_seconds", "Start of the process since the Unix epoch in seconds.", seconds);
    }
    if let Some(seconds) = read(disk, "stat").as_deref().and_then(cpu_seconds) {
        text.counter("process_cpu_seconds_total", "User and system CPU time spent in seconds.", seconds);
    }
    if let Ok(open) = disk.list(Path::new("/proc/self/fd")) {
        text.gauge("process_open_fds", "Open file descriptors.", open.len());
        text.gauge("os_fd_used", "File descriptors in use.", open.len());
    }
    if let Some(limit) = fd_limit(disk) {
        text.gauge("process_max_fds", "Most file descriptors that may be open.", limit);
        text.gauge("os_fd_limit", "Limit of file descriptors.", limit);
    }
}

fn read(disk: &Disk, name: &str) -> Option<String> {
    let bytes = disk.read(&Path::new("/proc/self").join(name)).ok()?;
    String::from_utf8(bytes).ok()
}

/// The memory that the process holds, in bytes.
pub(super) fn resident(disk: &Disk) -> Option<u64> {
    read(disk, "statm").as_deref().and_then(resident_bytes)
}

/// How many file descriptors the process may have open.
pub(super) fn fd_limit(disk: &Disk) -> Option<u64> {
    read(disk, "limits").as_deref().and_then(fds_max)
}

fn virtual_bytes(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split(' ').next()?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The 22nd field is the start in ticks since the system started.
fn start_seconds(disk: &Disk) -> Option<f64> {
    let (process, system) = (read(disk, "stat")?, disk.read(Path::new("/proc/stat")).ok()?);
    let system = String::from_utf8(system).ok()?;
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    let (_, after_name) = process.rsplit_once(')')?;
    let ticks: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    Some(booted + ticks / TICKS_PER_SECOND)
}

fn resident_bytes(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// User and system time are the 14th and 15th fields; the second one, a name, may hold blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    let [user, system] = ticks[..] else { return None };
    Some((user + system) / TICKS_PER_SECOND)
}

fn fds_max(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(resident_bytes("1000 25 3 4 0 5 0\n"), Some(25 * rustix::param::page_size() as u64));
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(
            fds_max("Limit  Soft  Hard\nMax open files            1024                 4096  files\n"),
            Some(1024)
        );
        assert_eq!((resident_bytes(""), cpu_seconds("1 (a) S"), fds_max("")), (None, None, None));
    }
}
