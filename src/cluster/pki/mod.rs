//! The cluster's certificates and keys, made on first start and kept: an authority, a certificate for everybody who
//! speaks to somebody else ([`Holder`]), and the key that signs service-account tokens.
//!
//! ```text
//!   DIR/pki/ca.crt ca.key        the authority; only making certificates needs its key
//!           service-account.key service-account.pub
//!           admin.crt admin.key  scheduler.crt ...     those of the whole cluster
//!           NODE/kubelet.crt NODE/kubelet.key ...      those of one node
//! ```
//! Everything but `ca.crt` is readable by its owner only. A machine that runs one node needs `ca.crt` and what that
//! node shows; without `ca.key` nothing is made there.

mod holder;

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::Digest;

use super::config::ClusterConfig;
use crate::world::disk::Access;
use crate::world::{Disk, tls};

pub use holder::{Holder, Purpose};

/// Why there are no certificates. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot keep certificates: {0}")]
    Io(#[from] std::io::Error),
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("{path} is not UTF-8: remove it to have it made anew")]
    Damaged { path: PathBuf },
    #[error("{path} is missing: bring it from where {authority} is, which alone can sign it")]
    Missing { path: PathBuf, authority: PathBuf },
}

/// The cluster's key material, all as PEM.
#[derive(Clone)]
pub struct Pki {
    disk: Disk,
    dir: PathBuf,
    pub ca_certificate: String,
    /// Signs service-account tokens (ES256, PKCS#8).
    pub service_account_key: String,
    /// Verifies them.
    pub service_account_public: String,
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
    /// Opens the key material in `dir`, and makes what a cluster of this configuration lacks. Of several processes
    /// one makes it, and the others wait.
    pub fn open(disk: &Disk, dir: &Path, config: &ClusterConfig) -> Result<Pki, PkiError> {
        disk.create_dir_all(dir, Access::Owner)?;
        let maker = Maker { disk, dir };
        {
            let _alone = disk.wait_for_dir(dir)?;
            maker.make_authority()?;
            maker.make_token_key()?;
            maker.make_certificates(config)?;
        }
        let needed = |name: &str| {
            maker.text(name)?.ok_or_else(|| PkiError::Missing { path: dir.join(name), authority: dir.join("ca.key") })
        };
        Ok(Pki {
            disk: disk.clone(),
            dir: dir.to_owned(),
            ca_certificate: needed("ca.crt")?,
            service_account_key: maker.text("service-account.key")?.unwrap_or_default(),
            service_account_public: maker.text("service-account.pub")?.unwrap_or_default(),
        })
    }

    /// For clusters without TLS: `name` stands for the authority, and nobody has a certificate.
    pub fn without_certificates(disk: &Disk, name: &str, token_key: &str, token_public: &str) -> Pki {
        Pki {
            disk: disk.clone(),
            dir: PathBuf::new(),
            ca_certificate: name.to_owned(),
            service_account_key: token_key.to_owned(),
            service_account_public: token_public.to_owned(),
        }
    }

    /// The certificate and key of `holder`.
    pub fn pair(&self, holder: Holder<'_>) -> Result<Pair, PkiError> {
        let maker = Maker { disk: &self.disk, dir: &self.dir };
        let part = |ending: &str| {
            let name = format!("{}.{ending}", holder.file());
            let missing = || PkiError::Missing { path: self.dir.join(&name), authority: self.dir.join("ca.key") };
            maker.text(&name)?.ok_or_else(missing)
        };
        Ok(Pair { certificate: part("crt")?, key: part("key")? })
    }

    /// TLS as `holder`: the other end has to show a certificate of this cluster whose name is one of `others`.
    pub fn tls(&self, holder: Holder<'_>, others: impl IntoIterator<Item = String>) -> tls::Options {
        let file = holder.file();
        tls::Options {
            cert_file: Some(self.dir.join(format!("{file}.crt"))),
            key_file: Some(self.dir.join(format!("{file}.key"))),
            trusted_ca_file: Some(self.ca_file()),
            client_cert_auth: true,
            allowed_common_names: others.into_iter().collect(),
            ..tls::Options::default()
        }
    }

    /// The authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Tells this cluster's containers from those of others on the same engine: derived from its certificate
    /// authority, which is made once a cluster.
    pub fn cluster_uid(&self) -> String {
        let digest = sha2::Sha256::digest(&self.ca_certificate);
        digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Makes what is missing in a directory. A key is written before what says that it is there.
struct Maker<'a> {
    disk: &'a Disk,
    dir: &'a Path,
}

impl Maker<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, PkiError> {
        let path = self.dir.join(name);
        if !self.disk.exists(&path) {
            return Ok(None);
        }
        let text = String::from_utf8(self.disk.read(&path)?).map_err(|_| PkiError::Damaged { path })?;
        Ok(Some(text))
    }

    fn write(&self, name: &str, content: &str, access: Access) -> Result<(), PkiError> {
        Ok(self.disk.replace(&self.dir.join(name), content.as_bytes(), access)?)
    }

