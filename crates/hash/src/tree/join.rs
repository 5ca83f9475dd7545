//! The pieces of one message, in any order, joined to its digest.
//!
//! Hashing a piece ([`Tree::piece`]) needs no shared state and is where the time goes; putting the results together
//! ([`Joiner::insert`]) is cheap. A piece may start and end anywhere: bytes of a leaf that is cut in two are kept
//! until the rest arrives.

use std::collections::HashMap;

use super::{Node, Tree};
use crate::{Digest, HashError};

/// A piece of a message, hashed as far as it can be without its neighbours.
pub struct HashedPiece {
    tree: Tree,
    length: u64,
    parts: Vec<Part>,
}

enum Part {
    /// The whole message.
    Root(Digest),
    /// `2^level` leaves from leaf `index * 2^level` on; the message's last leaf may be short.
    Subtree { level: u32, index: u64, node: Node },
    /// Some bytes of one leaf, at `offset` in the message.
    Edge { offset: u64, bytes: Vec<u8> },
}

impl Tree {
    /// Hashes `bytes`, which lie at `offset` of a message of `length` bytes.
    ///
    /// # Errors
    /// [`HashError::PieceOutOfRange`] if the piece reaches past the message.
    pub fn piece(self, length: u64, offset: u64, bytes: &[u8]) -> Result<HashedPiece, HashError> {
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= length);
        let Some(end) = end else {
            return Err(HashError::PieceOutOfRange { end: offset.saturating_add(bytes.len() as u64), length });
        };
        if bytes.len() as u64 == length {
            return Ok(HashedPiece { tree: self, length, parts: vec![Part::Root(self.whole(bytes))] });
        }
        let mut parts = Vec::new();
        let mut rest = bytes;
        let mut position = offset;
        while !rest.is_empty() {
            let size = self.subtree_len(length, position, end);
            let (head, tail) = rest.split_at(size.unwrap_or_else(|| self.edge_len(position, end)) as usize);
            parts.push(if size.is_some() { self.part(position, head) } else { Part::Edge { offset: position, bytes: head.to_vec() } });
            position += head.len() as u64;
            rest = tail;
        }
        Ok(HashedPiece { tree: self, length, parts })
    }

    /// Length of the largest subtree that starts at `position` and ends by `end`, if a leaf starts there
    /// and all of it is at hand. Only the message's last leaf may be short.
    fn subtree_len(self, length: u64, position: u64, end: u64) -> Option<u64> {
        let leaf = self.leaf_len();
        // A message of one leaf has no inner nodes: its only leaf is the root.
        if length <= leaf || !position.is_multiple_of(leaf) {
            return None;
        }
        let whole_leaves = (end - position) / leaf;
        if whole_leaves == 0 {
            return (end == length).then_some(end - position);
        }
        let fitting = 1 << whole_leaves.ilog2();
        let aligned = match position / leaf {
            0 => fitting,
            index => 1 << index.trailing_zeros(),
        };
        Some(leaf * aligned.min(fitting))
    }

    /// Bytes from `position` to the end of its leaf or of the piece.
    fn edge_len(self, position: u64, end: u64) -> u64 {
        (self.leaf_len() - position % self.leaf_len()).min(end - position)
    }

    fn part(self, position: u64, leaves: &[u8]) -> Part {
        let level = (leaves.len() as u64).div_ceil(self.leaf_len()).ilog2();
        Part::Subtree { level, index: (position / self.leaf_len()) >> level, node: self.subtree(position, leaves) }
    }
}

/// Joins the pieces of one message, which may arrive in any order, to its digest.
///
/// Memory grows with the number of gaps, not with the message.
pub struct Joiner {
    tree: Tree,
    length: u64,
    seen: u64,
    root: Option<Digest>,
    /// By level and index.
    nodes: HashMap<(u32, u64), Node>,
    /// By the leaf's index.
    edges: HashMap<u64, Edge>,
}

/// A leaf of which some bytes have arrived.
struct Edge {
    bytes: Vec<u8>,
    present: Vec<bool>,
}

