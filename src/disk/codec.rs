//! bincode, with one set of options for every record of this node and every envelope between peers.
//!
//! Variable-length integers, no trailing bytes, and a limit that also bounds what a length prefix may make the decoder
//! allocate. Wrap byte fields in `serde_bytes` or `bytes::Bytes`: a `Vec<u8>` is coded byte by byte.

use std::io::{Read, Write};

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest encoded value.
pub const VALUE_BYTES_MAX: u64 = 64 << 20;

/// The value is too large, or the bytes are not such a value. Never worth a retry.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(#[from] bincode::Error);

impl From<Error> for std::io::Error {
    fn from(Error(error): Error) -> std::io::Error {
        match *error {
            bincode::ErrorKind::Io(error) => error,
            other => std::io::Error::new(std::io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(VALUE_BYTES_MAX)
}

pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    Ok(options().serialize(value)?)
}

/// The value that `bytes`, all of them, encode.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    Ok(options().deserialize(bytes)?)
}

/// Writes one value to a stream.
pub fn encode_into<T: Serialize + ?Sized>(writer: impl Write, value: &T) -> Result<(), Error> {
    Ok(options().serialize_into(writer, value)?)
}

/// Reads one value from a stream.
pub fn decode_from<T: DeserializeOwned>(reader: impl Read) -> Result<T, Error> {
    Ok(options().deserialize_from(reader)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_trailing_bytes_do_not_pass() {
        let mut bytes = encode(&(7_u64, "seven")).unwrap();
        assert_eq!(decode::<(u64, String)>(&bytes).unwrap(), (7, "seven".to_owned()));
        bytes.push(0);
        assert!(decode::<(u64, String)>(&bytes).is_err());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_allocates() {
        let claimed = encode(&u64::MAX).unwrap();
        assert!(decode::<bytes::Bytes>(&claimed).is_err());
        assert!(decode_from::<String>(&claimed[..]).is_err());
    }
}
