//! The in-toto statement around a predicate of ours. Stricter than what is read of other tools: no unknown key anywhere.

use sentry_hash::{Algorithm, Digest};
use sentry_manifest::json::{self, Object};
use sentry_manifest::limits::MAX_NAME_BYTES;
use sentry_manifest::{ManifestError, printable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::BundleError;
use crate::limits::MAX_JSON_INTEGER;
use crate::uris::{MODEL_SIGNING_V1, STATEMENT_TYPE};

/// A statement about one subject.
pub(crate) struct InToto<P> {
    pub name: String,
    pub version: Option<u64>,
    pub digest: Digest,
    pub predicate: P,
}

impl<P: DeserializeOwned> InToto<P> {
    /// Reads a payload whose predicate is of this type.
    pub fn parse(payload: &[u8], predicate_type: &'static str) -> Result<Self, BundleError> {
        let field = |source| BundleError::Json { document: "statement", source };
        let statement: StatementJson = json::parse(payload).map_err(field)?;
        if statement.statement_type != STATEMENT_TYPE {
            return Err(BundleError::StatementType { found: printable(&statement.statement_type) });
        }
        if statement.predicate_type != predicate_type {
            return Err(BundleError::PredicateType { expected: predicate_type, found: printable(&statement.predicate_type) });
        }
        let [Object(subject)] = &statement.subject[..] else {
            return Err(BundleError::SubjectCount { found: statement.subject.len() });
        };
        let version = subject.annotations.as_ref().map(|Object(annotations)| annotations.version);
        Ok(Self {
            name: subject.name.clone(),
            version: version.map(|version| integer("version", version)).transpose()?,
            digest: digest("subject", Algorithm::Sha256, &subject.digest.0.sha256)?,
            predicate: json::parse_part(&statement.predicate).map_err(field)?,
        })
    }
}

impl<P: Serialize> InToto<P> {
    /// The payload to sign.
    pub fn to_payload(&self, predicate_type: &str) -> Vec<u8> {
        let annotations = self.version.map(|version| Object(SubjectAnnotations { version }));
        let digest = Object(DigestSetJson { sha256: self.digest.to_hex() });
        let statement = StatementJson {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Object(SubjectJson { name: self.name.clone(), digest, annotations })],
            predicate_type: predicate_type.to_owned(),
            predicate: serde_json::value::to_raw_value(&self.predicate).expect("strings and numbers serialise"),
        };
        serde_json::to_vec(&statement).expect("strings and numbers serialise")
    }
}

/// What a payload says that its predicate is; good for choosing who reads it.
///
/// # Errors
/// [`BundleError::Json`] if it is no statement.
pub fn predicate_type(payload: &[u8]) -> Result<String, BundleError> {
    #[derive(Deserialize)]
    struct TypeOnly {
        #[serde(rename = "predicateType")]
        predicate_type: String,
    }
    let statement: TypeOnly = json::parse(payload).map_err(|source| BundleError::Json { document: "statement", source })?;
    Ok(statement.predicate_type)
}

/// The error of a statement whose predicate is of another type than OpenSSF Model Signing's.
pub(crate) fn not_about_files(found: &str) -> BundleError {
    BundleError::PredicateType { expected: MODEL_SIGNING_V1, found: printable(found) }
}

/// A digest in the one spelling that there is.
pub(crate) fn digest(place: &str, algorithm: Algorithm, hex: &str) -> Result<Digest, BundleError> {
    let named = |source| BundleError::Manifest(ManifestError::Digest { name: printable(place), source });
    Digest::from_hex(algorithm, hex).map_err(named)
}

/// Checks the length of a subject's name.
pub(crate) fn check_name(name: &str) -> Result<(), BundleError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(BundleError::Value { field: "name", found: printable(name) });
    }
    Ok(())
}

/// A number that every JSON reader keeps exact.
pub(crate) fn integer(field: &'static str, number: u64) -> Result<u64, BundleError> {
    if number > MAX_JSON_INTEGER { Err(BundleError::Value { field, found: number.to_string() }) } else { Ok(number) }
}

/// A key that may be absent, but not null.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Object<SubjectJson>>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    /// Kept as text until its type is known.
    predicate: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectJson {
    name: String,
    digest: Object<DigestSetJson>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    annotations: Option<Object<SubjectAnnotations>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestSetJson {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectAnnotations {
    #[serde(rename = "sentry-ml.dev/version")]
    version: u64,
}
