//! A file that is written and verified as a stream, and exists as a whole or not at all.
//!
//! ```text
//!   magic 8 | container format 4 | content version 4 | salt 8 | crc 4 | chunk ... | end
//!   chunk   bytes 4 | crc 4 | content         end   zero 4 | crc 4
//! ```
//!
//! Every CRC starts from the head's and the chunk's number, so that no chunk passes for another.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};

use crate::disk::Error;
use crate::world::disk::Open;
use crate::world::{File, World};

const MAGIC: [u8; 8] = *b"chorusCP";
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 28;
const CHUNK_HEAD_BYTES: usize = 8;
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Writes a checkpoint beside its final name. Dropped without [`commit`](Writer::commit), it leaves what was there, and
/// nothing else.
pub struct Writer {
    world: World,
    path: PathBuf,
    scratch: PathBuf,
    file: File,
    offset: u64,
    seed: u32,
    chunk: Vec<u8>,
    chunks: u64,
    committed: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.committed && self.world.disk.exists(&self.scratch) {
            // The next writer removes it, too.
            let _ = self.world.disk.remove(&self.scratch);
        }
    }
}

impl Writer {
    /// Begins a checkpoint that will be `path`; `version` is for the caller to understand its content later.
    pub fn create(world: &World, path: &Path, version: u32) -> Result<Writer, Error> {
        let name = path.file_name().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?.to_string_lossy();
        let scratch = path.with_file_name(format!(".{name}.new"));
        if world.disk.exists(&scratch) {
            world.disk.remove(&scratch)?;
        }
        let file = world.disk.open(&scratch, Open::CreateNew)?;
        let head = encode_head(version, world.random.u64());
        let writer = Writer {
            world: world.clone(),
            path: path.to_owned(),
            scratch,
            file,
            offset: HEAD_BYTES as u64,
            seed: seed_of(&head),
            chunk: Vec::with_capacity(CHUNK_BYTES_MAX),
            chunks: 0,
            committed: false,
        };
        writer.file.write_all_at(&head, 0).map_err(|error| Error::io(&writer.scratch, error))?;
        Ok(writer)
    }

