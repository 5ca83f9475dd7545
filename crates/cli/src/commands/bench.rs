//! `sentry bench`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use sentry::{Algorithm, Device, Gpu};
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
    let largest = arguments.largest.unwrap_or(LARGEST.min(room));
    let sizes: Vec<u64> =
        std::iter::successors(Some(SMALLEST), |size| size.checked_mul(4)).take_while(|&size| size < largest).chain([largest]).collect();

    let header = format!("{}, {} multiprocessors", gpu.name(), gpu.multiprocessors());
    output.print(&header)?;
    let mut measured = Vec::new();
    let mut memory = gpu.allocate(largest).map_err(sentry::Error::from)?;
    let period = pattern(PERIOD.min(largest.max(1)));
    memory.fill(&period).map_err(sentry::Error::from)?;
    for &algorithm in &algorithms {
        for &size in &sizes {
            let Measured { digest, on_gpu, whole } = measure(gpu, algorithm, &memory, size, arguments.runs)?;
            if size <= period.len() as u64 && digest != algorithm.digest(&period[..size as usize]) {
                anyhow::bail!("{} computes a wrong {algorithm} of {size} bytes: it must not be used", gpu.name());
            }
            let rate = size as f64 / on_gpu.median.as_secs_f64() / 1e9;
            output.print(format!("{:<13} {size:>12} B  {rate:>7.1} GB/s  GPU {on_gpu}  call {whole}", algorithm.name()))?;
            measured.push(json!({
                "hash": algorithm.name(), "bytes": size, "gpu_seconds": on_gpu.json(), "call_seconds": whole.json(),
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

struct Measured {
    digest: sentry::Digest,
    on_gpu: Spread,
    whole: Spread,
}

fn measure(
    gpu: &'static Gpu,
    algorithm: Algorithm,
    memory: &sentry::DeviceMemory,
    size: u64,
    runs: u32,
) -> Result<Measured, sentry::Error> {
    let stream = gpu.stream()?;
    let (mut on_gpu, mut whole) = (Vec::new(), Vec::new());
    let mut digest = None;
    for run in 0..WARM_UP + runs {
        let began = Instant::now();
        let before = stream.mark()?;
        let pending = gpu.start(algorithm, &[memory.bytes(0, size)], &stream)?;
        let after = stream.mark()?;
        let found = pending.wait()?[0];
        let elapsed = began.elapsed();
        if run >= WARM_UP {
            on_gpu.push(after.since(&before)?);
            whole.push(elapsed);
        }
        digest = Some(found);
    }
    Ok(Measured { digest: digest.expect("there is at least one run"), on_gpu: Spread::of(on_gpu), whole: Spread::of(whole) })
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
