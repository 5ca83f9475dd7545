//! Everything that can be wrong with a model on disk or with the list of what was signed.

use std::io;
use std::path::PathBuf;

use sentry_hash::HashError;

use crate::{ModelPath, json::JsonError, limits};

/// A model or a manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A name is not canonical or would leave the model.
    #[error("unsafe name \"{name}\": {reason}")]
    UnsafePath {
        /// The name, escaped for printing.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two names of a manifest or directory are equal after Unicode normalisation (NFC).
    #[error("\"{}\" and \"{}\" are one name after Unicode normalisation", first.as_str().escape_default(), second.as_str().escape_default())]
    AmbiguousNames {
        /// One of the names.
        first: ModelPath,
        /// The other.
        second: ModelPath,
    },
    /// A name in the directory is not UTF-8.
    #[error("the name \"{name}\" in the folder \"{directory}\" is not UTF-8")]
    NonUtf8Name {
        /// The directory, relative to the model.
        directory: String,
        /// The name with the offending bytes replaced.
        name: String,
    },
    /// The manifest covers nothing, or the model has no file to sign.
    #[error("there is no file to cover")]
    EmptyManifest,
    /// More resources or files than [`limits::MAX_RESOURCES`].
    #[error("more than {} files", limits::MAX_RESOURCES)]
    TooManyResources,
    /// Directories nested deeper than [`limits::MAX_DIRECTORY_DEPTH`].
    #[error("\"{path}\" is nested deeper than {} directories", limits::MAX_DIRECTORY_DEPTH)]
    TooDeep {
        /// The first directory that is too deep.
        path: String,
    },
    /// The same resource is listed twice.
    #[error("\"{name}\" is listed twice")]
    DuplicateResource {
        /// The name, with its shard if any.
        name: String,
    },
    /// A resource lies under a path that the same statement ignores.
    #[error("\"{name}\" is listed although \"{ignored}\" is ignored")]
    ResourceIgnored {
        /// The resource.
        name: String,
        /// The ignored path.
        ignored: String,
    },
    /// A resource was hashed with another algorithm than the serialization names.
    #[error("\"{name}\" is hashed with {found}, but the serialization names {expected}")]
    AlgorithmMismatch {
        /// The resource.
        name: String,
        /// The serialization's algorithm.
        expected: String,
        /// The resource's.
        found: String,
    },
    /// A shard's name is not `path:start:end`.
    #[error("\"{name}\" is no shard name of the form path:start:end")]
    ShardName {
        /// The name, escaped for printing.
        name: String,
    },
    /// The shards of a file leave a gap, overlap, or have the wrong size.
    #[error("the shards of \"{path}\" do not tile it: expected a shard from {expected_start}, found {found}")]
    ShardLayout {
        /// The file.
        path: String,
        /// Where the next shard has to start, in bytes.
        expected_start: u64,
        /// The shard found there, or that none follows.
        found: String,
    },
    /// Shards are asked for and a file is empty: it has none, so nothing would cover it.
    #[error("\"{path}\" is empty, and an empty file has no shards that could be signed")]
    EmptySharded {
        /// The file.
        path: String,
    },
    /// A shard size is zero, absent, not a whole number, or given where there are no shards.
    #[error("shard size {found}: {reason}")]
    ShardSize {
        /// The size as found.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A digest or algorithm name is malformed.
    #[error("\"{name}\": {source}")]
    Digest {
        /// The resource or tensor.
        name: String,
        /// What is wrong.
        source: HashError,
    },
    /// An annotation of ours contradicts itself, its file or the rules for it.
    #[error("the annotation of \"{name}\" is invalid: {reason}")]
    AnnotationInvalid {
        /// The resource.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A safetensors file is malformed.
    #[error("\"{path}\" is no valid safetensors file: {source}")]
    Safetensors {
        /// The file.
        path: ModelPath,
        /// What is wrong with it.
        source: SafetensorsError,
    },
    /// The index of a model in several safetensors files names other files or tensors than there are.
    #[error("\"{path}\" is no valid index: {reason}")]
    Index {
        /// The index.
        path: ModelPath,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be told which files hold the weights, or the ones named are not signed as safetensors files.
    #[error("which files hold the weights? {reason}")]
    Weights {
        /// What there is.
        reason: String,
    },
    /// A tensor in memory has not as many bytes as its type and shape say.
    #[error("tensor \"{tensor}\" has {found} bytes in memory, its type and shape make {expected}")]
    TensorSize {
        /// The tensor, escaped for printing.
        tensor: String,
        /// Bytes by type and shape, 0 if these have no size.
        expected: u64,
        /// Bytes in memory.
        found: u64,
    },
    /// Two tensors of one model in memory, or in files that are loaded together, have the same name.
    #[error("there are two tensors with the name \"{tensor}\"")]
    DuplicateTensor {
        /// The name, escaped for printing.
        tensor: String,
    },
    /// A symbolic link inside the model.
    #[error("\"{path}\" is a symbolic link")]
    Symlink {
        /// The link.
        path: ModelPath,
    },
    /// A symbolic link leads out of the model.
    #[error("the symbolic link \"{path}\" leads out of the model")]
    SymlinkEscape {
        /// The link.
        path: ModelPath,
    },
    /// Symbolic links lead to each other.
    #[error("the symbolic link \"{path}\" leads back to itself")]
    SymlinkCycle {
        /// The link.
        path: ModelPath,
    },
    /// Neither a file nor a directory: a FIFO, socket or device.
    #[error("\"{path}\" is a {kind}, not a regular file")]
    SpecialFile {
        /// What was found.
        path: String,
        /// Its kind.
        kind: &'static str,
    },
    /// A file was written to, or replaced, while it was read.
    #[error("\"{path}\" changed while it was read: {what}")]
    ChangedWhileRead {
        /// The file.
        path: ModelPath,
        /// What changed.
        what: String,
    },
    /// A file or directory could not be read.
    #[error("cannot read \"{}\": {source}", crate::printable_path(path))]
    Io {
        /// What was read.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A backend failed.
    #[error("hashing failed: {0}")]
    Hash(#[from] HashError),
}

impl ManifestError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnsafePath { .. } => "unsafe_path",
            Self::AmbiguousNames { .. } => "ambiguous_names",
            Self::NonUtf8Name { .. } => "non_utf8_name",
            Self::EmptyManifest => "empty_manifest",
            Self::TooManyResources => "too_many_resources",
            Self::TooDeep { .. } => "too_deep",
            Self::DuplicateResource { .. } => "duplicate_resource",
            Self::ResourceIgnored { .. } => "resource_ignored",
            Self::AlgorithmMismatch { .. } => "algorithm_mismatch",
            Self::ShardName { .. } => "shard_name",
            Self::ShardLayout { .. } => "shard_layout",
            Self::EmptySharded { .. } => "empty_file",
            Self::ShardSize { .. } => "shard_size",
            Self::Digest { source, .. } | Self::Hash(source) => hash_code(source),
            Self::AnnotationInvalid { .. } => "annotation_invalid",
            Self::Safetensors { source, .. } => source.code(),
            Self::Index { .. } => "index_invalid",
            Self::Weights { .. } => "weights_unclear",
            Self::TensorSize { .. } => "tensor_size",
            Self::DuplicateTensor { .. } => "duplicate_tensor",
            Self::Symlink { .. } => "symlink",
            Self::SymlinkEscape { .. } => "symlink_escape",
            Self::SymlinkCycle { .. } => "symlink_cycle",
            Self::SpecialFile { .. } => "special_file",
            Self::ChangedWhileRead { .. } => "file_changed_while_read",
            Self::Io { .. } => "io",
        }
    }

    /// Whether the check could not be made, rather than failed.
    pub fn is_unchecked(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Hash(_) | Self::Weights { .. } | Self::TensorSize { .. })
    }
}

fn hash_code(error: &HashError) -> &'static str {
    match error {
        HashError::UnknownAlgorithm { .. } => "unknown_algorithm",
        HashError::DigestEncoding { .. } => "digest_encoding",
        HashError::DigestLength { .. } => "digest_length",
        HashError::Device { code, .. } => code,
        _ => "hash_failed",
    }
}

