//! One message, in order, on one thread.

use aws_lc_rs::digest::{Context, SHA3_256, SHA256};

use crate::sha256::{Sha256, ShaNi};
use crate::tree::merkle::{self, MerkleHasher};
use crate::{Algorithm, Digest};

/// A digest in the making: bytes go in in order, any number at a time.
///
/// The primitives are aws-lc's (SHA-2, SHA-3) and the BLAKE authors' own; SHA-256 is ours where the processor has
/// instructions for it (`sha256.rs` says why).
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    Sha256(Box<Sha256>),
    AwsLc(Context),
    Blake2b(Box<blake2b_simd::State>),
    Blake3(Box<blake3::Hasher>),
    Merkle(MerkleHasher),
}

impl Hasher {
    /// Starts a digest of an empty message.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => match ShaNi::detect() {
                Some(unit) => State::Sha256(Box::new(Sha256::new(unit))),
                None => State::AwsLc(Context::new(&SHA256)),
            },
            Algorithm::Sha3_256 => State::AwsLc(Context::new(&SHA3_256)),
            Algorithm::Blake2b => State::Blake2b(Box::new(blake2b_simd::State::new())),
            Algorithm::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
            Algorithm::Sha256Tree => State::Merkle(MerkleHasher::new(&merkle::SHA256)),
            Algorithm::Blake2bTree => State::Merkle(MerkleHasher::new(&merkle::BLAKE2B)),
            Algorithm::Sha3_256Tree => State::Merkle(MerkleHasher::new(&merkle::SHA3_256)),
        };
        Self { algorithm, state }
    }

    /// Appends `bytes` to the message.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(hasher) => hasher.update(bytes),
            State::AwsLc(context) => context.update(bytes),
            State::Blake2b(state) => {
                state.update(bytes);
            }
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
            State::Merkle(hasher) => hasher.update(bytes),
        }
    }

    /// Appends to two messages. Faster than one after the other where the processor can hash them in turns.
    pub fn update_pair(&mut self, bytes: &[u8], other: &mut Self, other_bytes: &[u8]) {
        match (&mut self.state, &mut other.state) {
            (State::Sha256(hasher), State::Sha256(other)) => hasher.update_pair(bytes, other, other_bytes),
            _ => {
                self.update(bytes);
                other.update(other_bytes);
            }
        }
    }

    /// The digest of all bytes given.
    pub fn finish(self) -> Digest {
        let digest = match self.state {
            State::Sha256(hasher) => Digest::from_bytes(self.algorithm, &hasher.finish()),
            State::AwsLc(context) => Digest::from_bytes(self.algorithm, context.finish().as_ref()),
            State::Blake2b(state) => Digest::from_bytes(self.algorithm, state.finalize().as_bytes()),
            State::Blake3(hasher) => Digest::from_bytes(self.algorithm, hasher.finalize().as_bytes()),
            State::Merkle(hasher) => Ok(hasher.finish()),
        };
        digest.expect("each primitive writes a digest of its algorithm's length")
    }
}
