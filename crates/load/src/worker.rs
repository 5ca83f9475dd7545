//! One thread of a load.
//!
//! ```text
//! read ─► buffer ─► look, hash (cores) ─► copy ─► wait ─► hash (GPU)      each buffer goes round; there are a few, so that some are read
//!   ▲                                              │                      into while others are copied from, and so that what is read
//!   └──────────────────── buffer ◄─────────────────┘                      is ahead of the copies by so much and no more
//! ```
//!
//! What goes to this machine's memory is read where it belongs, without a buffer, unless it is read around the page cache.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;

use sentry_cuda::{Event, GpuError, Stream};
use sentry_hash::HashError;
use sentry_hash::files::FileJob;

use crate::buffers::{BUFFER, Buffer};
use crate::cufile::Refusal;
use crate::landing::Room;
use crate::pipeline::{File, Run};
use crate::plan::Unit;
use crate::source::{Way, aligned, taken};
use crate::uring::Queue;

/// Buffers of a thread.
const BUFFERS: usize = 4;

/// A thread's own.
pub(crate) struct Worker<'w, 's, 'r, 'a, 'm, J: FileJob> {
    run: &'w Run<'s, 'r, 'a, 'm, J>,
    /// Dropped before the buffers: it waits for the reads into them.
    queue: Queuing,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Slots whose copies are under way, the oldest first.
    copying: VecDeque<usize>,
    /// One for each GPU of the load.
    streams: Vec<Option<Stream>>,
}

/// Whether reads can be queued.
enum Queuing {
    Untried,
    Yes(Box<Queue>),
    No,
}

/// A buffer and what it is used for.
struct Slot {
    buffer: Buffer,
    /// File and unit.
    holds: (usize, usize),
    /// Where in the buffer the unit begins.
    start: usize,
    /// The mark behind its copy to a GPU, one for each, and which of them counts.
    events: Vec<Option<Event>>,
    gpu: usize,
}

/// A unit that was read.
enum Read {
    /// To where it belongs.
    InPlace,
    /// Into a buffer.
    Slot(usize),
}

