//! The NVIDIA driver: the calls that this crate makes, and owners for what they return.
//!
//! All `unsafe` of this crate is here, but for the launches in `tree`, `lattice` and `samples`, and the bodies of a checked column there. What it rests on: handles come from the driver and live as long as their owners; every call
//! that needs the device's context runs while a [`Bound`] of it lives; [`DeviceBytes`] are what their maker promised.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cudarc::driver::{DriverError, result, sys};

use crate::{Gpu, GpuError};

/// The oldest driver that loads the embedded modules: the first one for CUDA 12.
const OLDEST_DRIVER: i32 = 12_000;

/// The first driver with streams of green contexts, which bound work to some multiprocessors.
const GREEN_CONTEXTS: i32 = 12_050;

/// The driver's library: loaded, new enough, and initialised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Driver {
    version: i32,
}

impl Driver {
    /// Loads the library once a process. `cudarc` panics where the library or a function is missing, so both are ruled out here.
    pub fn load() -> Result<Self, GpuError> {
        static DRIVER: OnceLock<Result<Driver, GpuError>> = OnceLock::new();
        DRIVER.get_or_init(Self::load_once).clone()
    }

    fn load_once() -> Result<Self, GpuError> {
        // SAFETY: runs the initialisers of the library that the system's loader finds under the driver's name.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver);
        }
        let mut version = 0;
        // SAFETY: writes one integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|error| failed(0, "asking for the driver's version", error))?;
        if version < OLDEST_DRIVER {
            return Err(GpuError::OldDriver { found: version, needed: OLDEST_DRIVER });
        }
        match result::init() {
            Ok(()) => Ok(Self { version }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Err(GpuError::NoDevice { ordinal: 0, count: 0 }),
            Err(error) => Err(failed(0, "starting the driver", error)),
        }
    }

    /// How many GPUs this process may use.
    pub fn count(self) -> Result<usize, GpuError> {
        let count = result::device::get_count().map_err(|error| failed(0, "counting GPUs", error))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

/// The error for a status of the driver.
fn failed(ordinal: usize, action: &'static str, error: DriverError) -> GpuError {
    use sys::CUresult as Status;
    let status = error.error_name().ok().and_then(|name| name.to_str().ok()).map_or_else(|| format!("{:?}", error.0), str::to_owned);
    match error.0 {
        Status::CUDA_ERROR_OUT_OF_MEMORY => GpuError::OutOfMemory { ordinal, wanted: action.to_owned() },
        Status::CUDA_ERROR_DEVICE_UNAVAILABLE
        | Status::CUDA_ERROR_DEINITIALIZED
        | Status::CUDA_ERROR_ECC_UNCORRECTABLE
        | Status::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | Status::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | Status::CUDA_ERROR_UNKNOWN => GpuError::Lost { ordinal, action, status },
        _ => GpuError::Failed { ordinal, action, status },
    }
}

/// The primary context of a GPU, which torch and the CUDA runtime use as well. Kept to the end of the process.
pub(crate) struct Context {
    driver: Driver,
    ordinal: usize,
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: the driver's handles may be used from any thread.
unsafe impl Send for Context {}
unsafe impl Sync for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {}", self.ordinal)
    }
}

impl Context {
    /// Takes part in the primary context of GPU `ordinal`; makes it if nobody has.
    pub fn retain(driver: Driver, ordinal: usize) -> Result<&'static Self, GpuError> {
        let count = driver.count()?;
        let number = i32::try_from(ordinal).ok().filter(|_| ordinal < count).ok_or(GpuError::NoDevice { ordinal, count })?;
        let device = result::device::get(number).map_err(|error| failed(ordinal, "opening it", error))?;
        // SAFETY: the device exists.
        let raw = unsafe { result::primary_ctx::retain(device) }.map_err(|error| failed(ordinal, "making its context", error))?;
        Ok(Box::leak(Box::new(Self { driver, ordinal, device, raw })))
    }

    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    pub fn name(&self) -> Result<String, GpuError> {
        result::device::get_name(self.device).map_err(|error| failed(self.ordinal, "asking for its name", error))
    }

