//! What hashing costs a load to a GPU: the same loader with and without it, in turns.
//!
//!     cargo run --release -p sentry-ml-load --features unhashed --example hashing_cost FILE… [--tensor BYTES] [--runs N] [--threads N]
//!
//! Each file is cut into tensors of so many bytes (default: one), all of which are hashed (BLAKE3). Prints one JSON document: seconds of
//! each run, with hashing and without, in pairs.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sentry_cuda::{DeviceMemory, Gpu};
use sentry_hash::files::{FileJob, OpenedFile, Request};
use sentry_hash::{Algorithm, Digest};
use sentry_load::{Landing, Loader, Region, Report, Room};

type Failure = Box<dyn Error + Send + Sync>;

struct Job<'m> {
    file: Arc<File>,
    requests: Vec<Request>,
    landing: Landing<'m>,
}

impl FileJob for Job<'_> {
    type Context = ();
    type Output = ();
    type Error = Failure;

    fn size_hint(&self) -> u64 {
        0
    }

    fn open(&self) -> Result<OpenedFile<()>, Failure> {
        Ok(OpenedFile { file: Arc::clone(&self.file), requests: self.requests.clone(), context: () })
    }

    fn read_error(&self, _: u64, error: io::Error) -> Failure {
        error.into()
    }

    fn has_to_receive(&self, (): &(), _: u64) -> bool {
        false
    }

    fn finish(&self, _: &File, (): &(), _: Vec<Digest>) -> Result<(), Failure> {
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let (mut files, mut tensor, mut runs, mut threads) = (Vec::new(), u64::MAX, 15, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().ok_or("a number is missing")?.parse::<u64>().map_err(|error| error.to_string());
        match argument.as_str() {
            "--tensor" => tensor = number()?,
            "--runs" => runs = number()?,
            "--threads" => threads = Some(number()? as usize),
            _ => files.push(PathBuf::from(argument)),
        }
    }
    let gpu = Gpu::open(0)?;
    let mut memory = Vec::new();
    for file in &files {
        memory.push(gpu.allocate(file.metadata()?.len())?);
    }
    let (mut hashed, mut unhashed, mut report) = (Vec::new(), Vec::new(), Report::default());
    for run in 0..runs + 1 {
        // In both orders.
        for is_hashed in if run % 2 == 0 { [true, false] } else { [false, true] } {
            let began = Instant::now();
            report = load(gpu, &files, &mut memory, tensor, Loader { unhashed: !is_hashed, threads, ..Loader::default() })?;
            let seconds = began.elapsed().as_secs_f64();
            // The first pair warms up.
            if run > 0 {
                (if is_hashed { &mut hashed } else { &mut unhashed }).push(seconds);
            }
        }
    }
    let bytes: u64 = memory.iter().map(DeviceMemory::len).sum();
    let mut ratios: Vec<f64> = hashed.iter().zip(&unhashed).map(|(with, without)| with / without).collect();
    ratios.sort_by(f64::total_cmp);
    let rate = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        bytes as f64 / times[times.len() / 2] / 1e9
    };
    println!(
        "{{\"gpu\": {:?}, \"bytes\": {bytes}, \"hashed_gbps\": {:.2}, \"unhashed_gbps\": {:.2}, \"median_ratio\": {:.4}, \"threads\": {}, \"buffer_bytes\": {}, \"hashed\": {hashed:?}, \"unhashed\": {unhashed:?}}}",
        gpu.name(),
        rate(&hashed),
        rate(&unhashed),
        ratios[ratios.len() / 2],
        report.threads,
        report.buffers,
    );
    Ok(())
}

fn load(gpu: &'static Gpu, files: &[PathBuf], memory: &mut [DeviceMemory], tensor: u64, loader: Loader<'_>) -> Result<Report, Failure> {
    let mut jobs = Vec::new();
    for (file, memory) in files.iter().zip(memory) {
        let size = memory.len();
        let starts = (0..size).step_by(usize::try_from(tensor).unwrap_or(usize::MAX));
        let requests =
            starts.map(|start| Request { range: start..size.min(start.saturating_add(tensor)), algorithm: Algorithm::Blake3 }).collect();
        let landing = Landing::new(vec![Region { range: 0..size, room: Room::Device(memory.room(gpu)) }])?;
        jobs.push(Job { file: Arc::new(File::open(file)?), requests, landing });
    }
    let loaded = loader.load(&jobs, &|job| &job.landing, &|_| ());
    // Nobody looks at it; wiping it is no part of what is measured.
    jobs.into_iter().for_each(|job| job.landing.keep());
    Ok(loaded?.report)
}
