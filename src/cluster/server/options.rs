//! Every option of an etcd process: its name, its type, its default, and what it is for.

use std::collections::BTreeSet;

use super::features::FeatureGates;
use super::urls::Url;
use super::values::{ClusterState, GoDuration, List, Origins, Set, Urls, Value};
use crate::store::version::ETCD_VERSION;

/// How the help begins of what is taken and has no effect: it is done otherwise here, or not at all.
pub const ACCEPTED: &str = "Accepted for compatibility";

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// Whether it stands alone on a command line.
    pub boolean: bool,
    pub section: &'static str,
    pub help: &'static str,
}

macro_rules! options {
    ($($section:literal { $($field:ident: $kind:ty = $default:expr, $name:literal, $help:literal;)* })*) => {
        /// The options of one process, each at its default or as it was given.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Options {
            /// The release of etcd that this process claims to be; not an option.
            pub version: String,
            /// What was given of old releases, and has no effect.
            pub ignored: BTreeSet<&'static str>,
            $($(#[doc = $help] pub $field: $kind,)*)*
        }

        impl Default for Options {
            fn default() -> Options {
                Options { version: ETCD_VERSION.to_owned(), ignored: BTreeSet::new(), $($($field: $default,)*)* }
            }
        }

        /// All of them, in the order of the help.
        pub const FLAGS: &[Flag] = &[$($(
            Flag { name: $name, boolean: <$kind as Value>::BOOLEAN, section: $section, help: $help },
        )*)*];

        impl Options {
            /// Gives the option `name` the value `text`. The error completes a sentence about them.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
                match name {
                    $($($name => self.$field = <$kind>::read(text)?.after(&self.$field),)*)*
                    _ => return Err("no such option".into()),
                }
                Ok(())
            }

            /// Gives the option `name` a value of a configuration file. The error tells what is there instead.
            pub fn set_from_file(&mut self, name: &str, value: &serde_json::Value) -> Result<(), String> {
                match name {
                    $($($name => self.$field = <$kind>::read_file(value)?.after(&self.$field),)*)*
                    _ => return Err("no such option".into()),
                }
                Ok(())
            }

            /// The value of the option `name`, as a text.
            pub fn show(&self, name: &str) -> String {
                match name {
                    $($($name => self.$field.show(),)*)*
                    _ => String::new(),
                }
            }

            /// The value of the option `name`, as the log records it.
            pub fn json(&self, name: &str) -> serde_json::Value {
                match name {
                    $($($name => self.$field.json(),)*)*
                    _ => serde_json::Value::Null,
                }
            }
        }
    };
}

fn url(text: &str) -> Urls {
    Urls(vec![Url::read(text).expect("the default is a URL")])
}

fn set(text: &str) -> Set {
    Set(vec![text.to_owned()])
}

