//! Folders of images: a file is a sample, a folder its label, and a table beside them may say more.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::RecordBatch;
use sentry_hash::lattice::path_id;
use sentry_manifest::record::Value;
use sentry_manifest::{DatasetField, FoundFile, IdRule, ModelPath, ModelTree, printable};

use super::layout::{Format, Group, Layout, is_inside, is_split};
use super::positioned::{Body, LONGEST_HELD, MAX_VALUES, Positioned, unreadable, with_file};
use super::{SampleFile, Sink, SourceFile, table};
use crate::{DatasetError, FieldValues, Row, Samples};

const IMAGE: &str = "image";
const LABEL: &str = "label";

/// The column of a table of metadata that names the image, relative to the table.
const FILE_NAME: &str = "file_name";

/// Files that one thread reads at a time.
const PART_FILES: usize = 256;

/// Bytes of images that are held at a time, unless one has more.
const BATCH_BYTES: u64 = 8 * LONGEST_HELD;

/// Longest table about images in bytes, which is held whole, and most columns of it.
const MAX_METADATA: u64 = 1 << 30;
const MAX_COLUMNS: usize = 1024;

/// An image of a folder, as it would be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its path in the folder, which its id is made of.
    pub path: String,
    /// Its source.
    pub source: String,
    /// Its label, if it lies in a folder below the split's.
    pub label: Option<String>,
}

/// Lists the images of a folder, none of which is read, sorted by source and path.
///
/// # Errors
/// [`DatasetError`], also for a folder of something else.
pub fn list_images(folder: &Path) -> Result<Vec<ListedImage>, DatasetError> {
    let layout = Layout::of(&ModelTree::open(folder)?, &[])?;
    if layout.format != Format::Images {
        return Err(DatasetError::Layout { reason: format!("this dataset is {}, and no folder of images", layout.format.name()) });
    }
    let listed = |group: &Group| {
        let image = |found: &FoundFile| {
            let path = found.path.as_str().to_owned();
            ListedImage { label: label_of(&path), source: group.source.clone(), path }
        };
        group.files.iter().map(image).collect::<Vec<_>>()
    };
    Ok(layout.groups.iter().flat_map(listed).collect())
}

/// The images of one source.
struct Images {
    files: Vec<Image>,
    metadata: Vec<Metadata>,
    fields: Vec<DatasetField>,
}

struct Image {
    found: FoundFile,
    label: Option<String>,
    /// The table and row that are about it.
    metadata: Option<(usize, usize)>,
}

/// A table about images, which is held whole.
struct Metadata {
    batch: RecordBatch,
    columns: Vec<String>,
}

/// Opens the images of all sources, or those of a part of the dataset.
pub fn open(tree: &ModelTree, groups: Vec<Group>, part: Option<&ModelPath>) -> Result<Vec<SourceFile>, DatasetError> {
    let open_group = |group: Group| {
        let source = group.source.clone();
        let mut images = Images::open(tree, group)?;
        if let Some(part) = part {
            images.files.retain(|image| is_inside(image.found.path.as_str(), part));
        }
        Ok(SourceFile { source, samples: Box::new(images) })
    };
    groups.into_iter().map(open_group).collect()
}

impl Images {
    fn open(tree: &ModelTree, group: Group) -> Result<Self, DatasetError> {
        let mut fields = BTreeMap::from([(IMAGE.to_owned(), "Binary".to_owned())]);
        let mut files = Vec::with_capacity(group.files.len());
        for found in group.files {
            let label = label_of(found.path.as_str());
            if label.is_some() {
                fields.insert(LABEL.to_owned(), "Utf8".to_owned());
            }
            files.push(Image { found, label, metadata: None });
        }
        let mut images = Self { files, metadata: Vec::new(), fields: Vec::new() };
        for found in &group.metadata {
            images.add_metadata(tree, found, &mut fields)?;
        }
        images.fields = fields.into_iter().map(|(name, arrow_type)| DatasetField { name, arrow_type }).collect();
        Ok(images)
    }

