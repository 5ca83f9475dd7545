//! Many files over all cores; several digests of each file from one read.
//!
//! A [`FileJob`] opens one file and says which byte ranges of it to hash with which [`Algorithm`]. Its
//! bytes are read once, in units of [`UNIT`] bytes, and every digest that wants a unit gets it from the
//! same buffer. How the work spreads:
//!
//! ```text
//! only trees asked for:    units of one file go to any thread, in any order (BLAKE3 is a tree)
//! a serial hash as well:  one thread reads the file in order and feeds the serial hash; an idle thread
//!                         reads the next unit meanwhile and hashes its part of the trees
//! more files than cores:  one thread reads two files side by side, as long as no thread is idle
//! ```
//!
//! So eight files keep eight cores busy, and so does one large file under BLAKE3 or another tree. Memory is at most two
//! buffers a thread, whatever the size of the files.

mod digests;
mod pool;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::{Algorithm, Cpu, Digest, HashError};

pub use digests::Digests;
pub use pool::hash_files;

/// Bytes read at a time: they stay in one core's cache between the read and the hashes.
pub const UNIT: usize = 512 * 1024;

/// A digest wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which bytes of the file.
    pub range: Range<u64>,
    /// With which algorithm.
    pub algorithm: Algorithm,
}

/// A file that is open and the digests wanted of it.
#[derive(Debug)]
pub struct OpenedFile<C> {
    /// The handle that is read from, by position. Several jobs may have one.
    pub file: Arc<File>,
    /// The digests wanted, in the order in which [`FileJob::finish`] gets them.
    pub requests: Vec<Request>,
    /// Whatever [`FileJob::finish`] needs to know of this file.
    pub context: C,
}

/// One file to hash.
pub trait FileJob: Sync {
    /// What [`FileJob::finish`] needs besides the digests.
    type Context: Send + Sync;
    /// What comes of the file.
    type Output: Send;
    /// Why a file could not be hashed.
    type Error: Send;

    /// Bytes that will be read, as far as known; larger files start first.
    fn size_hint(&self) -> u64;

    /// Opens the file.
    ///
    /// # Errors
    /// As the implementation says; the first error ends the whole run.
    fn open(&self) -> Result<OpenedFile<Self::Context>, Self::Error>;

    /// Explains a failed read, or that the file ended before `offset` plus a buffer.
    fn read_error(&self, offset: u64, error: io::Error) -> Self::Error;

    /// Takes bytes of the file as they were read, before any digest has said whether they are right: every byte that is read
    /// once, from any thread and in any order.
    ///
    /// # Errors
    /// As the implementation says; the first error ends the whole run.
    fn receive(&self, _context: &Self::Context, _offset: u64, _bytes: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether [`FileJob::receive`] has to see bytes that begin at `offset`. If not, they may go to a device without passing by here.
    fn has_to_receive(&self, _context: &Self::Context, _offset: u64) -> bool {
        true
    }

    /// Takes the digests, in the order of the requests. The file is still open, so that its size and
    /// identity can be checked again.
    ///
    /// # Errors
    /// As the implementation says; the first error ends the whole run.
    fn finish(&self, file: &File, context: &Self::Context, digests: Vec<Digest>) -> Result<Self::Output, Self::Error>;
}

/// Where the bytes of a file go as they are read.
pub trait Receiver: Send + Sync {
    /// Takes bytes of the file that begin at `offset`: from any thread, in any order, each byte at least once.
    ///
    /// # Errors
    /// Whatever keeps it from taking them; the load then fails.
    fn receive(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// Told how many bytes have just been read, from any thread.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// A place where files are hashed: this machine's cores, or a GPU.
pub trait FileHasher {
    /// Hashes files; what comes of them is in their order.
    ///
    /// # Errors
    /// The first one of a job, and whatever keeps the place from computing a digest.
    fn hash_files<J: FileJob>(&self, jobs: &[J], progress: Progress<'_>) -> Result<Vec<J::Output>, J::Error>
    where
        J::Error: From<HashError>;
}

impl FileHasher for Cpu {
    fn hash_files<J: FileJob>(&self, jobs: &[J], progress: Progress<'_>) -> Result<Vec<J::Output>, J::Error>
    where
        J::Error: From<HashError>,
    {
        hash_files(jobs, self.threads(), progress)
    }
}
