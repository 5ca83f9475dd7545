//! Trees over messages that are cut anywhere and arrive in any order, against the definition.

use aws_lc_rs::digest::{SHA3_256, SHA256};
use sentry_hash::tree::{Joiner, Tree};
use sentry_hash::{Digest, Hasher};

use crate::input::Input;

const TREES: [Tree; 4] = [Tree::Blake3, Tree::Sha256, Tree::Blake2b, Tree::Sha3_256];
const LEAF: usize = 4096;
/// Some leaves more than one batch of the hasher's.
const MAX_LENGTH: usize = 70 * LEAF;

pub fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let tree = TREES[usize::from(input.byte()) % TREES.len()];
    let (seed, leaves, rest) = (input.byte(), usize::from(input.byte()) % 69, input.below(LEAF + 2));
    let length = (leaves * LEAF + rest).min(MAX_LENGTH);
    let message: Vec<u8> = (0..length).map(|i| ((i + usize::from(seed)) % 251) as u8).collect();
    let expected = definition(tree, &message);

    let mut bounds = vec![0, length];
    while !input.is_empty() && bounds.len() < 40 {
        // Half of the cuts are at the ends of leaves, where it is most likely to go wrong.
        let cut = if input.byte().is_multiple_of(2) { input.below(length + 1) } else { input.below(length / 1024 + 1) * 1024 };
        bounds.push(cut);
    }
    bounds.sort_unstable();
    let mut pieces: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).filter(|piece| !piece.is_empty()).collect();

    let mut hasher = Hasher::new(tree.algorithm());
    pieces.iter().for_each(|piece| hasher.update(&message[piece.clone()]));
    assert_eq!(hasher.finish().as_bytes(), expected, "in order");

    let mut joiner = Joiner::new(tree, length as u64);
    while !pieces.is_empty() {
        let piece = pieces.swap_remove(usize::from(seed) * 31 % pieces.len());
        let hashed = tree.piece(length as u64, piece.start as u64, &message[piece]).expect("it lies in the message");
        joiner.insert(hashed).expect("pieces do not overlap");
    }
    let joined: Digest = joiner.finish().expect("every byte is there");
    assert_eq!(joined.as_bytes(), expected, "out of order");
    true
}

/// The digest as the specification defines it.
fn definition(tree: Tree, message: &[u8]) -> Vec<u8> {
    let block = match tree {
        Tree::Sha256 => 64,
        Tree::Blake2b => 128,
        Tree::Sha3_256 => 136,
        _ => return blake3::hash(message).as_bytes().to_vec(),
    };
    let h = |purpose: &str, parts: &[&[u8]]| {
        let mut input = format!("sentry-ml/tree/v1/{purpose}").into_bytes();
        input.resize(block, 0);
        flat(tree, &[&input, &parts.concat()[..]].concat())
    };
    let mut level: Vec<Vec<u8>> = message.chunks(LEAF).map(|leaf| h("leaf", &[leaf])).collect();
    if level.is_empty() {
        level.push(h("leaf", &[]));
    }
    while level.len() > 1 {
        let pair = |pair: &[Vec<u8>]| if let [left, right] = pair { h("node", &[left, right]) } else { pair[0].clone() };
        level = level.chunks(2).map(pair).collect();
    }
    h("root", &[&(message.len() as u64).to_le_bytes(), &level[0]])
}

fn flat(tree: Tree, message: &[u8]) -> Vec<u8> {
    match tree {
        Tree::Sha256 => aws_lc_rs::digest::digest(&SHA256, message).as_ref().to_vec(),
        Tree::Sha3_256 => aws_lc_rs::digest::digest(&SHA3_256, message).as_ref().to_vec(),
        _ => sentry_hash::Algorithm::Blake2b.digest(message).as_bytes().to_vec(),
    }
}
