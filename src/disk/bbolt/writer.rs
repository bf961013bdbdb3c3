//! Writing a bbolt file from sorted keys, bucket after bucket, as a stream: pages are full and go to the file as they
//! fill up. The same content always makes the same bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::page::{
    BRANCH, ELEMENT_BYTES, FREE_LIST, IS_BUCKET, LEAF, META, METAS, Meta, PAGE_HEAD_BYTES, PageHead, bucket_head,
};
use crate::disk::Error;
use crate::world::disk::Open;
use crate::world::{Disk, File};

const PAGE_BYTES: usize = 4096;
/// Where the list of free pages stands; there are none.
const FREE_LIST_PAGE: u64 = METAS;
const FIRST_PAGE: u64 = FREE_LIST_PAGE + 1;
/// A write that has gathered this much goes to the file.
const WRITE_BYTES: usize = 1 << 20;

/// Writes one file.
#[derive(Debug)]
pub struct Writer {
    pages: Pages,
    transaction: u64,
    roots: BTreeMap<Vec<u8>, u64>,
    open: Option<(Vec<u8>, Tree)>,
}

impl Writer {
    /// Begins a file that must not exist yet. `transaction` numbers the one transaction that the file seems to be
    /// the result of; it is at least 1.
    pub fn create(disk: &Disk, path: &Path, transaction: u64) -> Result<Writer, Error> {
        let file = disk.open(path, Open::CreateNew).map_err(|error| Error::io(path, error))?;
        let pages = Pages { file, path: path.to_owned(), next: FIRST_PAGE, buffer: Vec::new() };
        Ok(Writer { pages, transaction: transaction.max(1), roots: BTreeMap::new(), open: None })
    }

    /// Begins a bucket, which gets all keys from now on. Each bucket once.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        self.end_bucket()?;
        assert!(!self.roots.contains_key(name), "a bucket is written in one go");
        self.open = Some((name.to_vec(), Tree::new(0)));
        Ok(())
    }

    /// Puts a key into the bucket that was begun last. Keys come in ascending order.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let (_, tree) = self.open.as_mut().expect("a key is put into a bucket");
        tree.put(&mut self.pages, key, value)
    }

    /// Completes the file and returns its length. The file is durable, its name is not yet.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.end_bucket()?;
        let mut tree = Tree::new(IS_BUCKET);
        for (name, root) in std::mem::take(&mut self.roots) {
            tree.put(&mut self.pages, &name, &bucket_head(root, 0))?;
        }
        let root = tree.finish(&mut self.pages)?;
        self.pages.flush()?;
        let head = self.heads(root);
        self.pages.finish(&head)
    }

    fn end_bucket(&mut self) -> Result<(), Error> {
        if let Some((name, tree)) = self.open.take() {
            self.roots.insert(name, tree.finish(&mut self.pages)?);
        }
        Ok(())
    }

    /// The pages before the first of any bucket.
    fn heads(&self, root: u64) -> Vec<u8> {
        let mut heads = vec![0; FIRST_PAGE as usize * PAGE_BYTES];
        for id in 0..METAS {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root,
                sequence: 0,
                free_list: FREE_LIST_PAGE,
                pages: self.pages.next,
                // A transaction writes the meta that its number names; the other one is that of the transaction before.
                transaction: self.transaction - u64::from(id != self.transaction % METAS),
            };
            put_page(&mut heads, PageHead { id, flags: META, count: 0, overflow: 0 }, &meta.encode());
        }
        put_page(&mut heads, PageHead { id: FREE_LIST_PAGE, flags: FREE_LIST, count: 0, overflow: 0 }, &[]);
        heads
    }
}

fn put_page(heads: &mut [u8], head: PageHead, content: &[u8]) {
    let at = head.id as usize * PAGE_BYTES;
    heads[at..at + PAGE_HEAD_BYTES].copy_from_slice(&head.encode());
    heads[at + PAGE_HEAD_BYTES..at + PAGE_HEAD_BYTES + content.len()].copy_from_slice(content);
}

/// The pages of the file, in order.
#[derive(Debug)]
struct Pages {
    file: File,
    path: PathBuf,
    next: u64,
    /// The bytes before page `next` that are not in the file yet.
    buffer: Vec<u8>,
}

