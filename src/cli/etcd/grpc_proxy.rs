//! `etcd grpc-proxy start`: gRPC calls passed on to members.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use super::subcommand::{self, Flag, Given, flag, switch};
use super::{logs, process};
use crate::actor::Shutdown;
use crate::cluster::server::values::{GoDuration, List};
use crate::etcd::proxy::{Config, Proxy, Resolver};
use crate::world::tls::self_signed::self_signed;
use crate::world::{World, tls};

const USAGE: &str = "etcd grpc-proxy start [flags]";
const FLAGS: &[Flag] = &[
    flag("listen-addr", "127.0.0.1:23790", "Address to listen on."),
    flag("metrics-addr", "", "URL to listen on for metrics only."),
    flag("endpoints", "127.0.0.1:2379", "Members, separated by commas."),
    flag("endpoints-auto-sync-interval", "0s", "Time between two updates of the list of members (0 is never)."),
    flag("advertise-client-url", "127.0.0.1:23790", "Address of this proxy, as clients reach it."),
    flag("resolver-prefix", "", "Prefix of the keys under which proxies find each other."),
    flag("resolver-ttl", "0", "Seconds after which a proxy that has gone is forgotten."),
    flag("namespace", "", "Prefix of all keys."),
    flag("data-dir", "default.proxy", "Directory for generated certificates."),
    flag("max-send-bytes", "1572864", "Maximum size of a request to a member in bytes."),
    flag("max-recv-bytes", "2147483647", "Accepted for compatibility."),
    flag("max-concurrent-streams", "4294967295", "Maximum number of streams that a client may have open at a time."),
    flag("dial-keepalive-time", "0s", "Accepted for compatibility."),
    flag("dial-keepalive-timeout", "20s", "Accepted for compatibility."),
    switch("permit-without-stream", "false", "Accepted for compatibility."),
    flag("grpc-keepalive-min-time", "5s", "Accepted for compatibility."),
    flag("grpc-keepalive-interval", "2h0m0s", "Accepted for compatibility."),
    flag("grpc-keepalive-timeout", "20s", "Accepted for compatibility."),
    flag("discovery-srv", "", "DNS domain whose SRV records name the members."),
    flag("discovery-srv-name", "", "Suffix of the SRV service name."),
    switch("insecure-discovery", "false", "Take SRV records without TLS."),
    switch("enable-pprof", "false", "Accepted for compatibility."),
    flag("cert", "", "Client certificate file for members."),
    flag("key", "", "File of its key."),
    flag("cacert", "", "CA certificate file to verify members with."),
    switch("insecure-skip-tls-verify", "false", "Accept any certificate of a member (for tests only)."),
    flag("cert-file", "", "Server certificate file for clients."),
    flag("key-file", "", "File of its key."),
    flag("trusted-ca-file", "", "CA certificate file to verify clients with."),
    flag("client-crl-file", "", "File of the list of revoked client certificates (CRL)."),
    flag("listen-cipher-suites", "", "TLS cipher suites for clients."),
    switch("auto-tls", "false", "Serve clients with a generated certificate."),
    flag("self-signed-cert-validity", "1", "Years for which the generated certificate is valid."),
    flag("tls-min-version", "TLS1.2", "Lowest TLS version for clients."),
    flag("tls-max-version", "", "Highest TLS version for clients."),
    switch("experimental-serializable-ordering", "false", "Accepted for compatibility."),
    flag("experimental-leasing-prefix", "", "Accepted for compatibility."),
    switch("experimental-enable-grpc-logging", "false", "Accepted for compatibility."),
    switch("debug", "false", "Log in more detail."),
];

pub async fn run(world: &World, arguments: &[String]) -> ExitCode {
    subcommand::exit_code(start(world, arguments).await)
}

