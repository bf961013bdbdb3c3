//! A certificate that signs itself: TLS for those who want encryption without an authority.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use super::{Error, Options};
use crate::world::World;
use crate::world::disk::Access;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The pair in `directory`, made first if it is not there. `hosts` are the listeners' `host:port`. Its owner shows it
/// to servers, too, and believes any of them: there is nothing to check their certificates with.
pub fn self_signed(world: &World, directory: &Path, hosts: &[String], validity_years: u32) -> Result<Options, Error> {
    if validity_years == 0 {
        return Err(Error::NoValidity);
    }
    let (cert_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
    if !world.disk.exists(&cert_file) || !world.disk.exists(&key_file) {
        let failed = |error: &dyn std::fmt::Display| Error::NotMade {
            directory: directory.display().to_string(),
            reason: error.to_string(),
        };
        let (certificate, key) = make(world, hosts, validity_years).map_err(|error| failed(&error))?;
        let disk = &world.disk;
        disk.create_dir_all(directory, Access::Owner).map_err(|error| failed(&error))?;
        disk.replace(&cert_file, certificate.as_bytes(), Access::Everyone).map_err(|error| failed(&error))?;
        tracing::info!(path = %cert_file.display(), "created cert file");
        disk.replace(&key_file, key.as_bytes(), Access::Owner).map_err(|error| failed(&error))?;
        tracing::info!(path = %key_file.display(), "created key file");
    }
    Ok(Options {
        cert_file: Some(cert_file.clone()),
        key_file: Some(key_file.clone()),
        client_cert_file: Some(cert_file),
        client_key_file: Some(key_file),
        insecure_skip_verify: true,
        ..Options::default()
    })
}

fn make(world: &World, hosts: &[String], validity_years: u32) -> Result<(String, String), rcgen::Error> {
    let now = world.clock.unix();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.subject_alt_names = hosts.iter().map(|host| alternative_name(host)).collect::<Result<_, _>>()?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let mut serial = [0; 16];
    world.random.fill(&mut serial);
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now;
    params.not_after = epoch + now + YEAR * validity_years;
    tracing::warn!(
        "certificate-validity-bound-not-after" = %params.not_after,
        "automatically generate certificates"
    );
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn alternative_name(host: &str) -> Result<SanType, rcgen::Error> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}
