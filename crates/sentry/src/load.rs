//! Loading: the bytes of signed files, handed out once they are known to be the signed ones.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use sentry_bundle::Statement;
use sentry_cuda::Gpu;
use sentry_hash::Cpu;
use sentry_hash::files::Progress;
use sentry_load::{Landing, Loader, Report};
use sentry_manifest::limits::MAX_INDEX_BYTES;
use sentry_manifest::load::{self, FileLoad, Head, Load, LoadOutput, Memory, Part, Receiver, SignedFile, load};
use sentry_manifest::safetensors::Header;
use sentry_manifest::{Annotation, Index, ManifestError, ModelTree, ResourcePath, Weights, printable};
use sentry_trust::{Difference, DifferenceKind, Verified, Verifier, VerifyError};

use crate::signature_file::{read_verified, signature_paths};
use crate::{Error, Observer};

/// A model on disk whose signature holds, and of whose files nothing is known yet. Only signed files can be opened, beneath
/// one handle on the model, each by its signed name; what else lies there is never looked at.
///
/// ```
/// use sentry::{KeyAlgorithm, ModelReader, PrivateKey, ResourcePath, SignOptions, TrustedKey};
///
/// # let dir = tempfile::tempdir()?;
/// # let model = dir.path().join("my-model");
/// # std::fs::create_dir(&model)?;
/// # std::fs::write(model.join("config.json"), "{}")?;
/// # let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256)?;
/// # sentry::sign_model(&model, &key, &SignOptions::default(), &())?;
/// let reader = ModelReader::open(&model, &[], &TrustedKey::new(key.public()))?;
/// let config = reader.read(&ResourcePath::new("config.json")?)?;
/// assert_eq!(config, b"{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ModelReader {
    tree: ModelTree,
    statement: Verified<Statement>,
    cpu: Cpu,
}

/// A signed file that is open, with its header if it is a safetensors file. Its bytes have not been checked; the header has,
/// if the signature has a digest of it.
#[derive(Debug)]
pub struct OpenFile {
    file: SignedFile,
    header: Option<(Head, Header)>,
    /// Whether a GPU can compute its digest, and that of all its bytes.
    is_hashed_whole: bool,
}

impl OpenFile {
    /// Its name in the model.
    pub fn path(&self) -> &ResourcePath {
        self.file.path()
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// The header, if it is a safetensors file.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref().map(|(_, header)| header)
    }

    /// The bytes that the header was parsed from: a length field and JSON.
    pub fn head(&self) -> Option<&[u8]> {
        self.header.as_ref().map(|(head, _)| head.bytes())
    }

    /// The first byte for which a GPU needs memory, up to the file's end, to load its tensors and hash them: that of the first tensor, or of
    /// the file if it has a digest as a whole that GPUs compute.
    pub fn first_byte(&self) -> u64 {
        let first_tensor = || self.header().map_or(0, |header| header.tensors.first().map_or(self.size(), |tensor| tensor.range.start));
        if self.is_hashed_whole { 0 } else { first_tensor() }
    }

    /// The size of a part of it in bytes.
    fn bytes_of(&self, part: Part) -> u64 {
        let tensor = |place: usize| {
            self.header().and_then(|header| header.tensors.get(place)).map_or(0, |tensor| tensor.range.end - tensor.range.start)
        };
        match part {
            Part::Whole => self.size(),
            Part::Tensor(place) => tensor(place),
        }
    }

    fn load<R>(&self, part: Part, receiver: R) -> Load<'_, R> {
        let header = self.header.as_ref().map(|(head, header)| (head, header));
        Load { file: &self.file, header, part, receiver }
    }
}

/// The way to landings.
struct Landings<'l>(&'l Loader<'l>);

impl<'m> load::Loader<Landing<'m>> for Landings<'_> {
    type Report = Report;

    fn load_files(&self, jobs: &[FileLoad<'_, Landing<'m>>], progress: Progress<'_>) -> Result<(Vec<LoadOutput>, Report), ManifestError> {
        let loaded = self.0.load(jobs, &FileLoad::receiver, progress)?;
        Ok((loaded.outputs, loaded.report))
    }
}

impl ModelReader {
    /// Opens a directory or a file and checks its signatures, one at
    /// [`default_signature_path`](crate::default_signature_path) unless `signatures` says otherwise.
    ///
    /// # Errors
    /// Any [`Error`] about the signature; [`Error::Manifest`] if the model cannot be opened.
    pub fn open(model: &Path, signatures: &[PathBuf], verifier: &dyn Verifier) -> Result<Self, Error> {
        let tree = ModelTree::open(model)?;
        let statement = read_verified(&signature_paths(model, signatures), verifier)?;
        Ok(Self { tree, statement, cpu: Cpu::new() })
    }

    /// What was signed, and who signed it.
    pub fn statement(&self) -> &Verified<Statement> {
        &self.statement
    }

    /// Opens a signed file. If its name ends in `.safetensors`, or the signature lists its tensors, its header is read.
    ///
    /// # Errors
    /// [`Error::Verify`] with a difference for a file that is not signed or not there, or has another header;
    /// [`Error::Manifest`] for what else can be wrong with it.
    pub fn open_file(&self, path: &ResourcePath) -> Result<OpenFile, Error> {
        let manifest = &self.statement.value().manifest;
        let differs = |kind| Error::Verify(VerifyError::Differs(vec![Difference::new(kind, path.as_str())]));
        let Some(resource) = manifest.resources().iter().find(|resource| resource.path == *path) else {
            return Err(differs(DifferenceKind::UnsignedFile));
        };
        let file = SignedFile::open(&self.tree, manifest, path).map_err(|error| match error {
            ManifestError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => differs(DifferenceKind::MissingFile),
            error => error.into(),
        })?;
        let location = self.tree.location().to_string_lossy();
        let name = if self.tree.is_file() { &*location } else { path.as_str() };
        let header = if matches!(resource.annotation, Some(Annotation::Safetensors(_))) || name.ends_with(".safetensors") {
            let head = file.head()?;
            let header = self.statement.header(path, &head)?;
            Some((head, header))
        } else {
            None
        };
        let is_hashed_whole = match resource.annotation {
            Some(Annotation::Safetensors(_)) => false,
            Some(Annotation::Blake3(_)) => true,
            None => Gpu::computes(resource.digest.algorithm()),
        };
        Ok(OpenFile { file, header, is_hashed_whole })
    }

