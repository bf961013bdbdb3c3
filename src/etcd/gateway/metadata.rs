//! HTTP headers as the metadata of the gRPC call they ask for.

use http::{HeaderMap, HeaderName, header};
use tonic::Status;

/// Headers with this prefix are metadata as they stand.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// Marks a call that came through the gateway, which takes no name from the client's certificate.
const ACCEPT: HeaderName = HeaderName::from_static("grpcgateway-accept");
const AUTHORIZATION: HeaderName = HeaderName::from_static("grpcgateway-authorization");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

pub(super) fn from_http(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX) {
            // A reserved name would change how the message is read; it is no metadata about it.
            if let Ok(name) = HeaderName::try_from(name)
                && !is_reserved(&name)
            {
                metadata.append(name, value.clone());
            }
        } else if name == header::AUTHORIZATION {
            metadata.append(header::AUTHORIZATION, value.clone());
            metadata.append(AUTHORIZATION, value.clone());
        } else if name == header::ACCEPT {
            metadata.append(ACCEPT, value.clone());
        } else if name == TIMEOUT {
            metadata.append(TIMEOUT, checked(value)?);
        }
    }
    // Clients that send no `Accept` need the mark, too: their calls must not count as made over gRPC.
    metadata.entry(ACCEPT).or_insert(http::HeaderValue::from_static("*/*"));
    Ok(metadata)
}

fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("grpc-") || *name == header::CONTENT_TYPE || *name == header::TE
}

fn checked(timeout: &http::HeaderValue) -> Result<http::HeaderValue, Status> {
    let text = timeout.to_str().unwrap_or_default();
    match crate::etcd::metadata::timeout(text) {
        Some(_) => Ok(timeout.clone()),
        None => Err(Status::invalid_argument(format!("invalid grpc-timeout: {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tokens_and_metadata_pass_and_nothing_else_does() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "a.1"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("content-type", "application/json"),
            ("cookie", "x"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let metadata = from_http(&headers).unwrap();
        let names: Vec<_> = metadata.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        for name in ["authorization", "grpcgateway-authorization", "hasleader", "grpcgateway-accept"] {
            assert!(metadata.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_static("soon"));
        assert_eq!(from_http(&headers).unwrap_err().message(), "invalid grpc-timeout: soon");
    }
}
