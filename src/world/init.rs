//! What a process tells the system's init: that it is ready, and its journal entries. Nothing comes back, and a
//! simulation has no init.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// Where the journal takes entries in its own protocol.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Tells the init system that this process is ready. False when none asked to be told.
pub fn notify_ready() -> io::Result<bool> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(false) };
    send(Path::new(&socket), b"READY=1")?;
    Ok(true)
}

/// The journal of the system.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// Fails where there is no journal.
    pub fn open() -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(JOURNAL)?;
        Ok(Journal(socket))
    }

    /// Adds an entry of syslog's `priority`.
    pub fn add(&self, identifier: &str, priority: u8, message: &[u8]) -> io::Result<()> {
        let mut entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n").into_bytes();
        // A message may hold newlines, so its length goes before it.
        entry.extend((message.len() as u64).to_le_bytes());
        entry.extend(message);
        entry.push(b'\n');
        self.0.send(&entry).map(drop)
    }
}

/// A name that begins with `@` is in the abstract namespace.
fn send(socket: &Path, message: &[u8]) -> io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    match socket.to_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            datagram.send_to_addr(message, &SocketAddr::from_abstract_name(name)?)?;
        }
        None => {
            datagram.send_to(message, socket)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_hears_what_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        send(&path, b"READY=1").unwrap();
        let mut heard = [0; 16];
        let length = listener.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
    }
}
