//! The dialling end of a handshake.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsConnector;

use super::clock::CertificateClock;
use super::material::{Authorities, Pair};
use super::verify::Servers;
use super::{Error, Options, cipher, server, words};
use crate::world::World;
use crate::world::net::Stream;

/// A server that has not finished its handshake after this time is given up.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Makes TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    world: World,
    options: Options,
    provider: Arc<CryptoProvider>,
    servers: Arc<Servers>,
    /// What the certificate files held last, and what was made of it.
    current: Mutex<(Option<Pair>, Arc<ClientConfig>)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads all files once, so that a mistake shows at the start. A certificate is shown to servers if one is given.
    pub fn new(world: &World, options: Options) -> Result<Client, Error> {
        if !options.is_empty() || options.client_cert_file.is_some() || options.client_key_file.is_some() {
            server::check(&options)?;
        }
        let provider = cipher::provider(&options)?;
        let authorities = Authorities::read(&world.disk, options.trusted_ca_file.as_deref())?;
        let servers = Servers::new(&options, authorities, &provider);
        let shown = |path: Option<&Path>| path.map_or("the system's authorities".into(), |p| p.display().to_string());
        let path = shown(options.trusted_ca_file.as_deref());
        let servers = Arc::new(servers.map_err(|reason| Error::Malformed { path, reason })?);
        let pair = pair(world, &options)?;
        let config = config(world, &options, &provider, servers.clone(), pair.as_ref())?;
        let current = Mutex::new((pair, config));
        Ok(Client(Arc::new(Inner { world: world.clone(), options, provider, servers, current })))
    }

    /// Shakes hands over `stream` with the server that was dialled as `host`, a name or an address. The error is in
    /// the words of etcd's TLS library.
    pub async fn connect(&self, stream: Stream, host: &str) -> io::Result<Stream> {
        let inner = &*self.0;
        let host = inner.options.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let connector = TlsConnector::from(inner.config().map_err(io::Error::other)?);
        let shaking = connector.connect(name, stream);
        match inner.world.clock.timeout(HANDSHAKE_LIMIT, shaking).await {
            Ok(Ok(stream)) => Ok(Stream::secure(stream.into())),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), words::of(&error))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Inner {
    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let pair = pair(&self.world, &self.options)
            .inspect_err(|error| tracing::warn!(%error, "failed to find client cert files"))?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != pair {
            let fresh = config(&self.world, &self.options, &self.provider, self.servers.clone(), pair.as_ref());
            let fresh = fresh.inspect_err(|error| tracing::warn!(%error, "failed to create client certificate"))?;
            *current = (pair, fresh);
        }
        Ok(current.1.clone())
    }
}

fn pair(world: &World, options: &Options) -> Result<Option<Pair>, Error> {
    let own = options.cert_file.as_ref().zip(options.key_file.as_ref());
    let files = options.client_cert_file.as_ref().zip(options.client_key_file.as_ref()).or(own);
    files.map(|(cert, key)| Pair::read(&world.disk, cert, key)).transpose()
}

fn config(
    world: &World,
    options: &Options,
    provider: &Arc<CryptoProvider>,
    servers: Arc<Servers>,
    pair: Option<&Pair>,
) -> Result<Arc<ClientConfig>, Error> {
    let versions = cipher::versions(options)?;
    let clock = Arc::new(CertificateClock(world.clock.clone()));
    let builder = ClientConfig::builder_with_details(provider.clone(), clock)
        .with_protocol_versions(&versions)
        .map_err(|_| Error::NoSuite(options.cipher_suites.clone()))?
        .dangerous()
        .with_custom_certificate_verifier(servers);
    let mut config = match pair {
        Some(pair) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(pair.certified(provider)?));
            builder.with_client_cert_resolver(resolver)
        }
        None => builder.with_no_client_auth(),
    };
    // Every connection shows its certificate again, so that what the other end believes is never an old one.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = options.protocols();
    Ok(Arc::new(config))
}
