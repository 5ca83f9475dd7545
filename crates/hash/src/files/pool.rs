//! The threads that read and hash.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::plan::Plan;
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
    /// Units that a thread has read in order and offers to idle ones.
    offers: Vec<Offer<J>>,
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
    file: File,
    context: J::Context,
    plan: Plan,
    next_unit: AtomicU64,
    /// Parts of the work that are not done; whoever does the last one finishes the file.
    remaining: AtomicU64,
}

struct Offer<J: FileJob> {
    reading: Arc<Reading<J>>,
    unit: u64,
    buffer: Arc<Vec<u8>>,
}

enum Work<J: FileJob> {
    Offered(Offer<J>),
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
                Work::Offered(offer) => self.take_offer(offer),
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
        let plan = Plan::new(opened.requests);
        let is_serial = plan.is_serial();
        // A serial file has one part more: the ordered pass itself, which ends after all its offers.
        let parts = plan.units() + u64::from(is_serial);
        let reading = Arc::new(Reading {
            job,
            file: opened.file,
            context: opened.context,
            plan,
            next_unit: AtomicU64::new(0),
            remaining: AtomicU64::new(parts),
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

    /// Reads a file from its first to its last unit, and offers the work that needs no order. While more files wait than
    /// threads are free, a second file is read beside it, for SHA-256 is faster on two messages in turns.
    fn read_in_order(&self, first: Arc<Reading<J>>) -> Result<(), J::Error> {
        let mut lanes = vec![first];
        while !lanes.is_empty() {
            if let Some(job) = if lanes.len() == 1 { self.spare_job() } else { None } {
                lanes.extend(self.open(job)?);
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
        let mut units = Vec::with_capacity(lanes.len());
        for reading in lanes {
            let Some(unit) = reading.take_unit() else { continue };
            let buffer = Arc::new(self.read(reading, unit)?);
            if !self.offer(reading, unit, &buffer) {
                reading.plan.feed_trees(unit, &buffer)?;
                self.part_done(reading)?;
            }
            units.push((reading, unit, buffer));
        }
        match &units[..] {
            [(one, unit, buffer), (other, other_unit, other_buffer)] => {
                one.plan.feed_serial_pair(*unit, buffer, &other.plan, *other_unit, other_buffer);
            }
            units => units.iter().for_each(|(reading, unit, buffer)| reading.plan.feed_serial(*unit, buffer)),
        }
        units.into_iter().for_each(|(_, _, buffer)| self.recycle(buffer));
        Ok(())
    }

    /// The next job, if no free thread is left to take it.
    fn spare_job(&self) -> Option<usize> {
        let mut state = self.lock();
        if state.waiting.len() > self.threads - state.busy { state.waiting.pop() } else { None }
    }

    /// Gives a unit to an idle thread; `false` if there is none, or nothing to give.
    fn offer(&self, reading: &Arc<Reading<J>>, unit: u64, buffer: &Arc<Vec<u8>>) -> bool {
        if !reading.plan.has_tree_work(unit) {
            return false;
        }
        let mut state = self.lock();
        if state.idle <= state.offers.len() {
            return false;
        }
        state.offers.push(Offer { reading: Arc::clone(reading), unit, buffer: Arc::clone(buffer) });
        drop(state);
        self.changed.notify_one();
        true
    }

    fn take_offer(&self, offer: Offer<J>) -> Result<(), J::Error> {
        offer.reading.plan.feed_trees(offer.unit, &offer.buffer)?;
        self.recycle(offer.buffer);
        self.part_done(&offer.reading)
    }

    fn read_unit(&self, reading: &Arc<Reading<J>>, unit: u64) -> Result<(), J::Error> {
        let buffer = self.read(reading, unit)?;
        reading.plan.feed_trees(unit, &buffer)?;
        self.recycle(Arc::new(buffer));
        self.part_done(reading)
    }

    fn read(&self, reading: &Reading<J>, unit: u64) -> Result<Vec<u8>, J::Error> {
        let range = reading.plan.unit(unit);
        let length = (range.end - range.start) as usize;
        let mut buffer = self.lock().buffers.pop().unwrap_or_else(|| Vec::with_capacity(UNIT));
        // Keeps what a used buffer holds, so that only a new one is zeroed.
        buffer.resize(length, 0);
        reading.file.read_exact_at(&mut buffer, range.start).map_err(|error| self.jobs[reading.job].read_error(range.start, error))?;
        (self.progress)(length as u64);
        Ok(buffer)
    }

    /// Keeps a buffer for the next read once nobody uses it.
    fn recycle(&self, buffer: Arc<Vec<u8>>) {
        if let Some(buffer) = Arc::into_inner(buffer) {
            self.lock().buffers.push(buffer);
        }
    }

    fn part_done(&self, reading: &Reading<J>) -> Result<(), J::Error> {
        if reading.remaining.fetch_sub(1, Ordering::AcqRel) == 1 { self.finish(reading) } else { Ok(()) }
    }

    fn finish(&self, reading: &Reading<J>) -> Result<(), J::Error> {
        let digests = reading.plan.finish()?;
        let output = self.jobs[reading.job].finish(&reading.file, &reading.context, digests)?;
        self.lock().outputs[reading.job] = Some(output);
        Ok(())
    }
}

impl<J: FileJob> PoolState<J> {
    fn stopped(&self) -> bool {
        self.panicked || self.error.is_some()
    }

    /// Offers first, for a reader's buffer waits on them; then units of open files, so that few files are
    /// open at a time; then the next file.
    fn take_work(&mut self) -> Option<Work<J>> {
        if let Some(offer) = self.offers.pop() {
            return Some(Work::Offered(offer));
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
    /// Whether every unit has been taken.
    fn is_read(&self) -> bool {
        self.next_unit.load(Ordering::Relaxed) >= self.plan.units()
    }

    fn take_unit(&self) -> Option<u64> {
        let unit = self.next_unit.fetch_add(1, Ordering::Relaxed);
        (unit < self.plan.units()).then_some(unit)
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
