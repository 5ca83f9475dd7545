//! From files to memory: bytes go to their receiver while they are hashed, in one read.
//!
//! What a receiver holds has been checked by nobody. [`Loaded`] keeps it locked away together with the digests of what it
//! was given, until whoever holds the signed digests has compared them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

pub use sentry_hash::files::Receiver;
use sentry_hash::files::{FileJob, OpenedFile, Progress, Request, hash_files};
use sentry_hash::{Cpu, Digest};

use crate::annotation::ALGORITHM;
use crate::safetensors::{Header, LENGTH_FIELD, data_start};
use crate::tree::{FileStamp, changed};
use crate::{Annotation, Manifest, ManifestError, ModelFile, ModelTree, Resource, ResourcePath, SafetensorsError, Shard};

/// A way for files to get to receivers of a kind, each byte into the digests that are asked for on the way.
pub trait Loader<R> {
    /// What a load tells of itself besides.
    type Report;

    /// Loads all files; what comes of them is in their order.
    ///
    /// # Errors
    /// The first one of a job, and whatever keeps a digest from being computed.
    fn load_files(&self, jobs: &[FileLoad<'_, R>], progress: Progress<'_>) -> Result<(Vec<LoadOutput>, Self::Report), ManifestError>;
}

/// The cores read to receivers that look at the bytes, or copy them.
impl<R: Receiver> Loader<R> for Cpu {
    type Report = ();

    fn load_files(&self, jobs: &[FileLoad<'_, R>], progress: Progress<'_>) -> Result<(Vec<LoadOutput>, ()), ManifestError> {
        Ok((hash_files(jobs, self.threads(), progress)?, ()))
    }
}

/// A receiver that keeps a whole file in memory.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    /// The bytes received.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("no thread panics while it holds this lock")
    }
}

impl Receiver for Memory {
    fn receive(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.0.lock().expect("no thread panics while it holds this lock");
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        if memory.len() < end {
            let missing = end - memory.len();
            memory.try_reserve(missing).map_err(|_| io::ErrorKind::OutOfMemory)?;
            memory.resize(end, 0);
        }
        memory[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// A signed file that is open, once for all that is read of it.
#[derive(Debug)]
pub struct SignedFile {
    path: ResourcePath,
    file: ModelFile,
}

/// The first bytes of a safetensors file: its length field and the JSON after it. Nothing has been checked but the length.
#[derive(Debug)]
pub struct Head {
    bytes: Vec<u8>,
    digest: Digest,
    file_size: u64,
}

/// A file to load.
#[derive(Debug)]
pub struct Load<'a, R> {
    /// Which file.
    pub file: &'a SignedFile,
    /// For a safetensors file, its head and what was parsed from it.
    pub header: Option<(&'a Head, &'a Header)>,
    /// How much of it.
    pub part: Part,
    /// Who gets its bytes.
    pub receiver: R,
}

/// How much of a file is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// One tensor, by its place in the header's order.
    Tensor(usize),
}

/// What was read, and its digests. Only loading makes one, and only a comparison with what was signed opens it.
#[derive(Debug)]
pub struct Loaded<R> {
    files: Vec<LoadedFile>,
    receivers: Vec<R>,
    bytes: u64,
}

/// The digests of one loaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// Which file.
    pub path: ResourcePath,
    /// How much of it.
    pub part: Part,
    /// What it turned out to hold.
    pub found: Vec<Found>,
}

/// Digests of the bytes that a receiver got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Of a resource without an annotation: a file, or a shard of one.
    Resource {
        /// Which part of the file; its last shard reaches to the file's end.
        shard: Option<Shard>,
        /// In the resource's algorithm.
        digest: Digest,
    },
    /// BLAKE3 of the whole file.
    Blake3(Digest),
    /// BLAKE3 of the head of a safetensors file, and of tensors by their place in the header's order.
    Tensors {
        /// Of the length field and the JSON.
        header: Digest,
        /// Place and digest, in the order of the bytes.
        tensors: Vec<(usize, Digest)>,
    },
}

impl SignedFile {
    /// Opens a file by the name that the manifest has for it.
    ///
    /// # Errors
    /// As [`ModelTree::find`] and [`ModelTree::open_file`].
    pub fn open(tree: &ModelTree, manifest: &Manifest, path: &ResourcePath) -> Result<Self, ManifestError> {
        let found = tree.find(path, manifest.serialization().allow_symlinks)?;
        Ok(Self { path: path.clone(), file: tree.open_file(&found)? })
    }

    /// Its name in the manifest.
    pub fn path(&self) -> &ResourcePath {
        &self.path
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.file.size
    }