impl Joiner {
    /// Starts a message of `length` bytes.
    pub fn new(tree: Tree, length: u64) -> Self {
        let root = (length == 0).then(|| tree.whole(b""));
        Self { tree, length, seen: 0, root, nodes: HashMap::new(), edges: HashMap::new() }
    }

    /// Adds a hashed piece.
    ///
    /// # Errors
    /// [`HashError::PieceOverlap`] if some of its bytes were added before, and
    /// [`HashError::PieceOutOfRange`] if it was hashed for a message of another length,
    /// [`HashError::PieceAlgorithm`] if it was hashed with another algorithm. After an error there is no digest: drop the joiner.
    pub fn insert(&mut self, piece: HashedPiece) -> Result<(), HashError> {
        if piece.tree != self.tree {
            return Err(HashError::PieceAlgorithm { expected: self.tree.algorithm(), found: piece.tree.algorithm() });
        }
        if piece.length != self.length {
            return Err(HashError::PieceOutOfRange { end: piece.length, length: self.length });
        }
        piece.parts.into_iter().try_for_each(|part| match part {
            Part::Root(digest) => self.insert_root(digest),
            Part::Subtree { level, index, node } => self.insert_subtree(level, index, node),
            Part::Edge { offset, bytes } => self.insert_edge(offset, &bytes),
        })
    }

    fn insert_root(&mut self, digest: Digest) -> Result<(), HashError> {
        if self.seen != 0 {
            return Err(HashError::PieceOverlap { offset: 0 });
        }
        self.seen = self.length;
        self.root = Some(digest);
        Ok(())
    }

    fn insert_subtree(&mut self, level: u32, index: u64, node: Node) -> Result<(), HashError> {
        let leaf = self.tree.leaf_len();
        let start = (index << level) * leaf;
        self.count(start, (leaf << level).min(self.length - start))?;
        let (mut level, mut index, mut node) = (level, index, node);
        while let Some(sibling) = self.nodes.remove(&(level, index ^ 1)) {
            let (left, right) = if index & 1 == 0 { (&node, &sibling) } else { (&sibling, &node) };
            if 2 << level == self.length.div_ceil(leaf) {
                self.root = Some(self.tree.root(self.length, left, right));
                return Ok(());
            }
            node = self.tree.node(left, right);
            (level, index) = (level + 1, index >> 1);
        }
        match self.nodes.insert((level, index), node) {
            None => Ok(()),
            Some(_) => Err(HashError::PieceOverlap { offset: start }),
        }
    }

    fn insert_edge(&mut self, offset: u64, bytes: &[u8]) -> Result<(), HashError> {
        let leaf_len = self.tree.leaf_len();
        let leaf = offset / leaf_len;
        let length = leaf_len.min(self.length - leaf * leaf_len) as usize;
        let edge = self.edges.entry(leaf).or_insert_with(|| Edge { bytes: vec![0; length], present: vec![false; length] });
        let start = (offset % leaf_len) as usize;
        let range = start..start + bytes.len();
        if edge.present[range.clone()].contains(&true) {
            return Err(HashError::PieceOverlap { offset });
        }
        edge.bytes[range.clone()].copy_from_slice(bytes);
        edge.present[range].fill(true);
        if edge.present.contains(&false) {
            return Ok(());
        }
        let edge = self.edges.remove(&leaf).expect("it was just filled");
        if self.length <= leaf_len {
            return self.insert_root(self.tree.whole(&edge.bytes));
        }
        self.insert_subtree(0, leaf, self.tree.subtree(leaf * leaf_len, &edge.bytes))
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
        match self.root.take() {
            Some(digest) => Ok(digest),
            None => self.right_edge().ok_or(incomplete),
        }
    }

