//! How samples are hashed: batch by batch, so that what is made of them on the way takes little memory.

use sentry_hash::Algorithm;
use sentry_hash::lattice::{SampleDigest, SourceTag, State};

use super::{Column, DIGEST, Ids, Samples};
use crate::driver::{Function, PinnedMemory, Stream};
use crate::lattice::{ENTRY, Sums};
use crate::plan;
use crate::workspace::Tables;
use crate::{DeviceBytes, DeviceMemory, Gpu, GpuError};

/// Threads of a block of both kernels.
const THREADS: u32 = 128;

/// Bytes of a body that a thread hashes.
const CHUNK: u64 = 1024;

/// Longest body that a block hashes, in bytes.
const LONGEST_BODY: u64 = THREADS as u64 * CHUNK;

/// Longer bodies that are hashed at a time: a GiB or more, and their tables and nodes are small beside it.
const LONG_BATCH: u64 = 1 << 13;

/// Bytes that the digests and entries of a batch take: 116 thousand samples with one field that is hashed. They fill a GPU, and stay
/// in its cache. All in all, with the lattice's sums and the tables, hashing takes under 16 MiB and a thousandth of the data.
const BATCH_BYTES: u64 = 8 << 20;

/// What digests and entries hold before they are computed.
const POISON: u8 = 0xA5;

/// Multiple of bytes at which digests begin.
const ALIGNMENT: u64 = 16;

/// The two kernels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleKernels {
    bodies: Function,
    digests: Function,
}

/// Where the bodies of a batch come from and go to: `Hole` in `kernels/samples.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Hole {
    offset: u64,
    data: u64,
    stride: u64,
    bytes: u64,
}

impl plan::Entry for Hole {
    type Words = [u64; size_of::<Self>() / 8];
    fn words(self) -> Self::Words {
        [self.offset, self.data, self.stride, self.bytes]
    }
}

/// 16 bytes of a record.
#[derive(Debug, Clone, Copy)]
struct RecordPart([u8; 16]);

impl plan::Entry for RecordPart {
    type Words = [u64; 2];
    fn words(self) -> Self::Words {
        let (words, _) = self.0.as_chunks::<8>();
        [0, 1].map(|index| u64::from_le_bytes(words[index]))
    }
}

impl Gpu {
    /// The digests of samples, in their order, hashed behind all work that `stream` has been given. Waits for them.
    ///
    /// # Errors
    /// [`GpuError::Unwritten`], [`GpuError::OutOfMemory`], and what the driver says.
    pub fn sample_digests(&'static self, samples: &Samples<'_>, stream: &Stream) -> Result<Vec<SampleDigest>, GpuError> {
        self.digests_in_batches(self.tested_samples()?, samples, stream, BATCH_BYTES)
    }

    /// The sum of the elements of samples, all of one source, hashed behind all work that `stream` has been given. Waits for it.
    ///
    /// # Errors
    /// [`GpuError::Samples`] unless there are as many ids as samples; otherwise as above.
    pub fn samples_state(
        &'static self,
        source: &SourceTag,
        samples: &Samples<'_>,
        ids: Ids<'_>,
        stream: &Stream,
    ) -> Result<State, GpuError> {
        self.state_in_batches(self.tested_samples()?, source, samples, ids, stream, BATCH_BYTES)
    }

    pub(super) fn digests_in_batches(
        &'static self,
        kernels: SampleKernels,
        samples: &Samples<'_>,
        stream: &Stream,
        batch_bytes: u64,
    ) -> Result<Vec<SampleDigest>, GpuError> {
        if samples.count == 0 {
            return Ok(Vec::new());
        }
        let long = self.long_digests(samples, stream)?;
        let columns = short_columns(samples, &long);
        let mut batches = Batches::new(self, kernels, samples, &columns, None, batch_bytes)?;
        let mut pinned = self.workspace().host(DIGEST * batches.room)?;
        batches.upload(stream)?;
        let mut digests = Vec::new();
        for batch in 0..batches.number() {
            pinned.as_mut_bytes()[..(DIGEST * batches.room) as usize].fill(POISON);
            let queued = batches.queue(batch, stream).and_then(|output| {
                stream.download(&batches.scratch, &mut pinned, output.len())?;
                Ok(output.len())
            });
            // Before the memory is used again or freed, whatever became of the launches.
            stream.synchronize()?;
            self.take_digests(&pinned.as_bytes()[..queued? as usize], &mut digests)?;
        }
        batches.give_back(self, Some(pinned));
        Ok(digests)
    }

