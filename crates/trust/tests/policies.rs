//! Policies through what the library offers: each way in which one can be wrong, and each way to violate one, with a policy that
//! differs from a good one in one line.

#[allow(dead_code, reason = "other test programs use the rest")]
mod common;
mod pki;

use std::collections::BTreeMap;

use pki::{Clock, Holder, Template};
use sentry_bundle::{DatasetStatement, Statement, TensorsStatement};
use sentry_hash::Algorithm;
use sentry_hash::lattice::{Entry, SampleDigest, SourceTag, State};
use sentry_manifest::safetensors::Dtype;
use sentry_manifest::{
    DatasetField, DatasetManifest, IdRule, Manifest, Resource, ResourcePath, Serialization, Source, TensorDigest, TensorManifest,
};
use sentry_trust::{
    ArtifactName, CertificateSigner, KeyAlgorithm, MAX_POLICY_BYTES, Policy, PolicyError, PrivateKey, Signable, SignedStatement, Signer,
    StatementKind, Timestamper, UnverifiedBundle, Verified, VerifyError, sign, verify_together,
};

/// Signers, and the files that policies name.
struct World {
    alice: PrivateKey,
    bob: PrivateKey,
    carol: PrivateKey,
    root: Holder,
    holder: Holder,
    time_root: Holder,
    clock: Holder,
}

impl World {
    fn new() -> Self {
        let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256).unwrap();
        let root = Holder::root(&Template::authority("root"));
        let holder = root.issue(&Template::signer("holder"));
        let time_root = Holder::root(&Template::authority("time root"));
        let clock = time_root.issue(&Template::clock("clock"));
        let carol = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
        Self { alice: key(), bob: key(), carol, root, holder, time_root, clock }
    }

    fn files(&self) -> BTreeMap<&'static str, Vec<u8>> {
        let public = |key: &PrivateKey| key.public().to_pem().as_bytes().to_vec();
        BTreeMap::from([
            ("alice.pub", public(&self.alice)),
            ("alice-again.pub", public(&self.alice)),
            ("bob.pub", public(&self.bob)),
            ("carol.pub", public(&self.carol)),
            ("alice.pem", self.alice.to_pem(None).unwrap().as_bytes().to_vec()),
            ("root.pem", self.root.pem()),
            ("holder.pem", self.holder.pem()),
            ("time-root.pem", self.time_root.pem()),
        ])
    }

    fn parse(&self, text: &str) -> Result<Policy, PolicyError> {
        let files = self.files();
        Policy::parse(text, &|name| files.get(name).cloned().ok_or_else(|| format!("\"{name}\" is not there")))
    }

    fn clock(&self, time: &'static str) -> Clock<'_> {
        Clock::new(&self.clock, &self.time_root.name, time)
    }
}

const SIGNERS: &str = r#"
policy = 1
[signer.alice]
key = "alice.pub"
timestamp_roots = ["time-root.pem"]
[signer.bob]
key = "bob.pub"
[signer.carol]
key = "carol.pub"
[signer.holder]
certificate_roots = ["root.pem"]
identity = "release@acme.example"
[signer.anyone]
certificate_roots = ["root.pem"]
any_identity = true
[signer.cloud]
identity = "https://git.example/acme/build.yml"
issuer = "https://token.example"
"#;

fn rule(lines: &str) -> String {
    format!("{SIGNERS}\n[[rule]]\nname = \"r\"\nartifacts = [\"acme/*\"]\n{lines}\n")
}

fn manifest(content: &[u8]) -> Manifest {
    let path = ResourcePath::new("weights.bin").unwrap();
    let resource = Resource { path, shard: None, digest: Algorithm::Sha256.digest(content), annotation: None };
    Manifest::new(Serialization::default(), vec![resource]).unwrap()
}

fn statement() -> Statement {
    Statement { subject: "model".to_owned(), version: Some(3), manifest: manifest(b"weights") }
}

