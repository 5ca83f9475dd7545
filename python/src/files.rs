//! Models on disk: signing, verifying, loading.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sentry::{
    Algorithm, Annotation, Error, Header, Method, ModelReader, OpenFile, Part, Receiver, ResourcePath, SignOptions, VerifyOptions,
};

use crate::errors::{OrRaise, usage};
use crate::memory::{self, Destination};
use crate::results::{Extent, Signature, Verification};
use crate::trust::{Signing, Trust};

/// Signs a directory or a file. Paths to ignore are relative to the model.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "the options of one call, by name in Python")]
#[pyo3(signature = (model, signing, *, signature, hash, shard_size, ignore, allow_symlinks, version, annotate))]
pub fn sign_files(
    py: Python<'_>,
    model: PathBuf,
    signing: Signing,
    signature: Option<PathBuf>,
    hash: &str,
    shard_size: Option<u64>,
    ignore: Vec<String>,
    allow_symlinks: bool,
    version: Option<u64>,
    annotate: bool,
) -> PyResult<Signature> {
    let Ok(hash) = hash.parse::<Algorithm>() else {
        return Err(usage(py, format!("unknown hash {hash:?}: choose sha256, blake2b or blake3")));
    };
    let timestamp = signing.timestamp.clone();
    let options = SignOptions { signature, hash, shard_size, ignore, allow_symlinks, version, annotate, timestamp };
    let sign = || signing.with_signer(|signer| sentry::sign_model(&model, signer, &options, &()));
    py.detach(sign).map(|signed| Signature::of_model(&signed)).or_raise(py)
}

/// Verifies a directory or a file.
#[pyfunction]
#[pyo3(signature = (model, trust, *, signatures, ignore, allow_unsigned))]
pub fn verify_files(
    py: Python<'_>,
    model: PathBuf,
    trust: Trust,
    signatures: Vec<PathBuf>,
    ignore: Vec<String>,
    allow_unsigned: bool,
) -> PyResult<Verification> {
    let options = VerifyOptions { signatures, ignore, allow_unsigned };
    let verify = || sentry::verify_model(&model, &*trust.verifier(Some(&model))?, &options, &());
    py.detach(verify).map(|verified| Verification::of_model(&verified)).or_raise(py)
}

/// A model on disk whose signature holds, and of whose files nothing is known yet.
#[pyclass(frozen, module = "sentry._native")]
pub struct Reader(Arc<ModelReader>);

/// A tensor of a file: name, type, shape in elements, first and last byte in the file.
type Described = (String, &'static str, Vec<u64>, u64, u64);

/// A signed file that is open. Nothing of it has been checked but its header, and that only if ``is_annotated``.
#[pyclass(frozen, module = "sentry._native")]
pub struct SignedFile {
    reader: Arc<ModelReader>,
    file: OpenFile,
}

#[pymethods]
impl Reader {
    #[new]
    fn new(py: Python<'_>, model: PathBuf, signatures: Vec<PathBuf>, trust: Trust) -> PyResult<Self> {
        let open = || ModelReader::open(&model, &signatures, &*trust.verifier(Some(&model))?);
        py.detach(open).map(|reader| Self(Arc::new(reader))).or_raise(py)
    }

    /// The names of all signed files.
    fn names(&self) -> Vec<String> {
        self.0.statement().value().manifest.paths().into_iter().map(|path| path.as_str().to_owned()).collect()
    }

    /// Opens a signed file.
    fn open_file(&self, py: Python<'_>, name: &str) -> PyResult<SignedFile> {
        let file = py.detach(|| self.0.open_file(&ResourcePath::new(name)?)).or_raise(py)?;
        Ok(SignedFile { reader: Arc::clone(&self.0), file })
    }

    /// Opens the files that hold the weights.
    fn open_weights(&self, py: Python<'_>, names: Option<Vec<String>>) -> PyResult<Vec<SignedFile>> {
        let files = py.detach(|| self.0.open_weights(names.as_deref())).or_raise(py)?;
        Ok(files.into_iter().map(|file| SignedFile { reader: Arc::clone(&self.0), file }).collect())
    }

    /// Reads a whole file and checks it.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.0.read(&ResourcePath::new(name)?)).or_raise(py)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Loads safetensors files to memory, and checks them: of each file, first and last byte of a region, the GPU that it goes to if it
    /// does, and the address there. ``streams`` are the handles of those that may still use that memory. Until this returns, what lies
    /// there is not to be used; if it fails, it is wiped.
    fn load_tensors(
        &self,
        py: Python<'_>,
        files: Vec<PyRef<'_, SignedFile>>,
        regions: Vec<Vec<Destination>>,
        streams: Vec<(usize, usize)>,
    ) -> PyResult<Verification> {
        if files.len() != regions.len() {
            return Err(usage(py, "there must be regions for each file"));
        }
        let files: Vec<&OpenFile> = files.iter().map(|file| &file.file).collect();
        py.detach(|| self.load_tensors_of(&files, &regions, streams)).or_raise(py)
    }

    /// Copies files to open file descriptors, at the same offsets, and checks them. Until this returns, what lies there is
    /// not to be used.
    fn load_files(&self, py: Python<'_>, files: Vec<PyRef<'_, SignedFile>>, descriptors: Vec<RawFd>) -> PyResult<Verification> {
        if files.len() != descriptors.len() {
            return Err(usage(py, "there must be a descriptor for each file"));
        }
        let mut loads = Vec::with_capacity(files.len());
        for (file, descriptor) in files.iter().zip(descriptors) {
            loads.push((&file.file, Part::Whole, FileReceiver::new(descriptor)?));
        }
        let load = || {
            let files: Vec<&OpenFile> = loads.iter().map(|(file, ..)| *file).collect();
            self.0.load(loads, &())?;
            Ok::<_, Error>(self.verification(&files, BTreeMap::new()))
        };
        py.detach(load).or_raise(py)
    }
}

impl Reader {
    fn load_tensors_of(
        &self,
        files: &[&OpenFile],
        regions: &[Vec<Destination>],
        streams: Vec<(usize, usize)>,
    ) -> Result<Verification, Error> {
        let streams = memory::streams(streams)?;
        let loader = memory::loader_after(&streams);
        let mut loads = Vec::with_capacity(files.len());
        for (&file, regions) in files.iter().zip(regions) {
            loads.push((file, Part::Whole, memory::landing(regions)?));
        }
        let report = self.0.load_to(loads, &loader, &())?;
        let ways = [("page cache", report.cached), ("io_uring", report.queued), ("O_DIRECT", report.direct), ("cuFile", report.cufile)];
        let read_by = ways.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(way, bytes)| (way.to_owned(), bytes));
        Ok(self.verification(files, read_by.collect()))
    }

    /// What to say of files that have just been loaded and checked.
    fn verification(&self, loaded: &[&OpenFile], read_by: BTreeMap<String, u64>) -> Verification {
        let statement = self.0.statement();
        let (mut checked_by, mut tensors) = (BTreeMap::new(), 0);
        for file in loaded {
            let annotation = statement.value().manifest.safetensors(file.path());
            tensors += annotation.map_or(0, |annotation| annotation.tensors.len());
            checked_by.insert(file.path().as_str().to_owned(), self.check_of(file));
        }
        let bytes = loaded.iter().map(|file| file.size()).sum();
        Verification::of_load(statement, Extent { files: loaded.len(), tensors, bytes, checked_by, read_by })
    }

    /// By which of its digests a file is checked when it is loaded.
    fn check_of(&self, file: &OpenFile) -> String {
        let manifest = &self.0.statement().value().manifest;
        let resource = manifest.resources().iter().find(|resource| resource.path == *file.path());
        match resource.and_then(|resource| resource.annotation.as_ref()) {
            Some(Annotation::Safetensors(_)) => "tensors".to_owned(),
            Some(Annotation::Blake3(_)) => "blake3".to_owned(),
            None => match manifest.serialization().method {
                Method::Files => manifest.serialization().hash.to_string(),
                Method::Shards { .. } => format!("{} of shards", manifest.serialization().hash),
            },
        }
    }
}

