//! Errors of keys, of signing and of verifying, kept apart because different people read them.

use std::io;

use sentry_bundle::BundleError;
use sentry_hash::HashError;
use sentry_manifest::{ManifestError, ModelPath};

use crate::{CertificateError, Difference, KeyAlgorithm, TimestampError, Violation};

/// A key that cannot be used. The verdict on an artifact is open then: the check could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is no PEM, or holds none of the known blocks, or its DER is malformed.
    #[error("this is no PEM key: {reason}")]
    Pem {
        /// What is wrong.
        reason: String,
    },
    /// A private key was given where a public one belongs, or the other way round.
    #[error("found \"{found}\", expected {expected}")]
    WrongKind {
        /// The PEM label found.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The private key is encrypted and no password was given.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The private key is encrypted in the way of old OpenSSL versions, outside of PKCS#8.
    #[error("the private key uses the outdated encryption of OpenSSL's own PEM format")]
    LegacyEncryption,
    /// The private key is encrypted in a way that is not read.
    #[error("the private key uses an encryption that is not supported: {reason}")]
    UnsupportedEncryption {
        /// What is not supported.
        reason: String,
    },
    /// The password does not open the private key.
    #[error("the password does not open the private key")]
    Password,
    /// An elliptic curve that is not allowed.
    #[error("the key is on the curve {found}, allowed are P-256, P-384 and P-521")]
    CurveNotAllowed {
        /// The curve's object identifier.
        found: String,
    },
    /// The curve is given by its parameters instead of its name, which lets an attacker choose it.
    #[error("the key spells its curve out instead of naming it")]
    ExplicitCurveParameters,
    /// An RSA key of any length, which this method does not use.
    #[error("this is an RSA key, which OpenSSF model signatures do not use")]
    Rsa,
    /// The public point is not on its curve, or generates a group so small that signatures can be guessed.
    #[error("the public key is no usable point of the curve of {algorithm}")]
    PointNotOnCurve {
        /// The key's algorithm.
        algorithm: KeyAlgorithm,
    },
    /// Any other type of key.
    #[error("keys of the type {found} are not supported")]
    Unsupported {
        /// The type's object identifier.
        found: String,
    },
    /// The system's random generator or the library failed.
    #[error("the cryptographic library failed to {action}")]
    Library {
        /// What it was asked for.
        action: &'static str,
    },
}

impl KeyError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Pem { .. } | Self::WrongKind { .. } => "key_pem",
            Self::Encrypted | Self::LegacyEncryption | Self::UnsupportedEncryption { .. } => "key_encrypted",
            Self::Password => "key_password",
            Self::CurveNotAllowed { .. } => "curve_not_allowed",
            Self::ExplicitCurveParameters => "explicit_curve_parameters",
            Self::Rsa => "rsa_key",
            Self::PointNotOnCurve { .. } => "point_not_on_curve",
            Self::Unsupported { .. } => "unsupported_key",
            Self::Library { .. } => "cryptographic_library",
        }
    }
}

/// A signature that is not the trusted key's over these bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not the one encoding that the algorithm has: strict DER for ECDSA, 64 bytes for Ed25519.
    #[error("the signature is not encoded as {algorithm} asks: {reason}")]
    Encoding {
        /// The algorithm.
        algorithm: KeyAlgorithm,
        /// What is wrong.
        reason: String,
    },
    /// A number of the signature is zero or not below the order of the curve.
    #[error("the signature's {which} is not between 1 and the order of the curve of {algorithm}")]
    Scalar {
        /// `r` or `s`.
        which: &'static str,
        /// The algorithm.
        algorithm: KeyAlgorithm,
    },
    /// The bundle labels its key with another algorithm, or carries another key.
    #[error("the signature file says \"{found}\" of its key, the trusted key is {expected}")]
    LabelMismatch {
        /// The trusted key.
        expected: String,
        /// What the bundle says, escaped for printing.
        found: String,
    },
    /// The mathematics say no: another key, or other bytes.
    #[error("the signature does not match the statement under the trusted key {trusted}{}", other_key(.hinted))]
    Invalid {
        /// Fingerprint of the trusted key.
        trusted: String,
        /// The key that the bundle hints at, if that is another one.
        hinted: Option<String>,
    },
}

impl SignatureError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Encoding { .. } => "signature_encoding",
            Self::Scalar { .. } => "signature_scalar",
            Self::LabelMismatch { .. } => "key_label_mismatch",
            Self::Invalid { .. } => "signature_invalid",
        }
    }
}

