//! What can go wrong when names, digests and pieces are put together.

/// An error of this crate. Reading errors belong to whoever reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The name is none of [`Algorithm::ALL`](crate::Algorithm::ALL).
    #[error("unknown hash algorithm {name:?}")]
    UnknownAlgorithm {
        /// The name as found.
        name: String,
    },
    /// The text of a digest is not lower-case hexadecimal.
    #[error("digest {text:?} is not lower-case hexadecimal")]
    DigestEncoding {
        /// The text as found, cut to 160 characters.
        text: String,
    },
    /// The digest has another length than its algorithm's.
    #[error("a {algorithm} digest has {expected} bytes, found {found}")]
    DigestLength {
        /// The algorithm that the digest is said to be of.
        algorithm: crate::Algorithm,
        /// Length of such a digest in bytes.
        expected: usize,
        /// Length found in bytes.
        found: usize,
    },
    /// Two pieces of a message cover the same byte.
    #[error("two pieces of one message overlap at byte {offset}")]
    PieceOverlap {
        /// Offset in the message, in bytes.
        offset: u64,
    },
    /// A piece reaches past the end of its message.
    #[error("a piece ends at byte {end} of a message of {length} bytes")]
    PieceOutOfRange {
        /// Where the piece ends, in bytes.
        end: u64,
        /// Length of the message in bytes.
        length: u64,
    },
    /// A digest was asked for before all pieces had arrived.
    #[error("only {seen} of {length} bytes have been hashed")]
    Incomplete {
        /// Bytes that have arrived.
        seen: u64,
        /// Length of the message in bytes.
        length: u64,
    },
}
