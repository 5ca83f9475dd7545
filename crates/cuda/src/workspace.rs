//! Memory that hashing needs besides the data, kept from one call to the next.

use std::sync::Mutex;

use crate::GpuError;
use crate::driver::{Context, DeviceMemory, PinnedMemory, Stream};
use crate::plan::Entry;

/// Smallest piece of memory that is taken, in bytes: the tables of a model of a thousand tensors.
const LEAST: u64 = 64 << 10;

/// Most memory of each kind that is kept while nothing is hashed, in bytes.
const MOST_KEPT: u64 = 16 << 20;

/// Tables on their way to the GPU: they are written one after the other, and copied together.
#[derive(Debug)]
pub(crate) struct Tables {
    host: PinnedMemory,
    device: DeviceMemory,
    written: u64,
    copied: u64,
}

impl Tables {
    /// Bytes of a table.
    pub fn len_of<E>(entries: &[E]) -> u64 {
        size_of_val(entries) as u64
    }

    /// Whether `bytes` more fit.
    pub fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.host.len() - self.written
    }

    /// Writes a table, for which there is room; returns the address that it will have on the GPU.
    pub fn write<E: Entry>(&mut self, entries: &[E]) -> u64 {
        let (start, length) = (self.written, Self::len_of(entries));
        let room = &mut self.host.as_mut_bytes()[start as usize..(start + length) as usize];
        let words = entries.iter().flat_map(|entry| entry.words());
        for (to, word) in room.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        // The next one starts at a multiple of 16 bytes.
        self.written = (start + length).next_multiple_of(16).min(self.host.len());
        self.device.address() + start
    }

    /// Queues the copy of what was written since the last one.
    pub fn copy(&mut self, stream: &Stream) -> Result<(), GpuError> {
        stream.upload(&self.host, &self.device, self.copied, self.written - self.copied)?;
        self.copied = self.written;
        Ok(())
    }
}

/// Memory of one GPU, and of this machine, that waits to be used again.
#[derive(Debug)]
pub(crate) struct Workspace {
    context: &'static Context,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    host: Vec<PinnedMemory>,
    device: Vec<DeviceMemory>,
}

impl Workspace {
    pub fn new(context: &'static Context) -> Self {
        Self { context, kept: Mutex::default() }
    }

    /// At least `bytes` of the GPU's memory.
    pub fn device(&self, bytes: u64) -> Result<DeviceMemory, GpuError> {
        match take(&mut self.lock().device, bytes, DeviceMemory::len) {
            Some(memory) => Ok(memory),
            None => DeviceMemory::allocate(self.context, size_for(bytes)),
        }
    }

    /// At least `bytes` of pinned memory.
    pub fn host(&self, bytes: u64) -> Result<PinnedMemory, GpuError> {
        match take(&mut self.lock().host, bytes, PinnedMemory::len) {
            Some(memory) => Ok(memory),
            None => PinnedMemory::allocate(self.context, size_for(bytes)),
        }
    }

    /// Room for tables of at least `bytes`.
    pub fn tables(&self, bytes: u64) -> Result<Tables, GpuError> {
        let device = self.device(bytes)?;
        Ok(Tables { host: self.host(device.len())?, device, written: 0, copied: 0 })
    }

    /// Takes memory back, which no work uses any more.
    pub fn give_back(&self, tables: Vec<Tables>, host: Option<PinnedMemory>, device: Option<DeviceMemory>) {
        let (mut hosts, mut devices): (Vec<_>, Vec<_>) = tables.into_iter().map(|tables| (tables.host, tables.device)).unzip();
        hosts.extend(host);
        devices.extend(device);
        let mut kept = self.lock();
        keep(&mut kept.host, hosts, PinnedMemory::len);
        keep(&mut kept.device, devices, DeviceMemory::len);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("no thread panics while it holds this lock")
    }
}

/// Sizes are few, so that what is given back fits the next time.
fn size_for(bytes: u64) -> u64 {
    if bytes <= MOST_KEPT { bytes.max(LEAST).next_power_of_two() } else { bytes }
}

/// The smallest that is large enough.
fn take<T>(kept: &mut Vec<T>, bytes: u64, len: impl Fn(&T) -> u64) -> Option<T> {
    let index = (0..kept.len()).filter(|&index| len(&kept[index]) >= bytes).min_by_key(|&index| len(&kept[index]))?;
    Some(kept.swap_remove(index))
}

/// Keeps what fits; the rest is freed.
fn keep<T>(kept: &mut Vec<T>, more: Vec<T>, len: impl Fn(&T) -> u64) {
    let mut total: u64 = kept.iter().map(&len).sum();
    for memory in more {
        if total + len(&memory) <= MOST_KEPT {
            total += len(&memory);
            kept.push(memory);
        }
    }
}
