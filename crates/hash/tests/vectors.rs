//! Published vectors through everything that computes a digest: backends, the streaming hasher, joined pieces.

mod common;

use common::records::records;
use common::{Vector, conformance, of_period_251, period_251, short_vectors, vectors};
use sentry_hash::tree::{Joiner, Tree};
use sentry_hash::{Algorithm, Cpu, Digest, Hasher};

#[test]
fn cpu_with_one_thread() {
    conformance(&Cpu::with_threads(1), &Algorithm::ALL);
}

#[test]
fn cpu_with_two_threads() {
    conformance(&Cpu::with_threads(2), &Algorithm::ALL);
}

#[test]
fn cpu_with_more_threads_than_cores() {
    conformance(&Cpu::with_threads(8), &Algorithm::ALL);
}

/// Sizes of updates around the block of SHA-256 (64), BLAKE2b (128), SHA3-256 (136) and BLAKE3's chunk (1024), in an
/// order in which each meets a different rest in the hasher's buffer.
const UPDATES: [usize; 26] =
    [1, 1023, 0, 55, 56, 129, 63, 64, 0, 65, 1025, 111, 112, 119, 120, 2, 127, 128, 135, 136, 4097, 137, 1024, 7, 65536, 65537];

#[test]
fn updates_of_any_size_give_the_digest() {
    let mut run = 0;
    for algorithm in Algorithm::ALL {
        for vector in short_vectors(algorithm) {
            for first in 0..UPDATES.len() {
                // Long messages are cut in a few of the ways only.
                if vector.message.len() > 1 << 16 && first % 9 != 0 {
                    continue;
                }
                assert_eq!(streamed(algorithm, &vector.message, first), vector.digest, "{}, update {first}", vector.source);
                run += 1;
            }
        }
    }
    // 912 of flat hashes and BLAKE3, and 109 of each Merkle tree.
    assert_eq!(run, (912 - 53) * 26 + 53 * 3 + 3 * (49 * 26 + 60 * 3));
}

/// Cuts off a message's first bytes, of each [`UPDATES`] size in turn, from the `first` on.
struct Updates<'a> {
    rest: &'a [u8],
    next: usize,
}

impl<'a> Updates<'a> {
    fn new(message: &'a [u8], first: usize) -> Self {
        Self { rest: message, next: first }
    }

    fn take(&mut self) -> &'a [u8] {
        let size = UPDATES[self.next % UPDATES.len()];
        let (update, rest) = self.rest.split_at(self.rest.len().min(size));
        (self.rest, self.next) = (rest, self.next + 1);
        update
    }
}

fn streamed(algorithm: Algorithm, message: &[u8], first: usize) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    let mut updates = Updates::new(message, first);
    while !updates.rest.is_empty() {
        hasher.update(updates.take());
    }
    hasher.finish()
}

#[test]
fn updates_of_pairs_give_both_digests() {
    let mut run = 0;
    for algorithm in Algorithm::ALL {
        for other_algorithm in [algorithm, Algorithm::Sha256, Algorithm::Blake3] {
            let (vectors, others) = (short_vectors(algorithm), short_vectors(other_algorithm));
            for (index, vector) in vectors.iter().enumerate() {
                // Far apart in the list, so that short messages meet long ones.
                for step in [0, 1, 31, 101, 150] {
                    let other = &others[(index + step) % others.len()];
                    let digests = streamed_pair((algorithm, &vector.message), (other_algorithm, &other.message), [index, 5 * step]);
                    assert_eq!(digests, [vector.digest, other.digest], "{} beside {}", vector.source, other.source);
                    run += 1;
                }
            }
        }
    }
    assert_eq!(run, (912 + 3 * 109) * 3 * 5);
}

/// Feeds two hashers at once, until both messages are at their end. The updates of the two differ in size.
fn streamed_pair(one: (Algorithm, &[u8]), other: (Algorithm, &[u8]), first: [usize; 2]) -> [Digest; 2] {
    let mut hashers = (Hasher::new(one.0), Hasher::new(other.0));
    let (mut updates, mut other_updates) = (Updates::new(one.1, first[0]), Updates::new(other.1, first[1]));
    while !updates.rest.is_empty() || !other_updates.rest.is_empty() {
        hashers.0.update_pair(updates.take(), &mut hashers.1, other_updates.take());
    }
    [hashers.0.finish(), hashers.1.finish()]
}

