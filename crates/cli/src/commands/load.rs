//! `sentry load`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sentry::{
    Algorithm, Device, DeviceMemory, Gpu, HostRoom, Landing, Loader, ModelReader, OpenFile, Part, Region, Report, Room, printable_path,
};
use serde_json::json;

use crate::args::Load;
use crate::output::{Output, count, size};
use crate::progress::Progress;
use crate::trust::Trust;

/// What the last run loaded.
struct Loaded {
    signer: String,
    files: usize,
    bytes: u64,
    device: String,
    report: Report,
}

pub fn run(arguments: &Load, output: &Output) -> anyhow::Result<ExitCode> {
    let trust = Trust::read(&arguments.signed)?;
    let progress = Progress::new(output);
    let mut times = Vec::new();
    let mut loaded = None;
    for _ in 0..arguments.runs {
        let began = Instant::now();
        // The whole of it again: nothing of an earlier run is believed.
        loaded = Some(load(arguments, &trust, &progress, || times.push(began.elapsed()))?);
    }
    drop(progress);
    let loaded = loaded.expect("there is one run at least");
    let first = times[0];
    times.sort_unstable();
    let median = times[times.len() / 2];
    if output.is_json() {
        output.document(&document(arguments, &loaded, first, &times))?;
    }
    output.say(report(arguments, &loaded, first, median));
    Ok(ExitCode::SUCCESS)
}

/// Loads once; says `done` when everything is verified, and frees it.
fn load(arguments: &Load, trust: &Trust, progress: &Progress, done: impl FnOnce()) -> anyhow::Result<Loaded> {
    let verifier = trust.verifier()?;
    let reader = ModelReader::open(&arguments.signed.path, &arguments.signed.signature_paths(), &*verifier)?;
    let named = (!arguments.weights.is_empty()).then_some(&arguments.weights[..]);
    let files = reader.open_weights(named)?;
    let gpu = arguments.device.gpu_for(Algorithm::Blake3)?;
    let mut on_gpu: Vec<DeviceMemory> = Vec::new();
    let mut on_host: Vec<Vec<u8>> = Vec::new();
    let loads: Vec<(&OpenFile, Part, Landing<'_>)> = match gpu {
        Some(gpu) => {
            for file in &files {
                on_gpu.push(gpu.allocate(file.size() - file.first_byte()).map_err(sentry::Error::from)?);
            }
            let rooms = on_gpu.iter_mut().map(|memory| Room::Device(memory.room(gpu)));
            landings(&files, rooms)?
        }
        None => {
            on_host.extend(files.iter().map(|file| vec![0; (file.size() - file.first_byte()) as usize]));
            landings(&files, on_host.iter_mut().map(|memory| Room::Host(HostRoom::from(&mut memory[..]))))?
        }
    };
    let loader = Loader { reading: arguments.reading.into(), ..Loader::default() };
    let report = reader.load_to(loads, &loader, progress)?;
    done();
    Ok(Loaded {
        signer: reader.statement().identity().to_string(),
        files: files.len(),
        bytes: files.iter().map(OpenFile::size).sum(),
        device: gpu.map_or_else(|| Device::Cpu.to_string(), |gpu| format!("cuda:{} ({})", gpu.ordinal(), Gpu::name(gpu))),
        report,
    })
}

fn landings<'f, 'm>(
    files: &'f [OpenFile],
    rooms: impl Iterator<Item = Room<'m>>,
) -> anyhow::Result<Vec<(&'f OpenFile, Part, Landing<'m>)>> {
    let landing = |(file, room): (&'f OpenFile, Room<'m>)| {
        let region = Region { range: file.first_byte()..file.size(), room };
        Ok((file, Part::Whole, Landing::new(vec![region])?))
    };
    files.iter().zip(rooms).map(landing).collect()
}

/// In which ways bytes were read, those that were used.
fn ways(report: &Report) -> Vec<(&'static str, u64)> {
    let ways = [
        ("page cache", report.cached),
        ("io_uring, around the page cache", report.queued),
        ("O_DIRECT, around the page cache", report.direct),
        ("cuFile, from the disk to the GPU", report.cufile),
    ];
    ways.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn report(arguments: &Load, loaded: &Loaded, first: Duration, median: Duration) -> String {
    let Loaded { signer, files, bytes, device, report } = loaded;
    let mut text = format!(
        "loaded {} to {device}, verified ({}, {})\n  signed by  {signer}\n  first run  {:.3} s, {:.1} GB/s",
        printable_path(&arguments.signed.path),
        count(*files, "file"),
        size(*bytes),
        first.as_secs_f64(),
        rate(*bytes, first),
    );
    if arguments.runs > 1 {
        text.push_str(&format!(
            "\n  median     {:.3} s, {:.1} GB/s of {} runs",
            median.as_secs_f64(),
            rate(*bytes, median),
            arguments.runs
        ));
    }
    for (way, bytes) in ways(report) {
        text.push_str(&format!("\n  read       {} by {way}", size(bytes)));
    }
    text.push_str(&format!("\n  with       {}, {} of buffers", count(report.threads, "thread"), size(report.buffers)));
    text
}

fn document(arguments: &Load, loaded: &Loaded, first: Duration, sorted: &[Duration]) -> serde_json::Value {
    let Loaded { signer, files, bytes, device, report } = loaded;
    let Report { threads, cached, queued, direct, cufile, buffers } = report;
    json!({
        "status": "verified",
        "artifact": arguments.signed.path.display().to_string(),
        "signer": signer,
        "device": device,
        "files": files,
        "bytes": bytes,
        "first_seconds": first.as_secs_f64(),
        "seconds": sorted.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
        "threads": threads,
        "buffer_bytes": buffers,
        "read_bytes": {"page_cache": cached, "io_uring": queued, "o_direct": direct, "cufile": cufile},
    })
}
