//! The digests of `sentry-ml-hash` on NVIDIA GPUs: of bytes that lie in their memory, where they lie, and of bytes that land there.
//!
//! ```no_run
//! use sentry_cuda::Gpu;
//! use sentry_hash::Algorithm;
//!
//! let gpu = Gpu::open(0)?;
//! let digests = gpu.digest_many(Algorithm::Blake3, &[b"weights", b"biases"])?;
//! assert_eq!(digests[0], Algorithm::Blake3.digest(b"weights"));
//! # Ok::<(), sentry_cuda::GpuError>(())
//! ```
//!
//! How a digest comes about is told in `docs/gpu.md`. The parts, from the data to the driver:
//!
//! - [`Gpu`]: one device, its kernels, and what it offers: digests of whole messages, lattice sums.
//! - [`TreeHasher`]: pieces of messages that arrive in any order, on any streams.
//! - [`Samples`]: samples of a dataset whose fields lie column by column, and their ids.
//! - `plan`: which launches these take. Plain arithmetic.
//! - `workspace`: memory for tables, nodes and digests, kept between calls.
//! - `driver`: the calls of the driver's library, which is loaded when the first GPU is opened. Neither building nor running needs
//!   anything of CUDA but a driver; without one, opening a GPU is an error, and nothing else changes.
//!
//! Whatever fails is a [`GpuError`]. Nothing is hashed elsewhere instead.

mod driver;
mod error;
mod files;
mod gpu;
mod lattice;
mod modules;
mod plan;
mod samples;
mod tree;
mod upload;
mod workspace;

pub use driver::{DeviceBytes, DeviceMemory, DeviceRoom, Event, PinnedMemory, Stream};
pub use error::GpuError;
pub use gpu::{Gpu, Share};
pub use plan::Piece;
pub use samples::{Column, Ids, Samples, SamplesError};
pub use tree::{Pending, TreeHasher};
pub use upload::{Read, UploadError};