fn tensors() -> TensorsStatement {
    let digest = Algorithm::Blake3.digest(&[0; 4]);
    let tensor = TensorDigest { name: "w".to_owned(), dtype: Dtype::from_name("F32").unwrap(), shape: vec![1], digest };
    TensorsStatement::new("model".to_owned(), None, TensorManifest::new(Algorithm::Blake3, vec![tensor]).unwrap())
}

fn dataset(sources: &[&str]) -> DatasetStatement {
    let source = |name: &&str| {
        let mut state = State::new();
        let digest = SampleDigest::of_record(b"record");
        state.add(&SourceTag::new(name).unwrap(), &Entry { id: 1, digest }).unwrap();
        Source { name: (*name).to_owned(), state, table: None, statement: None }
    };
    let fields = vec![DatasetField { name: "text".to_owned(), arrow_type: "utf8".to_owned() }];
    let sources = sources.iter().map(source).collect();
    DatasetStatement { manifest: DatasetManifest::new("data".to_owned(), None, fields, IdRule::Path, sources).unwrap() }
}

fn signed<S: Signable>(statement: &S, signer: &dyn Signer, timestamper: Option<&dyn Timestamper>) -> String {
    sign(statement, signer, timestamper).unwrap()
}

fn decide<S: SignedStatement>(policy: &Policy, bundles: &[&str]) -> Result<Verified<S>, VerifyError> {
    let artifact: ArtifactName = "acme/model".parse().unwrap();
    let decision = policy.decide(&artifact)?;
    assert_eq!((decision.rule().name.as_str(), decision.artifact()), ("r", &artifact));
    verify_together(bundles.iter().map(|text| UnverifiedBundle::parse(text.as_bytes()).unwrap()).collect(), &decision)
}

/// The code of the error, or `verified`.
fn outcome<S: SignedStatement>(world: &World, lines: &str, bundles: &[&str]) -> &'static str {
    let policy = world.parse(&rule(lines)).unwrap_or_else(|error| panic!("{lines}: {error}"));
    match decide::<S>(&policy, bundles) {
        Ok(verified) => {
            let decided_by = verified.decided_by().unwrap();
            assert_eq!((decided_by.rule.as_str(), decided_by.artifact.as_str()), ("r", "acme/model"));
            assert_eq!(verified.signatures().len(), bundles.len());
            "verified"
        }
        Err(error) => error.code(),
    }
}

// Policies that cannot be meant

#[test]
fn a_policy_that_is_read_otherwise_than_it_was_meant() {
    let world = World::new();
    let good = rule("signers = [\"alice\"]");
    world.parse(&good).unwrap();
    let code = |text: &str| world.parse(text).map_or_else(|error| error.code(), |_| "read");
    for text in [
        String::new(),
        SIGNERS.to_owned(),
        good.replace("policy = 1", ""),
        good.replace("policy = 1", "policy = 2"),
        good.replace("policy = 1", "policy = \"1\""),
        good.replace("artifacts", "artefacts"),
        good.replace("[[rule]]", "[rule]"),
        good.replace("key = \"bob.pub\"", "key = \"bob.pub\"\nkey = \"alice.pub\""),
        good.replace("[signer.bob]", "[signer.alice]"),
        format!("{good}treshold = 1\n"),
        format!("{good}signed_after = \"yesterday\"\n"),
        format!("{good}{}", "#".repeat(MAX_POLICY_BYTES)),
        format!("{good}{}", "[[rule]]\nartifacts = [\"x\"]\nsigners = [\"alice\"]\n".repeat(1000)),
    ] {
        assert_eq!(code(&text), "policy_syntax", "{}", &text[text.len().saturating_sub(120)..]);
    }
}

