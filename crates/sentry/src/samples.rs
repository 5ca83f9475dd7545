//! Samples on their way to training: looked at where they are read, counted where they are delivered.
//!
//! Between the two may lie other processes and batches that are never used. So what was found goes along with the samples, as a
//! [`Receipt`], and counts once they are handed out.

use std::collections::BTreeMap;
use std::ops::Range;

use sentry_dataset::{Columns, DatasetError, Samples, read_stream};
use sentry_hash::lattice::{Entry, SampleDigest};
use sentry_manifest::record::{Culprit, Field, field_that_differs};
use sentry_manifest::{DatasetField, IdRule, MeasuredDataset};
use sentry_trust::{Checked, Difference, DifferenceKind, Epoch, SampleChecker, VerifyError, field_differences};

use crate::Error;

/// Samples of a batch whose values are tried to find out what a wrong sample's field was.
const MOST_OTHERS: usize = 64;

/// Wrong samples of a batch of which the field is looked for.
const MOST_EXPLAINED: usize = 20;

/// What a stored receipt begins with.
const MAGIC: &[u8; 8] = b"sentry r";

/// What looking at samples has shown, to be told to the epoch in which they are delivered.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// SHA-256 of the statement that they were compared with.
    payload: [u8; 32],
    found: Vec<(usize, Entry, Checked)>,
}

/// Samples that were looked at.
#[derive(Debug)]
pub struct Looked {
    receipt: Receipt,
    wrong: Vec<(usize, Difference)>,
}

impl Looked {
    /// The samples that are not the signed ones: their place in the batch, and what is wrong.
    pub fn wrong(&self) -> &[(usize, Difference)] {
        &self.wrong
    }

    /// The receipt, if every sample is the signed one.
    ///
    /// # Errors
    /// [`VerifyError::DatasetDiffers`] with every sample that is not.
    pub fn all_signed(self) -> Result<Receipt, Error> {
        if self.wrong.is_empty() {
            return Ok(self.receipt);
        }
        Err(VerifyError::DatasetDiffers(self.wrong.into_iter().map(|(_, difference)| difference).collect()).into())
    }

    /// The receipt of a batch whose wrong samples the caller leaves out, all of those in [`Looked::wrong`].
    pub fn without_wrong(self) -> Receipt {
        self.receipt
    }
}

/// Looks at samples in memory, one id for each, all of one source.
///
/// # Errors
/// [`VerifyError::DatasetDiffers`] for a source or fields that were not signed; [`Error::Dataset`] for samples that have no record; those of
/// reading the table.
pub fn look_at_samples(checker: &SampleChecker, source: &str, ids: &[u64], samples: &Samples<'_>) -> Result<Looked, Error> {
    check_fields(checker, samples)?;
    look(checker, source, ids, &samples.digests()?, explainer(samples))
}

/// Looks at samples that are the rows of an Arrow stream. `ids` has one for each row, unless they are a column.
///
/// # Errors
/// As for [`look_at_samples`].
pub fn look_at_stream(checker: &SampleChecker, source: &str, ids: Option<&[u64]>, stream: &[u8]) -> Result<Looked, Error> {
    let manifest = &checker.statement().value().manifest;
    let (schema, batches) = read_stream(stream)?;
    let rule = if ids.is_some() { &IdRule::Ordinal } else { manifest.ids() };
    let columns = Columns::new(&schema, rule, None)?;
    let different = field_differences(manifest, columns.fields(), manifest.ids());
    if !different.is_empty() {
        return Err(VerifyError::DatasetDiffers(different).into());
    }
    let mut looked = Looked { receipt: Receipt::empty(checker), wrong: Vec::new() };
    let mut row = 0;
    for batch in &batches {
        let end = row + batch.num_rows();
        let own = match ids {
            Some(ids) => ids.get(row..end).map(<[u64]>::to_vec).ok_or_else(|| uneven(ids.len(), end))?,
            None => columns.row_ids(batch)?.ok_or(Error::Options { reason: "ids are no column of this dataset: give them" })?,
        };
        let samples = columns.samples(batch)?;
        let found = look(checker, source, &own, &samples.digests()?, explainer(&samples))?;
        looked.receipt.extend(found.receipt)?;
        looked.wrong.extend(found.wrong.into_iter().map(|(sample, difference)| (row + sample, difference)));
        row = end;
    }
    match ids {
        Some(ids) if ids.len() != row => Err(uneven(ids.len(), row)),
        _ => Ok(looked),
    }
}

