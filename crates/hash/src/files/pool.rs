//! The threads that read and hash.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::digests::Digests;
use super::{FileJob, Progress, UNIT};
use crate::HashError;

/// Hashes the files of all `jobs` with up to `threads` threads; results come in the order of the jobs.
///
/// # Errors
/// The first error of a job ends the run; work that other threads had begun is dropped.
pub fn hash_files<J: FileJob>(jobs: &[J], threads: usize, progress: Progress<'_>) -> Result<Vec<J::Output>, J::Error>
where
    J::Error: From<HashError>,
{
    let mut largest_first: Vec<usize> = (0..jobs.len()).collect();
    largest_first.sort_by_key(|&index| jobs[index].size_hint());
    let threads = threads.max(1);
    let pool = Pool {
        jobs,
        threads,
        progress,
        changed: Condvar::new(),
        state: Mutex::new(PoolState {
            waiting: largest_first,
            open: Vec::new(),
            offers: Vec::new(),
            handed_over: Vec::new(),
            buffers: Vec::new(),
            idle: 0,
            busy: 0,
            outputs: jobs.iter().map(|_| None).collect(),
            error: None,
            panicked: false,
        }),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no more threads, the ones at hand do the work.
            if thread::Builder::new().spawn_scoped(scope, || pool.work()).is_err() {
                break;
            }
        }
        pool.work();
    });
    let state = pool.state.into_inner().expect("a panic has been passed on by the scope");
    match state.error {
        Some(error) => Err(error),
        None => Ok(state.outputs.into_iter().map(|output| output.expect("every job ran")).collect()),
    }
}

struct Pool<'a, J: FileJob> {
    jobs: &'a [J],
    threads: usize,
    progress: Progress<'a>,
    /// Something in `state` changed that an idle thread may wait for.
    changed: Condvar,
    state: Mutex<PoolState<J>>,
}

struct PoolState<J: FileJob> {
    /// Jobs not yet begun, by index; the next one is the last.
    waiting: Vec<usize>,
    /// Files whose units any thread may take.
    open: Vec<Arc<Reading<J>>>,
    /// Files that are read in order, and the unit of each that comes next: for idle threads to read ahead.
    offers: Vec<(Arc<Reading<J>>, u64)>,
    /// Files that are read in order and that a thread with two of them gives to an idle one.
    handed_over: Vec<Arc<Reading<J>>>,
    buffers: Vec<Vec<u8>>,
    idle: usize,
    busy: usize,
    outputs: Vec<Option<J::Output>>,
    error: Option<J::Error>,
    panicked: bool,
}

/// A file that is being read.
struct Reading<J: FileJob> {
    job: usize,
    file: Arc<File>,
    context: J::Context,
    digests: Digests,
    next_unit: AtomicU64,
    /// Parts of the work that are not done; whoever does the last one finishes the file.
    remaining: AtomicU64,
    /// The next unit of a file that is read in order, if another thread reads it.
    ahead: Mutex<Ahead<J::Error>>,
    arrived: Condvar,
}

enum Ahead<E> {
    /// Nobody reads ahead.
    Nothing,
    /// Offered, or being read.
    Pending,
    /// Read, and fed to the digests that need no order.
    Read(Result<Vec<u8>, E>),
}

enum Work<J: FileJob> {
    Ahead(Arc<Reading<J>>, u64),
    InOrder(Arc<Reading<J>>),
    Unit(Arc<Reading<J>>, u64),
    Job(usize),
}

