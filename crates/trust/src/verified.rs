//! The only place that makes a [`Verified`].
//!
//! Verification, step by step; the code is labelled with the same numbers:
//!
//! 1. The bundle is strict JSON of a known form (`sentry-bundle`).
//! 2. Its method is the one that the caller's trust is about.
//! 3. What it says of its key does not contradict the trusted key.
//! 4. The signature is strictly encoded and holds over the exact payload bytes.
//! 5. Those same bytes are a statement of the kind asked for, consistent in itself, (b) one that a policy lets pass, if a
//!    policy decides, and (c) one that says the same as those of the other signers, if there are several.
//! 6. The model's files are those listed, no more and no fewer.
//! 7. Every listed digest, and every annotation's, is that of the bytes that were read.
//!
//! Loading and models in memory go the same way; steps 6 and 7 are then those of `loaded.rs` and `memory.rs`, about the
//! files or tensors that were asked for.

use std::fmt;

use jiff::Timestamp;
use sentry_bundle::{Bundle, BundleError, Statement};
use sentry_hash::{Algorithm, Digest};
use sentry_manifest::Measured;

use crate::certificate::SubjectName;
use crate::compare::{Listing, differences, pair_names};
use crate::verifier::DecidedBy;
use crate::{KeyAlgorithm, SignedStatement, Verifier, VerifyError};

/// Something whose signature was checked, with who signed it. Only this module can make one.
#[derive(Debug)]
pub struct Verified<T> {
    value: T,
    evidence: Evidence,
}

/// Why something counts as verified.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Evidence {
    /// At least one.
    signatures: Vec<VerifiedSignature>,
    decided_by: Option<DecidedBy>,
}

/// A signature that holds, of someone whom the caller trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSignature {
    identity: Identity,
    payload_sha256: Digest,
    timestamp: Option<Timestamp>,
}

impl VerifiedSignature {
    pub(crate) fn new(identity: Identity, payload: &[u8], timestamp: Option<Timestamp>) -> Self {
        Self { identity, payload_sha256: Algorithm::Sha256.digest(payload), timestamp }
    }

    /// Who signed it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// SHA-256 of the signed payload: pins exactly this signature's content.
    pub fn payload_sha256(&self) -> Digest {
        self.payload_sha256
    }

    /// When it existed at the latest, by the word of a timestamp authority that the caller trusts.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }
}

impl<T> Verified<T> {
    /// What was verified.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// All signatures that were asked for, at least one.
    pub fn signatures(&self) -> &[VerifiedSignature] {
        &self.evidence.signatures
    }

    /// Who made the first signature.
    pub fn identity(&self) -> &Identity {
        self.evidence.signatures[0].identity()
    }

    /// SHA-256 of the first signature's payload.
    pub fn payload_sha256(&self) -> Digest {
        self.evidence.signatures[0].payload_sha256()
    }

    /// The rule of the policy that decided, if one did.
    pub fn decided_by(&self) -> Option<&DecidedBy> {
        self.evidence.decided_by.as_ref()
    }

    /// What was verified, to keep.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Something else that the same signatures cover, which the caller has just checked.
    pub(crate) fn also<U>(&self, value: U) -> Verified<U> {
        Verified { value, evidence: self.evidence.clone() }
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
    /// The holder of a certificate under a root that the caller trusts.
    #[non_exhaustive]
    Certificate {
        /// How its key signs.
        algorithm: KeyAlgorithm,
        /// Lower-case hex SHA-256 of the certificate.
        fingerprint: String,
        /// Lower-case hex SHA-256 of its key's SPKI PEM text.
        key_fingerprint: String,
        /// The name that the caller trusts; none if any will do.
        trusted: Option<SubjectName>,
        /// All names of the certificate.
        names: Vec<SubjectName>,
        /// Its subject, escaped for printing. It counts for nothing.
        subject: String,
        /// Who issued it, escaped for printing.
        issuer: String,
    },
}

impl Identity {
    /// How the key signs.
    pub fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Key { algorithm, .. } | Self::Certificate { algorithm, .. } => *algorithm,
        }
    }

    /// How the signer is known: `key` or `certificate`.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Certificate { .. } => "certificate",
        }
    }

    /// Lower-case hex SHA-256 of the key's PEM text, or of the certificate.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Key { fingerprint, .. } | Self::Certificate { fingerprint, .. } => fingerprint,
        }
    }

    /// Whether two signatures are one signer's: the same key, or certificates with a name in common.
    pub(crate) fn is_same_signer(&self, other: &Self) -> bool {
        let key = |identity: &Self| match identity {
            Self::Key { fingerprint, .. } => fingerprint.clone(),
            Self::Certificate { key_fingerprint, .. } => key_fingerprint.clone(),
        };
        let names = |identity: &Self| match identity {
            Self::Key { .. } => Vec::new(),
            Self::Certificate { names, .. } => names.clone(),
        };
        key(self) == key(other) || names(self).iter().any(|name| names(other).contains(name))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { algorithm, fingerprint } => write!(f, "key {fingerprint} ({algorithm})"),
            Self::Certificate { algorithm, trusted, names, subject, issuer, .. } => {
                let names = trusted.as_ref().map_or(&names[..], std::slice::from_ref);
                let names = names.iter().map(SubjectName::to_string).collect::<Vec<_>>().join(", ");
                let holder = if names.is_empty() { format!("\"{subject}\"") } else { names };
                write!(f, "{holder} (certificate of \"{issuer}\", {algorithm})")
            }
        }
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
    /// As [`verify_together`].
    pub fn verify<S: SignedStatement>(self, verifier: &dyn Verifier) -> Result<Verified<S>, VerifyError> {
        verify_together(vec![self], verifier)
    }
}

/// Steps 2 to 5 for bundles of several signers about one thing.
///
/// # Errors
/// [`VerifyError::Method`], [`VerifyError::Signature`], [`VerifyError::Certificate`] and [`VerifyError::Timestamp`] of a signer;
/// [`VerifyError::Bundle`] of a statement; [`VerifyError::Policy`] of what a policy asks for besides; [`VerifyError::Disagree`].
pub fn verify_together<S: SignedStatement>(bundles: Vec<UnverifiedBundle>, verifier: &dyn Verifier) -> Result<Verified<S>, VerifyError> {
    let bundles: Vec<Bundle> = bundles.into_iter().map(|UnverifiedBundle(bundle)| bundle).collect();
    // 2 to 4
    let signatures = verifier.verify(&bundles)?;
    if signatures.len() != bundles.len() {
        return Err(VerifyError::SignatureNumber { found: bundles.len() });
    }
    let mut agreed: Option<S> = None;
    let signatures_given = bundles.len();
    for (number, (bundle, signature)) in (1..).zip(bundles.iter().zip(&signatures)) {
        let of_this = |error| VerifyError::of_signature(signatures_given, number, error);
        // 5
        let statement = S::parse(&bundle.payload).map_err(|error| of_this(error.into()))?;
        // b
        verifier.accept(&statement.facts(), signature).map_err(of_this)?;
        // c
        agreed = Some(match agreed {
            None => statement,
            Some(earlier) => earlier.both(&statement).ok_or(VerifyError::Disagree)?,
        });
    }
    let value = agreed.ok_or(VerifyError::SignatureNumber { found: 0 })?;
    Ok(Verified { value, evidence: Evidence { signatures, decided_by: verifier.decided_by() } })
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
        Ok(Verified { value, evidence: self.evidence })
    }
}
