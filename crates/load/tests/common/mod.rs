//! A file of many digests, and jobs that load it.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use sentry_hash::files::{FileJob, OpenedFile, Request};
use sentry_hash::{Algorithm, Digest, HashError};
use sentry_load::{Landing, Loader, Outlook};

/// A file without a name: nothing stays of it, however the process ends. In the working directory, which is on a disk, where it can be
/// read around the page cache; /tmp may lie in memory.
pub fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile_in(".").unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

/// Whether such a file can be read around the page cache.
pub fn reads_around_cache() -> bool {
    let file = file(&[0; 4096]);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty()).is_ok() && !Outlook::of(file).unwrap().is_in_memory
}

/// Bytes that differ from place to place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Some digests of one file, and where it goes.
pub struct Job<'m> {
    pub file: Arc<File>,
    pub requests: Vec<Request>,
    pub landing: Landing<'m>,
    /// What `receive` was given.
    pub received: Mutex<Vec<Range<u64>>>,
    /// `receive` fails at this byte.
    pub refuses: Option<u64>,
    /// `receive` takes so long.
    pub pause: Duration,
    /// Whether `receive` has to see the bytes.
    pub has_to_receive: bool,
}

impl<'m> Job<'m> {
    pub fn new(file: &Arc<File>, requests: Vec<Request>, landing: Landing<'m>) -> Self {
        Self {
            file: Arc::clone(file),
            requests,
            landing,
            received: Mutex::default(),
            refuses: None,
            pause: Duration::ZERO,
            has_to_receive: true,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    Read(u64, io::ErrorKind),
    Refused,
    Hash(HashError),
}

impl From<HashError> for Failure {
    fn from(error: HashError) -> Self {
        Self::Hash(error)
    }
}

impl FileJob for Job<'_> {
    type Context = ();
    type Output = Vec<Digest>;
    type Error = Failure;

    fn size_hint(&self) -> u64 {
        0
    }

    fn open(&self) -> Result<OpenedFile<()>, Failure> {
        Ok(OpenedFile { file: Arc::clone(&self.file), requests: self.requests.clone(), context: () })
    }

    fn read_error(&self, offset: u64, error: io::Error) -> Failure {
        Failure::Read(offset, error.kind())
    }

    fn receive(&self, (): &(), offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let range = offset..offset + bytes.len() as u64;
        thread::sleep(self.pause);
        if self.refuses.is_some_and(|byte| range.contains(&byte)) {
            return Err(Failure::Refused);
        }
        self.received.lock().unwrap().push(range);
        Ok(())
    }

    fn has_to_receive(&self, (): &(), _: u64) -> bool {
        self.has_to_receive
    }

    fn finish(&self, _: &File, (): &(), digests: Vec<Digest>) -> Result<Vec<Digest>, Failure> {
        Ok(digests)
    }
}

/// Loads one file, whose landing is kept if that works.
pub fn load_and_keep(loader: &Loader<'_>, job: Job<'_>) -> Result<Vec<Digest>, Failure> {
    let jobs = [job];
    let mut loaded = loader.load(&jobs, &|job| &job.landing, &|_| ())?;
    let [job] = jobs;
    job.landing.keep();
    Ok(loaded.outputs.remove(0))
}

pub fn request(range: Range<u64>, algorithm: Algorithm) -> Request {
    Request { range, algorithm }
}

/// What the digests have to be.
pub fn expected(bytes: &[u8], requests: &[Request]) -> Vec<Digest> {
    let digest = |Request { range, algorithm }: &Request| algorithm.digest(&bytes[range.start as usize..range.end as usize]);
    requests.iter().map(digest).collect()
}
