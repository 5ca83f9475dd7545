//! Reads from a disk into a GPU's memory that touch none of this machine's: NVIDIA's cuFile (GPUDirect Storage).
//!
//! The library promises its caller to read in any case: what it cannot read directly it copies through memory of its own, which is slower
//! than what this crate does by itself. So it is used only where its reads are known to be direct:
//!
//! 1. The kernel has a way: the module nvidia-fs, or GPU memory that other devices may reach (P2PDMA). Without one, the library is not
//!    even loaded: to start it takes time, and some versions do harm by it.
//! 2. There is a GPU, and the library loads and starts. It reads its own settings, `CUFILE_ENV_PATH_JSON` included.
//! 3. Once started, it says itself that it uses that way.
//! 4. Then, for each file: the library refuses what it cannot read directly, or, where its settings let it copy instead, the file is one
//!    of ext4 or XFS on an NVMe disk of this machine.
//!
//! Nothing depends on it but speed: what landed is hashed where it lies, however it came there.
//!
//! Names, numbers and layouts are those of `cufile.h`, versions 1.14 to 1.20.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;

use libloading::Library;
use sentry_cuda::{DeviceRoom, Gpu, GpuError};

/// The library, wherever the system's loader finds it; the one that torch brings, if that is loaded already.
const LIBRARY: &str = "libcufile.so.0";

/// `CU_FILE_HANDLE_TYPE_OPAQUE_FD`
const OPAQUE_FD: u32 = 1;

/// `CU_FILE_CUDA_DRIVER_ERROR`: the second number of a status counts.
const CUDA_ERROR: u32 = 5011;

/// The numbers of `CUfileOpError`.
const STATUSES: std::ops::RangeInclusive<i64> = 5001..=5050;

/// Bits of `dstatusflags`: local NVMe disks by nvidia-fs, and, in versions that say it there, by P2PDMA.
const NVME_SUPPORTED: u32 = 1 << 4;
const NVME_P2P_SUPPORTED: u32 = 1 << 11;

/// Bit of `fflags`: P2PDMA.
const P2P_SUPPORTED: u32 = 1 << 4;

/// Bits of `dcontrolflags` that let reads go through this machine's memory: compatibility mode, plain reads always, plain reads after a
/// failure.
const ALLOW_COMPAT_MODE: u32 = 1 << 1;
const POSIX_IO_MODE: u32 = 1 << 2;
const FALLBACK_IO_MODE: u32 = 1 << 4;

/// `f_type` of the file systems that cuFile reads directly on a disk of this machine: ext4 and XFS.
const ON_DISK: [u64; 2] = [0xEF53, 0x5846_5342];

type Handle = *mut c_void;

/// `CUfileError_t`
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    code: u32,
    cuda: u32,
}

/// `CUfileDescr_t`
#[repr(C)]
struct Description {
    kind: u32,
    handle: Descriptor,
    operations: *const c_void,
}

#[repr(C)]
union Descriptor {
    fd: c_int,
    pointer: *mut c_void,
}

/// `CUfileDrvProps_t`
#[repr(C)]
#[derive(Default)]
struct Properties {
    major_version: u32,
    minor_version: u32,
    poll_thresh_size: usize,
    max_direct_io_size: usize,
    dstatusflags: u32,
    dcontrolflags: u32,
    fflags: u32,
    max_device_cache_size: u32,
    per_buffer_cache_size: u32,
    max_device_pinned_mem_size: u32,
    max_batch_io_size: u32,
    max_batch_io_timeout_msecs: u32,
}

const _: () = {
    assert!(mem::size_of::<Status>() == 8);
    assert!(mem::size_of::<Description>() == 24 && mem::offset_of!(Description, handle) == 8);
    assert!(mem::size_of::<Properties>() == 56 && mem::offset_of!(Properties, fflags) == 32);
};

