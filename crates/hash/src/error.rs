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
    /// A piece was hashed with another algorithm than the rest of its message.
    #[error("a piece was hashed with {found}, its message with {expected}")]
    PieceAlgorithm {
        /// The message's algorithm.
        expected: crate::Algorithm,
        /// The piece's algorithm.
        found: crate::Algorithm,
    },
    /// A piece starts or ends where the place that hashes it cannot cut a message.
    #[error("a piece at byte {offset} does not start and end at multiples of {multiple} or at the message's end")]
    PieceAlignment {
        /// Where it starts, in bytes.
        offset: u64,
        /// Where pieces may start and end.
        multiple: u64,
    },
    /// There are more or fewer digests than messages.
    #[error("{expected} digests were asked for, and {found} came back")]
    DigestCount {
        /// How many messages there are.
        expected: usize,
        /// How many digests.
        found: usize,
    },
    /// A device cannot compute digests.
    #[error("{message}")]
    Device {
        /// A stable name of the error for programs.
        code: &'static str,
        /// What is wrong with which device.
        message: String,
    },
    /// A digest was asked for before all pieces had arrived.
    #[error("only {seen} of {length} bytes have been hashed")]
    Incomplete {
        /// Bytes that have arrived.
        seen: u64,
        /// Length of the message in bytes.
        length: u64,
    },
    /// The name of a source is empty or too long.
    #[error("the name of a source has 1 to 4096 bytes, found {length}")]
    SourceName {
        /// Its length in bytes.
        length: usize,
    },
    /// Two parts of different sources were to be merged.
    #[error("parts of two different sources cannot be merged")]
    SourceMismatch,
    /// A set of samples grew beyond [`MAX_SAMPLES`](crate::lattice::MAX_SAMPLES).
    #[error("a set has at most 2^40 samples")]
    TooManySamples,
    /// An empty set has no digest, and nothing can be taken from it.
    #[error("a set without samples has no digest and nothing to remove")]
    NoSamples,
    /// A stored state has another length than 1024 lanes of 16 bits.
    #[error("a lattice state has 2048 bytes, found {found}")]
    StateLength {
        /// Its length in bytes.
        found: usize,
    },
    /// Two samples of a source have the same id.
    #[error("two samples have the id {id}")]
    RepeatedId {
        /// The id.
        id: u64,
    },
    /// A stored table is empty, or its length is no multiple of an entry's.
    #[error("a sample table has 40 bytes for each of at least one sample, found {found} bytes")]
    TableLength {
        /// Its length in bytes.
        found: usize,
    },
    /// The ids of a stored table do not ascend.
    #[error("entry {index} of a sample table has the id {id}, which is not greater than the one before it")]
    TableOrder {
        /// The entry, counted from 0.
        index: usize,
        /// Its id.
        id: u64,
    },
    /// A part of a table is not the one that was signed.
    #[error("part {part} of a sample table is not the one that was signed")]
    TablePart {
        /// The part, counted from 0.
        part: usize,
    },
    /// A table and the state of its source disagree.
    #[error("the samples of a table do not add up to the state of its source")]
    TableState,
    /// No sample of the source has this id.
    #[error("no sample has the id {id}")]
    UnknownSample {
        /// The id.
        id: u64,
    },
    /// A sample is not the one that was signed under its id.
    #[error("sample {id}: expected {expected}, found {found}")]
    SampleMismatch {
        /// The id.
        id: u64,
        /// The digest in the table.
        expected: crate::lattice::SampleDigest,
        /// The digest of the sample at hand.
        found: crate::lattice::SampleDigest,
    },
}
