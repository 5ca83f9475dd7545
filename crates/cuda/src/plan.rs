//! Which launches give the digests of some messages: the tables that the kernels read. Plain arithmetic.
//!
//! `kernels/table.cuh` has the picture. In short: leaves lie in *slots*, [`Shape::slots`] of them to a thread block, a *block* for
//! short. A message of one block is finished by the first launch. One of more blocks leaves a node for each, and later launches
//! join those, [`Shape::join`] at a time, until one is left. So the blocks of a message can be hashed in any order and any number of
//! launches, as its bytes arrive.

use std::mem::size_of;

use sentry_hash::tree::Tree;
use sentry_hash::{Algorithm, HashError};

use crate::{DeviceBytes, GpuError};

/// Most blocks of a launch.
const MOST_BLOCKS: u64 = i32::MAX as u64;

/// Longest message in bytes: far beyond any memory, and its sums do not overflow.
const MOST_BYTES: u64 = 1 << 56;

/// Threads of a block that joins.
pub(crate) const JOIN_THREADS: u32 = 256;

/// What is particular to an algorithm's kernels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub tree: Tree,
    /// The file of the kernels, and how their names begin.
    pub kernels: &'static str,
    /// Leaves of a block.
    pub slots: u64,
    /// Threads of a block that hashes leaves.
    pub threads: u32,
    /// Nodes that a block joins.
    pub join: u64,
    /// Bytes of a node and of a digest.
    pub node: u64,
}

impl Shape {
    /// The kernels of an algorithm.
    ///
    /// # Errors
    /// [`GpuError::Serial`] if it is no tree.
    pub fn of(algorithm: Algorithm) -> Result<Self, GpuError> {
        let shape = |tree, kernels, slots, threads, join, node| Self { tree, kernels, slots, threads, join, node };
        match algorithm.tree() {
            Some(tree @ Tree::Blake3) => Ok(shape(tree, "blake3", 256, 128, 1024, 32)),
            Some(tree @ Tree::Sha256) => Ok(shape(tree, "sha256_tree", 256, 256, 1024, 32)),
            Some(tree @ Tree::Blake2b) => Ok(shape(tree, "blake2b_tree", 128, 128, 512, 64)),
            Some(tree @ Tree::Sha3_256) => Ok(shape(tree, "sha3_256_tree", 128, 128, 1024, 32)),
            _ => Err(GpuError::Serial { algorithm }),
        }
    }

    /// Bytes of a block's leaves. Pieces of a message start at multiples of it.
    pub fn block_len(self) -> u64 {
        self.slots * self.tree.leaf_len()
    }

    fn leaves(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.tree.leaf_len()).max(1)
    }
}

/// Some leaves of one message, in slots one after the other: `Run` in `kernels/table.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// First slot in the launch.
    pub first: u64,
    /// Address of the first byte.
    pub data: u64,
    pub bytes: u64,
    /// Index in the message of the first leaf.
    pub first_leaf: u64,
    /// Bytes of the message.
    pub length: u64,
    /// Index of the digest if the message has one block, else of the first node.
    pub output: u64,
}

/// The nodes of one message, to be joined: `Join` in `kernels/table.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Join {
    /// First block in the launch.
    pub first: u64,
    /// Index of the first node.
    pub nodes: u64,
    pub count: u64,
    /// Bytes of the message.
    pub length: u64,
    /// Index of the digest if one block joins them all, else of the first node that is written.
    pub output: u64,
}

/// A table entry as its words, in the order of its fields.
pub(crate) trait Entry: Copy {
    type Words: IntoIterator<Item = u64>;
    fn words(self) -> Self::Words;
}

impl Entry for Run {
    type Words = [u64; size_of::<Run>() / 8];
    fn words(self) -> Self::Words {
        [self.first, self.data, self.bytes, self.first_leaf, self.length, self.output]
    }
}

impl Entry for Join {
    type Words = [u64; size_of::<Join>() / 8];
    fn words(self) -> Self::Words {
        [self.first, self.nodes, self.count, self.length, self.output]
    }
}