fn uneven(ids: usize, samples: usize) -> Error {
    DatasetError::Layout { reason: format!("there are {ids} ids for {samples} samples") }.into()
}

/// Finds the field that differs in one of the samples, by what the others have.
fn explainer<'a>(samples: &'a Samples<'_>) -> impl Fn(usize, &SampleDigest) -> Option<Culprit> + 'a {
    move |sample, expected| {
        let others: Vec<Field<'_>> =
            (0..samples.count().min(MOST_OTHERS)).filter(|&other| other != sample).flat_map(|other| samples.record(other)).collect();
        field_that_differs(&samples.record(sample), expected, &others)
    }
}

/// Samples in memory that are going to be signed, collected batch by batch.
#[derive(Debug)]
pub struct SampleCollector {
    fields: Option<Vec<DatasetField>>,
    ids: Option<IdRule>,
    sources: BTreeMap<String, Vec<Entry>>,
}

impl SampleCollector {
    /// Collects samples with ids by this rule; `None` for the default of the first stream.
    pub fn new(ids: Option<IdRule>) -> Self {
        Self { fields: None, ids, sources: BTreeMap::new() }
    }

    /// Adds samples of a source, whose fields are of these types. `ids` are the next numbers, if there are none.
    ///
    /// # Errors
    /// [`Error::Dataset`].
    pub fn add(&mut self, source: &str, fields: &[DatasetField], ids: Option<&[u64]>, samples: &Samples<'_>) -> Result<(), Error> {
        self.check_fields(fields)?;
        self.ids.get_or_insert(IdRule::Ordinal);
        self.push(source, ids, &samples.digests()?)
    }

    /// Adds the rows of an Arrow stream, whose source stands in a column if there is no other.
    ///
    /// # Errors
    /// [`Error::Dataset`].
    pub fn add_stream(&mut self, source: &str, source_column: Option<&str>, stream: &[u8]) -> Result<(), Error> {
        let (schema, batches) = read_stream(stream)?;
        let ids = self.ids.get_or_insert_with(|| Columns::default_ids(&schema)).clone();
        let columns = Columns::new(&schema, &ids, source_column)?;
        self.check_fields(columns.fields())?;
        for batch in &batches {
            for row in columns.rows(batch)? {
                let id = row.id.map(|id| [id]);
                self.push(row.source.as_deref().unwrap_or(source), id.as_ref().map(|id| &id[..]), &[row.digest])?;
            }
        }
        Ok(())
    }

    /// All samples that were added.
    ///
    /// # Errors
    /// [`Error::Dataset`] without samples, and for an id that a source has twice.
    pub fn finish(self) -> Result<MeasuredDataset, Error> {
        let (Some(fields), Some(ids)) = (self.fields, self.ids) else {
            return Err(DatasetError::Layout { reason: "there are no samples".to_owned() }.into());
        };
        Ok(MeasuredDataset::new(fields, ids, self.sources).map_err(DatasetError::from)?)
    }

    fn check_fields(&mut self, fields: &[DatasetField]) -> Result<(), Error> {
        match &self.fields {
            None => self.fields = Some(fields.to_vec()),
            Some(known) if known == fields => {}
            Some(_) => return Err(DatasetError::Layout { reason: "a batch has other fields than the batches before it".to_owned() }.into()),
        }
        Ok(())
    }

