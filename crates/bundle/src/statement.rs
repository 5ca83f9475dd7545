//! The in-toto statement about the files of a model (OpenSSF Model Signing v1.0).

use std::collections::BTreeMap;

use sentry_hash::{Algorithm, Digest};
use sentry_manifest::json::{self, Object};
use sentry_manifest::limits::{MAX_NAME_BYTES, MAX_RESOURCES};
use sentry_manifest::{
    AnnotationsJson, Manifest, ManifestError, Method, Resource, ResourcePath, Serialization, parse_shard_name, printable,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::BundleError;
use crate::in_toto::not_about_files;
use crate::limits::MAX_JSON_INTEGER;
use crate::uris::{MODEL_SIGNING_V0_1, MODEL_SIGNING_V1, STATEMENT_TYPE, VERSION_ANNOTATION};

/// What was signed: a manifest under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The subject's name, by custom the model's directory or file name. It informs; nothing is looked up by it.
    pub subject: String,
    /// The artifact's version, if the signer stated one; at most 2^53 - 1.
    pub version: Option<u64>,
    /// The files.
    pub manifest: Manifest,
}

impl Statement {
    /// Parses a payload, whose signature the caller has checked.
    ///
    /// # Errors
    /// Any [`BundleError`] about the statement.
    pub fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        let field = |source| BundleError::Json { document: "statement", source };
        let statement: StatementJson = json::parse(payload).map_err(field)?;
        if statement.statement_type != STATEMENT_TYPE {
            return Err(BundleError::StatementType { found: printable(&statement.statement_type) });
        }
        match statement.predicate_type.as_str() {
            MODEL_SIGNING_V1 => {}
            MODEL_SIGNING_V0_1 => return Err(BundleError::LegacyV02),
            other => return Err(not_about_files(other)),
        }
        let [Object(subject)] = &statement.subject[..] else {
            return Err(BundleError::SubjectCount { found: statement.subject.len() });
        };
        let predicate: PredicateJson = json::parse_part(&statement.predicate).map_err(field)?;
        let manifest = predicate.check()?;
        let expected = subject.root()?;
        if expected != manifest.root() {
            return Err(BundleError::RootMismatch { expected: expected.to_hex(), found: manifest.root().to_hex() });
        }
        Ok(Self { subject: subject.name.clone(), version: subject.version()?, manifest })
    }

    /// Whether a payload calls itself one of model-signing 0.2, whose signatures are over another encoding. Good for
    /// an error message, for nothing has been checked.
    pub fn is_legacy(payload: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct TypeOnly {
            #[serde(rename = "predicateType")]
            predicate_type: String,
        }
        json::parse::<TypeOnly>(payload).is_ok_and(|statement| statement.predicate_type == MODEL_SIGNING_V0_1)
    }

    /// The payload to sign.
    pub fn to_payload(&self) -> Vec<u8> {
        let annotations = self.version.map(|version| BTreeMap::from([(VERSION_ANNOTATION.to_owned(), version.into())]));
        let subject = SubjectJson {
            name: self.subject.clone(),
            digest: Object(DigestSetJson { sha256: self.manifest.root().to_hex() }),
            annotations,
        };
        let predicate = serde_json::value::to_raw_value(&PredicateJson::new(&self.manifest)).expect("strings and numbers serialise");
        let statement = StatementJson {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Object(subject)],
            predicate_type: MODEL_SIGNING_V1.to_owned(),
            predicate,
        };
        serde_json::to_vec(&statement).expect("strings and numbers serialise")
    }
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
struct SubjectJson {
    name: String,
    digest: Object<DigestSetJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Serialize, Deserialize)]
struct DigestSetJson {
    sha256: String,
}

impl SubjectJson {
    fn root(&self) -> Result<Digest, ManifestError> {
        Digest::from_hex(Algorithm::Sha256, &self.digest.0.sha256)
            .map_err(|source| ManifestError::Digest { name: "subject".to_owned(), source })
    }