impl<'w, 's, 'r, 'a, 'm, J: FileJob> Worker<'w, 's, 'r, 'a, 'm, J>
where
    J::Error: From<HashError>,
{
    pub fn new(run: &'w Run<'s, 'r, 'a, 'm, J>) -> Self {
        let queue = if run.reads_queued() { Queuing::Untried } else { Queuing::No };
        let streams = run.gpus().iter().map(|_| None).collect();
        Self { run, queue, slots: Vec::new(), free: Vec::new(), copying: VecDeque::new(), streams }
    }

    /// Takes work until there is none, and lets all of it come to its end.
    pub fn work(mut self) -> Result<(), J::Error> {
        self.work_on()?;
        self.drain()?;
        self.slots.drain(..).for_each(|slot| slot.buffer.give_back());
        Ok(())
    }

    fn work_on(&mut self) -> Result<(), J::Error> {
        while let Some(lane) = self.run.next_lane(0) {
            let read = self.read_in_order(lane);
            self.run.end_lanes();
            read?;
        }
        while !self.run.is_over() {
            let Some((file, unit)) = self.run.next_unit() else { break };
            self.begin(file, unit)?;
        }
        Ok(())
    }

    fn file(&self, number: usize) -> &'r File<'a, 'm, J> {
        &self.run.files[number]
    }

    /// Reads a unit, or begins to.
    fn begin(&mut self, number: usize, unit: usize) -> Result<(), J::Error> {
        let file = self.file(number);
        let range = &file.units[unit];
        if file.source.way(range) == Way::Cached {
            let read = self.read_cached(number, unit)?;
            return self.pass_on(number, unit, read);
        }
        if self.read_by_cufile(number, range)? {
            return Ok(());
        }
        let index = self.free_slot()?;
        let slot = &mut self.slots[index];
        (slot.holds, slot.start) = ((number, unit), (range.start - aligned(range).start) as usize);
        let explain = |error| read_error(file, range.start, error);
        if let Queuing::Untried = self.queue {
            self.queue = Queue::new(BUFFERS as u32).map_or(Queuing::No, |queue| Queuing::Yes(Box::new(queue)));
        }
        match (&mut self.queue, file.source.direct()) {
            (Queuing::Yes(queue), Some(direct)) => {
                let wanted = aligned(range);
                let room = &mut slot.buffer.bytes()[..(wanted.end - wanted.start) as usize];
                // SAFETY: the buffer is neither free nor being copied until this read is done, and outlives the queue. So does the file.
                unsafe { queue.read(direct, wanted.start, room.as_mut_ptr(), room.len() as u32, index as u64) }.map_err(explain)?;
                self.run.counters.queued(range);
                Ok(())
            }
            _ => {
                file.source.read_direct(range, slot.buffer.bytes()).map_err(explain)?;
                self.run.counters.direct(range);
                self.pass_on(number, unit, Read::Slot(index))
            }
        }
    }

    /// Reads a unit through the page cache.
    fn read_cached(&mut self, number: usize, unit: usize) -> Result<Read, J::Error> {
        let file = self.file(number);
        let range = &file.units[unit];
        let explain = |error| read_error(file, range.start, error);
        self.run.counters.cached(range);
        if let Some(room) = place(file, range) {
            file.source.read(range.start, room).map_err(explain)?;
            return Ok(Read::InPlace);
        }
        let index = self.free_slot()?;
        let slot = &mut self.slots[index];
        (slot.holds, slot.start) = ((number, unit), 0);
        file.source.read(range.start, &mut slot.buffer.bytes()[..(range.end - range.start) as usize]).map_err(explain)?;
        Ok(Read::Slot(index))
    }

    /// Reads a unit to a GPU without a detour, if this machine can and nobody here has to look at it.
    fn read_by_cufile(&mut self, number: usize, range: &Unit) -> Result<bool, J::Error> {
        let file = self.file(number);
        if file.job.has_to_receive(&file.context, range.start) || file.digests.takes_in_any_order(range) {
            return Ok(false);
        }
        let regions = file.landing.regions_in(range);
        let covered: u64 = regions.iter().filter(|region| region.room.device().is_some()).map(|region| region.part(range).2).sum();
        if covered != range.end - range.start {
            return Ok(false);
        }
        let Some(handle) = file.source.cufile() else { return Ok(false) };
        for region in regions {
            let room = region.room.device().expect("all of the unit goes to a GPU");
            // What uses the memory before has to be done; cuFile knows no streams.
            self.stream(room.gpu().ordinal())?.1.synchronize().map_err(HashError::from)?;
            let (mut offset, mut to, mut left) = region.part(range);
            while left > 0 {
                let read = match handle.read(room, to, offset, left) {
                    // It took the file and does not take this: the unit is read in another way, over whatever came of it.
                    Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Refusal>()) => return Ok(false),
                    read => read.map_err(|error| match error.downcast::<GpuError>() {
                        Ok(error) => HashError::from(error).into(),
                        Err(error) => file.job.read_error(offset, error),
                    })?,
                };
                if read == 0 {
                    return Err(read_error(file, offset, io::ErrorKind::UnexpectedEof.into()));
                }
                (offset, to, left) = (offset + read, to + read, left.saturating_sub(read));
            }
        }
        self.run.counters.cufile(range);
        self.run.advance(range.end - range.start);
        self.run.landed(number, range).map_err(HashError::from)?;
        Ok(true)
    }

    /// Reads one or two files from the first byte to the last: two, while more wait than threads are free, for SHA-256 is faster on two
    /// messages in turns.
    fn read_in_order(&mut self, first: usize) -> Result<(), J::Error> {
        let mut lanes = vec![(first, 0)];
        while !lanes.is_empty() && !self.run.is_over() {
            if lanes.len() < 2 {
                lanes.extend(self.run.next_lane(lanes.len()).map(|lane| (lane, 0)));
            }
            let mut read = Vec::with_capacity(lanes.len());
            for &(number, unit) in &lanes {
                if unit == 0 {
                    let _ = rustix::fs::fadvise(self.file(number).source.file(), 0, None, rustix::fs::Advice::Sequential);
                }
                if unit < self.file(number).units.len() {
                    read.push((number, unit, self.read_cached(number, unit)?));
                }
            }
            let bytes: Vec<_> =
                read.iter().map(|(number, unit, read)| (self.file(*number), &self.file(*number).units[*unit], read)).collect();
            match &bytes[..] {
                [(one, range, read), (other, other_range, other_read)] => {
                    let (bytes, other_bytes) = (self.bytes(one, range, read), self.bytes(other, other_range, other_read));
                    one.digests.feed_serial_pair(range.start, bytes, &other.digests, other_range.start, other_bytes);
                }
                all => all.iter().for_each(|(file, range, read)| file.digests.feed_serial(range.start, self.bytes(file, range, read))),
            }
            for (number, unit, read) in read {
                self.pass_on(number, unit, read)?;
            }
            lanes.iter_mut().for_each(|(_, unit)| *unit += 1);
            lanes.retain(|&(number, unit)| unit < self.file(number).units.len());
        }
        Ok(())
    }

    /// The bytes of a unit that was read.
    fn bytes<'b>(&'b self, file: &'b File<'a, 'm, J>, range: &Unit, read: &Read) -> &'b [u8] {
        let length = (range.end - range.start) as usize;
        match read {
            Read::InPlace => place(file, range).expect("it was read to there"),
            Read::Slot(index) => &self.slots[*index].buffer.as_bytes()[self.slots[*index].start..][..length],
        }
    }

    /// Lets a unit that was read go where it belongs, and to the digests that take it in any order.
    fn pass_on(&mut self, number: usize, unit: usize, read: Read) -> Result<(), J::Error> {
        let file = self.file(number);
        let range = &file.units[unit];
        let bytes = self.bytes(file, range, &read);
        file.job.receive(&file.context, range.start, bytes)?;
        file.digests.feed_trees(range.start, bytes)?;
        self.run.advance(range.end - range.start);
        let Read::Slot(index) = read else { return Ok(()) };
        let mut copies = None;
        for region in file.landing.regions_in(range) {
            let (start, to, length) = region.part(range);
            let from = (start - range.start) as usize;
            match &region.room {
                // SAFETY: no other unit has these bytes of the file, and no other region these bytes of memory.
                Room::Host(room) => {
                    unsafe { room.part(to, length) }.copy_from_slice(&self.bytes(file, range, &read)[from..][..length as usize])
                }
                Room::Device(room) => {
                    let (gpu, _) = self.stream(room.gpu().ordinal())?;
                    let stream = self.streams[gpu].as_ref().expect("it is there now");
                    let Slot { buffer, start, .. } = &self.slots[index];
                    let pinned = buffer.pinned().expect("a load to a GPU has pinned buffers");
                    stream.upload_from(pinned, (start + from) as u64, room, to, length).map_err(HashError::from)?;
                    copies = Some(gpu);
                }
            }
        }
        match copies {
            None => self.free.push(index),
            Some(gpu) => {
                self.mark(index, gpu).map_err(HashError::from)?;
                self.copying.push_back(index);
            }
        }
        Ok(())
    }

    /// Marks the end of a slot's copy.
    fn mark(&mut self, index: usize, gpu: usize) -> Result<(), GpuError> {
        let slot = &mut self.slots[index];
        slot.gpu = gpu;
        if slot.events[gpu].is_none() {
            slot.events[gpu] = Some(self.run.gpus()[gpu].event()?);
        }
        let (event, stream) = (&slot.events[gpu], &self.streams[gpu]);
        event.as_ref().expect("made above").record(stream.as_ref().expect("it was copied on"))
    }

    /// The number of a GPU in this load, and this thread's stream there.
    fn stream(&mut self, ordinal: usize) -> Result<(usize, &Stream), J::Error> {
        let gpu = self.run.gpus().iter().position(|gpu| gpu.ordinal() == ordinal).expect("all GPUs are known");
        if self.streams[gpu].is_none() {
            self.streams[gpu] = Some(self.run.copy_stream(self.run.gpus()[gpu]).map_err(HashError::from)?);
        }
        Ok((gpu, self.streams[gpu].as_ref().expect("made above")))
    }

    /// A slot that nobody uses; waits for one if there are enough.
    fn free_slot(&mut self) -> Result<usize, J::Error> {
        loop {
            if let Some(index) = self.free.pop() {
                return Ok(index);
            }
            if self.slots.len() < BUFFERS {
                let gpus = self.run.gpus();
                let buffers = Buffer::some(gpus.first().copied(), BUFFERS - self.slots.len()).map_err(HashError::from)?;
                for buffer in buffers {
                    self.run.counters.buffer(BUFFER);
                    self.free.push(self.slots.len());
                    self.slots.push(Slot { buffer, holds: (0, 0), start: 0, events: gpus.iter().map(|_| None).collect(), gpu: 0 });
                }
                continue;
            }
            self.wait_for_one()?;
        }
    }

    /// Waits for the oldest copy, or for a read if there is none.
    fn wait_for_one(&mut self) -> Result<(), J::Error> {
        if let Some(index) = self.copying.pop_front() {
            let Slot { events, gpu, holds: (number, unit), .. } = &self.slots[index];
            events[*gpu].as_ref().expect("it was marked").wait().map_err(HashError::from)?;
            self.run.landed(*number, &self.run.files[*number].units[*unit]).map_err(HashError::from)?;
            self.free.push(index);
            return Ok(());
        }
        let Queuing::Yes(queue) = &mut self.queue else { unreachable!("a slot is free, being copied, or being read into") };
        // Where the ring itself fails, the error is that of a file that is being read.
        let is_read = |index: &usize| !self.free.contains(index) && !self.copying.contains(index);
        let reading = (0..self.slots.len()).find(is_read).map_or(0, |index| self.slots[index].holds.0);
        let completion = queue.wait().map_err(|error| self.run.files[reading].job.read_error(0, error))?;
        let index = completion.token as usize;
        let slot = &mut self.slots[index];
        let (number, unit) = slot.holds;
        let file = &self.run.files[number];
        let range = &file.units[unit];
        let read = taken(completion.read).and_then(|read| file.source.complete(range, slot.buffer.bytes(), u64::from(read)));
        read.map_err(|error| read_error(file, range.start, error))?;
        self.pass_on(number, unit, Read::Slot(index))
    }

    /// Waits for all reads and copies.
    fn drain(&mut self) -> Result<(), J::Error> {
        loop {
            let reads = if let Queuing::Yes(queue) = &self.queue { queue.in_flight() } else { 0 };
            if self.copying.is_empty() && reads == 0 {
                return Ok(());
            }
            self.wait_for_one()?;
        }
    }
}

