//! The memory that parts of files pass through on their way: pinned where they go on to a GPU.

use std::sync::{Mutex, MutexGuard};

use sentry_cuda::{Gpu, GpuError, PinnedMemory};

use crate::source::BLOCK;

/// Bytes of a file that are read at a time: enough for the disk and the copy, and few enough that the buffers stay in the processor's cache.
/// A multiple of every algorithm's block.
pub(crate) const UNIT: u64 = 2 << 20;

/// Bytes of a buffer: a unit, and the blocks that a read around the page cache touches besides.
pub(crate) const BUFFER: u64 = UNIT + 2 * BLOCK;

/// Most pinned buffers that are kept between loads. Pinning takes some milliseconds, as much as reading some hundred megabytes.
const MOST_KEPT: usize = 64;

static KEPT: Mutex<Vec<PinnedMemory>> = Mutex::new(Vec::new());

/// A buffer of [`BUFFER`] bytes that starts at a multiple of [`BLOCK`].
#[derive(Debug)]
pub(crate) enum Buffer {
    Pinned(PinnedMemory),
    /// With the index of its first byte.
    Plain(Vec<u8>, usize),
}

impl Buffer {
    /// Some that GPUs can copy from, if there is a GPU to copy to: at least one, at most `most`.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn some(gpu: Option<&'static Gpu>, most: usize) -> Result<Vec<Self>, GpuError> {
        let Some(gpu) = gpu else {
            let bytes = vec![0; (BUFFER + BLOCK) as usize];
            let start = bytes.as_ptr().align_offset(BLOCK as usize);
            return Ok(vec![Self::Plain(bytes, start)]);
        };
        let mut memory = {
            let mut kept = lock();
            let rest = kept.len().saturating_sub(most);
            kept.split_off(rest)
        };
        if memory.is_empty() {
            memory = gpu.pinned(BUFFER * most as u64)?.split(BUFFER);
        }
        Ok(memory.into_iter().map(Self::Pinned).collect())
    }

    /// The bytes, to be written.
    pub fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Pinned(memory) => &mut memory.as_mut_bytes()[..BUFFER as usize],
            Self::Plain(bytes, start) => &mut bytes[*start..][..BUFFER as usize],
        }
    }

    /// The bytes, to be read.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Pinned(memory) => &memory.as_bytes()[..BUFFER as usize],
            Self::Plain(bytes, start) => &bytes[*start..][..BUFFER as usize],
        }
    }

    /// The memory, if it is pinned.
    pub fn pinned(&self) -> Option<&PinnedMemory> {
        match self {
            Self::Pinned(memory) => Some(memory),
            Self::Plain(..) => None,
        }
    }

    /// Keeps the memory for the next load. No copy from it is under way.
    pub fn give_back(self) {
        if let Self::Pinned(memory) = self {
            let mut kept = lock();
            if kept.len() < MOST_KEPT {
                kept.push(memory);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Vec<PinnedMemory>> {
    KEPT.lock().expect("no thread panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_a_block() {
        for _ in 0..5 {
            let mut buffers = Buffer::some(None, 3).unwrap();
            assert!(!buffers.is_empty() && buffers.len() <= 3);
            for buffer in &mut buffers {
                assert!((buffer.as_bytes().as_ptr().addr() as u64).is_multiple_of(BLOCK) && buffer.pinned().is_none());
                assert_eq!((buffer.bytes().len(), buffer.as_bytes().len()), (BUFFER as usize, BUFFER as usize));
            }
        }
    }

    #[cfg(feature = "device-tests")]
    #[test]
    fn pinned_buffers_are_apart_and_are_used_again() {
        let gpu = Gpu::open(0).unwrap();
        let addresses = |buffers: &[Buffer]| {
            let mut addresses: Vec<usize> = buffers.iter().map(|buffer| buffer.as_bytes().as_ptr().addr()).collect();
            addresses.sort_unstable();
            addresses
        };
        let mut buffers = Buffer::some(Some(gpu), 3).unwrap();
        let first = addresses(&buffers);
        assert_eq!(first.len(), 3);
        assert!(first.iter().all(|address| (*address as u64).is_multiple_of(BLOCK)));
        assert!(first.windows(2).all(|pair| pair[0] + BUFFER as usize <= pair[1]), "{first:?}");
        for (byte, buffer) in (1..).zip(&mut buffers) {
            buffer.bytes().fill(byte);
        }
        assert!((1..).zip(&buffers).all(|(byte, buffer)| buffer.as_bytes().iter().all(|&found| found == byte)));
        buffers.into_iter().for_each(Buffer::give_back);
        // No other test of this program takes some.
        let again = [Buffer::some(Some(gpu), 1).unwrap(), Buffer::some(Some(gpu), 5).unwrap()].map(|buffers| addresses(&buffers));
        assert_eq!((again[0].len(), again[1].len()), (1, 2));
        assert!(again.iter().flatten().all(|address| first.contains(address)), "{again:?} {first:?}");
    }
}
