//! Memory that belongs to Python: tensors to hash, and room to load into. All unsafe code of this package is here, but for the
//! one descriptor that `files` borrows.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use sentry::{DeviceBytes, Fill, Gpu, ManifestError, Memory, Place, Receiver, Stream, TensorInfo};

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

    /// The bytes, to be read.
    fn as_bytes(&self) -> &[u8] {
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

    /// A part of the memory, to be filled.
    #[allow(clippy::mut_from_ref, reason = "the memory is not this value's own")]
    fn room(&self, offset: usize, length: usize) -> &mut [u8] {
        assert!(offset <= self.length && length <= self.length - offset, "a write beyond the tensor's memory");
        if length == 0 {
            return &mut [];
        }
        // SAFETY: as above, and the bounds are checked. The memory was allocated for this load and nobody else has seen it;
        // what a load reads at a time never overlaps, so no two of these slices do.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut((self.address + offset) as *mut u8, length)
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

/// Sends the bytes of a safetensors file to the memory of its tensors.
#[derive(Debug)]
pub struct TensorMemory {
    /// In the order of the file.
    tensors: Vec<(Range<u64>, TensorBytes)>,
}

impl TensorMemory {
    /// Room for `tensors`, in the order of the file, at as many addresses.
    pub fn new(tensors: &[TensorInfo], addresses: &[usize]) -> io::Result<Self> {
        if tensors.len() != addresses.len() {
            return Err(io::Error::other("there must be one address for each tensor"));
        }
        let room = |(tensor, &address): (&TensorInfo, &usize)| {
            let length = usize::try_from(tensor.range.end - tensor.range.start).map_err(io::Error::other)?;
            Ok((tensor.range.clone(), TensorBytes::new(None, address, length)?))
        };
        Ok(Self { tensors: tensors.iter().zip(addresses).map(room).collect::<io::Result<_>>()? })
    }
}

impl Receiver for TensorMemory {
    fn receive(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let first = self.tensors.partition_point(|(range, _)| range.end <= offset);
        for (range, memory) in self.tensors[first..].iter().take_while(|(range, _)| range.start < end) {
            let (start, stop) = (range.start.max(offset), range.end.min(end));
            if start < stop {
                let part = &bytes[(start - offset) as usize..(stop - offset) as usize];
                memory.room((start - range.start) as usize, part.len()).copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn receive_in_place(&self, offset: u64, length: usize, fill: &mut Fill<'_>) -> Option<Result<(), ManifestError>> {
        let (range, memory) = self.tensors.get(self.tensors.partition_point(|(range, _)| range.end <= offset))?;
        let inside = range.start <= offset && offset + length as u64 <= range.end;
        inside.then(|| fill(memory.room((offset - range.start) as usize, length)))
    }
}