    /// Adds the digests of a batch, if all of them were written.
    fn take_digests(&self, batch: &[u8], digests: &mut Vec<SampleDigest>) -> Result<(), GpuError> {
        for digest in batch.as_chunks().0 {
            if digest.iter().all(|&byte| byte == POISON) {
                return Err(GpuError::Unwritten { ordinal: self.ordinal(), index: digests.len() });
            }
            digests.push(SampleDigest::from_bytes(*digest));
        }
        Ok(())
    }

    pub(super) fn state_in_batches(
        &'static self,
        kernels: SampleKernels,
        source: &SourceTag,
        samples: &Samples<'_>,
        ids: Ids<'_>,
        stream: &Stream,
        batch_bytes: u64,
    ) -> Result<State, GpuError> {
        ids.check(samples.count)?;
        if samples.count == 0 {
            return Ok(State::new());
        }
        let long = self.long_digests(samples, stream)?;
        let columns = short_columns(samples, &long);
        let mut sums = Sums::new(self, self.tested_lattice()?)?;
        let mut batches = Batches::new(self, kernels, samples, &columns, Some(ids), batch_bytes)?;
        batches.upload(stream)?;
        let queued = (0..batches.number()).try_for_each(|batch| {
            let entries = batches.queue(batch, stream)?;
            sums.add(source, entries, stream)
        });
        let state = sums.finish(queued, stream)?;
        batches.give_back(self, None);
        Ok(state)
    }

    /// Of each column whose bodies are too long for a block, their digests.
    fn long_digests(&'static self, samples: &Samples<'_>, stream: &Stream) -> Result<Vec<Option<DeviceMemory>>, GpuError> {
        let hash = |column: &Column<'_>| (column.bytes > LONGEST_BODY).then(|| self.long_column(column, samples.count, stream)).transpose();
        samples.columns.iter().map(hash).collect()
    }

    fn long_column(&'static self, column: &Column<'_>, count: u64, stream: &Stream) -> Result<DeviceMemory, GpuError> {
        let mut digests = Vec::new();
        for first in (0..count).step_by(LONG_BATCH as usize) {
            let bodies: Vec<DeviceBytes<'_>> = (first..count.min(first + LONG_BATCH)).map(|sample| column.body(sample)).collect();
            for digest in self.start(Algorithm::Blake3, &bodies, stream)?.wait()? {
                digests.extend_from_slice(digest.as_bytes());
            }
        }
        let mut memory = self.allocate(digests.len() as u64)?;
        memory.fill(&digests)?;
        Ok(memory)
    }

    /// The kernels, which have given the right digests of known samples on this GPU in this process.
    fn tested_samples(&'static self) -> Result<SampleKernels, GpuError> {
        let mut samples = self.sample_kernels();
        if let Some(kernels) = *samples {
            return Ok(kernels);
        }
        let module = self.module("samples")?;
        let kernels =
            SampleKernels { bodies: module.function("sentry_sample_bodies")?, digests: module.function("sentry_sample_digests")? };
        self.test_samples(kernels)?;
        *samples = Some(kernels);
        Ok(kernels)
    }
}

/// The columns that the kernels read: no empty ones, and of those with `long` bodies the digests.
fn short_columns<'a>(samples: &Samples<'a>, long: &'a [Option<DeviceMemory>]) -> Vec<Column<'a>> {
    let short = |(column, digests): (&Column<'a>, &'a Option<DeviceMemory>)| match digests {
        Some(digests) => Column { data: digests.bytes(0, digests.len()), stride: DIGEST, bytes: DIGEST, ..*column },
        None => *column,
    };
    samples.columns.iter().zip(long).map(short).filter(|column| column.bytes > 0).collect()
}

