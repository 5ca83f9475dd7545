//! Which files of a model hold its weights, by the conventions of the Hugging Face hub.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::json::{self, Object};
use crate::{Manifest, ManifestError, ModelPath, ResourcePath, printable};

/// The file of a model whose weights are in one file.
pub const WEIGHTS_NAME: &str = "model.safetensors";

/// The file that says which tensor is in which file of a model whose weights are in several.
pub const INDEX_NAME: &str = "model.safetensors.index.json";

const SUFFIX: &str = ".safetensors";

/// Where the weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// In these signed files.
    Files(Vec<ResourcePath>),
    /// In the files that this signed index names.
    Index(ResourcePath),
}

impl Weights {
    /// Finds the weights of a signed model: `model.safetensors`, else the files of the index, else the only safetensors
    /// file.
    ///
    /// # Errors
    /// [`ManifestError::Weights`] if there is none, or several and no index.
    pub fn of(manifest: &Manifest) -> Result<Self, ManifestError> {
        let paths = manifest.paths();
        let named = |name: &str| paths.iter().copied().find(|path| path.as_str() == name).cloned();
        if let Some(file) = named(WEIGHTS_NAME) {
            return Ok(Self::Files(vec![file]));
        }
        if let Some(index) = named(INDEX_NAME) {
            return Ok(Self::Index(index));
        }
        let candidates: Vec<_> = paths.into_iter().filter(|path| is_weights(path)).collect();
        match candidates[..] {
            [only] => Ok(Self::Files(vec![only.clone()])),
            [] => Err(ManifestError::Weights { reason: "no safetensors file is signed".to_owned() }),
            [first, second, ..] => Err(ManifestError::Weights { reason: format!("\"{first}\" and \"{second}\" are both signed") }),
        }
    }

    /// The files that a caller names.
    ///
    /// # Errors
    /// [`ManifestError::Weights`] for a name that is not signed; [`ManifestError::UnsafePath`].
    pub fn named(manifest: &Manifest, names: &[String]) -> Result<Self, ManifestError> {
        let paths = manifest.paths();
        let find = |name: &String| match ResourcePath::new(name)? {
            path if paths.contains(&path) => Ok(path),
            path => Err(ManifestError::Weights { reason: format!("\"{path}\" is not signed") }),
        };
        let files: BTreeSet<_> = names.iter().map(find).collect::<Result<_, _>>()?;
        if files.is_empty() {
            return Err(ManifestError::Weights { reason: "none is named".to_owned() });
        }
        Ok(Self::Files(files.into_iter().collect()))
    }

    /// The files, if that can be told without reading the index: its files are `model-00001-of-0000N.safetensors` and so
    /// on, all of them.
    ///
    /// # Errors
    /// [`ManifestError::Weights`] if the signed files are no such series.
    pub fn files_by_name(&self, manifest: &Manifest) -> Result<Vec<ResourcePath>, ManifestError> {
        if let Self::Files(files) = self {
            return Ok(files.clone());
        }
        let paths = manifest.paths();
        let series: Vec<_> = paths.into_iter().filter(|path| series_number(path.as_str()).is_some()).collect();
        let count = series.len();
        let complete = series.iter().enumerate().all(|(place, path)| series_number(path.as_str()) == Some((place + 1, count)));
        if count == 0 || !complete {
            let reason = format!("{INDEX_NAME} is signed, and the files are no series model-00001-of-0000N{SUFFIX}");
            return Err(ManifestError::Weights { reason });
        }
        Ok(series.into_iter().cloned().collect())
    }
}

/// Whether a file is meant to hold tensors.
fn is_weights(path: &ResourcePath) -> bool {
    path.as_str().ends_with(SUFFIX) || *path == ResourcePath::Model
}

