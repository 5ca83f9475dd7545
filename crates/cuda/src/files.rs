//! Digests of files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use sentry_hash::files::{FileHasher, FileJob, OpenedFile, Progress};
use sentry_hash::{Algorithm, Digest, HashError};

use crate::{Gpu, UploadError};

/// Files that are open at a time.
const OPEN_AT_ONCE: usize = 256;

/// Every digest must be one of a tree. A byte is read once for each digest that covers it, where a CPU reads it once for all.
impl FileHasher for &'static Gpu {
    fn hash_files<J: FileJob>(&self, jobs: &[J], progress: Progress<'_>) -> Result<Vec<J::Output>, J::Error>
    where
        J::Error: From<HashError>,
    {
        let mut outputs = Vec::with_capacity(jobs.len());
        for jobs in jobs.chunks(OPEN_AT_ONCE) {
            let opened = jobs.iter().map(FileJob::open).collect::<Result<Vec<_>, _>>()?;
            let digests = self.digests_of(jobs, &opened, progress)?;
            for ((job, opened), digests) in jobs.iter().zip(&opened).zip(digests) {
                outputs.push(job.finish(&opened.file, &opened.context, digests)?);
            }
        }
        Ok(outputs)
    }
}

/// A range of a file to be hashed, and where its digest belongs.
struct Message<'a, J> {
    job: &'a J,
    file: &'a File,
    start: u64,
    length: u64,
    /// Which file, and which of its digests.
    place: (usize, usize),
}

impl Gpu {
    /// The digests of each file, in the order of its requests.
    fn digests_of<J: FileJob>(
        &'static self,
        jobs: &[J],
        opened: &[OpenedFile<J::Context>],
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<Digest>>, J::Error>
    where
        J::Error: From<HashError>,
    {
        let mut digests: Vec<Vec<Option<Digest>>> = opened.iter().map(|file| vec![None; file.requests.len()]).collect();
        for algorithm in Algorithm::ALL {
            let mut messages = Vec::new();
            for (index, (job, OpenedFile { file, requests, .. })) in jobs.iter().zip(opened).enumerate() {
                for (number, request) in requests.iter().enumerate().filter(|(_, request)| request.algorithm == algorithm) {
                    let (start, length) = (request.range.start, request.range.end - request.range.start);
                    messages.push(Message { job, file, start, length, place: (index, number) });
                }
            }
            if messages.is_empty() {
                continue;
            }
            let lengths: Vec<u64> = messages.iter().map(|message| message.length).collect();
            let read = |message: usize, offset: u64, room: &mut [u8]| {
                let Message { job, file, start, .. } = &messages[message];
                file.read_exact_at(room, start + offset).map_err(|error| job.read_error(start + offset, error))
            };
            let found = self.digest_read(algorithm, &lengths, &read, progress).map_err(|error| match error {
                UploadError::Read(error) => error,
                UploadError::Gpu(error) => HashError::from(error).into(),
            })?;
            for (message, digest) in messages.iter().zip(found) {
                digests[message.place.0][message.place.1] = Some(digest);
            }
        }
        Ok(digests.into_iter().map(|file| file.into_iter().map(|digest| digest.expect("every algorithm had its turn")).collect()).collect())
    }
}
