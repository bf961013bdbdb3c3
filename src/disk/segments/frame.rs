//! The layout of a data segment. Pure: bytes in, frames out. All numbers are little-endian.
//!
//! ```text
//!   segment   magic 8 | version 4 | id 4 | salt 8 | zero 4 | crc 4 | frame ... | seal
//!   frame     magic 4 | crc 4 | frame bytes 4 | head bytes 4 | head crc 4 | records 4 | synced segment 4, offset 4
//!             head | record ...
//!   record    bytes 4 | crc 4 | content
//! ```
//!
//! Every CRC starts from the segment's seed and the place in the file, so that bytes that were written elsewhere, or in
//! an earlier life, never pass. `synced` is how far the segments were durable when the frame was written: damage before
//! that point is a failure of the medium, damage after it is the torn end of a crash.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::location::{Point, RecordLocation, SegmentId};
use crate::world::planted::planted;

pub const SEGMENT_HEAD_BYTES: u32 = 32;
const SEGMENT_MAGIC: [u8; 8] = *b"chorusDS";
const VERSION: u32 = 1;

const FRAME_MAGIC: [u8; 4] = *b"\xf5DSf";
const SEAL_MAGIC: [u8; 4] = *b"\xf5DSs";
const FRAME_HEAD_BYTES: usize = 32;
pub const RECORD_HEAD_BYTES: usize = 8;

/// What one `append` wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub at: Point,
    pub end: Point,
    pub head: Bytes,
    pub records: Vec<Record>,
}

/// A record and its location. The bytes share the memory of their whole segment: copy what is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub location: RecordLocation,
    pub bytes: Bytes,
}

/// The head of a segment file; `salt` differs between any two files.
pub fn segment_head(id: SegmentId, salt: u64) -> [u8; SEGMENT_HEAD_BYTES as usize] {
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    head[..8].copy_from_slice(&SEGMENT_MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..16].copy_from_slice(&id.0.to_le_bytes());
    head[16..24].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c(&head[..28]);
    head[28..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Where every CRC of a segment starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    pub fn of(head: &[u8; SEGMENT_HEAD_BYTES as usize]) -> Seed {
        Seed(crc32c(&head[..28]))
    }

    fn at(self, offset: usize) -> u32 {
        crc32c_append(self.0, &(offset as u64).to_le_bytes())
    }
}

/// Reads the head of the file of segment `id`; the error is a reason.
pub fn read_segment_head(head: &[u8; SEGMENT_HEAD_BYTES as usize], id: SegmentId) -> Result<Seed, String> {
    let number = |at: usize| u32_at(head, at);
    if head[..8] != SEGMENT_MAGIC || number(28) != crc32c(&head[..28]) {
        return Err("not the head of a data segment".to_owned());
    }
    if number(8) != VERSION {
        return Err(format!("data segment of format {}, this program knows {VERSION}", number(8)));
    }
    if number(12) != id.0 {
        return Err(format!("the head says segment {:08x}", number(12)));
    }
    Ok(Seed::of(head))
}

/// Lays out a frame for `offset`, and says where in the file each record begins.
pub fn encode(seed: Seed, offset: u32, synced: Point, head: &[u8], records: &[&[u8]]) -> (Vec<u8>, Vec<u32>) {
    let content: usize = records.iter().map(|record| RECORD_HEAD_BYTES + record.len()).sum();
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + head.len() + content);
    frame.resize(FRAME_HEAD_BYTES, 0);
    frame.extend_from_slice(head);
    let base = offset as usize;
    let mut offsets = Vec::with_capacity(records.len());
    for record in records {
        let at = base + frame.len();
        offsets.push(at as u32);
        let length = (record.len() as u32).to_le_bytes();
        frame.extend_from_slice(&length);
        frame.extend_from_slice(&record_crc(seed, at, &length, record).to_le_bytes());
        frame.extend_from_slice(record);
    }
    let head_crc = crc32c_append(seed.at(base + FRAME_HEAD_BYTES), head);
    fill_head(&mut frame, FRAME_MAGIC, seed, base, [head.len() as u32, head_crc, records.len() as u32], synced);
    (frame, offsets)
}

/// The last frame of a segment that takes no more.
pub fn encode_seal(seed: Seed, offset: u32, synced: Point) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEAD_BYTES];
    fill_head(&mut frame, SEAL_MAGIC, seed, offset as usize, [0, 0, 0], synced);
    frame
}

/// The bytes that a frame takes in the file.
pub fn frame_bytes(head: &[u8], records: &[&[u8]]) -> u64 {
    let content: usize = records.iter().map(|record| RECORD_HEAD_BYTES + record.len()).sum();
    (FRAME_HEAD_BYTES + head.len() + content) as u64
}

fn fill_head(frame: &mut [u8], magic: [u8; 4], seed: Seed, base: usize, middle: [u32; 3], synced: Point) {
    let length = frame.len() as u32;
    frame[..4].copy_from_slice(&magic);
    let [head_bytes, head_crc, records] = middle;
    let fields = [length, head_bytes, head_crc, records, synced.segment.0, synced.offset];
    for (i, field) in fields.into_iter().enumerate() {
        frame[8 + 4 * i..12 + 4 * i].copy_from_slice(&field.to_le_bytes());
    }
    let crc = fixed_crc(seed, base, frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn fixed_crc(seed: Seed, base: usize, frame: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed.at(base), &frame[..4]), &frame[8..FRAME_HEAD_BYTES])
}

