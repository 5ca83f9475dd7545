//! From TOML to rules. What could not be meant is an error here, so that it is found when the policy is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sentry_bundle::limits::MAX_JSON_INTEGER;
use sentry_hash::{Algorithm, Digest};
use sentry_manifest::printable;
use serde::Deserialize;
use toml::value::Datetime;

use super::{Method, Pattern, Policy, PolicyError, PolicySigner, Rule};
use crate::certificate::{ExpectedName, Roots, SubjectName, TrustedCertificates};
use crate::timestamp::TimestampAuthorities;
use crate::{KeyAlgorithm, PublicKey, StatementKind};

/// Longest policy in bytes; one with a thousand rules takes about a tenth of this.
pub const MAX_POLICY_BYTES: usize = 1 << 20;

/// Most rules, and most signers: each artifact is compared with all patterns, each rule's with those before it.
const MAX_ENTRIES: usize = 1000;

/// The version of the format.
const FORMAT: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyToml {
    policy: u64,
    #[serde(default)]
    signer: BTreeMap<String, SignerToml>,
    #[serde(default)]
    rule: Vec<RuleToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignerToml {
    key: Option<String>,
    certificate_roots: Option<Vec<String>>,
    identity: Option<String>,
    #[serde(default)]
    any_identity: bool,
    issuer: Option<String>,
    timestamp_roots: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    name: Option<String>,
    artifacts: Vec<String>,
    signers: Vec<String>,
    threshold: Option<usize>,
    statements: Option<Vec<String>>,
    signature_algorithms: Option<Vec<String>>,
    hashes: Option<Vec<String>>,
    payload: Option<Vec<String>>,
    root: Option<Vec<String>>,
    lowest_version: Option<u64>,
    signed_after: Option<Datetime>,
    sources: Option<Vec<String>>,
}

type Read<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

pub(super) fn parse(text: &str, read: Read<'_>) -> Result<Policy, PolicyError> {
    let syntax = |reason: String| PolicyError::Syntax { reason };
    if text.len() > MAX_POLICY_BYTES {
        return Err(syntax(format!("it has {} bytes, at most {MAX_POLICY_BYTES} are allowed", text.len())));
    }
    let parsed: PolicyToml = toml::from_str(text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
    if parsed.policy != FORMAT {
        return Err(syntax(format!("policy = {} is another version of the format than {FORMAT}", parsed.policy)));
    }
    if parsed.rule.is_empty() {
        return Err(syntax("it has no [[rule]], so that nothing would ever be accepted".to_owned()));
    }
    if parsed.rule.len() > MAX_ENTRIES || parsed.signer.len() > MAX_ENTRIES {
        return Err(syntax(format!("it has more than {MAX_ENTRIES} rules or signers")));
    }
    let mut signers = BTreeMap::new();
    for (name, signer) in parsed.signer {
        let fail = |reason: String| PolicyError::Signer { signer: printable(&name), reason };
        let signer = signer.check(read).map_err(fail)?;
        check_not_twice(&name, &signer, &signers)?;
        signers.insert(name, signer);
    }
    let mut rules: Vec<Rule> = Vec::with_capacity(parsed.rule.len());
    for (number, rule) in parsed.rule.into_iter().enumerate() {
        let rule = rule.check(number + 1, &signers)?;
        if rules.iter().any(|earlier| earlier.name == rule.name) {
            return Err(PolicyError::rule(&rule.name, "another rule has the same name (one without a name is called by its number)"));
        }
        check_reachable(&rule, &rules)?;
        rules.push(rule);
    }
    Ok(Policy { signers, rules })
}

/// Two names for one signer would let it count twice.
fn check_not_twice(name: &str, signer: &PolicySigner, earlier: &BTreeMap<String, PolicySigner>) -> Result<(), PolicyError> {
    match earlier.iter().find(|(_, earlier)| earlier.is_same(signer)) {
        None => Ok(()),
        Some((other, _)) => {
            let reason = format!("it is the same as the signer \"{}\", and would count twice", printable(other));
            Err(PolicyError::Signer { signer: printable(name), reason })
        }
    }
}

/// The first rule that matches decides, so one behind a wider one never does.
fn check_reachable(rule: &Rule, earlier: &[Rule]) -> Result<(), PolicyError> {
    let mut before: Vec<(&Rule, &Pattern)> =
        earlier.iter().flat_map(|rule| rule.artifacts.iter().map(move |pattern| (rule, pattern))).collect();
    for pattern in &rule.artifacts {
        if let Some((covering, by)) = before.iter().find(|(_, earlier)| earlier.covers(pattern)) {
            return Err(PolicyError::Shadowed {
                rule: printable(&rule.name),
                pattern: pattern.to_string(),
                earlier: printable(&covering.name),
                covering: by.to_string(),
            });
        }
        before.push((rule, pattern));
    }
    Ok(())
}

impl PolicySigner {
    fn is_same(&self, other: &Self) -> bool {
        match (&self.method, &other.method) {
            (Method::Key { key, .. }, Method::Key { key: other, .. }) => key.to_pem() == other.to_pem(),
            (Method::Certificates(one), Method::Certificates(other)) => one.trusts_the_same(other),
            (Method::Sigstore { identity, issuer }, Method::Sigstore { identity: other, issuer: of }) => (identity, issuer) == (other, of),
            _ => false,
        }
    }
}

impl SignerToml {
    fn check(self, read: Read<'_>) -> Result<PolicySigner, String> {
        let read_all = |paths: &[String]| -> Result<Vec<Vec<u8>>, String> {
            if paths.is_empty() {
                return Err("a list of files is empty".to_owned());
            }
            paths.iter().map(|path| read(path)).collect()
        };
        let timestamps = match &self.timestamp_roots {
            None => None,
            Some(paths) => Some(TimestampAuthorities::from_pem(&read_all(paths)?).map_err(|error| format!("timestamp_roots: {error}"))?),
        };
        let has_timestamps = timestamps.is_some();
        let name = |text: &str| text.parse::<SubjectName>().map_err(|error| error.to_string());
        let (method, description) = match (self.key, self.certificate_roots, self.identity, self.any_identity, self.issuer) {
            (Some(path), None, None, false, None) => {
                let key = PublicKey::from_pem(&read(&path)?).map_err(|error| format!("\"{}\": {error}", printable(&path)))?;
                let description = format!("key {} ({})", key.fingerprint(), key.algorithm());
                (Method::Key { key, timestamps }, description)
            }
            (None, Some(paths), identity, any, None) => {
                let roots = Roots::from_pem(&read_all(&paths)?).map_err(|error| format!("certificate_roots: {error}"))?;
                let (expected, whom) = match (identity, any) {
                    (Some(text), false) => (ExpectedName::Exactly(name(&text)?), printable(&text)),
                    (None, true) => (ExpectedName::Any, "anyone".to_owned()),
                    (Some(_), true) => return Err("identity and any_identity contradict each other".to_owned()),
                    (None, false) => return Err("certificates need an identity, or any_identity = true with private roots".to_owned()),
                };
                let trusted = TrustedCertificates::new(roots, expected);
                let trusted = if let Some(timestamps) = timestamps { trusted.with_timestamps(timestamps) } else { trusted };
                let roots = paths.iter().map(|path| printable(path)).collect::<Vec<_>>().join(", ");
                (Method::Certificates(Box::new(trusted)), format!("{whom} with a certificate under {roots}"))
            }
            (None, None, Some(identity), false, Some(issuer)) => {
                let description =
                    format!("{} by Sigstore, issuer {} (not checked by this version)", printable(&identity), printable(&issuer));
                (Method::Sigstore { identity: name(&identity)?, issuer }, description)
            }
            _ => {
                return Err(
                    "it has a key, or certificate_roots with an identity (or any_identity = true), or the identity and issuer of a \
                            Sigstore signer, and not several of these"
                        .to_owned(),
                );
            }
        };
        Ok(PolicySigner { method, has_timestamps, description })
    }
}

impl RuleToml {
    fn check(self, number: usize, signers: &BTreeMap<String, PolicySigner>) -> Result<Rule, PolicyError> {
        let name = self.name.unwrap_or_else(|| number.to_string());
        let fail = |reason: String| PolicyError::rule(&name, reason);
        let artifacts: Vec<Pattern> = each("artifacts", &self.artifacts).map_err(fail)?;
        each::<String>("signers", &self.signers).map_err(fail)?;
        if let Some(unknown) = self.signers.iter().find(|signer| !signers.contains_key(*signer)) {
            return Err(PolicyError::UnknownSigner { rule: printable(&name), signer: printable(unknown) });
        }
        let threshold = self.threshold.unwrap_or(self.signers.len());
        if threshold == 0 || threshold > self.signers.len() {
            return Err(fail(format!("threshold = {threshold} of {} signers: it is from 1 to that number", self.signers.len())));
        }
        let statements: Vec<Kind> = optional("statements", self.statements.as_deref()).map_err(fail)?.unwrap_or_default();
        let statements: BTreeSet<StatementKind> =
            if self.statements.is_none() { StatementKind::ALL.into() } else { statements.into_iter().map(|Kind(kind)| kind).collect() };
        let algorithms: Option<Vec<SignatureAlgorithm>> =
            optional("signature_algorithms", self.signature_algorithms.as_deref()).map_err(fail)?;
        let hashes: Option<Vec<Hash>> = optional("hashes", self.hashes.as_deref()).map_err(fail)?;
        let payload: Option<Vec<Pin>> = optional("payload", self.payload.as_deref()).map_err(fail)?;
        let root: Option<Vec<Pin>> = optional("root", self.root.as_deref()).map_err(fail)?;
        if self.lowest_version.is_some_and(|version| version > MAX_JSON_INTEGER) {
            return Err(fail("lowest_version is at most 2^53 - 1".to_owned()));
        }
        let signed_after = self.signed_after.map(|time| instant(&time)).transpose().map_err(fail)?;
        let sources: Option<Vec<String>> = optional("sources", self.sources.as_deref()).map_err(fail)?;
        let rule = Rule {
            artifacts,
            signers: self.signers,
            threshold,
            statements,
            signature_algorithms: algorithms.map(|list| list.into_iter().map(|SignatureAlgorithm(algorithm)| algorithm).collect()),
            hashes: hashes.map(|list| list.into_iter().map(|Hash(hash)| hash).collect()),
            payload: payload.map(|list| list.into_iter().map(|Pin(digest)| digest).collect()),
            root: root.map(|list| list.into_iter().map(|Pin(digest)| digest).collect()),
            lowest_version: self.lowest_version,
            signed_after,
            sources: sources.map(BTreeSet::from_iter),
            name,
        };
        check_possible(&rule, signers)?;
        Ok(rule)
    }
}

/// A rule that no signature could ever meet is a mistake.
fn check_possible(rule: &Rule, signers: &BTreeMap<String, PolicySigner>) -> Result<(), PolicyError> {
    let fail = |reason: String| Err(PolicyError::rule(&rule.name, reason));
    for (name, signer) in rule.signers.iter().filter_map(|name| Some((name, signers.get(name)?))) {
        if rule.signed_after.is_some() && !signer.has_timestamps {
            return fail(format!(
                "signed_after needs an authenticated time, and the signer \"{}\" has no timestamp_roots",
                printable(name)
            ));
        }
        if let (Some(allowed), Method::Key { key, .. }) = (&rule.signature_algorithms, &signer.method)
            && !allowed.contains(&key.algorithm())
        {
            return fail(format!(
                "the signer \"{}\" signs with {}, which signature_algorithms leaves out",
                printable(name),
                key.algorithm()
            ));
        }
    }
    if rule.sources.is_some() && rule.statements != BTreeSet::from([StatementKind::Dataset]) {
        return fail("sources are those of a dataset: say statements = [\"dataset\"]".to_owned());
    }
    if rule.lowest_version.is_none() || rule.payload.is_none() {
        return Ok(());
    }
    fail("payload pins one content and lowest_version allows later ones: choose one".to_owned())
}

/// A list that is given has something in it, and nothing twice.
fn each<T: FromStr>(what: &str, texts: &[String]) -> Result<Vec<T>, String>
where
    T::Err: fmt::Display,
{
    if texts.is_empty() {
        return Err(format!("{what} = [] can never be met"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = texts.iter().find(|text| !seen.insert(*text)) {
        return Err(format!("{what} has \"{}\" twice", printable(twice)));
    }
    texts.iter().map(|text| text.parse().map_err(|error| format!("{what}: {error}"))).collect()
}

fn optional<T: FromStr>(what: &str, texts: Option<&[String]>) -> Result<Option<Vec<T>>, String>
where
    T::Err: fmt::Display,
{
    texts.map(|texts| each(what, texts)).transpose()
}

fn instant(time: &Datetime) -> Result<Timestamp, String> {
    let text = time.to_string();
    text.parse().map_err(|_| format!("signed_after = {text} is no instant: give date, time and offset, such as 2026-01-31T12:00:00Z"))
}

struct Kind(StatementKind);

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = StatementKind::ALL.into_iter().find(|kind| kind.name() == text);
        found.map(Self).ok_or_else(|| format!("\"{}\" is none of files, tensors, dataset", printable(text)))
    }
}

struct SignatureAlgorithm(KeyAlgorithm);

impl FromStr for SignatureAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = KeyAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        let names = || KeyAlgorithm::ALL.map(KeyAlgorithm::name).join(", ");
        found.map(Self).ok_or_else(|| format!("\"{}\" is none of {}", printable(text), names()))
    }
}

struct Hash(Algorithm);

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("\"{}\" is no hash", printable(text)))
    }
}

/// SHA-256 in lower-case hex.
struct Pin(Digest);

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let digest = bytes.and_then(|bytes| Digest::from_bytes(Algorithm::Sha256, &bytes).ok());
        digest.map(Self).ok_or_else(|| format!("\"{}\" is no SHA-256 in lower-case hex", printable(text)))
    }
}
