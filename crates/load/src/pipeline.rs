//! One load: what is known of each file, the GPUs that they go to, and the work that threads take.
//!
//! A thread's own part is in `worker`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use sentry_cuda::{Gpu, GpuError, Piece, Stream, TreeHasher};
use sentry_hash::files::{Digests, FileJob, OpenedFile, Progress, Request};
use sentry_hash::{Algorithm, Digest, HashError};

use crate::landing::{Landing, Region};
use crate::plan::{Message, Split, Unit, gpus, messages_in, split, units, wanted};
use crate::report::{Counters, Report};
use crate::source::Source;
use crate::worker::Worker;
use crate::{Loaded, Loader};

/// Bytes that have landed on a GPU before they are hashed: a launch costs little beside them, and the last one is over soon.
const BATCH: u64 = 32 << 20;

/// Most threads: what fourteen read fills the link to a GPU.
const MOST_THREADS: usize = 16;

/// One file of a load.
pub(crate) struct File<'a, 'm, J: FileJob> {
    pub job: &'a J,
    pub landing: &'a Landing<'m>,
    pub source: Arc<Source>,
    pub context: J::Context,
    pub units: Vec<Unit>,
    /// The digests that the cores compute.
    pub digests: Digests,
    /// How many digests are wanted, and which of them the cores compute.
    requests: usize,
    on_cores: Vec<usize>,
    /// The digests that GPUs compute.
    messages: Vec<Message>,
}

/// The digests of one algorithm on one GPU.
struct Hashing<'r> {
    stream: &'r Stream,
    /// The file of each message, and which of its messages it is.
    messages: Vec<(usize, usize)>,
    tree: TreeHasher<'r>,
    landed: Mutex<Landed<'r>>,
}

/// Pieces that lie on a GPU and wait for the next launch.
#[derive(Default)]
struct Landed<'r> {
    pieces: Vec<Piece<'r>>,
    bytes: u64,
}

/// A message's place: which [`Hashing`], and which message there.
type Place = (usize, usize);

/// What the threads of a load share.
pub(crate) struct Run<'s, 'r, 'a, 'm, J: FileJob> {
    pub files: &'r [File<'a, 'm, J>],
    pub counters: Counters,
    loader: &'s Loader<'s>,
    hashing: &'s [Hashing<'r>],
    /// Of each file's messages, in their order.
    places: &'s [Vec<Place>],
    gpus: &'s [&'static Gpu],
    progress: Progress<'s>,
    threads: usize,
    /// Files and units that can be read in any order, and how many have been taken.
    units: Vec<(usize, usize)>,
    taken: AtomicUsize,
    lanes: Mutex<Lanes>,
    is_over: AtomicBool,
    failure: Mutex<Option<J::Error>>,
}

/// Files that have to be read in order.
struct Lanes {
    waiting: Vec<usize>,
    /// Threads that read some.
    busy: usize,
}

/// Loads the files of all jobs to where `landing` says.
pub(crate) fn load<'a, 'm: 'a, J: FileJob>(
    loader: &Loader<'_>,
    jobs: &'a [J],
    landing: &dyn Fn(&'a J) -> &'a Landing<'m>,
    progress: Progress<'_>,
) -> Result<Loaded<J::Output>, J::Error>
where
    J::Error: From<HashError>,
{
    let mut sources = HashMap::new();
    let files = jobs.iter().map(|job| open(loader, job, landing(job), &mut sources)).collect::<Result<Vec<_>, _>>()?;
    let gpus = gpus(files.iter().map(|file| file.landing));
    let streams = gpus.iter().map(|gpu| gpu.stream()).collect::<Result<Vec<_>, _>>().map_err(HashError::from)?;
    let (hashing, places) = begin_hashing(&files, &gpus, &streams).map_err(HashError::from)?;
    let run = Run::new(loader, &files, &hashing, &places, &gpus, progress);
    run.work();
    let report = run.end()?;

    let mut digests: Vec<Vec<Option<Digest>>> = files.iter().map(|file| vec![None; file.requests]).collect();
    for Hashing { stream, messages, tree, landed, .. } in hashing {
        let rest = landed.into_inner().expect("no thread panicked");
        let finish = || tree.update(stream, &rest.pieces).and_then(|()| tree.finish(stream)?.wait());
        let found = if loader.is_unhashed() { nothing(&files, &messages)? } else { finish().map_err(HashError::from)? };
        assert_eq!(messages.len(), found.len(), "a digest for each message");
        for ((file, message), digest) in messages.into_iter().zip(found) {
            digests[file][files[file].messages[message].request] = Some(digest);
        }
    }
    let mut outputs = Vec::with_capacity(files.len());
    for (file, mut digests) in files.iter().zip(digests) {
        let on_cores = file.digests.finish()?;
        assert_eq!(file.on_cores.len(), on_cores.len(), "a digest for each request");
        for (&request, digest) in file.on_cores.iter().zip(on_cores) {
            digests[request] = Some(digest);
        }
        let digests = digests.into_iter().map(|digest| digest.expect("each request is in one place")).collect();
        outputs.push(file.job.finish(file.source.file(), &file.context, digests)?);
    }
    Ok(Loaded { outputs, report })
}

