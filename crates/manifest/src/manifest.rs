//! The list of what a statement covers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use sentry_hash::{Algorithm, Digest, Hasher};
use unicode_normalization::UnicodeNormalization;

use crate::limits::MAX_RESOURCES;
use crate::{Annotation, EntryKind, IgnoreRules, ManifestError, ModelPath, SafetensorsAnnotation, printable};

/// How files were listed and hashed (`serialization` of OpenSSF Model Signing v1.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serialization {
    /// Whole files, or shards of them.
    pub method: Method,
    /// The algorithm of every resource's digest.
    pub hash: Algorithm,
    /// Whether symbolic links were followed.
    pub allow_symlinks: bool,
    /// Paths left out, relative to the model, as recorded.
    pub ignore_paths: Vec<String>,
}

impl Default for Serialization {
    /// Whole files under SHA-256, no links, nothing ignored.
    fn default() -> Self {
        Self { method: Method::Files, hash: Algorithm::Sha256, allow_symlinks: false, ignore_paths: Vec::new() }
    }
}

/// What one resource stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A file.
    Files,
    /// A run of at most `size` bytes of a file, `size` at least 1.
    Shards {
        /// Bytes of every shard but a file's last.
        size: u64,
        /// Whether the statement labels digests in the way of model-signing 1.x (`sha256-sharded-N`), which
        /// also leaves out empty files.
        reference_labels: bool,
    },
}

/// The file that a resource is, or is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourcePath {
    /// The model itself, which is one file; written `.` by model-signing.
    Model,
    /// A file inside the model, or the model's one file under its own name.
    File(ModelPath),
}

impl ResourcePath {
    /// Reads the name of a file as a manifest has it.
    ///
    /// # Errors
    /// [`ManifestError::UnsafePath`].
    pub fn new(name: &str) -> Result<Self, ManifestError> {
        if name == "." { Ok(Self::Model) } else { ModelPath::new(name).map(Self::File) }
    }

    /// The path of the file for messages, `model` if it is the model itself.
    pub fn in_model(&self) -> ModelPath {
        match self {
            Self::Model => ModelPath::new("model").expect("a plain name"),
            Self::File(path) => path.clone(),
        }
    }

    /// The name as written in a manifest.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Model => ".",
            Self::File(path) => path.as_str(),
        }
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.as_str()))
    }
}

/// A run of bytes of a file: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// First byte.
    pub start: u64,
    /// One past the last byte; more than `start`.
    pub end: u64,
}

/// A file or shard with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Which file.
    pub path: ResourcePath,
    /// Which part of it; `None` for all.
    pub shard: Option<Shard>,
    /// The digest of those bytes.
    pub digest: Digest,
    /// Our further digests, if any.
    pub annotation: Option<Annotation>,
}

impl Resource {
    /// The name as a statement has it: `path`, or `path:start:end`.
    pub fn name(&self) -> String {
        match self.shard {
            None => self.path.as_str().to_owned(),
            Some(Shard { start, end }) => format!("{}:{start}:{end}", self.path.as_str()),
        }
    }
}

/// Splits a shard's name at its last two colons, for a path can hold colons.
///
/// # Errors
/// [`ManifestError::ShardName`], and [`ManifestError::UnsafePath`] for the path.
pub fn parse_shard_name(name: &str) -> Result<(ResourcePath, Shard), ManifestError> {
    let bad = || ManifestError::ShardName { name: printable(name) };
    let mut parts = name.rsplitn(3, ':');
    let (Some(end), Some(start), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    let (start, end) = (decimal(start).ok_or_else(bad)?, decimal(end).ok_or_else(bad)?);
    if start >= end {
        return Err(bad());
    }
    Ok((ResourcePath::new(path)?, Shard { start, end }))
}

/// A number in its one decimal form: no sign, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// A checked list of resources with the way they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    serialization: Serialization,
    resources: Vec<Resource>,
}

impl Manifest {
    /// Checks a list of resources, in the order in which a statement has them.
    ///
    /// # Errors
    /// [`ManifestError::EmptyManifest`], [`ManifestError::TooManyResources`], [`ManifestError::DuplicateResource`],
    /// [`ManifestError::AmbiguousNames`], [`ManifestError::AlgorithmMismatch`], [`ManifestError::ResourceIgnored`],
    /// [`ManifestError::ShardLayout`], [`ManifestError::ShardSize`] or [`ManifestError::AnnotationInvalid`].
    pub fn new(serialization: Serialization, resources: Vec<Resource>) -> Result<Self, ManifestError> {
        if resources.is_empty() {
            return Err(ManifestError::EmptyManifest);
        }
        if resources.len() > MAX_RESOURCES {
            return Err(ManifestError::TooManyResources);
        }
        check_each(&serialization, &resources)?;
        check_names(&resources)?;
        if let Method::Shards { size, .. } = serialization.method {
            check_shards(size, &resources)?;
        }
        Ok(Self { serialization, resources })
    }

    /// How the list was made.
    pub fn serialization(&self) -> &Serialization {
        &self.serialization
    }

    /// The resources, in the order of the statement.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The paths of all files, each once, in order.
    pub fn paths(&self) -> std::collections::BTreeSet<&ResourcePath> {
        self.resources.iter().map(|resource| &resource.path).collect()
    }

    /// The signed digests of the tensors of a safetensors file, if there are any.
    pub fn safetensors(&self, path: &ResourcePath) -> Option<&SafetensorsAnnotation> {
        match self.resources.iter().find(|resource| resource.path == *path)?.annotation.as_ref()? {
            Annotation::Safetensors(signed) => Some(signed),
            Annotation::Blake3(_) => None,
        }
    }

