//! Failures of a handshake in the words of Go's TLS library: operators grep for them, and so do tests.

use std::io;
use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// What became of a handshake that failed with `error`.
pub(super) fn of(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return of_tls(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".into(),
        io::ErrorKind::ConnectionReset => "read: connection reset by peer".into(),
        io::ErrorKind::BrokenPipe => "write: broken pipe".into(),
        _ => error.to_string(),
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_name(*alert)),
        Error::InvalidCertificate(reason) => of_certificate(reason),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".into(),
        Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".into(),
        Error::NoApplicationProtocol => "tls: client requested unsupported application protocols".into(),
        Error::PeerIncompatible(reason) => of_peer(reason),
        other => format!("tls: {other}"),
    }
}

fn of_peer(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::NoCipherSuitesInCommon => "tls: no cipher suite supported by both client and server".into(),
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13 => "tls: client offered only unsupported versions".into(),
        other => format!("tls: {other:?}"),
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    let words = match reason {
        // Only our own check of allowed names says this without more words.
        CertificateError::NotValidForName => return "client certificate authentication failed".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            not_valid_for(&expected.to_str(), presented)
        }
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".into(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "x509: certificate has expired or is not yet valid".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".into()
        }
        CertificateError::BadSignature => "x509: certificate signed by unknown authority".into(),
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {words}")
}

/// `presented` names are shown by the library as `DnsName("a")` and `IpAddress(1.2.3.4)`.
fn not_valid_for(host: &str, presented: &[String]) -> String {
    let inner = |kind: &str| -> Vec<&str> {
        let names = presented.iter().filter_map(|name| name.strip_prefix(kind)?.strip_suffix(')'));
        names.map(|name| name.trim_matches('"')).collect()
    };
    let is_address = host.parse::<IpAddr>().is_ok();
    let valid = if is_address { inner("IpAddress(") } else { inner("DnsName(") };
    match (is_address, valid.is_empty()) {
        (true, true) => format!("x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"),
        (false, true) => format!("x509: certificate is not valid for any names, but wanted to match {host}"),
        (_, false) => format!("x509: certificate is valid for {}, not {host}", valid.join(", ")),
    }
}

fn alert_name(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::CloseNotify => "close notify",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::RecordOverflow => "record overflow",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::NoRenegotiation => "no renegotiation",
        AlertDescription::MissingExtension => "missing extension",
        AlertDescription::UnsupportedExtension => "unsupported extension",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn failures_are_told_as_go_tells_them() {
        let told = |error: Error| of(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(told(Error::AlertReceived(AlertDescription::BadCertificate)), "remote error: tls: bad certificate");
        assert_eq!(
            told(Error::InvalidCertificate(CertificateError::NotValidForName)),
            "client certificate authentication failed"
        );
        assert_eq!(
            told(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
        let expected = ServerName::try_from("10.0.0.5").unwrap();
        let presented = vec!["DnsName(\"localhost\")".into(), "IpAddress(127.0.0.1)".into()];
        assert_eq!(
            told(Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented })),
            "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, not 10.0.0.5"
        );
        assert_eq!(of(&io::ErrorKind::UnexpectedEof.into()), "EOF");
    }
}
