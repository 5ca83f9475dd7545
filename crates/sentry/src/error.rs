//! One error for callers who want any of it to work or to be told why not.

use std::io;
use std::path::PathBuf;

use sentry_bundle::BundleError;
use sentry_cuda::GpuError;
use sentry_dataset::DatasetError;
use sentry_manifest::{ListError, ManifestError, ModelPath, printable_path};
use sentry_trust::{CertificateError, Difference, KeyError, PolicyError, SignError, VerifyError, Violation};

/// Why a model was not signed or not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The artifact or its signature is wrong.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The model cannot be listed, read or covered by a signature.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A GPU cannot hash.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A list of tensors cannot be signed.
    #[error(transparent)]
    List(#[from] ListError),
    /// Samples cannot be read, or not be signed.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key file cannot be used.
    #[error("\"{}\": {source}", printable_path(path))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// A file of certificates that the caller trusts cannot be used.
    #[error("{}: {source}", paths.iter().map(|path| format!("\"{}\"", printable_path(path))).collect::<Vec<_>>().join(", "))]
    CertificateFile {
        /// The files.
        paths: Vec<PathBuf>,
        /// What is wrong.
        source: CertificateError,
    },
    /// A policy cannot be used.
    #[error("\"{}\": {source}", printable_path(path))]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<PolicyError>,
    },
    /// The caller asks to leave out a file that is signed.
    #[error("\"{path}\" is signed and cannot be left out by ignoring \"{ignored}\"")]
    IgnoresSigned {
        /// The signed file.
        path: ModelPath,
        /// The path to be ignored, escaped for printing.
        ignored: String,
    },
    /// There is no signature where one was looked for.
    #[error("there is no signature at \"{}\"", printable_path(path))]
    SignatureNotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file to be replaced by the new signature is something else.
    #[error("\"{}\" exists and is no signature; it is left as it is", printable_path(path))]
    WouldOverwrite {
        /// The file.
        path: PathBuf,
    },
    /// The options contradict each other.
    #[error("{reason}")]
    Options {
        /// What contradicts what.
        reason: &'static str,
    },
    /// A signature could not be read or written.
    #[error("cannot {action} \"{}\": {source}", printable_path(path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What an error says of the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The artifact or its signature is wrong.
    Rejected,
    /// The check could not be made: bad usage, unreadable input, an unusable key.
    Unchecked,
}

impl Error {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sign(SignError::Key(error)) | Self::Key(error) | Self::KeyFile { source: error, .. } => error.code(),
            Self::Sign(SignError::Bundle(error)) => error.code(),
            Self::Sign(SignError::Certificate(error)) | Self::CertificateFile { source: error, .. } => error.code(),
            Self::Sign(SignError::Timestamp(error)) => error.code(),
            Self::Policy { source, .. } => source.code(),
            Self::Sign(_) => "self_check",
            Self::Verify(error) => error.code(),
            Self::Manifest(error) => error.code(),
            Self::Gpu(error) => error.code(),
            Self::List(error) => error.code(),
            Self::Dataset(error) => error.code(),
            Self::SignatureNotFound { .. } => "signature_not_found",
            Self::WouldOverwrite { .. } => "would_overwrite",
            Self::Options { .. } | Self::IgnoresSigned { .. } => "usage",
            Self::Io { .. } => "io",
        }
    }

    /// What this error says of the artifact.
    pub fn verdict(&self) -> Verdict {
        let unchecked = match self {
            Self::Verify(error) => error.is_unchecked(),
            Self::Manifest(error) => error.is_unchecked(),
            Self::Dataset(error) => error.is_unchecked(),
            Self::Sign(_)
            | Self::Gpu(_)
            | Self::List(_)
            | Self::Key(_)
            | Self::KeyFile { .. }
            | Self::CertificateFile { .. }
            | Self::Policy { .. }
            | Self::IgnoresSigned { .. }
            | Self::SignatureNotFound { .. }
            | Self::WouldOverwrite { .. } => true,
            Self::Options { .. } | Self::Io { .. } => true,
        };
        if unchecked { Verdict::Unchecked } else { Verdict::Rejected }
    }

    /// Where the model differs from the signed one, if that is the error.
    pub fn differences(&self) -> &[Difference] {
        match self {
            Self::Verify(VerifyError::Differs(differences) | VerifyError::DatasetDiffers(differences)) => differences,
            _ => &[],
        }
    }
}

impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        Self::Verify(error.into())
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Verify(violation.into())
    }
}