impl<J: FileJob> Pool<'_, J>
where
    J::Error: From<HashError>,
{
    fn lock(&self) -> MutexGuard<'_, PoolState<J>> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// One thread's life: take work until none is left and none can come.
    fn work(&self) {
        let _guard = StopOnPanic(self);
        while let Some(work) = self.next_work() {
            let result = match work {
                Work::Ahead(reading, unit) => self.read_ahead(&reading, unit),
                Work::InOrder(reading) => self.read_in_order(reading),
                Work::Unit(reading, unit) => self.read_unit(&reading, unit),
                Work::Job(job) => self.begin(job),
            };
            let mut state = self.lock();
            state.busy -= 1;
            if let Err(error) = result {
                state.error.get_or_insert(error);
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for work; `None` once all is done or something failed.
    fn next_work(&self) -> Option<Work<J>> {
        let mut state = self.lock();
        loop {
            if state.stopped() {
                return None;
            }
            if let Some(work) = state.take_work() {
                state.busy += 1;
                return Some(work);
            }
            if state.busy == 0 {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).expect("no thread panics while it holds this lock");
            state.idle -= 1;
        }
    }

    /// Begins a job: a file without a serial hash is left to all threads, another is this thread's.
    fn begin(&self, job: usize) -> Result<(), J::Error> {
        match self.open(job)? {
            Some(reading) => self.read_in_order(reading),
            None => Ok(()),
        }
    }

    /// Opens a job's file; returns it if it must be read in order.
    fn open(&self, job: usize) -> Result<Option<Arc<Reading<J>>>, J::Error> {
        let opened = self.jobs[job].open()?;
        let digests = Digests::new(opened.requests);
        let is_serial = digests.is_serial();
        // A serial file has one part more: the ordered pass itself, which comes after all units.
        let parts = units(&digests) + u64::from(is_serial);
        let reading = Arc::new(Reading {
            job,
            file: opened.file,
            context: opened.context,
            digests,
            next_unit: AtomicU64::new(0),
            remaining: AtomicU64::new(parts),
            ahead: Mutex::new(Ahead::Nothing),
            arrived: Condvar::new(),
        });
        if is_serial {
            return Ok(Some(reading));
        }
        if parts == 0 {
            self.finish(&reading)?;
        } else {
            self.lock().open.push(reading);
            self.changed.notify_all();
        }
        Ok(None)
    }

    /// Reads a file from its first to its last unit. While more files wait than threads are free, a second file is read
    /// beside it, for SHA-256 is faster on two messages in turns; once a thread is idle, it gets the second one.
    fn read_in_order(&self, first: Arc<Reading<J>>) -> Result<(), J::Error> {
        let mut lanes = vec![first];
        while !lanes.is_empty() {
            match lanes.len() {
                1 => {
                    if let Some(job) = self.spare_job() {
                        lanes.extend(self.open(job)?);
                    }
                }
                _ => self.hand_over(&mut lanes),
            }
            self.read_next_units(&lanes)?;
            for done in lanes.extract_if(.., |reading| reading.is_read()) {
                self.part_done(&done)?;
            }
            if self.lock().stopped() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the next unit of one or two files that are read in order.
    fn read_next_units(&self, lanes: &[Arc<Reading<J>>]) -> Result<(), J::Error> {
        let mut read = Vec::with_capacity(lanes.len());
        for reading in lanes {
            let Some(unit) = reading.take_unit() else { continue };
            let buffer = match self.arrived(reading) {
                Some(read) => read?,
                None => self.read_and_feed(reading, unit)?,
            };
            self.offer(reading, unit + 1);
            read.push((&reading.digests, reading.unit(unit).start, buffer));
        }
        match &read[..] {
            [(one, offset, buffer), (other, other_offset, other_buffer)] => {
                one.feed_serial_pair(*offset, buffer, other, *other_offset, other_buffer);
            }
            all => all.iter().for_each(|(digests, offset, buffer)| digests.feed_serial(*offset, buffer)),
        }
        self.lock().buffers.extend(read.into_iter().map(|(_, _, buffer)| buffer));
        Ok(())
    }

    /// The next job, if no free thread is left to take it.
    fn spare_job(&self) -> Option<usize> {
        let mut state = self.lock();
        if state.waiting.len() > self.threads - state.busy { state.waiting.pop() } else { None }
    }

    /// Gives the second of two files to an idle thread.
    fn hand_over(&self, lanes: &mut Vec<Arc<Reading<J>>>) {
        let mut state = self.lock();
        if state.has_idle_thread() {
            state.handed_over.extend(lanes.pop());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Lets an idle thread read the next unit of a file, and hash what needs no order, while this one hashes the last.
    /// Only reading ahead would not pay: bytes that another core has read are slower to get at.
    fn offer(&self, reading: &Arc<Reading<J>>, unit: u64) {
        if unit >= units(&reading.digests) || !reading.digests.takes_in_any_order(&reading.unit(unit)) {
            return;
        }
        let mut state = self.lock();
        if state.has_idle_thread() {
            *reading.ahead() = Ahead::Pending;
            state.offers.push((Arc::clone(reading), unit));
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The next unit of a file, if another thread has read it or is about to. An offer that nobody has taken is
    /// withdrawn.
    fn arrived(&self, reading: &Arc<Reading<J>>) -> Option<Result<Vec<u8>, J::Error>> {
        let withdrawn = {
            let mut state = self.lock();
            let offered = state.offers.iter().position(|(offered, _)| Arc::ptr_eq(offered, reading));
            offered.map(|index| state.offers.swap_remove(index)).is_some()
        };
        let mut ahead = reading.ahead();
        if withdrawn {
            *ahead = Ahead::Nothing;
        }
        while matches!(*ahead, Ahead::Pending) {
            ahead = reading.arrived.wait(ahead).expect("no thread panics while it holds this lock");
        }
        match std::mem::replace(&mut *ahead, Ahead::Nothing) {
            Ahead::Read(read) => Some(read),
            Ahead::Nothing | Ahead::Pending => None,
        }
    }

    fn read_ahead(&self, reading: &Arc<Reading<J>>, unit: u64) -> Result<(), J::Error> {
        // If this thread panics, the other must not wait for it.
        let guard = NothingAhead(reading);
        let read = self.read_and_feed(reading, unit);
        *reading.ahead() = Ahead::Read(read);
        drop(guard);
        Ok(())
    }

    /// Reads a unit, passes it on, and feeds it to the digests that take it in any order.
    fn read_and_feed(&self, reading: &Reading<J>, unit: u64) -> Result<Vec<u8>, J::Error> {
        let buffer = self.read(reading, unit)?;
        let start = reading.unit(unit).start;
        self.jobs[reading.job].receive(&reading.context, start, &buffer)?;
        reading.digests.feed_trees(start, &buffer)?;
        self.part_done(reading)?;
        Ok(buffer)
    }

    /// Reads a unit that no digest wants in order.
    fn read_unit(&self, reading: &Arc<Reading<J>>, unit: u64) -> Result<(), J::Error> {
        let buffer = self.read_and_feed(reading, unit)?;
        self.lock().buffers.push(buffer);
        Ok(())
    }

    fn read(&self, reading: &Reading<J>, unit: u64) -> Result<Vec<u8>, J::Error> {
        let range = reading.unit(unit);
        let length = (range.end - range.start) as usize;
        let mut buffer = self.lock().buffers.pop().unwrap_or_else(|| Vec::with_capacity(UNIT));
        // Keeps what a used buffer holds, so that only a new one is zeroed.
        buffer.resize(length, 0);
        self.read_exact(reading, range.start, &mut buffer)?;
        Ok(buffer)
    }

    fn read_exact(&self, reading: &Reading<J>, offset: u64, room: &mut [u8]) -> Result<(), J::Error> {
        reading.file.read_exact_at(room, offset).map_err(|error| self.jobs[reading.job].read_error(offset, error))?;
        (self.progress)(room.len() as u64);
        Ok(())
    }

    fn part_done(&self, reading: &Reading<J>) -> Result<(), J::Error> {
        if reading.remaining.fetch_sub(1, Ordering::AcqRel) == 1 { self.finish(reading) } else { Ok(()) }
    }

    fn finish(&self, reading: &Reading<J>) -> Result<(), J::Error> {
        let digests = reading.digests.finish()?;
        let output = self.jobs[reading.job].finish(&reading.file, &reading.context, digests)?;
        self.lock().outputs[reading.job] = Some(output);
        Ok(())
    }
}

impl<J: FileJob> PoolState<J> {
    fn stopped(&self) -> bool {
        self.panicked || self.error.is_some()
    }

    /// Whether a thread waits for work that is not yet at hand.
    fn has_idle_thread(&self) -> bool {
        self.idle > self.offers.len() + self.handed_over.len()
    }

    /// Whole files first; then what another thread will soon need; then units of open files, so that few files are open
    /// at a time; then the next file.
    fn take_work(&mut self) -> Option<Work<J>> {
        if let Some(reading) = self.handed_over.pop() {
            return Some(Work::InOrder(reading));
        }
        if let Some((reading, unit)) = self.offers.pop() {
            return Some(Work::Ahead(reading, unit));
        }
        while let Some(reading) = self.open.last() {
            if let Some(unit) = reading.take_unit() {
                return Some(Work::Unit(Arc::clone(reading), unit));
            }
            self.open.pop();
        }
        self.waiting.pop().map(Work::Job)
    }
}

impl<J: FileJob> Reading<J> {
    /// The byte range of one unit.
    fn unit(&self, index: u64) -> Range<u64> {
        let span = self.digests.span();
        let start = span.start + index * UNIT as u64;
        start..span.end.min(start + UNIT as u64)
    }

    /// Whether every unit has been taken.
    fn is_read(&self) -> bool {
        self.next_unit.load(Ordering::Relaxed) >= units(&self.digests)
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead<J::Error>> {
        self.ahead.lock().expect("no thread panics while it holds this lock")
    }

    fn take_unit(&self) -> Option<u64> {
        let unit = self.next_unit.fetch_add(1, Ordering::Relaxed);
        (unit < units(&self.digests)).then_some(unit)
    }
}

/// How many units there are to read.
fn units(digests: &Digests) -> u64 {
    let span = digests.span();
    (span.end - span.start).div_ceil(UNIT as u64)
}

/// Wakes the thread that waits for a unit; if none was read, it reads by itself.
struct NothingAhead<'a, J: FileJob>(&'a Reading<J>);

impl<J: FileJob> Drop for NothingAhead<'_, J> {
    fn drop(&mut self) {
        if let Ok(mut ahead) = self.0.ahead.lock()
            && matches!(*ahead, Ahead::Pending)
        {
            *ahead = Ahead::Nothing;
        }
        self.0.arrived.notify_all();
    }
}

/// Ends the other threads' waiting when one panics; the scope then passes the panic on.
struct StopOnPanic<'a, 'b, J: FileJob>(&'a Pool<'b, J>);

impl<J: FileJob> Drop for StopOnPanic<'_, '_, J> {
    fn drop(&mut self) {
        if thread::panicking() {
            if let Ok(mut state) = self.0.state.lock() {
                state.panicked = true;
            }
            self.0.changed.notify_all();
        }
    }
}
