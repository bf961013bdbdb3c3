//! Cipher suites by their Go names, and protocol versions.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use super::{Error, Options};

/// A version of TLS, written `TLS1.2` or `TLS1.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::Tls12 => "TLS1.2",
            Version::Tls13 => "TLS1.3",
        })
    }
}

impl Version {
    /// An empty text leaves the choice to the library.
    pub fn parse(text: &str) -> Result<Option<Version>, Error> {
        match text {
            "" => Ok(None),
            "TLS1.2" => Ok(Some(Version::Tls12)),
            "TLS1.3" => Ok(Some(Version::Tls13)),
            _ => Err(Error::UnknownVersion(text.to_owned())),
        }
    }

    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Version::Tls12 => &rustls::version::TLS12,
            Version::Tls13 => &rustls::version::TLS13,
        }
    }
}

/// Suites that Go knows by name. Those with a value are offered here; the others are weak or not to be had.
const GO_SUITES: &[(&str, Option<CipherSuite>)] = &[
    ("TLS_AES_128_GCM_SHA256", Some(CipherSuite::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Some(CipherSuite::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_RSA_WITH_RC4_128_SHA", None),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", None),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", None),
];

/// Refuses names that Go does not know.
pub fn check_suites(names: &[String]) -> Result<(), Error> {
    names.iter().try_for_each(|name| suite(name).map(drop))
}

/// The suite that Go calls `name`, if it is offered here.
fn suite(name: &str) -> Result<Option<CipherSuite>, Error> {
    let known = GO_SUITES.iter().find(|(known, _)| *known == name);
    known.map(|(_, suite)| *suite).ok_or_else(|| Error::UnknownSuite(name.to_owned()))
}

/// The cryptography that the options leave.
pub(super) fn provider(options: &Options) -> Result<Arc<CryptoProvider>, Error> {
    let mut provider = ring::default_provider();
    if options.cipher_suites.is_empty() {
        return Ok(Arc::new(provider));
    }
    let mut wanted = Vec::new();
    for name in &options.cipher_suites {
        match suite(name)? {
            Some(suite) => wanted.push(suite),
            None => tracing::warn!(suite = name, "a cipher suite is weak and not offered"),
        }
    }
    let always = |suite: &SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_3;
    provider.cipher_suites.retain(|suite| always(suite) || wanted.contains(&suite.suite()));
    if wanted.is_empty() {
        return Err(Error::NoSuite(options.cipher_suites.clone()));
    }
    Ok(Arc::new(provider))
}

/// The protocol versions that the options leave.
pub(super) fn versions(options: &Options) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
    let min = options.min_version.unwrap_or(Version::Tls12);
    let max = options.max_version.unwrap_or(Version::Tls13);
    let left: Vec<_> =
        [Version::Tls13, Version::Tls12].into_iter().filter(|version| (min..=max).contains(version)).collect();
    if left.is_empty() {
        return Err(Error::NoVersion { min, max });
    }
    Ok(left.into_iter().map(Version::supported).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_narrow_what_is_offered_below_1_3() {
        let named = |names: &[&str]| {
            let cipher_suites = names.iter().map(|name| (*name).to_owned()).collect();
            provider(&Options { cipher_suites, ..Options::default() })
        };
        let offered = named(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA"]).unwrap();
        let below: Vec<_> = offered
            .cipher_suites
            .iter()
            .map(SupportedCipherSuite::suite)
            .filter(|suite| !format!("{suite:?}").starts_with("TLS13"))
            .collect();
        assert_eq!(below, [CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
        assert_eq!(named(&["nonsense"]).unwrap_err(), Error::UnknownSuite("nonsense".into()));
        assert!(matches!(named(&["TLS_RSA_WITH_RC4_128_SHA"]), Err(Error::NoSuite(_))));
    }

    #[test]
    fn versions_are_a_range() {
        let range = |min_version, max_version| {
            let left = versions(&Options { min_version, max_version, ..Options::default() });
            left.map(|left| left.iter().map(|version| version.version).collect::<Vec<_>>())
        };
        let (v12, v13) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
        assert_eq!(range(None, None).unwrap(), [v13, v12]);
        assert_eq!(range(None, Some(Version::Tls12)).unwrap(), [v12]);
        assert_eq!(range(Some(Version::Tls13), None).unwrap(), [v13]);
        assert!(range(Some(Version::Tls13), Some(Version::Tls12)).is_err());
        assert!(Version::parse("TLS1.1").is_err() && Version::parse("").unwrap().is_none());
    }
}
