//! Project Wycheproof: edge cases of signatures and of public keys, through the public interface alone.
//!
//! Each test says how many cases it ran and how each kind was refused, so that a set that shrinks shows.

use sentry_trust::{KeyAlgorithm, KeyError, PublicKey, SignatureError};
use wycheproof::ecdh::TestFlag;
use wycheproof::ecdsa::TestName;
use wycheproof::{TestResult, dsa, ecdh, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

/// A key, as DER and PEM, and its cases.
struct Group {
    der: Vec<u8>,
    pem: String,
    cases: Vec<Case>,
}

struct Case {
    id: usize,
    message: Vec<u8>,
    signature: Vec<u8>,
    expected: TestResult,
}

/// How many signatures were accepted, and how many were refused with each error.
#[derive(Debug, Default, PartialEq)]
struct Verdicts {
    keys: usize,
    accepted: usize,
    encoding: usize,
    scalar: usize,
    invalid: usize,
}

impl Verdicts {
    fn count(&mut self, verdict: Result<(), SignatureError>) {
        *match verdict {
            Ok(()) => &mut self.accepted,
            Err(SignatureError::Encoding { .. }) => &mut self.encoding,
            Err(SignatureError::Scalar { .. }) => &mut self.scalar,
            Err(SignatureError::Invalid { .. }) => &mut self.invalid,
            Err(other) => panic!("{other:?} is not about a signature's bytes"),
        } += 1;
    }
}

// The groups of the sets for ECDSA and for EdDSA are alike, but types of their own.
macro_rules! groups {
    ($set:expr) => {{
        let case = |test| {
            let Test { tc_id, msg, sig, result, .. } = test;
            Case { id: tc_id, message: msg.to_vec(), signature: sig.to_vec(), expected: result }
        };
        let group =
            |group: TestGroup| Group { der: group.der.to_vec(), pem: group.pem, cases: group.tests.into_iter().map(case).collect() };
        $set.unwrap().test_groups.into_iter().map(group).collect()
    }};
}

fn ecdsa(name: TestName) -> Vec<Group> {
    use ecdsa::{Test, TestGroup, TestSet};
    groups!(TestSet::load(name))
}

fn ed25519() -> Vec<Group> {
    use eddsa::{Test, TestGroup, TestName, TestSet};
    groups!(TestSet::load(TestName::Ed25519))
}

/// Reads every key and checks every signature. Not one verdict may differ from Wycheproof's, and none is left to us.
fn verdicts(algorithm: KeyAlgorithm, groups: &[Group]) -> Verdicts {
    let mut verdicts = Verdicts { keys: groups.len(), ..Verdicts::default() };
    let mut disagreements = Vec::new();
    for group in groups {
        let key = PublicKey::from_spki(&group.der).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.fingerprint(), PublicKey::from_pem(group.pem.as_bytes()).unwrap().fingerprint());
        for case in &group.cases {
            let verdict = key.verify_message(&case.message, &case.signature);
            match (case.expected, &verdict) {
                (TestResult::Valid, Ok(())) | (TestResult::Invalid, Err(_)) => {}
                (expected, found) => disagreements.push(format!("case {}: {expected:?}, {found:?}", case.id)),
            }
            verdicts.count(verdict);
        }
    }
    assert!(disagreements.is_empty(), "{disagreements:#?}");
    verdicts
}

#[test]
fn ecdsa_p256_sha256() {
    let verdicts = verdicts(KeyAlgorithm::EcdsaP256Sha256, &ecdsa(TestName::EcdsaSecp256r1Sha256));
    assert_eq!(verdicts, Verdicts { keys: 113, accepted: 174, encoding: 219, scalar: 68, invalid: 23 });
}

#[test]
fn ecdsa_p384_sha384() {
    let verdicts = verdicts(KeyAlgorithm::EcdsaP384Sha384, &ecdsa(TestName::EcdsaSecp384r1Sha384));
    assert_eq!(verdicts, Verdicts { keys: 105, accepted: 194, encoding: 219, scalar: 68, invalid: 23 });
}

