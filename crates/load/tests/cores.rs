//! Loads to this machine's memory: the right bytes, the right digests, by any number of threads; the right error of what fails.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some of which have one")]

mod common;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Failure, Job, expected, file, pattern, request};
use sentry_hash::files::Request;
use sentry_hash::{Algorithm, Digest};
use sentry_load::{Landing, Loader, Reading, Region, Room};

/// Room for ranges of a file, in memory as long as it.
fn landing<'m>(mut memory: &'m mut [u8], ranges: &[Range<u64>]) -> Landing<'m> {
    let mut regions = Vec::new();
    let mut done = 0;
    for range in ranges {
        let (room, rest) = memory.split_at_mut((range.end - done) as usize);
        let room = &mut room[(range.start - done) as usize..];
        regions.push(Region { range: range.clone(), room: Room::Host(room.into()) });
        (memory, done) = (rest, range.end);
    }
    Landing::new(regions).unwrap()
}

fn loaders() -> Vec<Loader<'static>> {
    let mut loaders = Vec::new();
    for reading in [Reading::Auto, Reading::Cached, Reading::Direct] {
        for (queued, threads) in [(true, 1), (false, 2), (true, 8)] {
            loaders.push(Loader { reading, queued, threads: Some(threads), ..Loader::default() });
        }
    }
    loaders
}

/// Digests of several algorithms: that abut, overlap, leave gaps, and are of nothing.
fn layouts(size: u64) -> Vec<Vec<Request>> {
    let all = |algorithm| request(0..size, algorithm);
    let abutting = |algorithm| {
        let ends = [0, 1, 1000, 1_500_000, 1_500_000, 4_000_001, size];
        ends.windows(2).map(move |pair| request(pair[0]..pair[1], algorithm)).collect::<Vec<_>>()
    };
    let mut layouts: Vec<Vec<Request>> = Algorithm::ALL.iter().map(|&algorithm| vec![all(algorithm)]).collect();
    layouts.push(abutting(Algorithm::Blake3));
    layouts.push(abutting(Algorithm::Sha256));
    layouts.push(vec![all(Algorithm::Blake3), all(Algorithm::Sha256), request(5..4_000_000, Algorithm::Sha256Tree)]);
    layouts.push(vec![
        request(3_000_000..size, Algorithm::Blake3),
        request(7..9, Algorithm::Blake3),
        request(100..2_500_000, Algorithm::Blake2b),
    ]);
    layouts.push(vec![request(9..9, Algorithm::Blake3), request(0..0, Algorithm::Sha256)]);
    layouts.push(Vec::new());
    layouts
}

/// Loads one file, whose landing is kept; its digests, and what `receive` was given.
fn load_and_keep(loader: &Loader<'_>, job: Job<'_>, read: &AtomicU64) -> (Vec<Digest>, Vec<Range<u64>>) {
    let jobs = [job];
    let advance = |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
    };
    let mut loaded = loader.load(&jobs, &|job| &job.landing, &advance).unwrap();
    let [job] = jobs;
    job.landing.keep();
    (loaded.outputs.remove(0), job.received.into_inner().unwrap())
}

#[test]
fn what_lands_is_what_was_asked_for() {
    let bytes = pattern(5_000_003);
    let size = bytes.len() as u64;
    let file = file(&bytes);
    for loader in loaders() {
        for requests in layouts(size) {
            for ranges in [&[0..size][..], &[0..10, 10..2_000_000, 3_000_000..size], &[]] {
                let mut memory = vec![0xEE; bytes.len()];
                let read = AtomicU64::new(0);
                let job = Job::new(&file, requests.clone(), landing(&mut memory, ranges));
                let (found, received) = load_and_keep(&loader, job, &read);
                assert_eq!(found, expected(&bytes, &requests), "{loader:?} {requests:?}");
                // Each byte that some digest is asked of was seen just once, and no other one.
                let mut wanted = vec![false; bytes.len()];
                requests.iter().for_each(|request| wanted[request.range.start as usize..request.range.end as usize].fill(true));
                let mut seen = vec![false; bytes.len()];
                for range in &received {
                    assert!(seen[range.start as usize..range.end as usize].iter().all(|seen| !seen), "{received:?}");
                    seen[range.start as usize..range.end as usize].fill(true);
                }
                assert!(seen == wanted, "{requests:?}");
                assert_eq!(read.into_inner(), wanted.iter().filter(|wanted| **wanted).count() as u64);
                for (at, (&landed, &byte)) in memory.iter().zip(&bytes).enumerate() {
                    let has_room = ranges.iter().any(|range| range.contains(&(at as u64)));
                    assert_eq!(landed, if has_room && wanted[at] { byte } else { 0xEE }, "byte {at}, {requests:?} {ranges:?}");
                }
            }
        }
    }
}

