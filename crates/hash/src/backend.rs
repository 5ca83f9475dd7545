//! The seam between places where digests are computed, and the CPU behind it. The GPU is in the crate `sentry-ml-cuda`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::lattice::{Entry, SampleDigest, SourceTag, State};
use crate::tree::{Joiner, Tree};
use crate::{Algorithm, Digest, HashError};

/// A place where digests are computed: this machine's cores, or a GPU.
pub trait Backend: Send + Sync {
    /// What to call this backend in reports, such as `cpu`.
    fn name(&self) -> &'static str;

    /// The digests of `messages`, in their order.
    ///
    /// # Errors
    /// Whatever keeps the backend from computing all of them; never some digests only.
    fn digest_many(&self, algorithm: Algorithm, messages: &[&[u8]]) -> Result<Vec<Digest>, HashError>;

    /// The sum of the elements of `entries`, all of one source, whose ids the caller knows to be unique.
    ///
    /// # Errors
    /// As for [`Backend::digest_many`], and [`HashError::TooManySamples`].
    fn lattice_state(&self, source: &SourceTag, entries: &[Entry]) -> Result<State, HashError>;
}

/// All cores of this machine. Messages are spread over them; a long message of a tree is cut
/// into pieces that are spread as well.
#[derive(Debug, Clone)]
pub struct Cpu {
    threads: usize,
}

/// Bytes of one tree's message that a thread takes at a time: long enough for full SIMD width, short
/// enough to spread a few MiB over many cores.
const PIECE: usize = 1 << 20;

/// Samples that a thread takes at a time: enough that taking them costs nothing beside hashing them.
const BATCH: usize = 256;

impl Cpu {
    /// Uses as many threads as this process may run at once.
    pub fn new() -> Self {
        Self::with_threads(thread::available_parallelism().map_or(1, usize::from))
    }

    /// Uses `threads` threads, at least one.
    pub fn with_threads(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }

    /// The number of threads used.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The sample digests of `records`, in their order.
    pub fn sample_digests(&self, records: &[&[u8]]) -> Vec<SampleDigest> {
        let batches: Vec<&[&[u8]]> = records.chunks(BATCH).collect();
        map(self.threads, &batches, |batch| SampleDigest::of_records(batch)).concat()
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn digest_many(&self, algorithm: Algorithm, messages: &[&[u8]]) -> Result<Vec<Digest>, HashError> {
        match algorithm.tree() {
            Some(tree) => tree_many(self.threads, tree, messages),
            None => Ok(map(self.threads, messages, |message| algorithm.digest(message))),
        }
    }

    fn lattice_state(&self, source: &SourceTag, entries: &[Entry]) -> Result<State, HashError> {
        let batches: Vec<&[Entry]> = entries.chunks(BATCH).collect();
        let sum = |batch: &&[Entry]| {
            let mut state = State::new();
            batch.iter().try_for_each(|entry| state.add(source, entry)).map(|()| state)
        };
        let mut total = State::new();
        map(self.threads, &batches, sum).into_iter().try_for_each(|state| total.merge(&state?))?;
        Ok(total)
    }
}

/// Runs `work` for every number below `count`, in no order, on up to `threads` threads.
fn for_each(threads: usize, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            work(index);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
}

/// What `work` makes of every item, in their order, on up to `threads` threads.
fn map<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    for_each(threads, items.len(), |index| {
        let result = work(&items[index]);
        *results[index].lock().expect("no thread panics while it holds this lock") = Some(result);
    });
    let filled = |slot: Mutex<Option<R>>| slot.into_inner().expect("no thread panicked").expect("every index ran");
    results.into_iter().map(filled).collect()
}

fn tree_many(threads: usize, tree: Tree, messages: &[&[u8]]) -> Result<Vec<Digest>, HashError> {
    let joiners: Vec<_> = messages.iter().map(|m| Mutex::new(Joiner::new(tree, m.len() as u64))).collect();
    let work: Vec<(usize, usize)> = messages
        .iter()
        .enumerate()
        .flat_map(|(index, message)| (0..message.len()).step_by(PIECE).map(move |start| (index, start)))
        .collect();
    let failure = Mutex::new(None);
    for_each(threads, work.len(), |item| {
        let (index, start) = work[item];
        let message = messages[index];
        let piece = &message[start..message.len().min(start + PIECE)];
        let joined = tree
            .piece(message.len() as u64, start as u64, piece)
            .and_then(|hashed| joiners[index].lock().expect("no thread panicked").insert(hashed));
        if let Err(error) = joined {
            *failure.lock().expect("no thread panicked") = Some(error);
        }
    });
    if let Some(error) = failure.into_inner().expect("no thread panicked") {
        return Err(error);
    }
    joiners.into_iter().map(|joiner| joiner.into_inner().expect("no thread panicked").finish()).collect()
}
