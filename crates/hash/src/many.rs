//! BLAKE3 of many short messages.

/// The BLAKE3 digests of `messages`, in their order.
pub fn blake3_many(messages: &[&[u8]]) -> Vec<[u8; 32]> {
    messages.iter().map(|message| *blake3::hash(message).as_bytes()).collect()
}
