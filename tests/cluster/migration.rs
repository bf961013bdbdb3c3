//! Data that goes from etcd to Chorus and back: at each station the same history, leases, users and members.

use libtest_mimic::Failed;

use crate::server::{Server, chorus, etcd, free_ports};

/// What must be the same everywhere.
#[derive(Debug, PartialEq)]
struct Seen {
    hash: String,
    leases: String,
    users: String,
    roles: String,
    members: String,
}

impl Seen {
    fn of(server: &Server) -> Seen {
        let hash: serde_json::Value =
            serde_json::from_str(&server.ctl(&["endpoint", "hashkv", "-w", "json"])).expect("etcdctl prints JSON");
        let hash = &hash[0]["HashKV"];
        Seen {
            hash: format!("{} {} {}", hash["hash"], hash["compact_revision"], hash["header"]["revision"]),
            leases: server.ctl(&["lease", "list"]),
            users: server.ctl(&["user", "get", "alice"]),
            roles: server.ctl(&["role", "get", "reader"]),
            members: server.ctl(&["member", "list"]),
        }
    }
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
    let seen = Seen::of(&server);
    // What is not in the database yet is in the log.
    server.kill();

    run(&["migrate", "from-etcd", "--data-dir", &text("etcd"), "--out", &text("chorus")]);
    let server = Server::start(chorus(&["etcd"]), &path("chorus"), ports);
    assert_eq!(Seen::of(&server), seen, "in Chorus");
    server.kill();
    let server = Server::start(chorus(&["etcd"]), &path("etcd"), ports);
    assert_eq!(Seen::of(&server), seen, "taken over in place");
    assert_eq!(server.ctl(&["get", "leased", "--print-value-only"]), "x\n");
    server.ctl(&["put", "more", "y"]);
    let seen = Seen::of(&server);
    server.kill();

    run(&["migrate", "to-etcd", "--data-dir", &text("etcd"), "--out", &text("back")]);
    let server = Server::start(etcd(), &path("back"), ports);
    assert_eq!(Seen::of(&server), seen, "back in etcd");
    server.ctl(&["put", "and", "more"]);
    Ok(())
}
