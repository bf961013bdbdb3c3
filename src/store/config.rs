//! The configuration of one member's store.

use std::path::PathBuf;
use std::time::Duration;

use super::auth::AuthConfig;
use super::version;
use crate::raft::ClusterId;
use crate::world::NodeId;

/// The configuration of one member's store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's files live in `state/` below it.
    pub data_dir: PathBuf,
    /// This member.
    pub node: NodeId,
    pub cluster: ClusterId,
    /// The version that `Status` reports: that of the etcd interface, not of the binary.
    pub version: String,
    /// The shortest election timeout: it bounds lease lifetimes from below and proposals from above.
    pub election_timeout: Duration,
    /// How often idle watches with `progress_notify` get a progress notification; etcd's
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// Applying one command for longer is logged; etcd's `--warning-apply-duration`.
    pub slow_apply: Duration,
    pub compaction: AutoCompaction,
    /// Revisions that a compaction looks at in one go, while nothing else changes; etcd's `--compaction-batch-limit`.
    pub compaction_batch: usize,
    /// The pause after each; etcd's `--compaction-sleep-interval`.
    pub compaction_pause: Duration,
    /// When the members are compared.
    pub checks: CorruptionChecks,
    /// The leader records when leases end that are not renewed, so that the next leader does not give them a whole TTL
    /// again; etcd's feature `LeaseCheckpoint`.
    pub lease_checkpoints: bool,
    /// This member disarms its NOSPACE alarm by itself once it is well below its quota again.
    pub auto_disarm_no_space: bool,
    pub auth: AuthConfig,
    pub limits: Limits,
    pub files: DataFiles,
}

/// Auto compaction by the leader; etcd's `--auto-compaction-mode` and `-retention`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    #[default]
    Off,
    /// History older than this goes.
    Periodic(Duration),
    /// All but this many revisions go.
    Revisions(i64),
}

/// When the leader compares the members' data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// The whole history, this often, by the leader; etcd's `--corrupt-check-time`. `None` is never.
    pub every: Option<Duration>,
    /// The hashes taken at compactions, this often, by the leader; etcd's feature `CompactHashCheck` with
    /// `--compact-hash-check-time`. `None` is never.
    pub compactions_every: Option<Duration>,
}

/// How the state lies on the disk.
#[derive(Clone, Copy, Debug)]
pub struct DataFiles {
    /// A data segment that has reached this size takes no more.
    pub segment_bytes: u32,
    /// A restart reads at most about this much besides the index.
    pub tail_bytes_max: u64,
    /// Emptied segments wait this long for a checkpoint, so that each one serves many of them.
    pub reclaim_interval: Duration,
}

impl Default for DataFiles {
    fn default() -> DataFiles {
        DataFiles { segment_bytes: 64 << 20, tail_bytes_max: 64 << 20, reclaim_interval: Duration::from_secs(10) }
    }
}

/// Bounds on what clients may send and on what is kept.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one marshalled command; etcd's `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// Operations in one branch of a transaction; etcd's `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// Bytes of the store's size above which writes are refused; etcd's `--quota-backend-bytes`. `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// Proposals of this member that wait for their outcome.
    pub proposals_max: usize,
    /// Watch streams of this member.
    pub watch_streams_max: usize,
    /// Watches on one stream.
    pub watches_per_stream_max: usize,
    /// Bytes that all watches of this member take, keys and ranges included.
    pub watch_bytes_max: usize,
    /// Bytes of events that wait for the clients of all watch streams of this member.
    pub watch_unread_bytes_max: usize,
    /// Bytes that it takes to remember where the records of large ranges under way lie.
    pub range_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_bytes_max: 1536 * 1024,
            txn_ops_max: 128,
            quota_bytes: Some(2 * 1024 * 1024 * 1024),
            proposals_max: 16_384,
            watch_streams_max: 65_536,
            watches_per_stream_max: 65_536,
            watch_bytes_max: 512 << 20,
            watch_unread_bytes_max: 256 << 20,
            range_bytes_max: 256 << 20,
        }
    }
}

impl Config {
    pub fn new(data_dir: PathBuf, node: NodeId, cluster: ClusterId) -> Config {
        Config {
            data_dir,
            node,
            cluster,
            version: version::ETCD_VERSION.to_owned(),
            election_timeout: Duration::from_secs(1),
            watch_progress_interval: Duration::from_secs(600),
            slow_apply: Duration::from_millis(100),
            compaction: AutoCompaction::Off,
            compaction_batch: 1_000,
            compaction_pause: Duration::from_millis(10),
            checks: CorruptionChecks::default(),
            lease_checkpoints: true,
            auto_disarm_no_space: false,
            auth: AuthConfig::default(),
            limits: Limits::default(),
            files: DataFiles::default(),
        }
    }

    /// How long a proposal or a linearizable read may take.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The shortest lifetime of a lease, in seconds.
    pub fn lease_ttl_min(&self) -> i64 {
        let millis = self.election_timeout.as_millis() * 3 / 2;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX).max(1)
    }
}
