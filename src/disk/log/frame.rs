//! The layout of a log segment. Pure: bytes in, frames out. All numbers are little-endian, all frames aligned to 8.
//!
//! ```text
//!   segment   magic 8 | version 4 | chain 4 | id 8 | salt 8 | zero 4 | crc 4 | frame ...
//!   frame     payload bytes 4 | crc 4 | payload crc 4 | chain 4 | term 8 | index 8 | kind 1 | flags 1 | zero 6
//!             payload | zeroes to 8
//! ```
//!
//! Every CRC starts from the segment's seed, which its salt makes different from that of any file before, so that what
//! an earlier life left in a recycled file never passes. `chain` is the CRC of the frame before, over the border of
//! segments too: no frame can be missing, or come back after it was cut off. The flag `synced` of a frame says that
//! everything before it was durable when it was written: damage before such a frame is a failure of the medium, damage
//! after the last one is the torn end of a crash.

use crc32c::{crc32c, crc32c_append};

use crate::disk::Position;
use crate::world::planted::planted;

pub const SEGMENT_HEAD_BYTES: u64 = 40;
pub const FRAME_HEAD_BYTES: usize = 40;
const MAGIC: [u8; 8] = *b"chorusWL";
const VERSION: u32 = 1;
const SYNCED: u8 = 1;

/// The largest payload of one frame.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    /// Entries after `index` are gone.
    Truncate = 4,
    /// Entries up to the position are gone.
    Purge = 5,
    /// The log was closed in good order.
    Closed = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        let all = [Kind::Entry, Kind::Vote, Kind::Committed, Kind::Truncate, Kind::Purge, Kind::Closed];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame to be written or as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub at: Position,
    pub payload: &'a [u8],
}

/// The head of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    pub id: u64,
    pub salt: u64,
    /// The chain at the end of the segment before.
    pub chain: u32,
}

impl SegmentHead {
    pub fn encode(self) -> [u8; SEGMENT_HEAD_BYTES as usize] {
        let mut head = [0; SEGMENT_HEAD_BYTES as usize];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&self.chain.to_le_bytes());
        head[16..24].copy_from_slice(&self.id.to_le_bytes());
        head[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c(&head[..36]);
        head[36..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// The error is a reason.
    pub fn decode(head: &[u8; SEGMENT_HEAD_BYTES as usize]) -> Result<SegmentHead, String> {
        if head[..8] != MAGIC || u32_at(head, 36) != crc32c(&head[..36]) {
            return Err("not the head of a log segment".to_owned());
        }
        if u32_at(head, 8) != VERSION {
            return Err(format!("log segment of format {}, this program knows {VERSION}", u32_at(head, 8)));
        }
        Ok(SegmentHead { id: u64_at(head, 16), salt: u64_at(head, 24), chain: u32_at(head, 12) })
    }

    pub fn seed(self) -> Seed {
        Seed(crc32c(&self.encode()[..36]))
    }
}

/// Where every CRC of a segment starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    fn head_crc(self, offset: u64, head: &[u8]) -> u32 {
        let located = crc32c_append(self.0, &offset.to_le_bytes());
        crc32c_append(crc32c_append(located, &head[..4]), &head[8..FRAME_HEAD_BYTES])
    }

    fn payload_crc(self, payload: &[u8]) -> u32 {
        crc32c_append(self.0, payload)
    }
}

/// The bytes that a frame takes in the file.
pub fn frame_bytes(payload: usize) -> usize {
    FRAME_HEAD_BYTES + payload.next_multiple_of(8)
}

