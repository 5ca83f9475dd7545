//! From files to digests: what is asked of each file, and what comes back.
//!
//! Every byte of a file is read once for all its digests. A safetensors header is read first, alone, since
//! it says where the tensors are; its bytes are hashed a second time with the rest, and both digests must
//! agree.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sentry_hash::files::{FileHasher, FileJob, OpenedFile, Progress, Request, hash_files};
use sentry_hash::{Algorithm, Cpu, Digest};

use crate::annotation::{ALGORITHM, SafetensorsAnnotation, TensorDigest};
use crate::limits::{MAX_RESOURCES, MAX_SAFETENSORS_HEADER, MAX_TRAILING_BYTES};
use crate::safetensors::{Header, LENGTH_FIELD, data_start};
use crate::tree::{FileStamp, changed};
use crate::{
    Annotation, FoundFile, Manifest, ManifestError, Method, ModelFile, ModelTree, Resource, ResourcePath, SafetensorsError, Serialization,
    Shard,
};

/// How to make a new manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestOptions {
    /// What the statement will say of how files were listed and hashed.
    pub serialization: Serialization,
    /// Whether to add our digests of tensors and whole files.
    pub annotate: bool,
}

/// A resource as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredResource {
    /// Its digests. If the size shows that the file was changed, they need not be of all of it.
    pub resource: Resource,
    /// The size of the signed tensors and that of the file's data in bytes, where they differ.
    pub size_differs: Option<(u64, u64)>,
}

/// What the files of a model turned out to hold. Only measuring makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    resources: Vec<MeasuredResource>,
    bytes: u64,
}

impl Measured {
    /// One for every resource that was asked for, in that order.
    pub fn resources(&self) -> &[MeasuredResource] {
        &self.resources
    }

    /// Bytes read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Makes the manifest of `files`, in the order of their names (for shards, of `path:start:end`).
///
/// # Errors
/// Any [`ManifestError`]; a malformed safetensors file is one, if it would be annotated.
pub fn for_signing(
    tree: &ModelTree,
    files: &[FoundFile],
    options: &ManifestOptions,
    hasher: &impl FileHasher,
    progress: Progress<'_>,
) -> Result<Manifest, ManifestError> {
    let serialization = &options.serialization;
    let mut jobs = Vec::new();
    for file in files {
        match serialization.method {
            Method::Files => jobs.push(Job::new(tree, file, None, serialization.hash, Annotate::from_content(options, file))),
            Method::Shards { size, .. } => {
                if file.size == 0 {
                    return Err(ManifestError::EmptySharded { path: file.path.to_string() });
                }
                if file.size.div_ceil(size) > (MAX_RESOURCES - jobs.len()) as u64 {
                    return Err(ManifestError::TooManyResources);
                }
                for start in (0..file.size).step_by(usize::try_from(size).unwrap_or(usize::MAX)) {
                    let shard = Shard { start, end: file.size.min(start.saturating_add(size)) };
                    jobs.push(Job::new(tree, file, Some(shard), serialization.hash, Annotate::Not));
                }
            }
        }
    }
    let measured = hasher.hash_files(&jobs, progress)?;
    let mut resources: Vec<Resource> = measured.into_iter().map(|measured| measured.resource).collect();
    resources.sort_by_cached_key(Resource::name);
    Manifest::new(serialization.clone(), resources)
}

/// Measures the files of a model as a signed `manifest` describes them. `find` maps a resource to the file
/// on disk.
///
/// # Errors
/// Any [`ManifestError`]. That a digest differs is no error here: whoever compares decides.
pub fn as_signed<'a>(
    tree: &ModelTree,
    manifest: &'a Manifest,
    find: impl Fn(&ResourcePath) -> Option<&'a FoundFile>,
    cpu: &Cpu,
    progress: Progress<'_>,
) -> Result<Measured, ManifestError> {
    let mut last_ends: HashMap<&ResourcePath, u64> = HashMap::new();
    for resource in manifest.resources() {
        let end = last_ends.entry(&resource.path).or_default();
        *end = resource.shard.map_or(0, |shard| shard.end).max(*end);
    }
    let mut jobs = Vec::with_capacity(manifest.resources().len());
    let mut bytes = 0;
    for resource in manifest.resources() {
        let missing = || tree.io(resource.path.as_str(), io::ErrorKind::NotFound.into());
        let file = find(&resource.path).ok_or_else(missing)?;
        let job = Job::for_resource(tree, file, resource, last_ends[&resource.path]);
        bytes = job.size_hint().saturating_add(bytes);
        jobs.push(job);
    }
    let resources = hash_files(&jobs, cpu.threads(), progress)?;
    Ok(Measured { resources, bytes })
}

/// Bytes that [`as_signed`] or [`for_signing`] will read of `files`.
pub fn total_size(files: &[FoundFile]) -> u64 {
    files.iter().fold(0, |total, file| file.size.saturating_add(total))
}

