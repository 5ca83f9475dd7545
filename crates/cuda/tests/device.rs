//! The host side and the kernels together, on whatever device the driver shows: an emulated one (`make kernels`), or a GPU (`make gpu`).
//!
//! `SENTRY_DEVICE_CASES` is how many random messages each algorithm hashes.

// Some of it is for the CPU's tests only.
#[allow(dead_code)]
#[path = "../../hash/tests/common/mod.rs"]
mod common;

use std::env;

use common::conformance;
use sentry_cuda::{DeviceBytes, DeviceMemory, Gpu, GpuError, Piece, Share, TreeHasher};
use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State};
use sentry_hash::{Algorithm, Digest, HashError};

/// The algorithms that a GPU computes.
const TREES: [Algorithm; 4] = [Algorithm::Blake3, Algorithm::Sha256Tree, Algorithm::Blake2bTree, Algorithm::Sha3_256Tree];

fn gpu() -> &'static Gpu {
    Gpu::open(0).expect("a driver with a device: `make kernels` brings an emulated one")
}

/// Bytes that look random, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

/// Memory of the GPU that holds `bytes`.
fn on_gpu(bytes: &[u8]) -> DeviceMemory {
    let mut memory = gpu().allocate(bytes.len() as u64).unwrap();
    memory.fill(bytes).unwrap();
    memory
}

/// Digests of parts of `memory`, each from an offset on.
fn in_place(algorithm: Algorithm, memory: &DeviceMemory, parts: &[(u64, u64)]) -> Vec<Digest> {
    let stream = gpu().stream().unwrap();
    let messages: Vec<DeviceBytes<'_>> = parts.iter().map(|&(start, length)| memory.bytes(start, length)).collect();
    gpu().start(algorithm, &messages, &stream).unwrap().wait().unwrap()
}

#[test]
fn published_vectors() {
    conformance(&gpu(), &TREES);
}

#[test]
fn random_lengths_and_alignments_are_as_on_the_cpu() {
    let cases: usize = env::var("SENTRY_DEVICE_CASES").map_or(40, |cases| cases.parse().expect("a number of messages"));
    let mut random = Random(0x5EED);
    let bytes = random.bytes((5 << 20) + 64);
    let memory = on_gpu(&bytes);
    for algorithm in TREES {
        let leaf = algorithm.tree().unwrap().leaf_len();
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for case in 0..cases {
            // Mostly a few leaves, at any place; now and then several blocks of them.
            let most = if case % 10 == 0 { 5 << 20 } else { 8 * leaf };
            parts.push((random.below(64), random.below(most)));
        }
        let expected = parts.iter().map(|&(start, length)| algorithm.digest(&bytes[start as usize..(start + length) as usize]));
        for (place, ((start, length), (found, expected))) in
            parts.iter().zip(in_place(algorithm, &memory, &parts).into_iter().zip(expected)).enumerate()
        {
            assert_eq!(found, expected, "{algorithm}, message {place} of {cases}: {length} bytes from byte {start} on");
        }
    }
}

#[test]
fn no_message_and_empty_messages() {
    let memory = gpu().allocate(0).unwrap();
    for algorithm in TREES {
        assert_eq!(in_place(algorithm, &memory, &[]), []);
        assert_eq!(in_place(algorithm, &memory, &[(0, 0), (0, 0)]), [algorithm.digest(b""), algorithm.digest(b"")]);
    }
}

#[test]
fn pieces_in_any_order_on_several_streams() {
    let mut random = Random(7);
    for algorithm in TREES {
        let streams = [gpu().stream().unwrap(), gpu().stream().unwrap(), gpu().stream().unwrap()];
        let bytes = random.bytes(5_000_000);
        let memory = on_gpu(&bytes);
        let lengths = [3_333_333, 10, 1_000_000, 0];
        let hasher = TreeHasher::new(gpu(), algorithm, &lengths, &streams[0]).unwrap();
        let block = hasher.block_len();
        let mut pieces = Vec::new();
        let mut start = 0;
        for (message, &length) in lengths.iter().enumerate() {
            let mut offset = 0;
            loop {
                let size = (block * (1 + random.below(3))).min(length - offset);
                pieces.push(Piece { message, offset, bytes: memory.bytes(start + offset, size) });
                offset += size;
                if offset == length {
                    break;
                }
            }
            start += length;
        }
        for index in (1..pieces.len()).rev() {
            pieces.swap(index, random.below(index as u64 + 1) as usize);
        }
        // The last stream is one that no piece was given to.
        for (index, piece) in pieces.iter().enumerate() {
            hasher.update(&streams[index % 2], std::slice::from_ref(piece)).unwrap();
        }
        let digests = hasher.finish(&streams[2]).unwrap().wait().unwrap();
        let mut start = 0;
        for (digest, length) in digests.into_iter().zip(lengths) {
            assert_eq!(digest, algorithm.digest(&bytes[start..start + length as usize]), "{algorithm}, {length} bytes");
            start += length as usize;
        }
    }
}

