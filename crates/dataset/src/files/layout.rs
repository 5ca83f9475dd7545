//! Which files of a folder hold samples, of what format, and which source each belongs to.

use std::collections::BTreeMap;

use sentry_manifest::{FoundFile, IgnoreRules, ModelPath, ModelTree, ResourcePath, SIGNATURE_SUFFIX, is_hub_note, printable};

use crate::DatasetError;

/// Most files of a dataset.
const MAX_FILES: usize = 1 << 24;

/// Words that name a split where they stand in a path.
const SPLITS: [&str; 10] = ["train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "unsupervised"];

/// The source of samples whose path names no split.
const DEFAULT_SOURCE: &str = "default";

/// What the names of sample tables end in.
const TABLE_SUFFIX: &str = ".samples";

/// Formats of files with samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    Parquet,
    Arrow,
    Csv,
    Jsonl,
    Tar,
    Npy,
    Images,
}

impl Format {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow",
            Self::Csv => "CSV",
            Self::Jsonl => "JSON Lines",
            Self::Tar => "tar",
            Self::Npy => "npy",
            Self::Images => "images",
        }
    }

    pub fn is_table(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow | Self::Csv | Self::Jsonl)
    }

    /// Whether some samples may have fields that others lack.
    pub fn may_lack_fields(self) -> bool {
        matches!(self, Self::Tar | Self::Images)
    }

    fn of(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "parquet" => Self::Parquet,
            "arrow" | "feather" => Self::Arrow,
            "csv" => Self::Csv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "tar" => Self::Tar,
            "npy" => Self::Npy,
            "jpg" | "jpeg" | "png" | "webp" | "bmp" | "gif" | "tif" | "tiff" => Self::Images,
            _ => return None,
        })
    }
}

/// Files of one source, sorted by path.
#[derive(Debug)]
pub struct Group {
    pub source: String,
    pub files: Vec<FoundFile>,
    /// Tables about images, which are read with them.
    pub metadata: Vec<FoundFile>,
}

/// What a folder holds.
#[derive(Debug)]
pub struct Layout {
    pub format: Format,
    /// Sorted by source.
    pub groups: Vec<Group>,
    pub others: Vec<ModelPath>,
}

impl Layout {
    /// Lists the files of a dataset.
    pub fn of(tree: &ModelTree, leave_out: &[ModelPath]) -> Result<Self, DatasetError> {
        let mut rules = IgnoreRules::default();
        leave_out.iter().for_each(|signature| rules.add_signature(signature));
        let found = tree.scan_up_to(MAX_FILES, &rules, false)?;
        let is_folder = !tree.is_file();
        let format = format_of(&found, is_folder)?;
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut others = Vec::new();
        for file in found {
            let ResourcePath::File(path) = &file.path else { continue };
            let kind = if is_folder && is_hidden(path.as_str()) { hidden(path, format)? } else { kind_of(path, format) };
            if kind == Kind::Other {
                if !(is_folder && is_hidden(path.as_str())) && is_taken_for_samples(base_name(path.as_str()), format) {
                    let reason =
                        format!("\"{path}\" would be taken for samples by other programs, and is not read here: convert or remove it");
                    return Err(DatasetError::Layout { reason });
                }
                if !is_side_file(path.as_str()) {
                    others.push(path.clone());
                }
                continue;
            }
            let source = source_of(path.as_str(), format);
            let group = groups.entry(source.clone()).or_insert(Group { source, files: Vec::new(), metadata: Vec::new() });
            if kind == Kind::Samples { group.files.push(file) } else { group.metadata.push(file) }
        }
        let groups: Vec<Group> = groups.into_values().collect();
        if let Some(group) = groups.iter().find(|group| group.files.is_empty()) {
            let name = printable(group.metadata[0].path.as_str());
            return Err(DatasetError::Layout { reason: format!("\"{name}\" is about images, and there are none of its source") });
        }
        Ok(Self { format, groups, others })
    }

    /// Only what lies in a part, a file or folder. Of images all files are kept, for there are tables about them: [`super::images::open`] goes
    /// on from there.
    pub fn of_part(mut self, part: &ModelPath) -> Result<Self, DatasetError> {
        let is_in_part = |file: &FoundFile| is_inside(file.path.as_str(), part);
        if self.format != Format::Images {
            self.groups.iter_mut().for_each(|group| group.files.retain(is_in_part));
        }
        self.groups.retain(|group| group.files.iter().any(is_in_part));
        if self.groups.is_empty() {
            let (part, format) = (printable(part.as_str()), self.format.name());
            return Err(DatasetError::Layout { reason: format!("\"{part}\" has no samples of this dataset, which is {format}") });
        }
        Ok(self)
    }
}

/// Whether a path is that of a part, or lies beneath it.
pub fn is_inside(path: &str, part: &ModelPath) -> bool {
    path.strip_prefix(part.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Samples,
    Metadata,
    Other,
}

fn kind_of(path: &ModelPath, format: Format) -> Kind {
    let name = base_name(path.as_str());
    match Format::of(name) {
        Some(found) if found == format => Kind::Samples,
        Some(Format::Csv | Format::Jsonl) if format == Format::Images && is_metadata(name) => Kind::Metadata,
        _ => Kind::Other,
    }
}

/// What a hidden file is: nothing that a library of datasets reads, but for images, which some look for in hidden folders too.
fn hidden(path: &ModelPath, format: Format) -> Result<Kind, DatasetError> {
    if format == Format::Images && kind_of(path, format) == Kind::Samples {
        let reason = format!("\"{path}\" is a hidden image, which some programs read and others do not: rename or remove it");
        return Err(DatasetError::Layout { reason });
    }
    Ok(Kind::Other)
}

/// Whether libraries of datasets read a file together with those of a format, or in their place. Some JSON is only about datasets.
fn is_taken_for_samples(name: &str, format: Format) -> bool {
    let about = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];
    let endings: &[&str] = match format {
        Format::Jsonl => &[".json"],
        Format::Csv => &[".tsv"],
        Format::Npy => &[".npz"],
        _ => &[],
    };
    endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending)) && !about.contains(&name)
}

