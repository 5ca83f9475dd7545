//! All samples of a dataset, read by several threads.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sentry_hash::lattice::Entry;
use sentry_manifest::{DatasetField, ModelTree};

use super::SourceFile;
use crate::{DatasetError, Row};

/// The number of a part, and its rows.
type Part = (usize, Result<Vec<Row>, DatasetError>);

/// Reads every part of every file. Threads take parts in order; numbers of rows are given out once all have been read, in the order of files
/// and rows, so that they do not depend on the threads.
pub fn read_all(
    tree: &ModelTree,
    files: &[SourceFile],
    fields: &[DatasetField],
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
            let mut rows = Vec::new();
            let mut sink = |batch: Vec<Row>| {
                rows.extend(batch);
                Ok(())
            };
            let result = files[file].samples.read(tree, part, fields, &mut sink).map(|()| rows);
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
    let mut sources: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for (number, rows) in results {
        let default = &files[parts[number].0].source;
        for row in rows? {
            let name: &str = row.source.as_deref().unwrap_or(default);
            let entries = match sources.get_mut(name) {
                Some(entries) => entries,
                None => sources.entry(name.to_owned()).or_default(),
            };
            // Either all rows of a dataset have ids, or none.
            let id = row.id.unwrap_or(entries.len() as u64);
            entries.push(Entry { id, digest: row.digest });
        }
    }
    Ok(sources)
}
