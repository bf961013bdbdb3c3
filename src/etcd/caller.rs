//! In whose name a call asks the store, by its headers and by the certificate of its connection.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Request};

use super::connection::CommonName;
use super::rpc::{Kind, Rpc};
use super::server::EtcdServer;
use crate::store::client::{Caller, Client};

const TOKEN: HeaderName = HeaderName::from_static("token");
const AUTHORIZATION: HeaderName = HeaderName::from_static("authorization");
/// Set on calls that came as JSON. The certificate of their connection does not count.
const THROUGH_GATEWAY: HeaderName = HeaderName::from_static("grpcgateway-accept");
const BEARER: &str = "Bearer ";

/// The store in the name of the client that sends `request`. While authentication is off, the headers are read only for
/// a stream, which may last until it is turned on.
pub(super) fn store<'a, B>(server: &'a EtcdServer, rpc: Rpc, request: &Request<B>) -> Cow<'a, Client> {
    if server.store.authenticates() || rpc.kind() != Kind::Unary {
        let common_name = request.extensions().get().map(|CommonName(name)| &**name);
        Cow::Owned(server.store.on_behalf(of(request.headers(), common_name)))
    } else {
        Cow::Borrowed(&server.anonymous)
    }
}

/// The client that sends `headers` on a connection that was accepted with a certificate for `common_name`.
fn of(headers: &HeaderMap, common_name: Option<&str>) -> Caller {
    let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION));
    let token = token.map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.strip_prefix(BEARER).unwrap_or(&text).to_owned()
    });
    let common_name = common_name.filter(|_| !headers.contains_key(THROUGH_GATEWAY)).map(str::to_owned);
    Caller::Client { token, common_name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_read_from_headers_and_certificate() {
        for (lines, common_name, token, name) in [
            (&[][..], None, None, None),
            (&[("token", "abc.7")], None, Some("abc.7"), None),
            (&[("authorization", "abc.7")], None, Some("abc.7"), None),
            (&[("authorization", "Bearer abc.7")], None, Some("abc.7"), None),
            (&[("authorization", "other"), ("token", "abc.7")], None, Some("abc.7"), None),
            (&[], Some("alice"), None, Some("alice")),
            (&[("token", "abc.7")], Some("alice"), Some("abc.7"), Some("alice")),
            (&[("grpcgateway-accept", "application/json")], Some("alice"), None, None),
        ] {
            let headers: HeaderMap =
                lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            let (token, name) = (token.map(str::to_owned), name.map(str::to_owned));
            assert_eq!(of(&headers, common_name), Caller::Client { token, common_name: name }, "{lines:?}");
        }
    }
}