/// Why reads do not go from a disk to a GPU directly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDirect {
    /// Neither nvidia-fs nor P2PDMA.
    #[error("the kernel has no way: there is neither a device /dev/nvidia-fs* nor GPU memory that disks may reach (P2PDMA)")]
    NoWay,
    /// The system does not show its modules, which the library waits for without an end.
    #[error("/proc/modules cannot be read, and without it cuFile does not come to an end of starting")]
    NoModuleList,
    /// There is no GPU to read to.
    #[error(transparent)]
    NoGpu(#[from] GpuError),
    /// The library is not there, or lacks a function.
    #[error("cuFile cannot be loaded: {reason}")]
    NoLibrary {
        /// What the system's loader says.
        reason: String,
    },
    /// The library does not start.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The library would copy through this machine's memory.
    #[error("cuFile runs in its compatibility mode, in which it copies through this machine's memory")]
    Compatible,
}

/// What the library refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// What was tried.
    pub action: &'static str,
    /// A number of `CUfileOpError`.
    pub code: u32,
    /// The driver's status, if that was the reason.
    pub cuda: Option<u32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, code, cuda } = self;
        write!(f, "cuFile refuses {action}: error {code}")?;
        let meaning = match code {
            5001 => "nvidia-fs is not loaded",
            5004 | 5005 => "nvidia-fs has another version than it needs",
            5007 => "not on this platform",
            5008 => "not for this file system or disk",
            5009 => "not for this GPU",
            5025 => "not permitted",
            5034 => "its settings forbid it for this file",
            _ => return cuda.map_or(Ok(()), |status| write!(f, " (CUDA error {status})")),
        };
        write!(f, " ({meaning})")
    }
}

/// Why a file is not read by cuFile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CuFileError {
    /// The library refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The library might copy it through this machine's memory.
    #[error("it lies on no disk that cuFile is known to read directly: ext4 or XFS on NVMe")]
    Indirect,
    /// The system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How bytes come from a disk to a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By the kernel module nvidia-fs.
    NvidiaFs,
    /// By the kernel's own P2PDMA.
    P2pDma,
}

impl Transport {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NvidiaFs => "nvidia-fs",
            Self::P2pDma => "P2PDMA",
        }
    }
}

/// Which ways the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ways {
    nvidia_fs: bool,
    p2p_dma: bool,
}

impl Ways {
    fn of_this_machine() -> Result<Self, NotDirect> {
        #[cfg(feature = "device-tests")]
        if seam::is_assumed() {
            return Ok(Self { nvidia_fs: true, p2p_dma: false });
        }
        Self::find(Path::new("/"))
    }

    /// Looks for them in the file system that begins at `root`, and for what the library wants to start.
    fn find(root: &Path) -> Result<Self, NotDirect> {
        let is_nvidia_fs = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("nvidia-fs"));
            number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
                && entry.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device())
        };
        // The driver gives the memory of a GPU to the kernel's pool if all of it can be reached from outside, and is not mapped in a way
        // that forbids it. The folder is there without that as well; only its size tells.
        let has_pool = |entry: fs::DirEntry| {
            let size = fs::read_to_string(entry.path().join("p2pmem/size"));
            size.is_ok_and(|size| size.trim().parse::<u64>().is_ok_and(|size| size > 0))
        };
        let any = |folder: &str, test: &dyn Fn(fs::DirEntry) -> bool| {
            fs::read_dir(root.join(folder)).is_ok_and(|entries| entries.flatten().any(test))
        };
        let ways = Self { nvidia_fs: any("dev", &is_nvidia_fs), p2p_dma: any("sys/bus/pci/drivers/nvidia", &has_pool) };
        if !ways.nvidia_fs && !ways.p2p_dma {
            return Err(NotDirect::NoWay);
        }
        // Read, not only opened: version 1.20 never returns from its start otherwise.
        fs::read(root.join("proc/modules")).map_err(|_| NotDirect::NoModuleList)?;
        Ok(ways)
    }

    /// Which of them the library uses, as it says itself.
    fn used(self, properties: &Properties) -> Option<Transport> {
        if properties.dcontrolflags & POSIX_IO_MODE != 0 {
            return None;
        }
        let p2p_dma = properties.fflags & P2P_SUPPORTED != 0 || properties.dstatusflags & NVME_P2P_SUPPORTED != 0;
        if self.p2p_dma && p2p_dma {
            return Some(Transport::P2pDma);
        }
        (self.nvidia_fs && properties.major_version > 0 && properties.dstatusflags != 0).then_some(Transport::NvidiaFs)
    }
}

