//! Digests of messages that lie in a GPU's memory, or land there piece by piece.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sentry_hash::{Algorithm, Digest, HashError};

use crate::driver::{DeviceMemory, Event, Function, PinnedMemory, Stream};
use crate::plan::{Coverage, Entry, JOIN_THREADS, Launch, Layout, Piece, Run, Shape};
use crate::workspace::Tables;
use crate::{Gpu, GpuError};

/// What digests and nodes hold before anything is launched. A digest that still does was not written.
const POISON: u8 = 0xA5;

/// Why memory is there whenever it is asked for.
const KEPT: &str = "it is there until the hasher is dropped";

/// The two kernels of an algorithm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeKernels {
    pub leaves: Function,
    pub join: Function,
}

/// Hashes messages of known lengths, whose pieces arrive in any order, on any streams of one GPU.
///
/// ```text
/// new ──► update(stream, pieces) … update(stream, pieces) ──► finish(stream) ──► Pending::wait ──► digests
///         hashes blocks to nodes, as pieces land              joins the nodes
/// ```
///
/// Nothing is waited for but in `wait`. Dropped before that, it waits for all of its streams: the memory that their work uses is its own.
/// The streams, and the memory of all pieces, outlive it (`'a`).
#[derive(Debug)]
pub struct TreeHasher<'a> {
    gpu: &'static Gpu,
    kernels: TreeKernels,
    layout: Layout,
    /// The digests and then the nodes, on the GPU. Dropped with the hasher, and not before.
    results: Option<DeviceMemory>,
    /// The same, here.
    fetched: Option<PinnedMemory>,
    /// Where the tables of the joins will be on the GPU, level by level.
    joins: Vec<u64>,
    state: Mutex<State<'a>>,
}

#[derive(Debug)]
struct State<'a> {
    coverage: Coverage,
    /// The tables of all launches so far. Those that are full have been copied; the last one may have more to copy.
    tables: Vec<Tables>,
    /// The streams that were used, each with a mark behind its last launch. Behind the first mark of the first one, memory is poisoned.
    streams: Vec<(&'a Stream, Event)>,
    /// Whether everything that was queued is done.
    is_done: bool,
}

impl<'a> TreeHasher<'a> {
    /// Starts on messages of these lengths, in bytes. `stream` is the first one that will be used.
    ///
    /// # Errors
    /// [`GpuError::Serial`] unless `algorithm` is a tree; [`GpuError::TooLarge`]; [`GpuError::OutOfMemory`], and what the driver says.
    pub fn new(gpu: &'static Gpu, algorithm: Algorithm, lengths: &[u64], stream: &'a Stream) -> Result<Self, GpuError> {
        Self::for_pieces(gpu, algorithm, lengths, lengths.len() as u64, stream)
    }

    /// As `new`, with room for the tables of so many pieces from the beginning: more of them take memory later.
    ///
    /// # Errors
    /// As for `new`.
    pub fn for_pieces(gpu: &'static Gpu, algorithm: Algorithm, lengths: &[u64], pieces: u64, stream: &'a Stream) -> Result<Self, GpuError> {
        let kernels = gpu.tested_kernels(algorithm)?;
        Self::untested(gpu, kernels, Shape::of(algorithm)?, lengths, pieces, stream)
    }

    /// The multiple of bytes at which pieces of a message of this algorithm start.
    ///
    /// # Errors
    /// [`GpuError::Serial`] unless it is a tree.
    pub fn block_len_of(algorithm: Algorithm) -> Result<u64, GpuError> {
        Ok(Shape::of(algorithm)?.block_len())
    }