#[test]
fn a_signer_that_is_nobody_or_somebody_twice() {
    let world = World::new();
    let signer = |lines: &str| format!("{}\n[signer.dave]\n{lines}\n", rule("signers = [\"alice\"]"));
    for lines in [
        "",
        "key = \"missing.pub\"",
        "key = \"alice.pem\"",
        "key = \"root.pem\"",
        "key = \"alice-again.pub\"",
        "key = \"carol.pub\"\nidentity = \"a@acme.example\"",
        "certificate_roots = [\"root.pem\"]",
        "certificate_roots = []\nany_identity = true",
        "certificate_roots = [\"holder.pem\"]\nany_identity = true",
        "certificate_roots = [\"alice.pub\"]\nany_identity = true",
        "certificate_roots = [\"root.pem\"]\nidentity = \"a@acme.example\"\nany_identity = true",
        "certificate_roots = [\"root.pem\"]\nidentity = \"*@acme.example\\n\"",
        "certificate_roots = [\"root.pem\"]\nidentity = \"release@acme.example\"",
        "certificate_roots = [\"root.pem\"]\nany_identity = true",
        "identity = \"a@acme.example\"",
        "issuer = \"https://token.example\"",
        "any_identity = true",
        "identity = \"https://git.example/acme/build.yml\"\nissuer = \"https://token.example\"",
        "key = \"carol.pub\"\ntimestamp_roots = []",
        "key = \"carol.pub\"\ntimestamp_roots = [\"holder.pem\"]",
    ] {
        match world.parse(&signer(lines)) {
            Err(error @ PolicyError::Signer { .. }) => assert_eq!(error.code(), "policy_signer"),
            other => panic!("{lines}: {other:?}"),
        }
    }
}

#[test]
fn a_rule_that_contradicts_itself() {
    let world = World::new();
    let pin = "0".repeat(64);
    for lines in [
        "signers = []".to_owned(),
        "signers = [\"alice\", \"alice\"]".to_owned(),
        "signers = [\"alice\"]\nthreshold = 0".to_owned(),
        "signers = [\"alice\"]\nthreshold = 2".to_owned(),
        "signers = [\"alice\"]\nstatements = []".to_owned(),
        "signers = [\"alice\"]\nstatements = [\"model\"]".to_owned(),
        "signers = [\"alice\"]\nsignature_algorithms = [\"rsa\"]".to_owned(),
        "signers = [\"alice\"]\nsignature_algorithms = [\"ed25519\"]".to_owned(),
        "signers = [\"alice\"]\nhashes = [\"md5\"]".to_owned(),
        format!("signers = [\"alice\"]\npayload = [\"{}\"]", &pin[1..]),
        format!("signers = [\"alice\"]\nroot = [\"{}\"]", pin.replace('0', "A")),
        format!("signers = [\"alice\"]\npayload = [\"{pin}\"]\nlowest_version = 2"),
        format!("signers = [\"alice\"]\nlowest_version = {}", 1u64 << 53),
        "signers = [\"alice\"]\nsigned_after = 2026-06-01".to_owned(),
        "signers = [\"bob\"]\nsigned_after = 2026-06-01T00:00:00Z".to_owned(),
        "signers = [\"alice\"]\nsources = [\"wikipedia\"]".to_owned(),
        "signers = [\"alice\"]\nstatements = [\"dataset\"]\nsources = []".to_owned(),
    ] {
        match world.parse(&rule(&lines)) {
            Err(error @ PolicyError::Rule { .. }) => assert_eq!(error.code(), "policy_rule"),
            other => panic!("{lines}: {other:?}"),
        }
    }
}

#[test]
fn a_rule_for_an_unknown_signer_or_one_that_never_decides() {
    let world = World::new();
    let text = rule("signers = [\"alice\", \"mallory\"]");
    let unknown = PolicyError::UnknownSigner { rule: "r".to_owned(), signer: "mallory".to_owned() };
    assert_eq!(world.parse(&text).unwrap_err(), unknown);
    assert_eq!(unknown.code(), "policy_unknown_signer");
    let behind = |pattern: &str| {
        format!("{}\n[[rule]]\nname = \"s\"\nartifacts = [\"{pattern}\"]\nsigners = [\"alice\"]\n", rule("signers = [\"bob\"]"))
    };
    for pattern in ["acme/model", "acme/*", "acme/m*"] {
        match world.parse(&behind(pattern)) {
            Err(error @ PolicyError::Shadowed { .. }) => assert_eq!(error.code(), "policy_shadowed_rule"),
            other => panic!("{pattern}: {other:?}"),
        }
    }
    for pattern in ["acme/**", "*/model", "acme"] {
        world.parse(&behind(pattern)).unwrap();
    }
}

