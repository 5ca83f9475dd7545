//! Samples on their way to training, each against what was signed of it, before it is handed out.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use sentry_bundle::DatasetStatement;
use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State};
use sentry_hash::table::{ENTRY_LEN, PART_ENTRIES, Table};
use sentry_hash::{Cpu, HashError};
use sentry_manifest::{Source, TableDigests};

use crate::dataset::{changed_sample, table_error, tag};
use crate::{Difference, DifferenceKind, Verified, VerifyError};

/// Where a source's sample table is stored. Nothing that is read from it is believed before its digest was checked.
pub trait TableFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn size(&self) -> std::io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The system's; an end before the buffer is full is one.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()>;
}

/// What checking one sample has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It is the signed one, at this place of its source's table.
    Signed(u64),
    /// Its source has no table: it counts once the whole epoch has been seen, and not before.
    Provisional,
    /// It is not the signed one of its id.
    Changed {
        /// The place of its id in its source's table.
        place: u64,
        /// The digest that was signed.
        expected: SampleDigest,
    },
    /// No sample with its id was signed.
    Unsigned,
}

/// Checks samples of a dataset whose signature holds. Parts of tables are read and checked when they are first needed, and kept: 40 bytes a
/// sample.
pub struct SampleChecker {
    statement: Verified<DatasetStatement>,
    /// In the order of the statement.
    sources: Vec<CheckedSource>,
}

struct CheckedSource {
    tag: SourceTag,
    table: Option<StoredTable>,
    /// Set once the whole table was seen to add up to the signed state.
    is_summed: OnceLock<()>,
}

struct StoredTable {
    signed: TableDigests,
    file: Box<dyn TableFile>,
    /// The first id of each part, by the word of the file, until the part is read.
    first_ids: Vec<u64>,
    parts: Vec<OnceLock<Table>>,
}

impl Verified<DatasetStatement> {
    /// Gets ready to check samples. `tables` has the file of each source that the statement has a table of, by the source's name.
    ///
    /// # Errors
    /// [`VerifyError::Table`] for a table of another length, [`VerifyError::TableUnreadable`].
    pub fn sample_checker(self, mut tables: BTreeMap<String, Box<dyn TableFile>>) -> Result<SampleChecker, VerifyError> {
        let mut sources = Vec::new();
        for source in self.value().manifest.sources() {
            let table = match &source.table {
                None => None,
                Some(signed) => {
                    let missing = || VerifyError::DatasetDiffers(vec![Difference::new(DifferenceKind::MissingFile, signed.path.as_str())]);
                    Some(StoredTable::open(signed, tables.remove(&source.name).ok_or_else(missing)?)?)
                }
            };
            sources.push(CheckedSource { tag: tag(source)?, table, is_summed: OnceLock::new() });
        }
        Ok(SampleChecker { statement: self, sources })
    }
}

impl SampleChecker {
    /// The signed statement.
    pub fn statement(&self) -> &Verified<DatasetStatement> {
        &self.statement
    }

    /// The sources, by name.
    pub fn sources(&self) -> &[Source] {
        self.statement.value().manifest.sources()
    }

    /// Whether samples of this source are checked one by one.
    pub fn has_table(&self, source: usize) -> bool {
        self.sources[source].table.is_some()
    }

    pub(crate) fn tag(&self, source: usize) -> &SourceTag {
        &self.sources[source].tag
    }

    /// The place of a source in [`SampleChecker::sources`].
    ///
    /// # Errors
    /// [`VerifyError::DatasetDiffers`]: no source of this name was signed.
    pub fn source(&self, name: &str) -> Result<usize, VerifyError> {
        let place = self.sources().binary_search_by(|source| source.name.as_bytes().cmp(name.as_bytes()));
        place.map_err(|_| VerifyError::DatasetDiffers(vec![Difference::of_source(DifferenceKind::UnsignedSource, name)]))
    }

    /// What checking shows of each sample of a source, in their order.
    ///
    /// # Errors
    /// [`VerifyError::Table`], [`VerifyError::TableUnreadable`].
    pub fn look(&self, source: usize, samples: &[Entry]) -> Result<Vec<Checked>, VerifyError> {
        let Some(table) = &self.sources[source].table else { return Ok(vec![Checked::Provisional; samples.len()]) };
        samples.iter().map(|sample| table.look(sample)).collect()
    }

    /// Checks samples of a source. What comes back is [`Checked::Signed`] or [`Checked::Provisional`] for each.
    ///
    /// # Errors
    /// [`VerifyError::DatasetDiffers`] with every sample that is not the signed one, and those of [`SampleChecker::look`].
    pub fn check(&self, source: usize, samples: &[Entry]) -> Result<Vec<Checked>, VerifyError> {
        let checked = self.look(source, samples)?;
        let wrong = |(sample, checked): (&Entry, &Checked)| self.difference(source, sample, checked);
        let different: Vec<Difference> = samples.iter().zip(&checked).filter_map(wrong).collect();
        if different.is_empty() { Ok(checked) } else { Err(VerifyError::DatasetDiffers(different)) }
    }