#[test]
fn many_files_at_once_more_than_threads_and_fewer() {
    let contents: Vec<Vec<u8>> = (0..9).map(|number| pattern(700_001 * number)).collect();
    let files: Vec<_> = contents.iter().map(|bytes| file(bytes)).collect();
    let mut memories: Vec<Vec<u8>> = contents.iter().map(|bytes| vec![0; bytes.len()]).collect();
    for threads in [1, 2, 3, 20] {
        for algorithm in [Algorithm::Sha256, Algorithm::Blake2b, Algorithm::Blake3] {
            let jobs: Vec<_> = (files.iter().zip(&contents).zip(&mut memories))
                .map(|((file, bytes), memory)| {
                    let all = 0..bytes.len() as u64;
                    Job::new(file, vec![request(all.clone(), algorithm)], landing(memory, &[all]))
                })
                .collect();
            let loader = Loader { threads: Some(threads), ..Loader::default() };
            let found = loader.load(&jobs, &|job| &job.landing, &|_| ()).unwrap().outputs;
            assert_eq!(found, contents.iter().map(|bytes| vec![algorithm.digest(bytes)]).collect::<Vec<_>>());
            jobs.into_iter().for_each(|job| job.landing.keep());
            assert!(memories == contents);
        }
    }
}

#[test]
fn several_jobs_of_one_file_have_one_landing() {
    let bytes = pattern(3_000_000);
    let file = Arc::new(file(&bytes).into_file());
    let mut memory = vec![0; bytes.len()];
    let whole = landing(&mut memory, &[0..3_000_000]);
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let part = |number: u64| Job {
            file: Arc::clone(&file),
            requests: vec![request(number * 100_000..(number + 1) * 100_000, algorithm)],
            landing: Landing::new(Vec::new()).unwrap(),
            received: Default::default(),
            refuses: None,
        };
        let jobs: Vec<_> = (0..30).map(part).collect();
        let found = Loader::default().load(&jobs, &|_| &whole, &|_| ()).unwrap().outputs;
        let right: Vec<_> = bytes.chunks(100_000).map(|part| vec![algorithm.digest(part)]).collect();
        assert_eq!(found, right);
    }
    whole.keep();
    assert!(memory == bytes);
}

/// Loads a file that has `length` bytes as far as the job knows, beside a good one; what comes of it, and what landed.
fn fails(file: File, length: u64, refuses: Option<u64>, loader: &Loader<'_>, algorithm: Algorithm) -> (Failure, Vec<u8>) {
    let good = common::file(&pattern(100_000));
    let mut memory = vec![0xEE; length as usize];
    let failure = {
        let all = landing(&mut memory, &[0..length]);
        let bad = Job {
            file: Arc::new(file),
            requests: vec![request(0..length, algorithm)],
            landing: all,
            received: Default::default(),
            refuses,
        };
        let jobs = [Job::new(&good, vec![request(0..100_000, algorithm)], Landing::new(Vec::new()).unwrap()), bad];
        loader.load(&jobs, &|job| &job.landing, &|_| ()).unwrap_err()
    };
    (failure, memory)
}

#[test]
fn a_read_that_fails_fails_the_load_and_nothing_stays() {
    let bytes = pattern(9_000_000);
    let size = bytes.len() as u64;
    for loader in loaders() {
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            // It ends early.
            let short = file(&bytes[..7_000_000]).into_file();
            let (failure, memory) = fails(short, size, None, &loader, algorithm);
            assert!(matches!(failure, Failure::Read(offset, io::ErrorKind::UnexpectedEof) if offset <= 7_000_000), "{failure:?}");
            assert!(memory.iter().all(|&byte| byte == 0), "{loader:?}");
            // It cannot be read.
            let (failure, memory) = fails(File::open("/").unwrap(), size, None, &loader, algorithm);
            assert!(matches!(failure, Failure::Read(_, io::ErrorKind::IsADirectory)), "{failure:?}");
            assert!(memory.iter().all(|&byte| byte == 0));
            // Nothing is mapped at its begin: an input/output error.
            let (failure, _) = fails(File::open("/proc/self/mem").unwrap(), size, None, &loader, algorithm);
            assert!(matches!(failure, Failure::Read(..)), "{failure:?}");
            // Whoever looks at the bytes refuses them.
            let (failure, memory) = fails(file(&bytes).into_file(), size, Some(5_000_000), &loader, algorithm);
            assert_eq!(failure, Failure::Refused);
            assert!(memory.iter().all(|&byte| byte == 0));
        }
    }
    // What failed before is no reason for the next one to.
    what_lands_is_what_was_asked_for();
}

#[test]
fn a_digest_of_bytes_that_two_regions_hold() {
    let bytes = pattern(1_000_000);
    let file = file(&bytes);
    let mut memory = vec![0; bytes.len()];
    let requests = vec![request(100..900_000, Algorithm::Sha3_256Tree)];
    let jobs = [Job::new(&file, requests.clone(), landing(&mut memory, &[0..500_000, 500_000..1_000_000]))];
    let found = Loader::default().load(&jobs, &|job| &job.landing, &|_| ()).unwrap();
    assert_eq!(found.outputs, [expected(&bytes, &requests)]);
}
