//! What can be wrong with a policy, and how an artifact can violate one.

use sentry_manifest::printable;

/// A policy that cannot be used. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, or with a key that policies do not have.
    #[error("the policy is malformed: {reason}")]
    Syntax {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A signer that cannot be used.
    #[error("signer \"{signer}\": {reason}")]
    Signer {
        /// Its name, escaped for printing.
        signer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule that names a signer which the policy does not have.
    #[error("rule \"{rule}\" names the signer \"{signer}\", and the policy has no [signer.{signer}]")]
    UnknownSigner {
        /// The rule, escaped for printing.
        rule: String,
        /// The signer, escaped for printing.
        signer: String,
    },
    /// A rule that contradicts itself, or asks for nothing.
    #[error("rule \"{rule}\": {reason}")]
    Rule {
        /// The rule, escaped for printing.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern that an earlier rule's covers, so that its rule never decides.
    #[error("rule \"{rule}\" never decides on \"{pattern}\": rule \"{earlier}\" stands before it and decides on \"{covering}\"")]
    Shadowed {
        /// The rule, escaped for printing.
        rule: String,
        /// Its pattern.
        pattern: String,
        /// The earlier rule, escaped for printing.
        earlier: String,
        /// Its pattern.
        covering: String,
    },
}

impl PolicyError {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "policy_syntax",
            Self::Signer { .. } => "policy_signer",
            Self::UnknownSigner { .. } => "policy_unknown_signer",
            Self::Rule { .. } => "policy_rule",
            Self::Shadowed { .. } => "policy_shadowed_rule",
        }
    }

    pub(super) fn rule(rule: &str, reason: impl Into<String>) -> Self {
        Self::Rule { rule: printable(rule), reason: reason.into() }
    }
}

/// What a policy asks for and an artifact does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// No rule is about the artifact. Nobody may sign it.
    #[error("the policy has no rule for \"{artifact}\" (looked at {rules})")]
    NoRule {
        /// The artifact, escaped for printing.
        artifact: String,
        /// How many rules there are.
        rules: usize,
    },
    /// Fewer signatures than the rule asks for.
    #[error("rule \"{rule}\" asks for {needed} of the signers {}, and {found} signed", .signers.join(", "))]
    Signers {
        /// The rule.
        rule: String,
        /// How many must sign.
        needed: usize,
        /// How many did.
        found: usize,
        /// Who may sign.
        signers: Vec<String>,
    },
    /// A signature of none of the rule's signers.
    #[error("signature {number} is of none of the signers that rule \"{rule}\" names: {}", .reasons.join("; "))]
    NotASigner {
        /// The rule.
        rule: String,
        /// Which of the signatures that were given, from 1.
        number: usize,
        /// For each signer, why it is not theirs.
        reasons: Vec<String>,
    },
    /// Two signatures of the same signer, which count once.
    #[error("{identity} made two of the signatures; each signer counts once")]
    SignerTwice {
        /// Who.
        identity: String,
    },
    /// Another kind of statement than the rule allows.
    #[error("rule \"{rule}\" is about {expected}, the signature is about {found}")]
    Statement {
        /// The rule.
        rule: String,
        /// The kinds that are allowed.
        expected: String,
        /// The kind found.
        found: &'static str,
    },
    /// A signature algorithm that the rule does not allow.
    #[error("rule \"{rule}\" allows signatures with {expected}, found {found}")]
    SignatureAlgorithm {
        /// The rule.
        rule: String,
        /// Those that are allowed.
        expected: String,
        /// The one found.
        found: &'static str,
    },
    /// A hash that the rule does not allow.
    #[error("rule \"{rule}\" allows digests with {expected}, found {found}")]
    Hash {
        /// The rule.
        rule: String,
        /// Those that are allowed.
        expected: String,
        /// The one found.
        found: String,
    },
    /// Another payload than the pinned ones.
    #[error("rule \"{rule}\" pins the signed payload to {expected}, found {found}")]
    Payload {
        /// The rule.
        rule: String,
        /// The pinned ones.
        expected: String,
        /// The one found.
        found: String,
    },
    /// Another content than the pinned ones.
    #[error("rule \"{rule}\" pins the root to {expected}, found {found}")]
    Root {
        /// The rule.
        rule: String,
        /// The pinned ones.
        expected: String,
        /// The one found.
        found: String,
    },
    /// An older version than the lowest that is allowed, or none.
    #[error("rule \"{rule}\" asks for version {lowest} or later, {}", .found.map_or("the signature states none".to_owned(), |found| format!("found {found}")))]
    Version {
        /// The rule.
        rule: String,
        /// The lowest version that is allowed.
        lowest: u64,
        /// The one stated.
        found: Option<u64>,
    },
    /// Signed before the time from which on signatures count, or without an authenticated time.
    #[error("rule \"{rule}\" asks for a signature after {after}, {}", .found.as_ref().map_or("this one has no timestamp".to_owned(), |found| format!("the timestamp is of {found}")))]
    SignedAfter {
        /// The rule.
        rule: String,
        /// That time.
        after: String,
        /// The authenticated time.
        found: Option<String>,
    },
    /// A dataset of other sources than exactly those that the rule names.
    #[error("rule \"{rule}\" asks for exactly the sources {expected}, found {found}")]
    Sources {
        /// The rule.
        rule: String,
        /// The sources that there must be.
        expected: String,
        /// Those that there are, escaped for printing.
        found: String,
    },
}

impl Violation {
    /// A stable name of this error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRule { .. } => "policy_no_rule",
            Self::Signers { .. } => "policy_signers",
            Self::NotASigner { .. } => "policy_not_a_signer",
            Self::SignerTwice { .. } => "policy_signer_twice",
            Self::Statement { .. } => "policy_statement",
            Self::SignatureAlgorithm { .. } => "policy_signature_algorithm",
            Self::Hash { .. } => "policy_hash",
            Self::Payload { .. } => "policy_payload",
            Self::Root { .. } => "policy_root",
            Self::Version { .. } => "policy_version",
            Self::SignedAfter { .. } => "policy_signed_after",
            Self::Sources { .. } => "policy_sources",
        }
    }
}
