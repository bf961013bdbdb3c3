//! The files behind TLS, as they are on the disk now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Error;
use crate::world::Disk;

/// A file of more is no certificate, key or revocation list.
const BYTES_MAX: usize = 16 << 20;

/// Where distributions keep the authorities that the system believes.
const SYSTEM_AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The content of a certificate file and of its key. Two are equal if no file has changed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    cert_file: PathBuf,
    key_file: PathBuf,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    pub fn read(disk: &Disk, cert_file: &Path, key_file: &Path) -> Result<Pair, Error> {
        Ok(Pair {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            certificate: read(disk, cert_file)?,
            key: read(disk, key_file)?,
        })
    }

    /// The chain and the key, which must belong together.
    pub fn certified(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
        let (cert, key) = (self.cert_file.display().to_string(), self.key_file.display().to_string());
        let chain = certificates(&self.cert_file, &self.certificate)?;
        let malformed = |reason: String| Error::Malformed { path: key.clone(), reason };
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| malformed("tls: failed to find any PEM data in key input".into()))?;
        match CertifiedKey::from_der(chain, private, provider) {
            Ok(certified) => Ok(Arc::new(certified)),
            Err(rustls::Error::InconsistentKeys(_)) => Err(Error::NotAPair { key, cert }),
            Err(rustls::Error::InvalidCertificate(reason)) => {
                Err(Error::Malformed { path: cert, reason: format!("x509: malformed certificate: {reason}") })
            }
            Err(error) => Err(malformed(format!("tls: failed to parse private key: {error}"))),
        }
    }
}

/// Reads a whole file that must not be large.
pub(super) fn read(disk: &Disk, path: &Path) -> Result<Vec<u8>, Error> {
    let shown = path.display().to_string();
    let bytes = disk.read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::Unreadable { path: shown.clone(), reason: "no such file or directory".into(), missing: true }
        }
        _ => Error::Unreadable { path: shown.clone(), reason: error.to_string(), missing: false },
    })?;
    if bytes.len() > BYTES_MAX {
        return Err(Error::Malformed { path: shown, reason: format!("larger than {BYTES_MAX} bytes") });
    }
    Ok(bytes)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.display().to_string(), reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| malformed(format!("not a certificate in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(malformed("tls: failed to find any PEM data in certificate input".into()));
    }
    Ok(chain)
}

/// Whom to believe: the authorities of `file`, or the system's.
#[derive(Clone, Debug)]
pub(super) struct Authorities {
    pub roots: Arc<RootCertStore>,
    /// The certificates themselves: one of them may be shown by the other end as its own.
    pub certificates: Arc<Vec<CertificateDer<'static>>>,
}

impl Authorities {
    pub fn read(disk: &Disk, file: Option<&Path>) -> Result<Authorities, Error> {
        let certificates = match file {
            Some(file) => certificates(file, &read(disk, file)?)?,
            None => of_the_system(disk),
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        match file {
            Some(file) if added == 0 => {
                Err(Error::Malformed { path: file.display().to_string(), reason: "no certificate can be used".into() })
            }
            _ => Ok(Authorities { roots: Arc::new(roots), certificates: Arc::new(certificates) }),
        }
    }
}

fn of_the_system(disk: &Disk) -> Vec<CertificateDer<'static>> {
    let found = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| disk.exists(path));
    let pem = found.and_then(|path| disk.read(path).ok()).unwrap_or_default();
    CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect()
}