/// A safetensors file that breaks the format's rules.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The file ends before its header does.
    #[error("the header should have {expected} bytes, the file has {found}")]
    HeaderTruncated {
        /// Bytes of the length field and the header.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The header is longer than [`limits::MAX_SAFETENSORS_HEADER`].
    #[error("the header is said to have {found} bytes, at most {} are allowed", limits::MAX_SAFETENSORS_HEADER)]
    HeaderTooLarge {
        /// The length that the file states, in bytes.
        found: u64,
    },
    /// The header is not the JSON that the format asks for.
    #[error("the header is malformed: {reason}")]
    Json {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A tensor, or a key of one, stands twice in the header.
    #[error("the header has the key \"{key}\" twice")]
    DuplicateKey {
        /// The key, escaped for printing.
        key: String,
    },
    /// More tensors than [`limits::MAX_TENSORS`].
    #[error("more than {} tensors", limits::MAX_TENSORS)]
    TooManyTensors,
    /// A tensor's type is not one of the format's.
    #[error("tensor \"{tensor}\" has the unknown dtype \"{found}\"")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type, escaped for printing.
        found: String,
    },
    /// The size of a tensor does not fit 64 bits, or is no whole number of bytes.
    #[error("tensor \"{tensor}\" of shape {shape:?} has no size in bytes")]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
        /// Its shape in elements.
        shape: Vec<u64>,
    },
    /// A tensor's offsets are reversed, or disagree with its type and shape.
    #[error("tensor \"{tensor}\" should have {expected} bytes, its offsets are {begin} to {end}")]
    Offsets {
        /// The tensor.
        tensor: String,
        /// Bytes by type and shape.
        expected: u64,
        /// Where it begins in the data, in bytes.
        begin: u64,
        /// Where it ends.
        end: u64,
    },
    /// Two tensors share bytes.
    #[error("tensor \"{tensor}\" begins at byte {found} of the data, inside the one before, which ends at {expected}")]
    Overlap {
        /// The later tensor.
        tensor: String,
        /// Where the tensor before it ends, in bytes.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// Bytes between two tensors belong to none.
    #[error("tensor \"{tensor}\" begins at byte {found} of the data, the bytes from {expected} on belong to none")]
    Hole {
        /// The tensor after the hole.
        tensor: String,
        /// Where the tensor before it ends, in bytes.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// The tensors need more bytes than the file has.
    #[error("the tensors end at byte {expected} of the data, the file has {found}")]
    PastEnd {
        /// Where the last tensor ends, in bytes.
        expected: u64,
        /// Bytes of data in the file.
        found: u64,
    },
    /// Bytes after the last tensor.
    #[error("the tensors end at byte {expected} of the data, the file goes on to {found}")]
    TrailingData {
        /// Where the last tensor ends, in bytes.
        expected: u64,
        /// Bytes of data in the file.
        found: u64,
    },
    /// `__metadata__` is no map of strings to strings.
    #[error("__metadata__ is no map of strings to strings")]
    Metadata,
}

impl SafetensorsError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HeaderTruncated { .. } => "safetensors_header_truncated",
            Self::HeaderTooLarge { .. } => "safetensors_header_too_large",
            Self::Json { .. } => "safetensors_json",
            Self::DuplicateKey { .. } => "safetensors_duplicate_key",
            Self::TooManyTensors => "safetensors_too_many_tensors",
            Self::Dtype { .. } => "safetensors_dtype",
            Self::ShapeOverflow { .. } => "safetensors_shape_overflow",
            Self::Offsets { .. } => "safetensors_offsets",
            Self::Overlap { .. } => "safetensors_overlap",
            Self::Hole { .. } => "safetensors_hole",
            Self::PastEnd { .. } => "safetensors_past_end",
            Self::TrailingData { .. } => "safetensors_trailing_data",
            Self::Metadata => "safetensors_metadata",
        }
    }
}

impl From<JsonError> for SafetensorsError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::DuplicateKey { key } => Self::DuplicateKey { key },
            other => Self::Json { reason: other.to_string() },
        }
    }
}
