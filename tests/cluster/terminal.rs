//! The command line in places other than a terminal: pipes that close, a second cluster, another terminal.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Failed;

use crate::cluster::{Said, TestCluster, chorus, eventually, free_ports, run};

/// How a process ends that wrote to a pipe without a reader.
const READER_LEFT: Option<i32> = Some(141);

/// Runs `chorus` with nobody reading its output; its exit code and what it says of that.
fn unread(arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
    let output = command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

pub fn readers_may_leave() -> Result<(), Failed> {
    let quiet = |words: &[&str]| -> Result<(), Failed> {
        let (code, said) = unread(words)?;
        assert_eq!((code, said.as_str()), (READER_LEFT, ""), "{words:?}");
        Ok(())
    };
    for words in [
        &["--help"][..],
        &["--version"],
        &["help", "up"],
        &["kv", "get", "--help"],
        &["completion", "bash"],
        &["completion", "zsh"],
        &["completion", "fish"],
        &["etcd", "--help"],
        &["etcd", "--version"],
        &["etcd", "gateway", "--help"],
        &["etcd", "grpc-proxy", "start", "--help"],
    ] {
        quiet(words)?;
    }
    let cluster = TestCluster::start("hollow");
    let data_dir = cluster.data_dir();
    let data_dir = data_dir.to_str().expect("text");
    assert!(cluster.chorus(&["kv", "put", "a", "1"]).ok);
    for words in [
        &["status"][..],
        &["logs", "n1"],
        &["logs", "n1", "--follow"],
        &["kv", "get", "a"],
        &["kv", "get", "a", "--write-out", "json"],
        &["kv", "put", "a", "2"],
        &["kv", "watch", "a", "--rev", "1"],
        &["kv", "lease", "list"],
        &["bench", "put", "--total", "10"],
        &["pause", "n1"],
        &["resume", "n1"],
        &["kill", "n1"],
        &["start", "n1"],
    ] {
        quiet(&[words, &["--data-dir", data_dir]].concat())?;
    }
    // A launcher whose reader leaves ends what it launched, as it does at Ctrl-C, unless it is to leave that running.
    let (code, _) = unread(&["up", "--detach", "--data-dir", data_dir])?;
    assert_eq!(code, READER_LEFT);
    assert!(cluster.chorus(&["status"]).ok);
    let (code, said) = unread(&["up", "--data-dir", data_dir])?;
    assert_eq!(code, READER_LEFT, "{said}");
    assert!(cluster.chorus(&["status"]).out.contains("stopped"));
    quiet(&["down", "--data-dir", data_dir])?;

    // The other stream may close, too; and what cannot be written for another reason is told.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let absent =
        Command::new(env!("CARGO_BIN_EXE_chorus")).args(["status", "--data-dir", "/absent"]).stderr(writer).status()?;
    assert_eq!(absent.code(), Some(1));
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
    let said = Said::from(command.args(["completion", "bash"]).stdout(full).stderr(Stdio::piped()).output()?);
    assert!(!said.ok && said.err.contains("cannot write to standard output: No space left"), "{said:?}");
    Ok(())
}

/// `up` in the foreground, and what it says next on standard error.
fn up_in_foreground(cluster: &TestCluster) -> Result<(Child, Box<dyn Read>), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chorus"));
    command.args(["up", "--runtime", "hollow", "--config"]).arg(cluster.path().join("test.toml"));
    let mut child = command
        .arg("--data-dir")
        .arg(cluster.data_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("Ctrl-C ends the cluster") {
        assert!(out.read_line(&mut said)? > 0, "{said}");
    }
    let err = child.stderr.take().expect("it is piped");
    Ok((child, Box::new(err)))
}

pub fn down_ends_up_elsewhere() -> Result<(), Failed> {
    let cluster = TestCluster::prepare();
    let (mut up, mut err) = up_in_foreground(&cluster)?;
    // Killing all of them one by one does not: each can be started again.
    cluster.kill_all();
    assert!(cluster.chorus(&["start", "n2"]).ok);
    assert!(up.try_wait()?.is_none(), "it ended though the cluster was not");
    assert!(cluster.chorus(&["down"]).ok);
    let status = eventually("the launcher ends", || up.try_wait().expect("it is a child"));
    let mut said = String::new();
    err.read_to_string(&mut said)?;
    assert!(status.success() && said.contains("ended by another command"), "{status}: {said}");
    assert!(!said.contains("was started again"), "{said}");
    Ok(())
}

pub fn two_clusters_run_side_by_side() -> Result<(), Failed> {
    let first = TestCluster::start("hollow");
    let second = TestCluster::prepare();
    let config = first.path().join("test.toml");
    let (config, dir) = (config.to_str().expect("text"), second.data_dir());
    let dir = dir.to_str().expect("text");
    let up = |more: &[&str]| {
        chorus(&[&["up", "--detach", "--runtime", "hollow", "--config", config, "--data-dir", dir][..], more].concat())
    };
    // Their ports are those of the first cluster, which says so and offers others.
    let said = up(&[]);
    assert!(!said.ok && said.err.contains("chorus (process ") && !second.data_dir().exists(), "{said:?}");
    let offset = said.err.split("--port-offset ").nth(1).and_then(|rest| rest.split('`').next());
    let offset = offset.unwrap_or_else(|| panic!("no offset is offered: {said:?}"));
    let said = up(&["--port-offset", offset]);
    assert!(said.ok, "{said:?}\n{}", second.logs());

    // Each is found by its directory, whatever is asked.
    assert!(first.chorus(&["kv", "put", "who", "first"]).ok && second.chorus(&["kv", "put", "who", "second"]).ok);
    assert_eq!(first.chorus(&["kv", "get", "who"]).out, "who\nfirst\n");
    assert_eq!(second.chorus(&["kv", "get", "who"]).out, "who\nsecond\n");
    assert!(second.chorus(&["kill", "n1"]).ok);
    eventually("the first cluster is whole", || first.chorus(&["status"]).ok.then_some(()));
    assert!(!second.chorus(&["status"]).ok, "its n1 was killed");
    assert!(second.chorus(&["start", "n1"]).ok);
    eventually("the second cluster is whole", || second.chorus(&["status"]).ok.then_some(()));
    let kubeconfig = std::fs::read_to_string(second.data_dir().join("kubeconfig"))?;
    let taken = std::fs::read_to_string(first.data_dir().join("kubeconfig"))?;
    let server = |text: &str| text.lines().find(|line| line.contains("server:")).map(str::to_owned);
    assert_ne!(server(&kubeconfig), server(&taken));

    // Its ports stay, also where nobody says them again.
    assert!(second.chorus(&["down"]).ok && up(&[]).ok && up(&["--port-offset", offset]).ok);
    assert_eq!(second.chorus(&["kv", "get", "who"]).out, "who\nsecond\n");
    let said = up(&["--port-offset", "1"]);
    assert!(!said.ok && said.err.contains(&format!("has the port offset {offset}")), "{said:?}");
    Ok(())
}

pub fn ports_of_the_kernel_are_warned_of() -> Result<(), Failed> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let port = free_ports(1)[0];
    let said = |port: u16| -> Result<Said, Failed> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("one.toml");
        // Nothing is started: its peers would listen on an address of another machine.
        let text = format!(
            "name = \"x\"\n[[node]]\nname = \"n1\"\nroles = [\"store\"]\nclient = \"127.0.0.1:{port}\"\npeer = \"192.0.2.1:1\"\n"
        );
        std::fs::write(&config, text)?;
        let data_dir = dir.path().join("data");
        let words = ["up", "--config", config.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()];
        Ok(run(env!("CARGO_BIN_EXE_chorus"), &words))
    };
    let first: u16 = range.split_whitespace().next().ok_or("a range")?.parse()?;
    let given = said(port)?;
    assert!(!given.ok && given.err.contains(&format!("ports {port} lie in the range")), "{given:?}");
    assert!(given.err.contains("n1 peer 192.0.2.1:1: Cannot assign requested address"), "{given:?}");
    let kept = said(first - 1)?;
    assert!(!kept.err.contains("lie in the range"), "{kept:?}");
    Ok(())
}
