//! Digests for Sentry: which algorithms there are, and how to compute them fast on a CPU.
//!
//! ```
//! use sentry_hash::{Algorithm, Backend, Cpu};
//!
//! let digests = Cpu::new().digest_many(Algorithm::Blake3, &[b"weights", b"biases"])?;
//! assert_eq!(digests[0], Algorithm::Blake3.digest(b"weights"));
//! # Ok::<(), sentry_hash::HashError>(())
//! ```
//!
//! Three layers, each usable by itself:
//!
//! - [`Algorithm`], [`Digest`], [`Hasher`]: one message, one thread, bytes in order.
//! - [`blake3_join`]: BLAKE3 of a message whose pieces arrive in any order. BLAKE3 is a tree, so
//!   pieces can be hashed on different cores (later: on a GPU, as they land) and joined.
//! - [`files`]: many files over all cores, several digests of each from one read.
//!
//! [`Backend`] is the seam between places where digests are computed. The same name means the same
//! bytes in every backend; `tests/` runs one body of vectors over all of them.
//!
//! SHA-256, BLAKE2b and SHA-3 of one message are serial by construction: they run as fast as the
//! vetted library does on one core, and several files run beside each other.

mod algorithm;
mod backend;
pub mod blake3_join;
mod digest;
mod error;
pub mod files;
mod hasher;
mod sha256;

pub use algorithm::Algorithm;
pub use backend::{Backend, Cpu};
pub use digest::Digest;
pub use error::HashError;
pub use hasher::Hasher;