    /// Reads the head of a safetensors file; its length is bounded first.
    ///
    /// # Errors
    /// [`ManifestError::Safetensors`], [`ManifestError::Io`].
    pub fn head(&self) -> Result<Head, ManifestError> {
        let malformed = |source| ManifestError::Safetensors { path: self.path.in_model(), source };
        let file_size = self.file.size;
        if file_size < LENGTH_FIELD {
            return Err(malformed(SafetensorsError::HeaderTruncated { expected: LENGTH_FIELD, found: file_size }));
        }
        let read = |bytes: &mut [u8]| self.file.file.read_exact_at(bytes, 0).map_err(|error| self.read_error(0, error));
        let mut length_field = [0; LENGTH_FIELD as usize];
        read(&mut length_field)?;
        // At most the limit on headers.
        let mut bytes = vec![0; data_start(length_field, file_size).map_err(malformed)? as usize];
        read(&mut bytes)?;
        let digest = ALGORITHM.digest(&bytes);
        Ok(Head { bytes, digest, file_size })
    }

    fn read_error(&self, offset: u64, error: io::Error) -> ManifestError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return changed(&self.path, &format!("it ended after byte {offset}"));
        }
        ManifestError::Io { path: self.path.as_str().into(), source: error }
    }
}

impl Head {
    /// BLAKE3 of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The length field and the JSON.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses the header against the size of its file.
    ///
    /// # Errors
    /// Every variant of [`SafetensorsError`].
    pub fn parse(&self) -> Result<Header, SafetensorsError> {
        Header::parse(&self.bytes, self.file_size)
    }
}

impl<R> Loaded<R> {
    /// One for every file that was asked for, in that order.
    pub fn files(&self) -> &[LoadedFile] {
        &self.files
    }

    /// Bytes that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The receivers, in the order of the files. For whoever has compared the digests, and nobody else.
    pub fn into_receivers(self) -> Vec<R> {
        self.receivers
    }
}

/// Reads files, or tensors of them, once; each byte goes to its receiver and into the digest that was signed of it: that of
/// the annotation where there is one, else the resource's own.
///
/// # Errors
/// Any [`ManifestError`]. That a digest differs is no error here: whoever compares decides.
pub fn load<R: Receiver, L: Loader<R>>(
    manifest: &Manifest,
    loads: Vec<Load<'_, R>>,
    loader: &L,
    progress: Progress<'_>,
) -> Result<(Loaded<R>, L::Report), ManifestError> {
    let mut resources: HashMap<&ResourcePath, Vec<&Resource>> = HashMap::new();
    for resource in manifest.resources() {
        resources.entry(&resource.path).or_default().push(resource);
    }
    let mut jobs = Vec::new();
    let mut files = Vec::with_capacity(loads.len());
    for (index, load) in loads.iter().enumerate() {
        let signed = resources.get(&load.file.path).map_or(&[][..], Vec::as_slice);
        jobs.extend(jobs_of(index, load, signed)?);
        files.push(LoadedFile { path: load.file.path.clone(), part: load.part, found: Vec::new() });
    }
    let bytes = jobs.iter().map(FileJob::size_hint).fold(0, u64::saturating_add);
    let (outputs, report) = loader.load_files(&jobs, progress)?;
    for LoadOutput { file, found } in outputs {
        files[file].found.extend(found);
    }
    drop(jobs);
    Ok((Loaded { files, receivers: loads.into_iter().map(|load| load.receiver).collect(), bytes }, report))
}

/// What is read and hashed of one file.
fn jobs_of<'a, R: Receiver>(index: usize, load: &'a Load<'a, R>, signed: &[&'a Resource]) -> Result<Vec<FileLoad<'a, R>>, ManifestError> {
    let job = |what| FileLoad { index, load, what };
    let last_end = signed.iter().filter_map(|resource| resource.shard).map(|shard| shard.end).max();
    let mut jobs = Vec::new();
    for &resource in signed {
        jobs.push(job(match (&resource.annotation, load.header) {
            (Some(Annotation::Safetensors(_)), Some((head, header))) => What::Tensors(head, header),
            (Some(Annotation::Blake3(_)), _) => What::Blake3,
            // Under the digest that every OpenSSF tool checks: always there, and slower.
            _ => What::Resource(resource, resource.shard.is_some_and(|shard| Some(shard.end) == last_end)),
        }));
    }
    if let Some((head, _)) = load.header
        && jobs.iter().any(|job| matches!(job.what, What::Tensors(..)))
    {
        // The data follows; this is read already.
        receive(load, 0, &head.bytes)?;
    }
    Ok(jobs)
}

fn receive<R: Receiver>(load: &Load<'_, R>, offset: u64, bytes: &[u8]) -> Result<(), ManifestError> {
    load.receiver.receive(offset, bytes).map_err(|source| ManifestError::Io { path: load.file.path.as_str().into(), source })
}

