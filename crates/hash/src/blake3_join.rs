//! BLAKE3 of a message whose pieces are hashed apart and in any order.
//!
//! BLAKE3 cuts a message into chunks of 1024 bytes and joins them in a binary tree whose left
//! subtrees hold a power of two of chunks (BLAKE3 specification, section 2.1). So a run of `2^k`
//! chunks that starts at a multiple of `2^k` is a node of that tree, whatever else the message holds,
//! and one chaining value of 32 bytes stands for it.
//!
//! Hashing a piece ([`pieces`]) needs no shared state and is where the time goes; putting the results
//! together ([`Blake3Joiner::insert`]) is cheap. A piece may start and end anywhere: bytes of a chunk that is
//! cut in two are kept until the rest arrives.

use std::collections::HashMap;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::{Algorithm, Digest, HashError};

/// Bytes of a BLAKE3 chunk, the leaf of its tree.
const CHUNK: u64 = blake3::CHUNK_LEN as u64;

/// A piece of a message, hashed as far as it can be without its neighbours.
pub struct HashedPiece {
    length: u64,
    parts: Vec<Part>,
}

enum Part {
    /// The whole message.
    Root(blake3::Hash),
    /// `2^level` chunks from chunk `index * 2^level` on.
    Subtree { level: u32, index: u64, value: ChainingValue },
    /// Some bytes of one chunk, at `offset` in the message.
    Edge { offset: u64, bytes: Vec<u8> },
}

/// Hashes `bytes`, which lie at `offset` of a message of `length` bytes.
///
/// # Errors
/// [`HashError::PieceOutOfRange`] if the piece reaches past the message.
pub fn pieces(length: u64, offset: u64, bytes: &[u8]) -> Result<HashedPiece, HashError> {
    let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= length);
    let Some(end) = end else {
        return Err(HashError::PieceOutOfRange { end: offset.saturating_add(bytes.len() as u64), length });
    };
    if bytes.len() as u64 == length {
        return Ok(HashedPiece { length, parts: vec![Part::Root(blake3::hash(bytes))] });
    }
    let mut parts = Vec::new();
    let mut rest = bytes;
    let mut position = offset;
    while !rest.is_empty() {
        let size = subtree_len(length, position, end);
        let (head, tail) = rest.split_at(size.unwrap_or_else(|| edge_len(position, end)) as usize);
        parts.push(if size.is_some() { subtree(position, head) } else { Part::Edge { offset: position, bytes: head.to_vec() } });
        position += head.len() as u64;
        rest = tail;
    }
    Ok(HashedPiece { length, parts })
}

/// Length of the largest subtree that starts at `position` and ends by `end`, if a chunk starts there
/// and all of it is at hand. Only the message's last chunk may be short.
fn subtree_len(length: u64, position: u64, end: u64) -> Option<u64> {
    // A message of one chunk has no inner nodes: its only chunk is the root.
    if length <= CHUNK || !position.is_multiple_of(CHUNK) {
        return None;
    }
    let whole_chunks = (end - position) / CHUNK;
    if whole_chunks == 0 {
        return (end == length).then_some(end - position);
    }
    let fitting = 1 << whole_chunks.ilog2();
    let aligned = match position / CHUNK {
        0 => fitting,
        chunk => 1 << chunk.trailing_zeros(),
    };
    Some(CHUNK * aligned.min(fitting))
}

/// Bytes from `position` to the end of its chunk or of the piece.
fn edge_len(position: u64, end: u64) -> u64 {
    (CHUNK - position % CHUNK).min(end - position)
}

fn subtree(position: u64, bytes: &[u8]) -> Part {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(position).update(bytes);
    let level = (bytes.len() as u64).div_ceil(CHUNK).ilog2();
    Part::Subtree { level, index: (position / CHUNK) >> level, value: hasher.finalize_non_root() }
}

/// Joins the pieces of one message, which may arrive in any order, to its BLAKE3 digest.
///
/// Memory grows with the number of gaps, not with the message.
pub struct Blake3Joiner {
    length: u64,
    seen: u64,
    root: Option<blake3::Hash>,
    nodes: HashMap<(u32, u64), ChainingValue>,
    edges: HashMap<u64, Edge>,
}

