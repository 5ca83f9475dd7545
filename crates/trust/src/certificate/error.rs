//! Why a certificate does not show who signed.

use jiff::Timestamp;
use sentry_manifest::printable;

use super::SubjectName;
use crate::KeyError;

/// A certificate, or a path to a root, that is not accepted. `which` counts the certificates of a chain from the signer's, 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not PEM, not DER, or not the structure of RFC 5280.
    #[error("certificate {which} of the chain is malformed: {reason}")]
    Malformed {
        /// Its place in the chain.
        which: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file of roots, or of a signer's chain, has nothing that can be used as such.
    #[error("{file} cannot be used: {reason}")]
    Unusable {
        /// What the file is for.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A certificate of the path is not valid any more.
    #[error("the certificate expired at {not_after}, the time of this check is {time}")]
    Expired {
        /// Its last moment.
        not_after: Timestamp,
        /// The time of the check: of an authenticated timestamp, or now.
        time: Timestamp,
    },
    /// A certificate of the path is not valid yet.
    #[error("the certificate is valid from {not_before} on, the time of this check is {time}")]
    NotYetValid {
        /// Its first moment.
        not_before: Timestamp,
        /// The time of the check: of an authenticated timestamp, or now.
        time: Timestamp,
    },
    /// The signer's certificate is that of an authority.
    #[error("the signer's certificate, \"{subject}\", is that of a certificate authority, which makes certificates and signs nothing else")]
    AuthorityLeaf {
        /// Its subject, escaped for printing.
        subject: String,
    },
    /// A certificate may not be used as it was.
    #[error("{whose} certificate does not have the key usage {expected}")]
    KeyUsage {
        /// Whose it is.
        whose: &'static str,
        /// The usage that it needs.
        expected: &'static str,
    },
    /// A certificate of the path may not be used for code signing.
    #[error("a certificate of the path is not for code signing: its extended key usage has to name that itself")]
    ExtendedKeyUsage,
    /// No path leads from the signer's certificate to a trusted root.
    #[error("no trusted root issued the signer's certificate, \"{subject}\"; roots are never taken from the signature file")]
    UnknownIssuer {
        /// Its subject, escaped for printing.
        subject: String,
    },
    /// A certificate of an authority stands further from the signer than that authority allows.
    #[error("the path to the root is longer than one of its authorities allows")]
    PathLength,
    /// A certificate between root and signer is not one of an authority.
    #[error("a certificate that is no authority's issued another one")]
    NotAnAuthority,
    /// A name that an authority of the path must not certify.
    #[error("the path has a name that one of its authorities must not certify")]
    NameConstraint,
    /// The signature of a certificate of the path does not hold.
    #[error("the signature of a certificate of the path does not hold")]
    Signature,
    /// A certificate of the path is signed in a way that is not allowed, such as with an RSA key of under 2048 bits.
    #[error("a certificate of the path is signed with an algorithm or key size that is not allowed")]
    Algorithm,
    /// A critical extension that nobody here understands.
    #[error("a certificate of the path has a critical extension that is not supported")]
    CriticalExtension,
    /// The library refuses the path for another reason.
    #[error("the path of certificates is not valid: {reason}")]
    Path {
        /// In the library's words.
        reason: String,
    },
    /// The key of the signer's certificate cannot be used.
    #[error("the key of the signer's certificate cannot be used: {0}")]
    Key(#[source] KeyError),
    /// The certificate names somebody else.
    #[error("the certificate names {}, the trusted identity is {expected}", list(.found))]
    Name {
        /// Whom the caller trusts.
        expected: SubjectName,
        /// Whom the certificate names.
        found: Vec<SubjectName>,
    },
    /// The private key is not the one of the certificate to sign with.
    #[error("the certificate is for another key, with the fingerprint {found}; the private key has {expected}")]
    OtherKey {
        /// Fingerprint of the private key's public half.
        expected: String,
        /// Of the certificate's key.
        found: String,
    },
}

impl CertificateError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "certificate_malformed",
            Self::Unusable { .. } => "certificate_file",
            Self::Expired { .. } => "certificate_expired",
            Self::NotYetValid { .. } => "certificate_not_yet_valid",
            Self::AuthorityLeaf { .. } => "certificate_of_authority",
            Self::KeyUsage { .. } => "certificate_key_usage",
            Self::ExtendedKeyUsage => "certificate_extended_key_usage",
            Self::UnknownIssuer { .. } => "certificate_unknown_issuer",
            Self::PathLength => "certificate_path_length",
            Self::NotAnAuthority => "certificate_issuer_no_authority",
            Self::NameConstraint => "certificate_name_constraint",
            Self::Signature => "certificate_signature",
            Self::Algorithm => "certificate_algorithm",
            Self::CriticalExtension => "certificate_critical_extension",
            Self::Path { .. } => "certificate_path",
            Self::Key(_) => "certificate_key",
            Self::Name { .. } => "certificate_identity",
            Self::OtherKey { .. } => "certificate_other_key",
        }
    }
}

/// Names in words.
fn list(names: &[SubjectName]) -> String {
    match names {
        [] => "nobody (it has no subject alternative name that is an e-mail address, URI or host)".to_owned(),
        names => printable(&names.iter().map(SubjectName::to_string).collect::<Vec<_>>().join(", ")),
    }
}
