//! Published vectors of every algorithm, and the one body that any [`Backend`] must pass.
//!
//! A backend of another crate includes this file by path, and calls [`conformance`].

pub mod records;
pub mod sentry;

use std::borrow::Cow;
use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use sentry_hash::tree::Tree;
use sentry_hash::{Algorithm, Backend, Digest};

use records::records;

/// A message and its digest, from outside of this project.
pub struct Vector {
    /// Where it comes from.
    pub source: String,
    /// The message.
    pub message: Cow<'static, [u8]>,
    /// Its digest.
    pub digest: Digest,
}

/// Bytes 250, 0, 1, ..., 250, 0, 1, ...: the messages of period 251 start at the second byte, so none is aligned.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| (0..21 << 20).map(|i| ((i + 250) % 251) as u8).collect());

/// The message 0, 1, ..., 250, 0, 1, ... of `length` bytes.
pub fn period_251(length: usize) -> &'static [u8] {
    &STREAM[1..=length]
}

/// Runs every vector of these algorithms through a backend: all messages of an algorithm at once, then one at a time.
pub fn conformance(backend: &dyn Backend, algorithms: &[Algorithm]) {
    for &algorithm in algorithms {
        let vectors = vectors(algorithm);
        let messages: Vec<&[u8]> = vectors.iter().map(|vector| &*vector.message).collect();
        let together = backend.digest_many(algorithm, &messages).unwrap();
        assert_eq!(together.len(), vectors.len());
        for (vector, digest) in vectors.iter().zip(&together) {
            assert_eq!(*digest, vector.digest, "{}: together, {}", backend.name(), vector.source);
            let alone = backend.digest_many(algorithm, &[&vector.message]).unwrap();
            assert_eq!(alone, [vector.digest], "{}: alone, {}", backend.name(), vector.source);
        }
        assert_eq!(backend.digest_many(algorithm, &[]), Ok(Vec::new()), "{}: no message", backend.name());
    }
}

/// All vectors of an algorithm: the published ones, then those of period 251. The Merkle trees are our own construction;
/// their vectors come from the slow reference.
pub fn vectors(algorithm: Algorithm) -> Vec<Vector> {
    let mut vectors = match algorithm {
        Algorithm::Sha256 => [cavp(algorithm, "SHA256ShortMsg", 65), cavp(algorithm, "SHA256LongMsg", 64)].into_iter().flatten().collect(),
        Algorithm::Sha3_256 => {
            [cavp(algorithm, "SHA3_256ShortMsg", 137), cavp(algorithm, "SHA3_256LongMsg", 100)].into_iter().flatten().collect()
        }
        Algorithm::Blake2b => blake2b(),
        Algorithm::Blake3 => blake3(),
        _ => Vec::new(),
    };
    vectors.extend(of_period_251(algorithm));
    vectors
}

/// [`vectors`] without the longest messages of the slow trees, for tests that hash each of them many times.
pub fn short_vectors(algorithm: Algorithm) -> Vec<Vector> {
    let is_merkle = algorithm.tree().is_some_and(|tree| tree != Tree::Blake3);
    vectors(algorithm).into_iter().filter(|vector| !is_merkle || vector.message.len() <= 1 << 20).collect()
}

/// NIST's short and long messages. `Len` is in bits; the empty message is written as one byte.
fn cavp(algorithm: Algorithm, name: &str, count: usize) -> Vec<Vector> {
    let path = format!("vectors/nist/{name}.rsp");
    let read = |[length, message, digest]: [String; 3]| {
        let bits: usize = length.parse().unwrap();
        let mut message = bytes(&message);
        assert_eq!(message.len(), (bits / 8).max(1), "{path}: {bits} bits");
        message.truncate(bits / 8);
        vector(format!("{name}, {bits} bits"), message, algorithm, &digest)
    };
    records(&path, ["Len", "Msg", "MD"], count).into_iter().map(read).collect()
}

/// The BLAKE2 authors' messages of 0 to 255 bytes, without a key.
fn blake2b() -> Vec<Vector> {
    let read = |[message, digest]: [String; 2]| {
        let message = bytes(&message);
        vector(format!("blake2b-kat, {} bytes", message.len()), message, Algorithm::Blake2b, &digest)
    };
    records("vectors/blake/blake2b-kat.json", ["in", "out"], 256).into_iter().map(read).collect()
}

/// The BLAKE3 authors' vectors, which have a period of 251 bytes. They go on past the digest's 32 bytes.
fn blake3() -> Vec<Vector> {
    let read = |[length, output]: [String; 2]| {
        let message = period_251(length.parse().unwrap());
        vector(format!("blake3, {length} bytes"), message, Algorithm::Blake3, &output[..64])
    };
    records("vectors/blake/blake3.json", ["input_len", "hash"], 22).into_iter().map(read).collect()
}

/// Lengths at which hashes go wrong, up to a few MiB; see `period251.py`.
pub fn of_period_251(algorithm: Algorithm) -> Vec<Vector> {
    if algorithm.tree().is_some_and(|tree| tree != Tree::Blake3) {
        return merkle(algorithm);
    }
    let read = |[length, digest]: [String; 2]| {
        let message = period_251(length.parse().unwrap());
        vector(format!("period 251, {length} bytes"), message, algorithm, &digest)
    };
    records("crates/hash/tests/common/period251.txt", ["length", algorithm.name()], 67).into_iter().map(read).collect()
}

/// Messages of period 251 and their digests under one of the Merkle trees.
fn merkle(algorithm: Algorithm) -> Vec<Vector> {
    let file = sentry::file("trees");
    let read = |entry: &serde_json::Value| {
        let length = entry["length"].as_u64().unwrap() as usize;
        vector(format!("{algorithm}, {length} bytes"), period_251(length), algorithm, sentry::text(&entry["digest"]))
    };
    sentry::list(&file["algorithms"][algorithm.name()], 170).iter().map(read).collect()
}

fn vector(source: String, message: impl Into<Cow<'static, [u8]>>, algorithm: Algorithm, digest: &str) -> Vector {
    Vector { source, message: message.into(), digest: Digest::from_hex(algorithm, digest).unwrap() }
}

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}
