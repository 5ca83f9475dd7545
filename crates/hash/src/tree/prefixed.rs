//! `H(P ‖ message)` for many messages at a time, where `P` is one whole block of the hash.
//!
//! `P(x)` is the text `sentry-ml/tree/v1/` + x, padded with zeroes to a block, so that the state behind it is computed
//! once. A serial hash leaves a core's arithmetic partly idle; messages beside each other fill it where the library
//! can: SHA-256 two at a time with SHA instructions, BLAKE2b four at a time with AVX2.

use aws_lc_rs::digest::{Context, SHA3_256, SHA256};
use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, MAX_DEGREE, hash_many};

use crate::Algorithm;
use crate::sha256::{Midstate, ShaNi};

/// What every prefix begins with.
const DOMAIN: &str = "sentry-ml/tree/v1/";

/// A serial hash that has taken a prefix.
pub struct Prefixed(State);

enum State {
    ShaNi(Midstate),
    AwsLc(Context),
    /// The library starts a batch from nothing, so the prefix goes before each message.
    Blake2b([u8; blake2b_simd::BLOCKBYTES]),
}

impl Prefixed {
    /// The hash `flat` behind the prefix for `purpose`: `leaf`, `node` or `root`.
    pub fn new(flat: Algorithm, purpose: &str) -> Self {
        Self(match flat {
            Algorithm::Sha256 => match ShaNi::detect() {
                Some(unit) => State::ShaNi(Midstate::new(unit, &block::<64>(purpose))),
                None => State::AwsLc(library(&SHA256, &block::<64>(purpose))),
            },
            Algorithm::Sha3_256 => State::AwsLc(library(&SHA3_256, &block::<136>(purpose))),
            Algorithm::Blake2b => State::Blake2b(block(purpose)),
            other => unreachable!("no tree is built over {other}"),
        })
    }

    /// Appends the digest of every message to `digests`, in order.
    pub fn digest_each<'a>(&self, messages: impl Iterator<Item = &'a [u8]>, digests: &mut Vec<u8>) {
        match &self.0 {
            State::ShaNi(midstate) => in_pairs(midstate, messages, digests),
            State::AwsLc(context) => messages.for_each(|message| {
                let mut context = context.clone();
                context.update(message);
                digests.extend_from_slice(context.finish().as_ref());
            }),
            State::Blake2b(prefix) => in_batches(prefix, messages, digests),
        }
    }
}

/// A prefix: one block of `BLOCK` bytes.
fn block<const BLOCK: usize>(purpose: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (domain, rest) = block.split_at_mut(DOMAIN.len());
    domain.copy_from_slice(DOMAIN.as_bytes());
    rest[..purpose.len()].copy_from_slice(purpose.as_bytes());
    block
}

fn library(algorithm: &'static aws_lc_rs::digest::Algorithm, prefix: &[u8]) -> Context {
    let mut context = Context::new(algorithm);
    context.update(prefix);
    context
}

/// Two messages at a time; one that has no neighbour of its length goes alone.
fn in_pairs<'a>(midstate: &Midstate, mut messages: impl Iterator<Item = &'a [u8]>, digests: &mut Vec<u8>) {
    while let Some(one) = messages.next() {
        match messages.next() {
            Some(other) if other.len() == one.len() => digests.extend_from_slice(midstate.digest([one, other]).as_flattened()),
            Some(other) => digests.extend([one, other].into_iter().flat_map(|message| midstate.digest([message])).flatten()),
            None => digests.extend_from_slice(&midstate.digest([one])[0]),
        }
    }
}

/// As many messages at a time as the processor has lanes. Copying them behind their prefix costs less than hashing the
/// last block of each by itself, which is what the library's other way amounts to.
fn in_batches<'a>(prefix: &[u8], messages: impl Iterator<Item = &'a [u8]>, digests: &mut Vec<u8>) {
    let mut messages = messages.peekable();
    let mut lanes: [Vec<u8>; MAX_DEGREE] = Default::default();
    while messages.peek().is_some() {
        let mut filled = 0;
        for (lane, message) in lanes.iter_mut().zip(&mut messages) {
            lane.clear();
            lane.extend_from_slice(prefix);
            lane.extend_from_slice(message);
            filled += 1;
        }
        let params = Params::new();
        let mut jobs: Vec<HashManyJob> = lanes[..filled].iter().map(|lane| HashManyJob::new(&params, lane)).collect();
        hash_many(&mut jobs);
        jobs.iter().for_each(|job| digests.extend_from_slice(job.to_hash().as_bytes()));
    }
}