/// Samples on their way: what the kernels read of them besides the columns, and memory for what they write.
struct Batches<'a> {
    kernels: SampleKernels,
    columns: &'a [Column<'a>],
    count: u64,
    /// With ids, entries are made: as many ids as samples. Without, digests.
    ids: Option<Ids<'a>>,
    /// Most samples of a batch.
    room: u64,
    record_len: u64,
    /// Where the record is on the GPU, and each batch's table of holes.
    record: u64,
    holes: Vec<u64>,
    tables: Tables,
    /// The output of a batch, and behind it the digests of each column that is hashed; of these bytes so many are used.
    scratch: DeviceMemory,
    scratch_len: u64,
}

impl<'a> Batches<'a> {
    fn new(
        gpu: &Gpu,
        kernels: SampleKernels,
        samples: &Samples<'_>,
        columns: &'a [Column<'a>],
        ids: Option<Ids<'a>>,
        batch_bytes: u64,
    ) -> Result<Self, GpuError> {
        let hashed = columns.iter().filter(|column| column.is_hashed()).count() as u64;
        let room = (batch_bytes / (output_len(ids) + DIGEST * hashed)).min(samples.count).max(1);
        let digests = digests_at(ids, room);
        let scratch_len = digests + hashed * DIGEST * room;
        let scratch = gpu.workspace().device(scratch_len)?;

        // The last block of the record is filled up with zeroes.
        let mut parts = samples.record.clone();
        parts.resize(parts.len().next_multiple_of(64), 0);
        let parts: Vec<RecordPart> = parts.as_chunks().0.iter().map(|part| RecordPart(*part)).collect();
        let number = samples.count.div_ceil(room);
        let tables_len = Tables::len_of(&parts) + number * size_of::<Hole>() as u64 * columns.len() as u64;
        let mut tables = gpu.workspace().tables(tables_len)?;
        let record = tables.write(&parts);
        let digests = scratch.address() + digests;
        let holes = (0..number).map(|batch| tables.write(&holes(columns, batch * room, digests, room))).collect();
        let (count, record_len) = (samples.count, samples.record.len() as u64);
        Ok(Self { kernels, columns, count, ids, room, record_len, record, holes, tables, scratch, scratch_len })
    }

    /// How many batches there are.
    fn number(&self) -> usize {
        self.holes.len()
    }

    /// Queues the copy of the record and the holes, which every batch comes behind.
    fn upload(&mut self, stream: &Stream) -> Result<(), GpuError> {
        self.tables.copy(stream)
    }

    /// Queues the hashing of a batch, and returns where its output will be: digests or entries. The next batch's takes the same place.
    fn queue(&self, batch: usize, stream: &Stream) -> Result<DeviceBytes<'_>, GpuError> {
        let first = batch as u64 * self.room;
        let count = self.room.min(self.count - first);
        // What was left here before must not be taken for this batch's.
        stream.fill(&self.scratch, 0, self.scratch_len, POISON)?;
        let mut bodies = self.scratch.address() + digests_at(self.ids, self.room);
        for column in self.columns.iter().filter(|column| column.is_hashed()) {
            let each = u64::from(THREADS) / column.bytes.div_ceil(CHUNK);
            let arguments = [column.body(first).address(), column.stride, column.bytes, count, bodies];
            // SAFETY: the arguments of `sentry_sample_bodies`; the column has these bodies, and there is room for their digests.
            #[allow(unsafe_code)]
            unsafe { stream.launch(self.kernels.bodies, blocks(count, each), THREADS, &arguments) }?;
            bodies += DIGEST * self.room;
        }
        let output = self.scratch.bytes(0, count * output_len(self.ids));
        let (ids, first_id, digests, entries) = match self.ids {
            None => (0, 0, output.address(), 0),
            Some(Ids::Column(ids)) => (ids.address() + 8 * first, 0, 0, output.address()),
            Some(Ids::Ordinals { first: first_id }) => (0, first_id + first, 0, output.address()),
        };
        let (holes, hole_count) = (self.holes[batch], self.columns.len() as u64);
        let arguments = [self.record, self.record_len, holes, hole_count, count, ids, first_id, digests, entries];
        // SAFETY: the arguments of `sentry_sample_digests`; the holes lie in the record, what fills them in the columns and the digests
        // of bodies by construction, there are as many ids as samples, and there is room for the output.
        #[allow(unsafe_code)]
        unsafe { stream.launch(self.kernels.digests, blocks(count, THREADS.into()), THREADS, &arguments) }?;
        Ok(output)
    }

    /// Gives memory back, which no work uses any more.
    fn give_back(self, gpu: &Gpu, pinned: Option<PinnedMemory>) {
        gpu.workspace().give_back(vec![self.tables], pinned, Some(self.scratch));
    }
}

