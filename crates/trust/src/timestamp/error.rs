//! Why a timestamp does not show when a signature was made.

use jiff::Timestamp;
use sentry_manifest::printable;

/// A timestamp that is not accepted, or cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// Not the structure of RFC 3161, or a refusal.
    #[error("the timestamp is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It is of another signature, or an answer to another query.
    #[error("the timestamp is not of this signature: {reason}")]
    Mismatch {
        /// What it is of instead.
        reason: String,
    },
    /// Its authority is none that the caller trusts, or its signature does not hold.
    #[error("the timestamp is not of a trusted authority: {reason}")]
    Untrusted {
        /// Why not.
        reason: String,
    },
    /// It is of a time that has not come yet.
    #[error("the timestamp is of {time}, which has not come yet")]
    InFuture {
        /// Its time.
        time: Timestamp,
    },
    /// An algorithm that is not checked here: timestamps are of SHA-256, signed with ECDSA on P-256 or P-384.
    #[error("the timestamp uses the algorithm {found}, which is not supported: SHA-256, and ECDSA on P-256 or P-384 are")]
    AlgorithmUnsupported {
        /// Its object identifier.
        found: String,
    },
    /// The authority could not be reached, or answered with something else.
    #[error("no timestamp could be had: {reason}")]
    Unavailable {
        /// Why not.
        reason: String,
    },
}

impl TimestampError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "timestamp_malformed",
            Self::Mismatch { .. } => "timestamp_mismatch",
            Self::Untrusted { .. } => "timestamp_untrusted",
            Self::InFuture { .. } => "timestamp_in_future",
            Self::AlgorithmUnsupported { .. } => "timestamp_algorithm_unsupported",
            Self::Unavailable { .. } => "timestamp_unavailable",
        }
    }

    /// Whether the check could not be made, rather than failed.
    pub fn is_unchecked(&self) -> bool {
        matches!(self, Self::AlgorithmUnsupported { .. } | Self::Unavailable { .. })
    }
}

impl From<sigstore_tsa::Error> for TimestampError {
    fn from(error: sigstore_tsa::Error) -> Self {
        use sigstore_tsa::Error as E;
        let reason = printable(&error.to_string());
        // The imprint has been compared before: a hash that still differs is that of what the authority signed.
        match error {
            E::Parse(_) | E::Asn1(_) | E::NoTstInfo | E::NoToken | E::ResponseFailure => Self::Malformed { reason },
            _ => Self::Untrusted { reason },
        }
    }
}
