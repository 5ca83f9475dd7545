//! The Merkle trees over serial hashes: `docs/spec/digests.md`, section 2.
//!
//! ```text
//! leaf    H(P("leaf") ‖ at most 4096 bytes)
//! node    H(P("node") ‖ left ‖ right)
//! digest  H(P("root") ‖ u64 length in bytes ‖ top)
//! ```
//!
//! Leaf, node and root have prefixes of their own, so none can be taken for another, and the length is in the root,
//! so no two messages share a tree.

use std::sync::LazyLock;

use super::prefixed::Prefixed;
use super::{Node, Tree};
use crate::{Algorithm, Digest};

/// Bytes of a leaf.
pub const LEAF: usize = 4096;

/// Leaves that are hashed level by level at a time: enough to fill all lanes, and 256 KiB stay in a core's cache.
const BATCH: usize = 64;

/// `sha256-tree`.
pub static SHA256: LazyLock<Merkle> = LazyLock::new(|| Merkle::new(Tree::Sha256, Algorithm::Sha256));
/// `blake2b-tree`.
pub static BLAKE2B: LazyLock<Merkle> = LazyLock::new(|| Merkle::new(Tree::Blake2b, Algorithm::Blake2b));
/// `sha3-256-tree`.
pub static SHA3_256: LazyLock<Merkle> = LazyLock::new(|| Merkle::new(Tree::Sha3_256, Algorithm::Sha3_256));

/// A serial hash, ready to build trees.
pub struct Merkle {
    tree: Tree,
    /// Bytes of a node.
    width: usize,
    leaf: Prefixed,
    node: Prefixed,
    root: Prefixed,
}

impl Merkle {
    /// The construction behind an algorithm; BLAKE3 has its own.
    pub fn of(tree: Tree) -> Option<&'static Self> {
        match tree {
            Tree::Blake3 => None,
            Tree::Sha256 => Some(&SHA256),
            Tree::Blake2b => Some(&BLAKE2B),
            Tree::Sha3_256 => Some(&SHA3_256),
        }
    }

    fn new(tree: Tree, flat: Algorithm) -> Self {
        let prefixed = |purpose| Prefixed::new(flat, purpose);
        Self { tree, width: flat.digest_len(), leaf: prefixed("leaf"), node: prefixed("node"), root: prefixed("root") }
    }

    /// The top node over `bytes`, which begin with a leaf.
    pub fn top(&self, bytes: &[u8]) -> Node {
        let leaves = bytes.len().div_ceil(LEAF);
        if leaves > BATCH {
            let left_leaves = 1 << (leaves - 1).ilog2();
            let (left, right) = bytes.split_at(left_leaves * LEAF);
            return self.node(&self.top(left), &self.top(right));
        }
        let mut level = Vec::with_capacity(BATCH * self.width);
        if bytes.is_empty() {
            self.leaf.digest_each([bytes].into_iter(), &mut level);
        } else {
            self.leaf.digest_each(bytes.chunks(LEAF), &mut level);
        }
        while level.len() > self.width {
            let pairs = level.chunks_exact(2 * self.width);
            let odd = pairs.remainder();
            let mut above = Vec::with_capacity(level.len() / 2 + self.width);
            self.node.digest_each(pairs, &mut above);
            above.extend_from_slice(odd);
            level = above;
        }
        Node::new(&level)
    }

    /// The node over two neighbours.
    pub fn node(&self, left: &Node, right: &Node) -> Node {
        let pair = [&left.0[..self.width], &right.0[..self.width]].concat();
        let mut digest = Vec::with_capacity(self.width);
        self.node.digest_each([&pair[..]].into_iter(), &mut digest);
        Node::new(&digest)
    }

    /// The digest of a message of `length` bytes with this top node.
    pub fn root(&self, length: u64, top: &Node) -> Digest {
        let message = [&length.to_le_bytes()[..], &top.0[..self.width]].concat();
        let mut digest = Vec::with_capacity(self.width);
        self.root.digest_each([&message[..]].into_iter(), &mut digest);
        self.tree.digest(&digest)
    }
}

/// One message in order, on one thread. Memory is one batch of leaves and a node for each level.
pub struct MerkleHasher {
    merkle: &'static Merkle,
    /// Bytes of a batch that is not complete.
    buffer: Vec<u8>,
    /// The batches so far, joined as far as they go: a node for each one-bit of their number, the largest first.
    nodes: Vec<Node>,
    batches: u64,
}

impl MerkleHasher {
    /// Starts an empty message.
    pub fn new(merkle: &'static Merkle) -> Self {
        Self { merkle, buffer: Vec::new(), nodes: Vec::new(), batches: 0 }
    }

    /// Appends `bytes`.
    pub fn update(&mut self, mut bytes: &[u8]) {
        const BYTES: usize = BATCH * LEAF;
        if !self.buffer.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(head);
            bytes = rest;
            if self.buffer.len() == BYTES {
                let top = self.merkle.top(&self.buffer);
                self.push(top);
                self.buffer.clear();
            }
        }
        let batches = bytes.chunks_exact(BYTES);
        self.buffer.extend_from_slice(batches.remainder());
        for batch in batches {
            self.push(self.merkle.top(batch));
        }
    }

    /// Adds a batch: two of equal size become one, as often as there are two.
    fn push(&mut self, mut node: Node) {
        for _ in 0..self.batches.trailing_ones() {
            let left = self.nodes.pop().expect("a node for each one-bit");
            node = self.merkle.node(&left, &node);
        }
        self.nodes.push(node);
        self.batches += 1;
    }

    /// The digest of all bytes given.
    pub fn finish(mut self) -> Digest {
        let length = self.batches * (BATCH * LEAF) as u64 + self.buffer.len() as u64;
        let rest = (!self.buffer.is_empty() || length == 0).then(|| self.merkle.top(&self.buffer));
        let mut top = rest.unwrap_or_else(|| self.nodes.pop().expect("a message that is not empty has bytes somewhere"));
        while let Some(left) = self.nodes.pop() {
            top = self.merkle.node(&left, &top);
        }
        self.merkle.root(length, &top)
    }
}
