//! Digests of one file, in the making as its bytes are read.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use super::Request;
use crate::tree::{Joiner, Tree};
use crate::{Digest, HashError, Hasher};

/// The digests of one file in the making, which may be fed from several threads.
pub struct Digests {
    /// The bytes that are wanted.
    span: Range<u64>,
    /// One for every request, in the same order.
    states: Vec<State>,
    /// The requests (by index) that want their bytes in order.
    serial: Vec<usize>,
    /// The requests that can take their bytes in any order.
    trees: Trees,
}

/// Finds the tree requests that some bytes feed, in time logarithmic in their number.
struct Trees {
    /// Requests (by index) for the whole span: all bytes feed them.
    whole: Vec<usize>,
    /// The other requests (by index), by the start of their ranges.
    by_start: Vec<usize>,
    /// For every entry of `by_start` the furthest end of it and those before.
    furthest_end: Vec<u64>,
}

struct State {
    range: Range<u64>,
    /// The tree whose pieces this digest is made of, if it is.
    tree: Option<Tree>,
    digest: Mutex<InMaking>,
}

enum InMaking {
    Serial(Option<Hasher>),
    Tree(Option<Joiner>),
    Done(Digest),
}

impl Digests {
    /// Begins all `requests`.
    pub fn new(requests: Vec<Request>) -> Self {
        let start = requests.iter().map(|r| r.range.start).min().unwrap_or(0);
        let end = requests.iter().map(|r| r.range.end).max().unwrap_or(0);
        let (trees, serial) = (0..requests.len()).partition(|&index| requests[index].algorithm.tree().is_some());
        let span = start..end.max(start);
        Self { trees: Trees::new(&span, &requests, trees), serial, states: requests.into_iter().map(State::new).collect(), span }
    }

    /// From the first to the last byte that is wanted.
    pub fn span(&self) -> Range<u64> {
        self.span.clone()
    }

    /// Whether some digest wants its bytes in order.
    pub fn is_serial(&self) -> bool {
        !self.serial.is_empty()
    }

    /// Whether some digest takes these bytes in any order.
    pub fn takes_in_any_order(&self, range: &Range<u64>) -> bool {
        self.trees.fed_by(range, &self.states).next().is_some()
    }

    /// Feeds bytes, which begin at `offset` of the file, to the digests that take them in any order; each byte once.
    ///
    /// # Errors
    /// [`HashError::PieceOverlap`] if some were fed before.
    pub fn feed_trees(&self, offset: u64, bytes: &[u8]) -> Result<(), HashError> {
        let read = range_of(offset, bytes);
        for state in self.trees.fed_by(&read, &self.states) {
            let (offset, part) = state.part(&read, bytes);
            // Hashed outside of the lock, which other threads want for their bytes.
            let Some(tree) = state.tree else { continue };
            let hashed = tree.piece(state.range.end - state.range.start, offset, part)?;
            if let InMaking::Tree(Some(joiner)) = &mut *state.lock() {
                joiner.insert(hashed)?;
            }
        }
        Ok(())
    }

    /// Feeds bytes to the digests that want them in order; from the span's first byte to its last.
    pub fn feed_serial(&self, offset: u64, bytes: &[u8]) {
        let read = range_of(offset, bytes);
        for &index in &self.serial {
            let (_, part) = self.states[index].part(&read, bytes);
            if let InMaking::Serial(Some(hasher)) = &mut *self.states[index].lock() {
                hasher.update(part);
            }
        }
    }

    /// As [`Digests::feed_serial`] for bytes of two files at once, which is faster for some hashes.
    pub fn feed_serial_pair(&self, offset: u64, bytes: &[u8], other: &Self, other_offset: u64, other_bytes: &[u8]) {
        let ([index], [other_index]) = (&self.serial[..], &other.serial[..]) else {
            self.feed_serial(offset, bytes);
            return other.feed_serial(other_offset, other_bytes);
        };
        let (state, other_state) = (&self.states[*index], &other.states[*other_index]);
        let (_, part) = state.part(&range_of(offset, bytes), bytes);
        let (_, other_part) = other_state.part(&range_of(other_offset, other_bytes), other_bytes);
        if let (InMaking::Serial(Some(hasher)), InMaking::Serial(Some(other))) = (&mut *state.lock(), &mut *other_state.lock()) {
            hasher.update_pair(part, other, other_part);
        }
    }

    /// The digests, in the order of the requests, once every byte was fed.
    ///
    /// # Errors
    /// [`HashError::Incomplete`] for a tree that lacks some.
    pub fn finish(&self) -> Result<Vec<Digest>, HashError> {
        self.states.iter().map(State::finish).collect()
    }
}

impl Trees {
    fn new(span: &Range<u64>, requests: &[Request], indices: Vec<usize>) -> Self {
        let wanted = indices.into_iter().filter(|&index| !requests[index].range.is_empty());
        let (whole, mut by_start): (Vec<_>, Vec<_>) = wanted.partition(|&index| requests[index].range == *span);
        by_start.sort_by_key(|&index| requests[index].range.start);
        let furthest = |end: &mut u64, &index: &usize| {
            *end = requests[index].range.end.max(*end);
            Some(*end)
        };
        let furthest_end = by_start.iter().scan(0, furthest).collect();
        Self { whole, by_start, furthest_end }
    }

    fn fed_by<'a>(&'a self, read: &Range<u64>, states: &'a [State]) -> impl Iterator<Item = &'a State> + use<'a> {
        let (read_start, read_end) = (read.start, read.end);
        let first = self.furthest_end.partition_point(|&end| end <= read_start);
        let last = self.by_start.partition_point(|&index| states[index].range.start < read_end);
        let near = &self.by_start[first..last.max(first)];
        let whole = self.whole.iter().map(|&index| &states[index]);
        whole.chain(near.iter().map(|&index| &states[index]).filter(move |state| state.range.end > read_start))
    }
}

impl State {
    fn new(request: Request) -> Self {
        let Request { range, algorithm } = request;
        let tree = algorithm.tree();
        let digest = match tree {
            Some(tree) => InMaking::Tree(Some(Joiner::new(tree, range.end.saturating_sub(range.start)))),
            None => InMaking::Serial(Some(Hasher::new(algorithm))),
        };
        Self { range, tree, digest: Mutex::new(digest) }
    }

    fn lock(&self) -> MutexGuard<'_, InMaking> {
        self.digest.lock().expect("no thread panics while it holds this lock")
    }

    /// The part of what was read that lies in this digest's range, and its offset there.
    fn part<'a>(&self, read: &Range<u64>, bytes: &'a [u8]) -> (u64, &'a [u8]) {
        let start = self.range.start.clamp(read.start, read.end);
        let end = self.range.end.clamp(start, read.end);
        let part = &bytes[(start - read.start) as usize..(end - read.start) as usize];
        (start.saturating_sub(self.range.start), part)
    }

    fn finish(&self) -> Result<Digest, HashError> {
        let mut slot = self.lock();
        let digest = match &mut *slot {
            InMaking::Done(digest) => *digest,
            InMaking::Serial(hasher) => hasher.take().expect("digests are finished once").finish(),
            InMaking::Tree(joiner) => joiner.take().expect("digests are finished once").finish()?,
        };
        *slot = InMaking::Done(digest);
        Ok(digest)
    }
}

fn range_of(offset: u64, bytes: &[u8]) -> Range<u64> {
    offset..offset + bytes.len() as u64
}