/// Why an artifact is not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The bundle or its statement is malformed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle was signed with a method that this verifier does not check.
    #[error("this is a signature of the method {found}, and trust of the method {expected} was given to check it with")]
    Method {
        /// The bundle's method: `key`, `certificate` or `sigstore`.
        found: &'static str,
        /// What the caller trusts.
        expected: &'static str,
    },
    /// A Sigstore identity is trusted, and this version does not check those.
    #[error("signatures by a Sigstore identity are not checked by this version")]
    SigstoreUnsupported,
    /// Another number of signatures than one, where no policy says how many there must be.
    #[error("{found} signatures were given, and trust in one signer: a policy says how to count several")]
    SignatureNumber {
        /// How many were given.
        found: usize,
    },
    /// The signer's certificate does not show that it is the trusted one.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A timestamp does not show when the signature was made.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
    /// A policy asks for something else.
    #[error(transparent)]
    Policy(#[from] Violation),
    /// One of several signatures is wrong.
    #[error("signature {number}: {source}")]
    OfSignature {
        /// Which of those that were given, from 1.
        number: usize,
        /// What is wrong with it.
        source: Box<VerifyError>,
    },
    /// Signatures of several signers say different things.
    #[error("the signatures are not about the same content with the same digests and version")]
    Disagree,
    /// The signature is not the trusted signer's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The model cannot be listed or read, or has what no signature covers.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The signature has no digests of these tensors, so that they cannot be checked against it.
    #[error("the signature has no digests of tensors to check with: {reason}")]
    NoTensors {
        /// What there is instead.
        reason: String,
    },
    /// The model is not the one that was signed.
    #[error("{}", summary(.0, "model"))]
    Differs(Vec<Difference>),
    /// The dataset is not the one that was signed. Of very many differences the first are listed.
    #[error("{}", summary(.0, "dataset"))]
    DatasetDiffers(Vec<Difference>),
    /// A table of samples is not the signed one, or contradicts the rest of the statement.
    #[error("table \"{path}\": {source}")]
    Table {
        /// Where it lies, beside the signature.
        path: ModelPath,
        /// What is wrong with it.
        source: HashError,
    },
    /// A table of samples cannot be read.
    #[error("cannot read the table \"{path}\": {source}")]
    TableUnreadable {
        /// Where it lies, beside the signature.
        path: ModelPath,
        /// The system's error.
        source: io::Error,
    },
    /// A source is said to be a contributor's, whose own statement is not there or says something else.
    #[error("source \"{source_name}\" is a contributor's: {reason}")]
    Contributor {
        /// The source, escaped for printing.
        source_name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A sample came twice in an epoch whose samples count only as a whole.
    #[error("sample {id} of source \"{source_name}\" came twice in this epoch")]
    RepeatedSample {
        /// The source, escaped for printing.
        source_name: String,
        /// The id.
        id: u64,
    },
    /// An epoch ended before every signed sample had been delivered.
    #[error("the epoch is not complete: of source \"{source_name}\" {delivered} of {samples} samples were delivered")]
    EpochIncomplete {
        /// The source, escaped for printing.
        source_name: String,
        /// How many samples came.
        delivered: u64,
        /// How many were signed.
        samples: u64,
    },
    /// A stored or another worker's part of an epoch does not belong to this dataset, or is none.
    #[error("this part of an epoch cannot be taken over: {reason}")]
    EpochState {
        /// What is wrong.
        reason: &'static str,
    },
}

impl VerifyError {
    /// An error of one signature, which says so where there are several.
    pub(crate) fn of_signature(given: usize, number: usize, error: Self) -> Self {
        if given > 1 { Self::OfSignature { number, source: Box::new(error) } } else { error }
    }

    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.code(),
            Self::Method { found: "sigstore", .. } | Self::SigstoreUnsupported => "sigstore_method_unsupported",
            Self::Method { .. } => "method_mismatch",
            Self::SignatureNumber { .. } => "signature_number",
            Self::Certificate(error) => error.code(),
            Self::Timestamp(error) => error.code(),
            Self::Policy(error) => error.code(),
            Self::OfSignature { source, .. } => source.code(),
            Self::Disagree => "signatures_disagree",
            Self::Signature(error) => error.code(),
            Self::Manifest(error) => error.code(),
            Self::NoTensors { .. } => "tensors_not_signed",
            Self::Differs(_) => "model_differs",
            Self::DatasetDiffers(_) => "dataset_differs",
            Self::Table { source: HashError::TablePart { .. }, .. } => "table_differs",
            Self::Table { source: HashError::TableState, .. } => "table_state",
            Self::Table { .. } => "table_malformed",
            Self::TableUnreadable { .. } => "io",
            Self::Contributor { .. } => "contributor_statement",
            Self::RepeatedSample { .. } => "sample_repeated",
            Self::EpochIncomplete { .. } => "epoch_incomplete",
            Self::EpochState { .. } => "epoch_state",
        }
    }

    /// Whether the check could not be made, rather than failed.
    pub fn is_unchecked(&self) -> bool {
        match self {
            Self::Method { .. } | Self::SigstoreUnsupported | Self::NoTensors { .. } | Self::SignatureNumber { .. } => true,
            Self::TableUnreadable { .. } => true,
            Self::OfSignature { source, .. } => source.is_unchecked(),
            Self::Manifest(error) => error.is_unchecked(),
            Self::Timestamp(error) => error.is_unchecked(),
            Self::Bundle(_) | Self::Signature(_) | Self::Certificate(_) | Self::Policy(_) | Self::Disagree | Self::Differs(_) => false,
            Self::DatasetDiffers(_) | Self::Table { .. } | Self::Contributor { .. } | Self::RepeatedSample { .. } => false,
            Self::EpochIncomplete { .. } | Self::EpochState { .. } => false,
        }
    }
}

fn other_key(hinted: &Option<String>) -> String {
    hinted.as_ref().map_or_else(String::new, |hinted| format!("; the file says that it was signed with another key, {hinted}"))
}

fn summary(differences: &[Difference], what: &str) -> String {
    match differences {
        [] => format!("the {what} differs from the signed one"),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate to sign with cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The timestamp authority's answer is no timestamp of this signature.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
    /// The bundle would be unreadable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The fresh signature does not verify: the key is damaged, or the machine is.
    #[error("the fresh signature does not verify under its own key")]
    SelfCheck(#[source] VerifyError),
}
