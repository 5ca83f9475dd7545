//! The method `certificate`: an X.509 certificate says whose key it is.
//!
//! What is checked, step by step; the code is labelled with the same numbers. 3a and 3b are checked by the webpki library
//! (RFC 5280, section 6.1), the rest here:
//!
//! 3. The chain of the bundle, the signer's certificate first:
//!    - a. it leads to a root that the caller trusts, over certificates that may issue others: signatures of allowed
//!      algorithms, validity, basic constraints, path lengths, name constraints, critical extensions
//!    - b. every certificate of the path may be used for code signing
//!    - c. the authorities may sign certificates, and the signer's certificate may sign data and is no authority
//!    - d. it names exactly the identity that the caller trusts, as a subject alternative name; the common name counts for
//!      nothing
//! 4. The signature holds under the certificate's key.
//!
//! The time of these checks is that of an authenticated timestamp, or now. It is never one that the certificate states.

mod authority_leaf;
mod error;
mod leaf;
mod name;
mod path;
#[cfg(test)]
mod pkits;
mod signer;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sentry_bundle::{Bundle, Material, pae};

pub use error::CertificateError;
pub use name::{SubjectName, SubjectNameError};
pub use path::Roots;
pub use signer::CertificateSigner;

use crate::sealed::Sealed;
use crate::timestamp::TimestampAuthorities;
use crate::verified::VerifiedSignature;
use crate::verifier::SingleSigner;
use crate::{SignatureError, VerifyError};
use leaf::{CODE_SIGNING, Leaf};

/// Whom a certificate has to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedName {
    /// Exactly this one.
    Exactly(SubjectName),
    /// Anyone to whom the roots, or those below them, gave a certificate. For private roots only.
    Any,
}

/// Trust in whoever has a certificate, from a trusted root, that names a trusted identity.
#[derive(Debug, Clone)]
pub struct TrustedCertificates {
    roots: Roots,
    name: ExpectedName,
    timestamps: Option<TimestampAuthorities>,
    allow_authority_leaf: bool,
}

impl TrustedCertificates {
    /// Trusts the holders of certificates under `roots` that have this name.
    pub fn new(roots: Roots, name: ExpectedName) -> Self {
        Self { roots, name, timestamps: None, allow_authority_leaf: false }
    }

    /// Also takes the time of a signature from timestamps of these authorities. A bundle's timestamps must all hold then.
    pub fn with_timestamps(mut self, authorities: TimestampAuthorities) -> Self {
        self.timestamps = Some(authorities);
        self
    }

    /// Options that give up a protection.
    pub fn dangerous(self) -> Dangerous {
        Dangerous(self)
    }
}

/// Options that give up a protection, from [`TrustedCertificates::dangerous`].
#[derive(Debug)]
pub struct Dangerous(TrustedCertificates);

impl Dangerous {
    /// Lets the signer's certificate be one of a certificate authority. Whoever holds its key can then both sign and make
    /// certificates for others. The samples of OpenSSF Model Signing are of this kind.
    pub fn allow_authority_leaf(mut self) -> TrustedCertificates {
        self.0.allow_authority_leaf = true;
        self.0
    }
}

impl TrustedCertificates {
    /// Whether another trust is in the same roots and name.
    pub(crate) fn trusts_the_same(&self, other: &Self) -> bool {
        self.roots.are_the_same(&other.roots) && self.name == other.name
    }
}

impl Sealed for TrustedCertificates {}

impl SingleSigner for TrustedCertificates {
    fn verify_one(&self, bundle: &Bundle) -> Result<VerifiedSignature, VerifyError> {
        // 2
        let Material::CertificateChain(chain) = &bundle.material else {
            return Err(VerifyError::Method { found: bundle.material.method(), expected: "certificate" });
        };
        let authorities = self.timestamps.as_ref();
        let timestamp = authorities.map_or(Ok(None), |authorities| authorities.verify(&bundle.timestamps, &bundle.signature))?;
        let time = timestamp.unwrap_or_else(Timestamp::now);
        // 3
        let (leaf, name) = self.check_chain(chain, time)?;
        // 4
        leaf.key.verify(&pae(&bundle.payload), &bundle.signature).map_err(|error| match error {
            SignatureError::Invalid { trusted, .. } => SignatureError::Invalid { trusted, hinted: None },
            other => other,
        })?;
        Ok(VerifiedSignature::new(leaf.identity(name), &bundle.payload, timestamp))
    }
}

impl TrustedCertificates {
    /// Step 3: the signer's certificate, and the name by which it is trusted.
    fn check_chain(&self, chain: &[Vec<u8>], time: Timestamp) -> Result<(Leaf, Option<SubjectName>), CertificateError> {
        let [first, others @ ..] = chain else {
            return Err(CertificateError::Malformed { which: 0, reason: "the chain is empty".to_owned() });
        };
        let leaf = Leaf::parse(first)?;
        let others: Vec<CertificateDer<'_>> = others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        // c, of the signer
        leaf.check_usage()?;
        // a to c
        match (leaf.is_authority, self.allow_authority_leaf) {
            (false, _) => self.roots.check_path(&CertificateDer::from(first.as_slice()), &others, &CODE_SIGNING, time)?,
            (true, true) => authority_leaf::check_path(&self.roots, &leaf, &others, time)?,
            (true, false) => return Err(CertificateError::AuthorityLeaf { subject: leaf.subject.clone() }),
        }
        // d
        let name = match &self.name {
            ExpectedName::Any => None,
            ExpectedName::Exactly(expected) if leaf.names.contains(expected) => Some(expected.clone()),
            ExpectedName::Exactly(expected) => {
                return Err(CertificateError::Name { expected: expected.clone(), found: leaf.names });
            }
        };
        Ok((leaf, name))
    }
}
