//! The lattice against another project's: the same expansion of a hash to lanes, the same sums and differences.

use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State, element};
use solana_lattice_hash::lt_hash::LtHash;

use crate::input::Input;

pub fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let sources = ["train", "test"].map(|name| SourceTag::new(name).expect("a name"));
    let (mut state, mut oracle, mut count) = (State::new(), LtHash::identity(), 0_u64);
    let mut parts = [State::new(), State::new()];
    while !input.is_empty() {
        let operation = input.byte();
        let source = &sources[usize::from(operation >> 1) % 2];
        let entry = Entry { id: u64::from(input.byte()), digest: SampleDigest::from_bytes([input.byte(); 32]) };
        let other = LtHash::with(&hasher(source, &entry));
        assert_eq!(lanes(&element(source, &entry)), other.0, "the expansion");
        let part = &mut parts[usize::from(operation >> 2) % 2];
        if operation.is_multiple_of(2) {
            state.add(source, &entry).expect("few samples");
            part.add(source, &entry).expect("few samples");
            oracle.mix_in(&other);
            count += 1;
        } else if part.count() > 0 {
            state.remove(source, &entry).expect("not empty");
            part.remove(source, &entry).expect("not empty");
            oracle.mix_out(&other);
            count -= 1;
        }
        assert_eq!((lanes(&state.to_bytes()), state.count()), (oracle.0, count), "the sum");
    }
    let [mut sum, other] = parts;
    sum.merge(&other).expect("few samples");
    assert_eq!(sum, state, "the parts add up");
    assert_eq!(State::from_bytes(count, &state.to_bytes()), Ok(state));
    true
}

/// The input of an element as the specification has it, in the library that makes the output.
fn hasher(source: &SourceTag, entry: &Entry) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key("sentry-ml/v1 element");
    hasher.update(source.as_bytes()).update(&entry.id.to_le_bytes()).update(entry.digest.as_bytes());
    hasher
}

fn lanes(bytes: &[u8; 2048]) -> [u16; 1024] {
    std::array::from_fn(|lane| u16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]))
}
