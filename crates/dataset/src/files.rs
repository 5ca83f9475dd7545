//! Datasets in files: which files they are, and how the samples of all of them are measured on all cores.

mod arrays;
mod images;
mod table;
mod tar;

use std::path::Path;

use sentry_hash::lattice::SampleDigest;
use sentry_manifest::{DatasetField, IdRule, MeasuredDataset, ModelPath};

use crate::{DatasetError, Row};

/// How the samples of a dataset are found. What is not said is found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Where ids come from; by default an integer column `id`, a path or a key, or the number of the row.
    pub ids: Option<IdRule>,
    /// The column that names each sample's source; by default the name of the split, from the names of files and folders.
    pub source_column: Option<String>,
    /// The fields and their types, if they are known: those of a signed statement. Types of CSV and JSON are taken from here.
    pub fields: Option<Vec<DatasetField>>,
}

/// A dataset in files, of which no sample has been read yet.
pub struct Dataset {}

impl Dataset {
    /// Lists the files of a folder, or takes one file, and reads their heads. Files named in `leave_out` (the signature and tables) are
    /// no part of it.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn open(_path: &Path, _options: &ReadOptions, _leave_out: &[ModelPath]) -> Result<Self, DatasetError> {
        todo!()
    }

    /// Bytes of all files with samples.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// How many files hold samples.
    pub fn files(&self) -> usize {
        todo!()
    }

    /// Name and signed type of each field, sorted by name.
    pub fn fields(&self) -> &[DatasetField] {
        todo!()
    }

    /// Files that hold no samples and that no statement about samples covers, such as `README.md`.
    pub fn others(&self) -> &[ModelPath] {
        todo!()
    }

    /// Where ids come from.
    pub fn ids(&self) -> &IdRule {
        todo!()
    }

    /// Reads every sample once, over `threads` threads. `progress` is told of bytes as they are read, by any thread.
    ///
    /// # Errors
    /// [`DatasetError`]; nothing comes of a dataset of which one sample cannot be read.
    pub fn measure(&self, _threads: usize, _progress: &(dyn Fn(u64) + Sync)) -> Result<MeasuredDataset, DatasetError> {
        todo!()
    }
}

/// One file of samples, which several threads read, each a part.
trait SampleFile: Send + Sync {
    /// Name and signed type of each field, sorted by name.
    fn fields(&self) -> &[DatasetField];

    /// Where ids come from.
    fn ids(&self) -> &IdRule;

    /// The bytes of each part, as for progress; at least one part.
    fn parts(&self) -> &[u64];

    /// Reads a part, and hands out its samples in order, some at a time.
    ///
    /// # Errors
    /// [`DatasetError`], and those of `sink`.
    fn read(&self, part: usize, sink: &mut dyn FnMut(&[Row]) -> Result<(), DatasetError>) -> Result<(), DatasetError>;
}

/// The digest of a record's fields, whose names are in any order.
fn sample_digest(_fields: &[sentry_manifest::record::Field<'_>]) -> Result<SampleDigest, sentry_manifest::record::RecordError> {
    todo!()
}
