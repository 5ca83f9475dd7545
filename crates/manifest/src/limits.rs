//! Bounds that keep a hostile input from exhausting memory or time. Each is checked before anything of
//! that size is allocated.

/// Longest name of a file or tensor in bytes: Linux' `PATH_MAX`.
pub const MAX_NAME_BYTES: usize = 4096;

/// Most resources of a manifest, and most files of a directory that is signed or verified. The largest
/// published models have some thousands.
pub const MAX_RESOURCES: usize = 1_000_000;

/// Most tensors of one safetensors file. The largest published files have some ten thousands.
pub const MAX_TENSORS: usize = 1_000_000;

/// Longest safetensors header in bytes, without its length field: the limit of the safetensors library.
pub const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

/// Longest index of safetensors files in bytes; one of 10,000 tensors has about a megabyte.
pub const MAX_INDEX_BYTES: u64 = 100_000_000;

/// Deepest nesting of a JSON document. Statements need 6.
pub const MAX_JSON_DEPTH: usize = 32;

/// Deepest nesting of directories in a model: far beyond any real one, and few enough open handles.
pub const MAX_DIRECTORY_DEPTH: usize = 64;

/// Most dimensions of a tensor; PyTorch and NumPy allow 64.
pub const MAX_DIMENSIONS: usize = 64;

/// Most fields of a record; the widest published tables have some thousands of columns.
pub const MAX_FIELDS: usize = 65_536;

/// Most sources of a dataset.
pub const MAX_SOURCES: usize = 65_536;

/// Deepest nesting of structures and lists in a record. Arrow's own files seldom have more than 4.
pub const MAX_RECORD_DEPTH: usize = 32;

/// Bytes by which a safetensors file may exceed its signed tensors, beyond the longest header, and still be hashed, in
/// order to tell a file that was signed like that from one that grew later.
pub const MAX_TRAILING_BYTES: u64 = 100_000_000;

/// Characters of a name or of another library's sentence that are printed.
pub const MAX_PRINTED: usize = 512;
