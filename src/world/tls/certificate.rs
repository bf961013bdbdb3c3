//! What is read out of the other end's certificate.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The names in a certificate that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name; empty if there is none.
    pub common_name: String,
    /// The subject's organizations: groups of the one it names.
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    /// Big-endian, without leading zeroes.
    pub(super) serial: Vec<u8>,
    /// Seconds since the Unix epoch, both inclusive.
    validity: (i64, i64),
    /// `None` is for everything.
    purposes: Option<Vec<Purpose>>,
}

/// What a certificate may be shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Server,
    Client,
}

impl Certificate {
    /// `None` if it is no certificate.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common_name = certificate.subject().iter_common_name().last();
        let organizations = certificate.subject().iter_organization().filter_map(|name| name.as_str().ok());
        let mut read = Certificate {
            common_name: common_name.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned(),
            organizations: organizations.map(str::to_owned).collect(),
            serial: trimmed(certificate.raw_serial()).to_vec(),
            validity: (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp()),
            purposes: purposes(&certificate),
            ..Certificate::default()
        };
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => read.dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => read.ip_addresses.extend(address(bytes)),
                    _ => (),
                }
            }
        }
        Some(read)
    }

    pub(super) fn is_valid_at(&self, unix_secs: u64) -> bool {
        i64::try_from(unix_secs).is_ok_and(|now| (self.validity.0..=self.validity.1).contains(&now))
    }

    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.purposes.as_ref().is_none_or(|purposes| purposes.contains(&purpose))
    }

    /// The names as the TLS library lists them in its errors.
    pub(super) fn presented(&self) -> Vec<String> {
        let names = self.dns_names.iter().map(|name| format!("DnsName({name:?})"));
        names.chain(self.ip_addresses.iter().map(|address| format!("IpAddress({address})"))).collect()
    }

    /// Whether the certificate is valid for `host`, a name or an address. The error is Go's text.
    pub fn is_valid_for(&self, host: &str) -> Result<(), String> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            if self.ip_addresses.contains(&address) {
                return Ok(());
            }
            if self.ip_addresses.is_empty() {
                return Err(format!(
                    "x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"
                ));
            }
            let valid: Vec<String> = self.ip_addresses.iter().map(IpAddr::to_string).collect();
            return Err(format!("x509: certificate is valid for {}, not {host}", valid.join(", ")));
        }
        if self.dns_names.iter().any(|pattern| matches(pattern, host)) {
            return Ok(());
        }
        match self.dns_names.is_empty() {
            true => Err(format!("x509: certificate is not valid for any names, but wanted to match {host}")),
            false => Err(format!("x509: certificate is valid for {}, not {host}", self.dns_names.join(", "))),
        }
    }
}

fn purposes(certificate: &X509Certificate<'_>) -> Option<Vec<Purpose>> {
    let usage = certificate.extended_key_usage().ok().flatten()?.value;
    let named = [(usage.any || usage.server_auth, Purpose::Server), (usage.any || usage.client_auth, Purpose::Client)];
    Some(named.into_iter().filter_map(|(named, purpose)| named.then_some(purpose)).collect())
}

/// `*.` stands for one label.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let rest = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_ascii_lowercase());
    match pattern.strip_prefix("*.") {
        Some(domain) => rest(host).is_some_and(|rest| rest.eq_ignore_ascii_case(domain)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(super) fn trimmed(serial: &[u8]) -> &[u8] {
    let zeroes = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeroes..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_go_does() {
        let certificate = Certificate {
            dns_names: vec!["localhost".into(), "*.etcd.local".into()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
            ..Certificate::default()
        };
        for host in ["localhost", "LOCALHOST", "m1.etcd.local", "127.0.0.1"] {
            assert_eq!(certificate.is_valid_for(host), Ok(()), "{host}");
        }
        assert_eq!(
            certificate.is_valid_for("10.0.0.5"),
            Err("x509: certificate is valid for 127.0.0.1, not 10.0.0.5".into())
        );
        assert_eq!(
            certificate.is_valid_for("a.b.etcd.local"),
            Err("x509: certificate is valid for localhost, *.etcd.local, not a.b.etcd.local".into())
        );
        assert_eq!(
            Certificate::default().is_valid_for("::1"),
            Err("x509: cannot validate certificate for ::1 because it doesn't contain any IP SANs".into())
        );
    }
}