/// A table and the blocks to launch with it.
#[derive(Debug)]
pub(crate) struct Launch<E> {
    pub entries: Vec<E>,
    pub blocks: u32,
}

/// A message's place among the blocks and nodes of all.
#[derive(Debug, Clone, Copy)]
struct Message {
    length: u64,
    /// Number of its first block among all messages' blocks.
    first_block: u64,
    blocks: u64,
    /// Its first node, if it has more blocks than one.
    first_node: u64,
}

/// Some bytes of a message: they start at a multiple of the hasher's `block_len`, and end at another one or at the message's end.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'memory> {
    /// Which message, by its place among the lengths that the hasher was made for.
    pub message: usize,
    /// Where in the message, in bytes.
    pub offset: u64,
    /// The bytes.
    pub bytes: DeviceBytes<'memory>,
}

/// Where the digests and nodes of some messages go, and how the nodes are joined. It depends on the lengths alone.
#[derive(Debug)]
pub(crate) struct Layout {
    shape: Shape,
    messages: Vec<Message>,
    blocks: u64,
    nodes: u64,
    levels: Vec<Launch<Join>>,
}

impl Layout {
    pub fn new(shape: Shape, lengths: &[u64]) -> Result<Self, GpuError> {
        let mut messages = Vec::with_capacity(lengths.len());
        let mut open = Vec::new();
        let (mut blocks, mut nodes) = (0, 0);
        for (index, &length) in lengths.iter().enumerate() {
            if length > MOST_BYTES {
                return Err(GpuError::TooLarge { what: "a message", found: length });
            }
            let message = Message { length, first_block: blocks, blocks: shape.leaves(length).div_ceil(shape.slots), first_node: nodes };
            if message.blocks > 1 {
                open.push(Join { first: 0, nodes, count: message.blocks, length, output: index as u64 });
                nodes += message.blocks;
            }
            blocks += message.blocks;
            if blocks > MOST_BLOCKS {
                return Err(GpuError::TooLarge { what: "a model", found: blocks.saturating_mul(shape.block_len()) });
            }
            messages.push(message);
        }
        let mut levels = Vec::new();
        while !open.is_empty() {
            (levels, open) = join_once(shape, levels, open, &mut nodes);
        }
        Ok(Self { shape, messages, blocks, nodes, levels })
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many digests there will be.
    pub fn digests(&self) -> usize {
        self.messages.len()
    }

    /// Blocks of all messages.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Nodes that the launches keep between them.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// The launches that make digests of nodes, one after the other.
    pub fn levels(&self) -> &[Launch<Join>] {
        &self.levels
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.length).sum()
    }

    /// Which blocks, counted over all messages, a piece covers.
    ///
    /// # Errors
    /// [`HashError::PieceOutOfRange`] if it reaches past its message, [`HashError::PieceAlignment`] if it does not start or end
    /// where a block does.
    pub fn blocks_of(&self, piece: &Piece<'_>) -> Result<std::ops::Range<u64>, HashError> {
        let Some(message) = self.messages.get(piece.message) else {
            return Err(HashError::PieceOutOfRange { end: piece.offset.saturating_add(piece.bytes.len()), length: 0 });
        };
        let block = self.shape.block_len();
        let end = piece.offset.saturating_add(piece.bytes.len());
        if end > message.length {
            return Err(HashError::PieceOutOfRange { end, length: message.length });
        }
        let ends_well = end == message.length || end.is_multiple_of(block);
        let is_empty = piece.bytes.is_empty() && message.length > 0;
        if !piece.offset.is_multiple_of(block) || !ends_well || is_empty {
            return Err(HashError::PieceAlignment { offset: piece.offset, multiple: block });
        }
        let first = message.first_block + piece.offset / block;
        Ok(first..first + self.shape.leaves(piece.bytes.len()).div_ceil(self.shape.slots))
    }

