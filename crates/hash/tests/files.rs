//! Files of many sizes, hashed together over several threads, against one-shot digests.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_hash::files::{FileJob, OpenedFile, Request, UNIT, hash_files};
use sentry_hash::{Algorithm, Digest, HashError};

struct Job {
    bytes: Vec<u8>,
    file: tempfile::NamedTempFile,
    requests: Vec<Request>,
}

#[derive(Debug, PartialEq)]
enum JobError {
    Hash(HashError),
    Read(u64, io::ErrorKind),
}

impl From<HashError> for JobError {
    fn from(error: HashError) -> Self {
        Self::Hash(error)
    }
}

impl Job {
    fn new(length: usize, requests: &[(Range<usize>, Algorithm)]) -> Self {
        let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let requests = requests
            .iter()
            .map(|(range, algorithm)| Request { range: range.start as u64..range.end as u64, algorithm: *algorithm })
            .collect();
        Self { bytes, file, requests }
    }

    fn expected(&self) -> Vec<Digest> {
        self.requests.iter().map(|r| r.algorithm.digest(&self.bytes[r.range.start as usize..r.range.end as usize])).collect()
    }
}

impl FileJob for Job {
    type Context = ();
    type Output = Vec<Digest>;
    type Error = JobError;

    fn size_hint(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn open(&self) -> Result<OpenedFile<()>, JobError> {
        Ok(OpenedFile { file: Arc::new(File::open(self.file.path()).unwrap()), requests: self.requests.clone(), context: () })
    }

    fn read_error(&self, offset: u64, error: io::Error) -> JobError {
        JobError::Read(offset, error.kind())
    }

    fn finish(&self, _: &File, (): &(), digests: Vec<Digest>) -> Result<Vec<Digest>, JobError> {
        Ok(digests)
    }
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for length in [0, 1, 1024, 5000, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT + 777] {
        for algorithm in Algorithm::ALL {
            jobs.push(Job::new(length, &[(0..length, algorithm)]));
        }
        // The whole file twice, a header, and "tensors" that start and end anywhere, one of them empty.
        let (third, half) = (length / 3, length / 2);
        for whole in [Algorithm::Sha256, Algorithm::Blake3] {
            jobs.push(Job::new(
                length,
                &[
                    (0..length, whole),
                    (0..third, Algorithm::Blake3),
                    (third..half, Algorithm::Blake3),
                    (half..half, Algorithm::Blake3),
                    (half..length, Algorithm::Blake3),
                ],
            ));
        }
        // A shard in the middle.
        jobs.push(Job::new(length, &[(third..half, Algorithm::Sha256)]));
    }
    jobs
}

#[test]
fn every_digest_of_every_file() {
    let jobs = jobs();
    let expected: Vec<_> = jobs.iter().map(Job::expected).collect();
    for threads in [1, 2, 3, 8] {
        let read = AtomicU64::new(0);
        let found = hash_files(&jobs, threads, &|bytes| {
            read.fetch_add(bytes, Ordering::Relaxed);
        });
        assert_eq!(found.as_ref(), Ok(&expected), "{threads} threads");
        let spans = jobs.iter().map(|job| {
            let end = job.requests.iter().map(|r| r.range.end).max().unwrap();
            end - job.requests.iter().map(|r| r.range.start).min().unwrap()
        });
        assert_eq!(read.into_inner(), spans.sum::<u64>(), "each byte is read once");
    }
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let mut jobs = jobs();
        jobs.push(Job::new(4 * UNIT, &[(0..4 * UNIT, algorithm)]));
        let short = jobs.last().unwrap().file.as_file();
        short.set_len(2 * UNIT as u64 + 5).unwrap();
        for threads in [1, 4] {
            let found = hash_files(&jobs, threads, &|_| ());
            assert!(matches!(found, Err(JobError::Read(_, io::ErrorKind::UnexpectedEof))), "{algorithm}: {found:?}");
        }
    }
}

#[test]
fn no_jobs_no_digests() {
    assert_eq!(hash_files::<Job>(&[], 4, &|_| ()), Ok(Vec::new()));
}
