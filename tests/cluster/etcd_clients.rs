//! etcd's own command-line client.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;

use crate::cluster::TestCluster;

pub fn etcdctl_works_against_every_member() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let all = cluster.clients.join(",");
    let health = cluster.etcdctl(&all, &["endpoint", "health"]);
    assert!(health.ok, "{health:?}");

    let first = &cluster.clients[0];
    let mut watch = Command::new("etcdctl")
        .args(["--endpoints", first, "watch", "key-", "--prefix"])
        .env("ETCDCTL_API", "3")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut events = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    for (number, endpoint) in cluster.clients.iter().enumerate() {
        let key = format!("key-{number}");
        assert_eq!(cluster.etcdctl(endpoint, &["put", &key, "value"]).out, "OK\n");
        for reader in &cluster.clients {
            assert_eq!(cluster.etcdctl(reader, &["get", &key]).out, format!("{key}\nvalue\n"));
        }
    }
    // The watch may have begun after the first puts, never in the middle of one, and the last one it must see.
    let last = events.by_ref().map_while(Result::ok).find(|line| line == "key-2");
    watch.kill()?;
    watch.wait()?;
    assert!(last.is_some());
    assert_eq!(cluster.etcdctl(first, &["del", "key-", "--prefix"]).out, "3\n");

    let lease = cluster.etcdctl(first, &["lease", "grant", "600"]).out;
    let id = lease.split_whitespace().nth(1).expect("lease ID granted").to_owned();
    assert!(cluster.etcdctl(first, &["put", "leased", "x", "--lease", &id]).ok);
    let left = cluster.etcdctl(&cluster.clients[1], &["lease", "timetolive", &id, "--keys"]).out;
    assert!(left.contains("attached keys([leased])"), "{left}");
    assert!(cluster.etcdctl(&cluster.clients[2], &["lease", "revoke", &id]).ok);
    assert_eq!(cluster.etcdctl(first, &["get", "leased"]).out, "");

    let script = "create(\"a\") = \"0\"\n\nput a 1\n\nput a 2\n\n";
    assert!(txn(&all, script).contains("SUCCESS"));
    assert!(txn(&all, script).contains("FAILURE"));
    assert_eq!(cluster.etcdctl(first, &["get", "a", "--print-value-only"]).out, "2\n");
    let members = cluster.etcdctl(first, &["member", "list"]).out;
    assert_eq!(members.lines().filter(|line| line.contains("started")).count(), 3, "{members}");
    Ok(())
}

fn txn(endpoints: &str, script: &str) -> String {
    let mut child = Command::new("etcdctl")
        .args(["--endpoints", endpoints, "txn"])
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("etcdctl starts");
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("etcdctl reads");
    String::from_utf8_lossy(&child.wait_with_output().expect("etcdctl ends").stdout).into_owned()
}