    /// The key in this file, made where there is none.
    fn key(&self, name: &str) -> Result<KeyPair, PkiError> {
        if let Some(text) = self.text(name)? {
            return Ok(KeyPair::from_pem(&text)?);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        self.write(name, &key.serialize_pem(), Access::Owner)?;
        Ok(key)
    }

    fn make_authority(&self) -> Result<(), PkiError> {
        if self.text("ca.crt")?.is_some() {
            return Ok(());
        }
        let mut params = subject("chorus-ca", None, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&self.key("ca.key")?)?.pem();
        self.write("ca.crt", &certificate, Access::Everyone)
    }

    /// Only who holds the authority's key decides on the key of tokens: two of them would be two clusters.
    fn make_token_key(&self) -> Result<(), PkiError> {
        if self.text("service-account.pub")?.is_some() || self.text("ca.key")?.is_none() {
            return Ok(());
        }
        let public = self.key("service-account.key")?.public_key_pem();
        self.write("service-account.pub", &public, Access::Owner)
    }

    fn make_certificates(&self, config: &ClusterConfig) -> Result<(), PkiError> {
        let (Some(authority), Some(key)) = (self.text("ca.crt")?, self.text("ca.key")?) else { return Ok(()) };
        let issuer = Issuer::from_ca_cert_pem(&authority, KeyPair::from_pem(&key)?)?;
        for holder in Holder::all(config) {
            let (file, hosts) = (holder.file(), holder.hosts(config));
            if self.text(&format!("{file}.crt"))?.is_some_and(|pem| is_for(&pem, &hosts)) {
                continue;
            }
            if let Some(dir) = self.dir.join(&file).parent() {
                self.disk.create_dir_all(dir, Access::Owner)?;
            }
            let mut params = subject(&holder.common_name(), holder.organization(), hosts)?;
            params.extended_key_usages = match holder.purpose() {
                Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
                Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
                Purpose::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            };
            let signed = params.signed_by(&self.key(&format!("{file}.key"))?, &issuer)?.pem();
            self.write(&format!("{file}.crt"), &signed, Access::Owner)?;
        }
        Ok(())
    }
}

fn subject(
    common_name: &str,
    organization: Option<&str>,
    hosts: Vec<String>,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
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

/// Whether a certificate is valid for all of `hosts`: an address may have changed since it was made.
fn is_for(pem: &str, hosts: &[String]) -> bool {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let certificate = der.and_then(|der| tls::Certificate::read(&der));
    certificate.is_some_and(|certificate| hosts.iter().all(|host| certificate.is_valid_for(host).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    fn certificate(pki: &Pki, holder: Holder<'_>) -> tls::Certificate {
        let pair = pki.pair(holder).unwrap();
        tls::Certificate::read(&CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn key_material_is_made_once_and_kept() {
        let (disk, config) = (Disk::memory(MemoryDisk::new()), ClusterConfig::three_local_nodes());
        let first = Pki::open(&disk, Path::new("/pki"), &config).unwrap();
        let second = Pki::open(&disk, Path::new("/pki"), &config).unwrap();
        assert_eq!(first.ca_certificate, second.ca_certificate);
        assert_eq!(first.service_account_key, second.service_account_key);
        for holder in Holder::all(&config) {
            let (one, two) = (first.pair(holder).unwrap(), second.pair(holder).unwrap());
            assert_eq!((one.certificate, one.key), (two.certificate, two.key), "{holder:?}");
        }
    }

    #[test]
    fn everybody_has_a_name_of_its_own() {
        let (disk, config) = (Disk::memory(MemoryDisk::new()), ClusterConfig::three_local_nodes());
        let pki = Pki::open(&disk, Path::new("/pki"), &config).unwrap();
        let agent = certificate(&pki, Holder::Agent("n2"));
        assert_eq!((agent.common_name.as_str(), agent.organizations), ("system:node:n2", vec!["system:nodes".into()]));
        let server = certificate(&pki, Holder::AgentServer("n2"));
        assert_eq!((server.is_valid_for("n2"), server.is_valid_for("127.0.0.1")), (Ok(()), Ok(())));
        assert!(server.is_valid_for("n1").is_err());
        let masters: Vec<_> = Holder::all(&config)
            .into_iter()
            .filter(|holder| certificate(&pki, *holder).organizations.contains(&"system:masters".to_owned()))
            .collect();
        assert_eq!(masters, [Holder::Admin], "nobody but the person with the kubeconfig is an administrator");
    }

    #[test]
    fn a_cluster_of_an_earlier_release_keeps_its_authority_and_gets_what_it_lacks() {
        let (disk, config) = (Disk::memory(MemoryDisk::new()), ClusterConfig::three_local_nodes());
        let dir = Path::new("/pki");
        let first = Pki::open(&disk, dir, &config).unwrap();
        disk.remove(&dir.join("n1/etcd-peer.crt")).unwrap();
        disk.remove(&dir.join("scheduler.crt")).unwrap();
        let second = Pki::open(&disk, dir, &config).unwrap();
        assert_eq!(first.ca_certificate, second.ca_certificate);
        assert_eq!(first.pair(Holder::Peer("n1")).unwrap().key, second.pair(Holder::Peer("n1")).unwrap().key);
        assert_eq!(certificate(&second, Holder::Scheduler).common_name, "system:kube-scheduler");
    }

    #[test]
    fn an_address_that_changed_is_signed_for_and_without_the_authority_it_is_missed() {
        let (disk, mut config) = (Disk::memory(MemoryDisk::new()), ClusterConfig::three_local_nodes());
        let dir = Path::new("/pki");
        Pki::open(&disk, dir, &config).unwrap();
        config.nodes[0].peer = Some("192.0.2.7:2380".to_owned());
        let pki = Pki::open(&disk, dir, &config).unwrap();
        assert_eq!(certificate(&pki, Holder::Peer("n1")).is_valid_for("192.0.2.7"), Ok(()));
        disk.remove(&dir.join("ca.key")).unwrap();
        disk.remove(&dir.join("n1/kubelet.key")).unwrap();
        let pki = Pki::open(&disk, dir, &config).unwrap();
        assert!(pki.pair(Holder::Agent("n1")).is_ok(), "the others are all there");
        let missing = pki.pair(Holder::AgentServer("n1")).err().map(|error| error.to_string());
        assert_eq!(
            missing.unwrap(),
            "/pki/n1/kubelet.key is missing: bring it from where /pki/ca.key is, which alone can sign it"
        );
    }
}