    fn push(&mut self, source: &str, ids: Option<&[u64]>, digests: &[SampleDigest]) -> Result<(), Error> {
        if ids.is_some_and(|ids| ids.len() != digests.len()) {
            return Err(uneven(ids.map_or(0, <[u64]>::len), digests.len()));
        }
        if !self.sources.contains_key(source) {
            self.sources.insert(source.to_owned(), Vec::new());
        }
        let entries = self.sources.get_mut(source).expect("it was inserted");
        for (place, &digest) in digests.iter().enumerate() {
            let id = ids.map_or(entries.len() as u64, |ids| ids[place]);
            entries.push(Entry { id, digest });
        }
        Ok(())
    }
}

/// Looks at samples whose digests were computed elsewhere; `explain` finds the field that differs in one of them.
///
/// # Errors
/// As for [`look_at_samples`].
pub fn look(
    checker: &SampleChecker,
    source: &str,
    ids: &[u64],
    digests: &[SampleDigest],
    explain: impl Fn(usize, &SampleDigest) -> Option<Culprit>,
) -> Result<Looked, Error> {
    let place = checker.source(source)?;
    if ids.len() != digests.len() {
        return Err(uneven(ids.len(), digests.len()));
    }
    let entries: Vec<Entry> = ids.iter().zip(digests).map(|(&id, &digest)| Entry { id, digest }).collect();
    let checked = checker.look(place, &entries)?;
    let mut wrong: Vec<(usize, Difference)> = Vec::new();
    for (sample, (entry, checked)) in entries.iter().zip(&checked).enumerate() {
        let Some(difference) = checker.difference(place, entry, checked) else { continue };
        let culprit = match checked {
            Checked::Changed { expected, .. } if wrong.len() < MOST_EXPLAINED => explain(sample, expected),
            _ => None,
        };
        wrong.push((sample, explained(difference, culprit)));
    }
    let found = entries.into_iter().zip(checked).map(|(entry, checked)| (place, entry, checked)).collect();
    let payload = checker.statement().payload_sha256();
    let payload = *payload.as_bytes().first_chunk().expect("SHA-256 has 32 bytes");
    Ok(Looked { receipt: Receipt { payload, found }, wrong })
}

/// The difference, with the field that explains it.
fn explained(difference: Difference, culprit: Option<Culprit>) -> Difference {
    match culprit {
        Some(Culprit::Sure { field, expected }) => {
            Difference { field: Some(field), expected: Some(sentry_manifest::printable(&expected)), found: None, ..difference }
        }
        Some(Culprit::Likely { field }) => Difference { field: Some(field), expected: None, found: None, ..difference },
        None => difference,
    }
}

/// Every signed field is there, and no other.
fn check_fields(checker: &SampleChecker, samples: &Samples<'_>) -> Result<(), Error> {
    let signed = checker.statement().value().manifest.fields();
    let mut different = Vec::new();
    let difference = |name: &str, expected: &str, found: &str| {
        let (expected, found) = (Some(sentry_manifest::printable(expected)), Some(found.to_owned()));
        Difference { expected, found, ..Difference::of_field(DifferenceKind::ChangedField, name) }
    };
    for field in signed {
        if !samples.names().any(|name| name == field.name) {
            different.push(difference(&field.name, &field.arrow_type, "no such field"));
        }
    }
    for name in samples.names() {
        if !signed.iter().any(|field| field.name == name) {
            different.push(difference(name, "no such field", "a field"));
        }
    }
    if different.is_empty() { Ok(()) } else { Err(VerifyError::DatasetDiffers(different).into()) }
}

impl Receipt {
    /// A receipt of no sample, to which others are added.
    pub fn empty(checker: &SampleChecker) -> Self {
        let payload = checker.statement().payload_sha256();
        Self { payload: *payload.as_bytes().first_chunk().expect("SHA-256 has 32 bytes"), found: Vec::new() }
    }

