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
//! The parts, each usable by itself:
//!
//! - [`Algorithm`], [`Digest`], [`Hasher`]: one message, one thread, bytes in order.
//! - [`tree`]: the algorithms that are trees. Pieces of one message arrive in any order, are hashed on different
//!   cores (later: on a GPU, as they land) and joined.
//! - [`lattice`] and [`table`]: digests of samples, and of sets of samples in no order.
//! - [`files`]: many files over all cores, several digests of each from one read.
//!
//! [`Backend`] is the seam between places where digests are computed. The same name means the same
//! bytes in every backend; `tests/` runs one body of vectors over all of them.
//!
//! SHA-256, BLAKE2b and SHA-3 of one message are serial by construction: they run as fast as the
//! vetted library does on one core, and several files run beside each other. Their trees (`sha256-tree` and its siblings)
//! are not.

mod algorithm;
mod backend;
mod digest;
mod error;
pub mod files;
mod hasher;
pub mod lattice;
mod many;
mod sha256;
pub mod table;
pub mod tree;

pub use algorithm::Algorithm;
pub use backend::{Backend, Cpu};
pub use digest::Digest;
pub use error::HashError;
pub use hasher::Hasher;
pub use many::blake3_many;
