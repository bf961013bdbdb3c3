//! Whom to believe: chains are verified by webpki, and what it refuses though Go's library would not is looked at again.
//!
//! A certificate that is itself one of the authorities is such a case: etcd clusters with one self-signed certificate
//! for everything exist.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::Options;
use super::certificate::{Certificate, Purpose};
use super::material::Authorities;

/// What the other end's certificate must be, beyond being signed by an authority.
#[derive(Clone, Debug)]
struct Allowed {
    common_names: Vec<String>,
    hostnames: Vec<String>,
}

impl Allowed {
    fn of(options: &Options) -> Allowed {
        Allowed { common_names: options.allowed_common_names.clone(), hostnames: options.allowed_hostnames.clone() }
    }

    fn check(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        if self.common_names.is_empty() && self.hostnames.is_empty() {
            return Ok(());
        }
        let certificate = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
        let allowed = self.common_names.contains(&certificate.common_name)
            || self.hostnames.iter().any(|host| certificate.is_valid_for(host).is_ok());
        // The bare form of this error is kept for this check: see `words`.
        if allowed { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

/// Believes a certificate that is one of the authorities, where webpki does not.
fn is_authority(
    authorities: &Authorities,
    end_entity: &CertificateDer<'_>,
    purpose: Purpose,
    now: UnixTime,
) -> Result<(), Error> {
    if !authorities.certificates.iter().any(|authority| authority.as_ref() == end_entity.as_ref()) {
        return Err(CertificateError::UnknownIssuer.into());
    }
    let certificate = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
    if !certificate.is_valid_at(now.as_secs()) {
        return Err(CertificateError::Expired.into());
    }
    if certificate.is_for(purpose) { Ok(()) } else { Err(CertificateError::InvalidPurpose.into()) }
}

/// Verifies clients.
#[derive(Debug)]
pub(super) struct Clients {
    chains: Arc<dyn ClientCertVerifier>,
    authorities: Authorities,
    allowed: Allowed,
    mandatory: bool,
}

impl Clients {
    pub fn new(options: &Options, authorities: Authorities, provider: &Arc<CryptoProvider>) -> Result<Clients, String> {
        let chains = WebPkiClientVerifier::builder_with_provider(authorities.roots.clone(), provider.clone());
        let chains = chains.build().map_err(|error| error.to_string())?;
        let mandatory = !options.client_cert_optional;
        Ok(Clients { chains, authorities, allowed: Allowed::of(options), mandatory })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.chains.verify_client_cert(end_entity, intermediates, now).map(|_| ()).or_else(|refused| {
            is_authority(&self.authorities, end_entity, Purpose::Client, now).map_err(|_| refused)
        })?;
        self.allowed.check(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct Servers {
    /// `None` where there is no authority at all: then no server is believed.
    chains: Option<Arc<WebPkiServerVerifier>>,
    /// Any server is believed that holds the key to the certificate it shows.
    believe_any: bool,
    authorities: Authorities,
    allowed: Allowed,
    provider: Arc<CryptoProvider>,
}

impl Servers {
    pub fn new(options: &Options, authorities: Authorities, provider: &Arc<CryptoProvider>) -> Result<Servers, String> {
        let chains = match authorities.roots.is_empty() {
            true => None,
            false => {
                let chains = WebPkiServerVerifier::builder_with_provider(authorities.roots.clone(), provider.clone());
                Some(chains.build().map_err(|error| error.to_string())?)
            }
        };
        let (believe_any, allowed) = (options.insecure_skip_verify, Allowed::of(options));
        Ok(Servers { chains, believe_any, authorities, allowed, provider: provider.clone() })
    }

    /// A server whose certificate is one of the authorities.
    fn verify_authority(
        &self,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        is_authority(&self.authorities, end_entity, Purpose::Server, now)?;
        let certificate = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
        let (expected, presented) = (server_name.to_owned(), certificate.presented());
        let mismatch = CertificateError::NotValidForNameContext { expected, presented };
        certificate.is_valid_for(&server_name.to_str()).map_err(|_| mismatch.into())
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.believe_any {
            return Ok(ServerCertVerified::assertion());
        }
        let chains = self.chains.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        let verified = chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map(|_| ()).or_else(|refused| match self.verify_authority(end_entity, server_name, now) {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Err(refused),
            looked_again => looked_again,
        })?;
        self.allowed.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
