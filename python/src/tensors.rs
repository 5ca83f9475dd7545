//! Tensors in memory: digests, signing, verifying.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use pyo3::prelude::*;
use sentry::{Algorithm, Device, Dtype, Error, MeasuredTensors, Place, Share, Signer, TensorView, TensorsVerifier};

use crate::errors::{OrRaise, usage};
use crate::memory::{self, TensorBytes};
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
    gpu: Option<usize>,
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

    /// Hashes some more tensors where they lie; those in this machine's memory by `device`. Whoever calls keeps their memory alive
    /// meanwhile. `streams` has torch's current stream on each GPU, as pairs of GPU and handle; `share` is that of a GPU's multiprocessors.
    #[pyo3(signature = (views, streams, device, share=None))]
    fn add(&self, py: Python<'_>, views: Vec<View>, streams: Vec<(usize, usize)>, device: &str, share: Option<f64>) -> PyResult<()> {
        let device: Device = device.parse().map_err(|error: sentry::UnknownDevice| usage(py, error.to_string()))?;
        let share = share.map(|share| Share::new(share).ok_or_else(|| usage(py, "a share is more than 0 and at most 1"))).transpose()?;
        let mut tensors = Vec::with_capacity(views.len());
        for View { name, dtype, shape, storage, persistent, gpu, address, nbytes } in views {
            let Some(dtype) = Dtype::from_name(&dtype) else {
                return Err(usage(py, format!("tensor {name:?} has the unknown type {dtype:?}")));
            };
            if gpu.is_some_and(|gpu| !streams.iter().any(|(known, _)| *known == gpu)) {
                return Err(usage(py, format!("tensor {name:?} is on a GPU whose stream is not given")));
            }
            let memory = TensorBytes::new(gpu, address, nbytes)?;
            tensors.push(TensorView { name, dtype, shape, memory, storage, persistent });
        }
        let add = || {
            let streams = memory::streams(streams)?;
            let digest_many = |algorithm, messages: &[TensorBytes]| {
                let places: Vec<Place<'_>> = messages.iter().map(|message| message.place(&streams)).collect();
                sentry::digest_in_place(algorithm, &places, device, share)
            };
            self.0.lock().expect("no thread panics while it holds this lock").add(&tensors, digest_many)
        };
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

/// Signatures to check a model in memory with. They are checked in a thread of their own, beside whatever Python does next.
#[pyclass(frozen, module = "sentry._native")]
pub struct TensorsCheck(Mutex<Checking>);

/// How far the check has come.
enum Checking {
    Running(JoinHandle<Result<TensorsVerifier, Error>>),
    Holds(Arc<TensorsVerifier>),
    /// Whoever waited was told why.
    Failed,
}

#[pymethods]
impl TensorsCheck {
    /// Begins to check signatures.
    #[new]
    fn new(signatures: Vec<PathBuf>, weights: Option<Vec<String>>, trust: Trust) -> PyResult<Self> {
        let check = move || TensorsVerifier::open(&signatures, weights.as_deref(), &*trust.verifier(None)?);
        Ok(Self(Mutex::new(Checking::Running(thread::Builder::new().spawn(check)?))))
    }

    /// Where the digests of the model's tensors are to be collected, once the signatures are known to hold.
    fn digests(&self, py: Python<'_>) -> PyResult<TensorDigests> {
        Ok(TensorDigests(Mutex::new(self.wait(py)?.measured())))
    }

    /// Compares a model in memory with what was signed.
    fn confirm(&self, py: Python<'_>, digests: &TensorDigests, allow_missing: BTreeSet<String>) -> PyResult<Verification> {
        let verifier = self.wait(py)?;
        let measured = digests.0.lock().expect("no thread panics while it holds this lock");
        let verified = verifier.confirm(&measured, &allow_missing).or_raise(py)?;
        Ok(Verification::of_memory(verifier.statement().value(), &verified))
    }
}

impl TensorsCheck {
    /// Waits until the signatures are known to hold.
    fn wait(&self, py: Python<'_>) -> PyResult<Arc<TensorsVerifier>> {
        let wait = || {
            let mut checking = self.0.lock().expect("no thread panics while it holds this lock");
            let result = match std::mem::replace(&mut *checking, Checking::Failed) {
                Checking::Running(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)).map(Arc::new),
                Checking::Holds(verifier) => Ok(verifier),
                Checking::Failed => Err(Error::Options { reason: "the signatures do not hold, as was said before" }),
            };
            if let Ok(verifier) = &result {
                *checking = Checking::Holds(Arc::clone(verifier));
            }
            result
        };
        py.detach(wait).or_raise(py)
    }
}
