//! Loads to the memory of GPUs: the right bytes, the right digests; and nothing is left of what failed.

mod common;

use std::ops::Range;

use common::{Failure, Job, expected, file, load_and_keep, pattern, request};
use sentry_cuda::{DeviceBytes, DeviceMemory, Gpu};
use sentry_hash::files::Request;
use sentry_hash::{Algorithm, Digest};
use sentry_load::{Landing, Loader, Reading, Region, Room};

const TREES: [Algorithm; 4] = [Algorithm::Blake3, Algorithm::Sha256Tree, Algorithm::Blake2bTree, Algorithm::Sha3_256Tree];

/// The digest of what lies in memory.
fn digest(gpu: &'static Gpu, memory: &DeviceMemory, range: Range<u64>) -> Digest {
    let stream = gpu.stream().unwrap();
    let pending = gpu.start(Algorithm::Blake3, &[memory.bytes(range.start, range.end - range.start)], &stream).unwrap();
    pending.wait().unwrap().remove(0)
}

/// Requests that abut, of these lengths, from `start` on.
fn requests(start: u64, lengths: &[u64], algorithm: Algorithm) -> Vec<Request> {
    let mut end = start;
    let request = |&length: &u64| {
        end += length;
        request(end - length..end, algorithm)
    };
    lengths.iter().map(request).collect()
}

/// Room for a range of the file in some memory.
fn region(range: Range<u64>, room: Room<'_>) -> Region<'_> {
    Region { range, room }
}

/// All GPUs, or the first two.
fn gpus() -> Vec<&'static Gpu> {
    (0..Gpu::count().unwrap().min(2)).map(|ordinal| Gpu::open(ordinal).unwrap()).collect()
}

/// Every algorithm in one way, and every way with one: emulated kernels are slow.
fn cases() -> Vec<(Loader<'static>, Algorithm)> {
    let mut cases: Vec<_> = TREES.iter().map(|&algorithm| (Loader::default(), algorithm)).collect();
    for (reading, queued, threads) in [(Reading::Cached, true, 1), (Reading::Direct, false, 2), (Reading::Direct, true, 5)] {
        cases.push((Loader { reading, queued, threads: Some(threads), ..Loader::default() }, Algorithm::Blake3));
    }
    cases
}

#[test]
fn what_lands_is_the_file_and_has_its_digests() {
    let gpu = Gpu::open(0).unwrap();
    let bytes = pattern(2_400_001);
    let file = file(&bytes);
    let size = bytes.len() as u64;
    let start = 1001;
    let lengths: [&[u64]; 3] =
        [&[size - start], &[300_000, 0, 1, 17, 262_144, size - start - 562_162], &[0, 100_000, 100_000, 262_144, 262_144, 1_048_576, 3]];
    for (loader, algorithm) in cases() {
        for lengths in lengths {
            let requests = requests(start, lengths, algorithm);
            let end = requests.last().unwrap().range.end;
            let mut memory = gpu.allocate(size).unwrap();
            memory.fill(&vec![0xEE; size as usize]).unwrap();
            // At an address that is no multiple of anything.
            let room = memory.room(gpu).part(3, end - start);
            let landing = Landing::new(vec![Region { range: start..end, room: Room::Device(room) }]).unwrap();
            let found = load_and_keep(&loader, Job::new(&file, requests.clone(), landing)).unwrap();
            assert_eq!(found, expected(&bytes, &requests), "{algorithm}, {lengths:?}, {loader:?}");
            assert_eq!(digest(gpu, &memory, 3..3 + end - start), Algorithm::Blake3.digest(&bytes[start as usize..end as usize]));
            assert_eq!(digest(gpu, &memory, 0..3), Algorithm::Blake3.digest(&[0xEE; 3]), "nothing is written beside it");
        }
    }
}

#[test]
fn one_file_to_several_memories() {
    let bytes = pattern(1_500_000);
    let file = file(&bytes);
    let gpus = gpus();
    let (first, last) = (gpus[0], *gpus.last().unwrap());
    let requests = vec![
        request(0..400_000, Algorithm::Blake3),
        request(400_000..900_000, Algorithm::Blake3),
        request(900_000..1_500_000, Algorithm::Blake3),
        // The cores compute these: one is serial, the other lies in several memories.
        request(0..1_500_000, Algorithm::Sha256),
        request(100..1_400_000, Algorithm::Blake3),
    ];
    let (mut one, mut other, mut host) = (first.allocate(400_000).unwrap(), last.allocate(500_000).unwrap(), vec![0; 600_000]);
    let regions = vec![
        region(0..400_000, Room::Device(one.room(first))),
        region(400_000..900_000, Room::Device(other.room(last))),
        region(900_000..1_500_000, Room::Host((&mut host[..]).into())),
    ];
    let found = load_and_keep(&Loader::default(), Job::new(&file, requests.clone(), Landing::new(regions).unwrap())).unwrap();
    assert_eq!(found, expected(&bytes, &requests));
    assert_eq!(digest(first, &one, 0..400_000), Algorithm::Blake3.digest(&bytes[..400_000]));
    assert_eq!(digest(last, &other, 0..500_000), Algorithm::Blake3.digest(&bytes[400_000..900_000]));
    assert!(host == bytes[900_000..]);
}