    /// As `new`, for the test of the kernels themselves.
    pub(crate) fn untested(
        gpu: &'static Gpu,
        kernels: TreeKernels,
        shape: Shape,
        lengths: &[u64],
        pieces: u64,
        stream: &'a Stream,
    ) -> Result<Self, GpuError> {
        let layout = Layout::new(shape, lengths)?;
        let results_length = (layout.digests() as u64 + layout.nodes()) * shape.node;
        let mut fetched = gpu.workspace().host(results_length)?;
        // What another call left here must not be taken for a digest either.
        fetched.as_mut_bytes()[..results_length as usize].fill(POISON);
        let results = gpu.workspace().device(results_length)?;
        let joins_length: u64 = layout.levels().iter().map(|level| Tables::len_of(&level.entries).next_multiple_of(16)).sum();
        // The tables of the pieces, at most two runs for each, go to the same place as the joins'.
        let mut tables = gpu.workspace().tables(joins_length + size_of::<[Run; 2]>() as u64 * pieces)?;
        let joins = layout.levels().iter().map(|level| tables.write(&level.entries)).collect();
        let ready = stream.mark()?;
        let coverage = Coverage::new(layout.blocks());
        let state = State { coverage, tables: vec![tables], streams: vec![(stream, ready)], is_done: false };
        let hasher = Self { gpu, kernels, layout, results: Some(results), fetched: Some(fetched), joins, state: Mutex::new(state) };
        stream.fill(hasher.results(), 0, results_length, POISON)?;
        hasher.lock().mark(stream)?;
        Ok(hasher)
    }

    /// The multiple of bytes at which pieces of a message start.
    pub fn block_len(&self) -> u64 {
        self.layout.shape().block_len()
    }

    /// Queues the hashing of some pieces, behind all work that `stream` has been given. Nothing writes to their memory until the
    /// digests are there. An empty message is a piece as well.
    ///
    /// # Errors
    /// [`HashError::PieceOverlap`] if some bytes were given before, [`HashError::PieceOutOfRange`], [`HashError::PieceAlignment`], and
    /// what the driver says. After an error there is no digest: drop the hasher.
    pub fn update(&self, stream: &'a Stream, pieces: &[Piece<'a>]) -> Result<(), GpuError> {
        if pieces.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        for piece in pieces {
            let blocks = self.layout.blocks_of(piece)?;
            if !state.coverage.mark(blocks) {
                return Err(HashError::PieceOverlap { offset: piece.offset }.into());
            }
        }
        let Launch { entries, blocks } = self.layout.runs(pieces)?;
        state.follow(stream)?;
        let runs = self.write(&mut state, stream, &entries)?;
        state.tables.last_mut().expect("the runs are there").copy(stream)?;
        let arguments = self.arguments(runs, entries.len());
        // SAFETY: the arguments of `sentry_…_leaves`; the table's entries lie in the pieces, the nodes and the digests by construction.
        #[allow(unsafe_code)]
        unsafe { stream.launch(self.kernels.leaves, blocks, self.layout.shape().threads, &arguments) }?;
        state.mark(stream)
    }

    /// Queues the joins, and the copy of digests and nodes to this machine's memory.
    ///
    /// # Errors
    /// [`HashError::Incomplete`] unless every byte was given, and what the driver says.
    pub fn finish(mut self, stream: &'a Stream) -> Result<Pending<'a>, GpuError> {
        let mut state = self.lock();
        let covered = state.coverage.covered();
        if covered != self.layout.blocks() {
            let seen = (covered * self.block_len()).min(self.layout.bytes().saturating_sub(1));
            return Err(HashError::Incomplete { seen, length: self.layout.bytes() }.into());
        }
        state.join(stream)?;
        // Nothing is left to be copied, unless there was no piece, and then there is no join.
        for (Launch { entries, blocks }, &joins) in self.layout.levels().iter().zip(&self.joins) {
            let arguments = self.arguments(joins, entries.len());
            // SAFETY: the arguments of `sentry_…_join`; the table's entries lie in the nodes and the digests by construction.
            #[allow(unsafe_code)]
            unsafe { stream.launch(self.kernels.join, *blocks, JOIN_THREADS, &arguments) }?;
        }
        drop(state);
        let length = self.digests_len() + self.layout.nodes() * self.layout.shape().node;
        let (results, fetched) = (self.results.as_ref().expect(KEPT), self.fetched.as_mut().expect(KEPT));
        stream.download(results, fetched, length)?;
        Ok(Pending { hasher: self, stream })
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    fn results(&self) -> &DeviceMemory {
        self.results.as_ref().expect(KEPT)
    }

    fn digests_len(&self) -> u64 {
        self.layout.digests() as u64 * self.layout.shape().node
    }

    /// The arguments of both kernels.
    fn arguments(&self, table: u64, entries: usize) -> [u64; 4] {
        let digests = self.results().address();
        [table, entries as u64, digests + self.digests_len(), digests]
    }

    /// Writes a table; returns the address that it will have on the GPU.
    fn write<E: Entry>(&self, state: &mut State<'_>, stream: &Stream, entries: &[E]) -> Result<u64, GpuError> {
        let bytes = Tables::len_of(entries);
        let last = state.tables.last_mut().expect("there is one from the beginning");
        if last.has_room(bytes) {
            return Ok(last.write(entries));
        }
        // The joins' tables, if nothing was copied so far.
        last.copy(stream)?;
        let mut tables = self.gpu.workspace().tables(bytes)?;
        let address = tables.write(entries);
        state.tables.push(tables);
        Ok(address)
    }
}

impl<'a> State<'a> {
    /// Sees to it that `stream` is known, and that its work follows the poisoning.
    fn follow(&mut self, stream: &'a Stream) -> Result<(), GpuError> {
        if self.streams.iter().any(|(known, _)| known.handle() == stream.handle()) {
            return Ok(());
        }
        self.streams.push((stream, stream.mark()?));
        stream.wait(&self.streams[0].1)
    }

    /// Marks what `stream`, which is known, has been given so far.
    fn mark(&self, stream: &Stream) -> Result<(), GpuError> {
        self.streams.iter().filter(|(known, _)| known.handle() == stream.handle()).try_for_each(|(_, mark)| mark.record(stream))
    }

    /// Lets `stream` wait for what all streams have been given.
    fn join(&mut self, stream: &'a Stream) -> Result<(), GpuError> {
        self.follow(stream)?;
        self.streams.iter().filter(|(known, _)| known.handle() != stream.handle()).try_for_each(|(_, mark)| stream.wait(mark))
    }
}

impl Drop for TreeHasher<'_> {
    fn drop(&mut self) {
        // The memory must not be used again, or freed, before the launches are done with it.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let is_idle = state.is_done || state.streams.iter().fold(true, |idle, (stream, _)| stream.synchronize().is_ok() && idle);
        let (tables, fetched, results) = (std::mem::take(&mut state.tables), self.fetched.take(), self.results.take());
        if is_idle {
            self.gpu.workspace().give_back(tables, fetched, results);
        }
    }
}

