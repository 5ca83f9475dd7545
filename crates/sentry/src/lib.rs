//! Sign machine-learning models, and verify them.
//!
//! ```
//! use sentry::{KeyAlgorithm, PrivateKey, SignOptions, TrustedKey, VerifyOptions};
//!
//! # let dir = tempfile::tempdir()?;
//! # let model = dir.path().join("my-model");
//! # std::fs::create_dir(&model)?;
//! # std::fs::write(model.join("config.json"), "{}")?;
//! // The publisher, once:
//! let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256)?;
//! sentry::sign_model(&model, &key, &SignOptions::default(), &())?;
//!
//! // Everyone who uses the model:
//! let trust = TrustedKey::new(key.public());
//! let verified = sentry::verify_model(&model, &trust, &VerifyOptions::default(), &())?;
//! println!("{} files, signed by {}", verified.value().statement().manifest.paths().len(), verified.identity());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate ties the others together and adds what touches the file system and the network: where a signature lies, how
//! it is read and written, keys and policies in files, timestamps. It never looks at the command line or the working directory, and never exits.

#![forbid(unsafe_code)]

mod dataset;
mod diff;
mod doctor;
mod error;
mod hash;
mod input;
mod load;
mod options;
mod places;
mod samples;
mod sign;
mod signature_file;
mod tensors;
mod timestamp;
mod verify;

pub use dataset::{
    Changes, DatasetSignOptions, DatasetVerifyOptions, SignedDataset, VerifiedDataset, default_dataset_signature_path, diff_dataset,
    open_samples, read_contributor, sign_dataset, sign_samples, update_dataset, verify_dataset,
};
pub use diff::{Comparison, diff};
pub use doctor::{Diagnosis, diagnose};
pub use error::{Error, Verdict};
pub use hash::hash_model;
pub use input::{
    default_artifact_name, read_certificate_signer, read_policy, read_public_key, read_roots, read_small_file, read_timestamp_authorities,
};
pub use load::{ModelReader, OpenFile};
pub use options::{Observer, SignOptions, VerifyOptions};
pub use places::{Device, Place, UnknownDevice, digest_in_place};
pub use samples::{Looked, Receipt, SampleCollector, look, look_at_samples, look_at_stream};
pub use sign::{Signed, sign_model};
pub use signature_file::{default_signature_path, read_bundle, signature_paths};
pub use tensors::{SignedTensors, TensorsVerifier, sign_tensors};
pub use timestamp::HttpTimestamper;
pub use verify::verify_model;

pub use sentry_bundle::{Bundle, DatasetStatement, Material, Statement, TensorsStatement, uris};
pub use sentry_cuda::{DeviceBytes, DeviceMemory, DeviceRoom, Gpu, GpuError, Share, Stream};
pub use sentry_dataset::{Columns, DatasetError, FieldType, FieldValues, Row, Samples, files::ReadOptions};
pub use sentry_hash::lattice::{SampleDigest, path_id};
pub use sentry_hash::{Algorithm, Backend, Cpu, Digest};
pub use sentry_load::{
    CuFileError, FoundGpu, GpuFacts, HostRoom, Landing, Loader, Machine, NotDirect, Outlook, Reading, Refusal, Region, Report, Room,
    Transport,
};
pub use sentry_manifest::load::{Part, Receiver};
pub use sentry_manifest::record;
pub use sentry_manifest::safetensors::{Dtype, Header, TensorInfo};
pub use sentry_manifest::{
    Annotation, DatasetField, DatasetManifest, GIT_PATHS, IdRule, Manifest, ManifestError, MeasuredDataset, MeasuredTensors, Memory,
    Method, ModelPath, Resource, ResourcePath, Serialization, Shard, Source, TensorDigest, TensorView, printable, printable_path,
};
pub use sentry_trust::{
    ArtifactName, ArtifactNameError, CertificateError, CertificateSigner, Checked, Dataset, DecidedBy, Decision, Difference,
    DifferenceKind, Epoch, ExpectedName, FinishedEpoch, Identity, KeyAlgorithm, KeyError, Model, ModelInMemory, ModelStatement, Policy,
    PolicyError, PolicySigner, PrivateKey, PublicKey, Roots, Rule, SampleChecker, SignError, SignedStatement, Signer, StatementKind,
    SubjectName, TableFile, TimestampAuthorities, TimestampError, TrustedCertificates, TrustedKey, UnverifiedBundle, Verified,
    VerifiedSignature, Verifier, VerifyError, Violation,
};