/// As models have them: files of many small tensors and of some large ones, under several kinds of digests, each file on one GPU.
#[test]
fn several_files_at_once() {
    let gpus = gpus();
    let contents: Vec<Vec<u8>> = (0..5).map(|number| pattern(300_000 + 100_001 * number)).collect();
    let files: Vec<_> = contents.iter().map(|bytes| file(bytes)).collect();
    let small = |size: u64, algorithm| requests(77, &vec![2003; (size - 77) as usize / 2003], algorithm);
    let requests_of = |number: usize, size: u64| match number {
        0 => small(size, Algorithm::Blake3),
        1 => vec![request(0..size, Algorithm::Sha256)],
        // With gaps.
        2 => small(size, Algorithm::Blake3).into_iter().step_by(3).collect(),
        3 => vec![request(0..size, Algorithm::Blake2bTree)],
        _ => vec![
            request(100..size - 5, Algorithm::Blake3),
            request(0..90, Algorithm::Sha256Tree),
            request(size - 5..size, Algorithm::Blake2b),
        ],
    };
    for (reading, threads) in [(Reading::Cached, 1), (Reading::Direct, 3), (Reading::Auto, 20)] {
        let mut memories: Vec<_> =
            contents.iter().enumerate().map(|(number, bytes)| gpus[number % gpus.len()].allocate(bytes.len() as u64).unwrap()).collect();
        let job = |(number, memory): (usize, _)| {
            let memory: &mut DeviceMemory = memory;
            memory.fill(&[0xEE; 4096]).unwrap();
            let size = memory.len();
            let landing = Landing::new(vec![region(0..size, Room::Device(memory.room(gpus[number % gpus.len()])))]).unwrap();
            Job::new(&files[number], requests_of(number, size), landing)
        };
        let jobs: Vec<_> = memories.iter_mut().enumerate().map(job).collect();
        let loader = Loader { reading, threads: Some(threads), ..Loader::default() };
        let found = loader.load(&jobs, &|job| &job.landing, &|_| ()).unwrap().outputs;
        let right: Vec<_> = jobs.iter().zip(&contents).map(|(job, bytes)| expected(bytes, &job.requests)).collect();
        assert_eq!(found, right, "{loader:?}");
        jobs.into_iter().for_each(|job| job.landing.keep());
        for (number, (memory, bytes)) in memories.iter().zip(&contents).enumerate() {
            // Nobody asked for the others, which keep what they held.
            let mut there = vec![0xEE; bytes.len()];
            for Request { range, .. } in requests_of(number, memory.len()) {
                let range = range.start as usize..range.end as usize;
                there[range.clone()].copy_from_slice(&bytes[range]);
            }
            let found = digest(gpus[number % gpus.len()], memory, 0..memory.len());
            assert_eq!(found, Algorithm::Blake3.digest(&there), "file {number}, {loader:?}");
        }
    }
}

#[test]
fn shards_of_one_file_have_one_landing() {
    let gpu = Gpu::open(0).unwrap();
    let bytes = pattern(1_000_000);
    let size = bytes.len() as u64;
    let file = file(&bytes);
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let mut memory = gpu.allocate(size).unwrap();
        let landing = Landing::new(vec![region(0..size, Room::Device(memory.room(gpu)))]).unwrap();
        let shard = |start| Job::new(&file, vec![request(start..size.min(start + 65_537), algorithm)], Landing::new(Vec::new()).unwrap());
        let jobs: Vec<_> = (0..size).step_by(65_537).map(shard).collect();
        let found = Loader::default().load(&jobs, &|_| &landing, &|_| ()).unwrap().outputs;
        let right: Vec<_> = bytes.chunks(65_537).map(|shard| vec![algorithm.digest(shard)]).collect();
        assert_eq!(found, right);
        landing.keep();
        assert_eq!(digest(gpu, &memory, 0..size), Algorithm::Blake3.digest(&bytes));
    }
}

