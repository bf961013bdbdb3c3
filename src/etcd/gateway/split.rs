//! Where one JSON object ends and the next begins, in a body that arrives piece by piece. Every byte is read once.

use bytes::{Bytes, BytesMut};
use tonic::Status;

use crate::etcd::status;

/// Cuts a stream of bytes into JSON objects.
pub(super) struct Split {
    held: BytesMut,
    /// How many of the held bytes were read.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    bytes_max: usize,
}

impl Split {
    pub fn new(bytes_max: usize) -> Split {
        Split { held: BytesMut::new(), seen: 0, depth: 0, in_string: false, escaped: false, bytes_max }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next object, if all of it is there.
    pub fn next(&mut self) -> Result<Option<Bytes>, Status> {
        while let Some(byte) = self.held.get(self.seen).copied() {
            self.seen += 1;
            if self.ends_with(byte)? {
                let object = self.held.split_to(std::mem::take(&mut self.seen));
                return Ok(Some(object.freeze()));
            }
        }
        match self.held.len() {
            bytes if bytes > self.bytes_max => Err(status::message_too_large(bytes, self.bytes_max)),
            _ => Ok(None),
        }
    }

    /// At the end of the body: whether it ended within an object.
    pub fn finish(&self) -> Result<(), Status> {
        if self.depth == 0 { Ok(()) } else { Err(Status::invalid_argument("unexpected EOF")) }
    }

    fn ends_with(&mut self, byte: u8) -> Result<bool, Status> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'{' => self.depth += 1,
            b'}' if self.depth > 0 => self.depth -= 1,
            _ if self.depth > 0 => self.in_string = byte == b'"',
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return Err(Status::invalid_argument("expected an object, '{', at the start of each message")),
        }
        Ok(byte == b'}' && self.depth == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&str]) -> Result<Vec<String>, Status> {
        let mut split = Split::new(64);
        let mut objects = Vec::new();
        for piece in pieces {
            split.push(piece.as_bytes());
            while let Some(object) = split.next()? {
                objects.push(String::from_utf8_lossy(object.trim_ascii()).into_owned());
            }
        }
        split.finish().map(|()| objects)
    }

    #[test]
    fn objects_are_found_wherever_the_pieces_are_cut() {
        let whole = r#" {"a":"}{\"\\"}{"b":{"c":[{}]}}
{}"#;
        let expected = [r#"{"a":"}{\"\\"}"#, r#"{"b":{"c":[{}]}}"#, "{}"];
        assert_eq!(split(&[whole]).unwrap(), expected);
        for at in 0..whole.len() {
            assert_eq!(split(&[&whole[..at], &whole[at..]]).unwrap(), expected, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(split(&[r#"{"a":"#]).unwrap_err().message(), "unexpected EOF");
        assert!(split(&["[]"]).is_err() && split(&["{}}"]).is_err());
        assert_eq!(
            split(&[&format!("{{\"a\":\"{}", "x".repeat(64))]).unwrap_err().code(),
            tonic::Code::ResourceExhausted
        );
    }
}