    /// How many samples it is about.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// What was found of some of its samples, by their places in it.
    pub fn part(&self, places: Range<usize>) -> Option<Self> {
        Some(Self { payload: self.payload, found: self.found.get(places)?.to_vec() })
    }

    /// Adds the samples of another batch.
    ///
    /// # Errors
    /// [`VerifyError::EpochState`] if it is of another dataset.
    pub fn extend(&mut self, other: Self) -> Result<(), Error> {
        if self.payload != other.payload {
            return Err(VerifyError::EpochState { reason: "it is of another dataset" }.into());
        }
        self.found.extend(other.found);
        Ok(())
    }

    /// Tells an epoch that the samples were delivered, and which were kept back.
    ///
    /// # Errors
    /// [`VerifyError::EpochState`] if it is of another dataset; [`VerifyError::RepeatedSample`].
    pub fn deliver(&self, checker: &SampleChecker, epoch: &mut Epoch) -> Result<(), Error> {
        if checker.statement().payload_sha256().as_bytes() != self.payload {
            return Err(VerifyError::EpochState { reason: "it is of another dataset" }.into());
        }
        let mut delivered: BTreeMap<usize, (Vec<Entry>, Vec<Checked>)> = BTreeMap::new();
        let mut kept_back = Vec::new();
        for (source, entry, checked) in &self.found {
            match checked {
                Checked::Signed(_) | Checked::Provisional => {
                    let (entries, all) = delivered.entry(*source).or_default();
                    entries.push(*entry);
                    all.push(*checked);
                }
                Checked::Changed { .. } | Checked::Unsigned => kept_back.push((*source, checked)),
            }
        }
        // Either all of them count, or none.
        let mut after = if delivered.len() + kept_back.len() > 1 { Some(epoch.clone()) } else { None };
        let target = after.as_mut().unwrap_or(epoch);
        for (source, (entries, checked)) in &delivered {
            target.deliver(checker, *source, entries, checked)?;
        }
        for (source, checked) in kept_back {
            target.quarantine(source, checked)?;
        }
        if let Some(after) = after {
            *epoch = after;
        }
        Ok(())
    }

    /// The receipt as bytes, for another process of the same user.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.payload);
        for (source, entry, checked) in &self.found {
            bytes.extend((*source as u64).to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
            bytes.extend(entry.digest.as_bytes());
            let (kind, place, expected) = match *checked {
                Checked::Signed(place) => (0, place, [0; 32]),
                Checked::Provisional => (1, 0, [0; 32]),
                Checked::Changed { place, expected } => (2, place, *expected.as_bytes()),
                Checked::Unsigned => (3, 0, [0; 32]),
            };
            bytes.push(kind);
            bytes.extend(u64::to_le_bytes(place));
            bytes.extend(expected);
        }
        bytes
    }

    /// Reads what [`Receipt::to_bytes`] has written.
    ///
    /// # Errors
    /// [`VerifyError::EpochState`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || VerifyError::EpochState { reason: "it is none" };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(wrong)?;
        let (payload, rest) = rest.split_first_chunk::<32>().ok_or_else(wrong)?;
        let (rows, []) = rest.as_chunks::<89>() else { return Err(wrong().into()) };
        let word = |row: &[u8; 89], at: usize| u64::from_le_bytes(row[at..at + 8].try_into().expect("8 bytes"));
        let digest = |row: &[u8; 89], at: usize| SampleDigest::from_bytes(row[at..at + 32].try_into().expect("32 bytes"));
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let source = usize::try_from(word(row, 0)).map_err(|_| wrong())?;
            let (place, expected) = (word(row, 49), digest(row, 57));
            let checked = match row[48] {
                0 => Checked::Signed(place),
                1 => Checked::Provisional,
                2 => Checked::Changed { place, expected },
                3 => Checked::Unsigned,
                _ => return Err(wrong().into()),
            };
            found.push((source, Entry { id: word(row, 8), digest: digest(row, 16) }, checked));
        }
        Ok(Self { payload: *payload, found })
    }
}
