//! What the kernel knows of this machine's ports: who listens on one, and which it gives to outgoing connections.
#![allow(clippy::disallowed_methods, reason = "the one place that asks the kernel of ports")]

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// A program that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub program: String,
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.program, self.pid)
    }
}

/// The program that listens on a TCP port, as far as this user may know.
pub fn holder(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| sockets.iter().any(|socket| has_open(*pid, socket)))?;
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
    Some(Holder { program, pid })
}

/// The sockets that listen on `port`, by the names that they have under `/proc/PID/fd`.
fn listening(table: &str, port: u16) -> impl Iterator<Item = String> {
    table.lines().filter_map(move |line| {
        // sl local_address rem_address st queues timer retransmits uid timeout inode
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        (local == port && *fields.get(3)? == LISTENING).then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    })
}

fn has_open(pid: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.into_iter().any(|link| link == Path::new(socket))
}

/// The ports that the kernel gives to outgoing connections: whoever wants to listen on one may find it taken.
pub fn ephemeral() -> Option<Ephemeral> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
    Some(Ephemeral {
        range: read_range(&read("ip_local_port_range")?)?,
        reserved: read_list(&read("ip_local_reserved_ports").unwrap_or_default()),
    })
}

/// A range of ports, but for some that the operator has set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    pub range: RangeInclusive<u16>,
    reserved: Vec<RangeInclusive<u16>>,
}

impl Ephemeral {
    pub fn new(range: RangeInclusive<u16>) -> Ephemeral {
        Ephemeral { range, reserved: Vec::new() }
    }

    pub fn contains(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|reserved| reserved.contains(&port))
    }
}

/// The first and the last port, apart by white space.
fn read_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_whitespace().map(|end| end.parse().ok());
    Some(ends.next()??..=ends.next()??)
}

/// `8080,9000-9100`
fn read_list(text: &str) -> Vec<RangeInclusive<u16>> {
    let item = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_told() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let holder = holder(listener.local_addr().unwrap().port()).expect("it is this process");
            assert_eq!(holder.pid, std::process::id());
            assert!(holder.to_string().ends_with(&format!(" (process {})", std::process::id())), "{holder}");
        }
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1 0\n   \
                     1: 0100007F:094B 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 43 1 0\n";
        assert_eq!(listening(table, 2379).collect::<Vec<_>>(), ["socket:[42]"]);
        assert_eq!(listening(table, 2380).count(), 0);
    }

    #[test]
    fn ports_set_aside_are_given_to_nobody() {
        let ephemeral =
            Ephemeral { range: read_range("32768\t60999\n").unwrap(), reserved: read_list("40000,50000-50009\n") };
        for (port, given) in [(32767, false), (32768, true), (40000, false), (50009, false), (50010, true)] {
            assert_eq!(ephemeral.contains(port), given, "{port}");
        }
        assert_eq!(read_list("\n"), []);
    }
}
