//! A dataset whose samples were all read, against what was signed of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sentry_bundle::DatasetStatement;
use sentry_hash::lattice::{Entry, SourceTag};
use sentry_hash::table::Table;
use sentry_hash::{Backend, Cpu, HashError};
use sentry_manifest::{DatasetField, DatasetManifest, IdRule, ListError, MeasuredDataset, Source, TableDigests, printable};

use crate::{Difference, DifferenceKind, Verified, VerifyError};

/// Differences that are listed at most; a dataset with a changed type of image has one for each of millions of samples.
pub const MAX_LISTED: usize = 10_000;

/// A dataset whose every sample is the signed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    statement: DatasetStatement,
}

impl Dataset {
    /// What was signed.
    pub fn statement(&self) -> &DatasetStatement {
        &self.statement
    }
}

impl Verified<DatasetStatement> {
    /// Checks the sources that are said to be contributors': each has a statement of its own, verified too, which has the same
    /// samples under the same name. Sources that name no statement are the signer's own; a statement that no source names is an error.
    ///
    /// # Errors
    /// [`VerifyError::Contributor`].
    pub fn with_contributors(self, contributors: &[Verified<DatasetStatement>]) -> Result<Self, VerifyError> {
        for source in self.value().manifest.sources() {
            let Some(payload) = &source.statement else { continue };
            let wrong = |reason| Err(VerifyError::Contributor { source_name: printable(&source.name), reason });
            let named = |contributor: &&Verified<DatasetStatement>| {
                contributor.signatures().iter().any(|signature| signature.payload_sha256() == *payload)
            };
            let Some(contributor) = contributors.iter().find(named) else {
                return wrong("its statement was not given");
            };
            match contributor.value().manifest.sources().iter().find(|theirs| theirs.name == source.name) {
                Some(theirs) if theirs.state == source.state => {}
                Some(_) => return wrong("its statement is about other samples"),
                None => return wrong("its statement has no source of this name"),
            }
        }
        let is_named = |contributor: &Verified<DatasetStatement>| {
            let named = |source: &Source| source.statement == Some(contributor.payload_sha256());
            self.value().manifest.sources().iter().any(named)
        };
        match contributors.iter().find(|contributor| !is_named(contributor)) {
            // Whoever gives it believes that the dataset holds what it says.
            Some(other) => {
                let source_name = printable(&other.value().manifest.sources()[0].name);
                Err(VerifyError::Contributor { source_name, reason: "the dataset does not name its statement" })
            }
            None => Ok(self),
        }
    }

    /// Steps 6 and 7: sources, fields and samples that are there, and those that were signed. `tables` are stored tables of sources, as
    /// far as there are some, to tell which sample is another; nothing in them is believed before it was checked.
    ///
    /// # Errors
    /// [`VerifyError::DatasetDiffers`] with every difference, or the first [`MAX_LISTED`]; [`VerifyError::Table`].
    pub fn confirm_dataset(&self, measured: &MeasuredDataset, tables: &BTreeMap<String, Table>) -> Result<Verified<Dataset>, VerifyError> {
        let different = dataset_differences(self.value(), measured, tables)?;
        if different.is_empty() {
            Ok(self.also(Dataset { statement: self.value().clone() }))
        } else {
            Err(VerifyError::DatasetDiffers(different))
        }
    }
}

/// Every difference between a dataset and what a statement says of it, or the first [`MAX_LISTED`]; whoever made the statement. `tables` are
/// as for [`Verified::confirm_dataset`].
///
/// # Errors
/// [`VerifyError::Table`].
pub fn dataset_differences(
    statement: &DatasetStatement,
    measured: &MeasuredDataset,
    tables: &BTreeMap<String, Table>,
) -> Result<Vec<Difference>, VerifyError> {
    let different = field_differences(&statement.manifest, measured.fields(), measured.ids());
    // With other fields every sample is another one.
    if different.is_empty() { source_differences(&statement.manifest, measured, tables) } else { Ok(different) }
}

/// Every difference between fields that are there, with where ids come from, and the signed ones.
pub fn field_differences(manifest: &DatasetManifest, fields: &[DatasetField], ids: &IdRule) -> Vec<Difference> {
    let by_name = |fields: &[DatasetField]| -> BTreeMap<String, String> {
        fields.iter().map(|field| (field.name.clone(), field.arrow_type.clone())).collect()
    };
    let (signed, found) = (by_name(manifest.fields()), by_name(fields));
    let mut different = Vec::new();
    for name in signed.keys().chain(found.keys().filter(|name| !signed.contains_key(*name))) {
        let (expected, found) = (signed.get(name), found.get(name));
        if expected != found {
            let text = |field: Option<&String>| Some(field.map_or_else(|| "no such field".to_owned(), |text| printable(text)));
            let difference = Difference::of_field(DifferenceKind::ChangedField, name);
            different.push(Difference { expected: text(expected), found: text(found), ..difference });
        }
    }
    if manifest.ids() != ids {
        let (expected, found) = (Some(describe(manifest.ids())), Some(describe(ids)));
        different.push(Difference { expected, found, ..Difference::nowhere(DifferenceKind::ChangedIds) });
    }
    different.truncate(MAX_LISTED);
    different
}

fn describe(rule: &IdRule) -> String {
    match rule {
        IdRule::Column(name) => format!("the column \"{}\"", printable(name)),
        IdRule::Path => "paths".to_owned(),
        IdRule::Ordinal => "numbers of rows".to_owned(),
    }
}