/// The library: started, and known to read directly.
#[derive(Debug)]
pub(crate) struct CuFile {
    calls: Calls,
    transport: Transport,
    /// Whether it refuses what it cannot read directly, rather than to copy it.
    is_strict: bool,
    /// Whether it reads NVMe disks of this machine directly.
    reads_nvme: bool,
}

/// The functions of the library, which is never unloaded.
#[derive(Debug)]
struct Calls {
    open: unsafe extern "C" fn() -> Status,
    properties: unsafe extern "C" fn(*mut Properties) -> Status,
    register: unsafe extern "C" fn(*mut Handle, *mut Description) -> Status,
    deregister: unsafe extern "C" fn(Handle),
    read: unsafe extern "C" fn(Handle, *mut c_void, usize, libc::off_t, libc::off_t) -> isize,
}

impl Calls {
    fn load() -> Result<Self, NotDirect> {
        let no_library = |error: libloading::Error| NotDirect::NoLibrary { reason: error.to_string() };
        // SAFETY: runs the initialisers of the library that the system's loader finds under this name.
        let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(LIBRARY) }.map_err(no_library)?));
        // SAFETY: the types are those of `cufile.h`.
        unsafe {
            Ok(Self {
                open: *library.get(b"cuFileDriverOpen\0").map_err(no_library)?,
                properties: *library.get(b"cuFileDriverGetProperties\0").map_err(no_library)?,
                register: *library.get(b"cuFileHandleRegister\0").map_err(no_library)?,
                deregister: *library.get(b"cuFileHandleDeregister\0").map_err(no_library)?,
                read: *library.get(b"cuFileRead\0").map_err(no_library)?,
            })
        }
    }
}

impl CuFile {
    /// Starts the library, once a process, if its reads would be direct.
    pub fn open() -> Result<&'static Self, NotDirect> {
        static OPEN: OnceLock<Result<CuFile, NotDirect>> = OnceLock::new();
        OPEN.get_or_init(|| Self::open_by(Ways::of_this_machine()?)).as_ref().map_err(Clone::clone)
    }

    fn open_by(ways: Ways) -> Result<Self, NotDirect> {
        // The driver is to be started before: the library does not.
        Gpu::count()?;
        let calls = Calls::load()?;
        // SAFETY: takes nothing. It is never closed: others in the process may use it as well, and count on it.
        let opened = with_input_kept(|| unsafe { (calls.open)() });
        checked(opened, "to start")?;
        let mut properties = Properties::default();
        // SAFETY: there is room for what it writes.
        checked(unsafe { (calls.properties)(&raw mut properties) }, "to tell its settings")?;
        let transport = ways.used(&properties).ok_or(NotDirect::Compatible)?;
        Ok(Self {
            calls,
            transport,
            is_strict: properties.dcontrolflags & (ALLOW_COMPAT_MODE | FALLBACK_IO_MODE) == 0,
            reads_nvme: transport == Transport::P2pDma || properties.dstatusflags & NVME_SUPPORTED != 0,
        })
    }

    /// How its reads go.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Makes a file known to the library, if it would be read directly. It was opened with `O_DIRECT`.
    pub fn register(&'static self, file: &File) -> Result<CuFileHandle, CuFileError> {
        let is_direct = self.is_strict || self.reads_nvme && lies_on_nvme(file)?;
        if !is_direct {
            return Err(CuFileError::Indirect);
        }
        // A descriptor of its own: it has to stay open until the library has forgotten it.
        let file = file.try_clone()?;
        let mut handle = Descriptor { pointer: std::ptr::null_mut() };
        handle.fd = file.as_raw_fd();
        let mut description = Description { kind: OPAQUE_FD, handle, operations: std::ptr::null() };
        let mut raw = std::ptr::null_mut();
        // SAFETY: both are there for the call, which writes the first and reads the second.
        checked(unsafe { (self.calls.register)(&raw mut raw, &raw mut description) }, "a file")?;
        Ok(CuFileHandle { library: self, raw, _file: file })
    }
}