/// Which annotation to compute.
#[derive(Clone, Copy)]
enum Annotate<'a> {
    Not,
    /// Header and tensors of a safetensors file that is to be signed.
    Tensors,
    /// The digest of the whole file.
    Whole,
    /// Header and tensors of a safetensors file that was signed with this annotation.
    SignedTensors(&'a SafetensorsAnnotation),
}

impl<'a> Annotate<'a> {
    fn from_annotation(annotation: Option<&'a Annotation>) -> Self {
        match annotation {
            None => Self::Not,
            Some(Annotation::Blake3(_)) => Self::Whole,
            Some(Annotation::Safetensors(signed)) => Self::SignedTensors(signed),
        }
    }

    fn from_content(options: &ManifestOptions, file: &FoundFile) -> Self {
        if !options.annotate {
            Self::Not
        } else if file.path.as_str().ends_with(".safetensors") {
            Self::Tensors
        } else if options.serialization.hash == ALGORITHM {
            // The resource's own digest is this already.
            Self::Not
        } else {
            Self::Whole
        }
    }
}

/// One resource to measure.
struct Job<'a> {
    tree: &'a ModelTree,
    file: &'a FoundFile,
    /// The name under which the result is reported.
    path: ResourcePath,
    shard: Option<Shard>,
    /// Whether the file has to end with this shard.
    is_last: bool,
    hash: Algorithm,
    /// The resource's signed digest, if there is one.
    signed: Option<&'a Digest>,
    annotate: Annotate<'a>,
}

/// What finishing a job needs to know of the file that was opened.
struct Context {
    stamp: FileStamp,
    size: u64,
    inside: Inside,
}

/// What the digests after the resource's own are of.
enum Inside {
    Nothing,
    WholeFile,
    Tensors(Tensors),
    /// Of nothing: the file has no header that could be read.
    Malformed(SafetensorsError),
    /// Of nothing: the file is far larger than the signed tensors, so that it is not the signed one.
    TooLarge {
        /// Bytes of the signed tensors.
        signed: u64,
    },
}

/// The tensors of a file: where, and under which names.
struct Tensors {
    /// Digest of the header as it was parsed.
    header: Digest,
    /// Where the header ends.
    data_start: u64,
    /// With digests still to be filled in.
    listed: Vec<TensorDigest>,
    /// One for each listed tensor.
    ranges: Vec<Range<u64>>,
}

/// Where the tensors of a file are, or why its header does not say.
type Layout = Result<Tensors, SafetensorsError>;

impl<'a> Job<'a> {
    fn new(tree: &'a ModelTree, file: &'a FoundFile, shard: Option<Shard>, hash: Algorithm, annotate: Annotate<'a>) -> Self {
        Self { tree, file, path: file.path.clone(), shard, is_last: false, hash, signed: None, annotate }
    }

    /// Measures what a signed resource stands for, and reports it under the name that the resource has.
    fn for_resource(tree: &'a ModelTree, file: &'a FoundFile, resource: &'a Resource, last_end: u64) -> Self {
        let annotate = Annotate::from_annotation(resource.annotation.as_ref());
        let job = Self::new(tree, file, resource.shard, resource.digest.algorithm(), annotate);
        let is_last = resource.shard.is_some_and(|shard| shard.end == last_end);
        Self { path: resource.path.clone(), is_last, signed: Some(&resource.digest), ..job }
    }

    /// The digests to compute of an open file, the resource's own first.
    fn requests(&self, opened: &ModelFile) -> Result<(Vec<Request>, Inside), ManifestError> {
        let range = match self.shard {
            None => 0..opened.size,
            // A file shorter than its shards differs; what is there of it is measured.
            Some(Shard { start, end }) => start.min(opened.size)..end.min(opened.size),
        };
        let mut requests = vec![Request { range, algorithm: self.hash }];
        let mut blake3 = |range: Range<u64>| requests.push(Request { range, algorithm: ALGORITHM });
        let signed = match self.annotate {
            Annotate::Not => return Ok((requests, Inside::Nothing)),
            Annotate::Whole => {
                blake3(0..opened.size);
                return Ok((requests, Inside::WholeFile));
            }
            Annotate::Tensors => None,
            Annotate::SignedTensors(signed) => Some(signed),
        };
        if let Some(signed) = signed
            && opened.size > signed.data_size().saturating_add(MAX_SAFETENSORS_HEADER + MAX_TRAILING_BYTES)
        {
            // The signed size is known, so the difference is: nobody should wait for terabytes to be hashed.
            return Ok((vec![Request { range: 0..0, algorithm: self.hash }], Inside::TooLarge { signed: signed.data_size() }));
        }
        match self.tensors(opened, signed)? {
            Ok(tensors) => {
                blake3(0..tensors.data_start);
                tensors.ranges.iter().cloned().for_each(&mut blake3);
                Ok((requests, Inside::Tensors(tensors)))
            }
            Err(malformed) if signed.is_none() => Err(ManifestError::Safetensors { path: self.file.path.in_model(), source: malformed }),
            Err(malformed) => Ok((requests, Inside::Malformed(malformed))),
        }
    }

