//! Where to listen and where to connect: `http://`, `https://`, `unix://` and `unixs://` URLs.

use std::fmt;

/// A place on the network, or a socket in the file system, with or without TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    scheme: Scheme,
    /// `host:port`, or a path.
    place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

/// The text is no address. Surface it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}: {reason}")]
pub struct BadAddress {
    text: String,
    reason: &'static str,
}

impl Address {
    /// Reads a URL. A bare `host:port` is one of `http`.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        let bad = |reason| BadAddress { text: text.to_owned(), reason };
        // A path may follow the scheme at once.
        let parts =
            text.split_once("://").or_else(|| text.split_once(':').filter(|(name, _)| name.starts_with("unix")));
        let (scheme, place) = match parts {
            None => (Scheme::Http, text),
            Some(("http", place)) => (Scheme::Http, place),
            Some(("https", place)) => (Scheme::Https, place),
            Some(("unix", place)) => (Scheme::Unix, place),
            Some(("unixs", place)) => (Scheme::Unixs, place),
            Some(_) => return Err(bad("the scheme must be http, https, unix or unixs")),
        };
        let address = Address { scheme, place: place.to_owned() };
        if address.is_unix() {
            return if place.is_empty() { Err(bad("it names no socket")) } else { Ok(address) };
        }
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains(['/', '?', '#', '@', ' ']) {
            return Err(bad("there is more than a host and a port"));
        }
        let (_, port) = place.rsplit_once(':').ok_or_else(|| bad("it has no port"))?;
        port.parse::<u16>().map_err(|_| bad("its port is not a number up to 65535"))?;
        Ok(Address { scheme, place: place.to_owned() })
    }

    pub fn is_secure(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// `host:port`, or the path of a socket.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The name that a server's certificate is asked for: the host without its port.
    pub fn host(&self) -> &str {
        if self.is_unix() {
            return "localhost";
        }
        self.place.rsplit_once(':').map_or(&self.place, |(host, _)| host)
    }

    /// What requests call the other end.
    pub(super) fn authority(&self) -> &str {
        if self.is_unix() { "localhost" } else { &self.place }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        };
        write!(f, "{scheme}://{}", self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_bare_addresses_are_read() {
        let read = |text: &str| Address::parse(text).map(|a| (a.to_string(), a.is_secure(), a.host().to_owned())).ok();
        let told = |url: &str, secure, host: &str| Some((url.to_owned(), secure, host.to_owned()));
        assert_eq!(read("127.0.0.1:2379"), told("http://127.0.0.1:2379", false, "127.0.0.1"));
        assert_eq!(read("https://[::1]:0/"), told("https://[::1]:0", true, "[::1]"));
        assert_eq!(read("unix:///run/e.sock"), told("unix:///run/e.sock", false, "localhost"));
        assert_eq!(read("unix:/run/e.sock"), told("unix:///run/e.sock", false, "localhost"));
        assert_eq!(read("unixs://localhost:m0"), told("unixs://localhost:m0", true, "localhost"));
        for bad in ["", "http://", "http://a", "http://a:b", "http://a:70000", "ftp://a:1", "http://a:1/x", "unix://"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