    /// Major and minor number of what the GPU can do.
    pub fn capability(&self) -> Result<(i32, i32), GpuError> {
        use sys::CUdevice_attribute_enum as Attribute;
        Ok((
            self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ))
    }

    /// How many multiprocessors the GPU has.
    pub fn multiprocessors(&self) -> Result<u32, GpuError> {
        let count = self.attribute(sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(u32::try_from(count).unwrap_or(1).max(1))
    }

    /// Bytes of memory that nobody uses.
    pub fn free_memory(&self) -> Result<u64, GpuError> {
        let (free, _total) = self.call("asking for its free memory", result::mem_get_info)?;
        Ok(free as u64)
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<i32, GpuError> {
        // SAFETY: writes one integer.
        unsafe { result::device::get_attribute(self.device, attribute) }.map_err(|error| failed(self.ordinal, "asking what it is", error))
    }

    /// Makes the context the calling thread's until the value is dropped, and then the former one again: torch keeps its own there.
    pub fn bind(&self) -> Result<Bound, GpuError> {
        // SAFETY: the context lives to the end of the process.
        unsafe { sys::cuCtxPushCurrent_v2(self.raw) }.result().map_err(|error| failed(self.ordinal, "entering its context", error))?;
        Ok(Bound)
    }

    /// Runs a call of the driver in this context.
    fn call<T>(&self, action: &'static str, call: impl FnOnce() -> Result<T, DriverError>) -> Result<T, GpuError> {
        let _bound = self.bind()?;
        call().map_err(|error| failed(self.ordinal, action, error))
    }
}

/// A thread is in a context.
pub(crate) struct Bound;

impl Drop for Bound {
    fn drop(&mut self) {
        let mut left = std::ptr::null_mut();
        // SAFETY: takes off what `bind` put there.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut left) };
    }
}

/// Compiled kernels on a GPU. Never unloaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module {
    context: &'static Context,
    raw: sys::CUmodule,
}

/// A kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Function {
    context: &'static Context,
    raw: sys::CUfunction,
}

// SAFETY: as for the context.
unsafe impl Send for Module {}
unsafe impl Sync for Module {}
unsafe impl Send for Function {}
unsafe impl Sync for Function {}

impl Module {
    /// Loads a cubin, or PTX that ends in a zero byte.
    pub fn load(context: &'static Context, image: &'static [u8]) -> Result<Self, GpuError> {
        assert!(image.starts_with(b"\x7fELF") || image.ends_with(b"\0"), "an image says where it ends");
        // SAFETY: a cubin has its length in its header, and PTX ends in a zero; both are part of this program.
        let raw = context.call("loading kernels", || unsafe { result::module::load_data(image.as_ptr().cast()) })?;
        Ok(Self { context, raw })
    }

    /// The kernel of this name.
    pub fn function(&self, name: &str) -> Result<Function, GpuError> {
        let name = CString::new(name).expect("names of kernels have no zero byte");
        // SAFETY: the module is loaded.
        let raw = self.context.call("finding a kernel", || unsafe { result::module::get_function(self.raw, name) })?;
        Ok(Function { context: self.context, raw })
    }
}

/// An argument of a kernel: every one is a 64-bit integer or address.
pub(crate) type Argument = u64;

/// In what order work runs. Owned, or another library's.
pub struct Stream {
    context: &'static Context,
    raw: sys::CUstream,
    /// Destroyed with this value, and before the multiprocessors that it is bound to.
    owned: bool,
    green: Option<sys::CUgreenCtx>,
}

// SAFETY: as for the context.
unsafe impl Send for Stream {}
unsafe impl Sync for Stream {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:p} of {:?}", self.raw, self.context)
    }
}