    /// Reads the header, and finds the tensors whose digests are wanted. Whether a malformed header is the signer's
    /// fault or came later is known once the file is hashed.
    fn tensors(&self, opened: &ModelFile, signed: Option<&SafetensorsAnnotation>) -> Result<Layout, ManifestError> {
        let mut length_field = [0; LENGTH_FIELD as usize];
        if opened.size < LENGTH_FIELD {
            return Ok(Err(SafetensorsError::HeaderTruncated { expected: LENGTH_FIELD, found: opened.size }));
        }
        opened.file.read_exact_at(&mut length_field, 0).map_err(|error| self.read_error(0, error))?;
        let data_start = match data_start(length_field, opened.size) {
            Ok(data_start) => data_start,
            Err(malformed) => return Ok(Err(malformed)),
        };
        // At most the limit on headers.
        let mut bytes = vec![0; data_start as usize];
        opened.file.read_exact_at(&mut bytes, 0).map_err(|error| self.read_error(0, error))?;
        let digest = ALGORITHM.digest(&bytes);
        if signed.is_some_and(|signed| signed.header != digest) {
            // Another header says nothing of the signed tensors.
            return Ok(Ok(Tensors { header: digest, data_start, listed: Vec::new(), ranges: Vec::new() }));
        }
        let header = match Header::parse(&bytes, opened.size) {
            Ok(header) => header,
            Err(malformed) => return Ok(Err(malformed)),
        };
        if let Some(signed) = signed {
            signed.check_header(self.path.as_str(), &header)?;
        }
        let ranges = header.tensors.iter().map(|tensor| tensor.range.clone()).collect();
        let unknown = ALGORITHM.digest(&[]);
        let listed = header.tensors.into_iter();
        let listed = listed.map(|tensor| TensorDigest { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, digest: unknown });
        Ok(Ok(Tensors { header: digest, data_start, listed: listed.collect(), ranges }))
    }
}

impl FileJob for Job<'_> {
    type Context = Context;
    type Output = MeasuredResource;
    type Error = ManifestError;

    fn size_hint(&self) -> u64 {
        self.shard.map_or(self.file.size, |shard| shard.end - shard.start)
    }

    fn open(&self) -> Result<OpenedFile<Context>, ManifestError> {
        let opened = self.tree.open_file(self.file)?;
        let (requests, inside) = self.requests(&opened)?;
        let context = Context { stamp: opened.stamp(), size: opened.size, inside };
        Ok(OpenedFile { file: opened.file, requests, context })
    }

    fn read_error(&self, offset: u64, error: io::Error) -> ManifestError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return changed(&self.path, &format!("it ended after byte {offset}"));
        }
        self.tree.io(self.file.path.as_str(), error)
    }

    fn finish(&self, file: &File, context: &Context, digests: Vec<Digest>) -> Result<MeasuredResource, ManifestError> {
        context.stamp.check(&self.path, file)?;
        let (digest, more) = digests.split_first().expect("every file has its resource's digest");
        // Reported as found: a file that ends elsewhere than its last shard differs from the signed one.
        let end = |signed: u64| if self.is_last { context.size } else { signed.min(context.size) };
        let shard = self.shard.map(|shard| Shard { end: end(shard.end), ..shard });
        let annotation = match &context.inside {
            Inside::Nothing => None,
            Inside::WholeFile => more.first().map(|&whole| Annotation::Blake3(whole)),
            Inside::Tensors(tensors) => Some(self.annotation(tensors, more)?),
            // The file was signed like that; otherwise its digest shows that it was changed.
            Inside::Malformed(source) if self.signed == Some(digest) => {
                return Err(ManifestError::Safetensors { path: self.file.path.in_model(), source: source.clone() });
            }
            Inside::Malformed(_) | Inside::TooLarge { .. } => None,
        };
        let size_differs = match context.inside {
            Inside::TooLarge { signed } => Some((signed, context.size)),
            Inside::Malformed(SafetensorsError::TrailingData { expected, found } | SafetensorsError::PastEnd { expected, found }) => {
                Some((expected, found))
            }
            _ => None,
        };
        let resource = Resource { path: self.path.clone(), shard, digest: *digest, annotation };
        Ok(MeasuredResource { resource, size_differs })
    }
}

impl Job<'_> {
    /// Fills the digests in; the header's must be that of the bytes that were parsed.
    fn annotation(&self, tensors: &Tensors, digests: &[Digest]) -> Result<Annotation, ManifestError> {
        let (header, digests) = digests.split_first().expect("the header's digest comes first");
        assert_eq!(digests.len(), tensors.listed.len(), "one digest was asked for every tensor");
        if *header != tensors.header {
            return Err(changed(&self.path, "its header is another"));
        }
        let fill = |(listed, &digest): (&TensorDigest, &Digest)| TensorDigest { digest, ..listed.clone() };
        let tensors = tensors.listed.iter().zip(digests).map(fill).collect();
        Ok(Annotation::Safetensors(SafetensorsAnnotation { header: *header, tensors }))
    }
}
