//! Our SHA-256 against the library's: two messages in turns, in updates of any size.

use aws_lc_rs::digest::{SHA256, digest};
use sentry_hash::{Algorithm, Hasher};

use crate::input::Input;

pub fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let cuts: [usize; 8] = std::array::from_fn(|_| usize::from(input.byte()) * 3);
    let split = input.below(data.len() + 1);
    let rest = input.rest();
    let (one, other) = rest.split_at(split.min(rest.len()));
    let mut hashers = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Sha256));
    let (mut left, mut right) = (one, other);
    for (index, &cut) in cuts.iter().cycle().enumerate() {
        let (head, tail) = left.split_at(cut.min(left.len()));
        let (other_head, other_tail) = right.split_at(cuts[(index + 3) % 8].min(right.len()));
        hashers.0.update_pair(head, &mut hashers.1, other_head);
        (left, right) = (tail, other_tail);
        // Cuts that are all 0 make no progress.
        if index >= 8 * 16 {
            hashers.0.update(left);
            hashers.1.update(right);
            break;
        }
    }
    assert_eq!(hashers.0.finish().as_bytes(), digest(&SHA256, one).as_ref());
    assert_eq!(hashers.1.finish().as_bytes(), digest(&SHA256, other).as_ref());
    true
}