impl Stream {
    /// A new stream that waits for no other one.
    pub(crate) fn new(context: &'static Context) -> Result<Self, GpuError> {
        let create = || result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Self { context, raw: context.call("making a stream", create)?, owned: true, green: None })
    }

    /// Another library's stream, such as torch's current one; 0 is the default stream.
    ///
    /// # Safety
    /// It is a stream of this GPU's primary context, and outlives this value and every hasher that was given it.
    pub(crate) unsafe fn borrowed(context: &'static Context, handle: usize) -> Self {
        Self { context, raw: handle as sys::CUstream, owned: false, green: None }
    }

    /// A stream of the lowest priority whose work runs on at most `most` multiprocessors, or on the fewest that the GPU sets apart.
    pub(crate) fn on_part(context: &'static Context, most: u32) -> Result<Self, GpuError> {
        let ordinal = context.ordinal;
        if context.driver.version < GREEN_CONTEXTS {
            return Err(GpuError::Share {
                ordinal,
                reason: "a driver for CUDA 12.5 or later is needed to give work a part of the multiprocessors",
            });
        }
        let _bound = context.bind()?;
        let refused = |error| failed(ordinal, "setting multiprocessors apart", error);
        let (least, _greatest) = result::stream::get_priority_range().map_err(refused)?;
        let mut part = set_apart(context.device, most).map_err(refused)?;
        let mut description = std::ptr::null_mut();
        let mut green = std::ptr::null_mut();
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUgreenCtxCreate_flags::CU_GREEN_CTX_DEFAULT_STREAM as u32;
        let non_blocking = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: each call gets room for what it writes, and what the calls before it gave.
        unsafe {
            sys::cuDevResourceGenerateDesc(&mut description, part.as_mut_ptr(), 1).result().map_err(refused)?;
            sys::cuGreenCtxCreate(&mut green, description, context.device, flags).result().map_err(refused)?;
            let created = sys::cuGreenCtxStreamCreate(&mut raw, green, non_blocking, least).result();
            if let Err(error) = created {
                let _ = sys::cuGreenCtxDestroy(green);
                return Err(refused(error));
            }
        }
        Ok(Self { context, raw, owned: true, green: Some(green) })
    }

    /// Tells this stream from others.
    pub(crate) fn handle(&self) -> usize {
        self.raw as usize
    }

    /// Queues a kernel with a grid of `blocks` blocks of `threads` threads.
    ///
    /// # Safety
    /// The arguments are those of the kernel, and all memory they speak of is there, and not written by others, when it runs.
    pub(crate) unsafe fn launch(&self, function: Function, blocks: u32, threads: u32, arguments: &[Argument]) -> Result<(), GpuError> {
        assert_eq!(function.context.ordinal, self.context.ordinal, "a stream of another GPU");
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|argument| std::ptr::from_ref(argument).cast_mut().cast()).collect();
        // SAFETY: as the caller promises; the driver copies the arguments before it returns.
        self.context.call("launching a kernel", || unsafe {
            result::launch_kernel(function.raw, (blocks, 1, 1), (threads, 1, 1), 0, self.raw, &mut pointers)
        })
    }

    /// Queues the setting of every byte of `memory[start..start + length]`.
    pub(crate) fn fill(&self, memory: &DeviceMemory, start: u64, length: u64, byte: u8) -> Result<(), GpuError> {
        memory.check(start, length);
        // SAFETY: the range was checked.
        unsafe { self.set(memory.address + start, length, byte, "filling memory") }
    }

    /// Queues the setting of every byte of a range.
    ///
    /// # Safety
    /// It lies in this GPU's memory, and is there until this stream has come so far.
    unsafe fn set(&self, address: u64, length: u64, byte: u8, action: &'static str) -> Result<(), GpuError> {
        // SAFETY: as the caller promises.
        self.context.call(action, || unsafe { result::memset_d8_async(address, byte, length as usize, self.raw) })
    }

    /// Queues a copy of `length` bytes from `start` on to the same place on the GPU.
    ///
    /// Whoever owns `from` changes or frees it only when this stream has come so far.
    pub(crate) fn upload(&self, from: &PinnedMemory, to: &DeviceMemory, start: u64, length: u64) -> Result<(), GpuError> {
        to.check(start, length);
        // SAFETY: the range was checked.
        unsafe { self.copy(from, start, to.address + start, length) }
    }

    /// Queues a copy of the first `length` bytes to `start` on the GPU; otherwise as `upload`.
    pub(crate) fn upload_to(&self, from: &PinnedMemory, to: &DeviceMemory, start: u64, length: u64) -> Result<(), GpuError> {
        to.check(start, length);
        // SAFETY: the range was checked.
        unsafe { self.copy(from, 0, to.address + start, length) }
    }

    /// Queues a copy of `from[start..start + length]` to an address on the GPU.
    ///
    /// # Safety
    /// So many bytes from there on lie in this GPU's memory, and are there until this stream has come so far.
    unsafe fn copy(&self, from: &PinnedMemory, start: u64, to: u64, length: u64) -> Result<(), GpuError> {
        from.check(start, length);
        // SAFETY: one range was checked, the other is as the caller promises.
        let copy = || unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.at(start), length as usize, self.raw) }.result();
        self.context.call("copying to the GPU", copy)
    }

    /// Queues a copy of `from[from_start..from_start + length]` to the same number of bytes from `to_start` on.
    ///
    /// Whoever owns `from` changes or frees it only when this stream has come so far.
    ///
    /// # Errors
    /// What the driver says.
    pub fn upload_from(
        &self,
        from: &PinnedMemory,
        from_start: u64,
        to: &DeviceRoom<'_>,
        to_start: u64,
        length: u64,
    ) -> Result<(), GpuError> {
        to.check(to_start, length);
        assert_eq!(to.gpu.ordinal(), self.context.ordinal, "a stream of another GPU");
        // SAFETY: the range was checked.
        unsafe { self.copy(from, from_start, to.address + to_start, length) }
    }

    /// Queues a copy of the first `length` bytes of `from`.
    pub(crate) fn download(&self, from: &DeviceMemory, to: &mut PinnedMemory, length: u64) -> Result<(), GpuError> {
        from.check(0, length);
        to.check(0, length);
        // SAFETY: the ranges were checked.
        let copy = || unsafe { sys::cuMemcpyDtoHAsync_v2(to.at(0), from.address, length as usize, self.raw) }.result();
        self.context.call("copying from the GPU", copy)
    }

    /// Work that is queued from now on waits until `event` has happened.
    pub(crate) fn wait(&self, event: &Event) -> Result<(), GpuError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both exist.
        self.context.call("waiting for another stream", || unsafe { result::stream::wait_event(self.raw, event.raw, flags) })
    }

    /// Work that is queued from now on waits for all that `other` has been given.
    ///
    /// # Errors
    /// What the driver says.
    pub fn follow(&self, other: &Self) -> Result<(), GpuError> {
        self.wait(&other.mark()?)
    }

    /// A mark behind all work that is queued so far.
    pub fn mark(&self) -> Result<Event, GpuError> {
        let event = Event::new(self.context)?;
        event.record(self)?;
        Ok(event)
    }

    /// Waits until all work is done that was queued so far, and says whether any of it failed.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        // SAFETY: the stream exists.
        self.context.call("computing", || unsafe { result::stream::synchronize(self.raw) })
    }
}

