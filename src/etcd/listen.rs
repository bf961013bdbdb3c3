//! Client listeners: which URLs there are, what each serves, and the handshake of their connections.
//!
//! Several URLs may name one address: plain text and TLS then share it, and a client's first byte tells which it uses.

use std::collections::BTreeMap;
use std::io;

use super::config::Config;
use super::connection::{CommonName, Serves};
use super::error::Error;
use crate::world::net::opening::OPENING_LIMIT;
use crate::world::net::{Address, Refusal};
use crate::world::{Listener, Stream, World, tls};

/// A listening socket for clients.
pub(super) struct ClientListener {
    pub socket: Listener,
    pub serves: Serves,
    pub security: Security,
}

/// Whether a listener takes plain text, TLS or both. Cheap to clone.
#[derive(Clone)]
pub(super) struct Security {
    plain: bool,
    tls: Option<tls::Server>,
}

/// A connection whose handshake is over.
pub(super) struct Accepted {
    pub stream: Stream,
    /// Over TLS.
    pub secure: bool,
    /// From the certificate that the client had to show.
    pub common_name: Option<CommonName>,
}

impl Accepted {
    fn plain(stream: Stream) -> Accepted {
        Accepted { stream, secure: false, common_name: None }
    }
}

fn named(certificate: tls::Certificate) -> Option<CommonName> {
    let name = certificate.common_name;
    (!name.is_empty()).then(|| CommonName(name.into()))
}

impl Security {
    /// Shakes hands with a client; `None` if that failed, which is logged.
    pub async fn accept(&self, world: &World, mut stream: Stream) -> Option<Accepted> {
        let Some(tls) = &self.tls else { return Some(Accepted::plain(stream)) };
        if self.plain {
            let sniffed = world.clock.timeout(OPENING_LIMIT, stream.starts_with_tls()).await;
            // A client that leaves without a word is no news.
            let Ok(Ok(secure)) = sniffed.inspect_err(|_| stream.guest().abandon()) else { return None };
            if !secure {
                return Some(Accepted::plain(stream));
            }
        }
        let remote = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let guest = stream.guest();
        match tls.accept(stream).await {
            Ok(accepted) => Some(Accepted {
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

/// One address with all that the configured URLs ask of it.
struct Plan {
    address: Address,
    serves: Serves,
    plain: bool,
    secure: bool,
}

/// Opens every listener that `config` asks for.
pub(super) async fn open(world: &World, config: &Config) -> Result<Vec<ClientListener>, Error> {
    if config.listen.is_empty() {
        return Err(Error::NoAddress);
    }
    let plans = plan(config)?;
    let tls = match plans.iter().any(|plan| plan.secure) {
        true => Some(tls::Server::new(world, config.tls.clone())?),
        false => None,
    };
    let mut listeners = Vec::with_capacity(plans.len());
    for Plan { address, serves, plain, secure } in plans {
        let socket = world.net.listen_at(&address).await.map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => Error::InUse { address: address.place().to_owned(), cause },
            _ => Error::Listen { address: address.place().to_owned(), cause },
        })?;
        let tls = tls.clone().filter(|_| secure);
        let socket = socket.refusing_by(match (plain, secure) {
            (_, false) => Refusal::Http,
            (false, true) => Refusal::Tls,
            (true, true) => Refusal::Silent,
        });
        listeners.push(ClientListener { socket, serves, security: Security { plain, tls } });
    }
    Ok(listeners)
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

impl ClientListener {
    /// Logs what is served, as etcd does.
    pub fn announce(&self) {
        let address = self.socket.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let traffic = self.serves.traffic();
        if self.serves == Serves::Metrics {
            tracing::info!(address, "serving metrics");
            return;
        }
        if self.security.plain {
            tracing::info!(traffic, address, "serving client traffic insecurely; this is strongly discouraged!");
        }
        if self.security.tls.is_some() {
            tracing::info!(traffic, address, "serving client traffic securely");
        }
    }
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