    /// Joins the perfect subtrees that remain, one for each one-bit of the number of leaves, from the
    /// smallest at the right to the largest at the left.
    fn right_edge(mut self) -> Option<Digest> {
        let leaves = self.length.div_ceil(self.tree.leaf_len());
        let levels: Vec<u32> = (0..u64::BITS).filter(|level| leaves >> level & 1 == 1).collect();
        let (smallest, larger) = levels.split_first()?;
        let mut node = |level: u32| self.nodes.remove(&(level, (leaves >> level) - 1));
        let mut right = node(*smallest)?;
        for (position, &level) in larger.iter().enumerate() {
            let left = node(level)?;
            if position + 1 == larger.len() {
                return Some(self.tree.root(self.length, &left, &right));
            }
            right = self.tree.node(&left, &right);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREES: [Tree; 4] = [Tree::Blake3, Tree::Sha256, Tree::Blake2b, Tree::Sha3_256];

    /// Repeats with period 251, so that swapped leaves show.
    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    fn join(tree: Tree, message: &[u8], cuts: &[usize], order: impl Fn(usize) -> usize) -> Result<Digest, HashError> {
        let mut bounds = vec![0];
        bounds.extend(cuts.iter().copied().filter(|&cut| cut > 0 && cut < message.len()));
        bounds.push(message.len());
        bounds.dedup();
        let length = message.len() as u64;
        let mut joiner = Joiner::new(tree, length);
        for i in 0..bounds.len() - 1 {
            let i = order(i);
            joiner.insert(tree.piece(length, bounds[i] as u64, &message[bounds[i]..bounds[i + 1]])?)?;
        }
        joiner.finish()
    }

    #[test]
    fn any_cut_and_order_gives_the_digest() {
        let leaves = |count: usize| [count * 1024, count * 4096].into_iter().flat_map(|end| [end - 1, end, end + 1]);
        let lengths: Vec<usize> = [0, 1, 2].into_iter().chain([1, 2, 3, 5, 8, 25].into_iter().flat_map(leaves)).collect();
        for tree in TREES {
            for &length in &lengths {
                let message = message(length);
                let expected = tree.algorithm().digest(&message);
                for step in [1, 7, 64, 1000, 1023, 1024, 1025, 1536, 2048, 3000, 4095, 4096, 4097, 10_000, 16_384, 65_536] {
                    let cuts: Vec<usize> = (step..length).step_by(step).collect();
                    if cuts.len() > 3000 {
                        continue;
                    }
                    let count = cuts.len() + 1;
                    // 7919 is prime and larger than any count, so its multiples visit every piece once.
                    let orders: [fn(usize, usize) -> usize; 3] = [|i, _| i, |i, count| count - 1 - i, |i, count| i * 7919 % count];
                    for (order, place) in orders.iter().enumerate() {
                        let found = join(tree, &message, &cuts, |i| place(i, count));
                        assert_eq!(found, Ok(expected), "{tree:?}, length {length}, step {step}, order {order}");
                    }
                }
            }
        }
    }

    #[test]
    fn overlap_gap_and_overrun_are_errors() {
        for tree in TREES {
            let leaf = tree.leaf_len() as usize;
            let message = message(5 * leaf - 100);
            let length = message.len() as u64;
            let piece = |start: usize, end: usize| tree.piece(length, start as u64, &message[start..end]).unwrap();
            for (start, end) in [(0, leaf), (100, 300), (0, 4 * leaf), (4 * leaf, message.len())] {
                let mut joiner = Joiner::new(tree, length);
                joiner.insert(piece(start, end)).unwrap();
                assert!(matches!(joiner.insert(piece(start, end)), Err(HashError::PieceOverlap { .. })));
            }
            let mut joiner = Joiner::new(tree, length);
            joiner.insert(piece(0, message.len() - 1)).unwrap();
            assert_eq!(joiner.finish(), Err(HashError::Incomplete { seen: 4 * leaf as u64, length }));
            assert!(matches!(tree.piece(10, 5, &message[..6]), Err(HashError::PieceOutOfRange { .. })));
            assert!(matches!(tree.piece(10, u64::MAX, &message[..6]), Err(HashError::PieceOutOfRange { .. })));
            assert!(Joiner::new(tree, 11).insert(tree.piece(10, 0, &message[..3]).unwrap()).is_err());
        }
    }

    #[test]
    fn a_piece_of_another_algorithm_is_an_error() {
        for (position, tree) in TREES.into_iter().enumerate() {
            let piece = TREES[(position + 1) % TREES.len()].piece(10, 0, &message(10)).unwrap();
            assert!(matches!(Joiner::new(tree, 10).insert(piece), Err(HashError::PieceAlgorithm { .. })));
        }
    }
}