// Artifacts that violate a policy

#[test]
fn an_artifact_that_no_rule_is_about() {
    let world = World::new();
    let policy = world.parse(&rule("signers = [\"alice\"]")).unwrap();
    for name in ["acme", "acme/model/v2", "evil/acme/model", "acme-evil/model", "Acme/model"] {
        assert_eq!(policy.decide(&name.parse().unwrap()).unwrap_err().code(), "policy_no_rule");
    }
    assert_eq!(policy.decide(&"acme/model".parse().unwrap()).unwrap().rule(), &policy.rules()[0]);
    assert!(policy.signer("alice").is_some() && policy.signer("mallory").is_none());
}

#[test]
fn a_signature_that_counts_for_nobody_or_twice() {
    let world = World::new();
    let bundle = |key: &PrivateKey| signed(&statement(), key, None);
    let (alice, bob, carol) = (bundle(&world.alice), bundle(&world.bob), bundle(&world.carol));
    let stranger = bundle(&PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256).unwrap());
    let outcome = |lines: &str, bundles: &[&str]| outcome::<Statement>(&world, lines, bundles);
    let all = "signers = [\"alice\", \"bob\", \"carol\"]\nthreshold = 2";
    assert_eq!(outcome(all, &[&alice, &bob]), "verified");
    assert_eq!(outcome(all, &[&carol, &alice]), "verified");
    assert_eq!(outcome(all, &[&alice, &bob, &carol]), "verified");
    assert_eq!(outcome(all, &[&alice]), "policy_signers");
    assert_eq!(outcome(all, &[]), "policy_signers");
    assert_eq!(outcome(all, &[&alice, &alice]), "policy_signer_twice");
    assert_eq!(outcome(all, &[&alice, &bundle(&world.alice)]), "policy_signer_twice");
    assert_eq!(outcome(all, &[&alice, &stranger]), "policy_not_a_signer");
    assert_eq!(outcome(all, &[&alice, &bob, &stranger]), "policy_not_a_signer", "not even one too many");
    assert_eq!(outcome("signers = [\"alice\", \"bob\"]", &[&alice]), "policy_signers", "all by default");
    assert_eq!(outcome("signers = [\"alice\"]", &[&bob]), "signature_invalid", "only one can be meant");
}

#[test]
fn a_certificate_that_counts_for_two_signers() {
    let world = World::new();
    let key = world.holder.key.private();
    let by_certificate = CertificateSigner::new(&key, &world.holder.pem(), &[], false).unwrap();
    let bundle = signed(&statement(), &by_certificate, None);
    let other = world.root.issue(&Template::signer("other").with(pki::names(&[(pki::EMAIL, b"other@acme.example")])));
    let other_key = other.key.private();
    let of_other = signed(&statement(), &CertificateSigner::new(&other_key, &other.pem(), &[], false).unwrap(), None);
    let outcome = |lines: &str, bundles: &[&str]| outcome::<Statement>(&world, lines, bundles);
    assert_eq!(outcome("signers = [\"holder\"]", &[&bundle]), "verified");
    assert_eq!(outcome("signers = [\"holder\"]", &[&of_other]), "certificate_identity");
    let both = "signers = [\"holder\", \"anyone\"]";
    assert_eq!(outcome(both, &[&bundle]), "policy_signers");
    assert_eq!(outcome(both, &[&bundle, &bundle]), "policy_signer_twice");
    assert_eq!(outcome(both, &[&bundle, &of_other]), "verified");
    assert_eq!(outcome(both, &[&of_other, &bundle]), "verified", "in any order");
    // Enough signed, and one signature more than there are signers for.
    let one = "signers = [\"anyone\", \"alice\"]\nthreshold = 1";
    assert_eq!(outcome(one, &[&bundle]), "verified");
    assert_eq!(outcome(one, &[&bundle, &of_other]), "policy_signers");
    // A new key and the same name are the same signer.
    let renewed = world.root.issue(&Template::signer("holder"));
    let renewed_key = renewed.key.private();
    let again = signed(&statement(), &CertificateSigner::new(&renewed_key, &renewed.pem(), &[], false).unwrap(), None);
    assert_eq!(outcome(both, &[&bundle, &again]), "policy_signer_twice");
    // The bare key, and a certificate for it.
    let text = rule("signers = [\"bob\", \"anyone\"]");
    let der = Template::signer("bob").with(pki::names(&[])).issue(&pki::spki_of(&world.bob), &world.root.name, &world.root.key);
    let certified = CertificateSigner::new(&world.bob, &pki::certificates(&[&der]), &[], false).unwrap();
    let bundles = [signed(&statement(), &world.bob, None), signed(&statement(), &certified, None)];
    let policy = world.parse(&text).unwrap();
    assert_eq!(decide::<Statement>(&policy, &[&bundles[0], &bundles[1]]).unwrap_err().code(), "policy_signer_twice");
}

