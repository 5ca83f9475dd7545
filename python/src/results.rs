//! What functions return: who signed, and what was checked.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use sentry::{
    DatasetStatement, Model, ModelInMemory, ModelPath, ModelStatement, Signed, SignedTensors, Statement, Verified, VerifiedDataset,
};

/// What was verified. It exists only if everything it names has been checked; a failure is an exception.
#[pyclass(frozen, get_all, module = "sentry")]
pub struct Verification {
    /// Who signed, for people: the first signer, if there are several.
    signer: String,
    /// Lower-case hex SHA-256 of the signer's public key as PEM text, or of its certificate.
    fingerprint: String,
    /// All signers, for people.
    signers: Vec<String>,
    /// When the signature existed at the latest, by a trusted timestamp authority (RFC 3339).
    timestamp: Option<String>,
    /// The rule of the policy that decided, if one did.
    rule: Option<String>,
    /// The name under which the policy was asked.
    artifact: Option<String>,
    /// The name under which the model was signed. Nothing was checked against it.
    subject: String,
    /// The version that the signer stated.
    version: Option<u64>,
    /// Lower-case hex SHA-256 of the signed statement: pins exactly this signature's content.
    payload_sha256: String,
    /// Files whose bytes were checked.
    files: usize,
    /// Tensors whose bytes were checked against a digest of their own.
    tensors: usize,
    /// Samples of a dataset that were checked.
    samples: u64,
    /// Bytes that were read and hashed.
    bytes: u64,
    /// How each loaded file was checked: ``"tensors"`` and ``"blake3"`` are digests that Sentry adds to a signature, others the
    /// algorithm of the digest that every OpenSSF tool checks. Empty unless files were loaded.
    checked_by: BTreeMap<String, String>,
    /// How many bytes of tensors were read in which way: ``"page cache"``, and around it ``"io_uring"``, ``"O_DIRECT"`` or
    /// ``"cuFile"``. Empty unless tensors were loaded.
    read_by: BTreeMap<String, u64>,
    /// Files that lie in the model and are not signed, which the caller allowed; in a dataset those that hold no samples.
    unsigned_files: Vec<String>,
    /// Names in the module that are not signed and share the memory of a tensor that is, such as tied weights.
    aliases: Vec<String>,
    /// Non-persistent buffers that are not signed; nothing is known of them.
    not_covered: Vec<String>,
    /// Signed tensors that the module lacks, which the caller allowed.
    missing: Vec<String>,
}

#[pymethods]
impl Verification {
    fn __repr__(&self) -> String {
        let Self { signer, subject, files, tensors, bytes, .. } = self;
        format!("<sentry.Verification of {subject:?}: {files} files, {tensors} tensors, {bytes} bytes, signed by {signer}>")
    }
}

/// How much of what was checked.
#[derive(Default)]
pub struct Extent {
    pub files: usize,
    pub tensors: usize,
    pub bytes: u64,
    pub checked_by: BTreeMap<String, String>,
    pub read_by: BTreeMap<String, u64>,
}

