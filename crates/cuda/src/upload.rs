//! Digests of bytes that are elsewhere: they are read into pinned memory, copied to the GPU, hashed there, and forgotten.
//!
//! ```text
//! thread 0:  read ─► copy ─► hash │ read ─► copy ─► hash │ …       each with its own pinned memory, as much on the GPU, and a
//! thread 1:     read ─► copy ─► hash │ read ─► copy ─► hash │ …    stream, so that one reads while others copy and hash
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sentry_hash::{Algorithm, Digest};

use crate::driver::PinnedMemory;
use crate::plan::Shape;
use crate::{DeviceMemory, Gpu, GpuError, Piece, Stream, TreeHasher};

/// Bytes that a thread reads, copies and hashes at a time: a multiple of every algorithm's block.
const UNIT: u64 = 4 << 20;

/// Most threads. Eight keep a copy engine busy; memory grows with them.
const MOST_THREADS: usize = 8;

/// Where a part of a unit goes in its memory: at multiples of the kernels' widest loads.
const ALIGNMENT: u64 = 16;

/// Reads a message's bytes, from an offset on, until the room is full: message, offset, room.
pub type Read<'a, E> = &'a (dyn Fn(usize, u64, &mut [u8]) -> Result<(), E> + Sync);

/// Why bytes that are elsewhere were not hashed.
#[derive(Debug)]
pub enum UploadError<E> {
    /// They could not be read.
    Read(E),
    /// The GPU could not hash them.
    Gpu(GpuError),
}

impl<E> From<GpuError> for UploadError<E> {
    fn from(error: GpuError) -> Self {
        Self::Gpu(error)
    }
}

/// Some bytes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    message: usize,
    offset: u64,
    length: u64,
    /// Where they go in a thread's memory.
    place: u64,
}

impl Gpu {
    /// The digests of messages of these lengths in bytes, which `read` reads: from several threads at once, in any order, each byte
    /// once. `advance` is told how many bytes have been hashed since it was last called.
    ///
    /// # Errors
    /// The first error of `read`, and those of [`TreeHasher`].
    pub fn digest_read<E: Send>(
        &'static self,
        algorithm: Algorithm,
        lengths: &[u64],
        read: Read<'_, E>,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Digest>, UploadError<E>> {
        let units = units(lengths);
        debug_assert!(UNIT.is_multiple_of(Shape::of(algorithm)?.block_len()));
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(units.len().max(1));
        let memory = units.iter().filter_map(|unit| unit.last()).map(|part| part.place + part.length).max().unwrap_or(0);
        // The hasher, declared after them, is dropped before them, and waits for the streams then.
        let streams = (0..threads).map(|_| self.stream()).collect::<Result<Vec<_>, _>>()?;
        let landings = (0..threads).map(|_| self.allocate(memory)).collect::<Result<Vec<_>, _>>()?;
        let hasher = TreeHasher::new(self, algorithm, lengths, &streams[0])?;

        let next = AtomicUsize::new(0);
        let is_over = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let work = |(stream, landing)| -> Result<(), UploadError<E>> {
            let mut pinned = PinnedMemory::allocate(self.context(), memory)?;
            while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                hash_unit(&hasher, stream, &mut pinned, landing, unit, read)?;
                advance(unit.iter().map(|part| part.length).sum());
            }
            Ok(())
        };
        let run = |place| {
            if let Err(error) = work(place) {
                is_over.store(true, Ordering::Relaxed);
                failure.lock().expect("no thread panics while it holds this lock").get_or_insert(error);
            }
        };
        thread::scope(|scope| {
            let mut places = streams.iter().zip(&landings);
            let own = places.next();
            for place in places {
                // With fewer threads it takes longer.
                if thread::Builder::new().spawn_scoped(scope, move || run(place)).is_err() {
                    break;
                }
            }
            own.map(run);
        });
        match failure.into_inner().expect("no thread panicked") {
            Some(error) => Err(error),
            None => Ok(hasher.finish(&streams[0])?.wait()?),
        }
    }
}

/// Reads, copies and hashes some parts of messages, and waits until that is done.
fn hash_unit<'a, E>(
    hasher: &TreeHasher<'a>,
    stream: &'a Stream,
    pinned: &mut PinnedMemory,
    landing: &'a DeviceMemory,
    unit: &[Part],
    read: Read<'_, E>,
) -> Result<(), UploadError<E>> {
    let mut end = 0;
    for part in unit {
        end = part.place + part.length;
        read(part.message, part.offset, &mut pinned.as_mut_bytes()[part.place as usize..end as usize]).map_err(UploadError::Read)?;
    }
    stream.upload(pinned, landing, 0, end)?;
    let pieces: Vec<Piece<'a>> = unit
        .iter()
        .map(|part| Piece { message: part.message, offset: part.offset, bytes: landing.bytes(part.place, part.length) })
        .collect();
    let queued = hasher.update(stream, &pieces);
    // Before the pinned memory is written to again or freed, whatever became of the update.
    stream.synchronize()?;
    Ok(queued?)
}

/// The messages, cut into units that are hashed at a time: a part of a long one, or several short ones.
fn units(lengths: &[u64]) -> Vec<Vec<Part>> {
    let mut units: Vec<Vec<Part>> = Vec::new();
    let mut end = u64::MAX;
    for (message, &total) in lengths.iter().enumerate() {
        let mut offset = 0;
        loop {
            let length = (total - offset).min(UNIT);
            let next = end.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            let fits = next.checked_add(length).is_some_and(|end| end <= UNIT);
            let place = if fits { next } else { 0 };
            if !fits {
                units.push(Vec::new());
            }
            units.last_mut().expect("the first part never fits").push(Part { message, offset, length, place });
            end = place + length;
            offset += length;
            if offset == total {
                break;
            }
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_one_unit_and_no_two_share_a_place() {
        let lengths = [0, 1, 17, UNIT, UNIT - 1, 1, 0, 3 * UNIT + 5, 100, 0];
        let units = units(&lengths);
        for (message, &length) in lengths.iter().enumerate() {
            let parts: Vec<_> = units.iter().flatten().filter(|part| part.message == message).collect();
            let mut offset = 0;
            for part in &parts {
                assert_eq!(part.offset, offset);
                offset += part.length;
            }
            assert_eq!(offset, length);
            assert!(!parts.is_empty(), "also an empty message is hashed");
        }
        for unit in &units {
            assert!(unit.is_sorted_by(|a, b| a.place + a.length <= b.place));
            assert!(unit.iter().all(|part| part.place.is_multiple_of(ALIGNMENT) && part.place + part.length <= UNIT));
        }
        assert!(super::units(&[]).is_empty());
    }
}
