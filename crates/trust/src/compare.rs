//! The signed list against the files that are there.

use std::collections::BTreeMap;
use std::fmt;

use sentry_hash::Digest;
use sentry_manifest::{
    Annotation, FoundFile, Manifest, MeasuredResource, Method, Resource, ResourcePath, SafetensorsAnnotation, Shard, is_hub_note, printable,
};

/// The files of a model as they were listed, and what the caller makes of those that are not signed.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// All files but the ignored ones.
    pub files: &'a [FoundFile],
    /// Whether the model is one file rather than a directory.
    pub is_file: bool,
    /// Whether files that are not signed may lie in the model.
    pub allow_unsigned: bool,
}

/// Which file is meant by each name of a manifest.
#[derive(Debug)]
pub struct Pairing<'a> {
    /// The file of every signed path.
    pub files: BTreeMap<&'a ResourcePath, &'a FoundFile>,
    /// Names of files that are not signed, which are allowed.
    pub unsigned: Vec<String>,
}

impl Pairing<'_> {
    /// Bytes of the signed files.
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |total, file| file.size.saturating_add(total))
    }
}

/// One way in which a model or a dataset is not the signed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What kind of difference.
    pub kind: DifferenceKind,
    /// The file, unless it is about a model in memory. Printing escapes what could forge terminal output.
    pub file: Option<String>,
    /// Which bytes of it, if the signature is over shards.
    pub shard: Option<Shard>,
    /// The tensor inside the file.
    pub tensor: Option<String>,
    /// The source of samples.
    pub source: Option<String>,
    /// The id of a sample in its source.
    pub sample: Option<u64>,
    /// The field of all samples; or of one, where it is known: with the signed value in `expected` it is sure, without it likely.
    pub field: Option<String>,
    /// What was signed.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
}

/// Kinds of [`Difference`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DifferenceKind {
    /// A file that is not signed.
    UnsignedFile,
    /// A signed file that is not there.
    MissingFile,
    /// A file with other bytes.
    ChangedFile,
    /// The header of a safetensors file is another: names, types, shapes or offsets of its tensors.
    ChangedHeader,
    /// A tensor with other bytes, or of another type or shape.
    ChangedTensor,
    /// A tensor that is not signed: in memory, or in a file whose header was changed. Of files only a comparison lists these.
    UnsignedTensor,
    /// A signed tensor that is not there: in memory, or in a file whose header was changed. Of files only a comparison lists
    /// these.
    MissingTensor,
    /// A tensor of another element type than the signed one.
    ChangedType,
    /// A tensor of another shape than the signed one.
    ChangedShape,
    /// The file's digest holds and its annotation's does not, or the other way round: the statement contradicts
    /// itself.
    AnnotationMismatch,
    /// A source of samples that is not signed.
    UnsignedSource,
    /// A signed source without any sample.
    MissingSource,
    /// A source whose samples are not the signed ones, where no table tells which.
    ChangedSource,
    /// A sample that is not signed.
    UnsignedSample,
    /// A signed sample that is not there.
    MissingSample,
    /// A sample with other values in its fields than the signed one of its id.
    ChangedSample,
    /// A field that is not signed, is missing, or is of another type, in all samples.
    ChangedField,
    /// Ids come from elsewhere than was signed.
    ChangedIds,
}

impl DifferenceKind {
    /// A stable name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnsignedFile => "unsigned_file",
            Self::MissingFile => "missing_file",
            Self::ChangedFile => "changed_file",
            Self::ChangedHeader => "changed_header",
            Self::ChangedTensor => "changed_tensor",
            Self::UnsignedTensor => "unsigned_tensor",
            Self::MissingTensor => "missing_tensor",
            Self::ChangedType => "changed_type",
            Self::ChangedShape => "changed_shape",
            Self::AnnotationMismatch => "annotation_mismatch",
            Self::UnsignedSource => "unsigned_source",
            Self::MissingSource => "missing_source",
            Self::ChangedSource => "changed_source",
            Self::UnsignedSample => "unsigned_sample",
            Self::MissingSample => "missing_sample",
            Self::ChangedSample => "changed_sample",
            Self::ChangedField => "changed_field",
            Self::ChangedIds => "changed_ids",
        }
    }
}

