//! Data that goes from etcd to Chorus and back: at each station the same history, leases, users and members.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

const PATIENCE: Duration = Duration::from_secs(30);

/// One server, killed when dropped.
struct Server {
    child: Child,
    endpoint: String,
}

/// What must be the same everywhere.
#[derive(Debug, PartialEq)]
struct Seen {
    hash: String,
    leases: String,
    users: String,
    roles: String,
    members: String,
}

fn etcd() -> Command {
    Command::new(std::env::var("ETCD_BINARY").unwrap_or_else(|_| "etcd".to_owned()))
}

fn chorus(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
    command.args(words);
    command
}

impl Server {
    fn start(mut command: Command, data_dir: &Path, ports: [u16; 2]) -> Server {
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

    fn try_ctl(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(words)
            .output()
            .expect("etcdctl runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn ctl(&self, words: &[&str]) -> String {
        self.try_ctl(words).unwrap_or_else(|| panic!("etcdctl {words:?} fails"))
    }

    fn seen(&self) -> Seen {
        let hash: serde_json::Value =
            serde_json::from_str(&self.ctl(&["endpoint", "hashkv", "-w", "json"])).expect("etcdctl prints JSON");
        let hash = &hash[0]["HashKV"];
        Seen {
            hash: format!("{} {} {}", hash["hash"], hash["compact_revision"], hash["header"]["revision"]),
            leases: self.ctl(&["lease", "list"]),
            users: self.ctl(&["user", "get", "alice"]),
            roles: self.ctl(&["role", "get", "reader"]),
            members: self.ctl(&["member", "list"]),
        }
    }

    /// Ends at once, as in a crash.
    fn kill(mut self) {
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

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("there are free ports"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

fn run(words: &[&str]) {
    let output = chorus(words).output().expect("chorus runs");
    assert!(output.status.success(), "chorus {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn from_etcd_and_back() -> Result<(), Failed> {
    let (directory, ports) = (tempfile::tempdir()?, free_ports());
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).to_string_lossy().into_owned();

    let server = Server::start(etcd(), &path("etcd"), ports);
    for number in 0..40 {
        server.ctl(&["put", &format!("key-{}", number % 7), &format!("value {number}")]);
    }
    let lease = server.ctl(&["lease", "grant", "600"]).split(' ').nth(1).expect("lease ID granted").to_owned();
    server.ctl(&["put", "leased", "x", "--lease", &lease]);
    server.ctl(&["put", "large", &"x".repeat(9_000)]);
    server.ctl(&["del", "key-3"]);
    server.ctl(&["compact", "30"]);
    server.ctl(&["role", "add", "reader"]);
    server.ctl(&["role", "grant-permission", "reader", "read", "key-", "key."]);
    server.ctl(&["user", "add", "alice:secret"]);
    server.ctl(&["user", "grant-role", "alice", "reader"]);
    let seen = server.seen();
    // What is not in the database yet is in the log.
    server.kill();

    run(&["migrate", "from-etcd", "--data-dir", &text("etcd"), "--out", &text("chorus")]);
    let server = Server::start(chorus(&["etcd"]), &path("chorus"), ports);
    assert_eq!(server.seen(), seen, "in Chorus");
    server.kill();
    let server = Server::start(chorus(&["etcd"]), &path("etcd"), ports);
    assert_eq!(server.seen(), seen, "taken over in place");
    assert_eq!(server.ctl(&["get", "leased", "--print-value-only"]), "x\n");
    server.ctl(&["put", "more", "y"]);
    let seen = server.seen();
    server.kill();

    run(&["migrate", "to-etcd", "--data-dir", &text("etcd"), "--out", &text("back")]);
    let server = Server::start(etcd(), &path("back"), ports);
    assert_eq!(server.seen(), seen, "back in etcd");
    server.ctl(&["put", "and", "more"]);
    Ok(())
}
