//! What a call's headers ask for beside its message.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tonic::Status;

use super::status;

const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The version in metrics of a client that does not send one.
const UNKNOWN_VERSION: &str = "unknown";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata<'a> {
    /// The call must fail while the member knows no leader.
    pub require_leader: bool,
    pub client_api_version: &'a str,
    /// How long the client is going to wait.
    pub timeout: Option<Duration>,
}

impl Metadata<'_> {
    pub fn read(headers: &HeaderMap) -> Result<Metadata<'_>, Status> {
        let client_api_version = match headers.get(CLIENT_API_VERSION) {
            Some(value) => std::str::from_utf8(value.as_bytes()).map_err(|_| status::invalid_client_api_version())?,
            None => UNKNOWN_VERSION,
        };
        let timeout = match headers.get(GRPC_TIMEOUT) {
            Some(value) => Some(value.to_str().ok().and_then(timeout).ok_or_else(|| {
                Status::internal("malformed grpc-timeout: expected digits and one of H, M, S, m, u, n")
            })?),
            None => None,
        };
        let require_leader = headers.get(HAS_LEADER).is_some_and(|value| value == "true");
        Ok(Metadata { require_leader, client_api_version, timeout })
    }
}

/// At most eight digits and a unit, as the gRPC protocol writes timeouts.
pub(super) fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 60 * 60)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("4999870u"), Some(Duration::from_micros(4_999_870)));
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        for malformed in ["", "S", "5", "5x", "123456789S", "-1S", "+1S", "5é"] {
            assert_eq!(timeout(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn a_client_version_must_be_text() {
        let mut headers = HeaderMap::new();
        assert_eq!(Metadata::read(&headers).unwrap().client_api_version, "unknown");
        headers.insert(CLIENT_API_VERSION, HeaderValue::from_static("3.4"));
        headers.insert(HAS_LEADER, HeaderValue::from_static("true"));
        let read = Metadata::read(&headers).unwrap();
        assert_eq!((read.client_api_version, read.require_leader, read.timeout), ("3.4", true, None));
        headers.insert(CLIENT_API_VERSION, HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let refused = Metadata::read(&headers).unwrap_err();
        assert_eq!(refused.message(), "etcdserver: invalid client api version");
    }
}
