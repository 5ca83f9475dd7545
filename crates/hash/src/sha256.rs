//! SHA-256 (FIPS 180-4) on processors with SHA instructions, alone or two messages at a time.
//!
//! Why not only the library's: the rounds of one message depend on each other, so one message leaves the SHA unit
//! idle part of the time. Two messages in turns fill the gaps, which pays for a part of what the BLAKE3 digests of our
//! annotations cost. `make evaluation` compares with two `openssl dgst`.
//!
//! Only the block function is special; where the instructions are missing, [`Hasher`](crate::Hasher) uses
//! aws-lc. The tests compare both with each other and with NIST's vectors.

mod sha_ni;

pub use sha_ni::ShaNi;

/// Bytes of a block.
const BLOCK: usize = 64;

/// The initial state: FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A SHA-256 digest in the making.
pub struct Sha256 {
    unit: ShaNi,
    state: [u32; 8],
    /// The beginning of a block that is not complete.
    block: [u8; BLOCK],
    filled: usize,
    /// Bytes so far.
    length: u64,
}

impl Sha256 {
    /// Starts a digest; `unit` says that the instructions are there.
    pub fn new(unit: ShaNi) -> Self {
        Self { unit, state: INITIAL, block: [0; BLOCK], filled: 0, length: 0 }
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        let rest = self.complete_block(bytes);
        let (blocks, tail) = rest.split_at(rest.len() - rest.len() % BLOCK);
        self.compress(blocks);
        self.keep(tail);
    }

    /// Appends to two messages, whose common length is hashed in turns.
    pub fn update_pair(&mut self, bytes: &[u8], other: &mut Self, other_bytes: &[u8]) {
        let (rest, other_rest) = (self.complete_block(bytes), other.complete_block(other_bytes));
        // A message still inside a block has no rest.
        let common = rest.len().min(other_rest.len()) / BLOCK * BLOCK;
        let (blocks, tail) = rest.split_at(common);
        let (other_blocks, other_tail) = other_rest.split_at(common);
        self.unit.compress([&mut self.state, &mut other.state], [blocks, other_blocks]);
        self.length += common as u64;
        other.length += common as u64;
        self.update(tail);
        other.update(other_tail);
    }

    /// The digest of all bytes given.
    pub fn finish(mut self) -> [u8; 32] {
        let (last, length) = last_blocks(&self.block[..self.filled], self.length);
        self.unit.compress([&mut self.state], [&last[..length]]);
        to_bytes(&self.state)
    }

    /// Fills up the block that is begun, if any, and returns the bytes behind it.
    fn complete_block<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filled == 0 {
            return bytes;
        }
        let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        self.keep(head);
        if self.filled == BLOCK {
            self.filled = 0;
            self.unit.compress([&mut self.state], [&self.block]);
        }
        rest
    }

    /// Hashes whole blocks.
    fn compress(&mut self, blocks: &[u8]) {
        self.unit.compress([&mut self.state], [blocks]);
        self.length += blocks.len() as u64;
    }

    /// Keeps bytes that do not complete a block, or just do.
    fn keep(&mut self, bytes: &[u8]) {
        self.block[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        self.length += bytes.len() as u64;
    }
}

/// The state behind whole blocks that many messages begin with.
pub struct Midstate {
    unit: ShaNi,
    state: [u32; 8],
    /// Bytes of the blocks.
    length: u64,
}

impl Midstate {
    /// Hashes `prefix`, whole blocks.
    pub fn new(unit: ShaNi, prefix: &[u8]) -> Self {
        let mut state = INITIAL;
        unit.compress([&mut state], [prefix]);
        Self { unit, state, length: prefix.len() as u64 }
    }

    /// The digests of prefix ‖ message for messages of one length, in turns.
    pub fn digest<const N: usize>(&self, messages: [&[u8]; N]) -> [[u8; 32]; N] {
        let length = messages[0].len();
        let whole = length - length % BLOCK;
        let mut states = [self.state; N];
        self.unit.compress(states.each_mut(), messages.map(|message| &message[..whole]));
        let last = messages.map(|message| last_blocks(&message[whole..], self.length + length as u64));
        self.unit.compress(states.each_mut(), last.each_ref().map(|(blocks, length)| &blocks[..*length]));
        states.map(|state| to_bytes(&state))
    }
}

/// What is left of a message behind its whole blocks, with the padding of FIPS 180-4, section 5.1.1: one block or two,
/// and their length. `length` is the whole message's, in bytes.
fn last_blocks(rest: &[u8], length: u64) -> ([u8; 2 * BLOCK], usize) {
    const LENGTH_FIELD: usize = 8;
    let mut blocks = [0; 2 * BLOCK];
    blocks[..rest.len()].copy_from_slice(rest);
    blocks[rest.len()] = 0x80;
    let end = if rest.len() + 1 + LENGTH_FIELD <= BLOCK { BLOCK } else { 2 * BLOCK };
    blocks[end - LENGTH_FIELD..end].copy_from_slice(&(length * 8).to_be_bytes());
    (blocks, end)
}

fn to_bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    fn library(message: &[u8]) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message).as_ref().to_vec()
    }

    fn message(length: usize, seed: usize) -> Vec<u8> {
        (0..length).map(|i| ((i * 7 + seed) % 251) as u8).collect()
    }

    #[test]
    fn agrees_with_the_library_alone_and_in_pairs() {
        let Some(unit) = ShaNi::detect() else {
            // The algorithm is then the library's; say that this compared nothing.
            println!("no SHA instructions here: nothing compared");
            assert_eq!(Algorithm::Sha256.digest(b"abc").as_bytes(), library(b"abc"));
            return;
        };
        let lengths = [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 1000, 4096, 10_007];
        for first in lengths {
            for second in lengths {
                for cut in [0, 1, 63, 64, 65, 500] {
                    let (a, b) = (message(first, 1), message(second, 2));
                    let (mut one, mut two) = (Sha256::new(unit), Sha256::new(unit));
                    let (a_cut, b_cut) = (cut.min(first), (cut * 2).min(second));
                    one.update_pair(&a[..a_cut], &mut two, &b[..b_cut]);
                    one.update_pair(&a[a_cut..], &mut two, &b[b_cut..]);
                    assert_eq!((one.finish().to_vec(), two.finish().to_vec()), (library(&a), library(&b)), "{first} {second} {cut}");
                }
            }
            let mut alone = Sha256::new(unit);
            message(first, 3).chunks(61).for_each(|chunk| alone.update(chunk));
            assert_eq!(alone.finish().to_vec(), library(&message(first, 3)), "{first}");
        }
    }

    #[test]
    fn a_midstate_stands_for_its_prefix() {
        let Some(unit) = ShaNi::detect() else {
            println!("no SHA instructions here: nothing compared");
            return;
        };
        for prefix in [0, 64, 192] {
            let prefix = message(prefix, 9);
            let midstate = Midstate::new(unit, &prefix);
            for length in [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 4095, 4096] {
                let messages = [message(length, 1), message(length, 2)];
                let expected = messages.each_ref().map(|message| library(&[&prefix[..], message].concat()));
                let found = midstate.digest(messages.each_ref().map(|message| &message[..]));
                assert_eq!(found.map(|digest| digest.to_vec()), expected, "{length}");
                assert_eq!(midstate.digest([&messages[0]])[0].to_vec(), expected[0], "{length}");
            }
        }
    }
}