#[test]
fn nothing_stays_of_a_load_that_fails() {
    const LENGTH: u64 = 2_500_000;
    let gpus = gpus();
    let bytes = pattern(LENGTH as usize);
    let (short, whole) = (file(&bytes[..2_300_000]), file(&bytes));
    let half = LENGTH / 2;
    let zeroes = Algorithm::Blake3.digest(&vec![0; half as usize]);
    for loader in [
        Loader { threads: Some(1), ..Loader::default() },
        Loader { threads: Some(3), reading: Reading::Direct, ..Loader::default() },
        Loader { threads: Some(3), reading: Reading::Direct, queued: false, ..Loader::default() },
    ] {
        for (file, refuses) in [(&short, None), (&whole, Some(2_200_000))] {
            for algorithm in [Algorithm::Blake3, Algorithm::Sha256] {
                let mut memories: Vec<_> = gpus.iter().cycle().take(2).map(|gpu| (*gpu, gpu.allocate(half).unwrap())).collect();
                let mut regions = Vec::new();
                for (start, (gpu, memory)) in [0, half].into_iter().zip(&mut memories) {
                    memory.fill(&[0xEE; 4096]).unwrap();
                    regions.push(region(start..start + half, Room::Device(memory.room(gpu))));
                }
                let landing = Landing::new(regions).unwrap();
                let requests = vec![request(0..half, algorithm), request(half..LENGTH, algorithm)];
                let failure = load_and_keep(&loader, Job { refuses, ..Job::new(file, requests, landing) }).unwrap_err();
                match refuses {
                    Some(_) => assert_eq!(failure, Failure::Refused),
                    None => assert!(matches!(failure, Failure::Read(_, std::io::ErrorKind::UnexpectedEof)), "{failure:?}"),
                }
                for (gpu, memory) in &memories {
                    assert_eq!(digest(gpu, memory, 0..half), zeroes, "it is wiped, {loader:?}");
                }
            }
        }
    }
}

/// Also by a load that fails before it has come to that memory: it is wiped then.
#[test]
fn work_that_still_uses_the_memory_is_waited_for() {
    let gpu = Gpu::open(0).unwrap();
    let bytes = pattern(600_000);
    let (good, directory) = (file(&bytes), std::fs::File::open("/").unwrap().into());
    for (first, is_right) in [(&good, true), (&directory, false)] {
        for (algorithm, threads) in [(Algorithm::Blake3, 1), (Algorithm::Blake3, 3), (Algorithm::Sha256Tree, 1)] {
            let (mut host, mut memory) = (vec![0; 1000], gpu.allocate(600_000).unwrap());
            let stream = gpu.stream().unwrap();
            // Reads what lies there now, and has not begun when the load does.
            memory.fill(&[7; 4096]).unwrap();
            // SAFETY: the memory outlives the hash.
            #[allow(unsafe_code)]
            let former = unsafe { DeviceBytes::new(memory.bytes(0, 600_000).address(), 600_000) };
            let pending = gpu.start(Algorithm::Blake3, &[former], &stream).unwrap();
            let landing = |range, room| Landing::new(vec![region(range, room)]).unwrap();
            let jobs = [
                Job::new(first, vec![request(0..1000, algorithm)], landing(0..1000, Room::Host((&mut host[..]).into()))),
                Job::new(&good, vec![request(0..600_000, algorithm)], landing(0..600_000, Room::Device(memory.room(gpu)))),
            ];
            let loader = Loader { after: vec![(gpu, &stream)], threads: Some(threads), ..Loader::default() };
            match loader.load(&jobs, &|job| &job.landing, &|_| ()) {
                Ok(_) => jobs.into_iter().for_each(|job| job.landing.keep()),
                Err(_) => drop(jobs),
            }
            assert_eq!(pending.wait().unwrap(), [Algorithm::Blake3.digest(&[7; 600_000])], "{algorithm}, {threads}, {is_right}");
            let lies_there = if is_right { bytes.clone() } else { vec![0; 600_000] };
            assert_eq!(digest(gpu, &memory, 0..600_000), Algorithm::Blake3.digest(&lies_there), "{algorithm}, {threads}");
        }
    }
}

#[test]
fn loads_at_the_same_time() {
    let gpu = Gpu::open(0).unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let bytes = pattern(500_000 + number);
                let file = file(&bytes);
                for _ in 0..3 {
                    let mut memory = gpu.allocate(bytes.len() as u64).unwrap();
                    let all = 0..bytes.len() as u64;
                    let landing = Landing::new(vec![region(all.clone(), Room::Device(memory.room(gpu)))]).unwrap();
                    let requests = vec![request(all, Algorithm::Blake3)];
                    let found = load_and_keep(&Loader::default(), Job::new(&file, requests.clone(), landing)).unwrap();
                    assert_eq!(found, expected(&bytes, &requests));
                }
            });
        }
    });
}