/// Opens a file and plans what is read of it.
fn open<'a, 'm, J: FileJob>(
    loader: &Loader<'_>,
    job: &'a J,
    landing: &'a Landing<'m>,
    sources: &mut Sources,
) -> Result<File<'a, 'm, J>, J::Error> {
    let OpenedFile { file, requests, context } = job.open()?;
    let source = match sources.entry(Arc::as_ptr(&file).addr()) {
        Entry::Occupied(known) => Arc::clone(known.get()),
        Entry::Vacant(new) => {
            let source = Source::new(file, loader.reading).map_err(|error| job.read_error(0, error))?;
            Arc::clone(new.insert(Arc::new(source)))
        }
    };
    let Split { messages, on_cores } = split(&requests, landing);
    let units = wanted(&requests).into_iter().flat_map(|range| units(range, &messages, landing)).collect();
    let digests = Digests::new(on_cores.iter().map(|&index| requests[index].clone()).collect::<Vec<Request>>());
    Ok(File { job, landing, source, context, units, digests, requests: requests.len(), on_cores, messages })
}

/// The files of a load by the addresses of their handles: jobs that share one read from it by one source.
type Sources = HashMap<usize, Arc<Source>>;

/// Begins the digests that GPUs compute; returns them, and the places of each file's messages.
fn begin_hashing<'r, J: FileJob>(
    files: &[File<'_, '_, J>],
    gpus: &[&'static Gpu],
    streams: &'r [Stream],
) -> Result<(Vec<Hashing<'r>>, Vec<Vec<Place>>), GpuError> {
    /// An algorithm on a GPU, its messages, and in how many pieces they may come at most.
    struct Group {
        gpu: usize,
        algorithm: Algorithm,
        messages: Vec<(usize, usize)>,
        lengths: Vec<u64>,
        pieces: usize,
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut places = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let mut own = Vec::with_capacity(file.messages.len());
        for (index, message) in file.messages.iter().enumerate() {
            let room = file.region_of(message).room.device().expect("a message lies on a GPU");
            let gpu = gpus.iter().position(|gpu| gpu.ordinal() == room.gpu().ordinal()).expect("all GPUs are known");
            let known = groups.iter().position(|group| group.gpu == gpu && group.algorithm == message.algorithm);
            let place = known.unwrap_or(groups.len());
            if known.is_none() {
                groups.push(Group { gpu, algorithm: message.algorithm, messages: Vec::new(), lengths: Vec::new(), pieces: 0 });
            }
            let group = &mut groups[place];
            own.push((place, group.messages.len()));
            group.messages.push((number, index));
            group.lengths.push(message.range.end - message.range.start);
            group.pieces += 1;
        }
        // A unit cuts one message at most.
        let touched: BTreeSet<usize> = own.iter().map(|(place, _)| *place).collect();
        touched.into_iter().for_each(|place| groups[place].pieces += file.units.len());
        places.push(own);
    }
    let begin = |Group { gpu, algorithm, messages, lengths, pieces }| {
        let stream = &streams[gpu];
        let tree = TreeHasher::for_pieces(gpus[gpu], algorithm, &lengths, pieces as u64, stream)?;
        Ok(Hashing { stream, messages, tree, landed: Mutex::default() })
    };
    Ok((groups.into_iter().map(begin).collect::<Result<_, GpuError>>()?, places))
}

/// Digests of a load that hashes nothing.
fn nothing<J: FileJob>(files: &[File<'_, '_, J>], messages: &[(usize, usize)]) -> Result<Vec<Digest>, HashError> {
    let zero = |&(file, message): &(usize, usize)| {
        let algorithm = files[file].messages[message].algorithm;
        Digest::from_bytes(algorithm, &vec![0; algorithm.digest_len()])
    };
    messages.iter().map(zero).collect()
}

impl<'m, J: FileJob> File<'_, 'm, J> {
    /// The region that has all of a message.
    fn region_of(&self, message: &Message) -> &Region<'m> {
        self.landing.regions_in(&message.range).first().expect("a message lies in one region")
    }
}