options! {
    "Member" {
        name: String = "default".into(), "name", "Human-readable name for this member.";
        data_dir: String = String::new(), "data-dir", "Path to the data directory; '${name}.etcd' when empty.";
        wal_dir: String = String::new(), "wal-dir", "Where the log of an etcd lies whose data directory is taken over; member/wal in it when empty. A member keeps its own log in its data directory.";
        snapshot_count: u64 = 10_000, "snapshot-count", "Committed transactions between two snapshots of the state.";
        snapshot_catchup_entries: u64 = 5_000, "snapshot-catchup-entries", "Entries that stay in the log for slow followers.";
        max_wals: u32 = 5, "max-wals", "Accepted for compatibility.";
        heartbeat_interval: u64 = 100, "heartbeat-interval", "Milliseconds between two heartbeats.";
        election_timeout: u64 = 1_000, "election-timeout", "Milliseconds without a heartbeat until an election.";
        initial_election_tick_advance: bool = true, "initial-election-tick-advance", "Accepted for compatibility.";
        listen_peer_urls: Urls = url("http://localhost:2380"), "listen-peer-urls", "URLs to listen on for peers.";
        listen_client_urls: Urls = url("http://localhost:2379"), "listen-client-urls", "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.";
        listen_client_http_urls: Urls = Urls::default(), "listen-client-http-urls", "URLs to listen on for HTTP alone; the client URLs then serve gRPC alone.";
        listen_metrics_urls: Urls = Urls::default(), "listen-metrics-urls", "URLs to listen on for metrics and health checks.";
        quota_backend_bytes: i64 = 0, "quota-backend-bytes", "Size of the database at which an alarm is raised and writes are refused; 0 is 2 GiB.";
        auto_disarm_nospace: bool = false, "auto-disarm-nospace", "Let a NOSPACE alarm of this member go once it is well below its quota again.";
        backend_bbolt_freelist_type: String = String::new(), "backend-bbolt-freelist-type", "Accepted for compatibility (array or map).";
        backend_batch_interval: GoDuration = GoDuration(0), "backend-batch-interval", "Accepted for compatibility.";
        backend_batch_limit: i64 = 0, "backend-batch-limit", "Accepted for compatibility.";
        max_txn_ops: u64 = 128, "max-txn-ops", "Most operations in one transaction.";
        max_request_bytes: u64 = 1_572_864, "max-request-bytes", "Most bytes of a client's request.";
        max_concurrent_streams: u32 = u32::MAX, "max-concurrent-streams", "Most streams that a client may have open at a time.";
        grpc_keepalive_min_time: GoDuration = GoDuration::seconds(5), "grpc-keepalive-min-time", "Shortest time a client must wait between two pings.";
        grpc_keepalive_interval: GoDuration = GoDuration::seconds(7_200), "grpc-keepalive-interval", "Time between two pings of a client that is silent (0 is never).";
        grpc_keepalive_timeout: GoDuration = GoDuration::seconds(20), "grpc-keepalive-timeout", "Time to wait for the answer to a ping.";
        socket_reuse_port: bool = false, "socket-reuse-port", "Accepted for compatibility.";
        socket_reuse_address: bool = false, "socket-reuse-address", "Accepted for compatibility.";
        raft_read_timeout: GoDuration = GoDuration::seconds(5), "raft-read-timeout", "Accepted for compatibility.";
        raft_write_timeout: GoDuration = GoDuration::seconds(5), "raft-write-timeout", "Accepted for compatibility.";
        max_learners: i64 = 1, "max-learners", "Most learners among the members.";
        chorus_mirror_wal: bool = false, "chorus-mirror-wal", "Keep a copy of the log as etcd writes it in member/wal, for tools that read it. All members of a cluster need it from their first start on. It is slower, and not durable.";
        memory_mlock: bool = false, "memory-mlock", "Accepted for compatibility.";
    }
    "Clustering" {
        initial_advertise_peer_urls: Urls = url("http://localhost:2380"), "initial-advertise-peer-urls", "This member's peer URLs, as the rest of the cluster reaches them.";
        initial_cluster: String = "default=http://localhost:2380".into(), "initial-cluster", "Members of the new cluster, 'name=url,...'.";
        initial_cluster_state: ClusterState = ClusterState("new".into()), "initial-cluster-state", "'new' for the first start of a cluster, 'existing' for a member that was added to one.";
        initial_cluster_token: String = "etcd-cluster".into(), "initial-cluster-token", "Tells clusters apart whose members have the same URLs.";
        advertise_client_urls: Urls = url("http://localhost:2379"), "advertise-client-urls", "This member's client URLs, as clients reach them.";
        strict_reconfig_check: bool = true, "strict-reconfig-check", "Refuse changes of the membership that would lose quorum.";
        heal_from_peers: bool = false, "heal-from-peers", "Should this member's files be damaged, keep them aside and have the others replace it by a new member. Reads all files at the start.";
        pre_vote: bool = true, "pre-vote", "Accepted for compatibility.";
        auto_compaction_retention: String = "0".into(), "auto-compaction-retention", "How much history stays: a duration (a bare number is hours) or a number of revisions; 0 is off.";
        auto_compaction_mode: String = "periodic".into(), "auto-compaction-mode", "What the retention counts: 'periodic' or 'revision'.";
        discovery_token: String = String::new(), "discovery-token", "V3 discovery: token of the cluster to be.";
        discovery_endpoints: Set = Set::default(), "discovery-endpoints", "V3 discovery: client endpoints of the discovery service.";
        discovery_dial_timeout: GoDuration = GoDuration::seconds(2), "discovery-dial-timeout", "Accepted for compatibility.";
        discovery_request_timeout: GoDuration = GoDuration::seconds(5), "discovery-request-timeout", "V3 discovery: timeout of a request.";
        discovery_keepalive_time: GoDuration = GoDuration::seconds(2), "discovery-keepalive-time", "Accepted for compatibility.";
        discovery_keepalive_timeout: GoDuration = GoDuration::seconds(6), "discovery-keepalive-timeout", "Accepted for compatibility.";
        discovery_insecure_transport: bool = true, "discovery-insecure-transport", "V3 discovery: connect without TLS.";
        discovery_insecure_skip_tls_verify: bool = false, "discovery-insecure-skip-tls-verify", "V3 discovery: trust any server certificate (for tests alone).";
        discovery_cert: String = String::new(), "discovery-cert", "V3 discovery: file of the client certificate.";
        discovery_key: String = String::new(), "discovery-key", "V3 discovery: file of the client key.";
        discovery_cacert: String = String::new(), "discovery-cacert", "V3 discovery: file of the certificates to trust.";
        discovery_user: String = String::new(), "discovery-user", "V3 discovery: user name[:password].";
        discovery_password: String = String::new(), "discovery-password", "V3 discovery: password.";
        discovery_srv: String = String::new(), "discovery-srv", "DNS domain whose SRV records name the members.";
        discovery_srv_name: String = String::new(), "discovery-srv-name", "Suffix of the SRV service name.";
        discovery_fallback: String = "exit".into(), "discovery-fallback", "Accepted for compatibility ('exit').";
    }
    "Security" {
        cert_file: String = String::new(), "cert-file", "File of the certificate for clients.";
        key_file: String = String::new(), "key-file", "File of the key for clients.";
        client_cert_file: String = String::new(), "client-cert-file", "File of the certificate with which this member calls itself.";
        client_key_file: String = String::new(), "client-key-file", "File of the key with which this member calls itself.";
        client_cert_auth: bool = false, "client-cert-auth", "Ask clients for certificates.";
        client_crl_file: String = String::new(), "client-crl-file", "File of the list of revoked client certificates.";
        client_cert_allowed_hostname: List = List::default(), "client-cert-allowed-hostname", "Host names of which client certificates must have one.";
        trusted_ca_file: String = String::new(), "trusted-ca-file", "File of the certificates that client certificates descend from.";
        auto_tls: bool = false, "auto-tls", "Serve clients with a generated certificate.";
        peer_cert_file: String = String::new(), "peer-cert-file", "File of the certificate for peers.";
        peer_key_file: String = String::new(), "peer-key-file", "File of the key for peers.";
        peer_client_cert_file: String = String::new(), "peer-client-cert-file", "File of the certificate with which this member calls peers.";
        peer_client_key_file: String = String::new(), "peer-client-key-file", "File of the key with which this member calls peers.";
        peer_client_cert_auth: bool = false, "peer-client-cert-auth", "Ask peers for certificates.";
        peer_trusted_ca_file: String = String::new(), "peer-trusted-ca-file", "File of the certificates that peer certificates descend from.";
        peer_cert_allowed_cn: List = List::default(), "peer-cert-allowed-cn", "Common names of which peer certificates must have one.";
        peer_cert_allowed_hostname: List = List::default(), "peer-cert-allowed-hostname", "Host names of which peer certificates must have one.";
        peer_crl_file: String = String::new(), "peer-crl-file", "File of the list of revoked peer certificates.";
        peer_auto_tls: bool = false, "peer-auto-tls", "Serve peers with a generated certificate.";
        peer_skip_client_san_verification: bool = false, "peer-skip-client-san-verification", "Do not compare a peer's address with its certificate.";
        self_signed_cert_validity: u64 = 1, "self-signed-cert-validity", "Years for which generated certificates hold.";
        cipher_suites: List = List::default(), "cipher-suites", "TLS cipher suites; empty is all that are safe.";
        cors: Origins = Origins(vec!["*".into()]), "cors", "Origins that may read answers in a browser; * is all.";
        host_whitelist: Set = set("*"), "host-whitelist", "Host names that plain HTTP requests may ask for; * is all.";
        tls_min_version: String = "TLS1.2".into(), "tls-min-version", "Lowest TLS version: TLS1.2 or TLS1.3.";
        tls_max_version: String = String::new(), "tls-max-version", "Highest TLS version: TLS1.2 or TLS1.3.";
    }
    "Auth" {
        auth_token: String = "simple".into(), "auth-token", "How tokens are made: 'simple', or 'jwt' with its options.";
        bcrypt_cost: u64 = 10, "bcrypt-cost", "Cost of hashing a password.";
        auth_token_ttl: u64 = 300, "auth-token-ttl", "Seconds for which a simple token holds.";
    }
    "Profiling and monitoring" {
        enable_pprof: bool = false, "enable-pprof", "Serve runtime profiles below /debug/pprof/.";
        metrics: String = "basic".into(), "metrics", "Detail of the metrics: 'basic' or 'extensive'.";
        enable_grpc_gateway: bool = true, "enable-grpc-gateway", "Serve the API as JSON over HTTP, too.";
        enable_distributed_tracing: bool = false, "enable-distributed-tracing", "Accepted for compatibility.";
        distributed_tracing_address: String = "localhost:4317".into(), "distributed-tracing-address", "Accepted for compatibility.";
        distributed_tracing_service_name: String = "etcd".into(), "distributed-tracing-service-name", "Accepted for compatibility.";
        distributed_tracing_instance_id: String = String::new(), "distributed-tracing-instance-id", "Accepted for compatibility.";
        distributed_tracing_sampling_rate: i64 = 0, "distributed-tracing-sampling-rate", "Accepted for compatibility.";
    }
    "Logging" {
        logger: String = "zap".into(), "logger", "Only 'zap', which stands for structured logs.";
        log_outputs: Set = set("default"), "log-outputs", "Where logs go: 'default', 'stderr', 'stdout', 'systemd/journal' or file names.";
        log_level: String = "info".into(), "log-level", "debug, info, warn, error, panic or fatal.";
        log_format: String = "json".into(), "log-format", "json or console.";
        enable_log_rotation: bool = false, "enable-log-rotation", "Begin a new log file when one is full; needs a file in --log-outputs.";
        log_rotation_config_json: String = LOG_ROTATION.into(), "log-rotation-config-json", "When a log file is full, and how many stay.";
    }
    "Features" {
        corrupt_check_time: GoDuration = GoDuration(0), "corrupt-check-time", "Time between two comparisons of the members' states (0 is never).";
        compact_hash_check_time: GoDuration = GoDuration::seconds(60), "compact-hash-check-time", "Time between two comparisons of the members' compaction hashes.";
        compaction_batch_limit: i64 = 1_000, "compaction-batch-limit", "Most revisions removed in one step of a compaction.";
        compaction_sleep_interval: GoDuration = GoDuration::millis(10), "compaction-sleep-interval", "Pause between two steps of a compaction.";
        watch_progress_notify_interval: GoDuration = GoDuration::seconds(600), "watch-progress-notify-interval", "Time between two progress notifications of a watch.";
        downgrade_check_time: GoDuration = GoDuration::seconds(5), "downgrade-check-time", "Accepted for compatibility.";
        warning_apply_duration: GoDuration = GoDuration::millis(100), "warning-apply-duration", "A request that takes longer to apply is logged.";
        warning_unary_request_duration: GoDuration = GoDuration::millis(300), "warning-unary-request-duration", "A request that takes longer to answer is logged.";
        bootstrap_defrag_threshold_megabytes: u64 = 0, "bootstrap-defrag-threshold-megabytes", "Defragment at start when that frees so many megabytes (0 is never).";
        feature_gates: FeatureGates = FeatureGates::default(), "feature-gates", "Features to turn on or off, 'name=true,...'.";
    }
    "Unsafe" {
        force_new_cluster: bool = false, "force-new-cluster", "Make this member's data a cluster of one; the other members are forgotten.";
        unsafe_no_fsync: bool = false, "unsafe-no-fsync", "Do not wait for the disk. A power failure then loses data.";
    }
}

const LOG_ROTATION: &str = r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_takes_what_it_shows() {
        let defaults = Options::default();
        let mut options = Options::default();
        for flag in FLAGS {
            options.set(flag.name, &defaults.show(flag.name)).unwrap();
        }
        assert_eq!(options, defaults);
    }
}
