//! What must hold of the options together, in etcd's words.

use super::options::Options;
use super::urls::UrlError;
use super::values::{Urls, Value};

/// Longest election timeout, in milliseconds.
const ELECTION_MAX_MS: u64 = 50_000;
const TLS_VERSIONS: [&str; 2] = ["TLS1.2", "TLS1.3"];

/// Why the options cannot be used. Surface it: the operator has to change one of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error(transparent)]
    Listen(UrlError),
    #[error("--initial-advertise-peer-urls {urls:?} must be \"host:port\" ({cause})")]
    AdvertisePeer { urls: String, cause: UrlError },
    #[error(
        "--advertise-client-urls {urls:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
         \"unixs:/path/to/socket\" ({cause})"
    )]
    AdvertiseClient { urls: String, cause: UrlError },
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseClientUnset,
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \
         \"discovery-srv\""
    )]
    Bootstrap,
    #[error("unexpected clusterState {0:?}")]
    ClusterState(String),
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    DiscoveryHalf,
    #[error("--discovery-endpoints must not contain empty endpoints")]
    DiscoveryEndpoint,
    #[error("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"")]
    DiscoveryProxy,
    #[error("--heartbeat-interval must be >0 (set to 0ms)")]
    Heartbeat,
    #[error("--election-timeout must be >0 (set to 0ms)")]
    Election,
    #[error("--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]")]
    ElectionShort { election: u64, heartbeat: u64 },
    #[error("--election-timeout[{0}ms] is too long, and should be set less than {ELECTION_MAX_MS}ms")]
    ElectionLong(u64),
    #[error("undefined auto-compaction-mode")]
    CompactionModeUnset,
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    #[error("error parsing CompactionRetention: {0}")]
    CompactionRetention(String),
    #[error("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint")]
    LeaseCheckpoint,
    #[error("--compact-hash-check-time must be >0 (set to {0})")]
    CompactHashCheck(String),
    #[error("membership: too many learner members in cluster")]
    Learners,
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    #[error("min version ({min}) is greater than max version ({max})")]
    TlsVersions { min: String, max: String },
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    Ciphers,
    #[error("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")]
    MetricsTls,
}

/// Checks `options`, in the order in which etcd does.
pub fn check(options: &Options) -> Result<(), Invalid> {
    check_urls(options)?;
    check_bootstrap(options)?;
    check_timing(options)?;
    if options.advertise_client_urls.0.is_empty() && !options.listen_client_urls.0.is_empty() {
        return Err(Invalid::AdvertiseClientUnset);
    }
    match options.auto_compaction_mode.as_str() {
        "periodic" | "revision" => {}
        "" => return Err(Invalid::CompactionModeUnset),
        other => return Err(Invalid::CompactionMode(other.into())),
    }
    if options.max_learners < 0 {
        return Err(Invalid::Learners);
    }
    let gates = &options.feature_gates;
    if gates.enabled("LeaseCheckpointPersist") && !gates.enabled("LeaseCheckpoint") {
        return Err(Invalid::LeaseCheckpoint);
    }
    if options.compact_hash_check_time.positive().is_none() {
        return Err(Invalid::CompactHashCheck(options.compact_hash_check_time.show()));
    }
    check_tls(options)
}

/// Tells of what is allowed, but unwise.
pub fn warn(options: &Options) {
    if options.listen_client_http_urls.0.is_empty() {
        tracing::warn!("Running http and grpc server on single port. This is not recommended for production.");
    }
    let without_effect = options.without_effect();
    if !without_effect.is_empty() {
        tracing::warn!(flags = without_effect.join(","), "flags were given that have no effect here");
    }
    let gates = &options.feature_gates;
    if gates.enabled("LeaseCheckpoint") && !gates.enabled("LeaseCheckpointPersist") {
        tracing::warn!(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
             LeaseCheckpointPersist"
        );
    }
    if options.name == Options::default().name {
        tracing::warn!(
            name = options.name,
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into \
             issue when multiple members have the same default name"
        );
    }
    if options.data_dir.is_empty() {
        tracing::warn!("data-dir" = %options.data_dir().display(), "'data-dir' was empty; using default");
    }
}

fn check_urls(options: &Options) -> Result<(), Invalid> {
    let listened = [
        &options.listen_peer_urls,
        &options.listen_client_urls,
        &options.listen_client_http_urls,
        &options.listen_metrics_urls,
    ];
    listened.into_iter().flat_map(|urls| &urls.0).try_for_each(|url| url.check_bind()).map_err(Invalid::Listen)?;
    let hosts = |urls: &Urls| urls.0.iter().try_for_each(|url| url.check_host());
    hosts(&options.initial_advertise_peer_urls)
        .map_err(|cause| Invalid::AdvertisePeer { urls: options.initial_advertise_peer_urls.show(), cause })?;
    hosts(&options.advertise_client_urls)
        .map_err(|cause| Invalid::AdvertiseClient { urls: options.advertise_client_urls.show(), cause })
}