/// The one format of samples. Pictures beside tables or archives are illustrations; any other mixture could be meant in two ways.
fn format_of(found: &[FoundFile], is_folder: bool) -> Result<Format, DatasetError> {
    let layout = |reason: String| Err(DatasetError::Layout { reason });
    // The first file of each format.
    let mut seen: BTreeMap<Format, &str> = BTreeMap::new();
    let mut is_only_about_images = true;
    for file in found {
        let path = file.path.as_str();
        if is_folder && is_hidden(path) {
            continue;
        }
        let name = base_name(path);
        if is_compressed(name) {
            return layout(format!("\"{}\" is compressed as a whole: files of samples are not", printable(path)));
        }
        if let Some(format) = Format::of(name) {
            is_only_about_images &= format == Format::Images || is_metadata(name);
            seen.entry(format).or_insert(path);
        }
    }
    if seen.contains_key(&Format::Images) && is_only_about_images {
        return Ok(Format::Images);
    }
    seen.remove(&Format::Images);
    let mut formats = seen.iter();
    match (formats.next(), formats.next()) {
        (None, _) => layout("there are no samples: no file of a format that is known".to_owned()),
        (Some((format, _)), None) => Ok(*format),
        (Some((one, first)), Some((other, second))) => layout(format!(
            "samples are of one format, and here are {} (\"{}\") and {} (\"{}\")",
            one.name(),
            printable(first),
            other.name(),
            printable(second)
        )),
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether this is a compressed file of samples: some programs would read it, and here it would be passed over.
fn is_compressed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some((rest, compression)) = name.rsplit_once('.') else { return false };
    let is_samples = |name| Format::of(name).is_some_and(|format| format != Format::Images);
    matches!(compression, "gz" | "bz2" | "xz" | "zst" | "lz4" | "zip") && is_samples(rest) || matches!(compression, "tgz" | "tbz2" | "txz")
}

fn is_metadata(name: &str) -> bool {
    matches!(name, "metadata.csv" | "metadata.jsonl")
}

/// Files that libraries of datasets do not look at.
fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.')) || is_hub_note(path)
}

/// Signatures and tables, which no signature is about.
fn is_side_file(path: &str) -> bool {
    path.ends_with(SIGNATURE_SUFFIX) || path.ends_with(TABLE_SUFFIX) || is_hub_note(path)
}

/// The split that a path names: `train-00000-of-00002`, a folder `train`, or a word of the file's name such as in `x_train`.
pub fn source_of(path: &str, format: Format) -> String {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if let Some(split) = numbered(stem).filter(|_| format != Format::Images) {
        return split.to_owned();
    }
    let folder = folders.split('/').find(|folder| is_split(folder));
    // The name of an image says nothing of its split.
    let words = || if format == Format::Images { None } else { stem.split(['-', '_', '.']).find(|word| is_split(word)) };
    folder.or_else(words).unwrap_or(DEFAULT_SOURCE).to_owned()
}

pub fn is_split(word: &str) -> bool {
    SPLITS.iter().any(|split| word.eq_ignore_ascii_case(split))
}

/// `train` of `train-00000-of-00002`, which a hash of the contents may follow.
fn numbered(stem: &str) -> Option<&str> {
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (split, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let of = of.split_once('-').map_or(of, |(of, _)| of);
    (!split.is_empty() && is_number(number) && is_number(of)).then_some(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_splits() {
        for (path, source) in [
            ("train-00000-of-00002.parquet", "train"),
            ("data/validation-00001-of-00002.parquet", "validation"),
            ("plain_text/my-own_split-00000-of-00001.parquet", "my-own_split"),
            ("data/other-00000-of-00001-0a1b2c3d.parquet", "other"),
            ("test.csv", "test"),
            ("x_train.npy", "train"),
            ("train/x.npy", "train"),
            ("Train/cat/1.png", "Train"),
            ("shard-000000.tar", "default"),
            ("cifar-train-000003.tar", "train"),
            ("trainers.csv", "default"),
            ("a-1-of-2.csv", "default"),
        ] {
            assert_eq!(source_of(path, Format::Csv), source, "{path}");
        }
        assert_eq!(source_of("cat/test.png", Format::Images), "default");
        assert_eq!(source_of("frame-0001-of-0002.png", Format::Images), "default");
        assert_eq!(source_of("val/cat/test.png", Format::Images), "val");
    }

    #[test]
    fn samples_that_are_compressed_are_told_from_other_archives() {
        for name in ["a.tar.gz", "a.TGZ", "a.csv.zst", "a.jsonl.gz", "a.parquet.zip", "a.npy.xz"] {
            assert!(is_compressed(name), "{name}");
        }
        for name in ["a.gz", "weights.zip", "page.png.gz", "a.tar", "tgz", "README.md.gz"] {
            assert!(!is_compressed(name), "{name}");
        }
    }
}
