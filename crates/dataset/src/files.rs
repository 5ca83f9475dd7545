//! Datasets in files: which files they are, and how the samples of all of them are measured on all cores.

mod arrays;
mod images;
mod layout;
mod measure;
mod positioned;
mod table;
mod tar;

use std::path::Path;

use sentry_manifest::limits::MAX_FIELDS;
use sentry_manifest::{DatasetField, IdRule, MeasuredDataset, ModelPath, ModelTree, printable};

use crate::{DatasetError, Row};
use layout::{Format, Layout};
use measure::Numbering;

pub use images::{ListedImage, list_images};

/// How the samples of a dataset are found. What is not said is found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Where ids come from; by default an integer column `id`, a path or a key, or the number of the row.
    pub ids: Option<IdRule>,
    /// The column that names each sample's source; by default the name of the split, from the names of files and folders.
    pub source_column: Option<String>,
    /// The fields and their types, if they are known: those of a signed statement. Types of CSV and JSON are taken from here.
    pub fields: Option<Vec<DatasetField>>,
}

/// A dataset in files, of which no sample has been hashed yet.
pub struct Dataset {
    tree: ModelTree,
    parts: Vec<SourceFile>,
    fields: Vec<DatasetField>,
    ids: IdRule,
    format: Format,
    files: usize,
    others: Vec<ModelPath>,
}

/// A file of samples, or several that are read together, and the source that they belong to unless a column says otherwise.
struct SourceFile {
    source: String,
    samples: Box<dyn SampleFile>,
}

/// Samples that several threads read, each a part.
trait SampleFile: Send + Sync {
    /// What to call it in messages: the name of its file or of one of them.
    fn name(&self) -> &str;

    /// Name and signed type of each field, sorted by name.
    fn fields(&self) -> &[DatasetField];

    /// Where ids come from.
    fn ids(&self) -> &IdRule;

    /// The bytes of each part, as for progress.
    fn part_bytes(&self) -> Vec<u64>;

    /// Reads a part, and hands out its samples in order, some at a time. `fields` are those of the whole dataset: samples have no value in
    /// those that are not in this file.
    ///
    /// # Errors
    /// [`DatasetError`], and those of `sink`.
    fn read(&self, tree: &ModelTree, part: usize, fields: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError>;
}

/// Takes samples as they are read.
type Sink<'a> = dyn FnMut(Vec<Row>) -> Result<(), DatasetError> + 'a;

impl Dataset {
    /// Lists the files of a folder, or takes one file, and reads their heads. `leave_out` are signatures: no part of it.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn open(path: &Path, options: &ReadOptions, leave_out: &[ModelPath]) -> Result<Self, DatasetError> {
        let tree = ModelTree::open(path)?;
        let layout = Layout::of(&tree, leave_out)?;
        Self::open_layout(tree, layout, None, options)
    }

    /// Opens a file of a dataset, or what lies in a folder of it. Its samples have the ids and sources that they have in the whole.
    ///
    /// # Errors
    /// [`DatasetError`], also if there are no samples.
    pub fn open_part(path: &Path, part: &ModelPath, options: &ReadOptions, leave_out: &[ModelPath]) -> Result<Self, DatasetError> {
        let tree = ModelTree::open(path)?;
        let layout = Layout::of(&tree, leave_out)?.of_part(part)?;
        Self::open_layout(tree, layout, Some(part), options)
    }

    fn open_layout(tree: ModelTree, layout: Layout, part: Option<&ModelPath>, options: &ReadOptions) -> Result<Self, DatasetError> {
        let Layout { format, groups, others } = layout;
        let files = groups.iter().map(|group| group.files.len()).sum();
        if options.source_column.is_some() && !format.is_table() {
            return Err(DatasetError::Layout {
                reason: format!("a column of sources is for tables, and this dataset is {}", format.name()),
            });
        }
        let parts: Vec<SourceFile> = match format {
            Format::Images => images::open(&tree, groups, part)?,
            Format::Npy => arrays::open(&tree, groups, options)?,
            Format::Tar => tar::open(&tree, groups)?,
            Format::Parquet | Format::Arrow | Format::Csv | Format::Jsonl => table::open(&tree, format, groups, options)?,
        };
        let (fields, ids) = unite(&parts, format)?;
        if let Some(wanted) = &options.ids
            && *wanted != ids
        {
            let reason = "this dataset has no columns that could hold ids: they come from elsewhere".to_owned();
            if let IdRule::Column(column) = wanted {
                return Err(DatasetError::Column { column: printable(column), reason });
            }
        }
        Ok(Self { tree, parts, fields, ids, format, files, others })
    }

