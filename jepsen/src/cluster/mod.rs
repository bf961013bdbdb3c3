//! A real cluster on this machine: each member a process in a network namespace of its own, with its data on a
//! filesystem of its own.
//!
//! ```text
//!   switch namespace: bridge ──┬── n1 (10.77.0.1) ── member 1 ── ext4 image mounted at n1/data
//!                              ├── n2 (10.77.0.2) ── ...
//!                              └── client (10.77.0.100) ── this process
//! ```
//!
//! The bridge has a namespace of its own, since packet filters that an engine such as Docker puts on a machine's own
//! bridges would eat the cluster's traffic.
//!
//! - [`namespaces`]: the network; [`delayer`]: packets that wait
//! - [`disk`]: the filesystems; [`member`]: the processes; [`node`]: members that are whole nodes; [`clock`]: the clocks they go by

pub mod clock;
pub mod delayer;
pub mod disk;
pub mod member;
pub mod namespaces;
pub mod node;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use chorus_proto::etcdserverpb as pb;

use crate::client::{Client, Grpc};
use clock::Clock;
use delayer::Delayer;
use member::Member;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server: any etcd, or Chorus.
    pub binary: PathBuf,
    pub members: usize,
    /// Where logs and images go.
    pub dir: PathBuf,
    pub election_timeout_ms: u64,
    /// Entries between snapshots; low, so that they happen.
    pub snapshot_count: u64,
    /// Further flags for every member.
    pub flags: Vec<String>,
    /// Whether members go by clocks of their own, so that those can be disturbed.
    pub own_clocks: bool,
    /// Whether members are whole nodes with a Kubernetes API, and not just members of a store.
    pub nodes: bool,
}

/// A running cluster.
pub struct Cluster {
    pub plan: Plan,
    pub members: Vec<tokio::sync::Mutex<Member>>,
    /// Whose packets wait now.
    pub delayers: RefCell<Vec<Delayer>>,
}

/// The status of a member, as `endpoint status` of etcdctl shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub member: u64,
    pub leader: u64,
    pub term: u64,
}

impl Cluster {
    /// Makes filesystems, starts the members, and waits until they serve.
    pub async fn start(plan: Plan) -> anyhow::Result<Cluster> {
        let initial: Vec<String> = (1..=plan.members).map(member::initial).collect();
        let initial = initial.join(",");
        let mut members = Vec::new();
        for number in 1..=plan.members {
            let disk = disk::Disk::make(&plan.dir, &member::name(number))?;
            let clock = if plan.own_clocks { Clock::find(&plan.dir, &member::name(number))? } else { None };
            members.push(tokio::sync::Mutex::new(Member::new(number, &plan, disk, clock, &initial)));
        }
        let cluster = Cluster { plan, members, delayers: RefCell::default() };
        if cluster.plan.nodes {
            node::write_config(&cluster.plan)?;
            cluster.members[0].lock().await.start()?;
            node::wait_for_pki(&cluster.plan, Duration::from_secs(30)).await?;
        }
        cluster.revive().await?;
        cluster.wait_until_whole(Duration::from_secs(30)).await.context("the cluster did not come up")?;
        Ok(cluster)
    }

