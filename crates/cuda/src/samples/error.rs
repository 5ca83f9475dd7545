//! What keeps samples from being hashed where they lie.

use super::{LONGEST_RECORD, MOST_SAMPLES};

/// A layout that the kernels do not take, or that does not fit its memory. Columns are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// A record is empty, or longer than the kernels take.
    #[error("on a GPU the record of a sample has 1 to {LONGEST_RECORD} bytes, found {found}")]
    RecordLength {
        /// Its length in bytes.
        found: u64,
    },
    /// Too many samples.
    #[error("a GPU is given at most {MOST_SAMPLES} samples at a time, found {found}")]
    Count {
        /// How many there are.
        found: u64,
    },
    /// The holes do not come one after the other.
    #[error("column {column} goes to byte {offset} of the record, and only those from {free} on are free")]
    HoleOrder {
        /// Which column.
        column: usize,
        /// Where its hole begins.
        offset: u64,
        /// Where the hole before it ends.
        free: u64,
    },
    /// A hole reaches past the record.
    #[error("column {column} goes up to byte {end} of a record of {length} bytes")]
    HoleRange {
        /// Which column.
        column: usize,
        /// Where its hole ends.
        end: u64,
        /// Bytes of the record.
        length: u64,
    },
    /// A hole has bytes in it.
    #[error("column {column} goes to byte {offset} of the record, where something stands already")]
    HoleNotZero {
        /// Which column.
        column: usize,
        /// Where its hole begins.
        offset: u64,
    },
    /// A column is too short for the samples.
    #[error("column {column} needs {needed} bytes for all samples, and has {found}")]
    ColumnLength {
        /// Which column.
        column: usize,
        /// Bytes that the samples span; the largest number if no memory is that large.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// There are more or fewer ids than samples.
    #[error("the ids of the samples have {expected} bytes, found {found}")]
    IdsLength {
        /// 8 bytes for each sample.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Ids lie where the GPU cannot read them.
    #[error("ids of samples begin at a multiple of 8 bytes, found the address {address:#x}")]
    IdsAlignment {
        /// Where they begin.
        address: u64,
    },
    /// Ids that count up do not fit 64 bits.
    #[error("{count} samples from the id {first} on: ids end at 2^64 - 1")]
    Ordinals {
        /// The first sample's id.
        first: u64,
        /// How many samples there are.
        count: u64,
    },
}
