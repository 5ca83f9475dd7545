//! What keeps a dataset from being read as samples.

use std::io;

use sentry_hash::HashError;
use sentry_manifest::record::RecordError;
use sentry_manifest::{ListError, ManifestError, SamplesError};

/// A dataset that cannot be read, or that no signature can be about. Names in it are escaped for printing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file cannot be read.
    #[error("cannot read \"{file}\": {source}")]
    Io {
        /// Relative to the dataset.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// A file breaks the rules of its format.
    #[error("\"{file}\" is no valid {format}: {reason}")]
    Malformed {
        /// Relative to the dataset.
        file: String,
        /// Such as `Parquet`.
        format: &'static str,
        /// What the reader says.
        reason: String,
    },
    /// A file was written to or replaced while it was read.
    #[error("\"{file}\" changed while it was read")]
    Changed {
        /// Relative to the dataset.
        file: String,
    },
    /// The folder or file is no dataset that can be read as samples.
    #[error("{reason}")]
    Layout {
        /// Why not, as a sentence with the names of files.
        reason: String,
    },
    /// A column that was named does not exist, or is of a type that will not do.
    #[error("column \"{column}\": {reason}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sample has no record.
    #[error("sample {sample} of {place}: {source}")]
    Record {
        /// A file or `the batch`.
        place: String,
        /// The number of the row in it, from 0.
        sample: u64,
        /// Why not.
        source: RecordError,
    },
    /// The samples are no dataset, such as for an id that is there twice.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// The files cannot be listed, or the dataset is out of bounds.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The dataset is out of bounds.
    #[error(transparent)]
    List(#[from] ListError),
    /// A table or a state is out of bounds.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl DatasetError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Malformed { .. } => "dataset_malformed",
            Self::Changed { .. } => "file_changed_while_read",
            Self::Layout { .. } => "dataset_layout",
            Self::Column { .. } => "dataset_column",
            Self::Record { .. } => "sample_record",
            Self::Samples(error) => error.code(),
            Self::Manifest(error) => error.code(),
            Self::List(error) => error.code(),
            Self::Hash(_) => "dataset_bounds",
        }
    }

    /// Whether this says nothing about the dataset: it could not be read, or the caller asks for what is not there.
    pub fn is_unchecked(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Layout { .. } | Self::Column { .. } | Self::Hash(_) => true,
            Self::Manifest(error) => error.is_unchecked(),
            Self::Malformed { .. } | Self::Changed { .. } | Self::Record { .. } | Self::Samples(_) | Self::List(_) => false,
        }
    }
}
