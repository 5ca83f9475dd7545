//! Lattice sums on a GPU (`docs/spec/samples.md`).

use sentry_hash::lattice::{Entry, STATE_LEN, SampleDigest, SourceTag, State};

use crate::driver::{Function, PinnedMemory};
use crate::{DeviceBytes, DeviceMemory, Gpu, GpuError, Stream};

/// Bytes of an entry of a sample table: id and digest.
pub(crate) const ENTRY: u64 = 40;

/// Threads of a block that sums, and of one that adds up the blocks' sums.
const SUM_THREADS: u32 = 256;
const FOLD_THREADS: u32 = 128;
const FOLD_BLOCKS: u32 = 4;

/// Blocks a multiprocessor that sum: what is resident at a time.
const BLOCKS_EACH: u32 = 4;

/// Entries that are copied to the GPU at a time.
const BATCH: usize = 1 << 17;

/// Bytes of a state.
const STATE: u64 = STATE_LEN as u64;

/// What the sums hold before they are computed.
const POISON: u8 = 0xA5;

/// The two kernels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LatticeKernels {
    sum: Function,
    fold: Function,
}

impl Gpu {
    /// The sum of the elements of `entries`, all of one source, whose ids the caller knows to be unique.
    ///
    /// # Errors
    /// [`GpuError::Hash`] for too many samples, and what the driver says.
    pub fn lattice_state(&self, source: &SourceTag, entries: &[Entry]) -> Result<State, GpuError> {
        self.sum_in_batches(self.tested_lattice()?, source, entries)
    }

    /// The same of entries that lie in this GPU's memory: of each the id, little-endian, and the digest, 40 bytes.
    ///
    /// # Errors
    /// As above, and [`GpuError::TooLarge`] if the last entry is cut off.
    pub fn lattice_state_of(&self, source: &SourceTag, entries: DeviceBytes<'_>, stream: &Stream) -> Result<State, GpuError> {
        let mut sums = Sums::new(self, self.tested_lattice()?)?;
        let queued = sums.add(source, entries, stream);
        sums.finish(queued, stream)
    }

    /// The kernels, which have summed known entries right on this GPU in this process.
    pub(crate) fn tested_lattice(&self) -> Result<LatticeKernels, GpuError> {
        let mut lattice = self.lattice_kernels();
        if let Some(kernels) = *lattice {
            return Ok(kernels);
        }
        let module = self.module("lattice")?;
        let kernels = LatticeKernels { sum: module.function("sentry_lattice_sum")?, fold: module.function("sentry_lattice_fold")? };
        self.test_lattice(kernels)?;
        *lattice = Some(kernels);
        Ok(kernels)
    }

    /// Sums known entries, and compares with the CPU.
    fn test_lattice(&self, kernels: LatticeKernels) -> Result<(), GpuError> {
        let source = SourceTag::new("test")?;
        let entries: Vec<Entry> = (0..100).map(|id| Entry { id, digest: SampleDigest::of_record(&id.to_le_bytes()) }).collect();
        let mut expected = State::new();
        entries.iter().try_for_each(|entry| expected.add(&source, entry))?;
        if self.sum_in_batches(kernels, &source, &entries)? != expected {
            return Err(GpuError::SelfTest { ordinal: self.ordinal(), what: "lattice sum" });
        }
        Ok(())
    }

    fn sum_in_batches(&self, kernels: LatticeKernels, source: &SourceTag, entries: &[Entry]) -> Result<State, GpuError> {
        if entries.is_empty() {
            return Ok(State::new());
        }
        let stream = self.stream()?;
        let room = ENTRY * entries.len().min(BATCH) as u64;
        let mut pinned = PinnedMemory::allocate(self.context(), room)?;
        let memory = self.allocate(room)?;
        let mut sums = Sums::new(self, kernels)?;
        for batch in entries.chunks(BATCH) {
            for (entry, room) in batch.iter().zip(pinned.as_mut_bytes().chunks_exact_mut(ENTRY as usize)) {
                room[..8].copy_from_slice(&entry.id.to_le_bytes());
                room[8..].copy_from_slice(entry.digest.as_bytes());
            }
            let bytes = ENTRY * batch.len() as u64;
            let queued = stream.upload(&pinned, &memory, 0, bytes).and_then(|()| sums.add(source, memory.bytes(0, bytes), &stream));
            // Before the pinned memory is written to again or freed, whatever became of the launches.
            stream.synchronize()?;
            queued?;
        }
        sums.finish(Ok(()), &stream)
    }
}

