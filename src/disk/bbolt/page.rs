//! The layout of pages. Pure: bytes in, elements out, and the other way round.
//!
//! ```text
//!   page      id 8 | flags 2 | count 2 | overflow 4 | element ... | content
//!   branch    position 4 | key bytes 4 | page 8
//!   leaf      flags 4 | position 4 | key bytes 4 | value bytes 4
//!   meta      magic 4 | version 4 | page bytes 4 | flags 4 | root 8 | sequence 8 | free list 8 | pages 8
//!             transaction 8 | checksum 8
//!   bucket    root 8 | sequence 8 | page, where root is zero
//! ```
//!
//! A position counts from the element that holds it. `overflow` pages follow a page and belong to it.

pub const PAGE_HEAD_BYTES: usize = 16;
pub const ELEMENT_BYTES: usize = 16;
pub const BUCKET_HEAD_BYTES: usize = 16;
pub const META_BYTES: usize = 64;

pub const BRANCH: u16 = 0x01;
pub const LEAF: u16 = 0x02;
pub const META: u16 = 0x04;
pub const FREE_LIST: u16 = 0x10;

/// The flag of a leaf's element whose value is a bucket.
pub const IS_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;

/// Pages of these sizes are known; the format asks only for a power of two.
pub const PAGE_BYTES_MIN: u32 = 1 << 9;
pub const PAGE_BYTES_MAX: u32 = 1 << 16;

/// The first pages of every file: two metas.
pub const METAS: u64 = 2;

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The head of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHead {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    pub overflow: u32,
}

impl PageHead {
    pub fn decode(bytes: &[u8]) -> Option<PageHead> {
        let (id, overflow) = (u64_at(bytes, 0)?, u32_at(bytes, 12)?);
        Some(PageHead { id, flags: u16_at(bytes, 8)?, count: u16_at(bytes, 10)?, overflow })
    }

    pub fn encode(self) -> [u8; PAGE_HEAD_BYTES] {
        let mut head = [0; PAGE_HEAD_BYTES];
        head[..8].copy_from_slice(&self.id.to_le_bytes());
        head[8..10].copy_from_slice(&self.flags.to_le_bytes());
        head[10..12].copy_from_slice(&self.count.to_le_bytes());
        head[12..].copy_from_slice(&self.overflow.to_le_bytes());
        head
    }
}

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_bytes: u32,
    pub root: u64,
    pub sequence: u64,
    pub free_list: u64,
    /// Pages from this one on are not in use.
    pub pages: u64,
    pub transaction: u64,
}

impl Meta {
    /// The meta that stands behind the head of a meta page, if its checksum matches and this program knows its version.
    pub fn decode(bytes: &[u8]) -> Option<Meta> {
        let known = u32_at(bytes, 0)? == MAGIC && u32_at(bytes, 4)? == VERSION;
        if !known || u64_at(bytes, 56)? != checksum(&bytes[..56]) {
            return None;
        }
        let page_bytes = u32_at(bytes, 8)?;
        let sound = page_bytes.is_power_of_two() && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes);
        sound.then_some(Meta {
            page_bytes,
            root: u64_at(bytes, 16)?,
            sequence: u64_at(bytes, 24)?,
            free_list: u64_at(bytes, 32)?,
            pages: u64_at(bytes, 40)?,
            transaction: u64_at(bytes, 48)?,
        })
    }

    pub fn encode(self) -> [u8; META_BYTES] {
        let mut meta = [0; META_BYTES];
        meta[..4].copy_from_slice(&MAGIC.to_le_bytes());
        meta[4..8].copy_from_slice(&VERSION.to_le_bytes());
        meta[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        for (i, field) in
            [self.root, self.sequence, self.free_list, self.pages, self.transaction].into_iter().enumerate()
        {
            meta[16 + 8 * i..24 + 8 * i].copy_from_slice(&field.to_le_bytes());
        }
        let sum = checksum(&meta[..56]);
        meta[56..].copy_from_slice(&sum.to_le_bytes());
        meta
    }
}

/// FNV-1a of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One element of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch<'a> {
    pub key: &'a [u8],
    pub page: u64,
}

/// One element of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub is_bucket: bool,
}

/// Element `number` of a branch page whose bytes, with those that overflow, are `page`.
pub fn branch(page: &[u8], number: usize) -> Option<Branch<'_>> {
    let at = element_at(number);
    let (key, _) = content(page, at, u32_at(page, at)?, u32_at(page, at + 4)?, 0)?;
    Some(Branch { key, page: u64_at(page, at + 8)? })
}

/// Element `number` of a leaf page.
pub fn leaf(page: &[u8], number: usize) -> Option<Leaf<'_>> {
    let at = element_at(number);
    let (key, value) = content(page, at, u32_at(page, at + 4)?, u32_at(page, at + 8)?, u32_at(page, at + 12)?)?;
    Some(Leaf { key, value, is_bucket: u32_at(page, at)? & IS_BUCKET != 0 })
}

fn element_at(number: usize) -> usize {
    PAGE_HEAD_BYTES + number * ELEMENT_BYTES
}

fn content(page: &[u8], at: usize, position: u32, key_bytes: u32, value_bytes: u32) -> Option<(&[u8], &[u8])> {
    let start = at.checked_add(position as usize)?;
    let middle = start.checked_add(key_bytes as usize)?;
    let end = middle.checked_add(value_bytes as usize)?;
    Some((page.get(start..middle)?, page.get(middle..end)?))
}

/// The head of a bucket, as a leaf's value: its root page and its sequence.
pub fn bucket_head(root: u64, sequence: u64) -> [u8; BUCKET_HEAD_BYTES] {
    let mut head = [0; BUCKET_HEAD_BYTES];
    head[..8].copy_from_slice(&root.to_le_bytes());
    head[8..].copy_from_slice(&sequence.to_le_bytes());
    head
}
