//! The cluster's certificates and keys, generated on first start and kept: a certificate authority, a serving
//! certificate, a client certificate for the administrator, the key that signs service-account tokens, and the token
//! with which frontends ask agents for logs.
//!
//! ```text
//!   DIR/pki/ca.crt ca.key  apiserver.crt .key  admin.crt .key  service-account.key .pub  kubelet.token
//! ```
//! Everything but `ca.crt` is readable by its owner only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use sha2::Digest;

use crate::world::disk::Access;
use crate::world::{Disk, Random};

/// Why there are no certificates. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot keep certificates: {0}")]
    Io(#[from] std::io::Error),
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("{path} is not UTF-8: remove the directory above it to have new certificates made")]
    Damaged { path: PathBuf },
}

/// The cluster's key material, all as PEM but the token.
#[derive(Clone)]
pub struct Pki {
    pub ca_certificate: String,
    pub server: Pair,
    pub admin: Pair,
    /// Signs service-account tokens (ES256, PKCS#8).
    pub service_account_key: String,
    /// Verifies them.
    pub service_account_public: String,
    /// What an agent wants to see before it hands out logs.
    pub kubelet_token: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki(secret)")
    }
}

impl Pki {
    /// Reads the key material in `dir`, or makes it. `names` are the hosts (names or addresses) under which frontends
    /// are reached. Two processes must not call this for one directory at the same time.
    pub fn open(disk: &Disk, random: &Random, dir: &Path, names: &[String]) -> Result<Pki, PkiError> {
        if !disk.exists(&dir.join("kubelet.token")) {
            let (pki, ca_key) = Pki::generate(random, names)?;
            pki.write(&ca_key, disk, dir)?;
        }
        let text = |name: &str| -> Result<String, PkiError> {
            let path = dir.join(name);
            String::from_utf8(disk.read(&path)?).map_err(|_| PkiError::Damaged { path })
        };
        let pair = |name: &str| -> Result<Pair, PkiError> {
            Ok(Pair { certificate: text(&format!("{name}.crt"))?, key: text(&format!("{name}.key"))? })
        };
        Ok(Pki {
            ca_certificate: text("ca.crt")?,
            server: pair("apiserver")?,
            admin: pair("admin")?,
            service_account_key: text("service-account.key")?,
            service_account_public: text("service-account.pub")?,
            kubelet_token: text("kubelet.token")?,
        })
    }

    /// Tells this cluster's containers from those of others on the same engine: derived from its certificate
    /// authority, which is made once a cluster.
    pub fn cluster_uid(&self) -> String {
        let digest = sha2::Sha256::digest(&self.ca_certificate);
        digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// New key material, and the authority's key, which no process needs once it has signed.
    pub fn generate(random: &Random, names: &[String]) -> Result<(Pki, String), PkiError> {
        let (ca, ca_key) = authority()?;
        let issuer = Issuer::from_params(&ca, &ca_key);
        let mut hosts: Vec<String> = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        hosts.extend(names.iter().cloned());
        hosts.sort();
        hosts.dedup();
        let mut server = leaf(hosts, "kube-apiserver", None)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut admin = leaf(Vec::new(), "kubernetes-admin", Some("system:masters"))?;
        admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let service_account = new_key()?;
        let mut token = [0; 24];
        random.fill(&mut token);
        let pki = Pki {
            ca_certificate: ca.self_signed(&ca_key)?.pem(),
            server: sign(server, &issuer)?,
            admin: sign(admin, &issuer)?,
            service_account_key: service_account.serialize_pem(),
            service_account_public: service_account.public_key_pem(),
            kubelet_token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok((pki, ca_key.serialize_pem()))
    }

    /// Writes the token last: its presence says that everything else is there.
    fn write(&self, ca_key: &String, disk: &Disk, dir: &Path) -> Result<(), PkiError> {
        disk.create_dir_all(dir, Access::Owner)?;
        disk.replace(&dir.join("ca.crt"), self.ca_certificate.as_bytes(), Access::Everyone)?;
        for (name, content) in [
            ("ca.key", ca_key),
            ("apiserver.crt", &self.server.certificate),
            ("apiserver.key", &self.server.key),
            ("admin.crt", &self.admin.certificate),
            ("admin.key", &self.admin.key),
            ("service-account.key", &self.service_account_key),
            ("service-account.pub", &self.service_account_public),
            ("kubelet.token", &self.kubelet_token),
        ] {
            disk.replace(&dir.join(name), content.as_bytes(), Access::Owner)?;
        }
        Ok(())
    }
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn authority() -> Result<(CertificateParams, KeyPair), PkiError> {
    let mut params = leaf(Vec::new(), "chorus-ca", None)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok((params, new_key()?))
}

fn leaf(names: Vec<String>, common_name: &str, organization: Option<&str>) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    // Longer than anyone keeps a local cluster, and never dependent on this machine's clock.
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2044, 1, 1);
    Ok(params)
}

fn sign(params: CertificateParams, issuer: &Issuer<'_, &KeyPair>) -> Result<Pair, PkiError> {
    let key = new_key()?;
    Ok(Pair { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

/// The host part of each address, for certificates: names and addresses alike.
pub fn hosts<'a>(addresses: impl Iterator<Item = &'a String>) -> Vec<String> {
    let host = |address: &'a String| address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
    addresses.filter_map(host).filter(|host| !is_any(host)).map(str::to_owned).collect()
}

fn is_any(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    #[test]
    fn key_material_is_made_once_and_kept() {
        let (disk, random) = (Disk::memory(MemoryDisk::new()), Random::from_seed(1));
        let first = Pki::open(&disk, &random, Path::new("/pki"), &["127.0.0.1".to_owned()]).unwrap();
        let second = Pki::open(&disk, &random, Path::new("/pki"), &[]).unwrap();
        assert_eq!(first.server.certificate, second.server.certificate);
        assert_eq!(first.kubelet_token, second.kubelet_token);
    }
}