#[pymethods]
impl SignedFile {
    /// Its name in the model.
    #[getter]
    fn name(&self) -> &str {
        self.file.path().as_str()
    }

    /// Its size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.file.size()
    }

    /// Whether the signature has digests of its header and tensors, so that each can be checked alone.
    #[getter]
    fn is_annotated(&self) -> bool {
        self.reader.statement().value().manifest.safetensors(self.file.path()).is_some()
    }

    /// The tensors in the order of their bytes: name, type, shape in elements, first and last byte in the file.
    fn tensors(&self, py: Python<'_>) -> PyResult<Vec<Described>> {
        let describe = |tensor: &sentry::TensorInfo| {
            (tensor.name.clone(), tensor.dtype.name(), tensor.shape.clone(), tensor.range.start, tensor.range.end)
        };
        Ok(self.header(py)?.tensors.iter().map(describe).collect())
    }

    /// The first byte that a GPU has to hold to check the file: that of the first tensor, or of the file if it has a digest as a whole.
    fn first_byte(&self, py: Python<'_>) -> PyResult<u64> {
        self.header(py)?;
        Ok(self.file.first_byte())
    }

    /// The header's JSON.
    fn header_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.header(py)?;
        Ok(PyBytes::new(py, self.file.head().and_then(|head| head.get(8..)).unwrap_or_default()))
    }

    /// Loads one tensor, by its place among ``tensors``, to an address, of a GPU's memory or of this machine's, and checks it.
    fn load_tensor(&self, py: Python<'_>, place: usize, gpu: Option<usize>, address: usize, streams: Vec<(usize, usize)>) -> PyResult<()> {
        if !self.is_annotated() {
            return Err(usage(py, "the signature has no digests of this file's tensors: load the whole file"));
        }
        let Some(tensor) = self.header(py)?.tensors.get(place) else {
            return Err(usage(py, "the file has no such tensor"));
        };
        let range = tensor.range.clone();
        let load = || {
            let streams = memory::streams(streams)?;
            let loader = memory::loader_after(&streams);
            let landing = memory::landing(&[(range.start, range.end, gpu, address)])?;
            self.reader.load_to(vec![(&self.file, Part::Tensor(place), landing)], &loader, &()).map(drop)
        };
        py.detach(load).or_raise(py)
    }
}

impl SignedFile {
    fn header(&self, py: Python<'_>) -> PyResult<&Header> {
        self.file.header().ok_or_else(|| usage(py, format!("\"{}\" is no safetensors file", self.file.path())))
    }
}

/// Sends a file to another, which nobody else has seen yet.
struct FileReceiver(File);

impl FileReceiver {
    fn new(descriptor: RawFd) -> PyResult<Self> {
        // SAFETY: the package's own Python code passes the descriptor of a file that it keeps open for the whole call; this
        // borrow ends when it is duplicated, here.
        #[allow(unsafe_code)]
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        Ok(Self(File::from(borrowed.try_clone_to_owned()?)))
    }
}

impl Receiver for FileReceiver {
    fn receive(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}
