//! What can stand in a payload, and what a policy may ask of it.

use std::collections::BTreeSet;

use sentry_bundle::uris::TENSORS_V1;
use sentry_bundle::{BundleError, DatasetStatement, Statement, TensorsStatement, predicate_type};
use sentry_hash::{Algorithm, Digest};
use sentry_manifest::{ANNOTATION_ALGORITHM, Manifest, Resource, Serialization};

use crate::sealed::Sealed;

/// What a signature can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StatementKind {
    /// The files of a model or dataset (OpenSSF Model Signing v1.0).
    Files,
    /// Tensors in memory.
    Tensors,
    /// Samples of a dataset.
    Dataset,
}

impl StatementKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Files, Self::Tensors, Self::Dataset];

    /// Its name in policies and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Tensors => "tensors",
            Self::Dataset => "dataset",
        }
    }
}

/// What a policy may ask of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is about.
    pub kind: StatementKind,
    /// The subject's digest.
    pub root: Digest,
    /// The version that the signer stated.
    pub version: Option<u64>,
    /// The algorithms of its digests, those of annotations included: any of them can be what a loader checks.
    pub hashes: Vec<Algorithm>,
    /// The names of a dataset's sources; empty for models.
    pub sources: BTreeSet<String>,
}

/// What can stand in a payload. Only this crate says what does.
pub trait SignedStatement: Sealed + Sized {
    /// Parses a payload whose signature holds.
    ///
    /// # Errors
    /// Any [`BundleError`] about the statement.
    fn parse(payload: &[u8]) -> Result<Self, BundleError>;

    /// What a policy may ask of it.
    fn facts(&self) -> Facts;

    /// What this statement and another one, of another signer, both say; nothing if they contradict each other.
    fn both(self, other: &Self) -> Option<Self>;
}

impl Sealed for Statement {}

impl SignedStatement for Statement {
    fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        Self::parse(payload)
    }

    fn facts(&self) -> Facts {
        let mut hashes = vec![self.manifest.serialization().hash];
        if self.manifest.resources().iter().any(|resource| resource.annotation.is_some()) && !hashes.contains(&ANNOTATION_ALGORITHM) {
            hashes.push(ANNOTATION_ALGORITHM);
        }
        Facts { kind: StatementKind::Files, root: self.manifest.root(), version: self.version, hashes, sources: BTreeSet::new() }
    }

    /// The same files with the same digests; hidden is only what both leave out, annotated only what both annotate, and the
    /// version is one that both state.
    fn both(self, other: &Self) -> Option<Self> {
        let (ours, theirs) = (self.manifest.serialization(), other.manifest.serialization());
        if (ours.method, ours.hash, ours.allow_symlinks) != (theirs.method, theirs.hash, theirs.allow_symlinks) {
            return None;
        }
        let ignore_paths = ours.ignore_paths.iter().filter(|path| theirs.ignore_paths.contains(path)).cloned().collect();
        let serialization = Serialization { ignore_paths, ..ours.clone() };
        let (ours, theirs) = (self.manifest.resources(), by_name(&other.manifest));
        if ours.len() != theirs.len() {
            return None;
        }
        let mut resources = Vec::with_capacity(ours.len());
        for resource in ours {
            let place = theirs.binary_search_by(|theirs| key(theirs).cmp(&key(resource))).ok()?;
            resources.push(same(resource, theirs[place])?);
        }
        let version = same_version(self.version, other.version)?;
        Some(Self { manifest: Manifest::new(serialization, resources).ok()?, version, ..self })
    }
}

/// The version that both state; nothing if they state two.
fn same_version(ours: Option<u64>, theirs: Option<u64>) -> Option<Option<u64>> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => None,
        (ours, theirs) => Some(ours.and(theirs)),
    }
}

fn key(resource: &Resource) -> (&str, Option<u64>) {
    (resource.path.as_str(), resource.shard.map(|shard| shard.start))
}

fn by_name(manifest: &Manifest) -> Vec<&Resource> {
    let mut resources: Vec<&Resource> = manifest.resources().iter().collect();
    resources.sort_unstable_by_key(|resource| key(resource));
    resources
}

/// What two signers say of one file.
fn same(ours: &Resource, theirs: &Resource) -> Option<Resource> {
    if (&ours.path, ours.shard, ours.digest) != (&theirs.path, theirs.shard, theirs.digest) {
        return None;
    }
    let annotation = match (&ours.annotation, &theirs.annotation) {
        (Some(ours), Some(theirs)) if ours != theirs => return None,
        (Some(ours), Some(_)) => Some(ours.clone()),
        // One of the two did not sign these digests, so they would be one signer's word alone.
        _ => None,
    };
    Some(Resource { annotation, ..ours.clone() })
}

impl Sealed for TensorsStatement {}

impl SignedStatement for TensorsStatement {
    fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        Self::parse(payload)
    }

    fn facts(&self) -> Facts {
        let hashes = vec![self.manifest().algorithm()];
        Facts { kind: StatementKind::Tensors, root: self.digest(), version: self.version, hashes, sources: BTreeSet::new() }
    }

    fn both(self, other: &Self) -> Option<Self> {
        let version = same_version(self.version, other.version)?;
        (self.manifest() == other.manifest()).then(|| self.with_version(version))
    }
}

impl Sealed for DatasetStatement {}

impl SignedStatement for DatasetStatement {
    fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        Self::parse(payload)
    }

    fn facts(&self) -> Facts {
        Facts {
            kind: StatementKind::Dataset,
            root: self.manifest.digest(),
            version: self.manifest.version(),
            hashes: vec![Algorithm::Blake3],
            sources: self.manifest.sources().iter().map(|source| source.name.clone()).collect(),
        }
    }

    fn both(self, other: &Self) -> Option<Self> {
        (self.manifest == other.manifest).then_some(self)
    }
}

/// A statement about a model, of either kind: both can be held against tensors in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelStatement {
    /// About its files, with digests of tensors in their annotations.
    Files(Statement),
    /// About its tensors.
    Tensors(TensorsStatement),
}

impl Sealed for ModelStatement {}

impl SignedStatement for ModelStatement {
    fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        match predicate_type(payload)?.as_str() {
            TENSORS_V1 => TensorsStatement::parse(payload).map(Self::Tensors),
            _ => Statement::parse(payload).map(Self::Files),
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Files(statement) => statement.facts(),
            Self::Tensors(statement) => statement.facts(),
        }
    }

    fn both(self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Files(ours), Self::Files(theirs)) => ours.both(theirs).map(Self::Files),
            (Self::Tensors(ours), Self::Tensors(theirs)) => ours.both(theirs).map(Self::Tensors),
            _ => None,
        }
    }
}

impl ModelStatement {
    /// The subject's name.
    pub fn subject(&self) -> &str {
        match self {
            Self::Files(statement) => &statement.subject,
            Self::Tensors(statement) => &statement.subject,
        }
    }

    /// The model's version, if the signer stated one.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Files(statement) => statement.version,
            Self::Tensors(statement) => statement.version,
        }
    }

    /// The algorithm of the digests of its tensors.
    pub fn tensor_algorithm(&self) -> Algorithm {
        match self {
            Self::Files(_) => ANNOTATION_ALGORITHM,
            Self::Tensors(statement) => statement.manifest().algorithm(),
        }
    }
}
