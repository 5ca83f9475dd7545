//! `sentry bench`

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use sentry::{Algorithm, Device, DeviceBytes, DeviceMemory, Gpu};
use serde_json::json;

use crate::args::{BenchCommand, BenchGpu};
use crate::output::Output;

/// Smallest and largest message that is measured unasked, in bytes; each is four times the one before.
const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 8 << 30;

/// Bytes after which the data repeats: more than the GPU's cache holds.
const PERIOD: u64 = 64 << 20;

/// Memory that is left to the tables and nodes, in bytes.
const SPARED: u64 = 256 << 20;

/// Where messages of a model start: as torch's allocator has it.
const ALIGNMENT: u64 = 512;

/// Longest message: sums of a few million do not overflow.
const MOST_BYTES: u64 = 1 << 40;

/// Runs before the ones that count.
const WARM_UP: u32 = 3;

pub fn run(command: &BenchCommand, output: &Output) -> anyhow::Result<ExitCode> {
    let BenchCommand::Gpu(arguments) = command;
    gpu(arguments, output)
}

fn gpu(arguments: &BenchGpu, output: &Output) -> anyhow::Result<ExitCode> {
    let algorithms: Vec<Algorithm> = match &arguments.hash[..] {
        [] => Algorithm::ALL.into_iter().filter(|&algorithm| Gpu::computes(algorithm)).collect(),
        chosen => chosen.iter().map(|&hash| hash.into()).collect(),
    };
    let device = if arguments.device == Device::Auto { Device::Cuda(0) } else { arguments.device };
    for &algorithm in &algorithms {
        device.gpu_for(algorithm)?.context("this measures GPUs: --device cuda or cuda:N")?;
    }
    let gpu = device.gpu_for(Algorithm::Blake3)?.context("this measures GPUs: --device cuda or cuda:N")?;
    let room = gpu.free_memory().map_err(sentry::Error::from)?.saturating_sub(SPARED);
    let models = match &arguments.lengths {
        Some(file) => vec![lengths(file)?],
        None => sizes(arguments.largest.unwrap_or(LARGEST.min(room))).into_iter().map(|size| vec![size]).collect(),
    };
    let span = models.iter().map(|model| span(model)).max().unwrap_or(0);
    output.print(format!("{}, {} multiprocessors", gpu.name(), gpu.multiprocessors()))?;
    let mut memory = gpu.allocate(span).map_err(sentry::Error::from)?;
    let period = pattern(PERIOD.min(span.max(1)));
    memory.fill(&period).map_err(sentry::Error::from)?;
    let mut measured = Vec::new();
    for &algorithm in &algorithms {
        for model in &models {
            let Measured { digest, on_gpu, whole } = measure(gpu, algorithm, &memory, model, arguments.runs)?;
            if model[0] <= period.len() as u64 && digest != algorithm.digest(&period[..model[0] as usize]) {
                anyhow::bail!("{} computes a wrong {algorithm} of {} bytes: it must not be used", gpu.name(), model[0]);
            }
            let bytes: u64 = model.iter().sum();
            let rate = bytes as f64 / on_gpu.median.as_secs_f64() / 1e9;
            output.print(format!(
                "{:<13} {:>5} × {bytes:>12} B  {rate:>7.1} GB/s  GPU {on_gpu}  call {whole}",
                algorithm.name(),
                model.len()
            ))?;
            let (gpu_seconds, call_seconds) = (on_gpu.json(), whole.json());
            measured.push(json!({
                "hash": algorithm.name(), "messages": model.len(), "bytes": bytes, "gpu_seconds": gpu_seconds, "call_seconds": call_seconds,
            }));
        }
    }
    if output.is_json() {
        output.document(
            &json!({"gpu": gpu.name(), "multiprocessors": gpu.multiprocessors(), "runs": arguments.runs, "measured": measured}),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sizes up to the largest one.
fn sizes(largest: u64) -> Vec<u64> {
    std::iter::successors(Some(SMALLEST), |size| size.checked_mul(4)).take_while(|&size| size < largest).chain([largest]).collect()
}

/// The lengths in a file, one a line.
fn lengths(file: &Path) -> anyhow::Result<Vec<u64>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file:?}"))?;
    let lengths =
        text.lines().map(|line| line.trim().parse::<u64>().with_context(|| format!("{line:?} in {file:?} is no length in bytes")));
    let lengths: Vec<u64> = lengths.collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(!lengths.is_empty(), "{file:?} has no length");
    anyhow::ensure!(lengths.iter().all(|&length| length <= MOST_BYTES), "a length in {file:?} is beyond any GPU's memory");
    Ok(lengths)
}

/// Bytes that messages take which start at multiples of [`ALIGNMENT`].
fn span(model: &[u64]) -> u64 {
    model.iter().map(|length| length.next_multiple_of(ALIGNMENT)).fold(0, u64::saturating_add)
}

struct Measured {
    /// Of the first message.
    digest: sentry::Digest,
    on_gpu: Spread,
    whole: Spread,
}

fn measure(gpu: &'static Gpu, algorithm: Algorithm, memory: &DeviceMemory, model: &[u64], runs: u32) -> Result<Measured, sentry::Error> {
    let mut start = 0;
    let place = |&length: &u64| {
        let bytes = memory.bytes(start, length);
        start += length.next_multiple_of(ALIGNMENT);
        bytes
    };
    let messages: Vec<DeviceBytes<'_>> = model.iter().map(place).collect();
    let stream = gpu.stream()?;
    let (mut on_gpu, mut whole) = (Vec::new(), Vec::new());
    let mut digest = None;
    for run in 0..WARM_UP + runs {
        let began = Instant::now();
        let before = stream.mark()?;
        let pending = gpu.start(algorithm, &messages, &stream)?;
        let after = stream.mark()?;
        digest = pending.wait()?.first().copied();
        let elapsed = began.elapsed();
        if run >= WARM_UP {
            on_gpu.push(after.since(&before)?);
            whole.push(elapsed);
        }
    }
    Ok(Measured { digest: digest.expect("there is at least one message"), on_gpu: Spread::of(on_gpu), whole: Spread::of(whole) })
}

/// Median, fastest and slowest.
struct Spread {
    median: Duration,
    fastest: Duration,
    slowest: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { median: times[times.len() / 2], fastest: times[0], slowest: times[times.len() - 1] }
    }

    fn json(&self) -> serde_json::Value {
        json!({"median": self.median.as_secs_f64(), "fastest": self.fastest.as_secs_f64(), "slowest": self.slowest.as_secs_f64()})
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, fastest, slowest] = [self.median, self.fastest, self.slowest].map(|time| time.as_secs_f64() * 1e3);
        write!(f, "{median:.4} ms [{fastest:.4} {slowest:.4}]")
    }
}

/// Bytes that look random: the multiples of an odd number, from the top.
fn pattern(length: u64) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}
