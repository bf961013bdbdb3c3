//! What the documents, the program's help and its hints say to type is typed, in the order in which it stands there, in
//! a shell: whoever has nothing else to go by must get along with it.
//!
//! Only addresses and directories are others than those written, so that tests run beside whatever else runs here.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::cluster::{TestCluster, chorus, eventually, free_ports};

/// What is done with a command line.
enum Way {
    /// Run until it ends, which it does with success.
    Ends,
    /// Run with something more.
    With(&'static str),
    /// Run until it says this, and beside those that follow.
    Serves(&'static str),
    /// The same, with something more.
    ServesWith(&'static str, &'static str),
    /// Not run, and why.
    Not(&'static str),
}

/// Those that do not just run to their end, as the documents have them. `{config}` is the cluster's configuration.
const WAYS: &[(&str, Way)] = &[
    ("cargo run --release -- up", Way::Serves("Ctrl-C ends the cluster")),
    ("chorus up", Way::Serves("Ctrl-C ends the cluster")),
    ("cargo test", Way::Not("it is what runs this")),
    ("chorus up --port-offset 100 --data-dir second --detach", Way::With("--runtime hollow --config {config}")),
    (
        "etcd --name s1 --data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 \
         --advertise-client-urls http://127.0.0.1:2379",
        Way::Serves("ready to serve client requests"),
    ),
    (
        "etcd gateway start --endpoints=127.0.0.1:2379",
        Way::ServesWith("notified init daemon", "--listen-addr=127.0.0.1:{port}"),
    ),
    (
        "etcd grpc-proxy start --endpoints=127.0.0.1:2379",
        Way::ServesWith("notified init daemon", "--listen-addr=127.0.0.1:{port}"),
    ),
    ("chorus logs n3 --follow", Way::Serves("ready to serve client requests")),
    ("chorus bench put --against http://127.0.0.1:12379", Way::With("--time 1 --rounds 1")),
    (
        "chorus bench put --clients 100 --conns 10 --endpoints 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379 \
         --against 127.0.0.1:12371,127.0.0.1:12372,127.0.0.1:12373",
        Way::With("--time 1 --rounds 1"),
    ),
];

/// Where the command lines run: a directory in which the cluster is, and the programs on the path.
struct Shell {
    cluster: TestCluster,
    /// Ports of a member that is none of the cluster's.
    alone: Vec<u16>,
    serving: Vec<Child>,
    seen: Vec<String>,
}

pub fn command_lines_work() -> Result<(), Failed> {
    let mut shell = Shell::open()?;
    let hints = shell.up();
    for block in blocks(&read("README.md")) {
        shell.up();
        shell.run_all(&block)?;
    }
    let help = chorus(&["--help"]).out;
    let start_here = after(&help, "Start here:");
    assert!(start_here.len() >= 4, "{help}");
    for lines in [start_here, after(&hints, "Try:")] {
        shell.up();
        shell.run_all(&lines)?;
    }
    for (line, _) in WAYS {
        assert!(shell.seen.iter().any(|seen| seen == line), "no document has the line any more: {line}");
    }
    Ok(())
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a document")
}

/// The command lines of each block of code, without their comments; those that go on in the next line are one.
fn blocks(document: &str) -> Vec<Vec<String>> {
    let mut blocks = Vec::new();
    for block in commands(document) {
        let lines = block.replace("\\\n", " ");
        let lines = lines.lines().map(|line| line.split_once(" #").map_or(line, |(line, _)| line));
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        blocks.push(words.filter(|line| !line.is_empty()).collect());
    }
    assert!(blocks.len() >= 6, "blocks of code are found by their fences");
    blocks
}

/// The blocks of code that name no language: those of others are files.
fn commands(document: &str) -> Vec<String> {
    let (mut texts, mut open) = (Vec::new(), None);
    for line in document.lines() {
        match (open.take(), line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.is_empty(), String::new())),
            (Some((true, text)), Some(_)) => texts.push(text),
            (Some((is_command, text)), None) => open = Some((is_command, text + line + "\n")),
            (Some((false, _)), Some(_)) | (None, None) => (),
        }
    }
    texts
}

/// The indented lines after a heading, without what explains them.
fn after(text: &str, heading: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim().split("  ").next().unwrap_or_default().to_owned()).collect()
}

impl Shell {
    fn open() -> Result<Shell, Failed> {
        let cluster = TestCluster::prepare();
        let at = |name: &str| cluster.path().join(name);
        std::fs::create_dir_all(at("data"))?;
        symlink("data", at("chorus-data"))?;
        for folder in ["bin", "target/release"] {
            std::fs::create_dir_all(at(folder))?;
            symlink(env!("CARGO_BIN_EXE_chorus"), at(folder).join("chorus"))?;
        }
        Ok(Shell { cluster, alone: free_ports(2), serving: Vec::new(), seen: Vec::new() })
    }