/// When it is over, nothing is read or copied any more, also where it failed or panicked: what landed is about to be wiped.
impl<J: FileJob> Drop for Worker<'_, '_, '_, '_, '_, J> {
    fn drop(&mut self) {
        // The reads are waited for when the queue goes. What became of the copies tells nobody anything: after the last one that counts
        // there is a mark that was waited for.
        self.streams.iter().flatten().for_each(|stream| drop(stream.synchronize()));
    }
}

/// Explains a read that failed. Another thread may have read beyond where the file ended.
fn read_error<J: FileJob>(file: &File<'_, '_, J>, offset: u64, error: io::Error) -> J::Error {
    let end = file.source.file().metadata().map_or(offset, |metadata| metadata.len());
    file.job.read_error(if error.kind() == io::ErrorKind::UnexpectedEof { offset.min(end) } else { offset }, error)
}

/// The room for a unit, if all of it goes to one place in this machine's memory.
#[allow(clippy::mut_from_ref, reason = "the memory is not the landing's own")]
fn place<'f, J: FileJob>(file: &'f File<'_, '_, J>, range: &Unit) -> Option<&'f mut [u8]> {
    let region = file.landing.regions_in(range).first()?;
    let (start, to, length) = region.part(range);
    match &region.room {
        // SAFETY: no other unit has these bytes of the file, and no other region these bytes of memory; one thread has the unit.
        Room::Host(room) if start == range.start && length == range.end - range.start => Some(unsafe { room.part(to, length) }),
        _ => None,
    }
}
