//! Whom a caller trusts, and with what it signs.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use sentry::{
    ArtifactName, CertificateSigner, Error, ExpectedName, Signer, SubjectName, TrustedCertificates, Verifier, default_artifact_name,
    read_certificate_signer, read_policy, read_roots, read_timestamp_authorities,
};

use crate::errors::{OrRaise, usage};
use crate::keys::{PrivateKey, PublicKey};

/// One path, or several.
#[derive(FromPyObject)]
pub enum Paths {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl From<Paths> for Vec<PathBuf> {
    fn from(paths: Paths) -> Self {
        match paths {
            Paths::One(path) => vec![path],
            Paths::Several(paths) => paths,
        }
    }
}

/// Certificates that are trusted: whoever has one, under one of the roots and with the right name, may sign.
///
/// Parameters
/// ----------
/// roots
///     PEM files with the certificates of authorities. Roots are never taken from a signature.
/// identity
///     Whom the certificate must name, exactly: an e-mail address, a URI such as ``spiffe://acme.example/trainer``, or a host
///     name, as a subject alternative name.
/// any_identity
///     Instead: everyone who has a certificate under the roots. For private roots only.
/// timestamp_roots
///     PEM files with the certificates of timestamp authorities (RFC 3161). A timestamped signature holds for as long as the
///     certificate was valid then; without, it must be valid now.
/// dangerous_allow_ca_leaf
///     Accept the certificate of an authority as a signer's. Whoever holds its key can make certificates for others.
///
/// Raises
/// ------
/// sentry.KeyFileError
///     A file holds no certificates of authorities.
/// sentry.UsageError
///     Neither `identity` nor `any_identity`, or both.
#[pyclass(frozen, module = "sentry")]
pub struct Certificate {
    trusted: TrustedCertificates,
    description: String,
    /// As it was made, for other processes.
    arguments: CertificateArguments,
}

#[derive(Clone)]
struct CertificateArguments {
    roots: Vec<PathBuf>,
    identity: Option<String>,
    any_identity: bool,
    timestamp_roots: Option<Vec<PathBuf>>,
    dangerous_allow_ca_leaf: bool,
}

#[pymethods]
impl Certificate {
    #[new]
    #[pyo3(signature = (roots, *, identity=None, any_identity=false, timestamp_roots=None, dangerous_allow_ca_leaf=false))]
    fn new(
        py: Python<'_>,
        roots: Paths,
        identity: Option<String>,
        any_identity: bool,
        timestamp_roots: Option<Paths>,
        dangerous_allow_ca_leaf: bool,
    ) -> PyResult<Self> {
        let arguments = CertificateArguments {
            roots: roots.into(),
            identity: identity.clone(),
            any_identity,
            timestamp_roots: timestamp_roots.map(Vec::from),
            dangerous_allow_ca_leaf,
        };
        let (name, description) = match (identity, any_identity) {
            (Some(text), false) => {
                let name: SubjectName = text.parse().map_err(|error| usage(py, format!("{error}")))?;
                (ExpectedName::Exactly(name.clone()), name.to_string())
            }
            (None, true) => (ExpectedName::Any, "any identity".to_owned()),
            _ => return Err(usage(py, "say whom the certificate must name: either identity=... or any_identity=True")),
        };
        let mut trusted = TrustedCertificates::new(py.detach(|| read_roots(&arguments.roots)).or_raise(py)?, name);
        if let Some(paths) = &arguments.timestamp_roots {
            trusted = trusted.with_timestamps(py.detach(|| read_timestamp_authorities(paths)).or_raise(py)?);
        }
        if dangerous_allow_ca_leaf {
            trusted = trusted.dangerous().allow_authority_leaf();
        }
        Ok(Self { trusted, description, arguments })
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((Vec<PathBuf>,), Bound<'py, PyAny>)> {
        let CertificateArguments { roots, identity, any_identity, timestamp_roots, dangerous_allow_ca_leaf } = self.arguments.clone();
        let named = PyDict::new(py);
        named.set_item("identity", identity)?;
        named.set_item("any_identity", any_identity)?;
        named.set_item("timestamp_roots", timestamp_roots)?;
        named.set_item("dangerous_allow_ca_leaf", dangerous_allow_ca_leaf)?;
        Ok(((roots,), named.into_any()))
    }

    fn __repr__(&self) -> String {
        format!("<sentry.Certificate of {}>", self.description)
    }
}

/// A policy file: who may sign what. The first rule with a pattern for an artifact decides; one without a rule is refused.
///
/// Parameters
/// ----------
/// path
///     The file; keys and certificates that it names lie relative to it.
/// artifact
///     What the policy calls the model. Default: the last part of the model's path, or the ``organisation/name`` of a snapshot
///     in the hub's cache. A model in memory has no path, so that it must be given.
///
/// Raises
/// ------
/// sentry.PolicyFileError
///     The policy cannot be used: malformed, or contradicting itself.
#[pyclass(frozen, module = "sentry")]
pub struct Policy {
    policy: sentry::Policy,
    artifact: Option<ArtifactName>,
    path: PathBuf,
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (path, *, artifact=None))]
    fn new(py: Python<'_>, path: PathBuf, artifact: Option<&str>) -> PyResult<Self> {
        let artifact = artifact.map(|name| parse_artifact(py, name)).transpose()?;
        Ok(Self { policy: py.detach(|| read_policy(&path)).or_raise(py)?, artifact, path })
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((PathBuf,), Bound<'py, PyAny>)> {
        let named = PyDict::new(py);
        named.set_item("artifact", self.artifact())?;
        Ok(((self.path.clone(),), named.into_any()))
    }

    /// What the policy calls the model, if that was said.
    #[getter]
    fn artifact(&self) -> Option<&str> {
        self.artifact.as_ref().map(ArtifactName::as_str)
    }

    /// The name of the rule that decides for an artifact.
    ///
    /// Raises
    /// ------
    /// sentry.PolicyError
    ///     No rule does.
    fn rule_for(&self, py: Python<'_>, artifact: &str) -> PyResult<String> {
        let artifact = parse_artifact(py, artifact)?;
        self.policy.decide(&artifact).map(|decision| decision.rule().name.clone()).or_raise(py)
    }

    fn __repr__(&self) -> String {
        format!("<sentry.Policy {:?}, {} rules>", self.path, self.policy.rules().len())
    }
}

fn parse_artifact(py: Python<'_>, name: &str) -> PyResult<ArtifactName> {
    name.parse().map_err(|error| usage(py, format!("{error}")))
}

/// Whom a caller trusts.
#[derive(FromPyObject)]
pub enum Trust {
    Key(Py<PublicKey>),
    Certificate(Py<Certificate>),
    Policy(Py<Policy>),
}

impl Trust {
    /// What decides about the signatures of the model at a path, or of one in memory.
    pub fn verifier(&self, model: Option<&Path>) -> Result<Box<dyn Verifier + '_>, Error> {
        Ok(match self {
            Self::Key(key) => Box::new(key.get().trust()),
            Self::Certificate(certificate) => Box::new(certificate.get().trusted.clone()),
            Self::Policy(policy) => {
                let Policy { policy, artifact, .. } = policy.get();
                let artifact = match (artifact, model) {
                    (Some(artifact), _) => artifact.clone(),
                    (None, Some(model)) => default_artifact_name(model)?,
                    (None, None) => {
                        let reason = "a model in memory has no path: say what the policy calls it, Policy(path, artifact=...)";
                        return Err(Error::Options { reason });
                    }
                };
                Box::new(policy.decide(&artifact)?)
            }
        })
    }
}

/// With what a model is signed, as `sentry._models.Signing` has it.
#[derive(FromPyObject)]
pub struct Signing {
    key: Py<PrivateKey>,
    certificate: Option<PathBuf>,
    chain: Vec<PathBuf>,
    allow_ca_leaf: bool,
    pub timestamp: Option<String>,
}

impl Signing {
    /// Calls `sign` with the signer.
    pub fn with_signer<T>(&self, sign: impl FnOnce(&dyn Signer) -> Result<T, Error>) -> Result<T, Error> {
        let key = self.key.get().signer();
        match &self.certificate {
            None => sign(key),
            Some(certificate) => {
                let signer: CertificateSigner<'_> = read_certificate_signer(key, certificate, &self.chain, self.allow_ca_leaf)?;
                sign(&signer)
            }
        }
    }
}