impl Difference {
    /// A difference that says no more than where it is.
    pub fn new(kind: DifferenceKind, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..Self::nowhere(kind) }
    }

    /// A difference of a tensor in memory.
    pub fn of_tensor(kind: DifferenceKind, tensor: &str) -> Self {
        Self { tensor: Some(tensor.to_owned()), ..Self::nowhere(kind) }
    }

    /// A difference of a source of samples.
    pub fn of_source(kind: DifferenceKind, source: &str) -> Self {
        Self { source: Some(source.to_owned()), ..Self::nowhere(kind) }
    }

    /// A difference of one sample.
    pub fn of_sample(kind: DifferenceKind, source: &str, id: u64) -> Self {
        Self { sample: Some(id), ..Self::of_source(kind, source) }
    }

    /// A difference of a field of all samples.
    pub fn of_field(kind: DifferenceKind, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..Self::nowhere(kind) }
    }

    pub(crate) fn nowhere(kind: DifferenceKind) -> Self {
        Self { kind, file: None, shard: None, tensor: None, source: None, sample: None, field: None, expected: None, found: None }
    }

    pub(crate) fn with_digests(mut self, expected: &Digest, found: &Digest) -> Self {
        self.expected = Some(format!("{expected:?}"));
        self.found = Some(format!("{found:?}"));
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, shard, expected, found, .. } = self;
        let file = self.file.as_deref().map(printable).unwrap_or_default();
        let tensor = self.tensor.as_deref().map(printable).unwrap_or_default();
        let in_file = if self.file.is_some() { format!(" in \"{file}\"") } else { String::new() };
        let source = self.source.as_deref().map(printable).unwrap_or_default();
        let field = self.field.as_deref().map(printable).unwrap_or_default();
        let sample = self.sample.unwrap_or_default();
        match kind {
            DifferenceKind::UnsignedFile => write!(f, "\"{file}\" is not signed")?,
            DifferenceKind::MissingFile => write!(f, "\"{file}\" is missing")?,
            DifferenceKind::ChangedFile => write!(f, "\"{file}\" was changed")?,
            DifferenceKind::ChangedHeader => write!(f, "the header of \"{file}\" was changed")?,
            DifferenceKind::ChangedTensor => write!(f, "tensor \"{tensor}\"{in_file} was changed")?,
            DifferenceKind::UnsignedTensor => write!(f, "tensor \"{tensor}\"{in_file} is not signed")?,
            DifferenceKind::MissingTensor => write!(f, "tensor \"{tensor}\"{in_file} is missing")?,
            DifferenceKind::ChangedType => write!(f, "tensor \"{tensor}\"{in_file} has another type")?,
            DifferenceKind::ChangedShape => write!(f, "tensor \"{tensor}\"{in_file} has another shape")?,
            DifferenceKind::AnnotationMismatch => match self.tensor {
                Some(_) => write!(f, "the signed digests of \"{file}\" and its tensor \"{tensor}\" contradict each other")?,
                None => write!(f, "the signed digests of \"{file}\" contradict each other")?,
            },
            DifferenceKind::UnsignedSource => write!(f, "source \"{source}\" is not signed")?,
            DifferenceKind::MissingSource => write!(f, "source \"{source}\" is missing")?,
            DifferenceKind::ChangedSource => write!(f, "source \"{source}\" was changed")?,
            DifferenceKind::UnsignedSample => write!(f, "sample {sample} of source \"{source}\" is not signed")?,
            DifferenceKind::MissingSample => write!(f, "sample {sample} of source \"{source}\" is missing")?,
            DifferenceKind::ChangedSample => match (&self.field, expected) {
                (Some(_), Some(_)) => write!(f, "field \"{field}\" of sample {sample} of source \"{source}\" was changed")?,
                (Some(_), None) => write!(f, "sample {sample} of source \"{source}\" was changed, most likely its field \"{field}\"")?,
                (None, _) => write!(f, "sample {sample} of source \"{source}\" was changed")?,
            },
            DifferenceKind::ChangedField => write!(f, "field \"{field}\" of all samples was changed")?,
            DifferenceKind::ChangedIds => write!(f, "ids of samples come from elsewhere")?,
        }
        if let Some(Shard { start, end }) = shard {
            write!(f, " in bytes {start} to {end}")?;
        }
        match (expected, found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}"),
            (Some(expected), None) => write!(f, ": expected {expected}"),
            _ => Ok(()),
        }
    }
}

/// Pairs every signed path with the file of that name.
///
/// # Errors
/// Every missing file, and every file that is neither signed nor allowed nor a note of the hub's about the download.
pub fn pair_names<'a>(manifest: &'a Manifest, listing: &Listing<'a>) -> Result<Pairing<'a>, Vec<Difference>> {
    let mut unpaired: BTreeMap<&str, &FoundFile> = listing.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut files = BTreeMap::new();
    let mut different = Vec::new();
    for path in manifest.paths() {
        let file = match path {
            ResourcePath::File(path) => unpaired.remove(path.as_str()),
            // "." stands for a model that is one file.
            ResourcePath::Model if listing.is_file => unpaired.pop_first().map(|(_, file)| file),
            ResourcePath::Model => None,
        };
        match file {
            Some(file) => {
                files.insert(path, file);
            }
            None => different.push(Difference::new(DifferenceKind::MissingFile, path.as_str())),
        }
    }
    let mut unsigned = Vec::new();
    for (name, file) in unpaired {
        if is_hub_note(name) {
            continue;
        }
        if listing.allow_unsigned || (file.size == 0 && leaves_out_empty_files(manifest)) {
            unsigned.push(name.to_owned());
        } else {
            different.push(Difference::new(DifferenceKind::UnsignedFile, name));
        }
    }
    if different.is_empty() { Ok(Pairing { files, unsigned }) } else { Err(different) }
}

