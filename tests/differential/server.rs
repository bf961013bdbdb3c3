//! One running server of either make, in a directory of its own; it ends with its owner.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Chorus,
    Etcd,
}

impl Kind {
    fn command(self) -> Command {
        match self {
            Kind::Chorus => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
                command.arg("etcd");
                command
            }
            Kind::Etcd => Command::new(std::env::var("ETCD_BINARY").unwrap_or_else(|_| "etcd".to_owned())),
        }
    }

    /// Major and minor, if it can be run at all.
    pub fn version(self) -> Option<(u32, u32)> {
        let output = self.command().arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "))?;
        let mut parts = version.split('.').map_while(|part| part.parse().ok());
        Some((parts.next()?, parts.next()?))
    }
}

pub struct Server {
    kind: Kind,
    dir: tempfile::TempDir,
    client: u16,
    peer: u16,
    child: Child,
}

impl Server {
    pub async fn start(kind: Kind) -> Server {
        let dir = tempfile::Builder::new().prefix("chorus-differential-").tempdir().expect("a directory");
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [client, peer] = listeners.each_ref().map(|listener| listener.local_addr().expect("bound").port());
        drop(listeners);
        let child = spawn(kind, &dir, client, peer);
        Server { kind, dir, client, peer, child }
    }

    /// Stops the server as an operator does, and starts it again on the same data.
    pub fn restart(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends");
        self.child = spawn(self.kind, &self.dir, self.client, self.peer);
    }

    /// A connection to the server, once it answers.
    pub async fn channel(&mut self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.client)).expect("an address");
        let began = Instant::now();
        loop {
            if let Ok(channel) = endpoint.connect().await {
                let mut kv = chorus_proto::etcdserverpb::kv_client::KvClient::new(channel.clone());
                let asked = chorus_proto::etcdserverpb::RangeRequest { key: "a".into(), ..Default::default() };
                if kv.range(asked).await.is_ok() {
                    return channel;
                }
            }
            let ended = self.child.try_wait().expect("a child");
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{:?} ended: {ended:?}\n{}", self.kind, log());
            assert!(began.elapsed() < PATIENCE, "{:?} does not answer\n{}", self.kind, log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, dir: &tempfile::TempDir, client: u16, peer: u16) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).expect("a log file");
    kind.command()
        .args(["--name", "one", "--initial-cluster", &format!("one={peer}")])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{kind:?} does not start: {error}"))
}
