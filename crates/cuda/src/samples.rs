//! Samples whose fields lie in a GPU's memory column by column: their digests, and the state of a source
//! (`docs/spec/samples.md`).
//!
//! All have the same fields, types and shapes, so their records differ in the bodies only. Whoever encodes records writes one of them
//! with zeroes where bodies go, the *holes*, and says which column fills which hole. The kernels (`kernels/samples.cu`) do the rest:
//!
//! ```text
//! record with holes ─┐
//! columns ───────────┴─► records ─► sample digests ─┬─► Gpu::sample_digests      to compare with a table, or to make one
//! ids ──────────────────────────────────────────────┴─► Gpu::samples_state       the lattice's sum: nothing but 2048 bytes comes back
//! ```
//!
//! That the record is one that the specification allows, and stays one whatever its bodies are, is for whoever encodes it to see.

mod batches;
mod error;
mod self_test;

pub use error::SamplesError;

pub(crate) use batches::SampleKernels;

use crate::DeviceBytes;

/// Longest record, in bytes: a chunk of BLAKE3, which a thread hashes by itself.
const LONGEST_RECORD: u64 = 1024;

/// Longest body that stands in a record as it is, in bytes; of a longer one, its digest does.
const LONGEST_INLINE: u64 = 64;

/// Bytes of a digest, of a body or of a sample.
const DIGEST: u64 = 32;

/// Most samples of a call. Far beyond what a GPU's memory holds, and what is made for each batch of them stays small.
const MOST_SAMPLES: u64 = 1 << 32;

/// The bodies of one field: of sample i, `bytes` bytes from byte i * `stride` of `data` on, at any alignment.
///
/// What has been hashed before is a column as well: of the 32-byte BLAKE3 digests that stand in the record for bodies of more than 64 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Column<'memory> {
    /// Where in the record the body goes, or its digest if it has more than 64 bytes.
    pub offset: u64,
    /// The memory that all bodies lie in; the first one begins where it begins.
    pub data: DeviceBytes<'memory>,
    /// Bytes from one sample's body to the next one's.
    pub stride: u64,
    /// Bytes of a body.
    pub bytes: u64,
}

impl<'memory> Column<'memory> {
    /// The body of a sample, one of those that the column was checked for.
    fn body(&self, sample: u64) -> DeviceBytes<'memory> {
        let (start, length) = (sample * self.stride, self.data.len());
        assert!(start <= length && self.bytes <= length - start, "a body beyond its column");
        // SAFETY: it lies in the column's memory.
        #[allow(unsafe_code)]
        unsafe {
            DeviceBytes::new(self.data.address() + start, self.bytes)
        }
    }

    /// Whether the body's digest stands in the record.
    fn is_hashed(&self) -> bool {
        self.bytes > LONGEST_INLINE
    }

    /// Bytes of the hole.
    fn hole_len(&self) -> u64 {
        if self.is_hashed() { DIGEST } else { self.bytes }
    }

    /// Bytes of memory that the bodies of `count` samples span, if that many exist.
    fn span(&self, count: u64) -> Option<u64> {
        match count {
            0 => Some(0),
            _ => (count - 1).checked_mul(self.stride)?.checked_add(self.bytes),
        }
    }
}

/// Samples of one layout in a GPU's memory. Nothing writes to it until their digests are there.
///
/// ```no_run
/// use sentry_cuda::{Column, DeviceBytes, Gpu, GpuError, Ids, Samples};
/// use sentry_hash::lattice::{SourceTag, State};
///
/// /// Of images of 3072 bytes and their labels. `record` has its holes at the bytes 40 and 101.
/// fn state(record: &[u8], images: DeviceBytes<'_>, labels: DeviceBytes<'_>, count: u64) -> Result<State, GpuError> {
///     let images = Column { offset: 40, data: images, stride: 3072, bytes: 3072 };
///     let labels = Column { offset: 101, data: labels, stride: 8, bytes: 8 };
///     let samples = Samples::new(record, vec![images, labels], count)?;
///     let gpu = Gpu::open(0)?;
///     gpu.samples_state(&SourceTag::new("train")?, &samples, Ids::Ordinals { first: 0 }, &gpu.stream()?)
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Samples<'memory> {
    record: Vec<u8>,
    columns: Vec<Column<'memory>>,
    count: u64,
}

impl<'memory> Samples<'memory> {
    /// `count` samples: `record` with zeroes in its holes, and the columns that fill them, in the order of the holes.
    ///
    /// # Errors
    /// [`SamplesError`]: a record that is empty or longer than 1024 bytes, a hole that is not in it, not behind the one before it, or not
    /// zero, a column that does not have all samples' bodies, or too many samples.
    pub fn new(record: &[u8], columns: Vec<Column<'memory>>, count: u64) -> Result<Self, SamplesError> {
        let length = record.len() as u64;
        if length == 0 || length > LONGEST_RECORD {
            return Err(SamplesError::RecordLength { found: length });
        }
        if count > MOST_SAMPLES {
            return Err(SamplesError::Count { found: count });
        }
        let mut free = 0;
        for (index, column) in columns.iter().enumerate() {
            if column.offset < free {
                return Err(SamplesError::HoleOrder { column: index, offset: column.offset, free });
            }
            let end = column.offset.saturating_add(column.hole_len());
            if end > length {
                return Err(SamplesError::HoleRange { column: index, end, length });
            }
            if record[column.offset as usize..end as usize].iter().any(|&byte| byte != 0) {
                return Err(SamplesError::HoleNotZero { column: index, offset: column.offset });
            }
            let (needed, found) = (column.span(count), column.data.len());
            if needed.is_none_or(|needed| needed > found) {
                return Err(SamplesError::ColumnLength { column: index, needed: needed.unwrap_or(u64::MAX), found });
            }
            free = end;
        }
        Ok(Self { record: record.to_vec(), columns, count })
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// The ids of samples. Those of a source are unique, which is for the caller to see: a state of samples with equal ids proves nothing.
#[derive(Debug, Clone, Copy)]
pub enum Ids<'memory> {
    /// They lie in the GPU's memory one after the other, in 8 bytes each, little-endian, from a multiple of 8 on.
    Column(DeviceBytes<'memory>),
    /// They count up.
    Ordinals {
        /// The first sample's.
        first: u64,
    },
}

impl Ids<'_> {
    /// Whether these are the ids of `count` samples.
    fn check(self, count: u64) -> Result<(), SamplesError> {
        match self {
            Self::Column(data) if data.len() != 8 * count => Err(SamplesError::IdsLength { expected: 8 * count, found: data.len() }),
            Self::Column(data) if !data.address().is_multiple_of(8) => Err(SamplesError::IdsAlignment { address: data.address() }),
            Self::Ordinals { first } if first.checked_add(count.saturating_sub(1)).is_none() => {
                Err(SamplesError::Ordinals { first, count })
            }
            _ => Ok(()),
        }
    }
}
