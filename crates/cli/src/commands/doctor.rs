//! `sentry doctor`

use std::process::ExitCode;

use sentry::{Device, Diagnosis, FoundGpu, GpuError, GpuFacts, NotDirect, Outlook, diagnose, printable, printable_path};
use serde_json::{Value, json};

use crate::args::Doctor;
use crate::output::{Output, count, size};

pub fn run(arguments: &Doctor, output: &Output) -> anyhow::Result<ExitCode> {
    let diagnosis = diagnose(arguments.model.as_deref(), arguments.device)?;
    let advice = advice(&diagnosis, arguments.device);
    if output.is_json() {
        output.document(&document(arguments, &diagnosis, &advice))?;
    }
    output.print(machine(&diagnosis, arguments.device))?;
    if let Some(model) = &arguments.model {
        output.print(format!("\n{}: {}", printable_path(model), outlook(&diagnosis)))?;
    }
    for advice in advice {
        output.print(format!("hint: {advice}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each thing that a load can make use of.
fn machine(diagnosis: &Diagnosis, device: Device) -> String {
    let machine = &diagnosis.machine;
    let mut text = String::new();
    let mut line = |what: &str, is: String| text.push_str(&format!("{what:<11} {is}\n"));
    line("cores", machine.cores.to_string());
    line("driver", machine.kernel_module.as_ref().map_or("no kernel module of NVIDIA's".to_owned(), |version| printable(version)));
    match &machine.gpus {
        Ok(_) if device == Device::Cpu => line("GPU", "not looked for".to_owned()),
        Ok(gpus) if gpus.is_empty() => line("GPU", "none".to_owned()),
        Ok(gpus) => gpus.iter().for_each(|found| line(&format!("GPU {}", found.ordinal), gpu_line(&found.gpu))),
        Err(error) => line("GPU", format!("none: {error}")),
    }
    let queued = match &machine.io_uring {
        Ok(()) => "works: reads around the page cache are queued".to_owned(),
        Err(error) => format!("does not work: {error}; threads wait for reads around the page cache"),
    };
    line("io_uring", queued);
    let cache = if machine.tells_cached {
        "the system tells what is in it; the rest is read around it"
    } else {
        "the system does not tell what is in it; files are read through it"
    };
    line("page cache", cache.to_owned());
    let cufile = match &machine.cufile {
        Ok(transport) => format!("reads from disks to GPUs by {}", transport.name()),
        Err(reason) => format!("is not used: {}", printable(&reason.to_string())),
    };
    line("cuFile", cufile);
    text.truncate(text.trim_end().len());
    text
}

fn gpu_line(gpu: &Result<GpuFacts, GpuError>) -> String {
    let GpuFacts { name, capability, free_memory, hashes, pins } = match gpu {
        Ok(facts) => facts,
        Err(error) => return format!("cannot be used: {error}"),
    };
    let free = match free_memory {
        Ok(bytes) => format!("{} free", size(*bytes)),
        Err(error) => error.to_string(),
    };
    let works = match (hashes, pins) {
        (Ok(()), Ok(())) => "hashes rightly, has pinned memory".to_owned(),
        (Err(error), _) | (_, Err(error)) => format!("cannot be used: {error}"),
    };
    format!("{}, compute capability {}.{}, {free}; {works}", printable(name), capability.0, capability.1)
}

/// In which way some bytes would be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    InMemory,
    Cached,
    Untold,
    NotAround,
    CuFile,
    IoUring,
    Threads,
}

impl Way {
    const ALL: [Self; 7] = [Self::InMemory, Self::Cached, Self::Untold, Self::NotAround, Self::CuFile, Self::IoUring, Self::Threads];

    /// As in `sentry load --json`.
    fn name(self) -> &'static str {
        match self {
            Self::InMemory | Self::Cached | Self::Untold | Self::NotAround => "page_cache",
            Self::CuFile => "cufile",
            Self::IoUring => "io_uring",
            Self::Threads => "o_direct",
        }
    }

    /// Why, and how.
    fn text(self) -> &'static str {
        match self {
            Self::InMemory => "in a file system in memory: copied from there by threads",
            Self::Cached => "in the page cache: copied from there by threads",
            Self::Untold => "through the page cache by threads: the system does not tell whether they are there",
            Self::NotAround => "through the page cache by threads: this file system cannot be read around it",
            Self::CuFile => "not in the page cache: from the disk to the GPU by cuFile",
            Self::IoUring => "not in the page cache: read around it (O_DIRECT) by io_uring",
            Self::Threads => "not in the page cache: read around it (O_DIRECT) by threads",
        }
    }
}

/// How many bytes would be read in which way, without those that no byte would.
fn ways(diagnosis: &Diagnosis) -> Vec<(Way, u64)> {
    let mut sums = Way::ALL.map(|way| (way, 0));
    let mut add = |way, bytes| sums.iter_mut().filter(|(known, _)| *known == way).for_each(|(_, sum)| *sum += bytes);
    for (_, file) in &diagnosis.files {
        add(through(file), file.through_cache);
        add(around(diagnosis, file), file.around_cache);
    }
    sums.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

/// Why some of a file would be read through the page cache.
fn through(file: &Outlook) -> Way {
    if file.is_in_memory {
        Way::InMemory
    } else if file.around.is_err() {
        Way::NotAround
    } else if file.tells_cached {
        Way::Cached
    } else {
        Way::Untold
    }
}

/// How the rest of it would be read.
fn around(diagnosis: &Diagnosis, file: &Outlook) -> Way {
    if diagnosis.gpu.is_some() && matches!(file.cufile, Some(Ok(()))) {
        Way::CuFile
    } else if diagnosis.machine.io_uring.is_ok() {
        Way::IoUring
    } else {
        Way::Threads
    }
}

/// How the model would be read now.
fn outlook(diagnosis: &Diagnosis) -> String {
    let bytes = diagnosis.files.iter().map(|(_, file)| file.size).sum();
    let place = diagnosis.gpu.map_or("the CPU".to_owned(), |ordinal| Device::Cuda(ordinal).to_string());
    let mut text = format!("{}, {}; loaded to {} now, they would be read", count(diagnosis.files.len(), "file"), size(bytes), place);
    for (way, bytes) in ways(diagnosis) {
        text.push_str(&format!("\n  {:>9}  {}", size(bytes), way.text()));
    }
    for reason in not_around(diagnosis).into_iter().chain(not_by_cufile(diagnosis)) {
        text.push_str(&format!("\n  {reason}"));
    }
    text
}

/// A file that cannot be read around the page cache, though it lies on a disk.
fn not_around(diagnosis: &Diagnosis) -> Option<String> {
    diagnosis.files.iter().filter(|(_, file)| !file.is_in_memory && file.size > 0).find_map(|(path, file)| {
        let error = file.around.as_ref().err()?;
        Some(format!("\"{path}\" cannot be read around the page cache: {error}"))
    })
}

/// A file that cuFile leaves alone, though it reads others.
fn not_by_cufile(diagnosis: &Diagnosis) -> Option<String> {
    diagnosis.files.iter().filter(|(_, file)| diagnosis.gpu.is_some() && file.around_cache > 0).find_map(|(path, file)| {
        let Some(Err(error)) = &file.cufile else { return None };
        Some(format!("\"{path}\" is not read by cuFile: {error}"))
    })
}

/// What somebody could do.
fn advice(diagnosis: &Diagnosis, device: Device) -> Vec<&'static str> {
    let machine = &diagnosis.machine;
    let mut advice = Vec::new();
    if device != Device::Cpu {
        let tried = machine.gpus.as_ref().map(|gpus| gpus.iter().filter_map(|found| found.gpu.as_ref().err()).collect());
        let errors: Vec<&GpuError> = tried.unwrap_or_else(|error| vec![error]);
        for error in errors {
            advice.extend(match error {
                GpuError::NoDriver if machine.kernel_module.is_some() => {
                    Some("the kernel has NVIDIA's driver, and its library is missing here: start the container with its GPUs (--gpus all)")
                }
                GpuError::OldDriver { .. } => Some("install a newer NVIDIA driver to use the GPU"),
                GpuError::NoDevice { .. } => Some("CUDA_VISIBLE_DEVICES or the container may hide GPUs"),
                GpuError::OutOfMemory { .. } => Some("end what else uses the GPU"),
                _ => None,
            });
        }
        let is_any_usable = machine.gpus.as_ref().is_ok_and(|gpus| gpus.iter().any(|found| machine.usable_gpu(found.ordinal).is_some()));
        if !is_any_usable {
            advice.push("without a GPU everything works on the CPU: signing, verifying and loading");
        }
        if is_any_usable {
            advice.extend(match &machine.cufile {
                Err(NotDirect::NoWay) => {
                    Some("for local NVMe disks, cuFile needs NVIDIA's kernel module nvidia-fs, or P2PDMA turned on in the driver; all else works without")
                }
                Err(NotDirect::NoLibrary { .. }) => Some("install NVIDIA's libcufile, which the kernel here is ready for"),
                Err(NotDirect::Compatible) => Some("in the cufile.json that CUFILE_ENV_PATH_JSON names: \"use_pci_p2pdma\": true, or load nvidia-fs"),
                _ => None,
            });
        }
    }
    if machine.io_uring.is_err() {
        advice.push("io_uring is forbidden by the system (kernel.io_uring_disabled) or by the container's seccomp profile");
    }
    if !machine.tells_cached {
        advice.push("Linux 6.5 and later tells what of a file is in memory (cachestat), to its owner and who may write to it, unless a seccomp profile forbids it");
    }
    advice.dedup();
    advice
}

fn error_json(error: &GpuError) -> Value {
    json!({"code": error.code(), "message": error.to_string()})
}

fn gpu_json(found: &FoundGpu) -> Value {
    let FoundGpu { ordinal, gpu } = found;
    match gpu {
        Ok(GpuFacts { name, capability: (major, minor), free_memory, hashes, pins }) => json!({
            "number": ordinal,
            "name": name,
            "capability": [major, minor],
            "free_bytes": free_memory.as_ref().ok(),
            "hashes": hashes.is_ok(),
            "pins": pins.is_ok(),
            "error": hashes.as_ref().err().or(pins.as_ref().err()).or(free_memory.as_ref().err()).map(error_json),
        }),
        Err(error) => json!({"number": ordinal, "error": error_json(error)}),
    }
}

fn document(arguments: &Doctor, diagnosis: &Diagnosis, advice: &[&str]) -> Value {
    let machine = &diagnosis.machine;
    let (gpus, error) = match &machine.gpus {
        Ok(gpus) => (gpus.iter().map(gpu_json).collect(), None),
        Err(error) => (Vec::new(), Some(error_json(error))),
    };
    let model = arguments.model.as_ref().map(|model| {
        let sum = |name: &str| ways(diagnosis).into_iter().filter(|(way, _)| way.name() == name).map(|(_, bytes)| bytes).sum::<u64>();
        json!({
            "path": model.display().to_string(),
            "device": diagnosis.gpu.map_or(Device::Cpu, Device::Cuda).to_string(),
            "files": diagnosis.files.len(),
            "bytes": diagnosis.files.iter().map(|(_, file)| file.size).sum::<u64>(),
            "in_memory_bytes": diagnosis.files.iter().filter(|(_, file)| file.is_in_memory).map(|(_, file)| file.size).sum::<u64>(),
            "read_bytes": {"page_cache": sum("page_cache"), "io_uring": sum("io_uring"), "o_direct": sum("o_direct"), "cufile": sum("cufile")},
            "reasons": not_around(diagnosis).into_iter().chain(not_by_cufile(diagnosis)).collect::<Vec<_>>(),
        })
    });
    json!({
        "cores": machine.cores,
        "kernel_module": machine.kernel_module,
        "gpus": gpus,
        "error": error,
        "io_uring": {"used": machine.io_uring.is_ok(), "reason": machine.io_uring.as_ref().err().map(ToString::to_string)},
        "page_cache": {"told": machine.tells_cached},
        "cufile": {
            "used": machine.cufile.is_ok(),
            "transport": machine.cufile.as_ref().ok().map(|transport| transport.name()),
            "reason": machine.cufile.as_ref().err().map(ToString::to_string),
        },
        "model": model,
        "hints": advice,
    })
}