    /// What is wrong with a sample, if something is.
    pub fn difference(&self, source: usize, sample: &Entry, checked: &Checked) -> Option<Difference> {
        let name = &self.sources()[source].name;
        match *checked {
            Checked::Signed(_) | Checked::Provisional => None,
            Checked::Changed { expected, .. } => Some(changed_sample(name, &Entry { digest: expected, ..*sample }, sample)),
            Checked::Unsigned => Some(Difference::of_sample(DifferenceKind::UnsignedSample, name, sample.id)),
        }
    }

    /// The ids of all samples of a source, ascending; nothing for one without a table.
    ///
    /// # Errors
    /// [`VerifyError::Table`], [`VerifyError::TableUnreadable`].
    pub fn ids(&self, source: usize) -> Result<Option<Vec<u64>>, VerifyError> {
        let Some(table) = &self.sources[source].table else { return Ok(None) };
        let mut ids = Vec::new();
        for part in 0..table.parts.len() {
            ids.extend(table.part(part)?.entries().map(|entry| entry.id));
        }
        Ok(Some(ids))
    }

    /// Checks all tables: every part's digest, and the sum of every source. Once is enough: later calls find it done.
    ///
    /// # Errors
    /// [`VerifyError::Table`], [`VerifyError::TableUnreadable`].
    pub fn check_tables(&self) -> Result<(), VerifyError> {
        (0..self.sources.len()).try_for_each(|source| self.check_table(source))
    }

    /// The same for the table of one source, if it has one.
    ///
    /// # Errors
    /// As for [`SampleChecker::check_tables`].
    pub fn check_table(&self, source: usize) -> Result<(), VerifyError> {
        let checked = &self.sources[source];
        let Some(table) = &checked.table else { return Ok(()) };
        if checked.is_summed.get().is_some() {
            return Ok(());
        }
        if table.state(&checked.tag)? != self.sources()[source].state {
            return Err(table_error(&table.signed, HashError::TableState));
        }
        checked.is_summed.get_or_init(|| ());
        Ok(())
    }
}

impl StoredTable {
    fn open(signed: &TableDigests, file: Box<dyn TableFile>) -> Result<Self, VerifyError> {
        let unreadable = |source| VerifyError::TableUnreadable { path: signed.path.clone(), source };
        let size = file.size().map_err(unreadable)?;
        if size != signed.size {
            let found = usize::try_from(size).unwrap_or(usize::MAX);
            return Err(table_error(signed, HashError::TableLength { found }));
        }
        let mut first_ids = Vec::with_capacity(signed.parts.len());
        for part in 0..signed.parts.len() {
            let mut id = [0; 8];
            file.read(offset(part), &mut id).map_err(unreadable)?;
            first_ids.push(u64::from_le_bytes(id));
        }
        let parts = signed.parts.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { signed: signed.clone(), file, first_ids, parts })
    }

    fn look(&self, sample: &Entry) -> Result<Checked, VerifyError> {
        // The part that would have the id. If the file lies about first ids, the id is not found where it is looked for.
        let Some(part) = self.first_ids.partition_point(|&first| first <= sample.id).checked_sub(1) else { return Ok(Checked::Unsigned) };
        let Some((place, expected)) = self.part(part)?.place(sample.id) else { return Ok(Checked::Unsigned) };
        let place = (part * PART_ENTRIES + place) as u64;
        Ok(if expected == sample.digest { Checked::Signed(place) } else { Checked::Changed { place, expected } })
    }

    /// The sum of all entries. Parts that no sample has asked for are read, and not kept.
    fn state(&self, tag: &SourceTag) -> Result<State, VerifyError> {
        let wrong = |error| table_error(&self.signed, error);
        let mut state = State::new();
        for (part, kept) in self.parts.iter().enumerate() {
            let sum = match kept.get() {
                Some(table) => table.state(tag, &Cpu::new()),
                None => self.read_part(part)?.state(tag, &Cpu::new()),
            };
            state.merge(&sum.map_err(wrong)?).map_err(wrong)?;
        }
        Ok(state)
    }

    /// A part, checked.
    fn part(&self, part: usize) -> Result<&Table, VerifyError> {
        if let Some(table) = self.parts[part].get() {
            return Ok(table);
        }
        let table = self.read_part(part)?;
        // Another thread may have read it meanwhile: the same bytes, for both have the signed digest.
        Ok(self.parts[part].get_or_init(|| table))
    }

    fn read_part(&self, part: usize) -> Result<Table, VerifyError> {
        let wrong = |error| table_error(&self.signed, error);
        let bytes = (self.signed.size - offset(part)).min((PART_ENTRIES * ENTRY_LEN) as u64);
        let mut buffer = vec![0; bytes as usize];
        let unreadable = |source| VerifyError::TableUnreadable { path: self.signed.path.clone(), source };
        self.file.read(offset(part), &mut buffer).map_err(unreadable)?;
        if sentry_hash::Algorithm::Blake3.digest(&buffer) != self.signed.parts[part] {
            return Err(wrong(HashError::TablePart { part }));
        }
        let table = Table::parse(buffer).map_err(wrong)?;
        let first = table.entries().next().map(|entry| entry.id);
        if first != Some(self.first_ids[part]) {
            // It was written to since it was opened.
            return Err(wrong(HashError::TablePart { part }));
        }
        Ok(table)
    }
}

fn offset(part: usize) -> u64 {
    (part * PART_ENTRIES * ENTRY_LEN) as u64
}
