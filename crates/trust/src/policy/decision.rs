//! The rule for one artifact, applied to its signatures.

use sentry_bundle::Bundle;
use sentry_manifest::printable;

use super::{ArtifactName, Policy, Rule, Violation};
use crate::sealed::Sealed;
use crate::statement::Facts;
use crate::verified::VerifiedSignature;
use crate::verifier::{DecidedBy, SingleSigner};
use crate::{Verifier, VerifyError};

/// What a policy asks for of one artifact. Verifies signatures as a key does, also several at once.
#[derive(Debug)]
pub struct Decision<'a> {
    policy: &'a Policy,
    rule: &'a Rule,
    artifact: ArtifactName,
}

impl<'a> Decision<'a> {
    pub(super) fn new(policy: &'a Policy, rule: &'a Rule, artifact: ArtifactName) -> Self {
        Self { policy, rule, artifact }
    }

    /// The rule.
    pub fn rule(&self) -> &'a Rule {
        self.rule
    }

    /// The artifact.
    pub fn artifact(&self) -> &ArtifactName {
        &self.artifact
    }

    /// For which of the rule's signers a signature counts, and what it is.
    fn signers_of(&self, number: usize, bundle: &Bundle) -> Result<(Vec<usize>, VerifiedSignature), VerifyError> {
        let (mut counts_for, mut verified, mut refused) = (Vec::new(), None, Vec::new());
        for (place, name) in self.rule.signers.iter().enumerate() {
            let Some(signer) = self.policy.signer(name) else {
                continue;
            };
            match signer.verify_one(bundle) {
                Ok(signature) => {
                    counts_for.push(place);
                    verified.get_or_insert(signature);
                }
                Err(error) => refused.push((name, error)),
            }
        }
        match verified {
            Some(signature) => Ok((counts_for, signature)),
            None => Err(self.nobodys(number, refused)),
        }
    }

    /// The error for a signature of none of the rule's signers: the one thing that is wrong where only one signer can be meant,
    /// a list otherwise.
    fn nobodys(&self, number: usize, mut refused: Vec<(&String, VerifyError)>) -> VerifyError {
        let reasons = refused.iter().map(|(name, error)| format!("{}: {error}", printable(name))).collect();
        // A signer of another method is not meant.
        refused.retain(|(_, error)| !matches!(error, VerifyError::Method { .. }));
        match (refused.pop(), refused.is_empty()) {
            (Some((_, only)), true) => only,
            _ => Violation::NotASigner { rule: printable(&self.rule.name), number, reasons }.into(),
        }
    }
}

impl Sealed for Decision<'_> {}

impl Verifier for Decision<'_> {
    fn verify(&self, bundles: &[Bundle]) -> Result<Vec<VerifiedSignature>, VerifyError> {
        let (mut signatures, mut counts_for) = (Vec::<VerifiedSignature>::new(), Vec::new());
        for (number, bundle) in (1..).zip(bundles) {
            let of_this = |error| VerifyError::of_signature(bundles.len(), number, error);
            let (signers, signature) = self.signers_of(number, bundle).map_err(of_this)?;
            if signatures.iter().any(|earlier| earlier.identity().is_same_signer(signature.identity())) {
                return Err(Violation::SignerTwice { identity: signature.identity().to_string() }.into());
            }
            signatures.push(signature);
            counts_for.push(signers);
        }
        let found = pair(&counts_for, self.rule.signers.len());
        // Whoever gives a signature means it to count; one that does not is a misunderstanding.
        if found < self.rule.threshold || found < bundles.len() {
            let signers = self.rule.signers.iter().map(|name| printable(name)).collect();
            return Err(Violation::Signers { rule: printable(&self.rule.name), needed: self.rule.threshold, found, signers }.into());
        }
        Ok(signatures)
    }

    fn accept(&self, statement: &Facts, signature: &VerifiedSignature) -> Result<(), VerifyError> {
        Ok(self.rule.accept(statement, signature)?)
    }

    fn decided_by(&self) -> Option<DecidedBy> {
        Some(DecidedBy { rule: self.rule.name.clone(), artifact: self.artifact.as_str().to_owned() })
    }
}

/// How many signers at most can be told to have signed, if each signature counts for one of those in its list and each signer
/// counts once (a maximum matching, by augmenting paths).
fn pair(counts_for: &[Vec<usize>], signers: usize) -> usize {
    fn place(signature: usize, counts_for: &[Vec<usize>], taken: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        for &signer in &counts_for[signature] {
            if std::mem::replace(&mut seen[signer], true) {
                continue;
            }
            if taken[signer].is_none_or(|other| place(other, counts_for, taken, seen)) {
                taken[signer] = Some(signature);
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; signers];
    (0..counts_for.len()).filter(|&signature| place(signature, counts_for, &mut taken, &mut vec![false; signers])).count()
}

#[cfg(test)]
mod tests {
    use super::pair;

    #[test]
    fn each_signature_and_each_signer_counts_once() {
        assert_eq!(pair(&[], 2), 0);
        assert_eq!(pair(&[vec![0], vec![0]], 2), 1, "two signatures that count for the same signer");
        assert_eq!(pair(&[vec![0, 1]], 2), 1, "one signature that counts for two");
        assert_eq!(pair(&[vec![0, 1], vec![0]], 2), 2, "the first makes room for the second");
        assert_eq!(pair(&[vec![0, 1], vec![1, 2], vec![0]], 3), 3);
        assert_eq!(pair(&[vec![0], vec![1], vec![0, 1]], 3), 2);
    }
}