    fn version(&self) -> Result<Option<u64>, BundleError> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES {
            let name = "subject".to_owned();
            return Err(ManifestError::UnsafePath { name, reason: "its name is empty or longer than 4096 bytes" }.into());
        }
        let version = self.annotations.as_ref().and_then(|annotations| annotations.get(VERSION_ANNOTATION));
        let Some(version) = version else { return Ok(None) };
        match version.as_u64().filter(|&version| version <= MAX_JSON_INTEGER) {
            Some(version) => Ok(Some(version)),
            None => {
                let reason = "its version is no integer from 0 to 2^53 - 1".to_owned();
                Err(ManifestError::AnnotationInvalid { name: "subject".to_owned(), reason }.into())
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredicateJson {
    serialization: Object<SerializationJson>,
    resources: Vec<Object<ResourceJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SerializationJson {
    method: MethodJson,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_size: Option<serde_json::Number>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignore_paths: Vec<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MethodJson {
    Files,
    Shards,
}

/// A resource descriptor; fields of other tools are left alone.
#[derive(Serialize, Deserialize)]
struct ResourceJson {
    name: String,
    algorithm: String,
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Object<AnnotationsJson>>,
}

impl PredicateJson {
    fn new(manifest: &Manifest) -> Self {
        let serialization = manifest.serialization();
        let (method, shard_size) = match serialization.method {
            Method::Files => (MethodJson::Files, None),
            Method::Shards { size, .. } => (MethodJson::Shards, Some(size.into())),
        };
        Self {
            serialization: Object(SerializationJson {
                method,
                hash_type: serialization.hash.to_string(),
                allow_symlinks: serialization.allow_symlinks,
                shard_size,
                ignore_paths: serialization.ignore_paths.clone(),
            }),
            resources: manifest.resources().iter().map(|resource| Object(ResourceJson::new(resource))).collect(),
        }
    }

    fn check(self) -> Result<Manifest, ManifestError> {
        if self.resources.len() > MAX_RESOURCES {
            return Err(ManifestError::TooManyResources);
        }
        let hash = hash_type(&self.serialization.0.hash_type)?;
        let shard_size = self.serialization.0.shard_size()?;
        let labelled = |label: &String| shard_size.is_some() && label.contains("-sharded-");
        let reference_labels = self.resources.iter().any(|Object(resource)| labelled(&resource.algorithm));
        let method = match shard_size {
            None => Method::Files,
            Some(size) => Method::Shards { size, reference_labels },
        };
        let label = match shard_size {
            Some(size) if reference_labels => format!("{hash}-sharded-{size}"),
            _ => hash.to_string(),
        };
        let resources =
            self.resources.into_iter().map(|Object(resource)| resource.check(hash, &label, method)).collect::<Result<_, _>>()?;
        let SerializationJson { allow_symlinks, ignore_paths, .. } = self.serialization.0;
        Manifest::new(Serialization { method, hash, allow_symlinks, ignore_paths }, resources)
    }
}

/// The algorithms of OpenSSF Model Signing. `blake2` is what a part of model-signing calls `blake2b`.
fn hash_type(name: &str) -> Result<Algorithm, ManifestError> {
    match name {
        "sha256" => Ok(Algorithm::Sha256),
        "blake2b" | "blake2" => Ok(Algorithm::Blake2b),
        "blake3" => Ok(Algorithm::Blake3),
        other => Err(unknown_algorithm("serialization", other)),
    }
}

fn unknown_algorithm(place: &str, name: &str) -> ManifestError {
    let source = sentry_hash::HashError::UnknownAlgorithm { name: printable(name) };
    ManifestError::Digest { name: printable(place), source }
}

impl SerializationJson {
    /// The shard size, if the method is shards. model-signing writes it as a float.
    fn shard_size(&self) -> Result<Option<u64>, ManifestError> {
        let wrong = |found: String, reason| Err(ManifestError::ShardSize { found, reason });
        match (self.method, &self.shard_size) {
            (MethodJson::Files, None) => Ok(None),
            (MethodJson::Files, Some(size)) => wrong(size.to_string(), "whole files have none"),
            (MethodJson::Shards, None) => wrong("absent".to_owned(), "shards need one"),
            (MethodJson::Shards, Some(size)) => match whole_number(size) {
                Some(size) => Ok(Some(size)),
                None => wrong(size.to_string(), "it is no whole number from 1 to 2^53 - 1"),
            },
        }
    }
}

fn whole_number(number: &serde_json::Number) -> Option<u64> {
    let range = 1..=MAX_JSON_INTEGER;
    let exact = |float: f64| (float.fract() == 0.0 && (1.0..=MAX_JSON_INTEGER as f64).contains(&float)).then_some(float as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(exact)).filter(|size| range.contains(size))
}

impl ResourceJson {
    fn new(resource: &Resource) -> Self {
        Self {
            name: resource.name(),
            algorithm: resource.digest.algorithm().to_string(),
            digest: resource.digest.to_hex(),
            annotations: resource.annotation.as_ref().map(|annotation| Object(AnnotationsJson::new(annotation))),
        }
    }

    fn check(self, hash: Algorithm, label: &str, method: Method) -> Result<Resource, ManifestError> {
        if self.algorithm != label {
            return Err(self.wrong_algorithm(label));
        }
        let name = printable(&self.name);
        let digest = Digest::from_hex(hash, &self.digest).map_err(|source| ManifestError::Digest { name, source })?;
        let (path, shard) = match method {
            Method::Files => (ResourcePath::new(&self.name)?, None),
            Method::Shards { .. } => parse_shard_name(&self.name).map(|(path, shard)| (path, Some(shard)))?,
        };
        let annotation = self.annotations.unwrap_or_default().0.check(&self.name)?;
        Ok(Resource { path, shard, digest, annotation })
    }

    /// Tells an algorithm that nobody knows from one that is not the serialization's.
    fn wrong_algorithm(&self, expected: &str) -> ManifestError {
        let base = self.algorithm.split_once("-sharded-").map_or(self.algorithm.as_str(), |(base, _)| base);
        if hash_type(base).is_err() {
            return unknown_algorithm(&self.name, &self.algorithm);
        }
        ManifestError::AlgorithmMismatch { name: printable(&self.name), expected: expected.to_owned(), found: printable(&self.algorithm) }
    }
}
