//! Client listeners: which URLs there are, what is served at each, and how a connection begins.
//!
//! Several URLs may name one address: plain text and TLS then share it, told apart by a client's first byte.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::config::Config;
use super::frontend::Error;
use crate::world::net::opening::OPENING_LIMIT;
use crate::world::net::{Address, Refusal};
use crate::world::{Listener, Stream, World, tls};

/// What an address answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    GrpcAndHttp,
    /// Where HTTP has addresses of its own.
    Grpc,
    Http,
    /// Only what a monitor asks for.
    Metrics,
}

impl Serves {
    /// As etcd's log lines say it.
    fn traffic(self) -> &'static str {
        match self {
            Serves::GrpcAndHttp => "grpc+http",
            Serves::Grpc => "grpc",
            Serves::Http => "http",
            Serves::Metrics => "metrics",
        }
    }
}

/// One listening socket and how its clients are met.
pub(super) struct Entrance {
    pub listener: Listener,
    pub door: Door,
}

/// How the clients of a listener are met. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door {
    pub serves: Serves,
    plain: bool,
    tls: Option<tls::Server>,
}

/// A client that was let in.
pub(super) struct Visitor {
    pub stream: Stream,
    /// Over TLS.
    pub secure: bool,
    /// Of the certificate that the client had to show.
    pub common_name: Option<CommonName>,
}

impl Visitor {
    fn plain(stream: Stream) -> Visitor {
        Visitor { stream, secure: false, common_name: None }
    }
}

fn named(certificate: tls::Certificate) -> Option<CommonName> {
    let name = certificate.common_name;
    (!name.is_empty()).then(|| CommonName(name.into()))
}

impl Door {
    /// Meets a client; `None` if it was turned away, which is logged.
    pub async fn meet(&self, world: &World, mut stream: Stream) -> Option<Visitor> {
        let Some(tls) = &self.tls else { return Some(Visitor::plain(stream)) };
        if self.plain {
            let sniffed = world.clock.timeout(OPENING_LIMIT, stream.starts_with_tls()).await;
            // A client that leaves without a word is no news.
            let Ok(Ok(secure)) = sniffed.inspect_err(|_| stream.guest().abandon()) else { return None };
            if !secure {
                return Some(Visitor::plain(stream));
            }
        }
        let remote = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let guest = stream.guest();
        match tls.accept(stream).await {
            Ok(accepted) => Some(Visitor {
                stream: accepted.stream,
                secure: true,
                common_name: accepted.certificate.filter(|_| tls.options().client_cert_auth).and_then(named),
            }),
            Err(rejected) => {
                if rejected.timed_out {
                    guest.abandon();
                }
                rejected.log("rejected connection on client endpoint", &remote);
                None
            }
        }
    }
}

/// What the configured URLs make of one address.
struct Plan {
    address: Address,
    serves: Serves,
    plain: bool,
    secure: bool,
}

/// Opens every listener that `config` asks for.
pub(super) async fn open(world: &World, config: &Config) -> Result<Vec<Entrance>, Error> {
    if config.listen.is_empty() {
        return Err(Error::NoAddress);
    }
    let plans = plan(config)?;
    let tls = match plans.iter().any(|plan| plan.secure) {
        true => Some(tls::Server::new(world, config.tls.clone())?),
        false => None,
    };
    let mut entrances = Vec::with_capacity(plans.len());
    for Plan { address, serves, plain, secure } in plans {
        let listener = world.net.listen_at(&address).await.map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => Error::InUse { address: address.place().to_owned(), cause },
            _ => Error::Listen { address: address.place().to_owned(), cause },
        })?;
        let tls = tls.clone().filter(|_| secure);
        let listener = listener.refusing_by(match (plain, secure) {
            (_, false) => Refusal::Http,
            (false, true) => Refusal::Tls,
            (true, true) => Refusal::Silent,
        });
        entrances.push(Entrance { listener, door: Door { serves, plain, tls } });
    }
    Ok(entrances)
}