    /// Reads files, or tensors of them, each byte once. The receivers come back when every byte that they were given is a
    /// signed one, and not otherwise.
    ///
    /// # Errors
    /// [`Error::Verify`] with every difference; [`Error::Manifest`] if a file cannot be read or changes meanwhile. The
    /// receivers are dropped then.
    pub fn load<R: Receiver>(&self, loads: Vec<(&OpenFile, Part, R)>, observer: &dyn Observer) -> Result<Verified<Vec<R>>, Error> {
        observer.begin(loads.iter().map(|(file, ..)| file.size()).fold(0, u64::saturating_add), loads.len());
        let loads = loads.into_iter().map(|(file, part, receiver)| file.load(part, receiver)).collect();
        let (loaded, ()) = load(&self.statement.value().manifest, loads, &self.cpu, &|bytes| observer.advance(bytes))?;
        Ok(self.statement.confirm_load(loaded)?)
    }

    /// Reads files, or tensors of them, to where the landings say, and has them hashed where they land. What landed stays there if every
    /// byte is a signed one; else it is wiped.
    ///
    /// Nothing lands where a landing has room for other bytes than those that are read: what is there stays as it was. The head of a file
    /// with digests of tensors is such a place ([`OpenFile::first_byte`]).
    ///
    /// # Errors
    /// As for [`ModelReader::load`]; [`Error::Manifest`] too for a GPU that fails.
    pub fn load_to(
        &self,
        loads: Vec<(&OpenFile, Part, Landing<'_>)>,
        loader: &Loader<'_>,
        observer: &dyn Observer,
    ) -> Result<Report, Error> {
        let bytes = |(file, part, _): &(&OpenFile, Part, Landing<'_>)| file.bytes_of(*part);
        observer.begin(loads.iter().map(bytes).fold(0, u64::saturating_add), loads.len());
        let loads = loads.into_iter().map(|(file, part, receiver)| file.load(part, receiver)).collect();
        let landings = Landings(loader);
        let (loaded, report) = load(&self.statement.value().manifest, loads, &landings, &|bytes| observer.advance(bytes))?;
        let landed = self.statement.confirm_load(loaded)?;
        // Nothing before this line has been checked, and nothing after it is unchecked.
        landed.into_value().into_iter().for_each(Landing::keep);
        Ok(report)
    }

    /// Reads one file into memory.
    ///
    /// # Errors
    /// As [`ModelReader::open_file`] and [`ModelReader::load`].
    pub fn read(&self, path: &ResourcePath) -> Result<Vec<u8>, Error> {
        self.read_open(&self.open_file(path)?)
    }

    fn read_open(&self, file: &OpenFile) -> Result<Vec<u8>, Error> {
        let loaded = self.load(vec![(file, Part::Whole, Memory::default())], &())?;
        // One file, hence one memory.
        Ok(loaded.into_value().into_iter().next().map(Memory::into_bytes).unwrap_or_default())
    }

    /// Opens the files that hold the model's weights: those `named`, else `model.safetensors`, else exactly the files of the
    /// signed index, else the only safetensors file. No two of them have a tensor of the same name.
    ///
    /// # Errors
    /// As [`ModelReader::open_file`]; [`ManifestError::Weights`], [`ManifestError::Index`],
    /// [`ManifestError::DuplicateTensor`].
    pub fn open_weights(&self, named: Option<&[String]>) -> Result<Vec<OpenFile>, Error> {
        let manifest = &self.statement.value().manifest;
        let weights = match named {
            Some(names) => Weights::named(manifest, names)?,
            None => Weights::of(manifest)?,
        };
        let files: Vec<OpenFile> = match weights {
            Weights::Files(paths) => paths.iter().map(|path| self.open_file(path)).collect::<Result<_, _>>()?,
            Weights::Index(path) => {
                let file = self.open_file(&path)?;
                let found = file.size();
                if found > MAX_INDEX_BYTES {
                    let reason = format!("it has {found} bytes, at most {MAX_INDEX_BYTES} are allowed");
                    return Err(ManifestError::Index { path: path.in_model(), reason }.into());
                }
                let index = Index::parse(&self.read_open(&file)?, &path, manifest)?;
                let files: Vec<_> = index.files().map(|path| self.open_file(path)).collect::<Result<_, _>>()?;
                for file in &files {
                    index.check(&path, file.path(), tensor_names(file))?;
                }
                files
            }
        };
        let mut seen = HashSet::new();
        for file in &files {
            if file.header.is_none() {
                return Err(ManifestError::Weights { reason: format!("\"{}\" is no safetensors file", file.path()) }.into());
            }
            if let Some(twice) = tensor_names(file).find(|name| !seen.insert(name.to_string())) {
                return Err(ManifestError::DuplicateTensor { tensor: printable(twice) }.into());
            }
        }
        Ok(files)
    }
}

fn tensor_names(file: &OpenFile) -> impl Iterator<Item = &str> {
    file.header().into_iter().flat_map(|header| header.tensors.iter().map(|tensor| tensor.name.as_str()))
}