fn record_crc(seed: Seed, at: usize, length: &[u8], content: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed.at(at), length), content)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// What stands at an offset.
#[derive(Debug)]
pub enum Parsed {
    /// A frame, and how far the segments were durable when it was written.
    Frame(Frame, Point),
    /// The end of a segment that takes no more.
    Seal(Point),
    /// The end of the bytes.
    End,
}

/// The fixed part of a frame, verified.
#[derive(Clone, Copy, Debug)]
struct FixedHead {
    sealed: bool,
    length: usize,
    head_bytes: usize,
    head_crc: u32,
    records: u32,
    synced: Point,
}

fn fixed_head(bytes: &[u8], seed: Seed, offset: usize) -> Option<FixedHead> {
    let fixed = bytes.get(offset..offset + FRAME_HEAD_BYTES)?;
    let sealed = fixed[..4] == SEAL_MAGIC;
    if !(sealed || fixed[..4] == FRAME_MAGIC) || u32_at(fixed, 4) != fixed_crc(seed, offset, fixed) {
        return None;
    }
    Some(FixedHead {
        sealed,
        length: u32_at(fixed, 8) as usize,
        head_bytes: u32_at(fixed, 12) as usize,
        head_crc: u32_at(fixed, 16),
        records: u32_at(fixed, 20),
        synced: Point { segment: SegmentId(u32_at(fixed, 24)), offset: u32_at(fixed, 28) },
    })
}

/// Reads what stands at `offset` of a segment whose whole content is `bytes`; the error is a reason.
pub fn parse(bytes: &Bytes, segment: SegmentId, seed: Seed, offset: u32) -> Result<Parsed, &'static str> {
    let base = offset as usize;
    if base == bytes.len() {
        return Ok(Parsed::End);
    }
    let fixed = fixed_head(bytes, seed, base).ok_or("no frame begins here")?;
    if fixed.sealed {
        return Ok(Parsed::Seal(fixed.synced));
    }
    let frame = bytes.get(base..base + fixed.length).ok_or("the frame is longer than the file")?;
    let head = FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + fixed.head_bytes;
    let content = frame.get(head.clone()).ok_or("the frame's head is longer than the frame")?;
    if crc32c_append(seed.at(base + FRAME_HEAD_BYTES), content) != fixed.head_crc {
        return Err("the checksum of the frame's head does not match");
    }
    let head = bytes.slice(base + head.start..base + head.end);
    let records = parse_records(bytes, segment, seed, base + FRAME_HEAD_BYTES + fixed.head_bytes, &fixed, base)?;
    let end = Point { segment, offset: (base + fixed.length) as u32 };
    Ok(Parsed::Frame(Frame { at: Point { segment, offset }, end, head, records }, fixed.synced))
}

fn parse_records(
    bytes: &Bytes,
    segment: SegmentId,
    seed: Seed,
    mut at: usize,
    fixed: &FixedHead,
    base: usize,
) -> Result<Vec<Record>, &'static str> {
    let end = base + fixed.length;
    let mut records = Vec::new();
    for _ in 0..fixed.records {
        if at + RECORD_HEAD_BYTES > end {
            return Err("the frame is shorter than its records");
        }
        let length = u32_at(bytes, at);
        let content = at + RECORD_HEAD_BYTES;
        if content + length as usize > end {
            return Err("a record is longer than its frame");
        }
        let slice = bytes.slice(content..content + length as usize);
        check_record(seed, at as u32, &bytes[at..content], &slice)?;
        records.push(Record { location: RecordLocation { segment, offset: at as u32, length }, bytes: slice });
        at = content + length as usize;
    }
    if at == end { Ok(records) } else { Err("the frame is longer than its records") }
}

/// Verifies one record that was read from `offset`.
pub fn check_record(seed: Seed, offset: u32, head: &[u8], content: &[u8]) -> Result<(), &'static str> {
    if u32_at(head, 0) as usize != content.len() {
        return Err("the record has another length");
    }
    if u32_at(head, 4) != record_crc(seed, offset as usize, &head[..4], content) && !planted!("skip-checksum") {
        return Err("the checksum of the record does not match");
    }
    Ok(())
}

/// The furthest durable point that any frame at or after `from` knows of, wherever such a frame begins.
pub fn synced_after(bytes: &[u8], seed: Seed, from: u32) -> Option<Point> {
    let candidates = memchr_magic(bytes, from as usize);
    candidates.filter_map(|at| fixed_head(bytes, seed, at)).map(|fixed| fixed.synced).max()
}

fn memchr_magic(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> + '_ {
    let last = bytes.len().saturating_sub(FRAME_HEAD_BYTES - 1);
    (from..last.max(from)).filter(|&at| bytes[at] == FRAME_MAGIC[0])
}