    /// Makes the checkpoint durable and puts it in the place of the one before: after a crash there is one or the
    /// other.
    pub fn commit(mut self) -> Result<(), Error> {
        let named = |error| Error::io(&self.scratch, error);
        if !self.chunk.is_empty() {
            write_chunk(&self.file, &mut self.offset, self.seed, &mut self.chunks, &mut self.chunk).map_err(named)?;
        }
        write_chunk(&self.file, &mut self.offset, self.seed, &mut self.chunks, &mut self.chunk).map_err(named)?;
        self.file.sync_data().map_err(named)?;
        self.world.disk.rename(&self.scratch, &self.path)?;
        self.committed = true;
        Ok(self.world.disk.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES_MAX - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES_MAX {
            write_chunk(&self.file, &mut self.offset, self.seed, &mut self.chunks, &mut self.chunk)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what was gathered and empties it; an empty chunk is the end.
fn write_chunk(file: &File, offset: &mut u64, seed: u32, chunks: &mut u64, chunk: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK_HEAD_BYTES + chunk.len());
    bytes.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&chunk_crc(seed, *chunks, chunk).to_le_bytes());
    bytes.append(chunk);
    file.write_all_at(&bytes, *offset)?;
    *offset += bytes.len() as u64;
    *chunks += 1;
    Ok(())
}

fn chunk_crc(seed: u32, number: u64, content: &[u8]) -> u32 {
    let seeded = crc32c_append(seed, &number.to_le_bytes());
    crc32c_append(crc32c_append(seeded, &(content.len() as u32).to_le_bytes()), content)
}

fn encode_head(version: u32, salt: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..16].copy_from_slice(&version.to_le_bytes());
    head[16..24].copy_from_slice(&salt.to_le_bytes());
    let crc = seed_of(&head);
    head[24..].copy_from_slice(&crc.to_le_bytes());
    head
}

fn seed_of(head: &[u8; HEAD_BYTES]) -> u32 {
    crc32c(&head[..24])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Reads a checkpoint. Every byte that it yields was verified; only reading to the end shows that the file is whole.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    offset: u64,
    seed: u32,
    version: u32,
    chunk: Vec<u8>,
    taken: usize,
    chunks: u64,
    ended: bool,
}

impl Reader {
    /// Opens a checkpoint; `None` when there is none.
    pub fn open(world: &World, path: &Path) -> Result<Option<Reader>, Error> {
        let file = match world.disk.open(path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut head = [0; HEAD_BYTES];
        read_at(&file, path, &mut head, 0)?;
        if head[..8] != MAGIC || u32_at(&head, 24) != seed_of(&head) {
            return Err(Error::corrupt(path, 0, "not the head of a checkpoint"));
        }
        if u32_at(&head, 8) != FORMAT {
            let reason = format!("checkpoint of format {}, this program knows {FORMAT}", u32_at(&head, 8));
            return Err(Error::corrupt(path, 8, reason));
        }
        Ok(Some(Reader {
            file,
            path: path.to_owned(),
            offset: HEAD_BYTES as u64,
            seed: seed_of(&head),
            version: u32_at(&head, 12),
            chunk: Vec::new(),
            taken: 0,
            chunks: 0,
            ended: false,
        }))
    }

    /// The version that its writer gave.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Checks that the content ends here.
    pub fn end(mut self) -> Result<(), Error> {
        self.fill()?;
        if self.ended { Ok(()) } else { Err(Error::corrupt(&self.path, self.offset, "content after its end")) }
    }

    /// Makes the next chunk available once the last one is used up.
    fn fill(&mut self) -> Result<(), Error> {
        if self.ended || self.taken < self.chunk.len() {
            return Ok(());
        }
        let mut head = [0; CHUNK_HEAD_BYTES];
        read_at(&self.file, &self.path, &mut head, self.offset)?;
        let length = u32_at(&head, 0) as usize;
        if length > CHUNK_BYTES_MAX {
            return Err(Error::corrupt(&self.path, self.offset, "a chunk is too long"));
        }
        self.chunk.resize(length, 0);
        read_at(&self.file, &self.path, &mut self.chunk, self.offset + CHUNK_HEAD_BYTES as u64)?;
        if u32_at(&head, 4) != chunk_crc(self.seed, self.chunks, &self.chunk) {
            return Err(Error::corrupt(&self.path, self.offset, "the checksum of a chunk does not match"));
        }
        self.offset += (CHUNK_HEAD_BYTES + length) as u64;
        self.chunks += 1;
        self.taken = 0;
        self.ended = length == 0;
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let rest = &self.chunk[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

fn read_at(file: &File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::corrupt(path, offset, "the file ends before it should"),
        _ => Error::io(path, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{MemoryDisk, Random};

    const PATH: &str = "/data/index";

    fn write(world: &World, content: &[u8]) {
        let mut writer = Writer::create(world, Path::new(PATH), 3).unwrap();
        writer.write_all(content).unwrap();
        writer.commit().unwrap();
    }

    fn read(world: &World) -> Result<Vec<u8>, io::Error> {
        let mut reader = Reader::open(world, Path::new(PATH))?.expect("there is a checkpoint");
        assert_eq!(reader.version(), 3);
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        reader.end()?;
        Ok(content)
    }

    #[test]
    fn content_of_any_size_comes_back() {
        let world = World::simulated(1, MemoryDisk::new());
        assert!(Reader::open(&world, Path::new(PATH)).unwrap().is_none());
        for size in [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX + 7] {
            let content: Vec<u8> = (0..size).map(|i| i as u8).collect();
            write(&world, &content);
            assert_eq!(read(&world).unwrap(), content);
        }
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new() {
        for seed in 0..20 {
            let disk = MemoryDisk::new();
            let world = World::simulated(seed, disk.clone());
            write(&world, b"old");
            let mut writer = Writer::create(&world, Path::new(PATH), 3).unwrap();
            writer.write_all(b"new").unwrap();
            disk.crash(&Random::from_seed(seed));
            assert_eq!(read(&world).unwrap(), b"old");
            write(&world, b"newer");
            disk.crash(&Random::from_seed(seed));
            assert_eq!(read(&world).unwrap(), b"newer");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_missing_byte_passes() {
        let content = b"one thing after another";
        let length = (HEAD_BYTES + CHUNK_HEAD_BYTES + content.len() + CHUNK_HEAD_BYTES) as u64;
        for bit in 0..length * 8 {
            let disk = MemoryDisk::new();
            let world = World::simulated(bit, disk.clone());
            write(&world, content);
            disk.flip_bit(Path::new(PATH), bit).unwrap();
            let error = read(&world).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "bit {bit}: {error}");
            assert!(error.to_string().starts_with("/data/index is damaged at byte "), "{error}");
        }
        for cut in 0..length {
            let world = World::simulated(cut, MemoryDisk::new());
            write(&world, content);
            world.disk.open(Path::new(PATH), Open::Write).unwrap().set_len(cut).unwrap();
            assert_eq!(read(&world).unwrap_err().kind(), ErrorKind::InvalidData, "cut to {cut}");
        }
    }
}