/// Digests that are being computed.
#[derive(Debug)]
pub struct Pending<'a> {
    hasher: TreeHasher<'a>,
    stream: &'a Stream,
}

impl Pending<'_> {
    /// Waits for the digests, in the order of the lengths.
    ///
    /// # Errors
    /// [`GpuError::Failed`] or [`GpuError::Lost`] if any work failed; [`GpuError::Unwritten`].
    pub fn wait(self) -> Result<Vec<Digest>, GpuError> {
        self.stream.synchronize()?;
        // The stream waited for all others.
        self.hasher.lock().is_done = true;
        let Shape { tree, node, .. } = self.hasher.layout.shape();
        let (count, nodes) = (self.hasher.layout.digests(), self.hasher.layout.nodes() as usize);
        let fetched = self.hasher.fetched.as_ref().expect(KEPT).as_bytes().chunks_exact(node as usize);
        // A digest of a node that was not written looks like any other, so each node is looked at as well.
        if let Some(index) = fetched.clone().take(count + nodes).position(|bytes| bytes.iter().all(|&byte| byte == POISON)) {
            return Err(GpuError::Unwritten { ordinal: self.hasher.gpu.ordinal(), index });
        }
        fetched.take(count).map(|bytes| Ok(Digest::from_bytes(tree.algorithm(), bytes)?)).collect()
    }
}
