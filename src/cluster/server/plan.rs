//! What the options mean for a member.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Invalid;
use super::features::Feature;
use super::options::Options;
use super::urls::{Url, UrlError};
use super::values::{GoDuration, Urls, Value};
use crate::cluster::member_plan::{InitialMember, MemberPlan, Origin};
use crate::world::{World, tls};
use crate::{etcd, raft, store};

/// Our files lie here, below the directory that etcd calls its member directory.
pub(super) const FILES: &str = "member/chorus";
/// Where the option says zero.
const SLOW_CALL: Duration = Duration::from_millis(300);
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

/// Why the options describe no member. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("failed to create token provider: {0}")]
    Tokens(#[from] store::auth::BadToken),
}

impl Options {
    /// The data directory, which the name decides where none is given.
    pub fn data_dir(&self) -> PathBuf {
        match self.data_dir.as_str() {
            "" => format!("{}.etcd", self.name).into(),
            given => given.into(),
        }
    }

    /// The directory of the member's files.
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir().join(FILES)
    }

    /// Readers of etcd's log know entries of one command.
    fn batch_commands_max(&self) -> usize {
        if self.chorus_mirror_wal { 1 } else { raft::Limits::default().batch_commands_max }
    }

    /// Fills in what the options leave to each other: a member that listens everywhere and advertises nothing of its own
    /// is reached at `host`, and one that was given a name alone is a cluster of its own.
    pub fn update_default_cluster_from_name(&mut self, host: Option<IpAddr>) {
        let defaults = Options::default();
        if let Some(host) = host.map(|host| host.to_string()) {
            let own = &mut self.initial_advertise_peer_urls;
            let peers = advertise(own, &defaults.initial_advertise_peer_urls, &self.listen_peer_urls, &host);
            let own = &mut self.advertise_client_urls;
            let clients = advertise(own, &defaults.advertise_client_urls, &self.listen_client_urls, &host);
            if peers || clients {
                tracing::info!(host, "detected default host for advertise");
            }
        }
        if self.name != defaults.name && self.initial_cluster == defaults.initial_cluster {
            let own = self.initial_advertise_peer_urls.0.iter().map(|url| format!("{}={url}", self.name));
            self.initial_cluster = own.collect::<Vec<_>>().join(",");
        }
    }

    /// The members of the new cluster that `--initial-cluster` names.
    pub fn initial_members(&self) -> Result<Vec<InitialMember>, UrlError> {
        initial_members(&self.initial_cluster)
    }

    /// The member that these options describe.
    pub fn plan(&self, world: &World, origin: Origin) -> Result<MemberPlan, PlanError> {
        let election = Duration::from_millis(self.election_timeout);
        let heartbeat = Duration::from_millis(self.heartbeat_interval);
        Ok(MemberPlan {
            name: self.name.clone(),
            data_dir: self.member_dir(),
            peer_urls: self.initial_advertise_peer_urls.texts(),
            client_urls: self.advertise_client_urls.texts(),
            listen_peers: self.listen_peer_urls.texts(),
            security: raft::Security { tls: self.peer_tls(world)?, local_address: self.local_address() },
            origin,
            heal_from_peers: self.heal_from_peers,
            force_new_cluster: self.force_new_cluster,
            rules: raft::Rules {
                strict: self.strict_reconfig_check,
                learners_max: usize::try_from(self.max_learners).unwrap_or(0),
            },
            check_initially: self.feature_gates.enabled("InitialCorruptCheck"),
            timings: raft::Timings::new(heartbeat, election),
            mirror: self.chorus_mirror_wal.then(|| self.data_dir().join("member/wal")),
            limits: raft::Limits {
                batch_commands_max: self.batch_commands_max(),
                purge_every_entries: self.snapshot_count.max(1),
                catch_up_entries: self.snapshot_catchup_entries,
                ..raft::Limits::default()
            },
            log: Default::default(),
            store: self.store_config(world, election)?,
            frontend: self.frontend_config(world, election)?,
        })
    }

    fn store_config(&self, world: &World, election_timeout: Duration) -> Result<store::Config, PlanError> {
        let mut config = store::Config::new(self.member_dir(), Default::default(), Default::default());
        config.version = self.version.clone();
        config.election_timeout = election_timeout;
        config.compaction = self.compaction()?;
        if let Some(interval) = self.watch_progress_notify_interval.positive() {
            config.watch_progress_interval = interval;
        }
        if let Ok(batch @ 1..) = usize::try_from(self.compaction_batch_limit) {
            config.compaction_batch = batch;
        }
        if let Some(pause) = self.compaction_sleep_interval.positive() {
            config.compaction_pause = pause;
        }
        if let Some(limit) = self.warning_apply_duration.positive() {
            config.slow_apply = limit;
        }
        let gates = &self.feature_gates;
        config.checks = store::CorruptionChecks {
            every: self.corrupt_check_time.positive(),
            compactions_every: self.compact_hash_check_time.positive().filter(|_| gates.enabled("CompactHashCheck")),
        };
        // Clients can't tell but by what they lose without it.
        config.lease_checkpoints = !gates.turned_off("LeaseCheckpoint");
        config.auto_disarm_no_space = self.auto_disarm_nospace;
        let token_ttl = Duration::from_secs(self.auth_token_ttl);
        config.auth.tokens = store::auth::Tokens::parse(&self.auth_token, token_ttl, &world.disk)?;
        config.auth.bcrypt_cost = u32::try_from(self.bcrypt_cost).unwrap_or(u32::MAX);
        config.limits.request_bytes_max = usize::try_from(self.max_request_bytes).unwrap_or(usize::MAX);
        config.limits.txn_ops_max = usize::try_from(self.max_txn_ops).unwrap_or(usize::MAX);
        config.limits.quota_bytes = match self.quota_backend_bytes {
            0 => Some(DEFAULT_QUOTA_BYTES),
            bytes => u64::try_from(bytes).ok(),
        };
        Ok(config)
    }

    fn frontend_config(&self, world: &World, election_timeout: Duration) -> Result<etcd::Config, tls::Error> {
        let request_bytes_max = usize::try_from(self.max_request_bytes).unwrap_or(usize::MAX);
        let mut limits = etcd::Limits::for_requests_of(request_bytes_max);
        limits.concurrent_streams_max = self.max_concurrent_streams;
        limits.ping_interval_min = self.grpc_keepalive_min_time.positive().unwrap_or_default();
        if let Some(interval) = self.grpc_keepalive_interval.positive() {
            limits.keep_alive_interval = interval;
        }
        if let Some(timeout) = self.grpc_keepalive_timeout.positive() {
            limits.keep_alive_timeout = timeout;
        }
        let tls = self.client_tls(world)?;
        Ok(etcd::Config {
            listen: self.listen_client_urls.texts(),
            listen_http: self.listen_client_http_urls.texts(),
            listen_metrics: self.listen_metrics_urls.texts(),
            tls,
            name: self.name.clone(),
            versions: etcd::Versions::of(&self.version),
            limits,
            http: etcd::Http {
                gateway: self.enable_grpc_gateway,
                cors: self.cors.0.iter().cloned().collect(),
                host_whitelist: self.host_whitelist.0.iter().cloned().collect(),
                profiling: self.enable_pprof,
                extensive_metrics: self.metrics == "extensive",
            },
            slow_call: self.warning_unary_request_duration.positive().unwrap_or(SLOW_CALL),
            features: self.features(),
            election_timeout,
            ..etcd::Config::default()
        })
    }

    /// The address to call peers from: the first advertised one that is not of this machine alone, if it is to be set.
    fn local_address(&self) -> Option<IpAddr> {
        if !self.feature_gates.enabled("SetMemberLocalAddr") {
            return None;
        }
        let advertised = self.initial_advertise_peer_urls.0.iter().filter_map(|url| url.host().parse::<IpAddr>().ok());
        let found = advertised.into_iter().find(|address| !address.is_loopback() && !address.is_unspecified());
        tracing::info!(LocalAddr = ?found, "searched for a member local address in --initial-advertise-peer-urls");
        found
    }

    fn features(&self) -> Vec<etcd::Feature> {
        let gates = self.feature_gates.all();
        let feature =
            |(gate, enabled): (&Feature, bool)| etcd::Feature { name: gate.name, stage: gate.stage.name(), enabled };
        gates.map(feature).collect()
    }

    fn compaction(&self) -> Result<store::AutoCompaction, Invalid> {
        compaction(&self.auto_compaction_mode, &self.auto_compaction_retention)
    }
}