#[test]
fn updates_of_one_byte_give_the_digest() {
    let mut run = 0;
    for algorithm in Algorithm::ALL {
        for Vector { source, message, digest } in vectors(algorithm).into_iter().filter(|vector| vector.message.len() <= 5000) {
            let mut hasher = Hasher::new(algorithm);
            message.iter().for_each(|byte| hasher.update(&[*byte]));
            assert_eq!(hasher.finish(), digest, "{source}");
            run += 1;
        }
    }
    assert_eq!(run, 733 + 3 * 20);
}

#[test]
fn hashers_in_turns_do_not_disturb_each_other() {
    let expected = |algorithm, length: usize| {
        let of_length = |vector: &Vector| vector.message.len() == length;
        of_period_251(algorithm).into_iter().find(of_length).unwrap().digest
    };
    for left in Algorithm::ALL {
        for right in Algorithm::ALL {
            let mut hashers = [Hasher::new(left), Hasher::new(right)];
            let lengths = [102_400, 65_537];
            for start in (0..102_400).step_by(777) {
                for (hasher, length) in hashers.iter_mut().zip(lengths) {
                    hasher.update(&period_251(length)[start.min(length)..(start + 777).min(length)]);
                }
            }
            let digests = hashers.map(Hasher::finish);
            assert_eq!(digests, [expected(left, lengths[0]), expected(right, lengths[1])], "{left} beside {right}");
        }
    }
}

#[test]
fn pieces_from_last_to_first_give_the_digest() {
    let mut run = 0;
    for tree in [Tree::Blake3, Tree::Sha256, Tree::Blake2b, Tree::Sha3_256] {
        for Vector { source, message, digest } in vectors(tree.algorithm()) {
            for size in [1000, 1024, 1025, 4095, 4096, 4097, 65_537, 1 << 20] {
                // The longest messages are cut in large pieces only.
                if size < 65_536 && message.len() > 6 << 20 {
                    continue;
                }
                let length = message.len() as u64;
                let mut joiner = Joiner::new(tree, length);
                for (index, piece) in message.chunks(size).enumerate().rev() {
                    joiner.insert(tree.piece(length, (index * size) as u64, piece).unwrap()).unwrap();
                }
                assert_eq!(joiner.finish(), Ok(digest), "{tree:?}: {source}, pieces of {size}");
                run += 1;
            }
        }
    }
    assert_eq!(run, 8 * (22 + 67) + 3 * (8 * 137 + 2 * 33));
}

/// The Secure Hash Standard Validation System, section 6.4: each digest is of the three before it.
#[test]
fn sha256_monte_carlo() {
    monte_carlo(Algorithm::Sha256, "SHA256Monte", |seed| {
        let mut last = [seed; 3];
        for _ in 0..1000 {
            let message = last.map(|digest| digest.as_bytes().to_vec()).concat();
            last = [last[1], last[2], Algorithm::Sha256.digest(&message)];
        }
        last[2]
    });
}

/// The SHA-3 Validation System, section 6.2.3: each digest is of the one before it.
#[test]
fn sha3_256_monte_carlo() {
    monte_carlo(Algorithm::Sha3_256, "SHA3_256Monte", |seed| {
        (0..1000).fold(seed, |digest, _| Algorithm::Sha3_256.digest(digest.as_bytes()))
    });
}

fn monte_carlo(algorithm: Algorithm, name: &str, thousand: impl Fn(Digest) -> Digest) {
    let path = format!("vectors/nist/{name}.rsp");
    let [seed] = &records(&path, ["Seed"], 1)[0];
    let mut digest = Digest::from_hex(algorithm, seed).unwrap();
    for [count, expected] in records(&path, ["COUNT", "MD"], 100) {
        digest = thousand(digest);
        assert_eq!(digest.to_hex(), expected, "{path}: count {count}");
    }
}
