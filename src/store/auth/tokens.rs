//! The kind of tokens that a member gives out and accepts, from etcd's `--auth-token`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::bad_token::BadToken;
use super::jwt::Jwt;
use crate::world::Disk;
use crate::world::clock::go_duration;

/// The default of etcd's `--auth-token-ttl`: how long a simple token lives unused.
pub const SIMPLE_TTL: Duration = Duration::from_secs(300);
/// How long a signed token lives when its options do not say.
const JWT_TTL: Duration = Duration::from_secs(5 * 60);

/// The tokens of a member. All members of a cluster must agree.
#[derive(Clone, Debug)]
pub enum Tokens {
    /// Remembered by every member, for this long after its last use there.
    Simple {
        ttl: Duration,
    },
    Jwt(Box<Jwt>),
    /// No tokens: clients authenticate with certificates only.
    None,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens::Simple { ttl: SIMPLE_TTL }
    }
}

impl Tokens {
    /// How long a remembered token lives unused.
    pub fn session_ttl(&self) -> Duration {
        match self {
            Tokens::Simple { ttl } => *ttl,
            Tokens::Jwt(_) | Tokens::None => SIMPLE_TTL,
        }
    }

    /// Reads `simple`, nothing, or `jwt,sign-method=…,pub-key=…,priv-key=…,ttl=…`. Keys are read now.
    pub fn parse(spec: &str, simple_ttl: Duration, disk: &Disk) -> Result<Tokens, BadToken> {
        let (kind, options) = split(spec)?;
        match kind {
            "simple" if simple_ttl.is_zero() => Ok(Tokens::default()),
            "simple" => Ok(Tokens::Simple { ttl: simple_ttl }),
            "jwt" => Ok(Tokens::Jwt(Box::new(jwt(&options, disk)?))),
            "" => Ok(Tokens::None),
            _ => Err(BadToken::Options),
        }
    }
}

fn split(spec: &str) -> Result<(&str, BTreeMap<&str, &str>), BadToken> {
    let mut parts = spec.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let (name, value) = part.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or(BadToken::Options)?;
        if options.insert(name, value).is_some() {
            return Err(BadToken::Options);
        }
    }
    Ok((kind, options))
}

fn jwt(options: &BTreeMap<&str, &str>, disk: &Disk) -> Result<Jwt, BadToken> {
    let given = |name: &str| options.get(name).copied().filter(|value| !value.is_empty());
    let read = |name: &str| {
        let wrap = |file: &str, error| BadToken::File { file: file.to_owned(), error };
        given(name).map(|file| disk.read(Path::new(file)).map_err(|error| wrap(file, error))).transpose()
    };
    let ttl = given("ttl").map_or(Ok(JWT_TTL), |text| go_duration(text).ok_or(BadToken::Options))?;
    let (public, private) = (read("pub-key")?, read("priv-key")?);
    for unknown in options.keys().filter(|name| !["sign-method", "pub-key", "priv-key", "ttl"].contains(name)) {
        tracing::warn!(option = unknown, "unknown JWT option");
    }
    Jwt::new(given("sign-method").unwrap_or_default(), public.as_deref(), private.as_deref(), ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;
    use crate::world::disk::Access;

    #[test]
    fn options_are_read_as_etcd_reads_them() {
        let disk = Disk::memory(MemoryDisk::default());
        disk.create_dir_all(Path::new("/k"), Access::Owner).unwrap();
        disk.replace(Path::new("/k/hmac"), b"secret", Access::Owner).unwrap();
        let parse = |spec: &str| Tokens::parse(spec, Duration::from_secs(7), &disk);
        assert!(matches!(parse("simple"), Ok(Tokens::Simple { ttl }) if ttl == Duration::from_secs(7)));
        assert!(matches!(parse("simple,x=y"), Ok(Tokens::Simple { .. })));
        assert!(matches!(parse(""), Ok(Tokens::None)));
        assert!(matches!(parse("jwt,sign-method=HS256,priv-key=/k/hmac,ttl=1h30m"), Ok(Tokens::Jwt(_))));
        assert!(matches!(parse("jwt,sign-method=HS256,priv-key=/k/nope"), Err(BadToken::File { .. })));
        assert!(matches!(parse("jwt,sign-method=HS256"), Err(BadToken::MissingKey)));
        assert!(matches!(parse("jwt,priv-key=/k/hmac"), Err(BadToken::Method(_))));
        for wrong in ["jwt,sign-method", "jwt,a=b,a=c", "jwt,a=b=c", "nope", "jwt,sign-method=HS256,ttl=soon"] {
            assert!(matches!(parse(wrong), Err(BadToken::Options)), "{wrong}");
        }
    }
}
