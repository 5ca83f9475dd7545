//! Reading a file by position: several threads read one open file, and no library opens another by its name.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use sentry_hash::{Algorithm, Hasher};
use sentry_manifest::record::{Kind, MAX_INLINE, Value};
use sentry_manifest::{FoundFile, ModelFile, ModelTree, printable};

use crate::DatasetError;

/// Most bytes of one piece that a library may ask for: a damaged file claims more, and no honest one has a page of this size.
const MAX_PIECE: usize = 1 << 31;

/// Longest body that is held in memory to be hashed with others; longer ones are hashed piece by piece.
pub const LONGEST_HELD: u64 = 1 << 20;

/// Most values that are made of samples at a time, unless one sample has more.
pub const MAX_VALUES: usize = 1 << 17;

/// Pieces from this length on, up to the other, are read into buffers that are used again. New memory for each of them would take longer
/// than reading them: the system clears it page by page.
const REUSED: std::ops::RangeInclusive<usize> = (128 << 10)..=(128 << 20);

/// Bytes of buffers that wait to be used again, at most.
const MOST_SPARE: usize = 256 << 20;

/// An open file with a position of its own.
#[derive(Debug, Clone)]
pub struct Positioned {
    file: Arc<File>,
    size: u64,
    position: u64,
    spare: Arc<Spare>,
}

/// Buffers that wait to be used again.
#[derive(Debug, Default)]
pub struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// A buffer of at least `length` bytes, whatever they are.
    fn take(&self, length: usize) -> Vec<u8> {
        let mut buffers = self.0.lock().expect("no thread panics while it holds this lock");
        match buffers.iter().position(|buffer| buffer.len() >= length) {
            Some(place) => buffers.swap_remove(place),
            // Pages of a file differ by a few bytes.
            None => vec![0; length.next_multiple_of(*REUSED.start())],
        }
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.0.lock().expect("no thread panics while it holds this lock");
        if buffers.iter().map(Vec::len).sum::<usize>() + buffer.len() <= MOST_SPARE {
            buffers.push(buffer);
        }
    }
}

/// The first bytes of a buffer, which goes back where it came from.
struct Lent {
    buffer: Vec<u8>,
    length: usize,
    spare: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.buffer));
    }
}

impl Positioned {
    pub fn new(file: &ModelFile) -> Self {
        Self { file: Arc::clone(&file.file), size: file.size, position: 0, spare: Arc::default() }
    }

    /// The same file, read into these buffers.
    pub fn with_buffers(&self, spare: &Arc<Spare>) -> Self {
        Self { spare: Arc::clone(spare), ..self.clone() }
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Exactly the bytes from `offset` on.
    pub fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.check_piece(offset, length)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The same in a buffer that is used again once nobody holds the bytes any more.
    fn shared_bytes(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if !REUSED.contains(&length) {
            return self.bytes(offset, length).map(Bytes::from);
        }
        self.check_piece(offset, length)?;
        let mut lent = Lent { buffer: self.spare.take(length), length, spare: Arc::clone(&self.spare) };
        self.file.read_exact_at(&mut lent.buffer[..length], offset)?;
        Ok(Bytes::from_owner(lent))
    }

    fn check_piece(&self, offset: u64, length: usize) -> io::Result<()> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.size && length <= MAX_PIECE => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a piece that is not in the file")),
        }
    }

    /// The BLAKE3 digest of bytes that may be many.
    pub fn blake3(&self, offset: u64, length: u64) -> io::Result<[u8; 32]> {
        let mut hasher = Hasher::new(Algorithm::Blake3);
        let mut done = 0;
        while done < length {
            let piece = self.bytes(offset + done, (length - done).min(LONGEST_HELD) as usize)?;
            hasher.update(&piece);
            done += piece.len() as u64;
        }
        Ok(*hasher.finish().as_bytes().first_chunk().expect("a BLAKE3 digest has 32 bytes"))
    }
}

/// Bytes of a file that become a value: held, or hashed already.
pub enum Body {
    Held(Vec<u8>),
    Hashed { length: u64, digest: [u8; 32] },
}

impl Body {
    /// Reads bytes, and holds them if they are few and there is `room`, or if they stand in the record as they are.
    pub fn read(file: &Positioned, offset: u64, length: u64, room: u64) -> io::Result<Self> {
        if length <= LONGEST_HELD.min(room.max(MAX_INLINE)) {
            return file.bytes(offset, length as usize).map(Self::Held);
        }
        file.blake3(offset, length).map(|digest| Self::Hashed { length, digest })
    }

    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Held(bytes) => Value::Bytes(bytes),
            Self::Hashed { length, digest } => Value::Hashed { kind: Kind::Bytes, shape: &[], length: *length, digest: *digest },
        }
    }
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.size.saturating_sub(self.position).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..there], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Positioned {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Length for Positioned {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Positioned {
    type T = io::BufReader<Positioned>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(io::BufReader::new(Self { position: start, ..self.clone() }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.shared_bytes(start, length)?)
    }
}

/// Opens a file that was listed, lets `read` read it, and looks whether anybody has written to it meanwhile.
pub fn with_file<T>(
    tree: &ModelTree,
    found: &FoundFile,
    read: impl FnOnce(&Positioned) -> Result<T, DatasetError>,
) -> Result<T, DatasetError> {
    let file = tree.open_file(found)?;
    let result = read(&Positioned::new(&file));
    // What was read of a file that changed is no verdict on it.
    file.check_unchanged(&found.path)?;
    result
}

/// An error of reading a file.
pub fn unreadable(found: &FoundFile) -> impl Fn(io::Error) -> DatasetError + '_ {
    |source| DatasetError::Io { file: printable(found.path.as_str()), source }
}

/// An error of a file's format, by the word of the library that reads it.
pub fn malformed<E: std::fmt::Display>(found: &FoundFile, format: &'static str) -> impl Fn(E) -> DatasetError {
    move |error| unfit(found, format, printable(&error.to_string()))
}

/// An error of a file's format, as we say it: names in it are escaped.
pub fn unfit(found: &FoundFile, format: &'static str, reason: impl Into<String>) -> DatasetError {
    DatasetError::Malformed { file: printable(found.path.as_str()), format, reason: reason.into() }
}

/// Calls into a library that may panic on a damaged file.
pub fn guarded<T>(found: &FoundFile, format: &'static str, call: impl FnOnce() -> Result<T, DatasetError>) -> Result<T, DatasetError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err(unfit(found, format, "its reader gives up")))
}