#[test]
fn ecdsa_p521_sha512() {
    let verdicts = verdicts(KeyAlgorithm::EcdsaP521Sha512, &ecdsa(TestName::EcdsaSecp521r1Sha512));
    assert_eq!(verdicts, Verdicts { keys: 108, accepted: 232, encoding: 218, scalar: 67, invalid: 25 });
}

#[test]
fn ed25519_signatures() {
    let verdicts = verdicts(KeyAlgorithm::Ed25519, &ed25519());
    assert_eq!(verdicts, Verdicts { keys: 78, accepted: 88, encoding: 12, scalar: 17, invalid: 34 });
}

/// What our keys make of signatures that are valid under other rules.
fn verdicts_of_valid(names: &[TestName]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for group in names.iter().flat_map(|name| ecdsa(*name)) {
        let key = PublicKey::from_spki(&group.der).unwrap();
        verdicts.keys += 1;
        for case in group.cases.iter().filter(|case| case.expected == TestResult::Valid) {
            verdicts.count(key.verify_message(&case.message, &case.signature));
        }
    }
    verdicts
}

#[test]
fn valid_signatures_with_another_hash_are_refused() {
    let verdicts = verdicts_of_valid(&[
        TestName::EcdsaSecp256r1Sha512,
        TestName::EcdsaSecp256r1Sha3_256,
        TestName::EcdsaSecp256r1Sha3_512,
        TestName::EcdsaSecp256r1Shake128,
        TestName::EcdsaSecp384r1Sha256,
        TestName::EcdsaSecp384r1Sha512,
        TestName::EcdsaSecp384r1Sha3_384,
        TestName::EcdsaSecp384r1Sha3_512,
        TestName::EcdsaSecp384r1Shake256,
        TestName::EcdsaSecp521r1Sha3_512,
        TestName::EcdsaSecp521r1Shake256,
    ]);
    assert_eq!(verdicts, Verdicts { keys: 1121, accepted: 0, encoding: 0, scalar: 0, invalid: 2363 });
}

#[test]
fn valid_signatures_in_raw_encoding_are_refused() {
    let raw = [TestName::EcdsaSecp256r1Sha256P1363, TestName::EcdsaSecp384r1Sha384P1363, TestName::EcdsaSecp521r1Sha512P1363];
    assert_eq!(verdicts_of_valid(&raw), Verdicts { keys: 323, accepted: 0, encoding: 597, scalar: 0, invalid: 0 });
}

/// How many public keys were accepted, and how many were refused with each error.
#[derive(Debug, Default, PartialEq)]
struct Keys {
    accepted: usize,
    malformed: usize,
    curve: usize,
    explicit: usize,
    point: usize,
    unsupported: usize,
    rsa: usize,
}

impl Keys {
    fn count(&mut self, key: &Result<PublicKey, KeyError>) {
        *match key {
            Ok(_) => &mut self.accepted,
            Err(KeyError::Pem { .. }) => &mut self.malformed,
            Err(KeyError::CurveNotAllowed { .. }) => &mut self.curve,
            Err(KeyError::ExplicitCurveParameters) => &mut self.explicit,
            Err(KeyError::PointNotOnCurve { .. }) => &mut self.point,
            Err(KeyError::Unsupported { .. }) => &mut self.unsupported,
            Err(KeyError::Rsa) => &mut self.rsa,
            Err(other) => panic!("{other:?} is not about a public key"),
        } += 1;
    }
}

/// The public keys of the sets for key agreement: invalid curves, spelled-out curves, mangled DER.
fn keys(algorithm: KeyAlgorithm, name: ecdh::TestName) -> Keys {
    let mut keys = Keys::default();
    for test in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
        let key = PublicKey::from_spki(&test.public_key);
        assert!(is_expected(algorithm, &test, &key), "case {}, {}: {key:?}", test.tc_id, test.comment);
        keys.count(&key);
    }
    keys
}

