//! Changing a signed dataset: in time proportional to the change, and not to the dataset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sentry_bundle::DatasetStatement;
use sentry_dataset::DatasetError;
use sentry_dataset::files::{Dataset, ReadOptions};
use sentry_hash::lattice::{Entry, SourceTag, State, path_id};
use sentry_hash::table::Table;
use sentry_hash::{Backend, Cpu};
use sentry_manifest::{DatasetManifest, IdRule, ListError, ModelTree, Source, printable};
use sentry_trust::{Signer, Verified, Verifier};

use super::sign::{DatasetSignOptions, SignedDataset, check_version, left_out, write};
use super::tables;
use super::verify::signature_paths;
use crate::signature_file::{path_inside, read_verified};
use crate::{Error, Observer};

/// What is different in the new dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files or folders whose samples are new: none of their ids may be there. Those that lie in the dataset's folder are read as parts of it,
    /// others as datasets of their own, with the sources and ids that they have by themselves.
    pub add: Vec<PathBuf>,
    /// Files or folders whose samples take the place of those of the same ids, all of which must be there.
    pub replace: Vec<PathBuf>,
    /// Samples that go away, all of which must be there: source and id. Where ids are made of paths or keys, these may stand for them.
    pub remove: Vec<(String, String)>,
}

/// Signs a changed dataset. Only the samples of the changed files are read; of the rest the old signature is believed, which `verifier`
/// must accept.
///
/// # Errors
/// Any [`Error`]. The old signature is untouched then, with its tables.
pub fn update_dataset(
    dataset: &Path,
    changes: &Changes,
    verifier: &dyn Verifier,
    signer: &dyn Signer,
    options: &DatasetSignOptions,
    observer: &dyn Observer,
) -> Result<SignedDataset, Error> {
    let signature = signature_paths(dataset, options.signature.as_slice()).remove(0);
    // What contributors signed is carried over as it stands, and counts only once their statements are looked at again.
    let old: Verified<DatasetStatement> = read_verified(std::slice::from_ref(&signature), verifier)?;
    let manifest = &old.value().manifest;
    if *manifest.ids() == IdRule::Ordinal {
        return Err(Error::Options {
            reason: "ids are the numbers of rows, which change with every row before them: sign the dataset anew",
        });
    }
    // The statement's own signer has added up the tables before; what another one says of them may contradict itself.
    let own: Result<Verified<DatasetStatement>, Error> = read_verified(std::slice::from_ref(&signature), &*signer.verifier());
    let is_own = own.is_ok_and(|own| own.payload_sha256() == old.payload_sha256());
    let check = if is_own { sentry_trust::check_table_parts } else { sentry_trust::check_table };
    let mut sources = believed(&signature, manifest, check)?;
    for (source, id) in &changes.remove {
        let changing = sources.get_mut(source).ok_or_else(|| unknown(source, id))?;
        let id = changing.id(id, manifest.ids()).ok_or_else(|| unknown(source, id))?;
        changing.remove(id);
    }
    let mut bytes = 0;
    for (paths, replaces) in [(&changes.replace, true), (&changes.add, false)] {
        for path in paths {
            let read = ReadOptions { ids: Some(manifest.ids().clone()), fields: Some(manifest.fields().to_vec()), ..options.read.clone() };
            let opened = open_part(dataset, path, &signature, &read)?.with_fields_of(manifest.fields())?;
            observer.begin(opened.bytes(), opened.files());
            let measured = opened.measure(Cpu::new().threads(), &|bytes| observer.advance(bytes))?;
            bytes += opened.bytes();
            for source in measured.sources() {
                let changing = sources.entry(source.name.clone()).or_default();
                source.table.entries().try_for_each(|entry| changing.put(&source.name, entry, replaces))?;
            }
        }
    }
    let statement = sign_changed(manifest, sources, signer, &signature, options)?;
    Ok(SignedDataset { signature, statement, bytes, others: Vec::new() })
}

/// The sources as they were signed, with what is in them: their tables are checked against the signature.
fn believed(
    signature: &Path,
    manifest: &DatasetManifest,
    check: fn(&Source, &Table) -> Result<(), sentry_trust::VerifyError>,
) -> Result<BTreeMap<String, Changing>, Error> {
    let mut stored = tables::read(signature, manifest)?;
    let mut sources = BTreeMap::new();
    for source in manifest.sources() {
        let Some(table) = stored.remove(&source.name) else {
            return Err(Error::Options {
                reason: "a source has no sample table, so that it is not known what is in it: sign the dataset anew",
            });
        };
        check(source, &table)?;
        sources.insert(source.name.clone(), Changing { state: source.state.clone(), table: Some(table), ..Changing::default() });
    }
    Ok(sources)
}