impl Pages {
    /// Adds a page and returns its number.
    fn add(&mut self, flags: u16, nodes: &Nodes) -> Result<u64, Error> {
        let id = self.next;
        let pages = nodes.bytes().div_ceil(PAGE_BYTES);
        let overflow = u32::try_from(pages - 1).map_err(|_| self.too_large())?;
        let count = u16::try_from(nodes.count).expect("a page of 4 KiB holds few elements");
        self.buffer.extend_from_slice(&PageHead { id, flags, count, overflow }.encode());
        nodes.encode(&mut self.buffer);
        self.next += pages as u64;
        self.buffer.resize(self.buffer.len().next_multiple_of(PAGE_BYTES), 0);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(id)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let end = self.next * PAGE_BYTES as u64;
        let at = end - self.buffer.len() as u64;
        self.file.write_all_at(&self.buffer, at).map_err(|error| Error::io(&self.path, error))?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(self, heads: &[u8]) -> Result<u64, Error> {
        let written = self.file.write_all_at(heads, 0).and_then(|()| self.file.sync_data());
        written.map_err(|error| Error::io(&self.path, error))?;
        Ok(self.next * PAGE_BYTES as u64)
    }

    fn too_large(&self) -> Error {
        Error::io(&self.path, io::Error::new(io::ErrorKind::InvalidInput, "a value is too large for a bbolt file"))
    }
}

/// The elements of a page under construction.
#[derive(Debug, Default)]
struct Nodes {
    count: usize,
    /// For each element the bytes of the key, and flags and bytes of the value or a page.
    elements: Vec<Element>,
    content: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Element {
    Leaf { flags: u32, key_bytes: u32, value_bytes: u32 },
    Branch { key_bytes: u32, page: u64 },
}

impl Nodes {
    fn bytes(&self) -> usize {
        PAGE_HEAD_BYTES + self.count * ELEMENT_BYTES + self.content.len()
    }

    fn takes(&self, content_bytes: usize) -> bool {
        self.count == 0 || self.bytes() + ELEMENT_BYTES + content_bytes <= PAGE_BYTES
    }

    fn push(&mut self, element: Element, content: [&[u8]; 2]) {
        self.count += 1;
        self.elements.push(element);
        content.into_iter().for_each(|part| self.content.extend_from_slice(part));
    }

    fn first_key(&self) -> &[u8] {
        let bytes = match self.elements.first() {
            Some(Element::Leaf { key_bytes, .. } | Element::Branch { key_bytes, .. }) => *key_bytes as usize,
            None => 0,
        };
        &self.content[..bytes]
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut before = 0;
        for (number, element) in self.elements.iter().enumerate() {
            let position = ((self.count - number) * ELEMENT_BYTES + before) as u32;
            match *element {
                Element::Leaf { flags, key_bytes, value_bytes } => {
                    let fields = [flags, position, key_bytes, value_bytes];
                    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
                    before += key_bytes as usize + value_bytes as usize;
                }
                Element::Branch { key_bytes, page } => {
                    [position, key_bytes].iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
                    out.extend_from_slice(&page.to_le_bytes());
                    before += key_bytes as usize;
                }
            }
        }
        out.extend_from_slice(&self.content);
    }

    fn clear(&mut self) {
        self.count = 0;
        self.elements.clear();
        self.content.clear();
    }
}

/// A tree under construction: of each level the page that is not full yet.
#[derive(Debug)]
struct Tree {
    leaf_flags: u32,
    levels: Vec<Nodes>,
    last: Option<Vec<u8>>,
}

impl Tree {
    fn new(leaf_flags: u32) -> Tree {
        Tree { leaf_flags, levels: vec![Nodes::default()], last: None }
    }

    fn put(&mut self, pages: &mut Pages, key: &[u8], value: &[u8]) -> Result<(), Error> {
        assert!(self.last.as_deref().is_none_or(|last| last < key), "keys come in ascending order");
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        let bytes = |part: &[u8]| u32::try_from(part.len()).map_err(|_| pages.too_large());
        let element = Element::Leaf { flags: self.leaf_flags, key_bytes: bytes(key)?, value_bytes: bytes(value)? };
        if !self.levels[0].takes(key.len() + value.len()) {
            self.end_page(pages, 0)?;
        }
        self.levels[0].push(element, [key, value]);
        Ok(())
    }

    /// Writes the page of a level, and adds it to the level above.
    fn end_page(&mut self, pages: &mut Pages, level: usize) -> Result<(), Error> {
        let key = self.levels[level].first_key().to_vec();
        let page = self.write(pages, level)?;
        let above = level + 1;
        if self.levels.len() == above {
            self.levels.push(Nodes::default());
        }
        if !self.levels[above].takes(key.len()) {
            self.end_page(pages, above)?;
        }
        self.levels[above].push(Element::Branch { key_bytes: key.len() as u32, page }, [&key, &[]]);
        Ok(())
    }

    fn write(&mut self, pages: &mut Pages, level: usize) -> Result<u64, Error> {
        let id = pages.add(if level == 0 { LEAF } else { BRANCH }, &self.levels[level])?;
        self.levels[level].clear();
        Ok(id)
    }

    /// Writes what is left and returns the root's page.
    fn finish(mut self, pages: &mut Pages) -> Result<u64, Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            // A level got another above it when it was full and one more element came: it is never empty here.
            self.end_page(pages, level)?;
            level += 1;
        }
        self.write(pages, level)
    }
}
