//! Who may sign what: rules from a file, written once and obeyed by every loader.
//!
//! ```text
//! artifact name ──first rule with a pattern for it──► Decision ──signatures──► who signed, and whether that is enough
//! ```
//!
//! The name is the caller's: what a signature says of its subject plays no part. An artifact without a rule is refused. The
//! format is in `docs/policy.md`.

mod decision;
mod error;
mod parse;
mod pattern;
mod rule;

use std::collections::BTreeMap;
use std::fmt;

use sentry_bundle::Bundle;

pub use decision::Decision;
pub use error::{PolicyError, Violation};
pub use parse::MAX_POLICY_BYTES;
pub use pattern::{ArtifactName, ArtifactNameError, Pattern};
pub use rule::Rule;

use crate::certificate::{SubjectName, TrustedCertificates};
use crate::sealed::Sealed;
use crate::timestamp::TimestampAuthorities;
use crate::verified::VerifiedSignature;
use crate::verifier::SingleSigner;
use crate::{PublicKey, TrustedKey, VerifyError};

/// Rules, and the signers that they name.
#[derive(Debug)]
pub struct Policy {
    signers: BTreeMap<String, PolicySigner>,
    /// In the order of the file, which decides: the first that matches.
    rules: Vec<Rule>,
}

/// A signer that rules can name.
#[derive(Debug)]
pub struct PolicySigner {
    method: Method,
    /// Whether the time of its signatures is authenticated.
    has_timestamps: bool,
    /// In words, for people.
    description: String,
}

#[derive(Debug)]
enum Method {
    Key {
        key: PublicKey,
        timestamps: Option<TimestampAuthorities>,
    },
    Certificates(Box<TrustedCertificates>),
    /// Can be named, and is not checked yet: no signature counts for it.
    Sigstore {
        identity: SubjectName,
        issuer: String,
    },
}

impl Policy {
    /// Reads a policy. `read` returns the bytes of a file that it names, which is relative to the policy's own.
    ///
    /// # Errors
    /// Any [`PolicyError`]: also of a policy that contradicts itself, or that has a rule which can never decide.
    pub fn parse(text: &str, read: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Self, PolicyError> {
        parse::parse(text, read)
    }

    /// The rule for an artifact: the first with a pattern that matches.
    ///
    /// # Errors
    /// [`Violation::NoRule`].
    pub fn decide(&self, artifact: &ArtifactName) -> Result<Decision<'_>, Violation> {
        let rule = self.rules.iter().find(|rule| rule.pattern_for(artifact).is_some());
        let rule = rule.ok_or_else(|| Violation::NoRule { artifact: artifact.to_string(), rules: self.rules.len() })?;
        Ok(Decision::new(self, rule, artifact.clone()))
    }

    /// All rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A signer by its name in the policy.
    pub fn signer(&self, name: &str) -> Option<&PolicySigner> {
        self.signers.get(name)
    }
}

impl fmt::Display for PolicySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl Sealed for PolicySigner {}

impl SingleSigner for PolicySigner {
    fn verify_one(&self, bundle: &Bundle) -> Result<VerifiedSignature, VerifyError> {
        match &self.method {
            Method::Key { key, timestamps: None } => TrustedKey::new(key).verify_one(bundle),
            Method::Key { key, timestamps: Some(authorities) } => TrustedKey::new(key).with_timestamps(authorities).verify_one(bundle),
            Method::Certificates(certificates) => certificates.verify_one(bundle),
            Method::Sigstore { .. } => match bundle.material.method() {
                "sigstore" => Err(VerifyError::SigstoreUnsupported),
                found => Err(VerifyError::Method { found, expected: "sigstore" }),
            },
        }
    }
}