    /// Reads a table about images, each row of which names one.
    fn add_metadata(&mut self, tree: &ModelTree, found: &FoundFile, fields: &mut BTreeMap<String, String>) -> Result<(), DatasetError> {
        let table = printable(found.path.as_str());
        let wrong = |reason: String| DatasetError::Layout { reason: format!("\"{table}\": {reason}") };
        if found.size > MAX_METADATA {
            return Err(wrong(format!("a table about images has at most {MAX_METADATA} bytes, and it has {}", found.size)));
        }
        let (batch, described) = table::read_whole(tree, found)?;
        if described.len() > MAX_COLUMNS {
            return Err(wrong(format!("a table about images has at most {MAX_COLUMNS} columns, and it has {}", described.len())));
        }
        let names = batch.column_by_name(FILE_NAME).ok_or_else(|| wrong(format!("it has no column \"{FILE_NAME}\"")))?;
        let folder = found.path.as_str().rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let number = self.metadata.len();
        for row in 0..batch.num_rows() {
            let name = crate::columns::text_of(names, row).map_err(|_| wrong(format!("row {row} names no file")))?;
            let path = format!("{folder}{name}");
            let place = self.files.binary_search_by(|image| image.found.path.as_str().as_bytes().cmp(path.as_bytes()));
            let image =
                &mut self.files[place.map_err(|_| wrong(format!("row {row} names \"{}\", which is not there", printable(&path))))?];
            if image.metadata.replace((number, row)).is_some() {
                return Err(wrong(format!("\"{}\" is named twice", printable(&path))));
            }
        }
        let mut columns = Vec::new();
        for field in described.iter().filter(|field| field.name != FILE_NAME) {
            let known = fields.get(&field.name).is_some_and(|known| *known != field.arrow_type);
            if field.name == IMAGE || field.name == LABEL && fields.contains_key(LABEL) || known {
                return Err(wrong(format!("the field \"{}\" comes from elsewhere too", printable(&field.name))));
            }
            columns.push(field.name.clone());
        }
        fields.extend(described.into_iter().filter(|field| field.name != FILE_NAME).map(|field| (field.name, field.arrow_type)));
        self.metadata.push(Metadata { batch, columns });
        Ok(())
    }
}

/// The folders of an image below its split, if there are any.
fn label_of(path: &str) -> Option<String> {
    let (folders, _) = path.rsplit_once('/')?;
    let mut parts: Vec<&str> = folders.split('/').collect();
    if let Some(split) = parts.iter().position(|part| is_split(part)) {
        parts.drain(..=split);
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

impl SampleFile for Images {
    fn name(&self) -> &str {
        self.files[0].found.path.as_str()
    }

    fn fields(&self) -> &[DatasetField] {
        &self.fields
    }

    fn ids(&self) -> &IdRule {
        &IdRule::Path
    }

    fn part_bytes(&self) -> Vec<u64> {
        self.files.chunks(PART_FILES).map(|part| part.iter().map(|image| image.found.size).sum()).collect()
    }

    fn read(&self, tree: &ModelTree, part: usize, fields: &[DatasetField], sink: &mut Sink<'_>) -> Result<(), DatasetError> {
        let images = &self.files[part * PART_FILES..self.files.len().min((part + 1) * PART_FILES)];
        let most = MAX_VALUES / fields.len().max(1);
        let mut rest = images;
        while !rest.is_empty() {
            let mut held = 0;
            let fits = |image: &&Image| {
                held += image.found.size.min(LONGEST_HELD);
                held <= BATCH_BYTES
            };
            let count = rest.iter().take(most).take_while(fits).count().max(1);
            let (batch, later) = rest.split_at(count);
            sink(self.rows(tree, batch, fields)?)?;
            rest = later;
        }
        Ok(())
    }
}

impl Images {
    fn rows(&self, tree: &ModelTree, images: &[Image], fields: &[DatasetField]) -> Result<Vec<Row>, DatasetError> {
        let read = |image: &Image| {
            let whole = |file: &Positioned| Body::read(file, 0, image.found.size, LONGEST_HELD).map_err(unreadable(&image.found));
            with_file(tree, &image.found, whole)
        };
        let bodies: Vec<Body> = images.iter().map(read).collect::<Result<_, _>>()?;
        let mut columns = Vec::with_capacity(fields.len());
        for field in fields {
            let values: Vec<Value<'_>> = match field.name.as_str() {
                IMAGE => bodies.iter().map(Body::value).collect(),
                name => images.iter().map(|image| self.value(image, name)).collect::<Result<_, _>>()?,
            };
            columns.push((field.name.as_str(), FieldValues::Values(values)));
        }
        let digests = Samples::new(images.len(), columns)?.digests()?;
        let row = |(image, digest): (&Image, _)| Row { source: None, id: Some(path_id(image.found.path.as_str())), digest };
        Ok(images.iter().zip(digests).map(row).collect())
    }

    /// A value besides the image itself.
    fn value<'a>(&'a self, image: &'a Image, field: &str) -> Result<Value<'a>, DatasetError> {
        if let Some((table, row)) = image.metadata
            && self.metadata[table].columns.iter().any(|column| column == field)
        {
            return crate::columns::value_of(&self.metadata[table].batch, field, row);
        }
        match (&image.label, field) {
            (Some(label), LABEL) => Ok(Value::Text(label)),
            _ => Ok(Value::Null),
        }
    }
}