async fn start(world: &World, arguments: &[String]) -> Result<ExitCode, String> {
    let given = match Given::to_start(USAGE, FLAGS, arguments)? {
        ControlFlow::Continue(given) => given,
        ControlFlow::Break(code) => return Ok(code),
    };
    check(&given)?;
    logs::begin_plainly(given.get("debug")?);
    logs::log_arguments();
    given.log_without_effect(FLAGS);
    let config = Config {
        listen: given.text("listen-addr").to_owned(),
        listen_metrics: Some(given.text("metrics-addr")).filter(|url| !url.is_empty()).map(str::to_owned),
        tls: client_tls(world, &given)?,
        endpoints: given.get::<List>("endpoints")?.0,
        upstream_tls: member_tls(&given)?,
        sync_interval: given.get::<GoDuration>("endpoints-auto-sync-interval")?.positive(),
        namespace: given.text("namespace").into(),
        advertise: given.text("advertise-client-url").to_owned(),
        resolver: match given.text("resolver-prefix") {
            "" => None,
            prefix => Some(Resolver { prefix: prefix.to_owned(), ttl: given.get("resolver-ttl")? }),
        },
        concurrent_streams_max: given.get("max-concurrent-streams")?,
        request_bytes_max: usize::try_from(given.get::<u64>("max-send-bytes")?).unwrap_or(usize::MAX),
    };
    let shutdown = Shutdown::new();
    Proxy::start(world.clone(), config, shutdown.clone()).await.map_err(|error| error.to_string())?;
    process::run_until_interrupted(&shutdown).await;
    Ok(ExitCode::SUCCESS)
}

/// Checks that the flags fit together; the errors are etcd's.
fn check(given: &Given) -> Result<(), String> {
    let (prefix, ttl): (_, i64) = (given.text("resolver-prefix"), given.get("resolver-ttl")?);
    if !given.text("discovery-srv").is_empty() {
        return Err("--discovery-srv: members are not looked up in DNS; name them in --endpoints".into());
    }
    match prefix.is_empty() {
        false if ttl < 1 => return Err(format!("invalid resolver-ttl {ttl}")),
        true if ttl > 0 => return Err(format!("invalid resolver-prefix {prefix:?}")),
        false if given.text("advertise-client-url").is_empty() => {
            return Err("invalid advertise-client-url \"\"".into());
        }
        _ => {}
    }
    if given.get("auto-tls")? && given.get::<u64>("self-signed-cert-validity")? == 0 {
        return Err("selfSignedCertValidity is invalid,it should be greater than 0".into());
    }
    let (min, max) = (given.text("tls-min-version"), given.text("tls-max-version"));
    for (name, version) in [("tls-min-version", min), ("tls-max-version", max)] {
        tls::Version::parse(version).map_err(|error| format!("{name} is invalid: {error}"))?;
    }
    if !max.is_empty() && min > max {
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    if min == "TLS1.3" && !given.text("listen-cipher-suites").is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".into());
    }
    Ok(())
}

fn file(given: &Given, name: &str) -> Option<std::path::PathBuf> {
    Some(given.text(name)).filter(|path| !path.is_empty()).map(Into::into)
}

fn client_tls(world: &World, given: &Given) -> Result<Option<tls::Options>, String> {
    let message = |error: tls::Error| error.to_string();
    let files = ["cert-file", "key-file", "trusted-ca-file"];
    let files_given = files.iter().any(|name| !given.text(name).is_empty());
    let own = match (files_given, given.get("auto-tls")?) {
        (false, false) => return Ok(None),
        (true, _) => tls::Options {
            cert_file: file(given, "cert-file"),
            key_file: file(given, "key-file"),
            trusted_ca_file: file(given, "trusted-ca-file"),
            ..tls::Options::default()
        },
        (false, true) => {
            let directory = Path::new(given.text("data-dir")).join("fixtures").join("proxy");
            let years = u32::try_from(given.get::<u64>("self-signed-cert-validity")?).unwrap_or(u32::MAX);
            self_signed(world, &directory, &[given.text("listen-addr").to_owned()], years).map_err(message)?
        }
    };
    Ok(Some(tls::Options {
        crl_file: file(given, "client-crl-file"),
        cipher_suites: given.get::<List>("listen-cipher-suites")?.0,
        min_version: tls::Version::parse(given.text("tls-min-version")).map_err(message)?,
        max_version: tls::Version::parse(given.text("tls-max-version")).map_err(message)?,
        ..own
    }))
}

fn member_tls(given: &Given) -> Result<Option<tls::Options>, String> {
    let insecure_skip_verify = given.get("insecure-skip-tls-verify")?;
    let files = ["cert", "key", "cacert"].iter().any(|name| !given.text(name).is_empty());
    Ok((files || insecure_skip_verify).then(|| tls::Options {
        cert_file: file(given, "cert"),
        key_file: file(given, "key"),
        trusted_ca_file: file(given, "cacert"),
        insecure_skip_verify,
        ..tls::Options::default()
    }))
}