fn check_bootstrap(options: &Options) -> Result<(), Invalid> {
    if options.discovery_fallback == "proxy" {
        return Err(Invalid::DiscoveryProxy);
    }
    if !options.initial_cluster_state.is_known() {
        return Err(Invalid::ClusterState(options.initial_cluster_state.0.clone()));
    }
    let discovered = !options.discovery_endpoints.0.is_empty();
    let ways = [!options.initial_cluster.is_empty(), !options.discovery_srv.is_empty(), discovered];
    if ways.into_iter().filter(|given| *given).count() > 1 {
        return Err(Invalid::Bootstrap);
    }
    if discovered == options.discovery_token.is_empty() {
        return Err(Invalid::DiscoveryHalf);
    }
    if options.discovery_endpoints.0.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(Invalid::DiscoveryEndpoint);
    }
    Ok(())
}

fn check_timing(options: &Options) -> Result<(), Invalid> {
    let (heartbeat, election) = (options.heartbeat_interval, options.election_timeout);
    match () {
        () if heartbeat == 0 => Err(Invalid::Heartbeat),
        () if election == 0 => Err(Invalid::Election),
        () if heartbeat.saturating_mul(5) > election => Err(Invalid::ElectionShort { election, heartbeat }),
        () if election > ELECTION_MAX_MS => Err(Invalid::ElectionLong(election)),
        () => Ok(()),
    }
}

fn check_tls(options: &Options) -> Result<(), Invalid> {
    let (min, max) = (&options.tls_min_version, &options.tls_max_version);
    for version in [min, max] {
        if !version.is_empty() && !TLS_VERSIONS.contains(&version.as_str()) {
            return Err(Invalid::TlsVersion(version.clone()));
        }
    }
    if !max.is_empty() && min > max {
        return Err(Invalid::TlsVersions { min: min.clone(), max: max.clone() });
    }
    if min == "TLS1.3" && !options.cipher_suites.0.is_empty() {
        return Err(Invalid::Ciphers);
    }
    let has_certificate = !options.cert_file.is_empty() && !options.key_file.is_empty() || options.auto_tls;
    match options.listen_metrics_urls.0.iter().any(|url| url.is_secure()) {
        true if !has_certificate => Err(Invalid::MetricsTls),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(given: &[(&str, &str)]) -> String {
        let mut options = Options::default();
        for (name, value) in given {
            options.set(name, value).unwrap();
        }
        check(&options).map_or_else(|invalid| invalid.to_string(), |()| String::new())
    }

    #[test]
    fn options_are_refused_in_etcds_words() {
        assert_eq!(refusal(&[]), "");
        let mut unset = Options::default();
        unset.advertise_client_urls.0.clear();
        assert_eq!(check(&unset), Err(Invalid::AdvertiseClientUnset));
        for (given, text) in [
            (&[("heartbeat-interval", "0")][..], "--heartbeat-interval must be >0 (set to 0ms)"),
            (
                &[("heartbeat-interval", "300")],
                "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
            ),
            (
                &[("election-timeout", "50001")],
                "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
            ),
            (
                &[("discovery-srv", "example.com")],
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                 \"discovery-endpoints\" or \"discovery-srv\"",
            ),
            (
                &[("initial-cluster", ""), ("discovery-token", "x")],
                "both --discovery-token and --discovery-endpoints must be set",
            ),
            (&[("listen-client-urls", "http://a.b:1")], "expected IP in URL for binding (http://a.b:1)"),
            (&[("max-learners", "-1")], "membership: too many learner members in cluster"),
            (&[("auto-compaction-mode", "x")], "unknown auto-compaction-mode \"x\""),
            (&[("compact-hash-check-time", "0")], "--compact-hash-check-time must be >0 (set to 0s)"),
            (&[("tls-min-version", "TLS1.1")], "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"),
            (
                &[("tls-min-version", "TLS1.3"), ("tls-max-version", "TLS1.2")],
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
            (
                &[("tls-min-version", "TLS1.3"), ("cipher-suites", "x")],
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ),
            (
                &[("listen-metrics-urls", "https://127.0.0.1:1")],
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
            ),
        ] {
            assert_eq!(refusal(given), text);
        }
    }
}