impl<'s, 'r, 'a, 'm, J: FileJob> Run<'s, 'r, 'a, 'm, J>
where
    J::Error: From<HashError>,
{
    fn new(
        loader: &'s Loader<'s>,
        files: &'r [File<'a, 'm, J>],
        hashing: &'s [Hashing<'r>],
        places: &'s [Vec<Place>],
        gpus: &'s [&'static Gpu],
        progress: Progress<'s>,
    ) -> Self {
        let (mut units, mut waiting) = (Vec::new(), Vec::new());
        for (number, file) in files.iter().enumerate() {
            if file.digests.is_serial() {
                waiting.push(number);
            } else {
                units.extend((0..file.units.len()).map(|unit| (number, unit)));
            }
        }
        // The longest one is taken first, and is the last here.
        waiting.sort_by_key(|&number| files[number].units.len());
        let work = units.len() + waiting.len();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // An eighth of them for the driver's own threads and the rest of the system: with all, the others wait for whoever lost its core.
        let threads = loader.threads.unwrap_or((cores - cores / 8).min(MOST_THREADS)).min(work).max(1);
        Self {
            files,
            counters: Counters::new(threads),
            loader,
            hashing,
            places,
            gpus,
            progress,
            threads,
            units,
            taken: AtomicUsize::new(0),
            lanes: Mutex::new(Lanes { waiting, busy: 0 }),
            is_over: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Runs the threads to their end.
    fn work(&self) {
        let work = || {
            // If it panics, the others stop as well; the scope then passes the panic on.
            let _guard = StopOnPanic(&self.is_over);
            if let Err(error) = Worker::new(self).work() {
                self.is_over.store(true, Ordering::Relaxed);
                self.failure.lock().expect("no thread panics while it holds this lock").get_or_insert(error);
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads {
                // With fewer threads it takes longer.
                if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
    }

    fn end(self) -> Result<Report, J::Error> {
        match self.failure.into_inner().expect("no thread panicked") {
            Some(error) => Err(error),
            None => Ok(self.counters.report()),
        }
    }

    /// Whether some thread has failed.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// The next unit of a file that can be read in any order.
    pub fn next_unit(&self) -> Option<(usize, usize)> {
        self.units.get(self.taken.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// The next file that has to be read in order, for a thread that reads `reads` of them already: none for a second one, unless
    /// more wait than threads are free.
    pub fn next_lane(&self, reads: usize) -> Option<usize> {
        let mut lanes = self.lanes();
        if reads > 0 && lanes.waiting.len() <= self.threads.saturating_sub(lanes.busy) {
            return None;
        }
        let lane = lanes.waiting.pop()?;
        lanes.busy += usize::from(reads == 0);
        Some(lane)
    }

    /// Says that a thread reads no file in order any more.
    pub fn end_lanes(&self) {
        self.lanes().busy -= 1;
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().expect("no thread panics while it holds this lock")
    }

    pub fn reads_queued(&self) -> bool {
        self.loader.queued
    }

    /// The GPUs of this load.
    pub fn gpus(&self) -> &[&'static Gpu] {
        self.gpus
    }

    /// A new stream for copies to a GPU. They wait for what uses its memory before.
    pub fn copy_stream(&self, gpu: &Gpu) -> Result<Stream, GpuError> {
        let stream = gpu.stream()?;
        for (_, before) in self.loader.after.iter().filter(|(other, _)| other.ordinal() == gpu.ordinal()) {
            stream.follow(before)?;
        }
        Ok(stream)
    }

    /// Says that so many bytes have been read.
    pub fn advance(&self, bytes: u64) {
        (self.progress)(bytes);
    }

    /// Has a unit hashed that lies on its GPU, at once or with others.
    pub fn landed(&self, number: usize, unit: &Unit) -> Result<(), GpuError> {
        if self.loader.is_unhashed() {
            return Ok(());
        }
        let file = &self.files[number];
        for (index, message) in messages_in(&file.messages, unit) {
            let (hashing, message_number) = self.places[number][index];
            let hashing = &self.hashing[hashing];
            let (start, end) = (message.range.start.max(unit.start), message.range.end.min(unit.end));
            let region = file.region_of(message);
            let room = region.room.device().expect("a message lies on a GPU");
            let bytes = room.bytes(start - region.range.start, end - start);
            hashing.add(Piece { message: message_number, offset: start - message.range.start, bytes })?;
        }
        Ok(())
    }
}

impl<'r> Hashing<'r> {
    fn add(&self, piece: Piece<'r>) -> Result<(), GpuError> {
        let batch = {
            let mut landed = self.landed.lock().expect("no thread panics while it holds this lock");
            landed.bytes += piece.bytes.len();
            landed.pieces.push(piece);
            if landed.bytes < BATCH {
                return Ok(());
            }
            std::mem::take(&mut *landed)
        };
        self.tree.update(self.stream, &batch.pieces)
    }
}

struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
