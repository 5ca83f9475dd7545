//! The seam between places where digests are computed, and the CPU behind it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::blake3_join::{Blake3Joiner, pieces};
use crate::{Algorithm, Digest, HashError};

/// A place where digests are computed: this machine's cores, later a GPU.
pub trait Backend: Send + Sync {
    /// What to call this backend in reports, such as `cpu`.
    fn name(&self) -> &'static str;

    /// The digests of `messages`, in their order.
    ///
    /// # Errors
    /// Whatever keeps the backend from computing all of them; never some digests only.
    fn digest_many(&self, algorithm: Algorithm, messages: &[&[u8]]) -> Result<Vec<Digest>, HashError>;
}

/// All cores of this machine. Messages are spread over them; a long BLAKE3 message is cut into
/// pieces that are spread as well.
#[derive(Debug, Clone)]
pub struct Cpu {
    threads: usize,
}

/// Bytes of one BLAKE3 message that a thread takes at a time: long enough for full SIMD width, short
/// enough to spread a few MiB over many cores.
const PIECE: usize = 1 << 20;

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
        if algorithm.is_tree() { blake3_many(self.threads, messages) } else { Ok(serial_many(self.threads, algorithm, messages)) }
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

fn serial_many(threads: usize, algorithm: Algorithm, messages: &[&[u8]]) -> Vec<Digest> {
    let digests: Vec<Mutex<Option<Digest>>> = messages.iter().map(|_| Mutex::new(None)).collect();
    for_each(threads, messages.len(), |index| {
        let digest = algorithm.digest(messages[index]);
        *digests[index].lock().expect("no thread panics while it holds this lock") = Some(digest);
    });
    let filled = |slot: Mutex<Option<Digest>>| slot.into_inner().expect("no thread panicked").expect("every index ran");
    digests.into_iter().map(filled).collect()
}

fn blake3_many(threads: usize, messages: &[&[u8]]) -> Result<Vec<Digest>, HashError> {
    let joiners: Vec<_> = messages.iter().map(|m| Mutex::new(Blake3Joiner::new(m.len() as u64))).collect();
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
        let joined = pieces(message.len() as u64, start as u64, piece)
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
