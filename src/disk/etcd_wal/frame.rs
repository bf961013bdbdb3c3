//! Records as bytes. Pure.

use bytes::Bytes;
use crc32c::crc32c_append;
use prost::Message;

use super::record::{Kind, Record};

pub const FRAME_HEAD_BYTES: usize = 8;
const LENGTH: u64 = (1 << 56) - 1;
/// A write to a disk happens in sectors: one that is all zeroes was never written.
const SECTOR_BYTES: usize = 512;

/// Appends a record to `buffer` and returns the checksum after it.
pub fn encode(buffer: &mut Vec<u8>, crc: u32, kind: Kind, data: Option<Bytes>) -> u32 {
    let crc = crc32c_append(crc, data.as_deref().unwrap_or_default());
    let record = Record { kind: i64::from(kind as i32), crc, data };
    let bytes = record.encoded_len();
    let padding = bytes.next_multiple_of(8) - bytes;
    let flag = if padding == 0 { 0 } else { (0x80 | padding as u64) << 56 };
    buffer.extend_from_slice(&(bytes as u64 | flag).to_le_bytes());
    record.encode(buffer).expect("a vector grows as needed");
    buffer.resize(buffer.len() + padding, 0);
    crc
}

/// What stands at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    Record {
        kind: Kind,
        data: Bytes,
        crc: u32,
        end: usize,
    },
    /// Nothing was written from here on.
    End,
}

/// Why there is no sound record at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsound {
    pub reason: &'static str,
    /// A write that did not reach the disk as a whole leaves such bytes.
    pub torn: bool,
}

/// Reads the record at `offset` of a whole file; `crc` is the checksum so far, `None` before the first record.
pub fn parse(file: &Bytes, offset: usize, crc: Option<u32>) -> Result<Parsed, Unsound> {
    let head = file.get(offset..offset + FRAME_HEAD_BYTES);
    let Some(head) = head else {
        return if offset >= file.len() { Ok(Parsed::End) } else { Err(torn("the file ends within a length")) };
    };
    let head = u64::from_le_bytes(head.try_into().expect("eight bytes"));
    if head == 0 {
        return Ok(Parsed::End);
    }
    let padding = if head >> 63 == 1 { (head >> 56) & 7 } else { 0 };
    let start = offset + FRAME_HEAD_BYTES;
    let left = (file.len() - start) as u64;
    let length = head & LENGTH;
    if length + padding > left {
        return Err(torn("a record is longer than its file"));
    }
    let (middle, end) = (start + length as usize, start + (length + padding) as usize);
    let unsound = |reason| Unsound { reason, torn: has_unwritten_sector(&file[start..end], start) };
    let record = Record::decode(file.slice(start..middle)).map_err(|_| unsound("a record does not decode"))?;
    let kind = i32::try_from(record.kind).ok().and_then(|kind| Kind::try_from(kind).ok());
    let kind = kind.ok_or_else(|| unsound("a record of an unknown type"))?;
    let data = record.data.unwrap_or_default();
    let expected = match kind {
        Kind::Crc => crc.unwrap_or(record.crc),
        _ => crc32c_append(crc.unwrap_or(0), &data),
    };
    if record.crc != expected {
        return Err(unsound("the checksum of a record does not match"));
    }
    Ok(Parsed::Record { kind, data, crc: record.crc, end })
}

fn torn(reason: &'static str) -> Unsound {
    Unsound { reason, torn: true }
}

/// Whether a sector's part of `bytes`, which stand at `offset` of their file, is all zeroes.
fn has_unwritten_sector(bytes: &[u8], offset: usize) -> bool {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
    let (first, rest) = bytes.split_at(first);
    let unwritten = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte == 0);
    unwritten(first) || rest.chunks(SECTOR_BYTES).any(unwritten)
}