    /// Waits until every member answers a linearizable read.
    pub async fn wait_until_whole(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        for number in 1..=self.members.len() {
            let client = self.client(number);
            let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
            while let Err(error) = client.range(request.clone()).await {
                if tokio::time::Instant::now() > deadline {
                    bail!("{} does not answer: {error}; see {}", member::name(number), self.log(number).display());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Starts every member that is not running, over and over until all stay up.
    pub async fn revive(&self) -> anyhow::Result<()> {
        for member in &self.members {
            member.lock().await.revive()?;
        }
        Ok(())
    }

    pub fn url(&self, number: usize) -> String {
        format!("http://{}:2379", namespaces::address(number))
    }

    pub fn client(&self, number: usize) -> Client {
        Client::Grpc(Grpc::new(&self.url(number)))
    }

    pub fn log(&self, number: usize) -> PathBuf {
        self.plan.dir.join(format!("{}.log", member::name(number)))
    }

    /// The numbers of all members.
    pub fn numbers(&self) -> Vec<usize> {
        (1..=self.members.len()).collect()
    }

    /// The status of a member, if it answers soon.
    pub async fn status(&self, number: usize) -> Option<MemberStatus> {
        let client = self.client(number);
        let status = tokio::time::timeout(Duration::from_millis(500), client.status(pb::StatusRequest {}));
        let status = status.await.ok()?.ok()?;
        let header = status.header?;
        Some(MemberStatus { member: header.member_id, leader: status.leader, term: header.raft_term })
    }

    /// The member that leads, as the one with the highest term sees it.
    pub async fn leader(&self) -> Option<usize> {
        let mut statuses = Vec::new();
        for number in self.numbers() {
            statuses.push(self.status(number).await);
        }
        let newest = statuses.iter().flatten().filter(|status| status.leader != 0).max_by_key(|status| status.term)?;
        let leads = |status: &Option<MemberStatus>| status.is_some_and(|status| status.member == newest.leader);
        statuses.iter().position(leads).map(|at| at + 1)
    }

    /// Ends all members now, whoever may still hold on to the cluster.
    pub async fn stop(&self) {
        for member in &self.members {
            member.lock().await.end();
        }
    }
}

/// Whether a binary is Chorus, by its name.
pub fn is_chorus(binary: &Path) -> bool {
    binary.file_name().is_some_and(|name| name.to_string_lossy().starts_with("chorus"))
}

/// Stands in a member's log where a process begins.
const BEGINS: &str = "jepsen: a process begins";
/// Lines that tell of a crash: a panic, a fatal error, a data race.
const SIGNS: [&str; 5] = ["panicked at", "panic:", "fatal error:", "SIGSEGV", "\"level\":\"fatal\""];
/// So much of what tells of a crash is shown.
const CRASH_CHARS_MAX: usize = 480;
/// A process that is about to crash may say why in this many lines before.
const REASON_LINES: usize = 10;

/// How a process of a member crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// What tells of it.
    pub line: String,
    /// From a little before that to the end of the process, in lower case.
    last_words: String,
}

impl Crash {
    /// Whether the process named one of `reasons`, which are in lower case.
    pub fn says(&self, reasons: &[&str]) -> bool {
        reasons.iter().any(|reason| self.last_words.contains(reason))
    }
}

/// The crashes that a member's log tells of, at most one a process.
pub fn crashes(log: &str) -> Vec<Crash> {
    log.split(BEGINS).filter_map(crash).collect()
}

fn crash(said: &str) -> Option<Crash> {
    let lines: Vec<&str> = said.lines().collect();
    let at = lines.iter().position(|line| SIGNS.iter().any(|sign| line.contains(sign)))?;
    // A panic's own text may be on the line after its place.
    let told = lines[at..].iter().take(2).copied().collect::<Vec<_>>().join(" ");
    Some(Crash {
        line: told.chars().take(CRASH_CHARS_MAX).collect(),
        last_words: lines[at.saturating_sub(REASON_LINES)..].join("\n").to_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_told_once_a_process_and_with_its_reason() {
        let log = format!(
            "{BEGINS}\nready\n{BEGINS}\nthread 'x' panicked at src/a.rs:1:2:\nsync failed: Input/output error\n\
             thread 'y' panicked at src/b.rs:3:4:\nthe log is closed\n{BEGINS}\nthread 'z' panicked at src/c.rs:5:6:\n\
             index out of bounds\n"
        );
        let found = crashes(&log);
        let reasons: Vec<bool> = found.iter().map(|crash| crash.says(&["input/output error"])).collect();
        assert_eq!(reasons, [true, false]);
        assert_eq!(found[1].line, "thread 'z' panicked at src/c.rs:5:6: index out of bounds");
    }

    #[test]
    fn the_reason_may_come_before_the_crash() {
        let log = "{\"msg\":\"can't be written: No space left on device\"}\n{\"level\":\"fatal\"}\n";
        assert!(crashes(log)[0].says(&["no space left"]));
        assert!(!crashes(&log.replace('}', "}\n\n\n\n\n\n\n\n\n\n\n\n"))[0].says(&["no space left"]), "long before");
    }
}