#[test]
fn a_sigstore_signer_for_whom_anything_counts() {
    let world = World::new();
    let bundle = signed(&statement(), &world.alice, None);
    let outcome = |lines: &str| outcome::<Statement>(&world, lines, &[&bundle]);
    assert_eq!(outcome("signers = [\"cloud\"]"), "policy_not_a_signer");
    assert_eq!(outcome("signers = [\"alice\", \"cloud\"]\nthreshold = 1"), "verified");
    assert_eq!(outcome("signers = [\"alice\", \"cloud\"]"), "policy_signers");
    let sigstore = std::fs::read("../../vectors/oms/historical/v1.0.0-sigstore/model.sig").unwrap();
    let policy = world.parse(&rule("signers = [\"cloud\"]")).unwrap();
    let error = decide::<Statement>(&policy, &[std::str::from_utf8(&sigstore).unwrap()]).unwrap_err();
    assert_eq!((error.code(), error.is_unchecked()), ("sigstore_method_unsupported", true));
}

#[test]
fn a_statement_of_another_kind_or_with_another_algorithm() {
    let world = World::new();
    let files = signed(&statement(), &world.alice, None);
    let memory = signed(&tensors(), &world.alice, None);
    let alice = "signers = [\"alice\"]";
    assert_eq!(outcome::<Statement>(&world, &format!("{alice}\nstatements = [\"files\"]"), &[&files]), "verified");
    assert_eq!(outcome::<Statement>(&world, &format!("{alice}\nstatements = [\"tensors\", \"dataset\"]"), &[&files]), "policy_statement");
    assert_eq!(outcome::<TensorsStatement>(&world, &format!("{alice}\nstatements = [\"files\"]"), &[&memory]), "policy_statement");
    assert_eq!(outcome::<Statement>(&world, &format!("{alice}\nhashes = [\"sha256\"]"), &[&files]), "verified");
    assert_eq!(outcome::<Statement>(&world, &format!("{alice}\nhashes = [\"blake3\", \"blake2b\"]"), &[&files]), "policy_hash");
    assert_eq!(outcome::<TensorsStatement>(&world, &format!("{alice}\nhashes = [\"sha256-tree\"]"), &[&memory]), "policy_hash");
    // The algorithm of a certificate's key is known when it is seen.
    let key = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let der = Template::signer("holder").issue(&pki::spki_of(&key), &world.root.name, &world.root.key);
    let signer = CertificateSigner::new(&key, &pki::certificates(&[&der]), &[], false).unwrap();
    let bundle = signed(&statement(), &signer, None);
    let only = |name: &str| format!("signers = [\"holder\"]\nsignature_algorithms = [\"{name}\"]");
    assert_eq!(outcome::<Statement>(&world, &only("ed25519"), &[&bundle]), "verified");
    assert_eq!(outcome::<Statement>(&world, &only("ecdsa-p256-sha256"), &[&bundle]), "policy_signature_algorithm");
    assert_eq!(StatementKind::ALL.map(StatementKind::name), ["files", "tensors", "dataset"]);
}

