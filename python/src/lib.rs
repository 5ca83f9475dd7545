//! The native half of the Python package `sentry`: it converts, and decides nothing.
//!
//! Everything here is private to the package. Python hands over paths, keys, and where in memory tensors lie; the crate
//! `sentry-ml` signs, verifies and loads, with the interpreter's lock released; errors become the exceptions of
//! `sentry._errors`.

mod errors;
mod files;
mod keys;
mod memory;
mod results;
mod samples;
mod tensors;
mod trust;

use pyo3::prelude::*;

/// The native half of the package.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::files::{Reader, SignedFile, sign_files, verify_files};
    #[pymodule_export]
    use super::keys::{PrivateKey, PublicKey};
    #[pymodule_export]
    use super::results::{Signature, Verification};
    #[pymodule_export]
    use super::samples::{Epoch, Receipt, SampleChecker, SampleCollector, path_id, sign_dataset_files, verify_dataset_files};
    #[pymodule_export]
    use super::tensors::{TensorDigests, TensorsCheck};
    #[pymodule_export]
    use super::trust::{Certificate, Policy};

    /// The version of the package.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// Whether this build counts bytes where it should hash them, for a benchmark. It verifies nothing.
    #[pymodule_export]
    const COUNTS_BYTES: bool = cfg!(sentry_count_bytes);
}