/// Appends a frame that will stand at `offset` to `buffer`, and returns the chain after it.
pub fn encode(buffer: &mut Vec<u8>, seed: Seed, chain: u32, offset: u64, frame: Frame<'_>, synced: bool) -> u32 {
    let mut head = [0; FRAME_HEAD_BYTES];
    head[..4].copy_from_slice(&(frame.payload.len() as u32).to_le_bytes());
    head[8..12].copy_from_slice(&seed.payload_crc(frame.payload).to_le_bytes());
    head[12..16].copy_from_slice(&chain.to_le_bytes());
    head[16..24].copy_from_slice(&frame.at.term.to_le_bytes());
    head[24..32].copy_from_slice(&frame.at.index.to_le_bytes());
    head[32] = frame.kind as u8;
    head[33] = if synced { SYNCED } else { 0 };
    let crc = seed.head_crc(offset, &head);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    let end = buffer.len() + frame_bytes(frame.payload.len());
    buffer.extend_from_slice(&head);
    buffer.extend_from_slice(frame.payload);
    buffer.resize(end, 0);
    crc
}

/// The fixed part of a frame, verified.
struct FrameHead {
    kind: Kind,
    at: Position,
    payload_bytes: usize,
    payload_crc: u32,
    chain: u32,
    synced: bool,
    crc: u32,
}

fn frame_head(head: &[u8], seed: Seed, offset: u64) -> Option<FrameHead> {
    let kind = Kind::of(head[32])?;
    let crc = u32_at(head, 4);
    if head[33] > SYNCED || head[34..40] != [0; 6] || crc != seed.head_crc(offset, head) {
        return None;
    }
    Some(FrameHead {
        kind,
        at: Position { term: u64_at(head, 16), index: u64_at(head, 24) },
        payload_bytes: u32_at(head, 0) as usize,
        payload_crc: u32_at(head, 8),
        chain: u32_at(head, 12),
        synced: head[33] == SYNCED,
        crc,
    })
}

/// A frame with what the next one needs.
#[derive(Debug)]
pub struct Parsed<'a> {
    pub frame: Frame<'a>,
    pub chain: u32,
    pub end: u64,
}

/// Reads the frame at `offset` of a segment whose whole content is `bytes`; the error is a reason.
pub fn parse(bytes: &[u8], seed: Seed, chain: u32, offset: u64) -> Result<Parsed<'_>, &'static str> {
    let parsed = parse_one(bytes.get(offset as usize..).unwrap_or_default(), seed, offset)?;
    if parsed.0 != chain {
        return Err("the frame does not follow the one before");
    }
    Ok(parsed.1)
}

/// Reads a single frame that was written at `offset` and is all of `bytes`, or their beginning; also says on which
/// chain it stands.
pub fn parse_one(bytes: &[u8], seed: Seed, offset: u64) -> Result<(u32, Parsed<'_>), &'static str> {
    let head = bytes.get(..FRAME_HEAD_BYTES).ok_or("no frame begins here")?;
    let head = frame_head(head, seed, offset).ok_or("no frame begins here")?;
    let content = FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + head.payload_bytes;
    let payload = bytes.get(content).ok_or("the frame is longer than the file")?;
    if seed.payload_crc(payload) != head.payload_crc && !planted!("torn-frame") {
        return Err("the checksum of the payload does not match");
    }
    let frame = Frame { kind: head.kind, at: head.at, payload };
    let end = offset + frame_bytes(payload.len()) as u64;
    Ok((head.chain, Parsed { frame, chain: head.crc, end }))
}

/// What stands after the end of a segment's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// There is a frame that was written when everything before it was durable.
    pub synced: bool,
    /// Where the last remaining frame head ends: nothing from here on could ever pass for a frame.
    pub end: u64,
}

/// Looks for remains of frames from `offset` on, where no frame verifies.
pub fn remains(bytes: &[u8], seed: Seed, offset: u64) -> Remains {
    let mut remains = Remains { synced: false, end: offset };
    let last = bytes.len().saturating_sub(FRAME_HEAD_BYTES - 1) as u64;
    for at in (offset..last.max(offset)).step_by(8) {
        let head = &bytes[at as usize..at as usize + FRAME_HEAD_BYTES];
        if let Some(found) = frame_head(head, seed, at) {
            remains.synced |= found.synced && at > offset;
            remains.end = at + FRAME_HEAD_BYTES as u64;
        }
    }
    remains
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
