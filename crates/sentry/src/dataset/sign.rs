//! Signing the samples of a dataset.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sentry_bundle::DatasetStatement;
use sentry_bundle::limits::MAX_JSON_INTEGER;
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_hash::lattice::SourceTag;
use sentry_hash::{Cpu, Digest};
use sentry_manifest::{DatasetManifest, ListError, MeasuredDataset, ModelPath, ModelTree, Source};
use sentry_trust::{Signer, Verified, Verifier};

use super::{default_dataset_signature_path, tables};
use crate::signature_file::{check_replaceable, path_inside, read_verified, write_signature};
use crate::timestamp::sign_and_timestamp;
use crate::{Error, Observer};

/// How to sign a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetSignOptions {
    /// Where to write the signature; `None` for [`default_dataset_signature_path`].
    pub signature: Option<PathBuf>,
    /// The dataset's name; `None` for that of the folder or file.
    pub name: Option<String>,
    /// Its version, at most 2^53 - 1.
    pub version: Option<u64>,
    /// How its samples are found.
    pub read: ReadOptions,
    /// Whether to write sample tables, with which every sample can be checked before it is used.
    pub tables: bool,
    /// The URL of an authority that timestamps the signature (RFC 3161).
    pub timestamp: Option<String>,
}

impl Default for DatasetSignOptions {
    fn default() -> Self {
        Self { signature: None, name: None, version: None, read: ReadOptions::default(), tables: true, timestamp: None }
    }
}

/// What was signed, and where the signature is.
#[derive(Debug)]
pub struct SignedDataset {
    /// The signature file.
    pub signature: PathBuf,
    /// What it covers.
    pub statement: DatasetStatement,
    /// Bytes of all files with samples.
    pub bytes: u64,
    /// Files of the dataset that hold no samples: the signature says nothing of them.
    pub others: Vec<ModelPath>,
}

/// Signs the samples of a folder or a file; those of `contributors` are named as theirs.
///
/// # Errors
/// Any [`Error`]. A signature that was there before is untouched then, with its tables.
pub fn sign_dataset(
    dataset: &Path,
    signer: &dyn Signer,
    contributors: &[Verified<DatasetStatement>],
    options: &DatasetSignOptions,
    observer: &dyn Observer,
) -> Result<SignedDataset, Error> {
    let tree = ModelTree::open(dataset)?;
    let signature = options.signature.clone().unwrap_or_else(|| default_dataset_signature_path(dataset));
    check_replaceable(&signature)?;
    let opened = Dataset::open(dataset, &options.read, &left_out(&tree, &signature)?)?;
    observer.begin(opened.bytes(), opened.files());
    let measured = opened.measure(Cpu::new().threads(), &|bytes| observer.advance(bytes))?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => tree.name()?,
    };
    let options = DatasetSignOptions { signature: Some(signature.clone()), name: Some(name), ..options.clone() };
    let statement = sign_samples(&measured, signer, contributors, &options)?;
    Ok(SignedDataset { signature, statement, bytes: opened.bytes(), others: opened.others().to_vec() })
}

/// The signature of a dataset, if it lies inside.
pub(super) fn left_out(tree: &ModelTree, signature: &Path) -> Result<Vec<ModelPath>, Error> {
    Ok(path_inside(tree, signature)?.into_iter().collect())
}

/// Reads the signature of a contributor, who is trusted for it.
///
/// # Errors
/// Any [`Error`] about a signature.
pub fn read_contributor(signature: &Path, verifier: &dyn Verifier) -> Result<Verified<DatasetStatement>, Error> {
    read_verified(&[signature.to_owned()], verifier)
}

/// Signs samples that were measured; the options say where to write the signature, and the name.
///
/// # Errors
/// Any [`Error`]. A signature that was there before is untouched then, with its tables.
pub fn sign_samples(
    measured: &MeasuredDataset,
    signer: &dyn Signer,
    contributors: &[Verified<DatasetStatement>],
    options: &DatasetSignOptions,
) -> Result<DatasetStatement, Error> {
    let (Some(signature), Some(name)) = (&options.signature, &options.name) else {
        return Err(Error::Options { reason: "samples in memory need a name and a place for the signature" });
    };
    check_version(options.version)?;
    check_replaceable(signature)?;
    let theirs = claims(contributors)?;
    let mut sources = Vec::new();
    for source in measured.sources() {
        let tag = SourceTag::new(&source.name).map_err(ListError::from)?;
        let state = source.table.state(&tag, &Cpu::new()).map_err(ListError::from)?;
        let table = if options.tables { Some(tables::describe(signature, &source.name, &source.table)?) } else { None };
        let statement = match theirs.get(source.name.as_str()) {
            None => None,
            Some((payload, signed)) if signed.state == state => Some(*payload),
            Some(_) => return Err(Error::Options { reason: "a source has other samples than its contributor signed" }),
        };
        sources.push(Source { name: source.name.clone(), state, table, statement });
    }
    if let Some(missing) = theirs.keys().find(|name| !measured.sources().iter().any(|source| source.name == **name)) {
        let reason = format!("a contributor signed source \"{}\", which is not there", sentry_manifest::printable(missing));
        return Err(sentry_dataset::DatasetError::Layout { reason }.into());
    }
    let manifest = DatasetManifest::new(name.clone(), options.version, measured.fields().to_vec(), measured.ids().clone(), sources)?;
    let statement = DatasetStatement { manifest };
    let tables = measured.sources().iter().map(|source| (source.name.as_str(), &source.table)).collect();
    write(&statement, &tables, signer, signature, options.timestamp.as_deref())?;
    Ok(statement)
}

pub(super) fn check_version(version: Option<u64>) -> Result<(), Error> {
    match version {
        Some(version) if version > MAX_JSON_INTEGER => Err(Error::Options { reason: "a version is at most 2^53 - 1" }),
        _ => Ok(()),
    }
}

/// The sources that contributors signed, each once.
fn claims(contributors: &[Verified<DatasetStatement>]) -> Result<BTreeMap<&str, (Digest, &Source)>, Error> {
    let mut claims = BTreeMap::new();
    for contributor in contributors {
        for source in contributor.value().manifest.sources() {
            if claims.insert(source.name.as_str(), (contributor.payload_sha256(), source)).is_some() {
                return Err(Error::Options { reason: "two contributors signed a source of the same name" });
            }
        }
    }
    Ok(claims)
}

/// Tables first, then the signature that names them, then away with old tables.
pub(super) fn write(
    statement: &DatasetStatement,
    samples: &BTreeMap<&str, &sentry_hash::table::Table>,
    signer: &dyn Signer,
    signature: &Path,
    timestamp: Option<&str>,
) -> Result<(), Error> {
    let bundle = sign_and_timestamp(statement, signer, timestamp)?;
    let mut names = BTreeSet::new();
    for source in statement.manifest.sources() {
        let Some(described) = &source.table else { continue };
        if !names.insert(described.path.as_str()) {
            return Err(Error::Options { reason: "two sources have tables of the same name: their names are too much alike" });
        }
        tables::write(signature, described, samples[source.name.as_str()])?;
    }
    // Once more, for hashing takes its time.
    check_replaceable(signature)?;
    write_signature(signature, &bundle)?;
    tables::remove_others(signature, &statement.manifest)
}
