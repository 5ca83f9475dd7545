//! Verifying the samples of a dataset: all of them in files, or one by one.

use std::path::{Path, PathBuf};

use sentry_bundle::DatasetStatement;
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_hash::Cpu;
use sentry_manifest::{MeasuredDataset, ModelPath, ModelTree};
use sentry_trust::{SampleChecker, Verified, Verifier, VerifyError};

use super::sign::left_out;
use super::{default_dataset_signature_path, tables};
use crate::signature_file::{read_bundle, read_verified};
use crate::{Error, Observer};

/// How to verify a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatasetVerifyOptions {
    /// Where the signatures lie; none for [`default_dataset_signature_path`]. Several are for a policy.
    pub signatures: Vec<PathBuf>,
    /// The column that names each sample's source, if the signer named one.
    pub source_column: Option<String>,
}

/// A dataset in files whose every sample is the signed one.
#[derive(Debug)]
pub struct VerifiedDataset {
    /// What was signed, and who signed it.
    pub dataset: Verified<sentry_trust::Dataset>,
    /// Bytes of all files with samples.
    pub bytes: u64,
    /// Files of the dataset that hold no samples: the signature says nothing of them.
    pub others: Vec<ModelPath>,
}

/// Verifies the samples of a folder or a file: the signature first, then its tables, then every sample.
///
/// # Errors
/// Any [`Error`]; [`Error::verdict`] tells a rejected dataset from one that could not be checked.
pub fn verify_dataset(
    dataset: &Path,
    verifier: &dyn Verifier,
    contributors: &[Verified<DatasetStatement>],
    options: &DatasetVerifyOptions,
    observer: &dyn Observer,
) -> Result<VerifiedDataset, Error> {
    let tree = ModelTree::open(dataset)?;
    let signatures = signature_paths(dataset, &options.signatures);
    let statement = read_statement(&signatures, contributors, verifier)?;
    let stored = tables::read(&signatures[0], &statement.value().manifest)?;
    let opened = open_as_signed(dataset, &tree, &signatures, statement.value(), options.source_column.as_deref())?;
    observer.begin(opened.bytes(), opened.files());
    let measured = opened.measure(Cpu::new().threads(), &|bytes| observer.advance(bytes))?;
    let dataset = statement.confirm_dataset(&measured, &stored)?;
    Ok(VerifiedDataset { dataset, bytes: opened.bytes(), others: opened.others().to_vec() })
}

/// Gets ready to check samples of a dataset, none of which is read here. `dataset` is the folder or file, which need not be there if
/// `signatures` are named.
///
/// # Errors
/// Any [`Error`] about the signature and its tables.
pub fn open_samples(
    dataset: &Path,
    signatures: &[PathBuf],
    verifier: &dyn Verifier,
    contributors: &[Verified<DatasetStatement>],
) -> Result<SampleChecker, Error> {
    let signatures = signature_paths(dataset, signatures);
    let statement = read_statement(&signatures, contributors, verifier)?;
    let files = tables::open(&signatures[0], &statement.value().manifest)?;
    Ok(statement.sample_checker(files)?)
}

/// Every difference between a dataset in files and what a signature says of it. Nobody's signature is checked.
///
/// # Errors
/// Any [`Error`] but a difference.
pub fn diff_dataset(
    dataset: &Path,
    signature: Option<&Path>,
    source_column: Option<&str>,
    observer: &dyn Observer,
) -> Result<Vec<sentry_trust::Difference>, Error> {
    let signature = signature.map_or_else(|| default_dataset_signature_path(dataset), Path::to_owned);
    let statement = DatasetStatement::parse(&read_bundle(&signature)?.claims().payload)?;
    let stored = tables::read(&signature, &statement.manifest)?;
    let tree = ModelTree::open(dataset)?;
    let opened = open_as_signed(dataset, &tree, std::slice::from_ref(&signature), &statement, source_column)?;
    observer.begin(opened.bytes(), opened.files());
    let measured: MeasuredDataset = opened.measure(Cpu::new().threads(), &|bytes| observer.advance(bytes))?;
    Ok(sentry_trust::dataset_differences(&statement, &measured, &stored)?)
}

pub(super) fn signature_paths(dataset: &Path, named: &[PathBuf]) -> Vec<PathBuf> {
    if named.is_empty() { vec![default_dataset_signature_path(dataset)] } else { named.to_vec() }
}

/// Reads a statement, and compares it with those of the contributors that it names.
pub(super) fn read_statement(
    signatures: &[PathBuf],
    contributors: &[Verified<DatasetStatement>],
    verifier: &dyn Verifier,
) -> Result<Verified<DatasetStatement>, Error> {
    let statement: Verified<DatasetStatement> = read_verified(signatures, verifier)?;
    Ok(statement.with_contributors(contributors)?)
}

/// Opens the files of a dataset to be read as a statement says.
fn open_as_signed(
    dataset: &Path,
    tree: &ModelTree,
    signatures: &[PathBuf],
    statement: &DatasetStatement,
    source_column: Option<&str>,
) -> Result<Dataset, Error> {
    let manifest = &statement.manifest;
    let read = ReadOptions {
        ids: Some(manifest.ids().clone()),
        source_column: source_column.map(str::to_owned),
        fields: Some(manifest.fields().to_vec()),
    };
    let mut leave_out = Vec::new();
    for signature in signatures {
        leave_out.extend(left_out(tree, signature)?);
    }
    match Dataset::open(dataset, &read, &leave_out) {
        // The signer's column is not there: another dataset, not a mistake of the caller's.
        Err(sentry_dataset::DatasetError::Column { column, .. }) if source_column != Some(column.as_str()) => {
            let found = Dataset::open(dataset, &ReadOptions { ids: None, fields: None, ..read }, &leave_out)?;
            Err(VerifyError::DatasetDiffers(sentry_trust::field_differences(manifest, found.fields(), found.ids())).into())
        }
        result => Ok(result?),
    }
}