/// 3 and 12 of `model-00003-of-00012.safetensors`.
fn series_number(name: &str) -> Option<(usize, usize)> {
    let (number, count) = name.strip_prefix("model-")?.strip_suffix(SUFFIX)?.split_once("-of-")?;
    let five = |digits: &str| (digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?;
    Some((five(number)?, five(count)?))
}

/// Which tensors each file of an index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index(BTreeMap<ResourcePath, BTreeSet<String>>);

#[derive(Deserialize)]
struct IndexJson {
    weight_map: Object<BTreeMap<String, String>>,
}

impl Index {
    /// Reads an index whose bytes have been verified. Each file it names must be signed, and lie beside it.
    ///
    /// # Errors
    /// [`ManifestError::Index`].
    pub fn parse(bytes: &[u8], path: &ResourcePath, manifest: &Manifest) -> Result<Self, ManifestError> {
        let invalid = |reason: String| ManifestError::Index { path: path.in_model(), reason };
        let json: IndexJson = json::parse(bytes).map_err(|error| invalid(error.to_string()))?;
        let signed = manifest.paths();
        let mut files: BTreeMap<ResourcePath, BTreeSet<String>> = BTreeMap::new();
        for (tensor, file) in json.weight_map.0 {
            let named = ModelPath::new(&file).ok().filter(|name| !name.as_str().contains('/') && name.as_str().ends_with(SUFFIX));
            let Some(name) = named else {
                return Err(invalid(format!("it names \"{}\", which is no safetensors file beside it", printable(&file))));
            };
            let file = ResourcePath::File(name);
            if !signed.contains(&file) {
                return Err(invalid(format!("it names \"{file}\", which is not signed")));
            }
            files.entry(file).or_default().insert(tensor);
        }
        if files.is_empty() {
            return Err(invalid("it names no file".to_owned()));
        }
        Ok(Self(files))
    }

    /// The files in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &ResourcePath> {
        self.0.keys()
    }

    /// Checks that a file has exactly the tensors that the index says.
    ///
    /// # Errors
    /// [`ManifestError::Index`] with the first difference.
    pub fn check<'a>(
        &self,
        index: &ResourcePath,
        file: &ResourcePath,
        tensors: impl Iterator<Item = &'a str>,
    ) -> Result<(), ManifestError> {
        let found: BTreeSet<&str> = tensors.collect();
        let expected: BTreeSet<&str> = self.0.get(file).into_iter().flatten().map(String::as_str).collect();
        match found.symmetric_difference(&expected).next() {
            None => Ok(()),
            Some(tensor) => {
                let (tensor, where_found) = (printable(tensor), if expected.contains(tensor) { "the index only" } else { "the file only" });
                let reason = format!("tensor \"{tensor}\" of \"{file}\" is in {where_found}");
                Err(ManifestError::Index { path: index.in_model(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sentry_hash::Algorithm;

    use super::*;
    use crate::{Resource, Serialization};

    fn manifest(names: &[&str]) -> Manifest {
        let digest = Algorithm::Sha256.digest(b"");
        let resource = |name: &&str| Resource { path: ResourcePath::new(name).unwrap(), shard: None, digest, annotation: None };
        Manifest::new(Serialization::default(), names.iter().map(resource).collect()).unwrap()
    }

    fn files(names: &[&str]) -> Result<Vec<String>, &'static str> {
        let manifest = manifest(names);
        let files = Weights::of(&manifest).and_then(|weights| weights.files_by_name(&manifest)).map_err(|error| error.code())?;
        Ok(files.iter().map(|path| path.as_str().to_owned()).collect())
    }

    #[test]
    fn the_usual_names_are_found() {
        let found = |names: &[&str]| files(names).unwrap();
        assert_eq!(found(&["adapter.safetensors", "config.json", "model.safetensors"]), ["model.safetensors"]);
        assert_eq!(found(&["vgg19.safetensors"]), ["vgg19.safetensors"]);
        assert_eq!(found(&["."]), ["."]);
        let series = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(found(&[INDEX_NAME, series[0], series[1], "other.safetensors"]), series);
        for unclear in [
            &["a.safetensors", "b.safetensors"][..],
            &["config.json"],
            &[INDEX_NAME, series[0]],
            &[INDEX_NAME, series[0], "model-00002-of-00003.safetensors"],
            &[INDEX_NAME, "model-1-of-1.safetensors"],
        ] {
            assert_eq!(files(unclear), Err("weights_unclear"), "{unclear:?}");
        }
    }

    #[test]
    fn an_index_names_signed_files_beside_it() {
        let manifest = manifest(&["a.safetensors", "b.safetensors", "c.bin", INDEX_NAME]);
        let path = ResourcePath::new(INDEX_NAME).unwrap();
        let parse = |map: &str| Index::parse(format!("{{\"metadata\":{{}},\"weight_map\":{map}}}").as_bytes(), &path, &manifest);
        let index = parse(r#"{"x":"a.safetensors","y":"b.safetensors","z":"a.safetensors"}"#).unwrap();
        assert_eq!(index.files().map(ResourcePath::as_str).collect::<Vec<_>>(), ["a.safetensors", "b.safetensors"]);
        let a = ResourcePath::new("a.safetensors").unwrap();
        assert!(index.check(&path, &a, ["z", "x"].into_iter()).is_ok());
        for wrong in [&["x"][..], &["x", "z", "y"], &[]] {
            assert!(index.check(&path, &a, wrong.iter().copied()).is_err(), "{wrong:?}");
        }
        for bad in [
            r#"{"x":"../a.safetensors"}"#,
            r#"{"x":"/a.safetensors"}"#,
            r#"{"x":"sub/a.safetensors"}"#,
            r#"{"x":"c.bin"}"#,
            r#"{"x":"d.safetensors"}"#,
            r#"{"x":1}"#,
            r#"{"x":"a.safetensors","x":"b.safetensors"}"#,
            "{}",
            "[]",
        ] {
            assert!(matches!(parse(bad), Err(ManifestError::Index { .. })), "{bad}");
        }
    }
}
