//! One server of the store on the data directory of a test: ours, or etcd itself.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// One server, killed when dropped.
pub struct Server {
    child: Child,
    endpoint: String,
}

pub fn etcd() -> Command {
    Command::new(std::env::var("ETCD_BINARY").unwrap_or_else(|_| "etcd".to_owned()))
}

pub fn chorus(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
    command.args(words);
    command
}

impl Server {
    pub fn start(mut command: Command, data_dir: &Path, ports: [u16; 2]) -> Server {
        let [client, peer] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let child = command
            .args(["--name", "n1", "--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("n1={peer}"), "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Server { child, endpoint: format!("127.0.0.1:{}", ports[0]) };
        let deadline = Instant::now() + PATIENCE;
        while server.try_ctl(&["endpoint", "health"]).is_none() {
            assert!(Instant::now() < deadline, "the server on {data_dir:?} is not healthy");
        }
        server
    }

    pub fn try_ctl(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(words)
            .output()
            .expect("etcdctl runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn ctl(&self, words: &[&str]) -> String {
        self.try_ctl(words).unwrap_or_else(|| panic!("etcdctl {words:?} fails"))
    }

    /// Ends at once, as in a crash.
    pub fn kill(mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("there are free ports"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