fn source_differences(
    manifest: &DatasetManifest,
    measured: &MeasuredDataset,
    tables: &BTreeMap<String, Table>,
) -> Result<Vec<Difference>, VerifyError> {
    let found: BTreeMap<&str, &Table> = measured.sources().iter().map(|source| (source.name.as_str(), &source.table)).collect();
    let mut different = Vec::new();
    for source in manifest.sources() {
        match found.get(source.name.as_str()) {
            None => different.push(Difference::of_source(DifferenceKind::MissingSource, &source.name)),
            Some(samples) => sample_differences(source, samples, tables.get(&source.name), &mut different)?,
        }
    }
    let is_signed = |name: &str| manifest.sources().binary_search_by(|source| source.name.as_bytes().cmp(name.as_bytes())).is_ok();
    let unsigned = found.keys().filter(|name| !is_signed(name));
    different.extend(unsigned.map(|name| Difference::of_source(DifferenceKind::UnsignedSource, name)));
    different.truncate(MAX_LISTED);
    Ok(different)
}

/// The state decides. The table says which samples are others.
fn sample_differences(source: &Source, found: &Table, stored: Option<&Table>, different: &mut Vec<Difference>) -> Result<(), VerifyError> {
    let tag = tag(source)?;
    let cpu = Cpu::new();
    let is_signed = match found.check_state(&tag, &source.state, &cpu) {
        Ok(()) => true,
        Err(HashError::TableState) => false,
        Err(error) => return Err(out_of_bounds(error)),
    };
    if let (Some(signed), Some(stored)) = (&source.table, stored) {
        check_stored(source, signed, stored, &cpu)?;
    }
    if is_signed {
        let Some(signed) = &source.table else { return Ok(()) };
        // The same samples have the same table. Else the statement says two things.
        return found.check_parts(&signed.parts, &cpu).map_err(|error| table_error(signed, error));
    }
    let before = different.len();
    if let (Some(_), Some(stored)) = (&source.table, stored) {
        list_differences(&source.name, stored, found, different);
    }
    if different.len() == before {
        let samples = |count: u64| Some(format!("{count} samples"));
        let difference = Difference::of_source(DifferenceKind::ChangedSource, &source.name);
        let count = found.count() as u64;
        different.push(match source.state.count() == count {
            true => difference,
            false => Difference { expected: samples(source.state.count()), found: samples(count), ..difference },
        });
    }
    Ok(())
}

/// Checks a whole stored table of a source that was signed with one: that every part is the signed one.
///
/// # Errors
/// [`VerifyError::Table`]; [`VerifyError::DatasetDiffers`] if the source was signed without a table.
pub fn check_table_parts(source: &Source, stored: &Table) -> Result<(), VerifyError> {
    let signed = signed_table(source)?;
    stored.check_parts(&signed.parts, &Cpu::new()).map_err(|error| table_error(signed, error))
}

/// The same, and that the samples add up to the signed state.
///
/// # Errors
/// As for [`check_table_parts`].
pub fn check_table(source: &Source, stored: &Table) -> Result<(), VerifyError> {
    check_stored(source, signed_table(source)?, stored, &Cpu::new())
}

fn signed_table(source: &Source) -> Result<&TableDigests, VerifyError> {
    let missing = || VerifyError::DatasetDiffers(vec![Difference::of_source(DifferenceKind::ChangedSource, &source.name)]);
    source.table.as_ref().ok_or_else(missing)
}

fn check_stored(source: &Source, signed: &TableDigests, stored: &Table, backend: &dyn Backend) -> Result<(), VerifyError> {
    let wrong = |error| table_error(signed, error);
    stored.check_parts(&signed.parts, backend).map_err(wrong)?;
    stored.check_state(&tag(source)?, &source.state, backend).map_err(wrong)
}

pub(crate) fn table_error(table: &TableDigests, source: HashError) -> VerifyError {
    VerifyError::Table { path: table.path.clone(), source }
}

pub(crate) fn tag(source: &Source) -> Result<SourceTag, VerifyError> {
    SourceTag::new(&source.name).map_err(out_of_bounds)
}

fn out_of_bounds(error: HashError) -> VerifyError {
    VerifyError::Bundle(ListError::from(error).into())
}

/// Goes through both tables, which are sorted by id, at once.
fn list_differences(source: &str, signed: &Table, found: &Table, different: &mut Vec<Difference>) {
    let (mut signed, mut found) = (signed.entries().peekable(), found.entries().peekable());
    while different.len() < MAX_LISTED {
        let order = match (signed.peek(), found.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(signed), Some(found)) => signed.id.cmp(&found.id),
        };
        let expected: Option<Entry> = if order.is_le() { signed.next() } else { None };
        let there: Option<Entry> = if order.is_ge() { found.next() } else { None };
        match (expected, there) {
            (Some(expected), None) => different.push(Difference::of_sample(DifferenceKind::MissingSample, source, expected.id)),
            (None, Some(there)) => different.push(Difference::of_sample(DifferenceKind::UnsignedSample, source, there.id)),
            (Some(expected), Some(there)) if expected.digest != there.digest => different.push(changed_sample(source, &expected, &there)),
            _ => {}
        }
    }
}

/// A sample that is not the signed one of its id.
pub(crate) fn changed_sample(source: &str, expected: &Entry, found: &Entry) -> Difference {
    Difference {
        expected: Some(expected.digest.to_string()),
        found: Some(found.digest.to_string()),
        ..Difference::of_sample(DifferenceKind::ChangedSample, source, expected.id)
    }
}
