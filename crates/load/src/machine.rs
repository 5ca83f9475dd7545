//! What this machine has for loading, and lacks. Each answer is that of an attempt, and none is a guess from a name.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use rustix::fs::MemfdFlags;
use sentry_cuda::{Gpu, GpuError};
use sentry_hash::Algorithm;

use crate::buffers::{Buffer, UNIT};
use crate::cufile::CuFile;
use crate::source::{BLOCK, Reading, Source, Way, cached, is_in_memory};
use crate::uring::Queue;

#[cfg(feature = "device-tests")]
pub use crate::cufile::assume_nvidia_fs;
pub use crate::cufile::{CuFileError, NotDirect, Refusal, Transport};

/// Bytes that are pinned to see whether that can be done: one page of the larger kind.
const PINNED: u64 = 2 << 20;

/// What a load can make use of.
#[derive(Debug)]
pub struct Machine {
    /// How many cores this process may use.
    pub cores: usize,
    /// The version of NVIDIA's kernel module, if it is loaded.
    pub kernel_module: Option<String>,
    /// The GPUs, as far as they were looked for.
    pub gpus: Result<Vec<FoundGpu>, GpuError>,
    /// How cuFile reads from disks to GPUs, or why it is not used.
    pub cufile: Result<Transport, NotDirect>,
    /// Whether reads can be queued by io_uring.
    pub io_uring: io::Result<()>,
    /// Whether the system tells what of a file is in its page cache.
    pub tells_cached: bool,
}

/// Which GPUs are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// None.
    NoGpu,
    /// The one of this number.
    Gpu(usize),
    /// All that the driver shows.
    AllGpus,
}

/// A GPU, and whether a load can use it.
#[derive(Debug)]
pub struct FoundGpu {
    /// Its number.
    pub ordinal: usize,
    /// What it is, or why it cannot be opened.
    pub gpu: Result<GpuFacts, GpuError>,
}

/// What a GPU is and has.
#[derive(Debug)]
pub struct GpuFacts {
    /// Its name.
    pub name: String,
    /// Major and minor number of its compute capability.
    pub capability: (i32, i32),
    /// Bytes of its memory that nobody uses.
    pub free_memory: Result<u64, GpuError>,
    /// Whether it gives the right digests of known bytes.
    pub hashes: Result<(), GpuError>,
    /// Whether memory of this machine can be pinned for it.
    pub pins: Result<(), GpuError>,
}

impl Machine {
    /// Tries what loading uses.
    pub fn examine(search: Search) -> Self {
        let gpus = match search {
            Search::NoGpu => Ok(Vec::new()),
            Search::Gpu(ordinal) => Gpu::count().map(|_| vec![FoundGpu::examine(ordinal)]),
            Search::AllGpus => Gpu::count().map(|count| (0..count).map(FoundGpu::examine).collect()),
        };
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel_module: kernel_module(),
            gpus,
            cufile: CuFile::open().map(CuFile::transport),
            io_uring: Queue::new(1).map(drop),
            tells_cached: tells_cached().unwrap_or(false),
        }
    }

    /// A GPU that can be used, by its number.
    pub fn usable_gpu(&self, ordinal: usize) -> Option<&GpuFacts> {
        let found = self.gpus.as_ref().ok()?.iter().find(|found| found.ordinal == ordinal)?;
        found.gpu.as_ref().ok().filter(|facts| facts.hashes.is_ok() && facts.pins.is_ok())
    }
}

impl FoundGpu {
    fn examine(ordinal: usize) -> Self {
        let examine = |gpu: &'static Gpu| GpuFacts {
            name: gpu.name().to_owned(),
            capability: gpu.capability(),
            free_memory: gpu.free_memory(),
            // The kernels are tested when they are first used.
            hashes: gpu.digest_many(Algorithm::Blake3, &[b"sentry"]).map(drop),
            pins: gpu.pinned(PINNED).map(drop),
        };
        Self { ordinal, gpu: Gpu::open(ordinal).map(examine) }
    }
}

/// The version of NVIDIA's kernel module. There may be one without the library that programs use, as in a container that was given no GPU.
fn kernel_module() -> Option<String> {
    let mut text = String::new();
    File::open("/proc/driver/nvidia/version").ok()?.take(4096).read_to_string(&mut text).ok()?;
    version(&text).map(str::to_owned)
}

/// The first number with points in it.
fn version(text: &str) -> Option<&str> {
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.parse::<u32>().is_ok());
    text.split_whitespace().find(is_version)
}

/// Whether the system answers for a file of our own.
fn tells_cached() -> io::Result<bool> {
    let file = File::from(rustix::fs::memfd_create("sentry", MemfdFlags::CLOEXEC)?);
    file.set_len(BLOCK)?;
    Ok(cached(&file, &(0..BLOCK)).is_some())
}

