//! Reading a bbolt file that something else wrote. No bytes make it panic, loop, or hold more than a path through the
//! tree in memory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::page::{self, BRANCH, BUCKET_HEAD_BYTES, LEAF, META, META_BYTES, METAS, Meta, PAGE_HEAD_BYTES, PageHead};
use crate::disk::Error;
use crate::world::disk::Open;
use crate::world::{Disk, File};

/// Levels of a tree. One of 4 KiB pages with two keys each and 64 levels would not fit on any disk.
const DEPTH_MAX: usize = 64;
/// Bytes of a page with all that overflows.
const PAGE_WITH_OVERFLOW_BYTES_MAX: u64 = 1 << 30;

/// A bbolt file, as of its last transaction.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    bytes: u64,
    meta: Meta,
}

/// Gets keys and values in order. An error ends the visit.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Error>;

/// A page with all that overflows, and where it stands in the file.
struct Page {
    head: PageHead,
    offset: u64,
    bytes: Vec<u8>,
}

/// What a walk through one tree has seen.
struct Walk {
    /// Pages that may yet be visited: more than there are means that one is in two places.
    pages_left: u64,
    last: Option<Vec<u8>>,
}

impl Reader {
    /// Opens a file. It must not change while it is read.
    pub fn open(disk: &Disk, path: &Path) -> Result<Reader, Error> {
        let file = disk.open(path, Open::Read).map_err(|error| Error::io(path, error))?;
        let bytes = file.len().map_err(|error| Error::io(path, error))?;
        let Some(meta) = find_meta(&file, path)? else {
            return Err(Error::corrupt(path, 0, "neither of the two meta pages of a bbolt file is sound"));
        };
        Ok(Reader { file, path: path.to_owned(), bytes, meta })
    }

    /// The transaction that wrote the file last.
    pub fn transaction(&self) -> u64 {
        self.meta.transaction
    }

    /// The bytes of the file's pages; what follows is not part of it.
    pub fn pages_bytes(&self) -> u64 {
        self.meta.pages.saturating_mul(u64::from(self.meta.page_bytes))
    }

