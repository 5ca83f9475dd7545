//! One rule: for which artifacts, whose signatures, and what they must say.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sentry_hash::{Algorithm, Digest};
use sentry_manifest::printable;

use super::{ArtifactName, Pattern, Violation};
use crate::statement::Facts;
use crate::verified::VerifiedSignature;
use crate::{KeyAlgorithm, StatementKind};

/// A rule. What it does not mention may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for messages.
    pub name: String,
    /// The artifacts that it is about.
    pub artifacts: Vec<Pattern>,
    /// The signers who may sign, by their names in the policy.
    pub signers: Vec<String>,
    /// How many of them must.
    pub threshold: usize,
    /// What the signature may be about.
    pub statements: BTreeSet<StatementKind>,
    /// Algorithms of signatures.
    pub signature_algorithms: Option<Vec<KeyAlgorithm>>,
    /// Algorithms of the digests of files, tensors or samples; with annotations, theirs as well.
    pub hashes: Option<Vec<Algorithm>>,
    /// SHA-256 of the signed payload, one of these.
    pub payload: Option<Vec<Digest>>,
    /// The subject's digest, one of these.
    pub root: Option<Vec<Digest>>,
    /// The lowest version.
    pub lowest_version: Option<u64>,
    /// The time after which a timestamp must be.
    pub signed_after: Option<Timestamp>,
    /// Exactly the sources of a dataset.
    pub sources: Option<BTreeSet<String>>,
}

impl Rule {
    /// The pattern by which this rule is about an artifact.
    pub fn pattern_for(&self, artifact: &ArtifactName) -> Option<&Pattern> {
        self.artifacts.iter().find(|pattern| pattern.matches(artifact))
    }

    /// Whether a signature says what this rule wants to hear.
    pub(super) fn accept(&self, facts: &Facts, signature: &VerifiedSignature) -> Result<(), Violation> {
        let rule = || printable(&self.name);
        if !self.statements.contains(&facts.kind) {
            let expected = list(self.statements.iter().map(|kind| kind.name()));
            return Err(Violation::Statement { rule: rule(), expected, found: facts.kind.name() });
        }
        let found = signature.identity().algorithm();
        if let Some(allowed) = self.signature_algorithms.as_ref().filter(|allowed| !allowed.contains(&found)) {
            let expected = list(allowed.iter().map(|algorithm| algorithm.name()));
            return Err(Violation::SignatureAlgorithm { rule: rule(), expected, found: found.name() });
        }
        if let Some(allowed) = &self.hashes
            && let Some(found) = facts.hashes.iter().find(|hash| !allowed.contains(hash))
        {
            let expected = list(allowed.iter().map(|algorithm| algorithm.name()));
            return Err(Violation::Hash { rule: rule(), expected, found: found.to_string() });
        }
        let found = signature.payload_sha256();
        if let Some(pinned) = self.payload.as_ref().filter(|pinned| !pinned.contains(&found)) {
            return Err(Violation::Payload { rule: rule(), expected: list(pinned.iter().map(Digest::to_hex)), found: found.to_hex() });
        }
        if let Some(pinned) = self.root.as_ref().filter(|pinned| !pinned.contains(&facts.root)) {
            return Err(Violation::Root { rule: rule(), expected: list(pinned.iter().map(Digest::to_hex)), found: facts.root.to_hex() });
        }
        if let Some(lowest) = self.lowest_version
            && facts.version.is_none_or(|version| version < lowest)
        {
            return Err(Violation::Version { rule: rule(), lowest, found: facts.version });
        }
        if let Some(after) = self.signed_after
            && signature.timestamp().is_none_or(|time| time <= after)
        {
            let found = signature.timestamp().map(|time| time.to_string());
            return Err(Violation::SignedAfter { rule: rule(), after: after.to_string(), found });
        }
        if let Some(sources) = self.sources.as_ref().filter(|sources| **sources != facts.sources) {
            let names = |sources: &BTreeSet<String>| list(sources.iter().map(|name| printable(name)));
            return Err(Violation::Sources { rule: rule(), expected: names(sources), found: names(&facts.sources) });
        }
        Ok(())
    }
}

/// Some of which one will do, or which there must be, in words.
fn list<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<T> = items.collect();
    let texts: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
