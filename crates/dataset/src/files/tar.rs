//! Archives of samples in the manner of WebDataset: files that follow each other and have a name in common up to its first dot are one
//! sample, and what comes after the dot names the field.

use std::collections::{BTreeSet, HashSet};

use sentry_hash::lattice::path_id;
use sentry_manifest::record::Value;
use sentry_manifest::{DatasetField, FoundFile, IdRule, ModelPath, ModelTree, printable};

use super::layout::Group;
use super::positioned::{Body, LONGEST_HELD, Positioned, guarded, malformed, unfit, unreadable, with_file};
use super::{SampleFile, Sink, SourceFile};
use crate::{DatasetError, FieldValues, Row, Samples};

const FORMAT: &str = "tar";

/// Bytes that one thread reads at a time, at least one sample.
const PART_BYTES: u64 = 32 << 20;

/// Samples of a batch at most.
const BATCH_SAMPLES: usize = 256;

/// One archive.
struct Archive {
    found: FoundFile,
    samples: Vec<Sample>,
    /// Where each part begins.
    parts: Vec<usize>,
    fields: Vec<DatasetField>,
}

struct Sample {
    key: String,
    members: Vec<Member>,
}

struct Member {
    field: String,
    offset: u64,
    size: u64,
}

/// Opens the archives of all sources.
pub fn open(tree: &ModelTree, groups: Vec<Group>) -> Result<Vec<SourceFile>, DatasetError> {
    let mut opened = Vec::new();
    for group in groups {
        for found in group.files {
            let samples = with_file(tree, &found, |file| guarded(&found, FORMAT, || index(&found, file)))?;
            opened.push(SourceFile { source: group.source.clone(), samples: Box::new(Archive::new(found, samples)) });
        }
    }
    Ok(opened)
}

/// Reads all headers.
fn index(found: &FoundFile, file: &Positioned) -> Result<Vec<Sample>, DatasetError> {
    let wrong = |reason: String| unfit(found, FORMAT, reason);
    let mut archive = tar::Archive::new(file.clone());
    let mut samples: Vec<Sample> = Vec::new();
    let mut keys: HashSet<String> = HashSet::new();
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(unreadable(found))? {
        let entry = entry.map_err(malformed(found, FORMAT))?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| wrong("a name is not UTF-8".to_owned()))?;
        let kind = entry.header().entry_type();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset
            .checked_add(size)
            .filter(|&end| end <= found.size)
            .ok_or_else(|| wrong(format!("\"{}\" is cut off", printable(&name))))?;
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(wrong(format!("\"{}\" is a link or a device", printable(&name))));
        }
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        ModelPath::new(&name).map_err(|error| wrong(error.to_string()))?;
        let base = name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = name[base..].find('.').filter(|&dot| dot > 0) else {
            return Err(wrong(format!("\"{}\" has no key and field, which a dot would part", printable(&name))));
        };
        let (key, field) = (&name[..base + dot], &name[base + dot + 1..]);
        if field.is_empty() {
            return Err(wrong(format!("\"{}\" names no field", printable(&name))));
        }
        if samples.last().is_none_or(|sample| sample.key != key) {
            if !keys.insert(key.to_owned()) {
                return Err(wrong(format!("the files of sample \"{}\" are not together", printable(key))));
            }
            samples.push(Sample { key: key.to_owned(), members: Vec::new() });
        }
        let sample = samples.last_mut().expect("one was pushed");
        if sample.members.iter().any(|member| member.field == field) {
            return Err(wrong(format!("\"{}\" is there twice", printable(&name))));
        }
        sample.members.push(Member { field: field.to_owned(), offset, size });
    }
    check_end(found, file, end)?;
    if samples.is_empty() { Err(wrong("it has no files".to_owned())) } else { Ok(samples) }
}

/// The reader takes the end of a file that was cut off between two members for the archive's. Two blocks of zeroes tell.
fn check_end(found: &FoundFile, file: &Positioned, end: u64) -> Result<(), DatasetError> {
    let at = end.next_multiple_of(512);
    let is_ended = at + 1024 <= found.size && file.bytes(at, 1024).map_err(unreadable(found))?.iter().all(|&byte| byte == 0);
    if is_ended { Ok(()) } else { Err(unfit(found, FORMAT, "it has no end")) }
}

impl Archive {
    fn new(found: FoundFile, samples: Vec<Sample>) -> Self {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let (mut parts, mut bytes) = (vec![0], 0);
        for (number, sample) in samples.iter().enumerate() {
            names.extend(sample.members.iter().map(|member| member.field.as_str()));
            if bytes >= PART_BYTES {
                parts.push(number);
                bytes = 0;
            }
            bytes += sample.bytes();
        }
        let fields = names.into_iter().map(|name| DatasetField { name: name.to_owned(), arrow_type: "Binary".to_owned() }).collect();
        Self { found, samples, parts, fields }
    }

    fn part(&self, part: usize) -> &[Sample] {
        let end = self.parts.get(part + 1).copied().unwrap_or(self.samples.len());
        &self.samples[self.parts[part]..end]
    }
}

impl Sample {
    fn bytes(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }
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
        (0..self.parts.len()).map(|part| self.part(part).iter().map(Sample::bytes).sum()).collect()
    }

    fn read(&self, tree: &ModelTree, part: usize, fields: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError> {
        with_file(tree, &self.found, |file| {
            let mut rest = self.part(part);
            while !rest.is_empty() {
                let mut held = 0;
                let fits = |sample: &&Sample| {
                    held += sample.members.iter().map(|member| member.size.min(LONGEST_HELD)).sum::<u64>();
                    held <= 8 * LONGEST_HELD
                };
                let count = rest.iter().take(BATCH_SAMPLES).take_while(fits).count().max(1);
                let (batch, later) = rest.split_at(count);
                sink(self.rows(file, batch, fields)?)?;
                rest = later;
            }
            Ok(())
        })
    }
}

impl Archive {
    fn rows(&self, file: &Positioned, samples: &[Sample], fields: &[DatasetField]) -> Result<Vec<Row>, DatasetError> {
        let read = |member: &Member| Body::read(file, member.offset, member.size).map_err(unreadable(&self.found));
        let read_all = |sample: &Sample| sample.members.iter().map(read).collect::<Result<Vec<Body>, _>>();
        let bodies: Vec<Vec<Body>> = samples.iter().map(read_all).collect::<Result<_, _>>()?;
        let column = |field: &DatasetField| {
            let values = samples.iter().zip(&bodies).map(|(sample, bodies)| {
                match sample.members.iter().position(|member| member.field == field.name) {
                    Some(place) => bodies[place].value(),
                    None => Value::Null,
                }
            });
            FieldValues::Values(values.collect())
        };
        let columns = fields.iter().map(|field| (field.name.as_str(), column(field))).collect();
        let digests = Samples::new(samples.len(), columns)?.digests()?;
        let row = |(sample, digest): (&Sample, _)| Row { source: None, id: Some(path_id(&sample.key)), digest };
        Ok(samples.iter().zip(digests).map(row).collect())
    }
}