    /// Starts what of the cluster does not run; what it says.
    fn up(&self) -> String {
        let (config, data) = (self.path("test.toml"), self.path("chorus-data"));
        let (config, data) = (config.to_str().expect("text"), data.to_str().expect("text"));
        let said = chorus(&["up", "--detach", "--runtime", "hollow", "--config", config, "--data-dir", data]);
        assert!(said.ok, "{said:?}\n{}", self.cluster.logs());
        said.out
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cluster.path().join(name)
    }

    fn run_all(&mut self, lines: &[String]) -> Result<(), Failed> {
        for line in lines {
            self.run(line)?;
            self.seen.push(line.clone());
            if line.starts_with("chorus start ") {
                // A person types the next line when the node is there again.
                eventually("the node is there again", || self.cluster.chorus(&["status"]).ok.then_some(()));
            }
        }
        for child in std::mem::take(&mut self.serving) {
            end(child)?;
        }
        Ok(())
    }

    fn run(&mut self, line: &str) -> Result<(), Failed> {
        let way = WAYS.iter().find(|(known, _)| known == &line).map_or(&Way::Ends, |(_, way)| way);
        let (more, text) = match way {
            Way::Ends => ("", None),
            Way::With(more) => (*more, None),
            Way::Serves(text) => ("", Some(text)),
            Way::ServesWith(text, more) => (*more, Some(text)),
            Way::Not(why) => {
                println!("`{line}` is not run: {why}");
                return Ok(());
            }
        };
        let typed = self.here(&format!("exec {line} {more}"));
        let output = self.path("output");
        let mut child = self.command(&typed, &output)?.spawn()?;
        let said = || std::fs::read_to_string(&output).unwrap_or_default();
        match text {
            None => {
                let status = eventually(&format!("`{line}` ends"), || child.try_wait().expect("it is a child"));
                assert!(status.success(), "`{line}` ({typed}): {status}: {}\n{}", said(), self.cluster.logs());
            }
            Some(text) => {
                eventually(&format!("`{line}` says {text}"), || {
                    let said = said();
                    let ended = child.try_wait().expect("it is a child");
                    assert!(ended.is_none() || said.contains(text), "`{line}` ({typed}) ended: {said}");
                    said.contains(text).then_some(())
                });
                self.serving.push(child);
            }
        }
        Ok(())
    }

    /// The line with the addresses and directories of this test.
    fn here(&self, line: &str) -> String {
        let alone = line.starts_with("exec etcd --name");
        let clients = &self.cluster.clients;
        let first = if alone { format!("127.0.0.1:{}", self.alone[0]) } else { clients[0].clone() };
        let bin = format!("{}/", self.path("bin").display());
        let port = free_ports(1)[0].to_string();
        let others: [(&str, &str); 12] = [
            ("cargo run --release --", "chorus"),
            ("127.0.0.1:2379", &first),
            ("127.0.0.1:22379", &clients[1]),
            ("127.0.0.1:32379", &clients[2]),
            ("127.0.0.1:12379", &clients[1]),
            ("127.0.0.1:12371", &clients[0]),
            ("127.0.0.1:12372", &clients[1]),
            ("127.0.0.1:12373", &clients[2]),
            ("/usr/local/bin/", &bin),
            ("/var/lib/etcd", "etcd-data"),
            ("{config}", "test.toml"),
            ("{port}", &port),
        ];
        others.into_iter().fold(line.to_owned(), |line, (written, here)| line.replace(written, here))
    }

    fn command(&self, line: &str, output: &Path) -> Result<Command, Failed> {
        let output = File::create(output)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let peer = format!("http://127.0.0.1:{}", self.alone[1]);
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.cluster.path());
        command.env("PATH", format!("{}:{path}", self.path("bin").display())).env("HOME", self.cluster.path());
        command.env("ETCDCTL_API", "3").env_remove("CHORUS_ENDPOINTS").env_remove("CHORUS_DATA_DIR");
        command.env("ETCD_LISTEN_PEER_URLS", &peer).env("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer);
        command.env("ETCD_INITIAL_CLUSTER", format!("s1={peer}"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(command)
    }
}

/// Ends a program as Ctrl-C does.
fn end(mut child: Child) -> Result<(), Failed> {
    // One that has ended already gets no signal.
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status()?;
    eventually("a program ends after Ctrl-C", || child.try_wait().expect("it is a child"));
    Ok(())
}

impl Drop for Shell {
    fn drop(&mut self) {
        for child in &mut self.serving {
            let _ = child.kill();
        }
        self.cluster.chorus(&["down"]);
        chorus(&["down", "--data-dir", self.path("second").to_str().expect("text")]);
    }
}