/// Opens what is new: a part of the dataset if it lies in there, so that it has the ids and sources that it will be verified with.
fn open_part(dataset: &Path, path: &Path, signature: &Path, read: &ReadOptions) -> Result<Dataset, Error> {
    path.symlink_metadata().map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    if dataset.is_dir() {
        let tree = ModelTree::open(dataset)?;
        let leave_out = left_out(&tree, signature)?;
        if path.canonicalize().ok() == dataset.canonicalize().ok() {
            return Ok(Dataset::open(dataset, read, &leave_out)?);
        }
        if let Some(part) = path_inside(&tree, path)? {
            return Ok(Dataset::open_part(dataset, &part, read, &leave_out)?);
        }
    }
    Ok(Dataset::open(path, read, &[])?)
}

fn unknown(source: &str, id: impl std::fmt::Display) -> Error {
    let (source, id) = (printable(source), printable(&id.to_string()));
    DatasetError::Layout { reason: format!("source \"{source}\" has no sample with id {id}") }.into()
}

/// A source on its way to what it will be.
#[derive(Debug, Default)]
struct Changing {
    state: State,
    /// As it was.
    table: Option<Table>,
    /// What is different: a new sample of an id, or none any more.
    changed: BTreeMap<u64, Option<Entry>>,
    added: Vec<Entry>,
    removed: Vec<Entry>,
}

impl Changing {
    /// The sample with this id, as things stand.
    fn find(&self, id: u64) -> Option<Entry> {
        match self.changed.get(&id) {
            Some(entry) => *entry,
            None => self.table.as_ref()?.find(id).map(|digest| Entry { id, digest }),
        }
    }

    /// The id of a sample that is there, by its number, or by the path or key that it was made of.
    fn id(&self, text: &str, rule: &IdRule) -> Option<u64> {
        let number = text.parse().ok().filter(|&id| self.find(id).is_some());
        let path = || Some(path_id(text)).filter(|&id| *rule == IdRule::Path && self.find(id).is_some());
        number.or_else(path)
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.find(id)?;
        self.changed.insert(id, None);
        self.removed.push(entry);
        Some(entry)
    }

    /// Adds a sample, or puts it in the place of the one with its id.
    fn put(&mut self, source: &str, entry: Entry, replaces: bool) -> Result<(), Error> {
        match (replaces, self.find(entry.id)) {
            (true, None) => return Err(unknown(source, entry.id)),
            (false, Some(_)) => {
                let reason = format!("source \"{}\" has a sample with id {} already", printable(source), entry.id);
                return Err(DatasetError::Layout { reason }.into());
            }
            (true, Some(_)) => drop(self.remove(entry.id)),
            (false, None) => {}
        }
        self.changed.insert(entry.id, Some(entry));
        self.added.push(entry);
        Ok(())
    }

    /// The state, changed by the elements of samples that came and went.
    fn state(&self, source: &str) -> Result<State, ListError> {
        let tag = SourceTag::new(source)?;
        let mut state = self.state.clone();
        state.merge(&Cpu::new().lattice_state(&tag, &self.added)?)?;
        for entry in &self.removed {
            state.remove(&tag, entry)?;
        }
        Ok(state)
    }

    /// All samples that there are now.
    fn entries(&self) -> Vec<Entry> {
        let kept = self.table.iter().flat_map(Table::entries).filter(|entry| !self.changed.contains_key(&entry.id));
        kept.chain(self.changed.values().copied().flatten()).collect()
    }
}

fn sign_changed(
    old: &DatasetManifest,
    changed: BTreeMap<String, Changing>,
    signer: &dyn Signer,
    signature: &Path,
    options: &DatasetSignOptions,
) -> Result<DatasetStatement, Error> {
    let mut sources = Vec::new();
    let mut samples = Vec::new();
    for (name, changing) in &changed {
        let entries = changing.entries();
        if entries.is_empty() {
            // The last sample went away, and the source with it.
            continue;
        }
        let table = Table::from_entries(entries).map_err(ListError::from)?;
        let described = tables::describe(signature, name, &table)?;
        // A contributor's statement is about the source as it was.
        let before = old.sources().iter().find(|source| source.name == *name && changing.changed.is_empty());
        let statement = before.and_then(|source| source.statement);
        sources.push(Source { name: name.clone(), state: changing.state(name)?, table: Some(described), statement });
        samples.push((name.as_str(), table));
    }
    let name = options.name.clone().unwrap_or_else(|| old.name().to_owned());
    let version = options.version.or(old.version().map(|version| version + 1));
    check_version(version)?;
    let manifest = DatasetManifest::new(name, version, old.fields().to_vec(), old.ids().clone(), sources)?;
    let statement = DatasetStatement { manifest };
    let samples = samples.iter().map(|(name, table)| (*name, table)).collect();
    write(&statement, &samples, signer, signature, options.timestamp.as_deref())?;
    Ok(statement)
}