fn plan(config: &Config) -> Result<Vec<Plan>, Error> {
    let read = |urls: &[String]| -> Result<Vec<Address>, Error> {
        urls.iter().map(|url| Address::parse(url).map_err(Error::from)).collect()
    };
    let (clients, http, metrics) = (read(&config.listen)?, read(&config.listen_http)?, read(&config.listen_metrics)?);
    if let Some(url) = clients.iter().chain(&http).find(|url| url.is_secure() && config.tls.is_empty()) {
        return Err(Error::NoCertificate { url: url.to_string() });
    }
    if metrics.iter().any(|url| url.is_secure() && config.tls.is_empty()) {
        return Err(Error::NoMetricsCertificate);
    }
    let for_clients = if http.is_empty() { Serves::GrpcAndHttp } else { Serves::Grpc };
    let mut plans: Vec<Plan> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (address, serves) in
        clients.into_iter().map(|url| (url, for_clients)).chain(http.into_iter().map(|url| (url, Serves::Http)))
    {
        let (secure, plain) = (address.is_secure(), !address.is_secure());
        // Each port 0 is a port of its own.
        let is_shared = !address.place().ends_with(":0");
        match places.get(address.place()).map(|at| &mut plans[*at]).filter(|_| is_shared) {
            Some(plan) if plan.serves != serves => return Err(Error::BothOnOne { url: address.to_string() }),
            Some(plan) => (plan.secure, plan.plain) = (plan.secure || secure, plan.plain || plain),
            None => {
                places.insert(address.place().to_owned(), plans.len());
                plans.push(Plan { address, serves, plain, secure });
            }
        }
    }
    plans.extend(metrics.into_iter().map(|address| {
        let secure = address.is_secure();
        Plan { address, serves: Serves::Metrics, plain: !secure, secure }
    }));
    Ok(plans)
}

impl Entrance {
    /// Says what is served, as etcd does.
    pub fn announce(&self) {
        let address = self.listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let traffic = self.door.serves.traffic();
        if self.door.serves == Serves::Metrics {
            tracing::info!(address, "serving metrics");
            return;
        }
        if self.door.plain {
            tracing::info!(traffic, address, "serving client traffic insecurely; this is strongly discouraged!");
        }
        if self.door.tls.is_some() {
            tracing::info!(traffic, address, "serving client traffic securely");
        }
    }
}

/// The common name of the certificate that a connection was accepted with: an extension of its requests. Those that
/// the gateway makes have none.
#[derive(Clone, Debug)]
pub(super) struct CommonName(pub Arc<str>);

/// The frontend's own part of what is known of a connection.
pub(super) struct Connection {
    pub shared: Arc<super::frontend::Shared>,
    pub serves: Serves,
    /// Over TLS.
    pub secure: bool,
    /// Of the certificate that the client had to show.
    pub common_name: Option<CommonName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(listen: &[&str], http: &[&str], metrics: &[&str]) -> Result<Vec<(String, Serves, bool, bool)>, String> {
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect();
        let config = Config {
            listen: urls(listen),
            listen_http: urls(http),
            listen_metrics: urls(metrics),
            tls: tls::Options { cert_file: Some("c".into()), key_file: Some("k".into()), ..Default::default() },
            ..Config::default()
        };
        let plans = plan(&config).map_err(|error| error.to_string())?;
        Ok(plans.into_iter().map(|p| (p.address.place().to_owned(), p.serves, p.plain, p.secure)).collect())
    }

    #[test]
    fn urls_of_one_address_share_its_listener() {
        assert_eq!(
            planned(&["http://h:1", "https://h:1", "https://h:2"], &[], &["http://h:3"]).unwrap(),
            [
                ("h:1".into(), Serves::GrpcAndHttp, true, true),
                ("h:2".into(), Serves::GrpcAndHttp, false, true),
                ("h:3".into(), Serves::Metrics, true, false),
            ]
        );
        assert_eq!(planned(&["http://h:0", "http://h:0"], &[], &[]).unwrap().len(), 2);
    }

    #[test]
    fn http_of_its_own_leaves_grpc_alone() {
        assert_eq!(
            planned(&["http://h:1"], &["https://h:2"], &[]).unwrap(),
            [("h:1".into(), Serves::Grpc, true, false), ("h:2".into(), Serves::Http, false, true)]
        );
        let refused = planned(&["http://h:1"], &["http://h:1"], &[]).unwrap_err();
        assert!(refused.starts_with("cannot bind both"), "{refused}");
    }
}
