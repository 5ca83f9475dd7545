//! The statement about a dataset: `docs/spec/dataset.md`.

use sentry_hash::lattice::State;
use sentry_hash::{Algorithm, Digest};
use sentry_manifest::json::Object;
use sentry_manifest::{DatasetField, DatasetManifest, IdRule, ModelPath, Source, TableDigests, printable};
use serde::{Deserialize, Serialize};

use crate::in_toto::{InToto, digest, integer, present};
use crate::uris::{DATASET_V1, LATTICE};
use crate::{BundleError, base64};

/// What was signed: a dataset. The subject's name is the dataset's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetStatement {
    /// Fields, sources and their states.
    pub manifest: DatasetManifest,
}

/// What `ids` begins with when they are a column.
const COLUMN: &str = "column ";

impl DatasetStatement {
    /// Parses a payload, whose signature the caller has checked.
    ///
    /// # Errors
    /// Any [`BundleError`] about the statement.
    pub fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        let statement: InToto<PredicateJson> = InToto::parse(payload, DATASET_V1)?;
        if let Some(version) = statement.version {
            // The predicate has a place for it; two could disagree.
            return Err(BundleError::Value { field: "annotations", found: version.to_string() });
        }
        let manifest = statement.predicate.check()?;
        if statement.name != manifest.name() {
            return Err(BundleError::SubjectName { expected: printable(manifest.name()), found: printable(&statement.name) });
        }
        let found = manifest.digest();
        if statement.digest != found {
            return Err(BundleError::SubjectDigest { expected: statement.digest.to_hex(), found: found.to_hex() });
        }
        Ok(Self { manifest })
    }

    /// The payload to sign.
    pub fn to_payload(&self) -> Vec<u8> {
        let predicate = PredicateJson::new(&self.manifest);
        InToto { name: self.manifest.name().to_owned(), version: None, digest: self.manifest.digest(), predicate }.to_payload(DATASET_V1)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredicateJson {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    version: Option<u64>,
    fields: Vec<Object<FieldJson>>,
    ids: String,
    lattice: String,
    sources: Vec<Object<SourceJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldJson {
    name: String,
    #[serde(rename = "type")]
    arrow_type: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceJson {
    name: String,
    samples: u64,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    table: Option<Object<TableJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    statement: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableJson {
    name: String,
    size: u64,
    digests: Vec<String>,
}

impl PredicateJson {
    fn new(manifest: &DatasetManifest) -> Self {
        let field = |field: &DatasetField| Object(FieldJson { name: field.name.clone(), arrow_type: field.arrow_type.clone() });
        Self {
            name: manifest.name().to_owned(),
            version: manifest.version(),
            fields: manifest.fields().iter().map(field).collect(),
            ids: match manifest.ids() {
                IdRule::Column(name) => format!("{COLUMN}{name}"),
                IdRule::Path => "path".to_owned(),
                IdRule::Ordinal => "ordinal".to_owned(),
            },
            lattice: LATTICE.to_owned(),
            sources: manifest.sources().iter().map(|source| Object(SourceJson::new(source))).collect(),
        }
    }

    fn check(self) -> Result<DatasetManifest, BundleError> {
        if self.lattice != LATTICE {
            return Err(BundleError::Value { field: "lattice", found: printable(&self.lattice) });
        }
        let ids = match (self.ids.as_str(), self.ids.strip_prefix(COLUMN)) {
            ("path", _) => IdRule::Path,
            ("ordinal", _) => IdRule::Ordinal,
            (_, Some(name)) => IdRule::Column(name.to_owned()),
            (other, None) => return Err(BundleError::Value { field: "ids", found: printable(other) }),
        };
        let version = self.version.map(|version| integer("version", version)).transpose()?;
        let fields = self.fields.into_iter().map(|Object(field)| DatasetField { name: field.name, arrow_type: field.arrow_type }).collect();
        let sources = self.sources.into_iter().map(|Object(source)| source.check()).collect::<Result<_, _>>()?;
        Ok(DatasetManifest::new(self.name, version, fields, ids, sources)?)
    }
}

impl SourceJson {
    fn new(source: &Source) -> Self {
        let table = |table: &TableDigests| {
            let digests = table.parts.iter().map(Digest::to_hex).collect();
            Object(TableJson { name: table.path.as_str().to_owned(), size: table.size, digests })
        };
        Self {
            name: source.name.clone(),
            samples: source.state.count(),
            state: base64::encode(&source.state.to_bytes()),
            table: source.table.as_ref().map(table),
            statement: source.statement.as_ref().map(Digest::to_hex),
        }
    }

    fn check(self) -> Result<Source, BundleError> {
        let state =
            State::from_bytes(self.samples, &base64::decode_standard("state", &self.state)?).map_err(sentry_manifest::ListError::from)?;
        let table = self.table.map(|Object(table)| table.check(&self.name)).transpose()?;
        let statement = self.statement.map(|hex| digest(&self.name, Algorithm::Sha256, &hex)).transpose()?;
        Ok(Source { name: self.name, state, table, statement })
    }
}

impl TableJson {
    fn check(self, source: &str) -> Result<TableDigests, BundleError> {
        let parts = self.digests.iter().map(|hex| digest(source, Algorithm::Blake3, hex)).collect::<Result<_, _>>()?;
        Ok(TableDigests { path: ModelPath::new(&self.name)?, size: integer("size", self.size)?, parts })
    }
}
