//! What the options say of TLS: one set of files for clients, one for peers, made here where they are asked for.

use std::path::PathBuf;

use super::options::Options;
use super::values::Urls;
use crate::world::World;
use crate::world::tls::{self, Version, self_signed::self_signed};

impl Options {
    /// For client listeners.
    pub fn client_tls(&self, world: &World) -> Result<tls::Options, tls::Error> {
        let given = tls::Options {
            cert_file: file(&self.cert_file),
            key_file: file(&self.key_file),
            client_cert_file: file(&self.client_cert_file),
            client_key_file: file(&self.client_key_file),
            trusted_ca_file: file(&self.trusted_ca_file),
            client_cert_auth: self.client_cert_auth,
            crl_file: file(&self.client_crl_file),
            allowed_hostnames: self.client_cert_allowed_hostname.0.clone(),
            ..tls::Options::default()
        };
        let own = match self.auto_tls {
            true if given.is_empty() => {
                let urls = [&self.listen_client_urls, &self.listen_client_http_urls];
                self.made_here(world, "client", &urls)?
            }
            true => {
                tracing::warn!("ignoring client auto TLS since certs given");
                given
            }
            false => given,
        };
        self.with_protocol(own)
    }

    /// For peers, both ways.
    pub fn peer_tls(&self, world: &World) -> Result<tls::Options, tls::Error> {
        let given = tls::Options {
            cert_file: file(&self.peer_cert_file),
            key_file: file(&self.peer_key_file),
            client_cert_file: file(&self.peer_client_cert_file),
            client_key_file: file(&self.peer_client_key_file),
            trusted_ca_file: file(&self.peer_trusted_ca_file),
            client_cert_auth: self.peer_client_cert_auth,
            crl_file: file(&self.peer_crl_file),
            allowed_common_names: self.peer_cert_allowed_cn.0.clone(),
            allowed_hostnames: self.peer_cert_allowed_hostname.0.clone(),
            verify_client_address: !self.peer_skip_client_san_verification,
            ..tls::Options::default()
        };
        let own = match self.peer_auto_tls {
            true if given.is_empty() => self.made_here(world, "peer", &[&self.listen_peer_urls])?,
            true => {
                tracing::warn!("ignoring peer auto TLS since certs given");
                given
            }
            false => given,
        };
        self.with_protocol(own)
    }

    fn made_here(&self, world: &World, name: &str, urls: &[&Urls]) -> Result<tls::Options, tls::Error> {
        let hosts: Vec<String> =
            urls.iter().flat_map(|urls| &urls.0).filter(|url| !url.is_unix()).map(|url| url.address().into()).collect();
        let years = u32::try_from(self.self_signed_cert_validity).unwrap_or(u32::MAX);
        self_signed(world, &self.data_dir().join("fixtures").join(name), &hosts, years)
    }

    fn with_protocol(&self, options: tls::Options) -> Result<tls::Options, tls::Error> {
        // Also where nothing speaks TLS.
        tls::check_suites(&self.cipher_suites.0)?;
        Ok(tls::Options {
            cipher_suites: self.cipher_suites.0.clone(),
            min_version: Version::parse(&self.tls_min_version)?,
            max_version: Version::parse(&self.tls_max_version)?,
            ..options
        })
    }
}

fn file(given: &str) -> Option<PathBuf> {
    (!given.is_empty()).then(|| given.into())
}
