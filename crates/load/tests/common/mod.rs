//! A file of many digests, and jobs that load it.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use sentry_hash::files::{FileJob, OpenedFile, Request};
use sentry_hash::{Algorithm, Digest, HashError};
use sentry_load::Landing;

/// A file in the working directory, which is on a disk, where it can be read around the page cache; /tmp may lie in memory.
pub fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(".").unwrap();
    std::fs::write(&file, bytes).unwrap();
    file
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
}

impl<'m> Job<'m> {
    pub fn new(file: &tempfile::NamedTempFile, requests: Vec<Request>, landing: Landing<'m>) -> Self {
        Self { file: Arc::new(file.reopen().unwrap()), requests, landing, received: Mutex::default(), refuses: None }
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
        if self.refuses.is_some_and(|byte| range.contains(&byte)) {
            return Err(Failure::Refused);
        }
        self.received.lock().unwrap().push(range);
        Ok(())
    }

    fn finish(&self, _: &File, (): &(), digests: Vec<Digest>) -> Result<Vec<Digest>, Failure> {
        Ok(digests)
    }
}

pub fn request(range: Range<u64>, algorithm: Algorithm) -> Request {
    Request { range, algorithm }
}

/// What the digests have to be.
pub fn expected(bytes: &[u8], requests: &[Request]) -> Vec<Digest> {
    let digest = |Request { range, algorithm }: &Request| algorithm.digest(&bytes[range.start as usize..range.end as usize]);
    requests.iter().map(digest).collect()
}