/// Advertises `host` in place of the default, where a listener is for all addresses.
fn advertise(advertised: &mut Urls, default: &Urls, listened: &Urls, host: &str) -> bool {
    let Some(listened) = listened.0.first().filter(|url| url.host() == "0.0.0.0") else { return false };
    if advertised != default {
        return false;
    }
    let urls = advertised.0.iter().map(|url| Url::read(&format!("{}://{host}:{}", url.scheme(), listened.port())));
    advertised.0 = urls.filter_map(Result::ok).collect();
    true
}

/// Reads `name=url,name=url,...`; a name may come with several URLs.
pub fn initial_members(text: &str) -> Result<Vec<InitialMember>, UrlError> {
    let mut named: BTreeMap<&str, Vec<Url>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        named.entry(name).or_default().push(Url::read(url)?);
    }
    let member = |(name, mut urls): (&str, Vec<Url>)| {
        urls.sort();
        InitialMember { name: name.to_owned(), peer_urls: Urls(urls).texts(), client_urls: Vec::new() }
    };
    Ok(named.into_iter().map(member).collect())
}

/// A retention without a unit is hours, or revisions.
fn compaction(mode: &str, retention: &str) -> Result<store::AutoCompaction, Invalid> {
    let refused = || {
        let bare = retention.parse::<i64>().is_ok();
        let reason = if bare { "missing unit in duration" } else { "invalid duration" };
        Invalid::CompactionRetention(format!("time: {reason} {retention:?}"))
    };
    let number = match retention {
        "" => Some(0),
        text => text.parse::<i64>().ok().filter(|number| *number >= 0),
    };
    match (mode, number) {
        (_, Some(0)) => Ok(store::AutoCompaction::Off),
        ("revision", Some(revisions)) => Ok(store::AutoCompaction::Revisions(revisions)),
        (_, Some(hours)) => Ok(store::AutoCompaction::Periodic(Duration::from_secs(hours.unsigned_abs() * 3600))),
        (mode, None) => {
            let read = GoDuration::read(retention).map_err(|_| refused())?;
            Ok(match (mode, read.positive()) {
                (_, None) => store::AutoCompaction::Off,
                ("revision", Some(_)) => store::AutoCompaction::Revisions(read.0),
                (_, Some(period)) => store::AutoCompaction::Periodic(period),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AutoCompaction;

    #[test]
    fn a_bare_retention_is_hours_or_revisions() {
        let hours = |hours: u64| AutoCompaction::Periodic(Duration::from_secs(hours * 3600));
        for (mode, retention, meant) in [
            ("periodic", "0", AutoCompaction::Off),
            ("periodic", "", AutoCompaction::Off),
            ("periodic", "2", hours(2)),
            ("periodic", "2h", hours(2)),
            ("periodic", "500ms", AutoCompaction::Periodic(Duration::from_millis(500))),
            ("revision", "1000", AutoCompaction::Revisions(1000)),
        ] {
            assert_eq!(compaction(mode, retention), Ok(meant), "{mode} {retention}");
        }
        for (retention, reason) in [("soon", "invalid duration \"soon\""), ("-1", "missing unit in duration \"-1\"")] {
            let refused = compaction("periodic", retention).unwrap_err();
            assert_eq!(refused.to_string(), format!("error parsing CompactionRetention: time: {reason}"));
        }
    }

    #[test]
    fn what_listens_everywhere_is_reached_somewhere() {
        let mut options = Options::default();
        options.set("name", "a").unwrap();
        options.set("listen-peer-urls", "http://0.0.0.0:3380").unwrap();
        options.update_default_cluster_from_name(Some(IpAddr::from([10, 0, 0, 7])));
        assert_eq!(options.initial_advertise_peer_urls.show(), "http://10.0.0.7:3380");
        assert_eq!(options.initial_cluster, "a=http://10.0.0.7:3380");
        assert_eq!(options.advertise_client_urls.show(), "http://localhost:2379");
    }

    #[test]
    fn an_initial_cluster_is_read_by_name() {
        let members = initial_members("b=http://b:2,a=http://a:2,a=http://a:1,").unwrap();
        let member = |name: &str, urls: &[&str]| InitialMember {
            name: name.into(),
            peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            client_urls: Vec::new(),
        };
        assert_eq!(members, [member("a", &["http://a:1", "http://a:2"]), member("b", &["http://b:2"])]);
        assert!(initial_members("a").is_err());
    }
}
