//! What is wrong with a list of tensors or of a dataset's sources, and the checks that both share.

use sentry_hash::{Algorithm, HashError};

use crate::limits::{MAX_NAME_BYTES, MAX_PRINTED};
use crate::{ManifestError, printable};

/// A list of tensors, or a dataset, that nobody may sign or believe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// Names that do not ascend by their UTF-8 bytes, or one that is there twice.
    #[error("{what} \"{name}\" does not come after the one before it")]
    NotAscending {
        /// What is listed.
        what: &'static str,
        /// The second of the two names, escaped for printing.
        name: String,
    },
    /// Nothing is listed, or too much.
    #[error("there must be 1 to {most} {what}s, found {found}")]
    Count {
        /// What is listed.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        most: u64,
    },
    /// A name or a type is empty or too long.
    #[error("the {what} has 1 to {MAX_NAME_BYTES} bytes, found {length}")]
    Text {
        /// Whose text.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// Tensors are not hashed with this algorithm.
    #[error("tensors are listed with blake3 or sha256-tree digests, found {found}")]
    Algorithm {
        /// The algorithm found.
        found: Algorithm,
    },
    /// A tensor has too many dimensions, or a size that is no whole number of bytes below 2^64.
    #[error("tensor \"{tensor}\" of shape {shape:?} has no size in bytes")]
    Shape {
        /// The tensor, escaped for printing.
        tensor: String,
        /// Its shape in elements, as far as it is printed.
        shape: Vec<u64>,
    },
    /// A source's table does not fit its samples.
    #[error("the table of source \"{source_name}\" must have {expected} {what}, found {found}")]
    Table {
        /// The source, escaped for printing.
        source_name: String,
        /// What is counted: bytes or digests.
        what: &'static str,
        /// How many there must be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A table's name, or a digest, is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A state, or the sum of all, is out of bounds.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl ListError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAscending { .. } => "list_not_ascending",
            Self::Count { .. } => "list_count",
            Self::Text { .. } => "list_text",
            Self::Algorithm { .. } => "list_algorithm",
            Self::Shape { .. } => "list_shape",
            Self::Table { .. } => "list_table",
            Self::Manifest(error) => error.code(),
            Self::Hash(_) => "list_state",
        }
    }

    pub(crate) fn shape(tensor: &str, shape: &[u64]) -> Self {
        Self::Shape { tensor: printable(tensor), shape: shape.iter().copied().take(MAX_PRINTED / 8).collect() }
    }
}

/// Checks the length of a name, in bytes.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), ListError> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES { Err(ListError::Text { what, length: text.len() }) } else { Ok(()) }
}

/// Checks names: as many as allowed, each of the right length, each after the one before it.
pub(crate) fn check_names<'a>(
    what: &'static str,
    most: usize,
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Result<(), ListError> {
    if names.len() == 0 || names.len() > most {
        return Err(ListError::Count { what, found: names.len() as u64, most: most as u64 });
    }
    names.clone().try_for_each(|name| check_text(what, name))?;
    match names.clone().zip(names.skip(1)).find(|(before, name)| before.as_bytes() >= name.as_bytes()) {
        Some((_, name)) => Err(ListError::NotAscending { what, name: printable(name) }),
        None => Ok(()),
    }
}
