//! BLAKE3 of many short messages at once.
//!
//! Within one message of some KiB there are too few chunks for a core's vector units. Chunks and nodes of different messages do not
//! depend on each other, so they are hashed together, by the library's own code; this is only the order in which it is called. The
//! digests are those of `blake3::hash`, and of `blake3::derive_key`.

use blake3::hazmat::{ContextKey, HasherExt};
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};
use blake3::{BLOCK_LEN, CHUNK_LEN, Hasher, IncrementCounter, OUT_LEN};

/// Messages that are hashed together: enough to fill the widest vectors, and their chunks' digests still fit a core's fastest cache.
const GROUP: usize = 64;

/// Messages with more chunks than this fill the vectors by themselves.
const MOST_CHUNKS: usize = 64;

/// BLAKE3's initial value, and its flags (section 2.2 of the paper).
const IV: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;
const DERIVE_KEY_MATERIAL: u8 = 64;

/// A chaining value, and a digest.
type Value = [u8; OUT_LEN];

/// Two chaining values, left and right.
type Pair = [u8; 2 * OUT_LEN];

/// A message, and the place of its digest.
type Member<'a> = (usize, &'a [u8]);

/// The BLAKE3 digests of `messages`, in their order, on this thread.
pub fn blake3_many(messages: &[&[u8]]) -> Vec<[u8; 32]> {
    hash_all(&Calls::new(IV, 0), messages, |message| *blake3::hash(message).as_bytes())
}

/// What BLAKE3 derives from each of `messages` under a context, in their order, on this thread.
pub(crate) fn derive_many(context: &ContextKey, messages: &[&[u8]]) -> Vec<[u8; 32]> {
    let alone = |message: &[u8]| *Hasher::new_from_context_key(context).update(message).finalize().as_bytes();
    hash_all(&Calls::new(words_from_le_bytes_32(context), DERIVE_KEY_MATERIAL), messages, alone)
}

/// `alone` hashes a message that has nothing to gain from others.
fn hash_all(calls: &Calls, messages: &[&[u8]], alone: impl Fn(&[u8]) -> Value) -> Vec<Value> {
    let mut digests = vec![[0; OUT_LEN]; messages.len()];
    let mut group: Vec<Member<'_>> = Vec::with_capacity(GROUP.min(messages.len()));
    for (place, message) in messages.iter().enumerate() {
        if message.len() > MOST_CHUNKS * CHUNK_LEN {
            digests[place] = alone(message);
            continue;
        }
        group.push((place, *message));
        if group.len() == GROUP {
            calls.hash_group(&group, &mut digests);
            group.clear();
        }
    }
    match group.as_slice() {
        [(place, message)] => digests[*place] = alone(message),
        group => calls.hash_group(group, &mut digests),
    }
    digests
}

/// Calls of the library's compression, which all have the same key and flags.
struct Calls {
    platform: Platform,
    key: [u32; 8],
    flags: u8,
}

impl Calls {
    fn new(key: [u32; 8], flags: u8) -> Self {
        Self { platform: Platform::detect(), key, flags }
    }