    /// How many tensors have digests of their own.
    pub fn tensors(&self) -> usize {
        let tensors = |resource: &Resource| match &resource.annotation {
            Some(Annotation::Safetensors(annotation)) => annotation.tensors.len(),
            _ => 0,
        };
        self.resources.iter().map(tensors).sum()
    }

    /// SHA-256 over the raw digests in the order of the resources, whatever their algorithm: the subject of
    /// the statement.
    pub fn root(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for resource in &self.resources {
            hasher.update(resource.digest.as_bytes());
        }
        hasher.finish()
    }
}

fn check_each(serialization: &Serialization, resources: &[Resource]) -> Result<(), ManifestError> {
    let mut ignored = IgnoreRules::default();
    serialization.ignore_paths.iter().for_each(|path| ignored.add(path));
    let sharded = matches!(serialization.method, Method::Shards { .. });
    for resource in resources {
        let found = resource.digest.algorithm();
        if found != serialization.hash {
            return Err(ManifestError::AlgorithmMismatch {
                name: printable(&resource.name()),
                expected: serialization.hash.to_string(),
                found: found.to_string(),
            });
        }
        if resource.shard.is_some() != sharded {
            return Err(ManifestError::ShardName { name: printable(&resource.name()) });
        }
        if sharded && resource.annotation.is_some() {
            let reason = "shards have no annotations of ours".to_owned();
            return Err(ManifestError::AnnotationInvalid { name: printable(&resource.name()), reason });
        }
        if let ResourcePath::File(path) = &resource.path
            && let Some(rule) = ignored.hides(path, EntryKind::File)
        {
            return Err(ManifestError::ResourceIgnored { name: path.to_string(), ignored: printable(rule) });
        }
    }
    Ok(())
}

fn check_names(resources: &[Resource]) -> Result<(), ManifestError> {
    let mut seen = HashSet::new();
    for resource in resources {
        if !seen.insert((&resource.path, resource.shard)) {
            return Err(ManifestError::DuplicateResource { name: printable(&resource.name()) });
        }
    }
    let paths: HashSet<_> = resources.iter().map(|resource| &resource.path).collect();
    // The model is one file if one resource says so; then it can hold no other.
    if paths.contains(&ResourcePath::Model) && paths.len() > 1 {
        return Err(ManifestError::UnsafePath { name: ".".to_owned(), reason: "it stands for the whole model beside other files" });
    }
    check_unicode_twins(paths.into_iter().filter_map(|path| match path {
        ResourcePath::File(path) => Some(path),
        ResourcePath::Model => None,
    }))
}

/// Refuses two names that some file systems, and all readers, take for one.
pub(crate) fn check_unicode_twins<'a>(paths: impl Iterator<Item = &'a ModelPath>) -> Result<(), ManifestError> {
    let mut normalised: HashMap<String, &ModelPath> = HashMap::new();
    for path in paths {
        if let Some(twin) = normalised.insert(path.as_str().nfc().collect(), path) {
            let (first, second) = if twin < path { (twin, path) } else { (path, twin) };
            return Err(ManifestError::AmbiguousNames { first: first.clone(), second: second.clone() });
        }
    }
    Ok(())
}

/// Checks that the shards of every file start at 0, abut, and have the stated size but for the last.
fn check_shards(size: u64, resources: &[Resource]) -> Result<(), ManifestError> {
    if size == 0 {
        return Err(ManifestError::ShardSize { found: "0".to_owned(), reason: "it must be at least 1" });
    }
    let mut by_path: BTreeMap<&ResourcePath, Vec<Shard>> = BTreeMap::new();
    for resource in resources {
        by_path.entry(&resource.path).or_default().extend(resource.shard);
    }
    for (path, shards) in &mut by_path {
        shards.sort_unstable();
        let mut expected_start = 0;
        for (position, shard) in shards.iter().enumerate() {
            let length = shard.end - shard.start;
            let is_last = position + 1 == shards.len();
            if shard.start != expected_start || length > size || (length < size && !is_last) {
                let found = format!("{}:{}", shard.start, shard.end);
                return Err(ManifestError::ShardLayout { path: path.to_string(), expected_start, found });
            }
            expected_start = shard.end;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_normalise_to_one_are_refused() {
        let paths = |names: &[&str]| names.iter().map(|name| ModelPath::new(name).unwrap()).collect::<Vec<_>>();
        // The Kelvin sign is normalised to the letter K.
        for twins in [["caf\u{e9}", "cafe\u{301}"], ["K.txt", "\u{212a}.txt"]] {
            assert!(matches!(check_unicode_twins(paths(&twins).iter()), Err(ManifestError::AmbiguousNames { .. })), "{twins:?}");
        }
        assert!(check_unicode_twins(paths(&["K", "k", "caf\u{e9}", "cafe"]).iter()).is_ok());
    }

    #[test]
    fn shard_names_end_in_two_numbers() {
        let (path, shard) = parse_shard_name("aa:b:c:0:10").unwrap();
        assert_eq!((path.as_str(), shard), ("aa:b:c", Shard { start: 0, end: 10 }));
        assert_eq!(parse_shard_name(".:5:6").unwrap().0, ResourcePath::Model);
        for bad in ["a", "a:1", ":0:1", "a:1:1", "a:2:1", "a:+1:2", "a:01:2", "a: 1:2", "a:1:", "a:0:99999999999999999999", "a:0x1:2"] {
            assert!(parse_shard_name(bad).is_err(), "{bad}");
        }
    }
}