#[test]
fn pieces_that_do_not_make_up_the_message_are_errors() {
    let stream = gpu().stream().unwrap();
    let memory = on_gpu(&[7; 3 << 20]);
    for algorithm in TREES {
        let start = || TreeHasher::new(gpu(), algorithm, &[3 << 20, 100], &stream).unwrap();
        let block = start().block_len();
        let piece = |message, offset, length| [Piece { message, offset, bytes: memory.bytes(0, length) }];
        let refused = |pieces: &[Piece<'_>]| {
            let memory_of = |piece: &Piece<'_>| Piece { bytes: memory.bytes(0, piece.bytes.len()), ..*piece };
            let pieces: Vec<Piece<'_>> = pieces.iter().map(memory_of).collect();
            start().update(&stream, &pieces).unwrap_err()
        };
        for (message, offset, length) in [(0, 1, block), (0, 0, block - 1), (0, 0, 0), (1, 0, 99), (1, 0, 0)] {
            let error = refused(&piece(message, offset, length));
            assert!(matches!(error, GpuError::Hash(HashError::PieceAlignment { .. })), "{error}");
        }
        for (message, offset, length) in [(0, block, 3 << 20), (1, 0, 101), (2, 0, 1)] {
            let error = refused(&piece(message, offset, length));
            assert!(matches!(error, GpuError::Hash(HashError::PieceOutOfRange { .. })), "{error}");
        }
        let twice = start();
        twice.update(&stream, &piece(0, block, block)).unwrap();
        let error = twice.update(&stream, &piece(0, 0, 2 * block)).unwrap_err();
        assert!(matches!(error, GpuError::Hash(HashError::PieceOverlap { offset: 0 })), "{error}");

        let incomplete = start();
        incomplete.update(&stream, &piece(0, 0, 3 << 20)).unwrap();
        let error = incomplete.finish(&stream).unwrap_err();
        assert!(matches!(error, GpuError::Hash(HashError::Incomplete { length, .. }) if length == (3 << 20) + 100), "{error}");
        let none = start().finish(&stream).unwrap_err();
        assert!(matches!(none, GpuError::Hash(HashError::Incomplete { seen: 0, .. })), "{none}");
    }
}

#[test]
fn a_serial_algorithm_is_refused() {
    for algorithm in [Algorithm::Sha256, Algorithm::Blake2b, Algorithm::Sha3_256] {
        assert!(!Gpu::computes(algorithm));
        assert_eq!(gpu().digest_many(algorithm, &[b"weights"]), Err(GpuError::Serial { algorithm }));
    }
}

#[test]
fn a_device_that_is_not_there() {
    let count = Gpu::count().unwrap();
    for ordinal in [count, usize::MAX] {
        assert_eq!(Gpu::open(ordinal).unwrap_err(), GpuError::NoDevice { ordinal, count });
    }
}

#[test]
fn threads_hash_at_the_same_time() {
    let mut random = Random(3);
    let messages: Vec<Vec<u8>> = (0..6).map(|index| random.bytes(100_000 * index)).collect();
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    std::thread::scope(|scope| {
        for algorithm in TREES.into_iter().chain(TREES) {
            let slices = &slices;
            scope.spawn(move || {
                let expected: Vec<Digest> = slices.iter().map(|message| algorithm.digest(message)).collect();
                assert_eq!(gpu().digest_many(algorithm, slices).unwrap(), expected);
            });
        }
    });
}

#[test]
fn a_share_of_the_multiprocessors() {
    let bytes = Random(11).bytes(1_500_000);
    let memory = on_gpu(&bytes);
    let current = gpu().stream().unwrap();
    for share in [0.01, 0.25, 1.0] {
        let part = gpu().part(Share::new(share).unwrap()).unwrap();
        part.follow(&current).unwrap();
        let digests = gpu().start(Algorithm::Blake3, &[memory.bytes(5, 1_400_000)], part).unwrap().wait().unwrap();
        assert_eq!(digests, [Algorithm::Blake3.digest(&bytes[5..1_400_005])]);
    }
    for wrong in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        assert_eq!(Share::new(wrong), None);
    }
}

#[test]
fn lattice_sums_are_as_on_the_cpu() {
    let source = SourceTag::new("train").unwrap();
    let entry = |id: u64| Entry { id: id.wrapping_mul(0x9E37_79B9_7F4A_7C15), digest: SampleDigest::of_record(&id.to_le_bytes()) };
    for count in [0, 1, 2, 31, 1000] {
        let entries: Vec<Entry> = (0..count).map(entry).collect();
        let mut expected = State::new();
        entries.iter().for_each(|entry| expected.add(&source, entry).unwrap());
        assert_eq!(gpu().lattice_state(&source, &entries).unwrap(), expected, "{count} samples");

        let stored: Vec<u8> = entries.iter().flat_map(|entry| [&entry.id.to_le_bytes()[..], entry.digest.as_bytes()].concat()).collect();
        let memory = on_gpu(&[&[0; 3][..], &stored].concat());
        let stream = gpu().stream().unwrap();
        let resident = gpu().lattice_state_of(&source, memory.bytes(3, stored.len() as u64), &stream);
        assert_eq!(resident.unwrap(), expected, "{count} samples in the GPU's memory");
        if count > 0 {
            assert!(gpu().lattice_state_of(&source, memory.bytes(3, stored.len() as u64 - 1), &stream).is_err());
        }
    }
}
