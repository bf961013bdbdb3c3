//! What a replica needs to know before it starts.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::{Member, Rules};
use crate::world::{NodeId, tls};

/// Commands of one log entry, unless configured otherwise.
pub(super) const BATCH_COMMANDS_MAX: usize = 128;

/// The configuration of one replica.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub node: NodeId,
    /// The cluster; peers of another cluster are refused.
    pub cluster: ClusterId,
    /// This member's human-readable name.
    pub name: String,
    /// Where clients reach this member; recorded in the membership for `MemberList`.
    pub client_urls: Vec<String>,
    /// The log lives in `wal/` below it.
    pub data_dir: PathBuf,
    /// Where peers are served, as URLs: `http`, `https`, `unix` or `unixs`. A bare `host:port` is one of `http`.
    pub listen: Vec<String>,
    pub security: Security,
    pub bootstrap: Bootstrap,
    /// Make this member the only one and keep its data, if it has run before; etcd's `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// What this member requires of the changes that its operator asks for.
    pub rules: Rules,
    /// The version of the software, for members that ask.
    pub version: String,
    pub timings: Timings,
    pub limits: Limits,
    /// Sizes of the write-ahead log.
    pub log: crate::disk::log::Options,
}

impl Config {
    /// `me`, one of `members`, on `data_dir`, with etcd's defaults. It is served at its peer URLs.
    pub fn new(me: Member, members: Vec<Member>, cluster: ClusterId, data_dir: PathBuf) -> Config {
        Config {
            node: me.id,
            cluster,
            name: me.name,
            client_urls: me.client_urls,
            data_dir,
            listen: me.peer_urls,
            security: Security::default(),
            bootstrap: Bootstrap::New(members),
            force_new_cluster: false,
            rules: Rules::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            timings: Timings::default(),
            limits: Limits::default(),
            log: Default::default(),
        }
    }
}

/// How members know each other.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// For URLs that ask for TLS, both ways.
    pub tls: tls::Options,
    /// The address of this machine to call other members from; by default the system chooses.
    pub local_address: Option<IpAddr>,
}

/// etcd's cluster ID, printed in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId(pub u64);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// How a member whose log is empty gets its first membership. Ignored when the log or the state holds one.
#[derive(Clone, Debug)]
pub enum Bootstrap {
    /// The first members of a new cluster, this one among them. All of them get the same list.
    New(Vec<Member>),
    /// This member was added to a running cluster, which will send it the log.
    Join,
}

/// Heartbeats and elections.
#[derive(Clone, Debug)]
pub struct Timings {
    pub heartbeat: Duration,
    /// A follower that hears nothing from a leader for the shorter time, and up to a fifth more, starts an election.
    /// The longer time bounds how long a request waits for a leader.
    pub election: Range<Duration>,
}

impl Default for Timings {
    /// etcd's: 100 ms and 1,000 to 2,000 ms.
    fn default() -> Timings {
        Timings::new(Duration::from_millis(100), Duration::from_millis(1000))
    }
}

impl Timings {
    /// As etcd's `--heartbeat-interval` and `--election-timeout`.
    pub fn new(heartbeat: Duration, election: Duration) -> Timings {
        Timings { heartbeat, election: election..election * 2 }
    }
}

/// Bounds on what is kept and on what is under way.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Log entries between two purges; etcd's `--snapshot-count`.
    pub purge_every_entries: u64,
    /// Applied entries that stay in the log for slow followers, which otherwise need a snapshot.
    pub catch_up_entries: u64,
    /// Commands of one log entry.
    pub batch_commands_max: usize,
    /// Commands that wait in the proposer.
    pub proposals_max: usize,
    /// Linearizable reads that wait for their read index.
    pub reads_max: usize,
    /// Bytes of one command.
    pub command_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            purge_every_entries: 10_000,
            catch_up_entries: 5_000,
            batch_commands_max: BATCH_COMMANDS_MAX,
            proposals_max: 16_384,
            reads_max: 65_536,
            command_bytes_max: 32 * 1024 * 1024,
        }
    }
}
