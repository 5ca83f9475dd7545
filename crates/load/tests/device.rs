//! Loads to the memory of GPUs: the right bytes, the right digests; and nothing is left of what failed.

mod common;

use std::ops::Range;

use common::{Failure, Job, expected, file, pattern, request};
use sentry_cuda::{DeviceMemory, Gpu};
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

/// Loads one file, whose landing is kept.
fn load_and_keep(loader: &Loader<'_>, job: Job<'_>) -> Result<Vec<Digest>, Failure> {
    let jobs = [job];
    let mut loaded = loader.load(&jobs, &|job| &job.landing, &|_| ())?;
    let [job] = jobs;
    job.landing.keep();
    Ok(loaded.outputs.remove(0))
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

/// Room for a range of the file in some memory.
fn region(range: Range<u64>, room: Room<'_>) -> Region<'_> {
    Region { range, room }
}

#[test]
fn one_file_to_several_memories() {
    let bytes = pattern(1_500_000);
    let file = file(&bytes);
    let gpus: Vec<_> = (0..Gpu::count().unwrap().min(2)).map(|ordinal| Gpu::open(ordinal).unwrap()).collect();
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

#[test]
fn nothing_stays_of_a_load_that_fails() {
    let gpu = Gpu::open(0).unwrap();
    let bytes = pattern(2_500_000);
    let short = file(&bytes[..2_300_000]);
    let zeroes = Algorithm::Blake3.digest(&vec![0; bytes.len()]);
    for loader in
        [Loader { threads: Some(1), ..Loader::default() }, Loader { threads: Some(3), reading: Reading::Direct, ..Loader::default() }]
    {
        let mut memory = gpu.allocate(2_500_000).unwrap();
        memory.fill(&vec![0xEE; 2_500_000]).unwrap();
        let landing = Landing::new(vec![region(0..2_500_000, Room::Device(memory.room(gpu)))]).unwrap();
        let job = Job::new(&short, vec![request(0..2_500_000, Algorithm::Blake3)], landing);
        let failure = load_and_keep(&loader, job).unwrap_err();
        assert!(matches!(failure, Failure::Read(_, std::io::ErrorKind::UnexpectedEof)), "{failure:?}");
        assert_eq!(digest(gpu, &memory, 0..2_500_000), zeroes, "it is wiped");
    }
}

#[test]
fn work_that_still_uses_the_memory_is_waited_for() {
    let gpu = Gpu::open(0).unwrap();
    let bytes = pattern(600_000);
    let file = file(&bytes);
    let mut memory = gpu.allocate(600_000).unwrap();
    let stream = gpu.stream().unwrap();
    // Reads what lies there now, and has not begun when the load does.
    memory.fill(&vec![7; 600_000]).unwrap();
    // SAFETY: the memory outlives the hash.
    #[allow(unsafe_code)]
    let former = unsafe { sentry_cuda::DeviceBytes::new(memory.bytes(0, 600_000).address(), 600_000) };
    let pending = gpu.start(Algorithm::Blake3, &[former], &stream).unwrap();
    let landing = Landing::new(vec![region(0..600_000, Room::Device(memory.room(gpu)))]).unwrap();
    let loader = Loader { after: vec![(gpu, &stream)], ..Loader::default() };
    load_and_keep(&loader, Job::new(&file, vec![request(0..600_000, Algorithm::Blake3)], landing)).unwrap();
    assert_eq!(pending.wait().unwrap(), [Algorithm::Blake3.digest(&[7; 600_000])]);
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