impl Verification {
    fn new<T>(verified: &Verified<T>, subject: &str, version: Option<u64>, extent: Extent) -> Self {
        let signatures = verified.signatures();
        Self {
            signer: verified.identity().to_string(),
            fingerprint: verified.identity().fingerprint().to_owned(),
            signers: signatures.iter().map(|signature| signature.identity().to_string()).collect(),
            timestamp: signatures[0].timestamp().map(|time| time.to_string()),
            rule: verified.decided_by().map(|decided| decided.rule.clone()),
            artifact: verified.decided_by().map(|decided| decided.artifact.clone()),
            subject: subject.to_owned(),
            version,
            payload_sha256: verified.payload_sha256().to_hex(),
            files: extent.files,
            tensors: extent.tensors,
            samples: 0,
            bytes: extent.bytes,
            checked_by: extent.checked_by,
            read_by: extent.read_by,
            unsigned_files: Vec::new(),
            aliases: Vec::new(),
            not_covered: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Files that were loaded.
    pub fn of_load(statement: &Verified<Statement>, extent: Extent) -> Self {
        Self::new(statement, &statement.value().subject, statement.value().version, extent)
    }

    /// A dataset whose signature holds, and of whose samples nothing was checked.
    pub fn of_statement(statement: &Verified<DatasetStatement>) -> Self {
        let manifest = &statement.value().manifest;
        Self::new(statement, manifest.name(), manifest.version(), Extent::default())
    }

    /// A dataset in files.
    pub fn of_dataset(verified: &VerifiedDataset) -> Self {
        let manifest = &verified.dataset.value().statement().manifest;
        let extent = Extent { bytes: verified.bytes, ..Extent::default() };
        Self {
            samples: manifest.whole().count(),
            unsigned_files: verified.others.iter().map(ToString::to_string).collect(),
            ..Self::new(&verified.dataset, manifest.name(), manifest.version(), extent)
        }
    }

    /// A model on disk.
    pub fn of_model(verified: &Verified<Model>) -> Self {
        let model = verified.value();
        let Statement { subject, version, manifest } = model.statement();
        let extent = Extent { files: manifest.paths().len(), tensors: manifest.tensors(), bytes: model.bytes(), ..Extent::default() };
        Self { unsigned_files: model.unsigned().to_vec(), ..Self::new(verified, subject, *version, extent) }
    }

    /// A model in memory.
    pub fn of_memory(statement: &ModelStatement, verified: &Verified<ModelInMemory>) -> Self {
        let model = verified.value();
        let extent = Extent { tensors: model.tensors(), bytes: model.bytes(), ..Extent::default() };
        Self {
            aliases: model.aliases().to_vec(),
            not_covered: model.not_covered().to_vec(),
            missing: model.missing().to_vec(),
            ..Self::new(verified, statement.subject(), statement.version(), extent)
        }
    }
}

/// What was signed, and where the signature is.
#[pyclass(frozen, get_all, module = "sentry")]
pub struct Signature {
    /// The signature file.
    path: String,
    /// The name under which the model was signed.
    subject: String,
    /// The version that was stated.
    version: Option<u64>,
    /// Files that are covered.
    files: usize,
    /// Tensors that are covered by a digest of their own.
    tensors: usize,
    /// Samples of a dataset.
    samples: u64,
    /// Bytes that were hashed.
    bytes: u64,
    /// What other readers of the format cannot do with this signature.
    notes: Vec<String>,
}

#[pymethods]
impl Signature {
    fn __repr__(&self) -> String {
        let Self { path, subject, files, tensors, bytes, .. } = self;
        format!("<sentry.Signature of {subject:?}: {files} files, {tensors} tensors, {bytes} bytes, in {path:?}>")
    }
}

impl Signature {
    /// Of a model on disk.
    pub fn of_model(signed: &Signed) -> Self {
        let Statement { subject, version, manifest } = &signed.statement;
        Self {
            path: signed.signature.display().to_string(),
            subject: subject.clone(),
            version: *version,
            files: manifest.paths().len(),
            tensors: manifest.tensors(),
            samples: 0,
            bytes: signed.bytes,
            notes: signed.notes.clone(),
        }
    }

    /// Of a dataset; `others` are its files without samples.
    pub fn of_dataset(statement: &DatasetStatement, path: String, bytes: u64, others: &[ModelPath]) -> Self {
        let manifest = &statement.manifest;
        Self {
            path,
            subject: manifest.name().to_owned(),
            version: manifest.version(),
            files: 0,
            tensors: 0,
            samples: manifest.whole().count(),
            bytes,
            notes: others.iter().map(|path| format!("{path} holds no samples: the signature says nothing of it")).collect(),
        }
    }

    /// Of a model in memory.
    pub fn of_tensors(signed: &SignedTensors, path: String, bytes: u64) -> Self {
        let statement = &signed.statement;
        Self {
            path,
            subject: statement.subject.clone(),
            version: statement.version,
            files: 0,
            tensors: statement.manifest().tensors().len(),
            samples: 0,
            bytes,
            notes: Vec::new(),
        }
    }
}
