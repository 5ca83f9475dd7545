//! How a load went.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the bytes of a load were read, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Threads that read.
    pub threads: usize,
    /// Bytes that came out of the page cache, or through it.
    pub cached: u64,
    /// Bytes that were read around the page cache by io_uring.
    pub queued: u64,
    /// Bytes that were read around the page cache by plain reads.
    pub direct: u64,
    /// Bytes that were read into a GPU's memory by cuFile.
    pub cufile: u64,
    /// Bytes of the buffers that the rest passed through; pinned, if it went to a GPU.
    pub buffers: u64,
}

/// A report that threads add to.
#[derive(Debug)]
pub(crate) struct Counters {
    threads: usize,
    cached: AtomicU64,
    queued: AtomicU64,
    direct: AtomicU64,
    cufile: AtomicU64,
    buffers: AtomicU64,
}

impl Counters {
    pub fn new(threads: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self { threads, cached: zero(), queued: zero(), direct: zero(), cufile: zero(), buffers: zero() }
    }

    pub fn cached(&self, range: &Range<u64>) {
        add(&self.cached, range);
    }

    pub fn queued(&self, range: &Range<u64>) {
        add(&self.queued, range);
    }

    pub fn direct(&self, range: &Range<u64>) {
        add(&self.direct, range);
    }

    pub fn cufile(&self, range: &Range<u64>) {
        add(&self.cufile, range);
    }

    pub fn buffer(&self, bytes: u64) {
        self.buffers.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn report(&self) -> Report {
        let [cached, queued, direct, cufile, buffers] =
            [&self.cached, &self.queued, &self.direct, &self.cufile, &self.buffers].map(|counter| counter.load(Ordering::Relaxed));
        Report { threads: self.threads, cached, queued, direct, cufile, buffers }
    }
}

fn add(counter: &AtomicU64, range: &Range<u64>) {
    counter.fetch_add(range.end - range.start, Ordering::Relaxed);
}