/// model-signing lists no shards of an empty file.
fn leaves_out_empty_files(manifest: &Manifest) -> bool {
    matches!(manifest.serialization().method, Method::Shards { reference_labels: true, .. })
}

/// Every difference between what was signed and what was measured, resource by resource.
pub fn differences(signed: &[Resource], measured: &[MeasuredResource]) -> Vec<Difference> {
    // Unequal lengths cannot come from `measure`; if they do, nothing was checked.
    if signed.len() != measured.len() {
        return signed.iter().map(|resource| Difference::new(DifferenceKind::MissingFile, resource.path.as_str())).collect();
    }
    signed.iter().zip(measured).flat_map(|(signed, measured)| resource_differences(signed, measured)).collect()
}

fn resource_differences(signed: &Resource, found: &MeasuredResource) -> Vec<Difference> {
    let measured = &found.resource;
    let name = signed.path.as_str();
    let file = |kind| Difference { shard: signed.shard, ..Difference::new(kind, name) };
    if signed.path != measured.path {
        return vec![file(DifferenceKind::MissingFile)];
    }
    if signed.shard != measured.shard {
        let end = |shard: Option<Shard>| shard.map(|shard| format!("an end at byte {}", shard.end));
        return vec![Difference { expected: end(signed.shard), found: end(measured.shard), ..file(DifferenceKind::ChangedFile) }];
    }
    if let Some((expected, found)) = found.size_differs {
        let bytes = |number| Some(format!("{number} bytes of tensors"));
        return vec![Difference { expected: bytes(expected), found: bytes(found), ..file(DifferenceKind::ChangedFile) }];
    }
    let file = |kind| file(kind).with_digests(&signed.digest, &measured.digest);
    let same_file = signed.digest == measured.digest;
    let mut inside = annotation_differences(name, signed.annotation.as_ref(), measured.annotation.as_ref());
    match (same_file, inside.is_empty()) {
        (true, true) => Vec::new(),
        // Without an annotation there is nothing to contradict.
        (false, true) if signed.annotation.is_none() => vec![file(DifferenceKind::ChangedFile)],
        (false, false) => {
            // Where header or tensors are named, they say more than the file; else the file is what is left to say.
            inside.retain(|difference| difference.kind != DifferenceKind::AnnotationMismatch);
            if inside.is_empty() { vec![file(DifferenceKind::ChangedFile)] } else { inside }
        }
        (true, false) => {
            inside.iter_mut().for_each(|difference| difference.kind = DifferenceKind::AnnotationMismatch);
            inside
        }
        (false, true) => vec![file(DifferenceKind::AnnotationMismatch)],
    }
}

/// What differs inside a file. An annotation that could not be measured, or of the whole file, says only that.
fn annotation_differences(name: &str, signed: Option<&Annotation>, measured: Option<&Annotation>) -> Vec<Difference> {
    match (signed, measured) {
        (None, _) => Vec::new(),
        (Some(Annotation::Safetensors(signed)), Some(Annotation::Safetensors(measured))) => tensor_differences(name, signed, measured),
        (Some(signed), Some(measured)) if signed == measured => Vec::new(),
        _ => vec![Difference::new(DifferenceKind::AnnotationMismatch, name)],
    }
}

fn tensor_differences(name: &str, signed: &SafetensorsAnnotation, measured: &SafetensorsAnnotation) -> Vec<Difference> {
    let mut different = Vec::new();
    if signed.header != measured.header {
        // Under another header the tensors were not looked for.
        return vec![Difference::new(DifferenceKind::ChangedHeader, name).with_digests(&signed.header, &measured.header)];
    }
    if signed.tensors.len() != measured.tensors.len() {
        different.push(Difference::new(DifferenceKind::AnnotationMismatch, name));
        return different;
    }
    for (signed, measured) in signed.tensors.iter().zip(&measured.tensors) {
        if signed != measured {
            let difference = Difference::new(DifferenceKind::ChangedTensor, name).with_digests(&signed.digest, &measured.digest);
            different.push(Difference { tensor: Some(signed.name.clone()), ..difference });
        }
    }
    different
}
