//! What can go wrong on a GPU. Each is an error of the caller's request: there is no other place to hash instead, and no digest.

use sentry_hash::{Algorithm, HashError};

use crate::SamplesError;

/// Why there is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The driver's library cannot be loaded.
    #[error("there is no NVIDIA driver: libcuda cannot be loaded")]
    NoDriver,
    /// The driver is older than the oldest that is supported.
    #[error("the NVIDIA driver is too old: it is made for CUDA {}, and this needs one for {} or later", version(*found), version(*needed))]
    OldDriver {
        /// The driver's CUDA version, 1000 times the major plus 10 times the minor one.
        found: i32,
        /// The oldest that will do.
        needed: i32,
    },
    /// There is no such GPU.
    #[error("there is no GPU {ordinal}: the driver shows {count}")]
    NoDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is older than the kernels.
    #[error("GPU {ordinal} ({name}) has compute capability {}.{}, and at least 7.5 is needed", capability.0, capability.1)]
    OldDevice {
        /// Which GPU.
        ordinal: usize,
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: (i32, i32),
    },
    /// No memory was left.
    #[error("GPU {ordinal} has no memory left for {wanted}; other users of the GPU may hold it, such as torch's cache")]
    OutOfMemory {
        /// Which GPU.
        ordinal: usize,
        /// What was tried, or how many bytes of which memory.
        wanted: String,
    },
    /// The GPU or its context can no longer be used by this process.
    #[error("GPU {ordinal} was lost while {action}: {status}")]
    Lost {
        /// Which GPU.
        ordinal: usize,
        /// What was tried.
        action: &'static str,
        /// The driver's name of the error.
        status: String,
    },
    /// The driver refused, or work failed on the GPU.
    #[error("GPU {ordinal}: {action} failed: {status}")]
    Failed {
        /// Which GPU.
        ordinal: usize,
        /// What was tried.
        action: &'static str,
        /// The driver's name of the error.
        status: String,
    },
    /// All work succeeded, as the driver says, and a digest, or a node that one is made of, was not written.
    #[error("GPU {ordinal} reports success, and did not write result {index}")]
    Unwritten {
        /// Which GPU.
        ordinal: usize,
        /// Which one, digests first.
        index: usize,
    },
    /// A kernel gave a wrong digest of known bytes.
    #[error("GPU {ordinal} computes a wrong {what}: it must not be used")]
    SelfTest {
        /// Which GPU.
        ordinal: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The algorithm is serial.
    #[error("{algorithm} of one message is serial and is not computed on a GPU: use blake3 or one of the trees there, or a CPU")]
    Serial {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// More than the kernels' indices can count.
    #[error("{what} of {found} is beyond what one launch takes")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much.
        found: u64,
    },
    /// A share of the GPU was asked for that it cannot give.
    #[error("GPU {ordinal} cannot be shared: {reason}")]
    Share {
        /// Which GPU.
        ordinal: usize,
        /// Why not.
        reason: &'static str,
    },
    /// Samples cannot be hashed where they lie.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// Pieces do not make up the message.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl GpuError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoDriver => "gpu_no_driver",
            Self::OldDriver { .. } => "gpu_old_driver",
            Self::NoDevice { .. } => "gpu_not_found",
            Self::OldDevice { .. } => "gpu_too_old",
            Self::OutOfMemory { .. } => "gpu_out_of_memory",
            Self::Lost { .. } => "gpu_lost",
            Self::Failed { .. } => "gpu_failed",
            Self::Unwritten { .. } => "gpu_digest_unwritten",
            Self::SelfTest { .. } => "gpu_self_test",
            Self::Serial { .. } => "gpu_serial_algorithm",
            Self::TooLarge { .. } => "gpu_too_large",
            Self::Share { .. } => "gpu_share",
            Self::Samples(_) => "gpu_samples",
            Self::Hash(_) => "hash_failed",
        }
    }
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// For the seams of `sentry-ml-hash`, which know no GPU.
impl From<GpuError> for HashError {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::Hash(error) => error,
            other => Self::Device { code: other.code(), message: other.to_string() },
        }
    }
}