/// A file that the library knows.
#[derive(Debug)]
pub(crate) struct CuFileHandle {
    library: &'static CuFile,
    raw: Handle,
    /// Closed after it is deregistered.
    _file: File,
}

// SAFETY: the library's functions may be called from any thread, at the same time.
unsafe impl Send for CuFileHandle {}
unsafe impl Sync for CuFileHandle {}

impl CuFileHandle {
    /// Reads up to `length` bytes from `offset` on to `to[to_start..]`, and waits until they are there. It may read less, and reads
    /// nothing at the end of the file. Work that uses that memory has to be done before.
    pub fn read(&self, to: &DeviceRoom<'_>, to_start: u64, offset: u64, length: u64) -> io::Result<u64> {
        // Fails if it is beyond the room.
        let address = to.bytes(to_start, length).address();
        if length == 0 {
            return Ok(0);
        }
        let (Ok(size), Ok(offset)) = (usize::try_from(length), libc::off_t::try_from(offset)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let call = || {
            // SAFETY: the range was checked and is the room's own; the handle is registered as long as this value lives.
            let read = unsafe { (self.library.calls.read)(self.raw, address as *mut c_void, size, offset, 0) };
            // At once: leaving the GPU's context may change the error.
            if read == -1 { Err(io::Error::last_os_error()) } else { Ok(read as i64) }
        };
        loop {
            let read = to.gpu().in_context(call).map_err(io::Error::other)?;
            if !matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
                return bytes_read(read, length);
            }
        }
    }
}

impl Drop for CuFileHandle {
    fn drop(&mut self) {
        // SAFETY: it was registered, and nobody reads any more.
        unsafe { (self.library.calls.deregister)(self.raw) }
    }
}

/// What a read of `length` bytes came to.
fn bytes_read(read: io::Result<i64>, length: u64) -> io::Result<u64> {
    let read = match read {
        Ok(read) => read,
        // Some versions give the library's own errors as the system's, others as a negative result.
        Err(error) => return Err(own_error(error.raw_os_error().map_or(0, i64::from)).unwrap_or(error)),
    };
    match u64::try_from(read) {
        Ok(read) if read <= length => Ok(read),
        Ok(_) => Err(io::Error::other("cuFile says that it read more than it was asked for")),
        Err(_) => Err(own_error(read.saturating_neg()).unwrap_or_else(|| io::Error::other("cuFile failed without an error"))),
    }
}

/// The error of a read for a number of the library's.
fn own_error(number: i64) -> Option<io::Error> {
    let code = u32::try_from(number).ok().filter(|_| STATUSES.contains(&number))?;
    Some(io::Error::other(Refusal { action: "a read", code, cuda: None }))
}

fn checked(status: Status, action: &'static str) -> Result<(), Refusal> {
    let Status { code, cuda } = status;
    if code == 0 { Ok(()) } else { Err(Refusal { action, code, cuda: (code == CUDA_ERROR).then_some(cuda) }) }
}

/// Whether a file lies on an NVMe disk that is in this machine, in a file system that cuFile reads directly.
fn lies_on_nvme(file: &File) -> io::Result<bool> {
    if !ON_DISK.contains(&(rustix::fs::fstatfs(file)?.f_type as u64)) {
        return Ok(false);
    }
    let device = file.metadata()?.dev();
    let link = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // Not there for file systems of several disks.
    Ok(fs::canonicalize(link).is_ok_and(|device| is_local_nvme(&device)))
}

/// Whether a folder of `/sys` is an NVMe disk, or a part of one, at this machine's PCI bus: not one that is reached over a network, nor
/// one of several paths, which P2PDMA does not go.
fn is_local_nvme(device: &Path) -> bool {
    let Ok(inside) = device.strip_prefix("/sys/devices") else { return false };
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    parts.first().is_some_and(|bus| bus.starts_with("pci")) && parts.contains(&"nvme")
}