/// How a file would be read now.
#[derive(Debug)]
pub struct Outlook {
    /// Its size in bytes.
    pub size: u64,
    /// Whether its file system lies in memory: there is no disk, and no page cache to go around.
    pub is_in_memory: bool,
    /// Whether the system tells what of it is in the page cache.
    pub tells_cached: bool,
    /// Whether it can be read around the page cache: its first block was.
    pub around: io::Result<()>,
    /// Bytes that would be read through the page cache, as most of them are in it, or as nothing else can be done.
    pub through_cache: u64,
    /// Bytes that would be read around it.
    pub around_cache: u64,
    /// Whether cuFile would read the latter to a GPU; nothing if there is no cuFile, or if they cannot be read around the cache.
    pub cufile: Option<Result<(), CuFileError>>,
}

impl Outlook {
    /// Asks the system about a file as a load does, and reads its first block.
    ///
    /// # Errors
    /// The system's. That a block cannot be read around the page cache is none.
    pub fn of(file: Arc<File>) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let source = Source::new(Arc::clone(&file), Reading::Auto)?;
        let mut outlook = Self {
            size,
            is_in_memory: is_in_memory(&file)?,
            tells_cached: size > 0 && cached(&file, &(0..size.min(UNIT))).is_some(),
            around: read_around(&source, size),
            through_cache: 0,
            around_cache: 0,
            cufile: None,
        };
        let mut start = 0;
        while start < size {
            let end = size.min(start + UNIT);
            let way = source.way(&(start..end));
            *if way == Way::Direct { &mut outlook.around_cache } else { &mut outlook.through_cache } += end - start;
            start = end;
        }
        if let (Ok(cufile), Some(direct)) = (CuFile::open(), source.direct()) {
            outlook.cufile = Some(cufile.register(direct).map(drop));
        }
        Ok(outlook)
    }
}

/// Reads the first block around the page cache.
fn read_around(source: &Source, size: u64) -> io::Result<()> {
    let mut buffers = Buffer::some(None, 1).map_err(io::Error::other)?;
    let Some(buffer) = buffers.first_mut() else { return Err(io::ErrorKind::OutOfMemory.into()) };
    source.read_around(&(0..size.min(BLOCK)), buffer.bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_kernel_module() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)  Wed Sep";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 12.3.0";
        assert_eq!((version(open), version(closed)), (Some("580.95.05"), Some("535.104.05")));
        for none in ["", "NVRM version: . .. 1. .1 x.y", "NVRM version: 580"] {
            assert_eq!(version(none), None, "{none}");
        }
    }

    #[test]
    fn no_gpu_is_looked_for_unasked() {
        let machine = Machine::examine(Search::NoGpu);
        assert_eq!(machine.gpus.as_deref().map(<[FoundGpu]>::len), Ok(0));
        assert!(machine.cores > 0 && machine.usable_gpu(0).is_none());
    }

    #[test]
    fn every_byte_of_a_file_has_a_way() {
        let size = 2 * UNIT + 100;
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        file.as_file().set_len(size).unwrap();
        file.as_file().sync_all().unwrap();
        let open = || Arc::new(file.reopen().unwrap());
        let outlook = Outlook::of(open()).unwrap();
        assert_eq!((outlook.size, outlook.through_cache + outlook.around_cache), (size, size));
        if !outlook.is_in_memory {
            assert_eq!(outlook.around.is_ok(), Source::new(open(), Reading::Direct).unwrap().direct().is_some());
        }
        // Nothing was read: it is in no cache, if the system says so.
        if outlook.tells_cached && outlook.around.is_ok() && cached(file.as_file(), &(0..size)) == Some(0) {
            assert_eq!(outlook.around_cache, size);
        }
        std::io::copy(&mut &*open(), &mut io::sink()).unwrap();
        if cached(file.as_file(), &(0..size)).is_some_and(|bytes| bytes >= size) {
            assert_eq!(Outlook::of(open()).unwrap().through_cache, size);
        }
    }

    #[test]
    fn a_file_in_memory_is_read_there() {
        let file = File::from(rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(3 * BLOCK).unwrap();
        let outlook = Outlook::of(Arc::new(file)).unwrap();
        assert!(outlook.is_in_memory && outlook.around.is_err() && outlook.cufile.is_none());
        assert_eq!((outlook.through_cache, outlook.around_cache), (3 * BLOCK, 0));
        let empty = File::from(rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        assert_eq!(Outlook::of(Arc::new(empty)).unwrap().size, 0);
    }
}
