//! All samples of a dataset, read by several threads.
//!
//! What is kept of a sample is its id and digest, 40 bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use sentry_hash::lattice::Entry;
use sentry_manifest::{DatasetField, ModelTree};

use super::SourceFile;
use crate::{DatasetError, Row};

/// The samples of a part in order, by their source; the one without a name is that of the file. Samples without ids have 0.
type Samples = BTreeMap<Option<Arc<str>>, Vec<Entry>>;

/// The number of a part, and what is in it.
type Part = (usize, Result<Samples, DatasetError>);

/// Where the ids of samples come from, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Every sample has one.
    Own,
    /// They are counted, source by source, once all have been read: in the order of files and rows, whatever the threads do.
    Counted,
}

/// Reads every part of every file. Threads take parts in order, and none begins another once one has failed.
pub fn read_all(
    tree: &ModelTree,
    files: &[SourceFile],
    fields: &[DatasetField],
    numbering: Numbering,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<BTreeMap<String, Vec<Entry>>, DatasetError> {
    let parts: Vec<(usize, usize, u64)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, source)| (0..).zip(source.samples.part_bytes()).map(move |(part, bytes)| (file, part, bytes)))
        .collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Mutex<Vec<Part>> = Mutex::new(Vec::new());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(file, part, bytes)) = parts.get(number) else { return };
            let result = read_part(tree, &files[file], part, fields);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            progress(bytes);
            results.lock().expect("no thread panics while it holds this lock").push((number, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(parts.len()) {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_unstable_by_key(|(number, _)| *number);
    let read = results.into_iter().map(|(number, samples)| Ok((files[parts[number].0].source.as_str(), samples?)));
    Ok(join(read.collect::<Result<_, DatasetError>>()?, numbering))
}

fn read_part(tree: &ModelTree, file: &SourceFile, part: usize, fields: &[DatasetField]) -> Result<Samples, DatasetError> {
    let mut samples = Samples::new();
    let mut sink = |rows: Vec<Row>| {
        for row in rows {
            let entry = Entry { id: row.id.unwrap_or(0), digest: row.digest };
            match samples.get_mut(&row.source) {
                Some(entries) => entries.push(entry),
                None => drop(samples.insert(row.source, vec![entry])),
            }
        }
        Ok(())
    };
    file.samples.read(tree, part, fields, &mut sink)?;
    samples.values_mut().for_each(Vec::shrink_to_fit);
    Ok(samples)
}

/// Puts the samples of all parts, which stand beside the source of their file, into one list for each source.
fn join(parts: Vec<(&str, Samples)>, numbering: Numbering) -> BTreeMap<String, Vec<Entry>> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (file, samples) in &parts {
        for (source, entries) in samples {
            *counts.entry(source.as_deref().unwrap_or(file).to_owned()).or_default() += entries.len();
        }
    }
    let mut sources: BTreeMap<String, Vec<Entry>> = counts.into_iter().map(|(source, count)| (source, Vec::with_capacity(count))).collect();
    for (file, samples) in parts {
        for (source, entries) in samples {
            let all = sources.get_mut(source.as_deref().unwrap_or(file)).expect("every source was counted");
            let first = all.len() as u64;
            match numbering {
                Numbering::Own => all.extend(entries),
                Numbering::Counted => all.extend((first..).zip(entries).map(|(id, entry)| Entry { id, ..entry })),
            }
        }
    }
    sources
}
