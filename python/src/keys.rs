//! Keys.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sentry::{Error, KeyAlgorithm, TrustedKey};
use zeroize::Zeroizing;

use crate::errors::{OrRaise, usage};

/// Longest key file in bytes; real ones have a few thousand.
const MAX_KEY_FILE: u64 = 1 << 20;

fn read(path: &Path, action: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let error = |source| Error::Io { action, path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).map_err(error)?.take(MAX_KEY_FILE + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > MAX_KEY_FILE {
        return Err(error(io::Error::other("it is longer than 1 MiB")));
    }
    Ok(bytes)
}

/// A public key that is trusted: whoever holds its private half may sign.
///
/// Parameters
/// ----------
/// path
///     A file with the key in PEM form (``-----BEGIN PUBLIC KEY-----``): ECDSA on P-256, P-384 or P-521, or Ed25519.
///
/// Raises
/// ------
/// sentry.KeyFileError
///     The file holds no such key.
#[pyclass(frozen, module = "sentry")]
pub struct PublicKey(sentry::PublicKey);

impl PublicKey {
    pub fn trust(&self) -> TrustedKey<'_> {
        TrustedKey::new(&self.0)
    }
}

#[pymethods]
impl PublicKey {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let text = read(&path, "read the public key").or_raise(py)?;
        sentry::PublicKey::from_pem(&text).map(Self).map_err(|source| Error::KeyFile { path, source }).or_raise(py)
    }

    /// A key from the text of a PEM file.
    #[staticmethod]
    fn from_pem(py: Python<'_>, pem: &str) -> PyResult<Self> {
        sentry::PublicKey::from_pem(pem.as_bytes()).map(Self).or_raise(py)
    }

    /// The key as PEM text.
    #[getter]
    fn pem(&self) -> &str {
        self.0.to_pem()
    }

    /// Lower-case hex SHA-256 of the PEM text, by which signatures refer to the key.
    #[getter]
    fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    /// How the key signs, such as ``"ecdsa-p256-sha256"``.
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.0.algorithm().name()
    }

    fn __repr__(&self) -> String {
        format!("<sentry.PublicKey {} {}>", self.0.algorithm().name(), self.0.fingerprint())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0.to_pem() == other.0.to_pem()
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.0.to_pem().hash(&mut hasher);
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
        let text = read(&path, "read the private key").or_raise(py)?;
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
        sentry::PublicKey::from_pem(self.0.public().to_pem().as_bytes()).map(PublicKey).or_raise(py)
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
