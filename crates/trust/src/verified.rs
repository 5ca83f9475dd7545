//! The only place that makes a [`Verified`].
//!
//! Verification, step by step; the code is labelled with the same numbers:
//!
//! 1. The bundle is strict JSON of a known form (`sentry-bundle`).
//! 2. Its method is the one that the caller's trust is about.
//! 3. What it says of its key does not contradict the trusted key.
//! 4. The signature is strictly encoded and holds over the exact payload bytes.
//! 5. Those same bytes are a statement about the files of a model, consistent in itself.
//! 6. The model's files are those listed, no more and no fewer.
//! 7. Every listed digest, and every annotation's, is that of the bytes that were read.
//!
//! Loading and models in memory go the same way; steps 6 and 7 are then those of `loaded.rs` and `memory.rs`, about the
//! files or tensors that were asked for.

use std::fmt;

use sentry_bundle::uris::TENSORS_V1;
use sentry_bundle::{Bundle, BundleError, Material, PublicKeyMaterial, Statement, TensorsStatement, pae, predicate_type};
use sentry_hash::{Algorithm, Digest};
use sentry_manifest::{Measured, printable};

use crate::compare::{Listing, differences, pair_names};
use crate::sealed::Sealed;
use crate::{KeyAlgorithm, PublicKey, SignatureError, VerifyError};

/// Something whose signature was checked, with who signed it. Only this module can make one.
#[derive(Debug)]
pub struct Verified<T> {
    value: T,
    identity: Identity,
    payload_sha256: Digest,
}

impl<T> Verified<T> {
    /// What was verified.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Who signed it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// SHA-256 of the signed payload: pins exactly this signature's content.
    pub fn payload_sha256(&self) -> Digest {
        self.payload_sha256
    }

    /// What was verified, to keep.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Something else that the same signature covers, which the caller has just checked.
    pub(crate) fn also<U>(&self, value: U) -> Verified<U> {
        Verified { value, identity: self.identity.clone(), payload_sha256: self.payload_sha256 }
    }
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The holder of a key that the caller trusts.
    #[non_exhaustive]
    Key {
        /// How the key signs.
        algorithm: KeyAlgorithm,
        /// Lower-case hex SHA-256 of the key's SPKI PEM text.
        fingerprint: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { algorithm, fingerprint } => write!(f, "key {fingerprint} ({algorithm})"),
        }
    }
}

/// Decides whether a bundle was signed by someone its caller trusts. Only this crate has verifiers: one that says yes
/// to everything would make a [`Verified`] of anything.
pub trait Verifier: Sealed {
    /// Checks steps 2 to 4.
    ///
    /// # Errors
    /// [`VerifyError::Method`] or [`VerifyError::Signature`].
    fn verify(&self, bundle: &Bundle) -> Result<Identity, VerifyError>;
}

/// Trust in one public key.
#[derive(Debug, Clone, Copy)]
pub struct TrustedKey<'a> {
    key: &'a PublicKey,
}

impl<'a> TrustedKey<'a> {
    /// Trusts whoever holds the private half of `key`.
    pub fn new(key: &'a PublicKey) -> Self {
        Self { key }
    }

    /// Step 3. Only older bundles carry a key or the name of its algorithm.
    fn check_labels(&self, material: &PublicKeyMaterial) -> Result<(), SignatureError> {
        let mismatch = |found: &str| SignatureError::LabelMismatch {
            expected: format!("{} {}", self.key.algorithm().sigstore_name(), self.key.fingerprint()),
            found: printable(found),
        };
        if let Some(details) = &material.key_details
            && details != self.key.algorithm().sigstore_name()
        {
            return Err(mismatch(details));
        }
        if let Some(raw) = &material.raw_bytes {
            let carried = PublicKey::from_pem(raw).map_err(|error| mismatch(&error.to_string()))?;
            if carried.to_pem() != self.key.to_pem() {
                return Err(mismatch(&carried.fingerprint()));
            }
        }
        Ok(())
    }
}

