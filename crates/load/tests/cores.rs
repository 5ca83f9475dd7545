//! Loads to this machine's memory: the right bytes, the right digests, by any number of threads; the right error of what fails.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some of which have one")]

mod common;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Failure, Job, expected, file, load_and_keep, pattern, request};
use sentry_hash::Algorithm;
use sentry_hash::files::Request;
use sentry_load::{Landing, Loaded, Loader, Machine, Reading, Region, Report, Room, Search};

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

/// Marks which bytes of a file so long some ranges have; none has one that another one has.
fn marked<'r>(size: usize, ranges: impl IntoIterator<Item = &'r Range<u64>>) -> Vec<bool> {
    let mut marks = vec![false; size];
    for range in ranges {
        let marks = &mut marks[range.start as usize..range.end as usize];
        assert!(marks.iter().all(|mark| !mark), "twice: {range:?}");
        marks.fill(true);
    }
    marks
}

#[test]
fn what_lands_is_what_was_asked_for() {
    let bytes = pattern(4_500_003);
    let size = bytes.len() as u64;
    let file = file(&bytes);
    for loader in loaders() {
        for requests in layouts(size) {
            let mut wanted = vec![false; bytes.len()];
            requests.iter().for_each(|request| wanted[request.range.start as usize..request.range.end as usize].fill(true));
            let count = wanted.iter().filter(|wanted| **wanted).count() as u64;
            for ranges in [&[0..size][..], &[0..10, 10..2_000_000, 3_000_000..size], &[]] {
                let mut memory = vec![0xEE; bytes.len()];
                let read = AtomicU64::new(0);
                let advance = |bytes| {
                    read.fetch_add(bytes, Ordering::Relaxed);
                };
                let jobs = [Job::new(&file, requests.clone(), landing(&mut memory, ranges))];
                let Loaded { outputs, report } = loader.load(&jobs, &|job| &job.landing, &advance).unwrap();
                let [received] = jobs.map(|job| {
                    job.landing.keep();
                    job.received.into_inner().unwrap()
                });
                assert_eq!(outputs, [expected(&bytes, &requests)], "{loader:?} {requests:?}");
                // Each byte that some digest is asked of was seen just once, and no other one; so they say that read them.
                assert!(marked(bytes.len(), &received) == wanted, "{requests:?}");
                assert_eq!([read.into_inner(), report.cached + report.queued + report.direct + report.cufile], [count; 2]);
                let room = marked(bytes.len(), ranges);
                let is_right = |at: usize| memory[at] == if room[at] && wanted[at] { bytes[at] } else { 0xEE };
                let wrong = (0..bytes.len()).find(|&at| !is_right(at));
                assert_eq!(wrong, None, "the place of a byte, {loader:?} {requests:?} {ranges:?}");
            }
        }
    }
}

/// Else tests of one way would be tests of another.
#[test]
fn files_are_read_in_the_way_that_was_asked_for() {
    let bytes = pattern(4_500_003);
    let size = bytes.len() as u64;
    let file = file(&bytes);
    let has_queues = Machine::examine(Search::NoGpu).io_uring.is_ok();
    for loader in loaders() {
        let jobs = [Job::new(&file, vec![request(0..size, Algorithm::Blake3)], Landing::new(Vec::new()).unwrap())];
        let Report { threads, cached, queued, direct, buffers, .. } = loader.load(&jobs, &|job| &job.landing, &|_| ()).unwrap().report;
        let expected = match loader.reading {
            Reading::Direct if common::reads_around_cache() && loader.queued && has_queues => [0, size, 0],
            Reading::Direct if common::reads_around_cache() => [0, 0, size],
            // It was just written, so that it is in the cache.
            _ => [size, 0, 0],
        };
        assert_eq!([cached, queued, direct], expected, "{loader:?}");
        assert!(threads <= loader.threads.unwrap() && buffers > 0 && buffers <= threads as u64 * (10 << 20), "{threads}, {buffers}");
    }
}

#[test]
fn many_files_at_once_more_than_threads_and_fewer() {
    let contents: Vec<Vec<u8>> = (0..9).map(|number| pattern(700_001 * number)).collect();
    let files: Vec<_> = contents.iter().map(|bytes| file(bytes)).collect();
    // All of one kind, and serial ones among trees.
    let kinds = [Algorithm::Sha256, Algorithm::Blake2b, Algorithm::Blake3].map(|algorithm| [algorithm; 3]);
    for threads in [1, 2, 3, 20] {
        for kinds in kinds.into_iter().chain([[Algorithm::Sha256, Algorithm::Blake3, Algorithm::Blake2bTree]]) {
            let mut memories: Vec<Vec<u8>> = contents.iter().map(|bytes| vec![0; bytes.len()]).collect();
            let jobs: Vec<_> = (files.iter().zip(&contents).zip(&mut memories).zip(kinds.into_iter().cycle()))
                .map(|(((file, bytes), memory), algorithm)| {
                    let all = 0..bytes.len() as u64;
                    let job = Job::new(file, vec![request(all.clone(), algorithm)], landing(memory, &[all]));
                    // Some are slower than others.
                    Job { pause: Duration::from_millis(bytes.len() as u64 % 3), ..job }
                })
                .collect();
            let loader = Loader { threads: Some(threads), ..Loader::default() };
            let found = loader.load(&jobs, &|job| &job.landing, &|_| ()).unwrap().outputs;
            let digests = contents.iter().zip(kinds.into_iter().cycle()).map(|(bytes, algorithm)| vec![algorithm.digest(bytes)]);
            assert_eq!(found, digests.collect::<Vec<_>>());
            jobs.into_iter().for_each(|job| job.landing.keep());
            assert!(memories == contents);
        }
    }
}

