//! A member of which clients try to take all there is.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::cluster::{eventually, free_ports, put};

/// A process that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Hundreds of idle connections to a member that may have 200 file descriptors: others get in, and segment after segment
/// of the log and the store is opened.
pub fn few_descriptors() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (ports, data_dir) = (free_ports(2), directory.path().join("data"));
    let client = format!("http://127.0.0.1:{}", ports[0]);
    let peer = format!("http://127.0.0.1:{}", ports[1]);
    let script = format!(
        "ulimit -n 200; exec {} etcd --name n1 --data-dir {} --listen-client-urls {client} --advertise-client-urls \
         {client} --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster n1={peer}",
        env!("CARGO_BIN_EXE_chorus"),
        data_dir.display(),
    );
    let log = std::fs::File::create(directory.path().join("log"))?;
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut server = Server(shell.spawn()?);
    let endpoints = [format!("127.0.0.1:{}", ports[0])];
    let runtime = tokio::runtime::Runtime::new()?;
    let write = |value: &str| runtime.block_on(put(&endpoints, "a", value));
    eventually("a member that answers", || write("first").then_some(()));
    let connect = |port: u16| TcpStream::connect(("127.0.0.1", port));
    let idle: Vec<TcpStream> = (0..700).filter_map(|n| connect(ports[n % 2]).ok()).collect();
    assert!(idle.len() > 600, "{}", idle.len());
    eventually("room for one more beside the crowd", || write("one more").then_some(()));
    // Several segments of the log and of the store.
    let value = "x".repeat(1 << 20);
    for n in 0..200 {
        assert!(write(&value), "write {n}: {}", std::fs::read_to_string(directory.path().join("log"))?);
    }
    assert!(server.0.try_wait()?.is_none(), "the member lives");
    drop(idle);
    assert!(write("last"));
    Ok(())
}
