//! A local cluster for one test, on free ports and in a directory of its own; it ends with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use tonic::transport::Channel;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct TestCluster {
    dir: tempfile::TempDir,
    config: PathBuf,
    pub clients: Vec<String>,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a program to its end.
pub fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Said {
    let program = program.as_ref();
    Command::new(program)
        .args(arguments)
        .env("ETCDCTL_API", "3")
        .output()
        .unwrap_or_else(|error| panic!("{program:?} does not start: {error}"))
        .into()
}

/// Runs `chorus`.
pub fn chorus(arguments: &[&str]) -> Said {
    run(env!("CARGO_BIN_EXE_chorus"), arguments)
}

/// Ports that are free now, all different.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Tries until `check` gives something, or the patience ends.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "this never came true: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl TestCluster {
    /// Three nodes that run everything, ready.
    pub fn start(runtime: &str) -> TestCluster {
        let cluster = TestCluster::prepare();
        cluster.up(runtime);
        cluster
    }

    pub fn prepare() -> TestCluster {
        TestCluster::prepare_with("")
    }

    /// The same, with more in its configuration.
    pub fn prepare_with(more: &str) -> TestCluster {
        let dir = tempfile::Builder::new().prefix("chorus-test-").tempdir().unwrap();
        let ports = free_ports(12);
        let mut text =
            String::from("name = \"test\"\n[kubernetes]\nnode-grace-s = 6\neviction-s = 3\nleader-lease-s = 4\n");
        text += more;
        for (number, ports) in ports.chunks(4).enumerate() {
            text += &format!(
                "[[node]]\nname = \"n{}\"\nclient = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\napi = \"127.0.0.1:{}\"\nkubelet = \"127.0.0.1:{}\"\n",
                number + 1,
                ports[0],
                ports[1],
                ports[2],
                ports[3]
            );
        }
        let clients = ports.chunks(4).map(|ports| format!("127.0.0.1:{}", ports[0])).collect();
        TestCluster::of(dir, &text, clients)
    }

    /// A cluster of one node with the default timeouts, not the short ones of the other tests.
    pub fn of_one(runtime: &str) -> TestCluster {
        let ports = free_ports(4);
        let [client, peer, api, kubelet] = ports[..] else { unreachable!("as many as asked for") };
        let text = format!(
            "name = \"test\"\n[[node]]\nname = \"n1\"\nclient = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\napi = \"127.0.0.1:{api}\"\nkubelet = \"127.0.0.1:{kubelet}\"\n"
        );
        let cluster = TestCluster::configured(&text, vec![format!("127.0.0.1:{client}")]);
        cluster.up(runtime);
        cluster
    }

    /// A cluster of this configuration, whose store is reached at `clients`.
    pub fn configured(text: &str, clients: Vec<String>) -> TestCluster {
        let dir = tempfile::Builder::new().prefix("chorus-test-").tempdir().unwrap();
        TestCluster::of(dir, text, clients)
    }

    fn of(dir: tempfile::TempDir, text: &str, clients: Vec<String>) -> TestCluster {
        let config = dir.path().join("test.toml");
        std::fs::write(&config, text).unwrap();
        TestCluster { dir, config, clients }
    }

    /// The value of a field of a node in the configuration, `client` or `peer`.
    pub fn address(&self, node: &str, field: &str) -> String {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let config: toml::Table = text.parse().unwrap();
        let nodes = config["node"].as_array().unwrap();
        let node = nodes.iter().find(|one| one["name"].as_str() == Some(node)).expect("a node of that name");
        node[field].as_str().expect("an address").to_owned()
    }

    /// curl with a certificate of the cluster: the path of its files below `pki/`, without their endings. The code of
    /// the answer, or nothing if there was none, and its body.
    pub fn curl(&self, holder: Option<&str>, url: &str, more: &[&str]) -> (Option<u16>, String) {
        let file = |name: String| self.data_dir().join("pki").join(name).display().to_string();
        let mut all = vec!["-sS", "-m", "10", "-w", "\\n%{http_code}", "--cacert"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        all.push(file("ca.crt".to_owned()));
        if let Some(holder) = holder {
            all.extend(["--cert".to_owned(), file(format!("{holder}.crt"))]);
            all.extend(["--key".to_owned(), file(format!("{holder}.key"))]);
        }
        all.extend(more.iter().map(|more| (*more).to_owned()));
        all.push(url.to_owned());
        let said = run("curl", &all.iter().map(String::as_str).collect::<Vec<_>>());
        let (body, code) = said.out.rsplit_once('\n').unwrap_or(("", "000"));
        (code.parse().ok().filter(|code| *code != 0), format!("{body}{}", said.err))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts what does not run, and waits until all is ready.
    pub fn up(&self, runtime: &str) {
        let data_dir = self.data_dir();
        let said = chorus(&[
            "up",
            "--detach",
            "--runtime",
            runtime,
            "--config",
            self.config.to_str().unwrap(),
            "--data-dir",
            data_dir.to_str().unwrap(),
        ]);
        assert!(said.ok, "{said:?}\n{}", self.logs());
    }

    /// Runs a `chorus` command on this cluster.
    pub fn chorus(&self, arguments: &[&str]) -> Said {
        let data_dir = self.data_dir();
        let mut all = arguments.to_vec();
        all.extend(["--data-dir", data_dir.to_str().unwrap()]);
        chorus(&all)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        let kubeconfig = self.data_dir().join("kubeconfig");
        let cache = self.dir.path().join("kubectl-cache");
        let mut all = vec!["--kubeconfig", kubeconfig.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()];
        all.extend(arguments);
        run("kubectl", &all)
    }

    /// Runs kubectl against the frontend of one node.
    pub fn kubectl_at(&self, node: &str, arguments: &[&str]) -> Said {
        let context = if node == "n1" { "test".to_owned() } else { format!("test-{node}") };
        let mut all = vec!["--context", context.as_str()];
        all.extend(arguments);
        self.kubectl(&all)
    }

    /// Runs kubectl, which must succeed.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> String {
        let said = self.kubectl(arguments);
        assert!(said.ok, "kubectl {arguments:?}: {}{}\n{}", said.out, said.err, self.logs());
        said.out
    }

    /// Applies a manifest from a string.
    pub fn apply(&self, manifest: &str) -> Said {
        let path = self.dir.path().join("manifest.yaml");
        std::fs::write(&path, manifest).unwrap();
        self.kubectl(&["apply", "-f", path.to_str().unwrap()])
    }

    pub fn etcdctl(&self, endpoint: &str, arguments: &[&str]) -> Said {
        let mut all = vec!["--endpoints", endpoint];
        all.extend(arguments);
        run("etcdctl", &all)
    }

    /// The node that leads the store.
    pub fn leader(&self) -> String {
        eventually("a node leads", || {
            let said = self.chorus(&["status"]);
            let line = said.out.lines().find(|line| line.split_whitespace().any(|word| word == "yes"))?.to_owned();
            line.split_whitespace().next().map(str::to_owned)
        })
    }

    /// Kills every process of the cluster at once.
    pub fn kill_all(&self) {
        for node in ["n1", "n2", "n3"] {
            self.chorus(&["kill", node]);
        }
    }

    /// The end of every node's log, for failures.
    pub fn logs(&self) -> String {
        let tail = |node: &str| {
            let text = std::fs::read_to_string(self.data_dir().join(node).join("node.log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" INFO openraft")).collect();
            format!("--- {node}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        ["n1", "n2", "n3"].map(tail).concat()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.chorus(&["down"]);
    }
}

/// A client of one member.
pub async fn kv(endpoint: &str) -> Result<KvClient<Channel>, tonic::transport::Error> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{endpoint}"))?;
    let channel = endpoint.connect_timeout(Duration::from_secs(1)).timeout(Duration::from_secs(10)).connect().await?;
    Ok(KvClient::new(channel))
}

/// Puts a key through any member that takes it; `false` means that nobody knows whether it happened.
pub async fn put(endpoints: &[String], key: &str, value: &str) -> bool {
    for endpoint in endpoints {
        let Ok(mut client) = kv(endpoint).await else { continue };
        let request =
            pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        return client.put(request).await.is_ok();
    }
    false
}

/// The values under a prefix, linearizably, from the first member that answers.
pub async fn range(endpoints: &[String], prefix: &str) -> Vec<(String, String)> {
    let mut range_end = prefix.as_bytes().to_vec();
    *range_end.last_mut().expect("a prefix") += 1;
    for endpoint in endpoints {
        let Ok(mut client) = kv(endpoint).await else { continue };
        let request = pb::RangeRequest {
            key: prefix.to_owned().into(),
            range_end: range_end.clone().into(),
            ..Default::default()
        };
        let Ok(response) = client.range(request).await else { continue };
        let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
        return response.into_inner().kvs.into_iter().map(|kv| (text(kv.key), text(kv.value))).collect();
    }
    panic!("no member answers a read")
}