#[test]
fn several_jobs_of_one_file_have_one_landing() {
    let bytes = pattern(3_000_000);
    let file = file(&bytes);
    let mut memory = vec![0; bytes.len()];
    let whole = landing(&mut memory, &[0..3_000_000]);
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let part = |number: u64| {
            let request = request(number * 100_000..(number + 1) * 100_000, algorithm);
            Job::new(&file, vec![request], Landing::new(Vec::new()).unwrap())
        };
        let jobs: Vec<_> = (0..30).map(part).collect();
        let found = Loader::default().load(&jobs, &|_| &whole, &|_| ()).unwrap().outputs;
        let right: Vec<_> = bytes.chunks(100_000).map(|part| vec![algorithm.digest(part)]).collect();
        assert_eq!(found, right);
    }
    whole.keep();
    assert!(memory == bytes);
}

/// Loads a file that has [`LENGTH`] bytes as far as its job knows, among good ones, and says what came of it. Nothing may stay of any.
fn fails(file: &Arc<File>, refuses: Option<u64>, loader: &Loader<'_>, algorithm: Algorithm) -> Failure {
    let good = common::file(&pattern(100_000));
    let (mut memory, mut others) = (vec![0xEE; LENGTH as usize], vec![0xEE; 800_000]);
    let failure = {
        let other = |memory| Job::new(&good, vec![request(0..100_000, algorithm)], landing(memory, &[0..100_000]));
        let mut jobs: Vec<_> = others.chunks_mut(100_000).map(other).collect();
        let bad = Job::new(file, vec![request(0..LENGTH, algorithm)], landing(&mut memory, &[0..LENGTH]));
        jobs.insert(4, Job { refuses, ..bad });
        loader.load(&jobs, &|job| &job.landing, &|_| ()).unwrap_err()
    };
    assert!(memory.iter().chain(&others).all(|&byte| byte == 0), "it is wiped, {loader:?}");
    failure
}

const LENGTH: u64 = 9_000_000;

#[test]
fn a_read_that_fails_fails_the_load_and_nothing_stays() {
    let bytes = pattern(LENGTH as usize);
    let (short, directory, whole) = (file(&bytes[..7_000_000]), Arc::new(File::open("/").unwrap()), file(&bytes));
    // Nothing is mapped at its begin.
    let unmapped = Arc::new(File::open("/proc/self/mem").unwrap());
    for loader in loaders() {
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            let failure = fails(&short, None, &loader, algorithm);
            assert!(matches!(failure, Failure::Read(offset, io::ErrorKind::UnexpectedEof) if offset <= 7_000_000), "{failure:?}");
            let failure = fails(&directory, None, &loader, algorithm);
            assert!(matches!(failure, Failure::Read(_, io::ErrorKind::IsADirectory)), "{failure:?}");
            let failure = fails(&unmapped, None, &loader, algorithm);
            assert!(matches!(failure, Failure::Read(offset, kind) if offset < LENGTH && kind == input_output_error()), "{failure:?}");
            // Whoever looks at the bytes refuses them.
            for byte in [0, 5_000_000, LENGTH - 1] {
                assert_eq!(fails(&whole, Some(byte), &loader, algorithm), Failure::Refused);
            }
        }
    }
    // What failed before is no reason for the next one to.
    let mut memory = vec![0; bytes.len()];
    let job = Job::new(&whole, vec![request(0..LENGTH, Algorithm::Sha256)], landing(&mut memory, &[0..LENGTH]));
    assert_eq!(load_and_keep(&Loader::default(), job).unwrap(), [Algorithm::Sha256.digest(&bytes)]);
    assert!(memory == bytes);
}

fn input_output_error() -> io::ErrorKind {
    io::Error::from_raw_os_error(libc::EIO).kind()
}

/// The other threads stop, and the panic is passed on.
#[test]
fn a_panic_in_the_middle_leaves_nothing_either() {
    let bytes = pattern(LENGTH as usize);
    let file = file(&bytes);
    for loader in loaders() {
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            let mut memory = vec![0xEE; bytes.len()];
            let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
                let jobs = [Job::new(&file, vec![request(0..LENGTH, algorithm)], landing(&mut memory, &[0..LENGTH]))];
                let read = AtomicU64::new(0);
                let advance = |bytes| assert!(read.fetch_add(bytes, Ordering::Relaxed) < 4_000_000, "a panic that is wanted");
                loader.load(&jobs, &|job| &job.landing, &advance).map(drop)
            }));
            assert!(panicked.is_err());
            assert!(memory.iter().all(|&byte| byte == 0), "it is wiped, {loader:?}");
        }
    }
}

#[test]
fn a_digest_of_bytes_that_two_regions_hold() {
    let bytes = pattern(1_000_000);
    let file = file(&bytes);
    let mut memory = vec![0; bytes.len()];
    let requests = vec![request(100..900_000, Algorithm::Sha3_256Tree)];
    let job = Job::new(&file, requests.clone(), landing(&mut memory, &[0..500_000, 500_000..1_000_000]));
    assert_eq!(load_and_keep(&Loader::default(), job).unwrap(), expected(&bytes, &requests));
    assert!(memory[100..900_000] == bytes[100..900_000]);
}