/// A chunk of which some bytes have arrived.
struct Edge {
    bytes: Vec<u8>,
    present: Vec<bool>,
}

impl Blake3Joiner {
    /// Starts a message of `length` bytes.
    pub fn new(length: u64) -> Self {
        let root = (length == 0).then(|| blake3::hash(b""));
        Self { length, seen: 0, root, nodes: HashMap::new(), edges: HashMap::new() }
    }

    /// Adds a hashed piece.
    ///
    /// # Errors
    /// [`HashError::PieceOverlap`] if some of its bytes were added before, and
    /// [`HashError::PieceOutOfRange`] if it was hashed for a message of another length.
    pub fn insert(&mut self, piece: HashedPiece) -> Result<(), HashError> {
        if piece.length != self.length {
            return Err(HashError::PieceOutOfRange { end: piece.length, length: self.length });
        }
        piece.parts.into_iter().try_for_each(|part| match part {
            Part::Root(hash) => self.insert_root(hash),
            Part::Subtree { level, index, value } => self.insert_subtree(level, index, value),
            Part::Edge { offset, bytes } => self.insert_edge(offset, &bytes),
        })
    }

    fn insert_root(&mut self, hash: blake3::Hash) -> Result<(), HashError> {
        if self.seen != 0 {
            return Err(HashError::PieceOverlap { offset: 0 });
        }
        self.seen = self.length;
        self.root = Some(hash);
        Ok(())
    }

    fn insert_subtree(&mut self, level: u32, index: u64, value: ChainingValue) -> Result<(), HashError> {
        let start = (index << level) * CHUNK;
        self.count(start, (CHUNK << level).min(self.length - start))?;
        let (mut level, mut index, mut value) = (level, index, value);
        while let Some(sibling) = self.nodes.remove(&(level, index ^ 1)) {
            let (left, right) = if index & 1 == 0 { (&value, &sibling) } else { (&sibling, &value) };
            if 2 << level == self.length.div_ceil(CHUNK) {
                self.root = Some(merge_subtrees_root(left, right, Mode::Hash));
                return Ok(());
            }
            value = merge_subtrees_non_root(left, right, Mode::Hash);
            (level, index) = (level + 1, index >> 1);
        }
        match self.nodes.insert((level, index), value) {
            None => Ok(()),
            Some(_) => Err(HashError::PieceOverlap { offset: start }),
        }
    }

    fn insert_edge(&mut self, offset: u64, bytes: &[u8]) -> Result<(), HashError> {
        let chunk = offset / CHUNK;
        let length = CHUNK.min(self.length - chunk * CHUNK) as usize;
        let edge = self.edges.entry(chunk).or_insert_with(|| Edge { bytes: vec![0; length], present: vec![false; length] });
        let start = (offset % CHUNK) as usize;
        let range = start..start + bytes.len();
        if edge.present[range.clone()].contains(&true) {
            return Err(HashError::PieceOverlap { offset });
        }
        edge.bytes[range.clone()].copy_from_slice(bytes);
        edge.present[range].fill(true);
        if edge.present.contains(&false) {
            return Ok(());
        }
        let edge = self.edges.remove(&chunk).expect("it was just filled");
        if self.length <= CHUNK {
            return self.insert_root(blake3::hash(&edge.bytes));
        }
        match subtree(chunk * CHUNK, &edge.bytes) {
            Part::Subtree { level, index, value } => self.insert_subtree(level, index, value),
            Part::Root(_) | Part::Edge { .. } => unreachable!("subtree() makes subtrees"),
        }
    }

    /// Counts bytes as hashed; more than the message has cannot be right.
    fn count(&mut self, offset: u64, bytes: u64) -> Result<(), HashError> {
        self.seen += bytes;
        if self.seen > self.length { Err(HashError::PieceOverlap { offset }) } else { Ok(()) }
    }

