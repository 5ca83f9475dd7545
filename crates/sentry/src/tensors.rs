//! Signing and verifying tensors that are in memory already.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sentry_bundle::TensorsStatement;
use sentry_bundle::limits::MAX_JSON_INTEGER;
use sentry_hash::Digest;
use sentry_manifest::limits::MAX_NAME_BYTES;
use sentry_manifest::{MeasuredTensors, ResourcePath, Weights};
use sentry_trust::{ModelInMemory, ModelStatement, Signer, Verified, Verifier};

use crate::Error;
use crate::signature_file::{check_replaceable, read_verified, write_signature};
use crate::timestamp::sign_and_timestamp;

/// What was signed of a model in memory.
#[derive(Debug)]
pub struct SignedTensors {
    /// What the signature covers.
    pub statement: TensorsStatement,
    /// SHA-256 of the signed payload.
    pub payload_sha256: Digest,
}

/// Signs the tensors of a model in memory: those that are part of its state. `timestamp` is the URL of an authority.
///
/// # Errors
/// [`Error::List`] if there is none, or too many; [`Error::Options`], [`Error::WouldOverwrite`], [`Error::Sign`],
/// [`Error::Io`]. A signature that was there before is untouched then.
pub fn sign_tensors(
    measured: &MeasuredTensors,
    subject: &str,
    version: Option<u64>,
    signer: &dyn Signer,
    signature: &Path,
    timestamp: Option<&str>,
) -> Result<SignedTensors, Error> {
    if version.is_some_and(|version| version > MAX_JSON_INTEGER) {
        return Err(Error::Options { reason: "a version is at most 2^53 - 1" });
    }
    if subject.is_empty() || subject.len() > MAX_NAME_BYTES {
        return Err(Error::Options { reason: "a subject has from 1 to 4096 bytes" });
    }
    check_replaceable(signature)?;
    let statement = TensorsStatement::new(subject.to_owned(), version, measured.to_manifest()?);
    let bundle = sign_and_timestamp(&statement, signer, timestamp)?;
    write_signature(signature, &bundle)?;
    let payload_sha256 = sentry_hash::Algorithm::Sha256.digest(&statement.to_payload());
    Ok(SignedTensors { statement, payload_sha256 })
}

/// A signature that holds, to check a model in memory with.
#[derive(Debug)]
pub struct TensorsVerifier {
    statement: Verified<ModelStatement>,
    files: Vec<ResourcePath>,
}

impl TensorsVerifier {
    /// Checks signatures, one unless a policy asks for several, which are about tensors or about files with digests of their
    /// tensors. Of the latter the model in memory must have those of `weights`, or of the files that [`Weights::of`] finds.
    ///
    /// # Errors
    /// Any [`Error`] about the signature.
    pub fn open(signatures: &[PathBuf], weights: Option<&[String]>, verifier: &dyn Verifier) -> Result<Self, Error> {
        let statement: Verified<ModelStatement> = read_verified(signatures, verifier)?;
        let files = match statement.value() {
            ModelStatement::Tensors(_) if weights.is_some() => {
                return Err(Error::Options { reason: "this signature is about tensors: it has no files that could hold the weights" });
            }
            ModelStatement::Tensors(_) => Vec::new(),
            ModelStatement::Files(files) => match weights {
                Some(names) => Weights::named(&files.manifest, names)?.files_by_name(&files.manifest)?,
                None => Weights::of(&files.manifest)?.files_by_name(&files.manifest)?,
            },
        };
        Ok(Self { statement, files })
    }

    /// What was signed, and who signed it.
    pub fn statement(&self) -> &Verified<ModelStatement> {
        &self.statement
    }

    /// Where the digests of the model's tensors are to be collected.
    pub fn measured(&self) -> MeasuredTensors {
        MeasuredTensors::new(self.statement.value().tensor_algorithm())
    }

    /// Compares a model in memory with what was signed; it may lack the signed tensors `allow_missing`.
    ///
    /// # Errors
    /// [`Error::Verify`] with every difference.
    pub fn confirm(&self, measured: &MeasuredTensors, allow_missing: &BTreeSet<String>) -> Result<Verified<ModelInMemory>, Error> {
        Ok(self.statement.confirm_tensors(measured, &self.files, allow_missing)?)
    }
}