impl TrustedKey<'_> {
    /// Says of a signature that does not hold why that may be: an old format, or another key. Nothing that it looks at
    /// has been checked.
    fn explain(&self, error: SignatureError, bundle: &Bundle, material: &PublicKeyMaterial) -> VerifyError {
        if matches!(error, SignatureError::Invalid { .. }) && Statement::is_legacy(&bundle.payload) {
            return BundleError::LegacyV02.into();
        }
        let trusted = self.key.fingerprint();
        match material.hint.as_ref().filter(|hint| **hint != trusted) {
            Some(hint) => SignatureError::Invalid { trusted, hinted: Some(printable(hint)) }.into(),
            None => error.into(),
        }
    }
}

impl Sealed for TrustedKey<'_> {}

impl Verifier for TrustedKey<'_> {
    fn verify(&self, bundle: &Bundle) -> Result<Identity, VerifyError> {
        // 2
        let method = |method| VerifyError::Method { method, expected: "public key" };
        let material = match &bundle.material {
            Material::PublicKey(material) => material,
            Material::CertificateChain(_) => return Err(method("certificate")),
            Material::Sigstore { .. } => return Err(method("sigstore")),
        };
        // 3
        self.check_labels(material)?;
        // 4
        let fingerprint = self.key.fingerprint();
        self.key.verify(&pae(&bundle.payload), &bundle.signature).map_err(|error| self.explain(error, bundle, material))?;
        Ok(Identity::Key { algorithm: self.key.algorithm(), fingerprint })
    }
}

/// A bundle as it was read. Nothing in it is to be believed yet.
#[derive(Debug)]
pub struct UnverifiedBundle(Bundle);

impl UnverifiedBundle {
    /// Step 1.
    ///
    /// # Errors
    /// Any [`BundleError`] about the bundle.
    pub fn parse(json: &[u8]) -> Result<Self, BundleError> {
        Bundle::parse(json).map(Self)
    }

    /// What the bundle claims, for showing to people who know that nobody has checked it.
    pub fn claims(&self) -> &Bundle {
        &self.0
    }

    /// Steps 2 to 5, for a statement of the type that the caller asks for.
    ///
    /// # Errors
    /// [`VerifyError::Method`], [`VerifyError::Signature`] or [`VerifyError::Bundle`].
    pub fn verify<S: SignedStatement>(self, verifier: &dyn Verifier) -> Result<Verified<S>, VerifyError> {
        // 2 to 4
        let identity = verifier.verify(&self.0)?;
        // 5
        let value = S::parse(&self.0.payload)?;
        Ok(Verified { value, identity, payload_sha256: Algorithm::Sha256.digest(&self.0.payload) })
    }
}

/// What can stand in a payload. Only this crate says what does.
pub trait SignedStatement: Sealed + Sized {
    /// Parses a payload whose signature holds.
    ///
    /// # Errors
    /// Any [`BundleError`] about the statement.
    fn parse(payload: &[u8]) -> Result<Self, BundleError>;
}

impl Sealed for Statement {}

impl SignedStatement for Statement {
    fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        Self::parse(payload)
    }
}

impl Sealed for TensorsStatement {}

impl SignedStatement for TensorsStatement {
    fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        Self::parse(payload)
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
}

/// A model whose every byte is the signed one.
#[derive(Debug)]
pub struct Model {
    statement: Statement,
    unsigned: Vec<String>,
    bytes: u64,
}

impl Model {
    /// What was signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Files that lie in the model and are not signed, which the caller allowed. Nothing is known of them.
    pub fn unsigned(&self) -> &[String] {
        &self.unsigned
    }

    /// Bytes that were read and checked.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Verified<Statement> {
    /// Steps 6 and 7: the files that are there, and the digests that they turned out to have.
    ///
    /// # Errors
    /// [`VerifyError::Differs`] with every difference.
    pub fn confirm(self, listing: &Listing<'_>, measured: &Measured) -> Result<Verified<Model>, VerifyError> {
        // 6
        let unsigned = pair_names(&self.value.manifest, listing).map_err(VerifyError::Differs)?.unsigned;
        // 7
        let found = differences(self.value.manifest.resources(), measured.resources());
        if !found.is_empty() {
            return Err(VerifyError::Differs(found));
        }
        let value = Model { statement: self.value, unsigned, bytes: measured.bytes() };
        Ok(Verified { value, identity: self.identity, payload_sha256: self.payload_sha256 })
    }
}
