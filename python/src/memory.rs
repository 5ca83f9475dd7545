//! Memory that belongs to Python: tensors to hash, and room to load into. All unsafe code of this package is here, but for the
//! one descriptor that `files` borrows.

use std::collections::BTreeMap;
use std::io;

use sentry::{DeviceBytes, DeviceRoom, Gpu, HostRoom, Landing, Loader, Memory, Place, Region, Room, Stream};

/// A run of bytes that Python owns and keeps alive for as long as the call lasts that it was passed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorBytes {
    /// The GPU in whose memory they are, or this machine's memory.
    gpu: Option<usize>,
    address: usize,
    length: usize,
}

impl Memory for TensorBytes {
    fn nbytes(&self) -> u64 {
        self.length as u64
    }
}

impl TensorBytes {
    /// Memory at an address that a library such as torch reports.
    pub fn new(gpu: Option<usize>, address: usize, length: usize) -> io::Result<Self> {
        if (address == 0 && length > 0) || address.checked_add(length).is_none() || isize::try_from(length).is_err() {
            return Err(io::Error::other("a tensor has no memory at the address that was given"));
        }
        Ok(Self { gpu, address, length })
    }

    /// The bytes, to be hashed where they lie; `streams` has one for every GPU that tensors are on.
    pub fn place<'a>(&'a self, streams: &'a BTreeMap<usize, TensorStream>) -> Place<'a> {
        let Some(ordinal) = self.gpu else { return Place::Host(self.as_bytes()) };
        let TensorStream { gpu, stream } = &streams[&ordinal];
        // SAFETY: as below: torch reports where a contiguous tensor is in the GPU's memory, and how long it is.
        #[allow(unsafe_code)]
        let bytes = unsafe { DeviceBytes::new(self.address as u64, self.length as u64) };
        Place::Gpu { gpu, bytes, stream }
    }

    /// The bytes of what is in this machine's memory, to be read.
    pub fn as_bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the package's own Python code passes the address and size that the owner of a contiguous tensor reports, and
        // holds a reference to the owner until the call returns. If another thread writes to the tensor meanwhile, the digest
        // is of some mixture and will not match; `sentry.verify_model` tells its callers not to.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.address as *const u8, self.length)
        }
    }
}

/// A GPU, and torch's current stream there.
#[derive(Debug)]
pub struct TensorStream {
    gpu: &'static Gpu,
    stream: Stream,
}

impl TensorStream {
    /// The stream whose handle torch reports.
    pub fn new(ordinal: usize, handle: usize) -> Result<Self, sentry::Error> {
        let gpu = Gpu::open(ordinal)?;
        // SAFETY: torch's streams are of the primary context and are never destroyed; the default stream is always there.
        #[allow(unsafe_code)]
        let stream = unsafe { gpu.borrow_stream(handle) };
        Ok(Self { gpu, stream })
    }
}

/// The streams by GPU, whose handles torch reports.
pub fn streams(handles: Vec<(usize, usize)>) -> Result<BTreeMap<usize, TensorStream>, sentry::Error> {
    handles.into_iter().map(|(gpu, handle)| Ok((gpu, TensorStream::new(gpu, handle)?))).collect()
}

/// A loader to memory that these streams may still use.
pub fn loader_after(streams: &BTreeMap<usize, TensorStream>) -> Loader<'_> {
    Loader { after: streams.values().map(|TensorStream { gpu, stream }| (*gpu, stream)).collect(), ..Loader::default() }
}

/// Bytes of a file and where they go: first and last byte, the GPU in whose memory that is, if it is one, and the address.
pub type Destination = (u64, u64, Option<usize>, usize);

/// The room for one file.
pub fn landing(destinations: &[Destination]) -> Result<Landing<'static>, sentry::Error> {
    let unclear = |reason| Err(sentry::Error::Options { reason });
    let mut regions = Vec::with_capacity(destinations.len());
    for &(start, end, gpu, address) in destinations {
        let Some(length) = end.checked_sub(start) else { return unclear("a region of a file ends before it begins") };
        let fits = usize::try_from(length).is_ok_and(|length| isize::try_from(length).is_ok() && address.checked_add(length).is_some());
        if !fits || (address == 0 && length > 0) {
            return unclear("there is no memory at the address that was given");
        }
        // SAFETY: the package's own Python code passes the address and size of memory that it has just allocated for this load and keeps
        // until the call returns; nobody else has seen it. A GPU's memory may still be in use by torch's current stream: the loader is
        // told to wait for that.
        #[allow(unsafe_code)]
        let room = match gpu {
            None => Room::Host(unsafe { HostRoom::new(address, length) }),
            Some(ordinal) => {
                let gpu = Gpu::open(ordinal)?;
                Room::Device(unsafe { DeviceRoom::new(gpu, address as u64, length) })
            }
        };
        regions.push(Region { range: start..end, room });
    }
    Landing::new(regions).map_err(|_| sentry::Error::Options { reason: "regions of a file overlap" })
}
