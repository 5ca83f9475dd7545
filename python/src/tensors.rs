//! Tensors in memory: digests, signing, verifying.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::prelude::*;
use sentry::{Algorithm, Cpu, Dtype, Error, MeasuredTensors, Signer, TensorView, TensorsVerifier};

use crate::errors::{OrRaise, usage};
use crate::memory::TensorBytes;
use crate::results::{Signature, Verification};
use crate::trust::{Signing, Trust};

/// A tensor as `sentry._tensors.View` describes it.
#[derive(FromPyObject)]
struct View {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    storage: (u64, u64),
    persistent: bool,
    address: usize,
    nbytes: usize,
}

/// Digests of the tensors of one model, collected in as many steps as there is memory for.
#[pyclass(frozen, module = "sentry._native")]
pub struct TensorDigests(Mutex<MeasuredTensors>);

#[pymethods]
impl TensorDigests {
    #[new]
    fn new(py: Python<'_>, algorithm: &str) -> PyResult<Self> {
        match algorithm {
            "blake3" => Ok(Self(Mutex::new(MeasuredTensors::new(Algorithm::Blake3)))),
            "sha256-tree" => Ok(Self(Mutex::new(MeasuredTensors::new(Algorithm::Sha256Tree)))),
            other => Err(usage(py, format!("tensors are hashed with blake3 or sha256-tree, not {other:?}"))),
        }
    }

    /// Hashes some more tensors. Whoever calls keeps their memory alive meanwhile.
    fn add(&self, py: Python<'_>, views: Vec<View>) -> PyResult<()> {
        let mut memories = Vec::with_capacity(views.len());
        for view in &views {
            memories.push(TensorBytes::new(view.address, view.nbytes)?);
        }
        let mut tensors = Vec::with_capacity(views.len());
        for (view, memory) in views.into_iter().zip(&memories) {
            let View { name, dtype, shape, storage, persistent, .. } = view;
            let Some(dtype) = Dtype::from_name(&dtype) else {
                return Err(usage(py, format!("tensor {name:?} has the unknown type {dtype:?}")));
            };
            tensors.push(TensorView { name, dtype, shape, bytes: memory.as_bytes(), storage, persistent });
        }
        let add = || self.0.lock().expect("no thread panics while it holds this lock").add(&tensors, &Cpu::new());
        py.detach(add).or_raise(py)
    }

    /// Signs them, and writes the signature.
    fn sign(&self, py: Python<'_>, subject: &str, version: Option<u64>, signing: Signing, signature: PathBuf) -> PyResult<Signature> {
        let measured = self.0.lock().expect("no thread panics while it holds this lock");
        let sign = || {
            let timestamp = signing.timestamp.as_deref();
            let sign = |signer: &dyn Signer| sentry::sign_tensors(&measured, subject, version, signer, &signature, timestamp);
            let signed = signing.with_signer(sign)?;
            Ok::<_, Error>(Signature::of_tensors(&signed, signature.display().to_string(), measured.bytes()))
        };
        py.detach(sign).or_raise(py)
    }
}

/// A signature that holds, to check a model in memory with.
#[pyclass(frozen, module = "sentry._native")]
pub struct TensorsCheck(TensorsVerifier);

#[pymethods]
impl TensorsCheck {
    #[new]
    fn new(py: Python<'_>, signatures: Vec<PathBuf>, weights: Option<Vec<String>>, trust: Trust) -> PyResult<Self> {
        py.detach(|| TensorsVerifier::open(&signatures, weights.as_deref(), &*trust.verifier(None)?)).map(Self).or_raise(py)
    }

    /// Where the digests of the model's tensors are to be collected.
    fn digests(&self) -> TensorDigests {
        TensorDigests(Mutex::new(self.0.measured()))
    }

    /// Compares a model in memory with what was signed.
    fn confirm(&self, py: Python<'_>, digests: &TensorDigests, allow_missing: BTreeSet<String>) -> PyResult<Verification> {
        let measured = digests.0.lock().expect("no thread panics while it holds this lock");
        let verified = self.0.confirm(&measured, &allow_missing).or_raise(py)?;
        Ok(Verification::of_memory(self.0.statement().value(), &verified))
    }
}
