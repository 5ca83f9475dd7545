//! What can be wrong with a bundle or a statement.

use sentry_manifest::json::JsonError;
use sentry_manifest::{ListError, ManifestError};

use crate::limits;

/// A bundle or statement that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file is longer than [`limits::MAX_BUNDLE_BYTES`].
    #[error("the signature file has {found} bytes, at most {} are allowed", limits::MAX_BUNDLE_BYTES)]
    TooLarge {
        /// Its size in bytes.
        found: u64,
    },
    /// The bundle or its payload is not the JSON it should be.
    #[error("the {document} is malformed: {source}")]
    Json {
        /// Which document.
        document: &'static str,
        /// What is wrong.
        source: JsonError,
    },
    /// Not a Sigstore bundle v0.3.
    #[error("unknown media type \"{found}\", expected \"{}\"", crate::uris::BUNDLE_MEDIA_TYPE)]
    MediaType {
        /// The type found, escaped for printing.
        found: String,
    },
    /// A field is not canonical base64.
    #[error("{field} is not canonical base64: {reason}")]
    Base64 {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The envelope holds something else than an in-toto statement.
    #[error("the payload is of type \"{found}\", expected \"{}\"", crate::uris::PAYLOAD_TYPE)]
    PayloadType {
        /// The type found, escaped for printing.
        found: String,
    },
    /// Not exactly one signature.
    #[error("the envelope has {found} signatures, expected exactly one")]
    SignatureCount {
        /// How many there are.
        found: usize,
    },
    /// The material to verify with is missing or contradictory.
    #[error("the verification material is unusable: {reason}")]
    VerificationMaterial {
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate chain longer than [`limits::MAX_CHAIN`].
    #[error("the certificate chain has {found} certificates, at most {} are allowed", limits::MAX_CHAIN)]
    ChainTooLong {
        /// How many there are.
        found: usize,
    },
    /// More timestamps than [`limits::MAX_TIMESTAMPS`].
    #[error("the signature has {found} timestamps, at most {} are allowed", limits::MAX_TIMESTAMPS)]
    TooManyTimestamps {
        /// How many there are.
        found: usize,
    },
    /// A timestamp longer than [`limits::MAX_TIMESTAMP_BYTES`].
    #[error("a timestamp has {found} bytes, at most {} are allowed", limits::MAX_TIMESTAMP_BYTES)]
    TimestampTooLong {
        /// Its size in bytes.
        found: usize,
    },
    /// The payload is no in-toto statement v1.
    #[error("the statement is of type \"{found}\", expected \"{}\"", crate::uris::STATEMENT_TYPE)]
    StatementType {
        /// The type found, escaped for printing.
        found: String,
    },
    /// The statement is about something else than what was asked for.
    #[error("the statement has the predicate type \"{found}\", expected \"{expected}\"")]
    PredicateType {
        /// The type asked for.
        expected: &'static str,
        /// The type found, escaped for printing.
        found: String,
    },
    /// A statement of model-signing 0.2, whose signatures are over another encoding.
    #[error("this signature was made by model-signing 0.2, whose format is not supported")]
    LegacyV02,
    /// Not exactly one subject.
    #[error("the statement has {found} subjects, expected exactly one")]
    SubjectCount {
        /// How many there are.
        found: usize,
    },
    /// The subject's digest is not that of the resources.
    #[error("the subject's digest is {expected}, but the listed resources hash to {found}")]
    RootMismatch {
        /// As the subject has it.
        expected: String,
        /// Over the resources in their order.
        found: String,
    },
    /// The subject's digest is not that of the predicate.
    #[error("the subject's digest is {expected}, but what is listed has {found}")]
    SubjectDigest {
        /// As the subject has it.
        expected: String,
        /// Of the predicate.
        found: String,
    },
    /// The subject has another name than the dataset.
    #[error("the subject is named \"{found}\", the dataset \"{expected}\"")]
    SubjectName {
        /// The dataset's name, escaped for printing.
        expected: String,
        /// The subject's.
        found: String,
    },
    /// A field has a value that the format does not know.
    #[error("the field {field} cannot be \"{found}\"")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value, escaped for printing.
        found: String,
    },
    /// A list of tensors, or a dataset, is not one.
    #[error("the signed list is invalid: {0}")]
    List(#[from] ListError),
    /// What the statement lists cannot be used.
    #[error("the signed list is invalid: {0}")]
    Manifest(#[from] ManifestError),
}

impl BundleError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "bundle_too_large",
            Self::Json { source, .. } => match source {
                JsonError::TooDeep => "json_too_deep",
                JsonError::DuplicateKey { .. } => "json_duplicate_key",
                JsonError::Field { .. } => "json_field",
                _ => "json_invalid",
            },
            Self::MediaType { .. } => "media_type",
            Self::Base64 { .. } => "base64",
            Self::PayloadType { .. } => "payload_type",
            Self::SignatureCount { .. } => "signature_count",
            Self::VerificationMaterial { .. } => "verification_material",
            Self::ChainTooLong { .. } => "chain_too_long",
            Self::TooManyTimestamps { .. } => "too_many_timestamps",
            Self::TimestampTooLong { .. } => "timestamp_too_long",
            Self::StatementType { .. } => "statement_type",
            Self::PredicateType { .. } => "predicate_type",
            Self::LegacyV02 => "legacy_v0_2",
            Self::SubjectCount { .. } => "subject_count",
            Self::RootMismatch { .. } => "root_mismatch",
            Self::SubjectDigest { .. } => "subject_digest",
            Self::SubjectName { .. } => "subject_name",
            Self::Value { .. } => "unknown_value",
            Self::List(error) => error.code(),
            Self::Manifest(error) => error.code(),
        }
    }
}
