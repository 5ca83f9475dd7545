//! Who may sign, and what is true once they have.
//!
//! This crate is the only one that makes a [`Verified`]: code that holds a `Verified<Model>` has a signature that
//! was checked against a key its caller trusts *and* bytes that were checked against that signature.
//!
//! ```text
//! UnverifiedBundle ─verify(key)─► Verified<Statement>       ─confirm(listing, measured)─► Verified<Model>
//!                                                           ─confirm_load(loaded)───────► Verified<Vec<R>>: the bytes
//!                               ► Verified<ModelStatement>  ─confirm_tensors(measured)──► Verified<ModelInMemory>
//!                               ► Verified<DatasetStatement> ─confirm_dataset(measured)─► Verified<Dataset>
//!                                                           ─sample_checker(tables)────► SampleChecker, Epoch ─finish─► Verified<FinishedEpoch>
//! ```
//!
//! There is no other path, no flag that skips a step, and no boolean to forget: each arrow consumes its
//! left side and either returns its right side or an error.
//!
//! Signing is here as well ([`Signer`]), on the CPU with aws-lc's constant-time code; every signature is
//! verified before it is handed out.

#![forbid(unsafe_code)]

mod certificate;
mod compare;
mod dataset;
mod epoch;
mod error;
mod key;
mod loaded;
mod memory;
mod policy;
mod samples;
mod sealed;
mod signer;
mod statement;
mod timestamp;
mod verified;
mod verifier;

pub use certificate::{
    CertificateError, CertificateSigner, Dangerous, ExpectedName, Roots, SubjectName, SubjectNameError, TrustedCertificates,
};
pub use compare::{Difference, DifferenceKind, Listing, Pairing, differences, pair_names};
pub use dataset::{Dataset, MAX_LISTED, check_table, check_table_parts, dataset_differences, field_differences};
pub use epoch::{Epoch, FinishedEpoch};
pub use error::{KeyError, SignError, SignatureError, VerifyError};
pub use key::{KeyAlgorithm, PrivateKey, PublicKey};
pub use memory::ModelInMemory;
pub use policy::{
    ArtifactName, ArtifactNameError, Decision, MAX_POLICY_BYTES, Pattern, Policy, PolicyError, PolicySigner, Rule, Violation,
};
pub use samples::{Checked, SampleChecker, TableFile};
pub use signer::{Signable, Signer, sign};
pub use statement::{Facts, ModelStatement, SignedStatement, StatementKind};
pub use timestamp::{TimestampAuthorities, TimestampError, Timestamper};
pub use verified::{Identity, Model, UnverifiedBundle, Verified, VerifiedSignature, verify_together};
pub use verifier::{DecidedBy, TrustedKey, Verifier};
