//! Archives of samples in the manner of WebDataset: files that follow each other and have a name in common up to its first dot are one
//! sample, and what comes after the dot names the field.
//!
//! An archive is walked through twice: for its fields, as a sample has no value in those that only others have, and for the samples.
//! In between nothing of a sample is kept.

mod members;

use std::collections::{BTreeSet, HashSet};

use sentry_hash::lattice::path_id;
use sentry_manifest::record::Value;
use sentry_manifest::{DatasetField, FoundFile, IdRule, ModelTree, printable};

use super::layout::Group;
use super::positioned::{Body, LONGEST_HELD, MAX_VALUES, Positioned, unfit, unreadable, with_file};
use super::{SampleFile, Sink, SourceFile};
use crate::{DatasetError, FieldValues, Row, Samples};
use members::{Member, Members};

const FORMAT: &str = "tar";

/// Bytes that one thread reads at a time, at least one sample.
const PART_BYTES: u64 = 32 << 20;

/// Samples of a batch at most, and the bytes of them that are held, unless one has more.
const BATCH_SAMPLES: usize = 256;
const BATCH_BYTES: u64 = 8 * LONGEST_HELD;

/// Most fields of all samples. Each sample has a value in each, if only that it has none; real ones have some tens.
const MAX_FIELDS: usize = 1024;

/// One archive.
struct Archive {
    found: FoundFile,
    parts: Vec<Part>,
    fields: Vec<DatasetField>,
}

/// Samples that lie together.
struct Part {
    /// From the first header to the one behind the last file.
    begin: u64,
    end: u64,
    bytes: u64,
}

struct Sample {
    key: String,
    /// By the field.
    bodies: Vec<(String, Body)>,
}

/// Opens the archives of all sources.
pub fn open(tree: &ModelTree, groups: Vec<Group>) -> Result<Vec<SourceFile>, DatasetError> {
    let mut opened = Vec::new();
    for group in groups {
        for found in group.files {
            let archive = with_file(tree, &found, |file| Archive::open(&found, file))?;
            opened.push(SourceFile { source: group.source.clone(), samples: Box::new(archive) });
        }
    }
    Ok(opened)
}

/// Key and field of a file.
fn split<'a>(members: &Members<'_>, name: &'a str) -> Result<(&'a str, &'a str), DatasetError> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let Some(dot) = name[base..].find('.').filter(|&dot| dot > 0) else {
        return Err(members.wrong(format!("\"{}\" has no key and field, which a dot would part", printable(name))));
    };
    let (key, field) = (&name[..base + dot], &name[base + dot + 1..]);
    if field.is_empty() { Err(members.wrong(format!("\"{}\" names no field", printable(name)))) } else { Ok((key, field)) }
}

impl Archive {
    /// Reads all headers.
    fn open(found: &FoundFile, file: &Positioned) -> Result<Self, DatasetError> {
        let mut members = Members::new(found, file, 0);
        let (mut ids, mut fields, mut parts) = (HashSet::new(), BTreeSet::new(), Vec::<Part>::new());
        let (mut last, mut own) = (None, HashSet::new());
        while let Some(Member { name, header, size, .. }) = members.next()? {
            let (key, field) = split(&members, &name)?;
            if last.as_deref() != Some(key) {
                if !ids.insert(path_id(key)) {
                    return Err(members.wrong(format!("the files of sample \"{}\" are not together", printable(key))));
                }
                last = Some(key.to_owned());
                own.clear();
                if parts.last().is_none_or(|part| part.bytes >= PART_BYTES) {
                    parts.push(Part { begin: header, end: header, bytes: 0 });
                }
            }
            if !own.insert(field.to_owned()) {
                return Err(members.wrong(format!("\"{}\" is there twice", printable(&name))));
            }
            if !fields.contains(field) {
                fields.insert(field.to_owned());
            }
            if fields.len() > MAX_FIELDS {
                return Err(members.wrong(format!("it has more than {MAX_FIELDS} fields: names of its files are no key and field")));
            }
            let part = parts.last_mut().expect("the first file began one");
            part.bytes += size;
            part.end = members.position();
        }
        if parts.is_empty() {
            return Err(members.wrong("it has no files"));
        }
        let field = |name| DatasetField { name, arrow_type: "Binary".to_owned() };
        Ok(Self { found: found.clone(), parts, fields: fields.into_iter().map(field).collect() })
    }
}

impl Sample {
    fn value(&self, field: &str) -> Value<'_> {
        let place = self.bodies.binary_search_by(|(name, _)| name.as_str().cmp(field));
        place.map_or(Value::Null, |place| self.bodies[place].1.value())
    }
}

fn rows(samples: &[Sample], fields: &[DatasetField]) -> Result<Vec<Row>, DatasetError> {
    let column = |field: &DatasetField| samples.iter().map(|sample| sample.value(&field.name)).collect();
    let columns = fields.iter().map(|field| (field.name.as_str(), FieldValues::Values(column(field)))).collect();
    let digests = Samples::new(samples.len(), columns)?.digests()?;
    let row = |(sample, digest): (&Sample, _)| Row { source: None, id: Some(path_id(&sample.key)), digest };
    Ok(samples.iter().zip(digests).map(row).collect())
}

impl SampleFile for Archive {
    fn name(&self) -> &str {
        self.found.path.as_str()
    }

    fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    fn ids(&self) -> &IdRule {
        &IdRule::Path
    }

    fn part_bytes(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.bytes).collect()
    }

    fn read(&self, tree: &ModelTree, part: usize, fields: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError> {
        let most = (MAX_VALUES / fields.len().max(1)).clamp(1, BATCH_SAMPLES);
        with_file(tree, &self.found, |file| {
            let mut members = Members::new(&self.found, file, self.parts[part].begin);
            let (mut samples, mut held) = (Vec::<Sample>::new(), 0);
            while members.position() < self.parts[part].end {
                let Some(member) = members.next()? else { return Err(unfit(&self.found, FORMAT, "it ends before its end")) };
                let (key, field) = split(&members, &member.name)?;
                if samples.last().is_none_or(|sample| sample.key != key) {
                    if samples.len() >= most || held >= BATCH_BYTES {
                        sink(rows(&samples, fields)?)?;
                        samples.clear();
                        held = 0;
                    }
                    samples.push(Sample { key: key.to_owned(), bodies: Vec::new() });
                }
                let room = (2 * BATCH_BYTES).saturating_sub(held);
                held += member.size.min(LONGEST_HELD);
                let body = Body::read(file, member.offset, member.size, room).map_err(unreadable(&self.found))?;
                let sample = samples.last_mut().expect("one was pushed");
                let place = sample.bodies.partition_point(|(before, _)| before.as_str() < field);
                sample.bodies.insert(place, (field.to_owned(), body));
            }
            sink(rows(&samples, fields)?)
        })
    }
}
