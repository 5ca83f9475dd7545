//! Where bytes are hashed.

use std::fmt;
use std::str::FromStr;

use sentry_cuda::{DeviceBytes, Gpu, GpuError, Pending, Share, Stream};
use sentry_hash::{Algorithm, Backend, Cpu, Digest};

use crate::Error;

/// Where bytes are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// On this machine's cores.
    #[default]
    Cpu,
    /// On the GPU of this number, or not at all.
    Cuda(usize),
    /// On the first GPU if there is one and the algorithm can be computed there, else on the cores.
    Auto,
}

impl Device {
    /// The GPU to hash with, if it is one.
    ///
    /// # Errors
    /// [`Error::Gpu`] if a GPU was named, and cannot be used or cannot compute `algorithm`; with [`Device::Auto`], if there is one that
    /// does not work: that is no reason to go on as if there were none.
    pub fn gpu_for(self, algorithm: Algorithm) -> Result<Option<&'static Gpu>, Error> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda(_) if !Gpu::computes(algorithm) => Err(GpuError::Serial { algorithm }.into()),
            Self::Cuda(ordinal) => Ok(Some(Gpu::open(ordinal)?)),
            Self::Auto if !Gpu::computes(algorithm) => Ok(None),
            Self::Auto => match Gpu::open(0) {
                Ok(gpu) => Ok(Some(gpu)),
                Err(GpuError::NoDriver | GpuError::OldDriver { .. } | GpuError::NoDevice { .. } | GpuError::OldDevice { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// The text names no place to hash at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device is cpu, cuda, cuda:N or auto")]
pub struct UnknownDevice;

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "auto" => Ok(Self::Auto),
            other => {
                let ordinal = other.strip_prefix("cuda:").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                ordinal.and_then(|digits| digits.parse().ok()).map(Self::Cuda).ok_or(UnknownDevice)
            }
        }
    }
}

/// Bytes where they lie.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// In this machine's memory.
    Host(&'a [u8]),
    /// In a GPU's memory, as they are when `stream` has come to its end.
    Gpu {
        /// The GPU.
        gpu: &'static Gpu,
        /// The bytes.
        bytes: DeviceBytes<'a>,
        /// The stream that writes them.
        stream: &'a Stream,
    },
}

/// The digests of bytes, in their order: those in a GPU's memory are hashed there, at the same time on all GPUs, and those in this
/// machine's memory by `device`. With a `share`, a GPU hashes what lies there on that share of its multiprocessors.
///
/// # Errors
/// [`Error::Gpu`], [`Error::Manifest`]; [`Error::Options`] for a share, where what lies here is to be hashed on a GPU. Nothing is hashed
/// elsewhere instead.
pub fn digest_in_place(algorithm: Algorithm, places: &[Place<'_>], device: Device, share: Option<Share>) -> Result<Vec<Digest>, Error> {
    let mut digests: Vec<Option<Digest>> = vec![None; places.len()];
    let mut fill = |indices: &[usize], found: Vec<Digest>| {
        assert_eq!(indices.len(), found.len(), "one digest for each message");
        for (&index, digest) in indices.iter().zip(found) {
            digests[index] = Some(digest);
        }
    };
    let mut pending = Vec::new();
    for batch in batches(places) {
        let started = start(algorithm, &batch, share)?;
        pending.push((batch.indices, started));
    }
    let host = places.iter().enumerate().filter_map(|(index, place)| match place {
        Place::Host(bytes) => Some((index, *bytes)),
        Place::Gpu { .. } => None,
    });
    let (indices, messages): (Vec<usize>, Vec<&[u8]>) = host.unzip();
    if !messages.is_empty() {
        fill(
            &indices,
            match device.gpu_for(algorithm)? {
                Some(_) if share.is_some() => {
                    return Err(Error::Options { reason: "a share is about what lies on a GPU; the rest is hashed by all of it" });
                }
                Some(gpu) => gpu.digest_many(algorithm, &messages)?,
                None => Cpu::new().digest_many(algorithm, &messages).map_err(sentry_manifest::ManifestError::from)?,
            },
        );
    }
    for (indices, pending) in pending {
        fill(&indices, pending.wait()?);
    }
    Ok(digests.into_iter().map(|digest| digest.expect("every place is in one batch")).collect())
}

/// Messages that one stream writes.
struct Batch<'a> {
    gpu: &'static Gpu,
    stream: &'a Stream,
    indices: Vec<usize>,
    messages: Vec<DeviceBytes<'a>>,
}

/// The messages in GPUs' memory, by stream.
fn batches<'a>(places: &[Place<'a>]) -> Vec<Batch<'a>> {
    let mut batches: Vec<Batch<'a>> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let Place::Gpu { gpu, bytes, stream } = *place else { continue };
        let known = batches.iter_mut().find(|batch| batch.gpu.ordinal() == gpu.ordinal() && std::ptr::eq(batch.stream, stream));
        match known {
            Some(batch) => {
                batch.indices.push(index);
                batch.messages.push(bytes);
            }
            None => batches.push(Batch { gpu, stream, indices: vec![index], messages: vec![bytes] }),
        }
    }
    batches
}

fn start<'a>(algorithm: Algorithm, batch: &Batch<'a>, share: Option<Share>) -> Result<Pending<'a>, Error> {
    let stream = match share {
        None => batch.stream,
        Some(share) => {
            let part = batch.gpu.part(share)?;
            part.follow(batch.stream)?;
            part
        }
    };
    Ok(batch.gpu.start(algorithm, &batch.messages, stream)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (text, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3)), ("auto", Device::Auto)] {
            assert_eq!(text.parse(), Ok(device));
        }
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:99999999999999999999", "CPU"] {
            assert_eq!(wrong.parse::<Device>(), Err(UnknownDevice));
        }
    }

    #[test]
    fn a_serial_hash_is_refused_before_a_gpu_is_looked_for() {
        let refused = Device::Cuda(0).gpu_for(Algorithm::Sha256);
        assert!(matches!(refused, Err(Error::Gpu(GpuError::Serial { algorithm: Algorithm::Sha256 }))));
        assert!(Device::Auto.gpu_for(Algorithm::Sha256).unwrap().is_none());
    }

    #[test]
    fn digests_come_in_the_order_of_the_places() {
        let places = [Place::Host(b"weights"), Place::Host(b""), Place::Host(b"biases")];
        let digests = digest_in_place(Algorithm::Blake3, &places, Device::Cpu, None).unwrap();
        assert_eq!(digests, [&b"weights"[..], b"", b"biases"].map(|message| Algorithm::Blake3.digest(message)));
    }
}