    /// The same as a part of a dataset with these fields. Samples of archives and folders of images have no value in those that all of this
    /// part lack.
    ///
    /// # Errors
    /// [`DatasetError::Layout`]: other fields; an image by itself, which has no path in a dataset.
    pub fn with_fields_of(mut self, whole: &[DatasetField]) -> Result<Self, DatasetError> {
        let name = || printable(&self.tree.location().to_string_lossy());
        if self.format == Format::Images && self.tree.is_file() {
            let reason = format!("\"{}\" has no path in the dataset, and so no id: put it where it belongs first", name());
            return Err(DatasetError::Layout { reason });
        }
        let fits = match self.format.may_lack_fields() {
            true => self.fields.iter().all(|field| whole.contains(field)),
            false => self.fields == whole,
        };
        if !fits {
            return Err(DatasetError::Layout { reason: format!("\"{}\" has other fields than the dataset", name()) });
        }
        self.fields = whole.to_vec();
        Ok(self)
    }

    /// Bytes of all files with samples.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().flat_map(|part| part.samples.part_bytes()).sum()
    }

    /// How many files hold samples.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Name and signed type of each field, sorted by name.
    pub fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    /// Files that hold no samples and that no statement about samples covers, such as `README.md`.
    pub fn others(&self) -> &[ModelPath] {
        &self.others
    }

    /// Where ids come from.
    pub fn ids(&self) -> &IdRule {
        &self.ids
    }

    /// Reads every sample once, over `threads` threads. `progress` is told of bytes as they are read, by any thread.
    ///
    /// # Errors
    /// [`DatasetError`]; nothing comes of a dataset of which one sample cannot be read.
    pub fn measure(&self, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Result<MeasuredDataset, DatasetError> {
        let numbering = if self.ids == IdRule::Ordinal { Numbering::Counted } else { Numbering::Own };
        let sources = measure::read_all(&self.tree, &self.parts, &self.fields, numbering, threads, progress)?;
        Ok(MeasuredDataset::new(self.fields.clone(), self.ids.clone(), sources)?)
    }
}

/// The fields and ids that all files have. Shards of archives, and folders of images, need not have all fields.
fn unite(parts: &[SourceFile], format: Format) -> Result<(Vec<DatasetField>, IdRule), DatasetError> {
    let Some(first) = parts.first() else {
        return Err(DatasetError::Layout { reason: "there are no samples: no file of a format that is known".to_owned() });
    };
    let mut fields = first.samples.fields().to_vec();
    for part in &parts[1..] {
        let (samples, first) = (&part.samples, &first.samples);
        let differ = |what: &str| {
            let reason = format!("\"{}\" has other {what} than \"{}\"", printable(samples.name()), printable(first.name()));
            Err(DatasetError::Layout { reason })
        };
        if samples.ids() != first.ids() {
            return differ("ids");
        }
        if format.may_lack_fields() {
            for field in samples.fields() {
                match fields.binary_search_by(|known| known.name.as_bytes().cmp(field.name.as_bytes())) {
                    Ok(place) if fields[place] == *field => {}
                    Ok(_) => return differ("types of fields"),
                    Err(_) if fields.len() == MAX_FIELDS => return differ("fields, which are too many in all,"),
                    Err(place) => fields.insert(place, field.clone()),
                }
            }
        } else if samples.fields() != fields {
            return differ("fields");
        }
    }
    Ok((fields, first.samples.ids().clone()))
}
