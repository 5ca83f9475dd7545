//! One message, in order, on one thread.

use aws_lc_rs::digest::{Context, SHA3_256, SHA256};

use crate::{Algorithm, Digest};

/// A digest in the making: bytes go in in order, any number at a time.
///
/// The primitives are aws-lc's (SHA-2, SHA-3) and the BLAKE authors' own.
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    AwsLc(Context),
    Blake2b(Box<blake2b_simd::State>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Starts a digest of an empty message.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::AwsLc(Context::new(&SHA256)),
            Algorithm::Sha3_256 => State::AwsLc(Context::new(&SHA3_256)),
            Algorithm::Blake2b => State::Blake2b(Box::new(blake2b_simd::State::new())),
            Algorithm::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
        };
        Self { algorithm, state }
    }

    /// Appends `bytes` to the message.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::AwsLc(context) => context.update(bytes),
            State::Blake2b(state) => {
                state.update(bytes);
            }
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The digest of all bytes given.
    pub fn finish(self) -> Digest {
        let digest = match self.state {
            State::AwsLc(context) => Digest::from_bytes(self.algorithm, context.finish().as_ref()),
            State::Blake2b(state) => Digest::from_bytes(self.algorithm, state.finalize().as_bytes()),
            State::Blake3(hasher) => Digest::from_bytes(self.algorithm, hasher.finalize().as_bytes()),
        };
        digest.expect("each primitive writes a digest of its algorithm's length")
    }
}