/// Runs a call that may close descriptor 0, as versions of `cuFileDriverOpen` do, and opens it again. Else the next file that is opened
/// would be the process's standard input.
fn with_input_kept<T>(call: impl FnOnce() -> T) -> T {
    let input = io::stdin();
    let is_open = || rustix::io::fcntl_getfd(input.as_fd()).is_ok();
    let kept = if is_open() { input.as_fd().try_clone_to_owned().ok() } else { None };
    let done = call();
    if let Some(kept) = kept
        && !is_open()
    {
        // The lowest free number, which replaces no file: another thread may have opened one meanwhile.
        // SAFETY: the call touches no memory.
        let number = unsafe { libc::fcntl(kept.as_raw_fd(), libc::F_DUPFD, 0) };
        if number > 0 {
            // SAFETY: it was made above, and nobody else knows of it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    done
}

/// For tests over an emulated library, on machines whose kernel has no way.
#[cfg(feature = "device-tests")]
mod seam {
    use std::sync::atomic::{AtomicBool, Ordering};

    static ASSUMED: AtomicBool = AtomicBool::new(false);

    pub(super) fn is_assumed() -> bool {
        ASSUMED.load(Ordering::Relaxed)
    }

    /// Has cuFile asked as if this machine had nvidia-fs. Only before the first load.
    pub fn assume_nvidia_fs() {
        ASSUMED.store(true, Ordering::Relaxed);
    }
}

#[cfg(feature = "device-tests")]
pub use seam::assume_nvidia_fs;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_found_where_the_kernel_shows_them() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/modules"), "").unwrap();
        assert_eq!(Ways::find(root.path()), Err(NotDirect::NoWay));
        // A file of that name is no device.
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/nvidia-fs0"), "").unwrap();
        let pool = root.path().join("sys/bus/pci/drivers/nvidia/0000:17:00.0/p2pmem");
        fs::create_dir_all(&pool).unwrap();
        assert_eq!(Ways::find(root.path()), Err(NotDirect::NoWay));
        let found = Ok(Ways { nvidia_fs: false, p2p_dma: true });
        for (size, expected) in [("0\n", Err(NotDirect::NoWay)), ("many\n", Err(NotDirect::NoWay)), ("85899345920\n", found)] {
            fs::write(pool.join("size"), size).unwrap();
            assert_eq!(Ways::find(root.path()), expected);
        }
        // Without a list of modules that can be read the library would not start, nor fail to.
        fs::remove_file(root.path().join("proc/modules")).unwrap();
        assert_eq!(Ways::find(root.path()), Err(NotDirect::NoModuleList));
        fs::create_dir(root.path().join("proc/modules")).unwrap();
        assert_eq!(Ways::find(root.path()), Err(NotDirect::NoModuleList));
    }

    #[test]
    fn the_library_has_to_use_a_way_that_the_kernel_has() {
        let nvidia_fs = Ways { nvidia_fs: true, p2p_dma: false };
        let p2p_dma = Ways { nvidia_fs: false, p2p_dma: true };
        let by_module = Properties { major_version: 2, dstatusflags: NVME_SUPPORTED, ..Properties::default() };
        assert_eq!(nvidia_fs.used(&by_module), Some(Transport::NvidiaFs));
        assert_eq!(p2p_dma.used(&by_module), None);
        for by_kernel in [
            Properties { fflags: P2P_SUPPORTED, ..Properties::default() },
            Properties { dstatusflags: NVME_P2P_SUPPORTED, ..Properties::default() },
        ] {
            assert_eq!(p2p_dma.used(&by_kernel), Some(Transport::P2pDma));
            assert_eq!(nvidia_fs.used(&by_kernel), None);
        }
        assert_eq!(nvidia_fs.used(&Properties::default()), None);
        assert_eq!(nvidia_fs.used(&Properties { dcontrolflags: POSIX_IO_MODE, ..by_module }), None);
    }

    #[test]
    fn only_nvme_at_the_bus_of_this_machine_counts() {
        let disk = "/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0/nvme/nvme0/nvme0n1";
        assert!(is_local_nvme(Path::new(disk)));
        assert!(is_local_nvme(&Path::new(disk).join("nvme0n1p2")));
        for other in [
            "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
            "/sys/devices/virtual/nvme-fabrics/ctl/nvme1/nvme1n1",
            "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda",
            "/sys/devices/virtual/block/md0",
            "/elsewhere/pci0000:16/nvme/nvme0/nvme0n1",
        ] {
            assert!(!is_local_nvme(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn standard_input_stays_what_it_was() {
        // In a process of its own: other tests open files meanwhile.
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cufile::tests::closes_standard_input", "--include-ignored"]).stdin(std::process::Stdio::piped());
        assert!(command.output().unwrap().status.success());
    }

    #[test]
    #[ignore = "run by another test, in a process of its own"]
    fn closes_standard_input() {
        let inode = || rustix::fs::fstat(io::stdin().as_fd()).map(|stat| (stat.st_dev, stat.st_ino));
        let before = inode().unwrap();
        // SAFETY: nobody uses it in this process.
        let closed = with_input_kept(|| unsafe { libc::close(0) });
        assert_eq!((closed, inode()), (0, Ok(before)));
        // What was closed before stays so.
        // SAFETY: as above.
        unsafe { libc::close(0) };
        with_input_kept(|| ());
        assert!(inode().is_err());
    }

    #[test]
    fn refusals_say_what_and_why() {
        let refusal = checked(Status { code: 5008, cuda: 0 }, "a file").unwrap_err();
        assert_eq!(refusal.to_string(), "cuFile refuses a file: error 5008 (not for this file system or disk)");
        let refusal = checked(Status { code: CUDA_ERROR, cuda: 3 }, "to start").unwrap_err();
        assert_eq!(refusal.to_string(), "cuFile refuses to start: error 5011 (CUDA error 3)");
    }

    #[test]
    fn reads_give_no_more_than_was_asked_for() {
        assert_eq!((bytes_read(Ok(0), 7).unwrap(), bytes_read(Ok(7), 7).unwrap()), (0, 7));
        let message = |read| bytes_read(read, 7).unwrap_err().to_string();
        assert!(message(Ok(8)).contains("more than"));
        assert_eq!(message(Ok(-5014)), "cuFile refuses a read: error 5014");
        assert_eq!(message(Err(io::Error::from_raw_os_error(5014))), "cuFile refuses a read: error 5014");
        assert_eq!(bytes_read(Err(io::Error::from_raw_os_error(libc::EIO)), 7).unwrap_err().raw_os_error(), Some(libc::EIO));
        for none in [-2, i64::MIN] {
            assert_eq!(message(Ok(none)), "cuFile failed without an error");
        }
    }
}

/// Over the emulated library, each case in a process of its own: it is told how to fail when it is loaded.
#[cfg(all(test, feature = "device-tests"))]
mod device_tests {
    use std::env;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::{Command, Output};

    use super::*;

    /// More than a page, and no multiple of one.
    const LENGTH: usize = 3 * 4096 + 100;

    fn contents() -> Vec<u8> {
        (0..LENGTH).map(|index| (index % 251) as u8).collect()
    }

    /// Opens, registers, reads to a GPU at an odd place, and prints what came of it.
    #[test]
    #[ignore = "run by the other tests, in a process of its own"]
    fn child() {
        assume_nvidia_fs();
        println!("\nanswer: {}", attempt().unwrap_or_else(|error| error));
        assert!(rustix::io::fcntl_getfd(io::stdin().as_fd()).is_ok(), "standard input is still there");
    }

    fn attempt() -> Result<String, String> {
        let said = |error: &dyn fmt::Display| error.to_string();
        let cufile = CuFile::open().map_err(|error| said(&error))?;
        let named = tempfile::NamedTempFile::new_in(".").unwrap();
        fs::write(&named, contents()).unwrap();
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&named).unwrap();
        let handle = cufile.register(&file).map_err(|error| said(&error))?;
        // The handle needs no other descriptor than its own.
        drop(file);
        let gpu = Gpu::open(0).unwrap();
        let mut memory = gpu.allocate(LENGTH as u64 + 10).unwrap();
        memory.fill(&[0xEE]).unwrap();
        let room = memory.room(gpu);
        let (mut done, mut reads) = (0, 0);
        while done < LENGTH as u64 {
            let read = handle.read(&room, 10 + done, done, LENGTH as u64 - done).map_err(|error| said(&error))?;
            assert!(read > 0);
            (done, reads) = (done + read, reads + 1);
        }
        assert_eq!(handle.read(&room, 0, LENGTH as u64, 10).unwrap(), 0, "the end of the file");
        drop((handle, room));
        let algorithm = sentry_hash::Algorithm::Blake3;
        let stream = gpu.stream().unwrap();
        let digests = gpu.start(algorithm, &[memory.bytes(10, LENGTH as u64)], &stream).unwrap().wait().unwrap();
        let is_right = digests == [algorithm.digest(&contents())];
        Ok(format!("{reads} reads by {}, {}", cufile.transport().name(), if is_right { "right" } else { "wrong" }))
    }

    /// What the child answers with these settings, and the calls of cuFile that it made.
    fn run(settings: &str) -> (String, Vec<String>) {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.env("SENTRY_EMULATED_CUDA", format!("log={};{settings}", log.path().display()));
        command.args(["--exact", "cufile::device_tests::child", "--include-ignored", "--nocapture"]);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let output = String::from_utf8(stdout).unwrap();
        assert!(status.success(), "{output}\n{}", String::from_utf8_lossy(&stderr));
        let answer = output.lines().find_map(|line| line.strip_prefix("answer: ")).unwrap().to_owned();
        let log = fs::read_to_string(log.path()).unwrap();
        (answer, log.lines().filter(|name| name.starts_with("cuFile")).map(str::to_owned).collect())
    }

    #[test]
    fn a_file_is_read_and_forgotten() {
        let (answer, calls) = run("cufile=direct");
        assert_eq!(answer, "1 reads by nvidia-fs, right");
        let expected = ["DriverOpen", "DriverGetProperties", "HandleRegister", "Read", "Read", "HandleDeregister"];
        assert_eq!(calls, expected.map(|name| format!("cuFile{name}")));
    }

    #[test]
    fn reads_may_be_short() {
        assert_eq!(run("cufile=direct;short=cuFileRead:1:5000;short=cuFileRead:2:1").0, "3 reads by nvidia-fs, right");
    }

    #[test]
    fn a_library_that_would_copy_is_not_used() {
        let (answer, calls) = run("cufile=compat");
        assert_eq!(answer, NotDirect::Compatible.to_string());
        assert_eq!(calls, ["cuFileDriverOpen", "cuFileDriverGetProperties"]);
    }

    #[test]
    fn refusals_and_failures_are_errors() {
        for (fault, answer) in [
            ("fail=cuFileDriverOpen:1:5001", "cuFile refuses to start: error 5001 (nvidia-fs is not loaded)"),
            ("fail=cuFileDriverOpen:1:3", "cuFile refuses to start: error 5011 (CUDA error 3)"),
            ("fail=cuFileDriverGetProperties:1:5030", "cuFile refuses to tell its settings: error 5030"),
            ("fail=cuFileHandleRegister:1:5008", "cuFile refuses a file: error 5008 (not for this file system or disk)"),
            ("fail=cuFileRead:1:5014", "cuFile refuses a read: error 5014"),
            ("fail=cuFileRead:1:5", "Input/output error (os error 5)"),
        ] {
            assert_eq!(run(&format!("cufile=direct;{fault}")).0, answer, "{fault}");
        }
        // EINTR: once more.
        assert_eq!(run("cufile=direct;fail=cuFileRead:1:4").0, "1 reads by nvidia-fs, right");
        assert!(run("devices=0").0.starts_with("there is no GPU"));
    }

    #[test]
    fn what_is_read_nowhere_has_another_digest() {
        assert_eq!(run("cufile=direct;skip=cuFileRead:1").0, "1 reads by nvidia-fs, wrong");
    }
}