    fn hash_group(&self, group: &[Member<'_>], digests: &mut [Value]) {
        let mut levels: Vec<Vec<Value>> = group.iter().map(|(_, message)| Vec::with_capacity(message.len().div_ceil(CHUNK_LEN))).collect();
        self.hash_chunks(group, &mut levels);
        while levels.iter().any(|level| level.len() > 2) {
            self.join_pairs(&mut levels);
        }
        let pairs: Vec<Pair> = levels.iter().filter(|level| level.len() == 2).map(|level| pair(&level[0], &level[1])).collect();
        let mut roots = self.hash_many(&pairs.iter().collect::<Vec<_>>(), 0, PARENT, 0, ROOT).into_iter();
        for ((place, _), level) in group.iter().zip(&levels) {
            digests[*place] = match level.as_slice() {
                // The only chunk is the root.
                [root] => *root,
                _ => roots.next().expect("every pair has become a root"),
            };
        }
    }

    /// Chunk by chunk, of all messages that have so many. An empty message is one chunk.
    fn hash_chunks(&self, group: &[Member<'_>], levels: &mut [Vec<Value>]) {
        let longest = group.iter().map(|(_, message)| message.len().div_ceil(CHUNK_LEN).max(1)).max().unwrap_or(0);
        for chunk in 0..longest {
            let (mut whole, mut last) = (Vec::new(), Vec::new());
            for (member, (_, message)) in group.iter().enumerate() {
                let rest = message.get(chunk * CHUNK_LEN..).unwrap_or_default();
                match rest.first_chunk::<CHUNK_LEN>() {
                    Some(bytes) if message.len() > CHUNK_LEN => whole.push((member, bytes)),
                    _ if chunk == 0 || !rest.is_empty() => last.push((member, rest)),
                    _ => {}
                }
            }
            let bytes: Vec<&[u8; CHUNK_LEN]> = whole.iter().map(|(_, bytes)| *bytes).collect();
            let values = self.hash_many(&bytes, chunk as u64, 0, CHUNK_START, CHUNK_END);
            for ((member, _), value) in whole.iter().zip(values) {
                levels[*member].push(value);
            }
            let root = if chunk == 0 { ROOT } else { 0 };
            self.hash_last_chunks(last, chunk as u64, root, levels);
        }
    }

    /// Chunks that are shorter than others, or the only one of their message: the blocks before the last one together with those of
    /// as many, and each last one, which may be shorter, by itself.
    fn hash_last_chunks(&self, mut chunks: Vec<(usize, &[u8])>, counter: u64, root: u8, levels: &mut [Vec<Value>]) {
        let blocks_before = |chunk: &[u8]| chunk.len().saturating_sub(1) / BLOCK_LEN;
        chunks.sort_by_key(|(_, chunk)| blocks_before(chunk));
        for alike in chunks.chunk_by(|one, other| blocks_before(one.1) == blocks_before(other.1)) {
            let blocks = blocks_before(alike[0].1);
            let before: Vec<&[u8]> = alike.iter().map(|(_, chunk)| *chunk).collect();
            let start = if blocks == 0 { CHUNK_START } else { 0 };
            for ((member, chunk), value) in alike.iter().zip(self.hash_blocks(&before, blocks, counter)) {
                let rest = &chunk[blocks * BLOCK_LEN..];
                let mut block = [0; BLOCK_LEN];
                block[..rest.len()].copy_from_slice(rest);
                let mut value = words_from_le_bytes_32(&value);
                self.platform.compress_in_place(&mut value, &block, rest.len() as u8, counter, self.flags | start | CHUNK_END | root);
                levels[*member].push(le_bytes_from_words_32(&value));
            }
        }
    }

    /// The chaining values after the first `blocks` blocks of chunks, which go on.
    fn hash_blocks(&self, chunks: &[&[u8]], blocks: usize, counter: u64) -> Vec<Value> {
        macro_rules! of_length {
            ($($length:literal)*) => {
                match blocks {
                    0 => vec![le_bytes_from_words_32(&self.key); chunks.len()],
                    $($length => {
                        let heads = chunks.iter().map(|chunk| chunk.first_chunk::<{ $length * BLOCK_LEN }>().expect("it has more blocks"));
                        self.hash_many(&heads.collect::<Vec<_>>(), counter, 0, CHUNK_START, 0)
                    })*
                    _ => unreachable!("a chunk has 16 blocks"),
                }
            };
        }
        of_length!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    }

    /// One level up in every message that has more than two nodes left: an odd last one moves up as it is.
    fn join_pairs(&self, levels: &mut [Vec<Value>]) {
        let pairs: Vec<Pair> = levels
            .iter()
            .filter(|level| level.len() > 2)
            .flat_map(|level| level.as_chunks::<2>().0)
            .map(|[left, right]| pair(left, right))
            .collect();
        let mut parents = self.hash_many(&pairs.iter().collect::<Vec<_>>(), 0, PARENT, 0, 0).into_iter();
        for level in levels.iter_mut().filter(|level| level.len() > 2) {
            let odd = level.as_chunks::<2>().1.to_vec();
            let above = level.len() / 2;
            level.clear();
            level.extend(parents.by_ref().take(above));
            level.extend(odd);
        }
    }

    /// The chaining values of inputs of whole blocks, all with the same counter and flags.
    fn hash_many<const N: usize>(&self, inputs: &[&[u8; N]], counter: u64, flags: u8, first: u8, last: u8) -> Vec<Value> {
        let mut values = vec![[0; OUT_LEN]; inputs.len()];
        let flags = self.flags | flags;
        self.platform.hash_many(inputs, &self.key, counter, IncrementCounter::No, flags, first, last, values.as_flattened_mut());
        values
    }
}

fn pair(left: &Value, right: &Value) -> Pair {
    let mut pair = [0; 2 * OUT_LEN];
    pair[..OUT_LEN].copy_from_slice(left);
    pair[OUT_LEN..].copy_from_slice(right);
    pair
}

#[cfg(test)]
mod tests {
    use blake3::hazmat::hash_derive_key_context;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|place| (place % 251) as u8).collect()
    }

    fn check(lengths: &[usize]) {
        let messages: Vec<Vec<u8>> = lengths.iter().map(|&length| message(length)).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let (digests, derived) = (blake3_many(&messages), derive_many(&hash_derive_key_context("a context"), &messages));
        assert_eq!((digests.len(), derived.len()), (lengths.len(), lengths.len()));
        for (place, message) in messages.iter().enumerate() {
            assert_eq!(digests[place], *blake3::hash(message).as_bytes(), "{} bytes", message.len());
            assert_eq!(derived[place], blake3::derive_key("a context", message), "{} bytes", message.len());
        }
    }

    #[test]
    fn digests_are_the_librarys_around_every_boundary() {
        let mut lengths: Vec<usize> =
            (0..=17).flat_map(|blocks| [blocks * BLOCK_LEN, blocks * BLOCK_LEN + 1, blocks * BLOCK_LEN + 63]).collect();
        for chunks in 1..=MOST_CHUNKS + 1 {
            lengths.extend([chunks * CHUNK_LEN - 1, chunks * CHUNK_LEN, chunks * CHUNK_LEN + 1, chunks * CHUNK_LEN + 65]);
        }
        check(&lengths);
        lengths.iter().for_each(|&length| check(&[length]));
    }

    #[test]
    fn groups_of_any_size_and_mixture_come_back_in_order() {
        for count in [0, 1, 2, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP + 7] {
            check(&vec![3072; count]);
            check(&(0..count).map(|number| (number * 7919) % 80_000).collect::<Vec<_>>());
        }
    }
}