/// A device's resource, in an array with room for the longer form that later drivers know.
type Resource = [sys::CUdevResource; 2];

/// At most `most` multiprocessors of a device, or the fewest that it sets apart: it does so in groups, and rounds up.
fn set_apart(device: sys::CUdevice, most: u32) -> Result<Resource, DriverError> {
    let sm = sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_SM;
    // SAFETY: zero is a valid value of these plain structures, and each call gets room for what it writes.
    unsafe {
        let mut all: Resource = std::mem::zeroed();
        sys::cuDeviceGetDevResource(device, all.as_mut_ptr(), sm).result()?;
        for wanted in (1..=most).rev() {
            let (mut part, mut rest): (Resource, Resource) = std::mem::zeroed();
            let mut groups = 1;
            let split = sys::cuDevSmResourceSplitByCount(part.as_mut_ptr(), &mut groups, all.as_ptr(), rest.as_mut_ptr(), 0, wanted);
            // Not so many, or not so few: the next smaller one, down to one, which is always rounded up.
            if split.result().is_ok() && (part[0].__bindgen_anon_1.sm.smCount <= most || wanted == 1) {
                return Ok(part);
            }
        }
    }
    Err(DriverError(sys::CUresult::CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION))
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        // SAFETY: the handles are this value's own. A stream that still works is destroyed when it is done.
        let _ = self.context.call("ending a stream", || unsafe {
            let destroyed = result::stream::destroy(self.raw);
            if let Some(green) = self.green {
                let _ = sys::cuGreenCtxDestroy(green);
            }
            destroyed
        });
    }
}

