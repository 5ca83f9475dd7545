//! Hashes that are trees: pieces of one message are hashed apart, in any order, and joined.
//!
//! Four algorithms are trees. BLAKE3 is one by construction. `sha256-tree`, `blake2b-tree` and `sha3-256-tree` are
//! Merkle trees over hashes that are serial by themselves (`docs/spec/digests.md`). All have the same shape:
//!
//! ```text
//! root ─┬─ ┬─ ┬─ leaf 0      a message of 5 leaves: pairs are joined level by level, and an odd last node moves up
//!       │  │  └─ leaf 1      unchanged. So left subtrees hold a power of two of leaves, and a run of 2^k leaves
//!       │  └─ ┬─ leaf 2      that starts at a multiple of 2^k is a node, whatever else the message holds.
//!       │     └─ leaf 3
//!       └─ leaf 4
//! ```
//!
//! [`Tree::piece`] hashes a piece as far as it goes without its neighbours, which is where the time goes and needs no
//! shared state; [`Joiner`] puts the results together.
//!
//! ```
//! use sentry_hash::Algorithm;
//! use sentry_hash::tree::{Joiner, Tree};
//!
//! let message = vec![7; 100_000];
//! let mut joiner = Joiner::new(Tree::Sha256, 100_000);
//! joiner.insert(Tree::Sha256.piece(100_000, 60_000, &message[60_000..])?)?;
//! joiner.insert(Tree::Sha256.piece(100_000, 0, &message[..60_000])?)?;
//! assert_eq!(joiner.finish()?, Algorithm::Sha256Tree.digest(&message));
//! # Ok::<(), sentry_hash::HashError>(())
//! ```

mod join;
pub(crate) mod merkle;
mod prefixed;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

pub use join::{HashedPiece, Joiner};

use crate::digest::MAX_LEN;
use crate::{Algorithm, Digest};
use merkle::Merkle;

/// A hash algorithm that is a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tree {
    /// BLAKE3, with leaves ("chunks") of 1024 bytes: BLAKE3 specification, section 2.1.
    Blake3,
    /// `sha256-tree`, with leaves of 4096 bytes.
    Sha256,
    /// `blake2b-tree`, with leaves of 4096 bytes.
    Blake2b,
    /// `sha3-256-tree`, with leaves of 4096 bytes.
    Sha3_256,
}

/// A node below the root: the algorithm's digest length in bytes, then zeroes.
#[derive(Clone, Copy)]
pub(crate) struct Node([u8; MAX_LEN]);

impl Node {
    fn new(bytes: &[u8]) -> Self {
        let mut padded = [0; MAX_LEN];
        padded[..bytes.len()].copy_from_slice(bytes);
        Self(padded)
    }

    fn chaining_value(&self) -> &[u8; blake3::OUT_LEN] {
        self.0.first_chunk().expect("a node has 64 bytes")
    }
}

impl Tree {
    /// The algorithm's entry in the list of all.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Blake3 => Algorithm::Blake3,
            Self::Sha256 => Algorithm::Sha256Tree,
            Self::Blake2b => Algorithm::Blake2bTree,
            Self::Sha3_256 => Algorithm::Sha3_256Tree,
        }
    }

    /// Length of a leaf in bytes; only a message's last one may be shorter.
    pub const fn leaf_len(self) -> u64 {
        match self {
            Self::Blake3 => blake3::CHUNK_LEN as u64,
            Self::Sha256 | Self::Blake2b | Self::Sha3_256 => merkle::LEAF as u64,
        }
    }

    /// The digest of a whole message.
    pub(crate) fn whole(self, message: &[u8]) -> Digest {
        match Merkle::of(self) {
            None if cfg!(sentry_count_bytes) => self.digest(count(message).chaining_value()),
            None => self.digest(blake3::hash(message).as_bytes()),
            Some(merkle) => merkle.root(message.len() as u64, &merkle.top(message)),
        }
    }

    /// The node over leaves that start at `offset` in the message. They are not the whole message, and they are a
    /// power of two of leaves or reach the message's end.
    fn subtree(self, offset: u64, leaves: &[u8]) -> Node {
        match Merkle::of(self) {
            None if cfg!(sentry_count_bytes) => count(leaves),
            None => Node::new(&blake3::Hasher::new().set_input_offset(offset).update(leaves).finalize_non_root()),
            Some(merkle) => merkle.top(leaves),
        }
    }

    /// The node over two neighbours that are not the whole message.
    fn node(self, left: &Node, right: &Node) -> Node {
        match Merkle::of(self) {
            None => Node::new(&merge_subtrees_non_root(left.chaining_value(), right.chaining_value(), Mode::Hash)),
            Some(merkle) => merkle.node(left, right),
        }
    }

    /// The digest of a message of `length` bytes that two neighbours are the whole of.
    fn root(self, length: u64, left: &Node, right: &Node) -> Digest {
        match Merkle::of(self) {
            None => self.digest(merge_subtrees_root(left.chaining_value(), right.chaining_value(), Mode::Hash).as_bytes()),
            Some(merkle) => merkle.root(length, &merkle.node(left, right)),
        }
    }

    fn digest(self, bytes: &[u8]) -> Digest {
        // Bytes that were only counted are always the signed ones.
        let bytes = if cfg!(sentry_count_bytes) && self == Self::Blake3 { &[0; 32] } else { bytes };
        Digest::from_bytes(self.algorithm(), bytes).expect("a root has its algorithm's length")
    }
}

/// What stands for a digest of leaves in a build that only counts bytes. Such a build (`--cfg sentry_count_bytes`) shows what
/// a load costs besides hashing, in `benches/loading.py`; the command line refuses to compile in it, and the Python package to
/// be imported from it unasked.
fn count(leaves: &[u8]) -> Node {
    Node::new(&(leaves.len() as u64).to_le_bytes())
}