    /// The digest of the whole message.
    ///
    /// # Errors
    /// [`HashError::Incomplete`] unless every byte has arrived.
    pub fn finish(mut self) -> Result<Digest, HashError> {
        let incomplete = HashError::Incomplete { seen: self.seen, length: self.length };
        if self.seen != self.length {
            return Err(incomplete);
        }
        let hash = match self.root.take() {
            Some(hash) => hash,
            None => self.right_edge().ok_or(incomplete)?,
        };
        Digest::from_bytes(Algorithm::Blake3, hash.as_bytes())
    }

    /// Joins the perfect subtrees that remain, one for each one-bit of the number of chunks, from the
    /// smallest at the right to the largest at the left.
    fn right_edge(mut self) -> Option<blake3::Hash> {
        let chunks = self.length.div_ceil(CHUNK);
        let levels: Vec<u32> = (0..u64::BITS).filter(|level| chunks >> level & 1 == 1).collect();
        let (smallest, larger) = levels.split_first()?;
        let mut node = |level: u32| self.nodes.remove(&(level, (chunks >> level) - 1));
        let mut right = node(*smallest)?;
        for (position, &level) in larger.iter().enumerate() {
            let left = node(level)?;
            if position + 1 == larger.len() {
                return Some(merge_subtrees_root(&left, &right, Mode::Hash));
            }
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeats with period 251, so that swapped chunks show.
    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    fn join(message: &[u8], cuts: &[usize], order: impl Fn(usize) -> usize) -> Result<Digest, HashError> {
        let mut bounds = vec![0];
        bounds.extend(cuts.iter().copied().filter(|&cut| cut > 0 && cut < message.len()));
        bounds.push(message.len());
        bounds.dedup();
        let mut joiner = Blake3Joiner::new(message.len() as u64);
        for i in 0..bounds.len() - 1 {
            let i = order(i);
            joiner.insert(pieces(message.len() as u64, bounds[i] as u64, &message[bounds[i]..bounds[i + 1]])?)?;
        }
        joiner.finish()
    }

    #[test]
    fn any_cut_and_order_gives_the_digest() {
        let lengths = [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073, 4096, 4097, 5120, 8191, 8192, 16385, 31744, 102_400];
        for length in lengths {
            let message = message(length);
            let expected = Algorithm::Blake3.digest(&message);
            for step in [1, 7, 64, 1000, 1023, 1024, 1025, 1536, 2048, 3000, 4096, 65536] {
                let cuts: Vec<usize> = (step..length).step_by(step).collect();
                if cuts.len() > 3000 {
                    continue;
                }
                let count = cuts.len() + 1;
                // 7919 is prime and larger than any count, so its multiples visit every piece once.
                let orders: [fn(usize, usize) -> usize; 3] = [|i, _| i, |i, count| count - 1 - i, |i, count| i * 7919 % count];
                for (order, place) in orders.iter().enumerate() {
                    let found = join(&message, &cuts, |i| place(i, count));
                    assert_eq!(found, Ok(expected), "length {length}, step {step}, order {order}");
                }
            }
        }
    }

    #[test]
    fn overlap_gap_and_overrun_are_errors() {
        let message = message(5000);
        let piece = |start: usize, end: usize| pieces(5000, start as u64, &message[start..end]);
        for (start, end) in [(0, 1024), (100, 300), (0, 4096), (4096, 5000)] {
            let mut joiner = Blake3Joiner::new(5000);
            joiner.insert(piece(start, end).unwrap()).unwrap();
            assert!(matches!(joiner.insert(piece(start, end).unwrap()), Err(HashError::PieceOverlap { .. })));
        }
        let mut joiner = Blake3Joiner::new(5000);
        joiner.insert(piece(0, 4999).unwrap()).unwrap();
        assert_eq!(joiner.finish(), Err(HashError::Incomplete { seen: 4096, length: 5000 }));
        assert!(matches!(pieces(10, 5, &message[..6]), Err(HashError::PieceOutOfRange { .. })));
        assert!(matches!(pieces(10, u64::MAX, &message[..6]), Err(HashError::PieceOutOfRange { .. })));
        assert!(Blake3Joiner::new(11).insert(pieces(10, 0, &message[..3]).unwrap()).is_err());
    }
}
