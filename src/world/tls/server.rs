//! The accepting end of a handshake.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ResolvesServerCert};
use rustls::sign::SingleCertAndKey;
use tokio_rustls::LazyConfigAcceptor;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::certificate::trimmed;
use super::clock::CertificateClock;
use super::material::{Authorities, Pair, read};
use super::verify::Clients;
use super::{Certificate, Error, Options, cipher, words};
use crate::world::net::Stream;
use crate::world::{Clock, World};

/// A client that has not finished its handshake after this time is let go.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    world: World,
    options: Options,
    clients: Option<Arc<Clients>>,
    /// What the certificate files held last, and what was made of it.
    current: Mutex<(Pair, Arc<ServerConfig>)>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    /// The client's, verified; `None` if it showed none.
    pub certificate: Option<Certificate>,
}

/// Why a connection was refused, as etcd's log line tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// The name that the client asked for.
    pub server_name: String,
    pub error: String,
    /// Of the client's certificate, where it got that far.
    pub ip_addresses: Vec<IpAddr>,
    pub dns_names: Vec<String>,
    /// It did not finish in time.
    pub timed_out: bool,
}

impl Rejected {
    /// Tells operators in etcd's fields; `message` says which endpoint it was.
    pub fn log(&self, message: &str, remote: &str) {
        if self.ip_addresses.is_empty() && self.dns_names.is_empty() {
            tracing::warn!("remote-addr" = remote, "server-name" = self.server_name, error = self.error, "{message}");
            return;
        }
        tracing::warn!(
            "remote-addr" = remote,
            "server-name" = self.server_name,
            "ip-addresses" = ?self.ip_addresses,
            "dns-names" = ?self.dns_names,
            error = self.error,
            "{message}"
        );
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads all files once, so that a mistake shows at the start and not with the first client.
    pub fn new(world: &World, options: Options) -> Result<Server, Error> {
        check(&options)?;
        let provider = cipher::provider(&options)?;
        let clients = match options.trusted_ca_file.is_some() || options.client_cert_auth {
            false => None,
            true => {
                let authorities = Authorities::read(&world.disk, options.trusted_ca_file.as_deref())?;
                let path = options.trusted_ca_file.as_deref().unwrap_or(Path::new("the system's authorities"));
                let clients = Clients::new(&options, authorities, &provider);
                let malformed = |reason| Error::Malformed { path: path.display().to_string(), reason };
                Some(Arc::new(clients.map_err(malformed)?))
            }
        };
        if let Some(file) = &options.crl_file {
            read(&world.disk, file)?;
        }
        let pair = pair(world, &options)?;
        let config = config(&world.clock, &options, clients.clone(), &pair)?;
        let current = Mutex::new((pair, config));
        Ok(Server(Arc::new(Inner { world: world.clone(), options, clients, current })))
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Shakes hands with the client at the other end of `stream`.
    pub async fn accept(&self, stream: Stream) -> Result<Accepted, Rejected> {
        let mut rejected = Rejected::default();
        let shaking = self.shake_hands(stream, &mut rejected);
        match self.0.world.clock.timeout(HANDSHAKE_LIMIT, shaking).await {
            Ok(Ok(accepted)) => Ok(accepted),
            Ok(Err(error)) => Err(Rejected { error, ..rejected }),
            Err(_) => Err(Rejected { error: "i/o timeout".into(), timed_out: true, ..rejected }),
        }
    }

    async fn shake_hands(&self, stream: Stream, rejected: &mut Rejected) -> Result<Accepted, String> {
        let remote = stream.peer_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified());
        let said = |error: io::Error| words::of(&error);
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(said)?;
        rejected.server_name = hello.client_hello().server_name().unwrap_or_default().to_owned();
        let config = self.0.config().map_err(|error| error.to_string())?;
        let stream = hello.into_stream(config).await.map_err(said)?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates: Vec<Certificate> = chain.iter().filter_map(|der| Certificate::read(der)).collect();
        if let Some(leaf) = certificates.first() {
            rejected.ip_addresses = leaf.ip_addresses.clone();
            rejected.dns_names = leaf.dns_names.clone();
            if let Some(remote) = remote.filter(|_| self.0.options.verify_client_address) {
                self.0.check_address(leaf, remote).await?;
            }
            self.0.check_revoked(&certificates)?;
        }
        let certificate = certificates.into_iter().next();
        Ok(Accepted { stream: Stream::secure(stream.into()), certificate })
    }
}

impl Inner {
    /// For the next handshake: made anew when the files have changed.
    fn config(&self) -> Result<Arc<ServerConfig>, Error> {
        let pair = pair(&self.world, &self.options).inspect_err(|error| self.complain(error))?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != pair {
            let fresh = config(&self.world.clock, &self.options, self.clients.clone(), &pair);
            let fresh = fresh.inspect_err(|error| self.complain(error))?;
            *current = (pair, fresh);
        }
        Ok(current.1.clone())
    }