/// A mark in a stream.
#[derive(Debug)]
pub struct Event {
    context: &'static Context,
    raw: sys::CUevent,
}

// SAFETY: as for the context.
unsafe impl Send for Event {}
unsafe impl Sync for Event {}

impl Event {
    fn new(context: &'static Context) -> Result<Self, GpuError> {
        Self::with(context, sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    /// One that knows no time, and costs less.
    pub(crate) fn timeless(context: &'static Context) -> Result<Self, GpuError> {
        Self::with(context, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    fn with(context: &'static Context, flags: sys::CUevent_flags) -> Result<Self, GpuError> {
        Ok(Self { context, raw: context.call("making an event", || result::event::create(flags))? })
    }

    /// Waits until it has happened, and says whether any work before it failed.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wait(&self) -> Result<(), GpuError> {
        // SAFETY: it exists.
        self.context.call("computing", || unsafe { result::event::synchronize(self.raw) })
    }

    /// Marks what `stream` has been given so far; the former mark is forgotten.
    ///
    /// # Errors
    /// What the driver says.
    pub fn record(&self, stream: &Stream) -> Result<(), GpuError> {
        // SAFETY: both exist.
        self.context.call("marking a stream", || unsafe { result::event::record(self.raw, stream.raw) })
    }

    /// The GPU's time between an earlier mark and this one. Waits for both.
    pub fn since(&self, earlier: &Self) -> Result<Duration, GpuError> {
        let measure = || {
            // SAFETY: both exist.
            unsafe {
                result::event::synchronize(self.raw)?;
                let mut milliseconds = 0.0_f32;
                sys::cuEventElapsedTime(&mut milliseconds, earlier.raw, self.raw).result()?;
                Ok(milliseconds)
            }
        };
        Ok(Duration::from_secs_f32(self.context.call("measuring time", measure)?.max(0.0) / 1000.0))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it is this value's own.
        let _ = self.context.call("ending an event", || unsafe { result::event::destroy(self.raw) });
    }
}

/// Ends the program if a range does not lie in memory of `of` bytes.
fn check_range(start: u64, length: u64, of: u64, what: &str) {
    assert!(start <= of && length <= of - start, "a range beyond {what}");
}

/// Memory of a GPU.
#[derive(Debug)]
pub struct DeviceMemory {
    context: &'static Context,
    address: sys::CUdeviceptr,
    length: u64,
}

impl DeviceMemory {
    /// `length` bytes, not zeroed.
    pub(crate) fn allocate(context: &'static Context, length: u64) -> Result<Self, GpuError> {
        let out_of_memory = GpuError::OutOfMemory { ordinal: context.ordinal, wanted: format!("{length} bytes") };
        let size = usize::try_from(length.max(1)).map_err(|_| out_of_memory.clone())?;
        let _bound = context.bind()?;
        // SAFETY: nothing reads the memory before it is written: kernels write what they read, and the rest is only compared.
        match unsafe { result::malloc_sync(size) } {
            Ok(address) => Ok(Self { context, address, length }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Err(out_of_memory),
            Err(error) => Err(failed(context.ordinal, "allocating memory", error)),
        }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes `bytes` to it again and again until it is full, and waits for that.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], and what the driver says.
    pub fn fill(&mut self, bytes: &[u8]) -> Result<(), GpuError> {
        let length = bytes.len() as u64;
        assert!(length > 0 || self.is_empty(), "nothing fills no memory");
        let stream = Stream::new(self.context)?;
        let mut pinned = PinnedMemory::allocate(self.context, length)?;
        pinned.as_mut_bytes().copy_from_slice(bytes);
        let mut copied = Ok(());
        let mut start = 0;
        while start < self.length && copied.is_ok() {
            let size = length.min(self.length - start);
            copied = stream.upload_to(&pinned, self, start, size);
            start += size;
        }
        stream.synchronize()?;
        copied
    }

    /// Its address on the GPU.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// All of it, to be written to.
    pub fn room<'a>(&'a mut self, gpu: &'static Gpu) -> DeviceRoom<'a> {
        assert_eq!(gpu.ordinal(), self.context.ordinal, "memory of another GPU");
        // SAFETY: the memory is this value's own, which is borrowed as long as the room lives.
        unsafe { DeviceRoom::new(gpu, self.address, self.length) }
    }

    /// A part of it, to be hashed.
    pub fn bytes(&self, start: u64, length: u64) -> DeviceBytes<'_> {
        self.check(start, length);
        // SAFETY: the range was checked, and the memory cannot be freed while it is borrowed.
        unsafe { DeviceBytes::new(self.address + start, length) }
    }

    fn check(&self, start: u64, length: u64) {
        check_range(start, length, self.length, "the GPU's memory");
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: it is this value's own. The driver waits for work that may use it.
        let _ = self.context.call("freeing memory", || unsafe { result::free_sync(self.address) });
    }
}

/// A page of the larger kind, in bytes: memory of so few pages is pinned faster than what the driver allocates.
const HUGE_PAGE: usize = 2 << 20;

/// This machine's memory that a GPU copies from and to while the processor goes on. Any GPU may.
#[derive(Debug)]
pub struct PinnedMemory {
    address: *mut u8,
    length: u64,
    /// Freed with the last of its parts.
    allocation: Arc<Pinned>,
}

/// Memory that is pinned.
#[derive(Debug)]
struct Pinned {
    context: &'static Context,
    address: *mut c_void,
    /// The mapping that it lies in and that is this value's own, with its size; else the driver has allocated it.
    mapping: Option<(*mut c_void, usize)>,
}

// SAFETY: plain memory with one owner; each part of it has one as well.
unsafe impl Send for PinnedMemory {}
unsafe impl Sync for PinnedMemory {}
unsafe impl Send for Pinned {}
unsafe impl Sync for Pinned {}

impl PinnedMemory {
    /// `length` bytes, zeroed, from a multiple of 4096 on.
    pub(crate) fn allocate(context: &'static Context, length: u64) -> Result<Self, GpuError> {
        let out_of_memory = GpuError::OutOfMemory { ordinal: context.ordinal, wanted: format!("{length} bytes of pinned memory") };
        let size = usize::try_from(length.max(1)).map_err(|_| out_of_memory.clone())?;
        let _bound = context.bind()?;
        let allocation = match Pinned::map(context, size) {
            Some(mapped) => mapped,
            // SAFETY: the memory is zeroed before anything reads it.
            None => match unsafe { result::malloc_host(size, sys::CU_MEMHOSTALLOC_PORTABLE) } {
                Ok(address) => {
                    unsafe { std::ptr::write_bytes(address.cast::<u8>(), 0, size) };
                    Pinned { context, address, mapping: None }
                }
                Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => return Err(out_of_memory),
                Err(error) => return Err(failed(context.ordinal, "allocating pinned memory", error)),
            },
        };
        Ok(Self { address: allocation.address.cast(), length, allocation: Arc::new(allocation) })
    }

    /// Parts of this length, one after the other, as many as there are. Each is memory by itself.
    pub fn split(self, length: u64) -> Vec<Self> {
        let count = self.length.checked_div(length).unwrap_or(0);
        let part = |index: u64| Self {
            address: self.address.wrapping_add((index * length) as usize),
            length,
            allocation: Arc::clone(&self.allocation),
        };
        (0..count).map(part).collect()
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the memory is this value's own, was initialised, and lives as long as the allocation.
        unsafe { std::slice::from_raw_parts(self.address, self.length as usize) }
    }

    /// The bytes, to be written.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.length as usize) }
    }

    fn at(&self, start: u64) -> *mut c_void {
        self.address.wrapping_add(start as usize).cast()
    }

    fn check(&self, start: u64, length: u64) {
        check_range(start, length, self.length, "pinned memory");
    }
}

impl Pinned {
    /// Memory of the system, in huge pages if it has some, that the driver is told to pin. `None` if it is too little for that, or
    /// if the system or the driver refuses.
    fn map(context: &'static Context, size: usize) -> Option<Self> {
        if size < HUGE_PAGE {
            return None;
        }
        // Room to begin at a huge page; what is never touched takes no memory.
        let mapped = size.checked_next_multiple_of(HUGE_PAGE)?.checked_add(HUGE_PAGE)?;
        let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        // SAFETY: a new mapping, wherever the system likes it; it is zeroed.
        let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), mapped, protection, rustix::mm::MapFlags::PRIVATE) }.ok()?;
        let address = base.wrapping_byte_add(base.addr().wrapping_neg() % HUGE_PAGE);
        // SAFETY: both ranges lie in the mapping; the advice changes no contents, and may be refused. The rest, beyond the last whole
        // one, is in small pages.
        let registered = unsafe {
            let _ = rustix::mm::madvise(address, size / HUGE_PAGE * HUGE_PAGE, rustix::mm::Advice::LinuxHugepage);
            sys::cuMemHostRegister_v2(address, size, sys::CU_MEMHOSTREGISTER_PORTABLE).result()
        };
        if registered.is_err() {
            // SAFETY: the mapping was made here, and nothing knows of it.
            let _ = unsafe { rustix::mm::munmap(base, mapped) };
            return None;
        }
        Some(Self { context, address, mapping: Some((base, mapped)) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it is this value's own. The driver waits for work that may use it.
        let _ = self.context.call("freeing pinned memory", || match self.mapping {
            None => unsafe { result::free_host(self.address) },
            Some(_) => unsafe { sys::cuMemHostUnregister(self.address) }.result(),
        });
        if let Some((base, mapped)) = self.mapping {
            // SAFETY: as above. Where the driver failed, the system keeps the pages that it has pinned.
            let _ = unsafe { rustix::mm::munmap(base, mapped) };
        }
    }
}

/// Room in a GPU's memory, to be written to.
#[derive(Debug)]
pub struct DeviceRoom<'memory> {
    gpu: &'static Gpu,
    address: u64,
    length: u64,
    memory: std::marker::PhantomData<&'memory mut ()>,
}

