//! Keys.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sentry::{Error, KeyAlgorithm, TimestampAuthorities, TrustedKey, read_public_key, read_small_file, read_timestamp_authorities};
use zeroize::Zeroizing;

use crate::errors::{OrRaise, usage};
use crate::trust::Paths;

/// A public key that is trusted: whoever holds its private half may sign.
///
/// Parameters
/// ----------
/// path
///     A file with the key in PEM form (``-----BEGIN PUBLIC KEY-----``): ECDSA on P-256, P-384 or P-521, or Ed25519.
/// timestamp_roots
///     PEM files with the certificates of timestamp authorities (RFC 3161), whose word on a signature's time is reported.
///
/// Raises
/// ------
/// sentry.KeyFileError
///     The file holds no such key.
#[pyclass(frozen, module = "sentry")]
pub struct PublicKey {
    key: sentry::PublicKey,
    timestamps: Option<TimestampAuthorities>,
    /// Where the authorities were read from, for other processes.
    timestamp_roots: Option<Vec<PathBuf>>,
}

impl PublicKey {
    fn new_plain(key: sentry::PublicKey) -> Self {
        Self { key, timestamps: None, timestamp_roots: None }
    }

    fn with_timestamps(py: Python<'_>, key: sentry::PublicKey, timestamp_roots: Option<Vec<PathBuf>>) -> PyResult<Self> {
        let read = || timestamp_roots.as_ref().map(|paths| read_timestamp_authorities(paths)).transpose();
        Ok(Self { timestamps: py.detach(read).or_raise(py)?, key, timestamp_roots })
    }

    pub fn trust(&self) -> TrustedKey<'_> {
        let trusted = TrustedKey::new(&self.key);
        match &self.timestamps {
            Some(authorities) => trusted.with_timestamps(authorities),
            None => trusted,
        }
    }
}

#[pymethods]
impl PublicKey {
    #[new]
    #[pyo3(signature = (path, *, timestamp_roots=None))]
    fn new(py: Python<'_>, path: PathBuf, timestamp_roots: Option<Paths>) -> PyResult<Self> {
        let timestamp_roots = timestamp_roots.map(Vec::from);
        let key = py.detach(|| read_public_key(&path)).or_raise(py)?;
        Self::with_timestamps(py, key, timestamp_roots)
    }

    /// A key as another process had it.
    #[staticmethod]
    fn _restore(py: Python<'_>, pem: &str, timestamp_roots: Option<Vec<PathBuf>>) -> PyResult<Self> {
        Self::with_timestamps(py, sentry::PublicKey::from_pem(pem.as_bytes()).or_raise(py)?, timestamp_roots)
    }

    #[allow(clippy::type_complexity, reason = "what pickle asks for")]
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (&str, Option<Vec<PathBuf>>))> {
        Ok((py.get_type::<Self>().getattr("_restore")?, (self.pem(), self.timestamp_roots.clone())))
    }

    /// A key from the text of a PEM file.
    #[staticmethod]
    fn from_pem(py: Python<'_>, pem: &str) -> PyResult<Self> {
        sentry::PublicKey::from_pem(pem.as_bytes()).map(Self::new_plain).or_raise(py)
    }

    /// The key as PEM text.
    #[getter]
    fn pem(&self) -> &str {
        self.key.to_pem()
    }

    /// Lower-case hex SHA-256 of the PEM text, by which signatures refer to the key.
    #[getter]
    fn fingerprint(&self) -> String {
        self.key.fingerprint()
    }

    /// How the key signs, such as ``"ecdsa-p256-sha256"``.
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.key.algorithm().name()
    }

    fn __repr__(&self) -> String {
        format!("<sentry.PublicKey {} {}>", self.key.algorithm().name(), self.key.fingerprint())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.key.to_pem() == other.key.to_pem()
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.key.to_pem().hash(&mut hasher);
        hasher.finish()
    }
}

/// A private key to sign with. Its bytes never become visible, unless ``to_pem`` is asked for them.
///
/// Parameters
/// ----------
/// path
///     A file with the key in PEM form: PKCS#8, encrypted or not, or ``EC PRIVATE KEY``.
/// password
///     Opens an encrypted key.
///
/// Raises
/// ------
/// sentry.KeyFileError
///     The file holds no such key, or the password does not open it.
#[pyclass(frozen, module = "sentry")]
pub struct PrivateKey(sentry::PrivateKey);

impl PrivateKey {
    pub fn signer(&self) -> &sentry::PrivateKey {
        &self.0
    }
}

#[pymethods]
impl PrivateKey {
    #[new]
    #[pyo3(signature = (path, password=None))]
    fn new(py: Python<'_>, path: PathBuf, password: Option<String>) -> PyResult<Self> {
        let password = password.map(Zeroizing::new);
        let text = py.detach(|| read_small_file(&path, "read the private key")).or_raise(py)?;
        let key = sentry::PrivateKey::from_pem(&text, password.as_ref().map(|password| password.as_bytes()));
        key.map(Self).map_err(|source| Error::KeyFile { path, source }).or_raise(py)
    }

    /// A new key.
    ///
    /// Parameters
    /// ----------
    /// algorithm
    ///     ``"p256"``, ``"p384"``, ``"p521"`` or ``"ed25519"``. Other tools read the first three.
    #[staticmethod]
    #[pyo3(signature = (algorithm="p256"))]
    fn generate(py: Python<'_>, algorithm: &str) -> PyResult<Self> {
        let algorithm = match algorithm {
            "p256" => KeyAlgorithm::EcdsaP256Sha256,
            "p384" => KeyAlgorithm::EcdsaP384Sha384,
            "p521" => KeyAlgorithm::EcdsaP521Sha512,
            "ed25519" => KeyAlgorithm::Ed25519,
            other => return Err(usage(py, format!("unknown algorithm {other:?}: choose p256, p384, p521 or ed25519"))),
        };
        sentry::PrivateKey::generate(algorithm).map(Self).or_raise(py)
    }

    /// The public half, for those who verify.
    #[getter]
    fn public_key(&self, py: Python<'_>) -> PyResult<PublicKey> {
        sentry::PublicKey::from_pem(self.0.public().to_pem().as_bytes()).map(PublicKey::new_plain).or_raise(py)
    }

    /// The key as PKCS#8 PEM text, encrypted if a password is given.
    #[pyo3(signature = (password=None))]
    fn to_pem<'py>(&self, py: Python<'py>, password: Option<String>) -> PyResult<Bound<'py, PyBytes>> {
        let password = password.map(Zeroizing::new);
        let pem = self.0.to_pem(password.as_ref().map(|password| password.as_bytes())).or_raise(py)?;
        Ok(PyBytes::new(py, pem.as_bytes()))
    }

    /// Writes the key to a new file that only its owner can read; an existing file is not replaced.
    #[pyo3(signature = (path, password=None))]
    fn write(&self, py: Python<'_>, path: PathBuf, password: Option<String>) -> PyResult<()> {
        let password = password.map(Zeroizing::new);
        let pem = self.0.to_pem(password.as_ref().map(|password| password.as_bytes())).or_raise(py)?;
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = open().and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|source| Error::Io { action: "write the private key", path, source }).or_raise(py)
    }

    fn __repr__(&self) -> String {
        format!("<sentry.PrivateKey {}>", self.0.public().algorithm().name())
    }
}