    fn complain(&self, error: &Error) {
        let file = |file: &Option<std::path::PathBuf>| file.as_deref().unwrap_or(Path::new("")).display().to_string();
        let (cert, key) = (file(&self.options.cert_file), file(&self.options.key_file));
        match error {
            Error::Unreadable { missing: true, .. } => {
                tracing::warn!("cert-file" = cert, "key-file" = key, %error, "failed to find peer cert files");
            }
            _ => tracing::warn!("cert-file" = cert, "key-file" = key, %error, "failed to create peer certificate"),
        }
    }

    /// A client that names addresses or hosts in its certificate must connect from one of them.
    async fn check_address(&self, certificate: &Certificate, remote: IpAddr) -> Result<(), String> {
        if !certificate.ip_addresses.is_empty() {
            match certificate.is_valid_for(&remote.to_string()) {
                Ok(()) => return Ok(()),
                Err(words) if certificate.dns_names.is_empty() => return Err(words),
                Err(_) => (),
            }
        }
        if certificate.dns_names.is_empty() {
            return Ok(());
        }
        for name in certificate.dns_names.iter().filter(|name| !name.starts_with("*.")) {
            let found = self.world.net.lookup(name).await.unwrap_or_default();
            if found.contains(&remote) {
                return Ok(());
            }
        }
        Err(format!("tls: {:?} does not match any of DNSNames {:?}", remote.to_string(), certificate.dns_names))
    }

    /// The list is read at every handshake; only serial numbers are compared, as etcd does.
    fn check_revoked(&self, chain: &[Certificate]) -> Result<(), String> {
        let Some(file) = &self.options.crl_file else { return Ok(()) };
        let bytes = read(&self.world.disk, file).map_err(|error| error.to_string())?;
        let (_, list) = CertificateRevocationList::from_der(&bytes)
            .map_err(|error| format!("{}: x509: malformed crl: {error}", file.display()))?;
        let revoked = list.iter_revoked_certificates().map(|revoked| trimmed(revoked.raw_serial()));
        for serial in revoked {
            if chain.iter().any(|certificate| certificate.serial == serial) {
                return Err(format!("transport: certificate serial {} revoked", hex(serial)));
            }
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What can be told of the options alone.
pub(super) fn check(options: &Options) -> Result<(), Error> {
    let shown = |path: &Option<std::path::PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
    if options.cert_file.is_none() || options.key_file.is_none() {
        return Err(Error::HalfAPair { key: shown(&options.key_file), cert: shown(&options.cert_file) });
    }
    if options.client_cert_file.is_some() != options.client_key_file.is_some() {
        let (key, cert) = (shown(&options.client_key_file), shown(&options.client_cert_file));
        return Err(Error::HalfAClientPair { key, cert });
    }
    if !options.allowed_common_names.is_empty() && !options.allowed_hostnames.is_empty() {
        let (names, hostnames) = (options.allowed_common_names.clone(), options.allowed_hostnames.clone());
        return Err(Error::BothAllowed { names, hostnames });
    }
    Ok(())
}

fn pair(world: &World, options: &Options) -> Result<Pair, Error> {
    match (&options.cert_file, &options.key_file) {
        (Some(cert), Some(key)) => Pair::read(&world.disk, cert, key),
        _ => check(options).and(Err(Error::HalfAPair { key: String::new(), cert: String::new() })),
    }
}

fn config(
    clock: &Clock,
    options: &Options,
    clients: Option<Arc<Clients>>,
    pair: &Pair,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = cipher::provider(options)?;
    let certified = pair.certified(&provider)?;
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let versions = cipher::versions(options)?;
    let builder = ServerConfig::builder_with_details(provider, Arc::new(CertificateClock(clock.clone())))
        .with_protocol_versions(&versions)
        .map_err(|_| Error::NoSuite(options.cipher_suites.clone()))?;
    let mut config = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(resolver);
    config.alpn_protocols = options.protocols();
    Ok(Arc::new(config))
}
