//! URLs of members, as etcd takes them: `http`, `https`, `unix` and `unixs`, each with a `host:port`.

use std::fmt;

/// One URL, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url(String);

/// Why a text is no URL of a member, in etcd's words. Surface it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("parse {0:?}: first path segment in URL cannot contain colon")]
    NoScheme(String),
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("expected IP in URL for binding ({0})")]
    NotBindable(Url),
    #[error("unexpected empty host ({0})")]
    EmptyHost(Url),
}

impl Url {
    pub fn read(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://").or_else(|| text.split_once(':')) else {
            return Err(UrlError::Scheme(text.into()));
        };
        match scheme {
            "http" | "https" => {
                let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                split(address).ok_or_else(|| UrlError::Address(text.into()))?;
                if !path.is_empty() {
                    return Err(UrlError::Path(text.into()));
                }
            }
            "unix" | "unixs" => {}
            _ if scheme.contains(['.', '/']) || scheme.starts_with(|c: char| c.is_ascii_digit()) => {
                return Err(UrlError::NoScheme(text.into()));
            }
            _ => return Err(UrlError::Scheme(text.into())),
        }
        Ok(Url(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    pub fn is_secure(&self) -> bool {
        matches!(self.scheme(), "https" | "unixs")
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.scheme(), "unix" | "unixs")
    }

    /// `host:port`, or the rest of a URL of a socket in the file system.
    pub fn address(&self) -> &str {
        let rest = &self.0[self.scheme().len() + 1..];
        rest.strip_prefix("//").unwrap_or(rest)
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        split(self.address()).map_or("", |(host, _)| host)
    }

    pub fn port(&self) -> &str {
        split(self.address()).map_or("", |(_, port)| port)
    }

    /// The same with another host.
    pub fn with_host(&self, host: &str) -> Url {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Url(format!("{}://{host}:{}", self.scheme(), self.port()))
    }

    /// Refuses a URL to listen on that names a domain.
    pub fn check_bind(&self) -> Result<(), UrlError> {
        let bindable = self.is_unix() || self.host() == "localhost" || self.host().parse::<std::net::IpAddr>().is_ok();
        if bindable { Ok(()) } else { Err(UrlError::NotBindable(self.clone())) }
    }

    /// Refuses a URL to advertise that names nobody.
    pub fn check_host(&self) -> Result<(), UrlError> {
        if self.is_unix() || !self.host().is_empty() { Ok(()) } else { Err(UrlError::EmptyHost(self.clone())) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Host and port of `host:port`; an IPv6 host stands in brackets.
fn split(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return Some((inner.strip_suffix(']')?, port));
    }
    (!host.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_as_etcd_takes_them() {
        for good in ["http://localhost:2379", "https://[::1]:0", "unix://localhost:1", "unixs:/tmp/x", " http://a:1"] {
            assert_eq!(Url::read(good).unwrap().as_str(), good.trim());
        }
        for (bad, error) in [
            ("http://localhost", "URL address does not have the form \"host:port\": http://localhost"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("localhost", "URL scheme must be http, https, unix, or unixs: localhost"),
            ("127.0.0.1:80", "parse \"127.0.0.1:80\": first path segment in URL cannot contain colon"),
        ] {
            assert_eq!(Url::read(bad).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn the_parts_of_a_url() {
        let url = Url::read("https://[::1]:2379").unwrap();
        assert_eq!((url.scheme(), url.address(), url.host(), url.port()), ("https", "[::1]:2379", "::1", "2379"));
        assert_eq!(url.with_host("10.0.0.1").as_str(), "https://10.0.0.1:2379");
        assert_eq!(Url::read("unix:/tmp/s").unwrap().address(), "/tmp/s");
        let named = Url::read("http://example.com:1").unwrap();
        assert_eq!(
            named.check_bind().unwrap_err().to_string(),
            "expected IP in URL for binding (http://example.com:1)"
        );
        assert!(Url::read("http://:1").unwrap().check_host().is_err());
    }
}