/// Bytes that are made of a sample: its entry in a table, or its digest alone.
fn output_len(ids: Option<Ids<'_>>) -> u64 {
    if ids.is_some() { ENTRY } else { DIGEST }
}

/// Where behind the output of a batch the digests of bodies begin.
fn digests_at(ids: Option<Ids<'_>>, room: u64) -> u64 {
    (output_len(ids) * room).next_multiple_of(ALIGNMENT)
}

/// The table of a batch that begins with sample `first`: the holes by their offsets. Digests of bodies lie from `digests` on, those of
/// a batch for one column after those for another.
fn holes(columns: &[Column<'_>], first: u64, mut digests: u64, room: u64) -> Vec<Hole> {
    let hole = |column: &Column<'_>| {
        if !column.is_hashed() {
            return Hole { offset: column.offset, data: column.body(first).address(), stride: column.stride, bytes: column.bytes };
        }
        let hole = Hole { offset: column.offset, data: digests, stride: DIGEST, bytes: DIGEST };
        digests += DIGEST * room;
        hole
    };
    columns.iter().map(hole).collect()
}

/// Blocks for `count` of something that a block takes `each` of.
fn blocks(count: u64, each: u64) -> u32 {
    u32::try_from(count.div_ceil(each)).expect("the samples of a batch are few")
}

#[cfg(all(test, feature = "device-tests"))]
mod tests {
    use super::*;

    #[test]
    fn batches_of_any_size_make_the_same() {
        let gpu = Gpu::open(0).expect("a driver with a device: `make kernels` brings an emulated one");
        let stream = gpu.stream().unwrap();
        let mut memory = gpu.allocate(10_000).unwrap();
        memory.fill(&(0..=250).collect::<Vec<u8>>()).unwrap();
        let column = |offset, start, stride, bytes| Column { offset, data: memory.bytes(start, 9_000), stride, bytes };
        let columns = vec![column(7, 1, 101, 64), column(80, 3, 99, 99), column(120, 8, 8, 8), column(128, 0, 7, 3000)];
        let samples = Samples::new(&[0; 200], columns, 40).unwrap();
        let ids = [Ids::Column(memory.bytes(16, 8 * 40)), Ids::Ordinals { first: 77 }];
        let source = SourceTag::new("train").unwrap();
        let digests = gpu.sample_digests(&samples, &stream).unwrap();
        let states = ids.map(|ids| gpu.samples_state(&source, &samples, ids, &stream).unwrap());
        let kernels = gpu.tested_samples().unwrap();
        // One sample at a time, a few, all but one or two, all of them.
        for room in [0, 3, 38, 39, 40, 41] {
            let found = gpu.digests_in_batches(kernels, &samples, &stream, room * (DIGEST + 2 * DIGEST)).unwrap();
            assert_eq!(found, digests, "batches of {room}");
            for (ids, state) in ids.iter().zip(&states) {
                let found = gpu.state_in_batches(kernels, &source, &samples, *ids, &stream, room * (ENTRY + 2 * DIGEST)).unwrap();
                assert_eq!(found, *state, "batches of {room}");
            }
        }
    }
}
