//! A GPU and its kernels.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use sentry_hash::lattice::{Entry, SourceTag, State};
use sentry_hash::{Algorithm, Backend, Digest, HashError};

use crate::driver::{Context, Driver, Event, Module, PinnedMemory};
use crate::lattice::LatticeKernels;
use crate::plan::Shape;
use crate::samples::SampleKernels;
use crate::tree::TreeKernels;
use crate::workspace::Workspace;
use crate::{DeviceBytes, DeviceMemory, GpuError, Pending, Piece, Stream, TreeHasher, UploadError, modules};

/// An NVIDIA GPU, opened once a process and kept to its end. It takes part in the primary context, as torch and the CUDA runtime do.
#[derive(Debug)]
pub struct Gpu {
    context: &'static Context,
    name: String,
    capability: (i32, i32),
    multiprocessors: u32,
    workspace: Workspace,
    /// Kernels that have passed their test.
    trees: Mutex<BTreeMap<Algorithm, TreeKernels>>,
    lattice: Mutex<Option<LatticeKernels>>,
    samples: Mutex<Option<SampleKernels>>,
    /// Streams on a part of the multiprocessors, by how many were asked for.
    parts: Mutex<BTreeMap<u32, &'static Stream>>,
}

/// A share of a GPU's multiprocessors, more than 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// A share, if it is one.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Gpu {
    /// How many GPUs this process may use.
    ///
    /// # Errors
    /// [`GpuError::NoDriver`], [`GpuError::OldDriver`]; [`GpuError::NoDevice`] if there is none.
    pub fn count() -> Result<usize, GpuError> {
        Driver::load()?.count()
    }

    /// The GPU of this number, as torch and the CUDA runtime count them.
    ///
    /// # Errors
    /// As for [`Gpu::count`], and [`GpuError::OldDevice`]. There is none if the environment hides it.
    pub fn open(ordinal: usize) -> Result<&'static Self, GpuError> {
        static OPEN: Mutex<BTreeMap<usize, &'static Gpu>> = Mutex::new(BTreeMap::new());
        let mut open = lock(&OPEN);
        if let Some(gpu) = open.get(&ordinal) {
            return Ok(gpu);
        }
        let context = Context::retain(Driver::load()?, ordinal)?;
        let (name, capability) = (context.name()?, context.capability()?);
        if modules::image("blake3", capability).is_none() {
            return Err(GpuError::OldDevice { ordinal, name, capability });
        }
        let gpu: &'static Self = Box::leak(Box::new(Self {
            context,
            name,
            capability,
            multiprocessors: context.multiprocessors()?,
            workspace: Workspace::new(context),
            trees: Mutex::default(),
            lattice: Mutex::default(),
            samples: Mutex::default(),
            parts: Mutex::default(),
        }));
        open.insert(ordinal, gpu);
        Ok(gpu)
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.context.ordinal()
    }

    /// Its name, such as `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Major and minor number of its compute capability.
    pub fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// How many multiprocessors it has.
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Whether an algorithm can be computed on a GPU: whether it is a tree.
    pub fn computes(algorithm: Algorithm) -> bool {
        Shape::of(algorithm).is_ok()
    }

    /// A new stream, which waits for no other one.
    ///
    /// # Errors
    /// What the driver says.
    pub fn stream(&self) -> Result<Stream, GpuError> {
        Stream::new(self.context)
    }

    /// A mark to be set in streams, which knows no time.
    ///
    /// # Errors
    /// What the driver says.
    pub fn event(&self) -> Result<Event, GpuError> {
        Event::timeless(self.context)
    }

    /// `length` bytes of this machine's memory, zeroed, from a multiple of 4096 on, which all GPUs can copy from while the processor goes on.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn pinned(&self, length: u64) -> Result<PinnedMemory, GpuError> {
        PinnedMemory::allocate(self.context, length)
    }

    /// Runs a call of another library of NVIDIA's in this GPU's primary context.
    ///
    /// # Errors
    /// What the driver says of entering it.
    pub fn in_context<T>(&self, call: impl FnOnce() -> T) -> Result<T, GpuError> {
        let _bound = self.context.bind()?;
        Ok(call())
    }

    /// Another library's stream, by its handle: such as torch's current one. 0 is the default stream.
    ///
    /// # Safety
    /// It is a stream of this GPU's primary context, and outlives the value.
    #[allow(unsafe_code)]
    pub unsafe fn borrow_stream(&self, handle: usize) -> Stream {
        // SAFETY: as the caller promises.
        unsafe { Stream::borrowed(self.context, handle) }
    }

    /// A stream of the lowest priority, whose work runs on at most this share of the multiprocessors, or on the smallest group that the
    /// GPU sets apart (8 on an H100). There is one for each number of multiprocessors; callers that use it at the same time wait for
    /// each other.
    ///
    /// # Errors
    /// [`GpuError::Share`] if the driver cannot do that.
    pub fn part(&self, share: Share) -> Result<&'static Stream, GpuError> {
        let wanted = (f64::from(self.multiprocessors) * share.0).floor() as u32;
        let wanted = wanted.clamp(1, self.multiprocessors);
        let mut parts = lock(&self.parts);
        if let Some(stream) = parts.get(&wanted) {
            return Ok(stream);
        }
        let stream: &'static Stream = Box::leak(Box::new(Stream::on_part(self.context, wanted)?));
        parts.insert(wanted, stream);
        Ok(stream)
    }

    /// Bytes of its memory that nobody uses.
    ///
    /// # Errors
    /// What the driver says.
    pub fn free_memory(&self) -> Result<u64, GpuError> {
        self.context.free_memory()
    }

    /// `length` bytes of its memory, not zeroed.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn allocate(&self, length: u64) -> Result<DeviceMemory, GpuError> {
        DeviceMemory::allocate(self.context, length)
    }

    /// Queues the hashing of whole messages that lie in this GPU's memory, behind all work that `stream` has been given. Nothing writes
    /// to them until the digests are there.
    ///
    /// # Errors
    /// As for [`TreeHasher`].
    pub fn start<'a>(
        &'static self,
        algorithm: Algorithm,
        messages: &[DeviceBytes<'a>],
        stream: &'a Stream,
    ) -> Result<Pending<'a>, GpuError> {
        let lengths: Vec<u64> = messages.iter().map(DeviceBytes::len).collect();
        let hasher = TreeHasher::new(self, algorithm, &lengths, stream)?;
        let pieces: Vec<Piece<'a>> = messages.iter().enumerate().map(|(message, &bytes)| Piece { message, offset: 0, bytes }).collect();
        hasher.update(stream, &pieces)?;
        hasher.finish(stream)
    }

    pub(crate) fn context(&self) -> &'static Context {
        self.context
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The kernels of a file in `kernels/`.
    pub(crate) fn module(&self, kernels: &'static str) -> Result<Module, GpuError> {
        let image = modules::image(kernels, self.capability).expect("every file is compiled for the same targets");
        Module::load(self.context, image.bytes)
    }

    /// The kernels of an algorithm, which have given the right digests of known bytes on this GPU in this process.
    pub(crate) fn tested_kernels(&'static self, algorithm: Algorithm) -> Result<TreeKernels, GpuError> {
        let shape = Shape::of(algorithm)?;
        let mut trees = lock(&self.trees);
        if let Some(kernels) = trees.get(&algorithm) {
            return Ok(*kernels);
        }
        let module = self.module(shape.kernels)?;
        let function = |part: &str| module.function(&format!("sentry_{}_{part}", shape.kernels));
        let kernels = TreeKernels { leaves: function("leaves")?, join: function("join")? };
        self.test(kernels, shape)?;
        trees.insert(algorithm, kernels);
        Ok(kernels)
    }

    /// Hashes known bytes, of lengths and at addresses that take every way through the kernels, and compares with the CPU.
    fn test(&'static self, kernels: TreeKernels, shape: Shape) -> Result<(), GpuError> {
        let (leaf, block) = (shape.tree.leaf_len(), shape.block_len());
        let messages = [(0, 0), (1, 1), (3, leaf + 1), (16, block), (0, block + leaf + 7)];
        let longest = block + 2 * leaf;
        let bytes: Vec<u8> = (0..longest).map(|index| (index % 251) as u8).collect();
        let mut memory = self.allocate(longest)?;
        memory.fill(&bytes)?;
        let stream = self.stream()?;
        let pieces = [0, 1, 2, 3, 4].map(|message| {
            let (start, length) = messages[message];
            Piece { message, offset: 0, bytes: memory.bytes(start, length) }
        });
        let hasher = TreeHasher::untested(self, kernels, shape, &messages.map(|(_, length)| length), 5, &stream)?;
        hasher.update(&stream, &pieces)?;
        let digests = hasher.finish(&stream)?.wait()?;
        let algorithm = shape.tree.algorithm();
        let expected = messages.map(|(start, length)| algorithm.digest(&bytes[start as usize..(start + length) as usize]));
        if digests != expected {
            return Err(GpuError::SelfTest { ordinal: self.ordinal(), what: algorithm.name() });
        }
        Ok(())
    }

    pub(crate) fn lattice_kernels(&self) -> MutexGuard<'_, Option<LatticeKernels>> {
        lock(&self.lattice)
    }

    pub(crate) fn sample_kernels(&self) -> MutexGuard<'_, Option<SampleKernels>> {
        lock(&self.samples)
    }

    /// The digests of messages in this machine's memory, in their order; they are copied to the GPU bit by bit.
    ///
    /// # Errors
    /// As for [`TreeHasher`].
    pub fn digest_many(&'static self, algorithm: Algorithm, messages: &[&[u8]]) -> Result<Vec<Digest>, GpuError> {
        let lengths: Vec<u64> = messages.iter().map(|message| message.len() as u64).collect();
        let read = |message: usize, offset: u64, room: &mut [u8]| {
            room.copy_from_slice(&messages[message][offset as usize..][..room.len()]);
            Ok::<_, Infallible>(())
        };
        self.digest_read(algorithm, &lengths, &read, &|_| ()).map_err(|error| match error {
            UploadError::Gpu(error) => error,
            UploadError::Read(never) => match never {},
        })
    }
}

/// Algorithms that are no tree are refused: see [`Gpu::computes`].
impl Backend for &'static Gpu {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn digest_many(&self, algorithm: Algorithm, messages: &[&[u8]]) -> Result<Vec<Digest>, HashError> {
        Ok(Gpu::digest_many(self, algorithm, messages)?)
    }

    fn lattice_state(&self, source: &SourceTag, entries: &[Entry]) -> Result<State, HashError> {
        Ok(Gpu::lattice_state(self, source, entries)?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}