fn is_expected(algorithm: KeyAlgorithm, test: &ecdh::Test, key: &Result<PublicKey, KeyError>) -> bool {
    let has = |flag| test.flags.contains(&flag);
    match key {
        // A key on another of our curves is bad for that agreement only.
        Ok(key) if has(TestFlag::WrongCurve) || has(TestFlag::ModifiedGroup) => key.algorithm() != algorithm,
        Ok(key) => key.algorithm() == algorithm && (test.result == TestResult::Valid || has(TestFlag::CompressedPublic)),
        Err(KeyError::ExplicitCurveParameters) => has(TestFlag::UnnamedCurve),
        Err(KeyError::CurveNotAllowed { .. }) => has(TestFlag::WrongCurve) || has(TestFlag::ModifiedGroup) || has(TestFlag::InvalidAsn),
        Err(KeyError::PointNotOnCurve { .. }) => test.result == TestResult::Invalid || has(TestFlag::InvalidAsn),
        Err(_) => has(TestFlag::InvalidAsn),
    }
}

#[test]
fn p256_keys() {
    let keys = keys(KeyAlgorithm::EcdsaP256Sha256, ecdh::TestName::EcdhSecp256r1);
    assert_eq!(keys, Keys { accepted: 333, malformed: 192, curve: 28, explicit: 14, point: 32, unsupported: 13, rsa: 0 });
}

#[test]
fn p384_keys() {
    let keys = keys(KeyAlgorithm::EcdsaP384Sha384, ecdh::TestName::EcdhSecp384r1);
    assert_eq!(keys, Keys { accepted: 775, malformed: 191, curve: 27, explicit: 14, point: 26, unsupported: 14, rsa: 0 });
}

#[test]
fn p521_keys() {
    let keys = keys(KeyAlgorithm::EcdsaP521Sha512, ecdh::TestName::EcdhSecp521r1);
    assert_eq!(keys, Keys { accepted: 636, malformed: 189, curve: 27, explicit: 14, point: 36, unsupported: 14, rsa: 0 });
}

fn count_all(keys: impl IntoIterator<Item = Vec<u8>>) -> Keys {
    let mut counts = Keys::default();
    keys.into_iter().for_each(|der| counts.count(&PublicKey::from_spki(&der)));
    counts
}

#[test]
fn keys_on_other_curves_are_refused() {
    let names = [
        TestName::EcdsaSecp256k1Sha256,
        TestName::EcdsaSecp224r1Sha256,
        TestName::EcdsaSecp192r1Sha256,
        TestName::EcdsaSecp160r1Sha256,
        TestName::EcdsaBrainpool256r1Sha256,
        TestName::EcdsaBrainpool384r1Sha384,
        TestName::EcdsaBrainpool512r1Sha512,
    ];
    let counts = count_all(names.into_iter().flat_map(ecdsa).map(|group| group.der));
    assert_eq!(counts, Keys { curve: 736, ..Keys::default() });
}

#[test]
fn keys_of_other_algorithms_are_refused() {
    let rsa = rsa_pkcs1_verify::TestSet::load(rsa_pkcs1_verify::TestName::Rsa2048Sha256).unwrap().test_groups;
    assert_eq!(count_all(rsa.into_iter().map(|group| group.der.to_vec())), Keys { rsa: 3, ..Keys::default() });

    let pss = rsa_pss_verify::TestSet::load(rsa_pss_verify::TestName::RsaPss2048Sha256Mgf1SaltLen32WithParams).unwrap().test_groups;
    assert_eq!(count_all(pss.into_iter().map(|group| group.der.to_vec())), Keys { unsupported: 1, ..Keys::default() });

    let dsa = dsa::TestSet::load(dsa::TestName::Dsa2048_256Sha256).unwrap().test_groups;
    assert_eq!(count_all(dsa.into_iter().map(|group| group.der.to_vec())), Keys { unsupported: 20, ..Keys::default() });

    let ed448 = eddsa::TestSet::load(eddsa::TestName::Ed448).unwrap().test_groups;
    assert_eq!(count_all(ed448.into_iter().map(|group| group.der.to_vec())), Keys { unsupported: 15, ..Keys::default() });
}
