//! Policies.

use sentry_trust::{ArtifactName, Pattern, Policy};

const KEY: &[u8] = include_bytes!("../../keys/p256.pub");
const ROOT: &[u8] = include_bytes!("../../../vectors/oms/historical/keys/certificate/ca-cert.pem");

pub fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let read = |name: &str| match name {
        "root.pem" => Ok(ROOT.to_vec()),
        "key.pub" => Ok(KEY.to_vec()),
        _ => Err("no such file".to_owned()),
    };
    let Ok(policy) = Policy::parse(text, &read) else { return false };
    for rule in policy.rules() {
        assert!((1..=rule.signers.len()).contains(&rule.threshold), "a rule that can be met by nobody, or not at all");
        assert!(rule.signers.iter().all(|signer| policy.signer(signer).is_some()), "a rule of signers that there are not");
        for pattern in &rule.artifacts {
            decides(&policy, pattern);
        }
    }
    true
}

/// A name that a pattern matches is decided by its rule or an earlier one.
fn decides(policy: &Policy, pattern: &Pattern) {
    let text = pattern.to_string();
    // Printing escapes some letters, which makes another name of it.
    let Ok(name) = text.replace("**", "a").replace('*', "").parse::<ArtifactName>() else { return };
    if pattern.matches(&name) {
        assert!(policy.decide(&name).is_ok(), "{text} matches {name}, and no rule decides");
    }
}