/// One file or shard on its way to a receiver, as a [`Loader`] gets it.
#[derive(Debug)]
pub struct FileLoad<'a, R> {
    /// Place of the file among those asked for.
    index: usize,
    load: &'a Load<'a, R>,
    what: What<'a>,
}

/// What was found of one [`FileLoad`].
#[derive(Debug)]
pub struct LoadOutput {
    file: usize,
    found: Option<Found>,
}

#[derive(Debug)]
enum What<'a> {
    /// A file or shard under its own digest, and whether the file has to end with it.
    Resource(&'a Resource, bool),
    /// The whole file under BLAKE3.
    Blake3,
    /// The data of a safetensors file, tensor by tensor.
    Tensors(&'a Head, &'a Header),
}

impl<R> FileLoad<'_, R> {
    /// Who gets its bytes.
    pub fn receiver(&self) -> &R {
        &self.load.receiver
    }

    /// Which tensors, by their place in the header's order.
    fn tensors(&self, header: &Header) -> std::ops::Range<usize> {
        let all = header.tensors.len();
        match self.load.part {
            Part::Whole => 0..all,
            // A place beyond the last tensor holds none; the comparison then misses it.
            Part::Tensor(index) => index.min(all)..index.saturating_add(1).min(all),
        }
    }

    /// What the parsed head has from an offset of the file on, if that lies in the head.
    fn head_beyond(&self, offset: u64) -> Option<&[u8]> {
        let (head, _) = self.load.header?;
        head.bytes.get(usize::try_from(offset).ok()?..).filter(|rest| !rest.is_empty())
    }

    fn requests(&self) -> Vec<Request> {
        let size = self.load.file.file.size;
        let blake3 = |range| Request { range, algorithm: ALGORITHM };
        match &self.what {
            What::Resource(resource, _) => {
                let range = resource.shard.map_or(0..size, |Shard { start, end }| start.min(size)..end.min(size));
                vec![Request { range, algorithm: resource.digest.algorithm() }]
            }
            What::Blake3 => vec![blake3(0..size)],
            What::Tensors(_, header) => header.tensors[self.tensors(header)].iter().map(|tensor| blake3(tensor.range.clone())).collect(),
        }
    }
}

impl<R: Receiver> FileJob for FileLoad<'_, R> {
    type Context = FileStamp;
    type Output = LoadOutput;
    type Error = ManifestError;

    fn size_hint(&self) -> u64 {
        let requests = self.requests();
        let start = requests.iter().map(|request| request.range.start).min().unwrap_or(0);
        requests.iter().map(|request| request.range.end).max().unwrap_or(0) - start
    }

    fn open(&self) -> Result<OpenedFile<FileStamp>, ManifestError> {
        let SignedFile { file, .. } = self.load.file;
        Ok(OpenedFile { file: Arc::clone(&file.file), requests: self.requests(), context: file.stamp() })
    }

    fn read_error(&self, offset: u64, error: io::Error) -> ManifestError {
        self.load.file.read_error(offset, error)
    }

    fn receive(&self, _: &FileStamp, offset: u64, bytes: &[u8]) -> Result<(), ManifestError> {
        // What is compared here is what is hashed: another header than the parsed one cannot pass, whenever it came.
        if self.head_beyond(offset).is_some_and(|head| !head.iter().zip(bytes).all(|(parsed, read)| parsed == read)) {
            return Err(changed(&self.load.file.path, "its header is another"));
        }
        receive(self.load, offset, bytes)
    }

    fn has_to_receive(&self, _: &FileStamp, offset: u64) -> bool {
        self.head_beyond(offset).is_some()
    }

    fn finish(&self, file: &File, stamp: &FileStamp, digests: Vec<Digest>) -> Result<Self::Output, ManifestError> {
        let SignedFile { path, file: opened } = self.load.file;
        stamp.check(path, file)?;
        let first = digests.first().copied();
        let found = match &self.what {
            What::Resource(resource, is_last) => first.map(|digest| {
                // Reported as found: a file that ends elsewhere than its last shard differs from the signed one.
                let end = |signed: u64| if *is_last { opened.size } else { signed.min(opened.size) };
                let shard = resource.shard.map(|shard| Shard { end: end(shard.end), ..shard });
                Found::Resource { shard, digest }
            }),
            What::Blake3 => first.map(Found::Blake3),
            What::Tensors(head, header) => {
                Some(Found::Tensors { header: head.digest, tensors: self.tensors(header).zip(digests).collect() })
            }
        };
        Ok(LoadOutput { file: self.index, found })
    }
}