impl<'memory> DeviceRoom<'memory> {
    /// Memory that another library reports.
    ///
    /// # Safety
    /// As long as this value lives, `length` bytes from `address` on are that GPU's memory, and nobody else writes to them or frees them.
    pub unsafe fn new(gpu: &'static Gpu, address: u64, length: u64) -> Self {
        Self { gpu, address, length, memory: std::marker::PhantomData }
    }

    /// The GPU.
    pub fn gpu(&self) -> &'static Gpu {
        self.gpu
    }

    /// Where the first byte is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Only a part of it.
    pub fn part(self, start: u64, length: u64) -> Self {
        self.check(start, length);
        Self { address: self.address + start, length, ..self }
    }

    /// A part of it, to be hashed once it is written.
    pub fn bytes(&self, start: u64, length: u64) -> DeviceBytes<'_> {
        self.check(start, length);
        // SAFETY: the range was checked, and the memory is there as long as this is borrowed.
        unsafe { DeviceBytes::new(self.address + start, length) }
    }

    /// Zeroes all of it, and waits for that.
    ///
    /// # Errors
    /// What the driver says.
    pub fn wipe(&self) -> Result<(), GpuError> {
        let context = self.gpu.context();
        // SAFETY: the default stream is always there; it has to do where a full GPU has no room for another one.
        let stream = Stream::new(context).unwrap_or_else(|_| unsafe { Stream::borrowed(context, 0) });
        if !self.is_empty() {
            // SAFETY: it is all there, as the maker promised.
            unsafe { stream.set(self.address, self.length, 0, "wiping memory") }?;
        }
        stream.synchronize()
    }

    fn check(&self, start: u64, length: u64) {
        check_range(start, length, self.length, "the room in the GPU's memory");
    }
}

/// Bytes in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceBytes<'memory> {
    address: u64,
    length: u64,
    memory: std::marker::PhantomData<&'memory ()>,
}

impl DeviceBytes<'_> {
    /// Memory that another library reports.
    ///
    /// # Safety
    /// `length` bytes from `address` on can be read by the GPU that is to hash them, as long as this value lives. If they are written
    /// to meanwhile, the digest is of some mixture and matches nothing.
    pub unsafe fn new(address: u64, length: u64) -> Self {
        Self { address, length, memory: std::marker::PhantomData }
    }

    /// Where the first byte is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}
