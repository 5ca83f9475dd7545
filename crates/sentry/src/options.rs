//! What a caller can choose.

use std::path::PathBuf;

use sentry_hash::Algorithm;

/// How to sign. The default is what every OpenSSF tool verifies: whole files under SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOptions {
    /// Where to write the signature; `None` for [`default_signature_path`](crate::default_signature_path).
    pub signature: Option<PathBuf>,
    /// The hash of the files: SHA-256, BLAKE2b or BLAKE3.
    pub hash: Algorithm,
    /// Bytes of a shard, to sign shards of files instead of whole files.
    pub shard_size: Option<u64>,
    /// Paths to leave out, relative to the model, with all beneath them.
    pub ignore: Vec<String>,
    /// Whether to follow symbolic links that stay inside the model.
    pub allow_symlinks: bool,
    /// The artifact's version, at most 2^53 - 1.
    pub version: Option<u64>,
    /// Whether to add BLAKE3 digests of every tensor and file, for loading at speed and for naming the tensor that
    /// was changed.
    pub annotate: bool,
    /// The URL of an authority that timestamps the signature (RFC 3161).
    pub timestamp: Option<String>,
}

impl Default for SignOptions {
    fn default() -> Self {
        Self {
            signature: None,
            hash: Algorithm::Sha256,
            shard_size: None,
            ignore: Vec::new(),
            allow_symlinks: false,
            version: None,
            annotate: true,
            timestamp: None,
        }
    }
}

/// How to verify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Where the signatures lie; none for [`default_signature_path`](crate::default_signature_path). Several are for a policy.
    pub signatures: Vec<PathBuf>,
    /// Paths to leave out besides those that the signature names, relative to the model.
    pub ignore: Vec<String>,
    /// Whether files that are not signed may lie in the model. They are listed in the result.
    pub allow_unsigned: bool,
}

/// Told how far the hashing has come, from any thread.
pub trait Observer: Sync {
    /// Hashing begins, of so many bytes in so many files.
    fn begin(&self, bytes: u64, files: usize);
    /// So many more bytes have been read.
    fn advance(&self, bytes: u64);
}

impl Observer for () {
    fn begin(&self, _: u64, _: usize) {}
    fn advance(&self, _: u64) {}
}
