//! The files of etcd's Raft log, `member/wal` and `member/snap`: read as etcd reads them, and written so that etcd and
//! its tools read them.
//!
//! ```text
//!   file    %016x-%016x.wal: its number, and the index of its first entry
//!   file    crc | metadata | snapshot, in the first | state, in the others | entry, state, snapshot ...  | zeroes
//!   frame   length 7 bytes | 0x80 + padding | record | padding to 8
//!   record  type | CRC-32C of the data of all records so far, over the borders of files | data
//! ```
//!
//! - [`record`]: the messages in records
//! - [`frame`]: records as bytes, pure
//! - [`reader`]: a directory of files, as of its last record
//! - [`writer`]: appending, file after file
//! - [`snap`]: the small files that say up to where in the log a snapshot of the database reaches

mod frame;
pub mod reader;
pub mod record;
pub mod snap;
mod writer;

pub use reader::{Log, read};
pub use record::{ConfChange, ConfState, Entry, HardState, Metadata, Snapshot};
pub use writer::Writer;

/// The length of a file before the next one is begun.
pub const FILE_BYTES: u64 = 64_000_000;

fn file_name(sequence: u64, index: u64) -> String {
    format!("{sequence:016x}-{index:016x}.wal")
}

fn parse_file_name(name: &str) -> Option<(u64, u64)> {
    let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u64::from_str_radix(digits, 16).ok().filter(|_| plain)
    };
    Some((number(sequence)?, number(index)?))
}

#[cfg(test)]
mod tests;
