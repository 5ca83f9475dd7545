//! What a signature covers: the files of a model, their shards and tensors, under canonical names.
//!
//! ```
//! use sentry_hash::Cpu;
//! use sentry_manifest::{IgnoreRules, ModelTree, Serialization, ManifestOptions, measure};
//!
//! # let dir = tempfile::tempdir()?;
//! # std::fs::write(dir.path().join("config.json"), "{}")?;
//! let tree = ModelTree::open(dir.path())?;
//! let options = ManifestOptions { serialization: Serialization::default(), annotate: true };
//! let files = tree.scan(&IgnoreRules::default(), false)?;
//! let manifest = measure::for_signing(&tree, &files, &options, &Cpu::new(), &|_| ())?;
//! assert_eq!(manifest.resources()[0].name(), "config.json");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`ModelTree`] is one open handle: everything beneath is opened relative to it, so a directory that is
//! swapped while it is read changes nothing. [`ModelTree::scan`] lists what is there and refuses what
//! cannot be signed; [`measure`] turns the list into digests; a [`Manifest`] is the list with digests that a
//! statement carries. Nothing here knows about keys or signatures.

#![forbid(unsafe_code)]

mod annotation;
mod dataset;
mod error;
mod ignore;
pub mod json;
pub mod limits;
mod listed;
pub mod load;
mod manifest;
pub mod measure;
mod memory;
mod path;
pub mod record;
pub mod safetensors;
mod samples;
mod tensors;
mod tree;
mod weights;

pub use annotation::{ALGORITHM as ANNOTATION_ALGORITHM, Annotation, AnnotationsJson, SafetensorsAnnotation, TensorDigest};
pub use dataset::{DatasetField, DatasetManifest, IdRule, Source, TableDigests};
pub use error::{ManifestError, SafetensorsError};
pub use ignore::{EntryKind, GIT_PATHS, HUB_NOTES, IgnoreRules, SIGNATURE_SUFFIX, is_hub_note};
pub use listed::ListError;
pub use manifest::{Manifest, Method, Resource, ResourcePath, Serialization, Shard, parse_shard_name};
pub use measure::{ManifestOptions, Measured, MeasuredResource};
pub use memory::{MeasuredTensor, MeasuredTensors, Memory, TensorView};
pub use path::{ModelPath, printable, printable_path};
pub use samples::{MeasuredDataset, MeasuredSource, SamplesError};
pub use tensors::TensorManifest;
pub use tree::{FoundFile, ModelFile, ModelTree};
pub use weights::{INDEX_NAME, Index, WEIGHTS_NAME, Weights};