/// A sum on its way: entries are added to it part by part, on one stream.
pub(crate) struct Sums {
    kernels: LatticeKernels,
    ordinal: usize,
    /// Blocks that sum.
    blocks: u32,
    /// The sum of all parts so far, and behind it that of each block of the latest part.
    sums: DeviceMemory,
    /// The sum, here.
    host: PinnedMemory,
    /// Entries so far; none before the first part.
    count: Option<u64>,
}

impl Sums {
    pub fn new(gpu: &Gpu, kernels: LatticeKernels) -> Result<Self, GpuError> {
        let blocks = gpu.multiprocessors() * BLOCKS_EACH;
        let sums = gpu.allocate(u64::from(1 + blocks) * STATE)?;
        let mut host = PinnedMemory::allocate(gpu.context(), STATE)?;
        host.as_mut_bytes().fill(POISON);
        Ok(Self { kernels, ordinal: gpu.ordinal(), blocks, sums, host, count: None })
    }

    /// Queues the adding of a part's entries: of each the id and the digest, 40 bytes.
    ///
    /// Whatever it says, the stream is waited for before this value or the entries' memory goes.
    pub fn add(&mut self, source: &SourceTag, entries: DeviceBytes<'_>, stream: &Stream) -> Result<(), GpuError> {
        if !entries.len().is_multiple_of(ENTRY) {
            return Err(GpuError::TooLarge { what: "a list of entries with a cut-off one", found: entries.len() });
        }
        let count = entries.len() / ENTRY;
        let [tag0, tag1, tag2] = words(source);
        let (state, partials) = (self.sums.address(), self.sums.address() + STATE);
        let blocks = u64::from(self.blocks);
        // The first part's sum is that of its blocks. Each further one is added to the sum so far, as if that were a block.
        let folding = match self.count {
            None => {
                stream.fill(&self.sums, 0, self.sums.len(), POISON)?;
                [partials, blocks, state]
            }
            Some(_) => [state, 1 + blocks, state],
        };
        // SAFETY: the arguments of the two kernels, which have room for what they write until the stream has been waited for.
        #[allow(unsafe_code)]
        unsafe {
            stream.launch(self.kernels.sum, self.blocks, SUM_THREADS, &[entries.address(), count, tag0, tag1, tag2, partials])?;
            stream.launch(self.kernels.fold, FOLD_BLOCKS, FOLD_THREADS, &folding)?;
        }
        self.count = Some(self.count.unwrap_or(0) + count);
        Ok(())
    }

    /// Waits for the sum of all parts, of which there is at least one, if `queued` says that they were queued.
    pub fn finish(mut self, queued: Result<(), GpuError>, stream: &Stream) -> Result<State, GpuError> {
        let queued = queued.and_then(|()| stream.download(&self.sums, &mut self.host, STATE));
        stream.synchronize()?;
        queued?;
        let lanes = self.host.as_bytes();
        match self.count {
            Some(count) if lanes.iter().any(|&byte| byte != POISON) => Ok(State::from_bytes(count, lanes)?),
            _ => Err(GpuError::Unwritten { ordinal: self.ordinal, index: 0 }),
        }
    }
}

/// A tag as three little-endian integers.
fn words(source: &SourceTag) -> [u64; 3] {
    let (words, _) = source.as_bytes().as_chunks::<8>();
    [0, 1, 2].map(|index| u64::from_le_bytes(words[index]))
}