    /// The names of the buckets, in order.
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut names = Vec::new();
        self.roots(&mut |name, _, _| {
            names.push(name.to_vec());
            Ok(())
        })?;
        Ok(names)
    }

    /// Visits what is in a bucket, in order of the keys; `false` when there is no such bucket.
    pub fn scan(&self, bucket: &[u8], visit: Visit<'_>) -> Result<bool, Error> {
        let mut found = None;
        self.roots(&mut |name, head, offset| {
            if name == bucket {
                found = Some((head.to_vec(), offset));
            }
            Ok(())
        })?;
        let Some((head, offset)) = found else { return Ok(false) };
        let root = page::u64_at(&head, 0).ok_or_else(|| self.corrupt(offset, "a bucket without a head"))?;
        let mut walk = self.walk();
        let mut plain = |leaf: page::Leaf<'_>, offset: u64| match leaf.is_bucket {
            false => visit(leaf.key, leaf.value),
            true => Err(self.corrupt(offset, "a bucket within a bucket")),
        };
        if root == 0 {
            let inline = self.inline(&head[BUCKET_HEAD_BYTES.min(head.len())..], offset)?;
            self.leaves(&inline, &mut walk, &mut plain)?;
        } else {
            self.descend(root, DEPTH_MAX, None, &mut walk, &mut plain)?;
        }
        Ok(true)
    }

    /// Visits the buckets: name, value, and where the page that holds it lies.
    fn roots(&self, visit: &mut dyn FnMut(&[u8], &[u8], u64) -> Result<(), Error>) -> Result<(), Error> {
        let mut walk = self.walk();
        self.descend(self.meta.root, DEPTH_MAX, None, &mut walk, &mut |leaf, offset| match leaf.is_bucket {
            true => visit(leaf.key, leaf.value, offset),
            false => Err(self.corrupt(offset, "a key outside of every bucket")),
        })
    }

    fn walk(&self) -> Walk {
        Walk { pages_left: self.meta.pages, last: None }
    }

    /// Visits the leaves below page `id`, whose keys are not before `from`.
    fn descend(
        &self,
        id: u64,
        depth_left: usize,
        from: Option<&[u8]>,
        walk: &mut Walk,
        visit: &mut dyn FnMut(page::Leaf<'_>, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let page = self.page(id)?;
        if depth_left == 0 || walk.pages_left == 0 {
            return Err(self.corrupt(page.offset, "the pages are no tree"));
        }
        walk.pages_left -= 1;
        match page.head.flags & (BRANCH | LEAF) {
            LEAF => self.leaves_from(&page, from, walk, visit),
            BRANCH => self.branches(&page, depth_left, walk, visit),
            flags => Err(self.corrupt(page.offset, format!("neither branch nor leaf: flags {flags:#x}"))),
        }
    }

    fn branches(
        &self,
        page: &Page,
        depth_left: usize,
        walk: &mut Walk,
        visit: &mut dyn FnMut(page::Leaf<'_>, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for number in 0..usize::from(page.head.count) {
            let branch = page::branch(&page.bytes, number).ok_or_else(|| self.outside(page, number))?;
            if walk.last.as_deref().is_some_and(|last| last >= branch.key) {
                return Err(self.corrupt(page.offset, format!("element {number} is out of order")));
            }
            self.descend(branch.page, depth_left - 1, Some(branch.key), walk, visit)?;
        }
        Ok(())
    }

    fn leaves_from(
        &self,
        page: &Page,
        from: Option<&[u8]>,
        walk: &mut Walk,
        visit: &mut dyn FnMut(page::Leaf<'_>, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let (Some(from), Some(first)) = (from, page::leaf(&page.bytes, 0).filter(|_| page.head.count > 0))
            && first.key < from
        {
            return Err(self.corrupt(page.offset, "the first key is before that of the branch"));
        }
        self.leaves(page, walk, visit)
    }

    fn leaves(
        &self,
        page: &Page,
        walk: &mut Walk,
        visit: &mut dyn FnMut(page::Leaf<'_>, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for number in 0..usize::from(page.head.count) {
            let leaf = page::leaf(&page.bytes, number).ok_or_else(|| self.outside(page, number))?;
            if walk.last.as_deref().is_some_and(|last| last >= leaf.key) {
                return Err(self.corrupt(page.offset, format!("element {number} is out of order")));
            }
            let last = walk.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(leaf.key);
            visit(leaf, page.offset)?;
        }
        Ok(())
    }

    fn page(&self, id: u64) -> Result<Page, Error> {
        let page_bytes = u64::from(self.meta.page_bytes);
        let offset = id.saturating_mul(page_bytes);
        if !(METAS..self.meta.pages).contains(&id) {
            return Err(self.corrupt(offset, format!("page {id} of {}", self.meta.pages)));
        }
        let mut bytes = vec![0; page_bytes as usize];
        self.read(&mut bytes, offset)?;
        let head = PageHead::decode(&bytes).expect("a page holds its head");
        if head.id != id {
            return Err(self.corrupt(offset, format!("page {id} says it is page {}", head.id)));
        }
        let whole = (u64::from(head.overflow) + 1) * page_bytes;
        if whole > PAGE_WITH_OVERFLOW_BYTES_MAX || offset.saturating_add(whole) > self.bytes {
            return Err(self.corrupt(offset, format!("page {id} claims {} more", head.overflow)));
        }
        bytes.resize(whole as usize, 0);
        self.read(&mut bytes[page_bytes as usize..], offset + page_bytes)?;
        Ok(Page { head, offset, bytes })
    }

    /// The page that a small bucket is.
    fn inline(&self, bytes: &[u8], offset: u64) -> Result<Page, Error> {
        match PageHead::decode(bytes).filter(|head| head.flags & LEAF != 0) {
            Some(head) => Ok(Page { head, offset, bytes: bytes.to_vec() }),
            None => Err(self.corrupt(offset, "a bucket that is no page")),
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.corrupt(offset, "the file ends before it should"),
            _ => Error::io(&self.path, error),
        })
    }

    fn outside(&self, page: &Page, number: usize) -> Error {
        self.corrupt(page.offset, format!("element {number} lies outside of its page"))
    }

    fn corrupt(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::corrupt(&self.path, offset, reason)
    }
}

/// The meta of the last transaction. The offset of the second one is the page size, which only the first one says. If
/// that one is damaged, all sizes are tried.
fn find_meta(file: &File, path: &Path) -> Result<Option<Meta>, Error> {
    let first = meta_at(file, path, 0)?;
    let sizes = match &first {
        Some(meta) => vec![meta.page_bytes],
        None => (page::PAGE_BYTES_MIN.ilog2()..=page::PAGE_BYTES_MAX.ilog2()).map(|bits| 1 << bits).collect(),
    };
    for size in sizes {
        let second = meta_at(file, path, u64::from(size))?.filter(|second| second.page_bytes == size);
        if let Some(second) = second {
            return Ok(Some(first.filter(|first| first.transaction > second.transaction).unwrap_or(second)));
        }
    }
    Ok(first)
}

fn meta_at(file: &File, path: &Path, offset: u64) -> Result<Option<Meta>, Error> {
    let mut bytes = [0; PAGE_HEAD_BYTES + META_BYTES];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(Error::io(path, error)),
    }
    let is_meta = PageHead::decode(&bytes).is_some_and(|head| head.flags & META != 0);
    Ok(Meta::decode(&bytes[PAGE_HEAD_BYTES..]).filter(|_| is_meta))
}
