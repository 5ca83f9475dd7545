//! Whether the kernels are right about samples that the CPU has hashed as well.

use sentry_hash::Algorithm;
use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State};

use super::{Column, Ids, SampleKernels, Samples};
use crate::{DeviceMemory, Gpu, GpuError};

/// More than a block of both kernels, and several batches.
const COUNT: u64 = 150;

/// Bytes that a batch takes: so few that there are several.
const BATCH_BYTES: u64 = 64 * 128;

/// Of each column where it goes in the record, where it begins in memory, its stride, and the bytes of a body. They take every way
/// through the kernels: aligned and not, across blocks of the record, inline and hashed, in one chunk and in several.
const COLUMNS: [(u64, u64, u64, u64); 6] =
    [(3, 1, 9, 7), (59, 8, 8, 8), (70, 3, 13, 64), (140, 16, 16, 100), (172, 32, 16, 2048 + 64), (230, 5, 7, 3000)];

/// Bytes of the record.
const RECORD: usize = 300;

impl Gpu {
    /// Hashes known samples, and compares with the CPU.
    pub(super) fn test_samples(&'static self, kernels: SampleKernels) -> Result<(), GpuError> {
        let bytes: Vec<u8> = (0..COUNT * 16 + 4096).map(|index| (index % 251) as u8).collect();
        let mut memory = self.allocate(bytes.len() as u64)?;
        memory.fill(&bytes)?;
        let expected: Vec<SampleDigest> = (0..COUNT).map(|sample| SampleDigest::of_record(&record(&bytes, sample))).collect();

        let samples = samples(&memory)?;
        let stream = self.stream()?;
        let refused = || GpuError::SelfTest { ordinal: self.ordinal(), what: "sample digest" };
        if self.digests_in_batches(kernels, &samples, &stream, BATCH_BYTES)? != expected {
            return Err(refused());
        }
        let source = SourceTag::new("test")?;
        let count_up = 1000..;
        let as_they_lie = bytes.as_chunks().0.iter().map(|id| u64::from_le_bytes(*id));
        let kinds: [(Ids<'_>, Vec<u64>); 2] = [
            (Ids::Ordinals { first: 1000 }, count_up.take(COUNT as usize).collect()),
            (Ids::Column(memory.bytes(0, 8 * COUNT)), as_they_lie.take(COUNT as usize).collect()),
        ];
        for (ids, numbers) in kinds {
            let mut state = State::new();
            numbers.iter().zip(&expected).try_for_each(|(&id, &digest)| state.add(&source, &Entry { id, digest }))?;
            if self.state_in_batches(kernels, &source, &samples, ids, &stream, BATCH_BYTES)? != state {
                return Err(refused());
            }
        }
        Ok(())
    }
}

/// The samples, whose columns lie in `memory`.
fn samples(memory: &DeviceMemory) -> Result<Samples<'_>, GpuError> {
    let column = |(offset, start, stride, bytes)| Column { offset, data: memory.bytes(start, (COUNT - 1) * stride + bytes), stride, bytes };
    let columns: Vec<Column<'_>> = COLUMNS.map(column).to_vec();
    let mut record = [0x5A; RECORD];
    for column in &columns {
        record[column.offset as usize..][..column.hole_len() as usize].fill(0);
    }
    Ok(Samples::new(&record, columns, COUNT)?)
}

/// The record of a sample, from the bytes that lie in that memory.
fn record(bytes: &[u8], sample: u64) -> [u8; RECORD] {
    let mut record = [0x5A; RECORD];
    for (offset, start, stride, length) in COLUMNS {
        let body = &bytes[(start + sample * stride) as usize..][..length as usize];
        let digest = Algorithm::Blake3.digest(body);
        let filling = if length > 64 { digest.as_bytes() } else { body };
        record[offset as usize..][..filling.len()].copy_from_slice(filling);
    }
    record
}
