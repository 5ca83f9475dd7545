//! BLAKE3 of many short messages at once.
//!
//! Within one message of some KiB there are too few chunks for a core's vector units. Chunks and nodes of different messages do not
//! depend on each other, so they are hashed together, by the library's own code; this is only the order in which it is called. The
//! digests are those of `blake3::hash`.

use blake3::hazmat::HasherExt;
use blake3::platform::Platform;
use blake3::{CHUNK_LEN, Hasher, IncrementCounter, OUT_LEN};

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

/// A chaining value, and a digest.
type Value = [u8; OUT_LEN];

/// Two chaining values, left and right.
type Pair = [u8; 2 * OUT_LEN];

/// The BLAKE3 digests of `messages`, in their order, on this thread.
pub fn blake3_many(messages: &[&[u8]]) -> Vec<[u8; 32]> {
    let mut digests = vec![[0; OUT_LEN]; messages.len()];
    let mut group = Vec::with_capacity(GROUP);
    for (place, message) in messages.iter().enumerate() {
        if message.len() <= CHUNK_LEN || message.len() > MOST_CHUNKS * CHUNK_LEN {
            digests[place] = *blake3::hash(message).as_bytes();
            continue;
        }
        group.push((place, *message));
        if group.len() == GROUP {
            hash_group(&group, &mut digests);
            group.clear();
        }
    }
    hash_group(&group, &mut digests);
    digests
}

/// Hashes messages of at least two chunks.
fn hash_group(group: &[(usize, &[u8])], digests: &mut [Value]) {
    let platform = Platform::detect();
    let mut levels: Vec<Vec<Value>> = group.iter().map(|(_, message)| Vec::with_capacity(message.len().div_ceil(CHUNK_LEN))).collect();
    hash_chunks(platform, group, &mut levels);
    while levels.iter().any(|level| level.len() > 2) {
        join_pairs(platform, &mut levels);
    }
    let pairs: Vec<Pair> = levels.iter().map(|level| pair(&level[0], &level[1])).collect();
    let roots = hash_many(platform, &pairs.iter().collect::<Vec<_>>(), 0, PARENT, 0, ROOT);
    for ((place, _), root) in group.iter().zip(roots) {
        digests[*place] = root;
    }
}

/// Chunk by chunk, of all messages that have so many.
fn hash_chunks(platform: Platform, group: &[(usize, &[u8])], levels: &mut [Vec<Value>]) {
    let longest = group.iter().map(|(_, message)| message.len().div_ceil(CHUNK_LEN)).max().unwrap_or(0);
    for chunk in 0..longest {
        let full = |(_, message): &(usize, &'_ [u8])| message.as_chunks::<CHUNK_LEN>().0.len() > chunk;
        let chunks: Vec<&[u8; CHUNK_LEN]> =
            group.iter().filter(|member| full(member)).map(|(_, message)| &message.as_chunks().0[chunk]).collect();
        let mut values = hash_many(platform, &chunks, chunk as u64, 0, CHUNK_START, CHUNK_END).into_iter();
        for (member, level) in group.iter().zip(&mut *levels) {
            let (chunks, rest) = member.1.as_chunks::<CHUNK_LEN>();
            if full(member) {
                level.extend(values.next());
            } else if chunks.len() == chunk && !rest.is_empty() {
                let offset = (chunk * CHUNK_LEN) as u64;
                level.push(Hasher::new().set_input_offset(offset).update(rest).finalize_non_root());
            }
        }
    }
}

/// One level up in every message that has more than two nodes left: an odd last one moves up as it is.
fn join_pairs(platform: Platform, levels: &mut [Vec<Value>]) {
    let pairs: Vec<Pair> = levels
        .iter()
        .filter(|level| level.len() > 2)
        .flat_map(|level| level.as_chunks::<2>().0)
        .map(|[left, right]| pair(left, right))
        .collect();
    let mut parents = hash_many(platform, &pairs.iter().collect::<Vec<_>>(), 0, PARENT, 0, 0).into_iter();
    for level in levels.iter_mut().filter(|level| level.len() > 2) {
        let odd = level.as_chunks::<2>().1.to_vec();
        let above = level.len() / 2;
        level.clear();
        level.extend(parents.by_ref().take(above));
        level.extend(odd);
    }
}

fn pair(left: &Value, right: &Value) -> Pair {
    let mut pair = [0; 2 * OUT_LEN];
    pair[..OUT_LEN].copy_from_slice(left);
    pair[OUT_LEN..].copy_from_slice(right);
    pair
}

/// The chaining values of inputs of whole blocks, all with the same counter and flags.
fn hash_many<const N: usize>(platform: Platform, inputs: &[&[u8; N]], counter: u64, flags: u8, first: u8, last: u8) -> Vec<Value> {
    let mut values = vec![[0; OUT_LEN]; inputs.len()];
    platform.hash_many(inputs, &IV, counter, IncrementCounter::No, flags, first, last, values.as_flattened_mut());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|place| (place % 251) as u8).collect()
    }

    fn check(lengths: &[usize]) {
        let messages: Vec<Vec<u8>> = lengths.iter().map(|&length| message(length)).collect();
        let digests = blake3_many(&messages.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(digests.len(), lengths.len());
        for ((message, digest), length) in messages.iter().zip(digests).zip(lengths) {
            assert_eq!(digest, *blake3::hash(message).as_bytes(), "{length} bytes");
        }
    }

    #[test]
    fn digests_are_the_librarys_around_every_boundary() {
        let mut lengths = vec![0, 1, 64, 65];
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