#[test]
fn another_content_or_version_than_the_pinned_one() {
    let world = World::new();
    let bundle = signed(&statement(), &world.alice, None);
    let unversioned = signed(&Statement { version: None, ..statement() }, &world.alice, None);
    let other = signed(&Statement { manifest: manifest(b"other"), ..statement() }, &world.alice, None);
    let (root, payload) = (statement().manifest.root().to_hex(), Algorithm::Sha256.digest(&statement().to_payload()).to_hex());
    let zero = "0".repeat(64);
    let outcome = |line: &str, bundle: &str| outcome::<Statement>(&world, &format!("signers = [\"alice\"]\n{line}"), &[bundle]);
    for (line, of_bundle, of_unversioned, of_other) in [
        (format!("root = [\"{root}\"]"), "verified", "verified", "policy_root"),
        (format!("root = [\"{zero}\", \"{root}\"]"), "verified", "verified", "policy_root"),
        (format!("root = [\"{zero}\"]"), "policy_root", "policy_root", "policy_root"),
        (format!("payload = [\"{payload}\"]"), "verified", "policy_payload", "policy_payload"),
        (format!("payload = [\"{root}\"]"), "policy_payload", "policy_payload", "policy_payload"),
        ("lowest_version = 3".to_owned(), "verified", "policy_version", "verified"),
        ("lowest_version = 4".to_owned(), "policy_version", "policy_version", "policy_version"),
        ("lowest_version = 0".to_owned(), "verified", "policy_version", "verified"),
    ] {
        assert_eq!(outcome(&line, &bundle), of_bundle, "{line}");
        assert_eq!(outcome(&line, &unversioned), of_unversioned, "{line}");
        assert_eq!(outcome(&line, &other), of_other, "{line}");
    }
}

#[test]
fn a_signature_from_before_the_time_from_which_they_count() {
    let world = World::new();
    let line = "signers = [\"alice\"]\nsigned_after = 2024-06-15T12:00:00Z";
    let outcome = |bundle: &str| outcome::<Statement>(&world, line, &[bundle]);
    assert_eq!(outcome(&signed(&statement(), &world.alice, None)), "policy_signed_after", "without a timestamp");
    for (time, code) in
        [("20240615120001Z", "verified"), ("20240615120000Z", "policy_signed_after"), ("20240101000000Z", "policy_signed_after")]
    {
        assert_eq!(outcome(&signed(&statement(), &world.alice, Some(&world.clock(time)))), code, "{time}");
    }
}

#[test]
fn a_dataset_of_other_sources() {
    let world = World::new();
    let line = "signers = [\"alice\"]\nstatements = [\"dataset\"]\nsources = [\"wikipedia\", \"books\"]";
    for (sources, code) in [
        (&["books", "wikipedia"][..], "verified"),
        (&["wikipedia"], "policy_sources"),
        (&["books", "mallory", "wikipedia"], "policy_sources"),
        (&["Books", "wikipedia"], "policy_sources"),
    ] {
        assert_eq!(outcome::<DatasetStatement>(&world, line, &[&signed(&dataset(sources), &world.alice, None)]), code);
    }
}

#[test]
fn signers_who_do_not_say_the_same() {
    let world = World::new();
    let both = "signers = [\"alice\", \"bob\"]";
    let alice = signed(&statement(), &world.alice, None);
    let by_bob = |statement: Statement| signed(&statement, &world.bob, None);
    let outcome = |bob: &str| outcome::<Statement>(&world, both, &[&alice, bob]);
    assert_eq!(outcome(&by_bob(statement())), "verified");
    assert_eq!(outcome(&by_bob(Statement { subject: "another name".to_owned(), ..statement() })), "verified", "it informs");
    assert_eq!(outcome(&by_bob(Statement { manifest: manifest(b"other"), ..statement() })), "signatures_disagree");
    assert_eq!(outcome(&by_bob(Statement { version: Some(4), ..statement() })), "signatures_disagree");
}