    /// The launch that hashes the leaves of some pieces, which [`Layout::blocks_of`] accepts.
    ///
    /// Full blocks come first, in the order of the pieces; then the rests, from the widest window to the narrowest, where a rest's window
    /// is the power of two at or above its leaves. So each begins at a multiple of its window without a gap, and pairs of leaves are pairs of slots.
    pub fn runs(&self, pieces: &[Piece<'_>]) -> Result<Launch<Run>, GpuError> {
        let Shape { slots, tree, .. } = self.shape;
        let mut runs = Vec::with_capacity(2 * pieces.len());
        let mut rests: Vec<(u64, Run)> = Vec::new();
        let mut slot = 0;
        for piece in pieces {
            let message = self.messages[piece.message];
            let (bytes, data) = (piece.bytes.len(), piece.bytes.address());
            let leaves = self.shape.leaves(bytes);
            let whole = message.blocks == 1;
            // A message of just one full block is a rest that fills its window.
            let full = if whole && leaves < slots { 0 } else { leaves / slots };
            let first_block = piece.offset / self.shape.block_len();
            let first_output = if whole { piece.message as u64 } else { message.first_node + first_block };
            let run = |first, done: u64, bytes| Run {
                first,
                data: data + done * tree.leaf_len(),
                bytes,
                first_leaf: first_block * slots + done,
                length: message.length,
                output: first_output + done / slots,
            };
            if full > 0 {
                runs.push(run(slot, 0, bytes.min(full * self.shape.block_len())));
                slot += full * slots;
            }
            let done = full * slots;
            if done < leaves {
                rests.push(((leaves - done).next_power_of_two(), run(0, done, bytes - done * tree.leaf_len())));
            }
        }
        rests.sort_by_key(|(window, _)| std::cmp::Reverse(*window));
        for (window, run) in rests {
            runs.push(Run { first: slot, ..run });
            slot += window;
        }
        let blocks = slot.div_ceil(slots);
        let blocks = u32::try_from(blocks).ok().filter(|&blocks| u64::from(blocks) <= MOST_BLOCKS);
        Ok(Launch { entries: runs, blocks: blocks.ok_or(GpuError::TooLarge { what: "a launch", found: slot * tree.leaf_len() })? })
    }
}

/// Adds the launch that joins what is `open`; what is open then is returned.
fn join_once(shape: Shape, mut levels: Vec<Launch<Join>>, open: Vec<Join>, nodes: &mut u64) -> (Vec<Launch<Join>>, Vec<Join>) {
    let mut entries = Vec::with_capacity(open.len());
    let mut above = Vec::new();
    let mut first = 0;
    for join in open {
        let groups = join.count.div_ceil(shape.join);
        if groups == 1 {
            entries.push(Join { first, ..join });
        } else {
            entries.push(Join { first, output: *nodes, ..join });
            above.push(Join { nodes: *nodes, count: groups, ..join });
            *nodes += groups;
        }
        first += groups;
    }
    let blocks = u32::try_from(first).expect("there are fewer groups than blocks of leaves");
    levels.push(Launch { entries, blocks });
    (levels, above)
}

/// Which blocks have been hashed.
#[derive(Debug)]
pub(crate) struct Coverage {
    words: Vec<u64>,
    covered: u64,
}

impl Coverage {
    pub fn new(blocks: u64) -> Self {
        Self { words: vec![0; blocks.div_ceil(64) as usize], covered: 0 }
    }

    /// Marks blocks, and says whether none of them was marked before.
    pub fn mark(&mut self, blocks: std::ops::Range<u64>) -> bool {
        let mut fresh = true;
        let mut block = blocks.start;
        while block < blocks.end {
            let (word, bit) = ((block / 64) as usize, block % 64);
            let bits = (64 - bit).min(blocks.end - block);
            let mask = (u64::MAX >> (64 - bits)) << bit;
            fresh &= self.words[word] & mask == 0;
            self.words[word] |= mask;
            block += bits;
        }
        self.covered += blocks.end - blocks.start;
        fresh
    }

    /// Blocks that were marked.
    pub fn covered(&self) -> u64 {
        self.covered
    }
}
