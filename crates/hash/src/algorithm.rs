//! The closed list of hash algorithms.

use std::fmt;
use std::str::FromStr;

use crate::tree::Tree;
use crate::{Digest, HashError, Hasher};

/// A hash algorithm that Sentry computes. The list is closed: a name from outside is looked up here
/// and refused if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, FIPS 180-4. The interoperable default.
    Sha256,
    /// BLAKE2b with a digest of 64 bytes and no key, RFC 7693.
    Blake2b,
    /// BLAKE3 with a digest of 32 bytes and no key. A tree, so one file uses all cores.
    Blake3,
    /// SHA3-256, FIPS 202. Never part of an OpenSSF Model Signing statement.
    Sha3_256,
    /// A Merkle tree over SHA-256, so that one message uses all cores or a GPU. Neither it nor its two siblings is ever
    /// part of an OpenSSF Model Signing statement.
    Sha256Tree,
    /// A Merkle tree over BLAKE2b, with a digest of 64 bytes.
    Blake2bTree,
    /// A Merkle tree over SHA3-256.
    Sha3_256Tree,
}

impl Algorithm {
    /// Every algorithm, in the order in which help texts list them.
    pub const ALL: [Self; 7] =
        [Self::Sha256, Self::Blake2b, Self::Blake3, Self::Sha3_256, Self::Sha256Tree, Self::Blake2bTree, Self::Sha3_256Tree];

    /// The name used in statements and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
            Self::Blake3 => "blake3",
            Self::Sha3_256 => "sha3-256",
            Self::Sha256Tree => "sha256-tree",
            Self::Blake2bTree => "blake2b-tree",
            Self::Sha3_256Tree => "sha3-256-tree",
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Blake2b | Self::Blake2bTree => 64,
            Self::Sha256 | Self::Blake3 | Self::Sha3_256 | Self::Sha256Tree | Self::Sha3_256Tree => 32,
        }
    }

    /// The tree behind this algorithm, if pieces of one message can be hashed apart and joined.
    pub const fn tree(self) -> Option<Tree> {
        match self {
            Self::Blake3 => Some(Tree::Blake3),
            Self::Sha256Tree => Some(Tree::Sha256),
            Self::Blake2bTree => Some(Tree::Blake2b),
            Self::Sha3_256Tree => Some(Tree::Sha3_256),
            Self::Sha256 | Self::Blake2b | Self::Sha3_256 => None,
        }
    }

    /// Whether OpenSSF Model Signing knows this algorithm.
    pub const fn is_in_oms(self) -> bool {
        matches!(self, Self::Sha256 | Self::Blake2b | Self::Blake3)
    }

    /// The digest of one message in memory, on this thread.
    pub fn digest(self, message: &[u8]) -> Digest {
        if cfg!(sentry_count_bytes) && self == Self::Blake3 {
            return Tree::Blake3.whole(message);
        }
        let mut hasher = Hasher::new(self);
        hasher.update(message);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = HashError;

    fn from_str(name: &str) -> Result<Self, HashError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| HashError::UnknownAlgorithm { name: name.chars().take(160).collect() })
    }
}
