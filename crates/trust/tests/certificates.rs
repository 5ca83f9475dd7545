//! Certificates and timestamps through what the library offers: made here, each wrong in one thing.
//!
//! The published suites run inside the crate, `certificate/pkits.rs` and `timestamp/published.rs`.

#[allow(dead_code, reason = "other test programs use the rest")]
mod common;
mod pki;

use std::path::Path;

use jiff::Timestamp;
use pki::{Clock, Holder, Template, certificates};
use sentry_bundle::{Bundle, Material, Statement, pae};
use sentry_hash::Algorithm;
use sentry_manifest::{Manifest, Resource, ResourcePath, Serialization};
use sentry_trust::{
    CertificateError, CertificateSigner, ExpectedName, Identity, KeyAlgorithm, PrivateKey, Roots, SignError, Signer, SubjectName,
    TimestampAuthorities, TrustedCertificates, TrustedKey, UnverifiedBundle, Verified, Verifier, VerifyError, sign,
};

const ALGORITHMS: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcdsaP256Sha256, KeyAlgorithm::EcdsaP384Sha384, KeyAlgorithm::EcdsaP521Sha512, KeyAlgorithm::Ed25519];

fn statement() -> Statement {
    let path = ResourcePath::new("weights.bin").unwrap();
    let resource = Resource { path, shard: None, digest: Algorithm::Sha256.digest(b"weights"), annotation: None };
    let manifest = Manifest::new(Serialization::default(), vec![resource]).unwrap();
    Statement { subject: "model".to_owned(), version: Some(3), manifest }
}

/// A bundle of this chain and key, without asking whether anybody would accept it.
fn bundle(key: &PrivateKey, chain: &[&[u8]]) -> Bundle {
    let payload = statement().to_payload();
    let signature = key.sign(&pae(&payload)).unwrap();
    let material = Material::CertificateChain(chain.iter().map(|der| der.to_vec()).collect());
    Bundle { material, payload, signature, timestamps: Vec::new() }
}

fn check(bundle: &Bundle, trust: &dyn Verifier) -> Result<Verified<Statement>, VerifyError> {
    UnverifiedBundle::parse(bundle.to_json().unwrap().as_bytes()).unwrap().verify(trust)
}

/// The code of the error, or `verified`.
fn outcome(bundle: &Bundle, trust: &dyn Verifier) -> &'static str {
    check(bundle, trust).map_or_else(|error| error.code(), |_| "verified")
}

fn roots(holders: &[&Holder]) -> Roots {
    Roots::from_pem(&holders.iter().map(|holder| holder.pem()).collect::<Vec<_>>()).unwrap()
}

fn anyone(root: &Holder) -> TrustedCertificates {
    TrustedCertificates::new(roots(&[root]), ExpectedName::Any)
}

fn exactly(root: &Holder, name: &str) -> TrustedCertificates {
    TrustedCertificates::new(roots(&[root]), ExpectedName::Exactly(name.parse().unwrap()))
}

fn root() -> Holder {
    Holder::root(&Template::authority("root"))
}

/// A signer right under a root, and what becomes of a bundle of theirs.
fn outcome_of(template: &Template) -> &'static str {
    let root = root();
    let signer = root.issue(template);
    outcome(&bundle(&signer.key.private(), &[&signer.der]), &anyone(&root))
}

/// A signer under an authority under a root.
fn outcome_under(authority: &Template) -> &'static str {
    outcome_in(&Template::authority("root"), authority, &Template::signer("signer"))
}

fn outcome_in(root: &Template, between: &Template, signer: &Template) -> &'static str {
    let root = Holder::root(root);
    let between = root.issue(between);
    let signer = between.issue(signer);
    outcome(&bundle(&signer.key.private(), &[&signer.der, &between.der]), &anyone(&root))
}

// Roots

fn roots_error(text: &[u8]) -> String {
    match Roots::from_pem(&[text]) {
        Err(error @ CertificateError::Unusable { .. }) => {
            assert_eq!(error.code(), "certificate_file");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_roots_that_has_none_or_something_else() {
    let root = root();
    let key = root.key.private().to_pem(None).unwrap();
    let signer = root.issue(&Template::signer("signer"));
    let no_signatures = Holder::root(&Template::authority("weak").with(pki::key_usage(pki::DIGITAL_SIGNATURE)));
    let said_not_to_be = Holder::root(&Template::authority("said").without(19));
    for (text, reason) in [
        (Vec::new(), "it holds no certificate"),
        (b"no PEM at all\n".to_vec(), "it holds no certificate"),
        ([root.pem(), key.as_bytes().to_vec()].concat(), "something else than certificates"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec(), "it is no PEM text"),
        (root.pem()[..200].to_vec(), "it is no PEM text"),
        (certificates(&[&root.der[..100]]), "the file of roots cannot be used"),
        (certificates(&[&[&root.der[..], &[0]].concat()]), "the file of roots cannot be used"),
        (signer.pem(), "\"CN=signer\" is not the certificate of an authority"),
        (said_not_to_be.pem(), "\"CN=said\" is not the certificate of an authority"),
        (no_signatures.pem(), "\"CN=weak\" must not sign certificates"),
        ([root.pem(), signer.pem()].concat(), "\"CN=signer\" is not the certificate of an authority"),
        (root.pem().repeat(1001), "from 1 to 1000 are allowed"),
    ] {
        let found = roots_error(&text);
        assert!(found.contains(reason), "{found}: {reason}");
    }
    assert!(matches!(Roots::from_pem::<&[u8]>(&[]), Err(CertificateError::Unusable { .. })));
}

#[test]
fn a_second_root_of_the_file_that_is_not_looked_at() {
    let (one, two) = (root(), Holder::root(&Template::authority("other root")));
    let signer = two.issue(&Template::signer("signer"));
    let bundle = bundle(&signer.key.private(), &[&signer.der]);
    for text in [[one.pem(), two.pem()].concat(), [b"# comment\n".to_vec(), two.pem(), one.pem()].concat()] {
        let trust = TrustedCertificates::new(Roots::from_pem(&[text]).unwrap(), ExpectedName::Any);
        assert_eq!(outcome(&bundle, &trust), "verified");
    }
    assert_eq!(outcome(&bundle, &anyone(&one)), "certificate_unknown_issuer");
}

// Signing

fn refused(key: &PrivateKey, certificate: &[u8], chain: &[Vec<u8>]) -> &'static str {
    match CertificateSigner::new(key, certificate, chain, false) {
        Err(SignError::Certificate(error)) => error.code(),
        Err(SignError::Bundle(error)) => error.code(),
        Err(other) => panic!("{other}"),
        Ok(_) => "signs",
    }
}

#[test]
fn a_certificate_to_sign_with_that_no_verifier_would_accept() {
    let root = root();
    let between = root.issue(&Template::authority("between"));
    let signer = between.issue(&Template::signer("signer"));
    let key = signer.key.private();
    let (root_pem, between_pem) = (root.pem(), between.pem());
    assert_eq!(refused(&key, &signer.pem(), &[between_pem.clone(), root_pem.clone()]), "signs");
    assert_eq!(refused(&key, &certificates(&[&signer.der, &between.der, &root.der]), &[]), "signs");
    assert_eq!(refused(&key, &signer.pem(), &[]), "signs");
    assert_eq!(refused(&key, &signer.pem(), std::slice::from_ref(&between_pem)), "signs");
    assert_eq!(refused(&PrivateKey::generate(KeyAlgorithm::EcdsaP256Sha256).unwrap(), &signer.pem(), &[]), "certificate_other_key");
    assert_eq!(refused(&key, &signer.pem(), std::slice::from_ref(&root_pem)), "certificate_unknown_issuer", "one is missing");
    assert_eq!(refused(&key, &signer.pem(), &[root_pem.clone(), between_pem.clone()]), "certificate_file", "disorder");
    assert_eq!(refused(&key, &signer.pem(), &[between_pem.clone(), between_pem.clone(), root_pem.clone()]), "certificate_file", "twice");
    assert_eq!(refused(&key, &between_pem, &[signer.pem()]), "certificate_other_key", "disorder");
    assert_eq!(refused(&key, &signer.pem(), &[signer.pem()]), "certificate_file", "it issued nothing");
    assert_eq!(refused(&key, &signer.pem(), &vec![between_pem; 8]), "chain_too_long");
    assert_eq!(refused(&key, b"", &[]), "certificate_file");
    assert_eq!(refused(&key, key.to_pem(None).unwrap().as_bytes(), &[]), "certificate_file");
    assert_eq!(refused(&key, &certificates(&[&signer.der[..50]]), &[]), "certificate_malformed");
}

#[test]
fn a_certificate_to_sign_with_that_is_for_something_else() {
    let root = root();
    for (template, code) in [
        (Template::authority_that_signs("signer"), "certificate_of_authority"),
        (Template::signer("signer").with(pki::key_usage(pki::KEY_CERT_SIGN)), "certificate_key_usage"),
        (Template::signer("signer").without(15), "certificate_key_usage"),
        (Template::signer("signer").with(pki::purposes(&[pki::SERVER])), "certificate_extended_key_usage"),
        (Template::signer("signer").without(37), "certificate_extended_key_usage"),
        (Template::signer("signer").valid(pki::PAST), "certificate_expired"),
        (Template::signer("signer").valid(pki::FUTURE), "certificate_not_yet_valid"),
    ] {
        let signer = root.issue(&template);
        assert_eq!(refused(&signer.key.private(), &signer.pem(), &[root.pem()]), code, "with its root");
        assert_eq!(refused(&signer.key.private(), &signer.pem(), &[]), code, "alone");
    }
}

#[test]
fn a_signature_of_a_certificate_that_does_not_verify() {
    let root = root();
    let between = root.issue(&Template::authority("between"));
    for algorithm in ALGORITHMS {
        let key = PrivateKey::generate(algorithm).unwrap();
        let der = Template::signer("signer").issue(&pki::spki_of(&key), &between.name, &between.key);
        let signer = CertificateSigner::new(&key, &certificates(&[&der]), &[between.pem()], false).unwrap();
        assert_eq!(signer.key_algorithm(), algorithm);
        let text = sign(&statement(), &signer, None).unwrap();
        let read = || UnverifiedBundle::parse(text.as_bytes()).unwrap();

        let verified: Verified<Statement> = read().verify(&exactly(&root, "release@acme.example")).unwrap();
        assert_eq!(verified.value(), &statement());
        let Identity::Certificate { trusted, names, subject, issuer, fingerprint, .. } = verified.identity() else {
            panic!("{}", verified.identity());
        };
        let release = "release@acme.example".parse::<SubjectName>().unwrap();
        assert_eq!((trusted, names), (&Some(release.clone()), &vec![release]));
        assert_eq!((subject.as_str(), issuer.as_str()), ("CN=signer", "CN=between"));
        assert_eq!(fingerprint, &Algorithm::Sha256.digest(&der).to_hex());
        assert_eq!(verified.signatures()[0].timestamp(), None);

        let any = read().verify::<Statement>(&anyone(&root)).unwrap();
        assert!(matches!(any.identity(), Identity::Certificate { trusted: None, .. }));
        let code = |trust: &dyn Verifier| read().verify::<Statement>(trust).unwrap_err().code();
        assert_eq!(code(&anyone(&self::root())), "certificate_signature", "another root of the same name");
        assert_eq!(code(&anyone(&Holder::root(&Template::authority("other")))), "certificate_unknown_issuer");
        assert_eq!(code(&exactly(&root, "elease@acme.example")), "certificate_identity");
        assert_eq!(code(&TrustedKey::new(key.public())), "method_mismatch");
    }
}

// Names

#[test]
fn a_name_that_is_nearly_the_trusted_one() {
    let root = root();
    let spiffe = "spiffe://acme.example/trainer";
    let template = Template::signer("release@acme.example").with(pki::names(&[
        (pki::EMAIL, b"release@acme.example"),
        (pki::URI, spiffe.as_bytes()),
        (pki::DNS, b"builder.acme.example"),
        (pki::IP, &[192, 0, 2, 1]),
    ]));
    let signer = root.issue(&template);
    let bundle = bundle(&signer.key.private(), &[&signer.der]);
    for name in ["release@acme.example", spiffe, "builder.acme.example"] {
        assert_eq!(outcome(&bundle, &exactly(&root, name)), "verified", "{name}");
    }
    for name in [
        "Release@acme.example",
        "release@acme.example.evil",
        "acme.example",
        "builder.acme.example.",
        "BUILDER.acme.example",
        "spiffe://acme.example/trainer/",
        "spiffe://acme.example",
        "email:release@acme.example",
        "192.0.2.1",
    ] {
        let Ok(name) = name.parse::<SubjectName>() else { continue };
        let trust = TrustedCertificates::new(roots(&[&root]), ExpectedName::Exactly(name.clone()));
        assert_eq!(outcome(&bundle, &trust), "certificate_identity", "{name}");
    }
}

#[test]
fn a_name_of_another_kind_or_in_the_subject_alone() {
    let root = root();
    let as_uri = Template::signer("signer").with(pki::names(&[(pki::URI, b"release@acme.example")]));
    let as_dns = Template::signer("signer").with(pki::names(&[(pki::DNS, b"release@acme.example")]));
    let as_common_name = Template::signer("release@acme.example").without(17);
    let pattern = Template::signer("signer").with(pki::names(&[(pki::DNS, b"*.acme.example")]));
    for (template, name) in [
        (as_uri, "release@acme.example"),
        (as_dns, "release@acme.example"),
        (as_common_name, "release@acme.example"),
        (pattern, "builder.acme.example"),
    ] {
        let signer = root.issue(&template);
        let bundle = bundle(&signer.key.private(), &[&signer.der]);
        assert_eq!(outcome(&bundle, &exactly(&root, name)), "certificate_identity");
        assert_eq!(outcome(&bundle, &anyone(&root)), "verified");
    }
}

// Usage

#[test]
fn a_signers_certificate_that_is_for_something_else() {
    let signer = || Template::signer("signer");
    for (template, code) in [
        (signer(), "verified"),
        (signer().with(pki::purposes(&[pki::SERVER, pki::CODE_SIGNING])), "verified"),
        (signer().with(pki::purposes_said(&[pki::CODE_SIGNING], true)), "verified"),
        (signer().with(pki::unknown(false)), "verified"),
        (signer().with(pki::key_usage(pki::KEY_CERT_SIGN)), "certificate_key_usage"),
        (signer().without(15), "certificate_key_usage"),
        (signer().with(pki::purposes(&[pki::SERVER])), "certificate_extended_key_usage"),
        (signer().with(pki::purposes(&[pki::ANY_PURPOSE])), "certificate_extended_key_usage"),
        (signer().with(pki::purposes(&[pki::TIME_STAMPING])), "certificate_extended_key_usage"),
        (signer().without(37), "certificate_extended_key_usage"),
        (signer().with(pki::authority(None)), "certificate_of_authority"),
        (Template::authority_that_signs("signer"), "certificate_of_authority"),
        (signer().with(pki::unknown(true)), "certificate_critical_extension"),
        (signer().valid(pki::PAST), "certificate_expired"),
        (signer().valid(pki::FUTURE), "certificate_not_yet_valid"),
    ] {
        assert_eq!(outcome_of(&template), code);
    }
}

#[test]
fn the_same_extension_twice_of_which_one_is_read() {
    for extension in [pki::key_usage(pki::DIGITAL_SIGNATURE), pki::purposes(&[pki::CODE_SIGNING]), pki::names(&[(pki::DNS, b"b")])] {
        let mut template = Template::signer("signer");
        template.extensions.push(extension);
        assert_eq!(outcome_of(&template), "certificate_malformed");
    }
}

#[test]
fn an_authority_that_must_not_be_one() {
    let between = || Template::authority("between");
    for (template, code) in [
        (between(), "verified"),
        (between().without(15), "verified"),
        (between().with(pki::purposes(&[pki::CODE_SIGNING])), "verified"),
        (between().with(pki::authority(Some(0))), "verified"),
        (between().with(pki::key_usage(pki::CRL_SIGN)), "certificate_key_usage"),
        (between().with(pki::key_usage(pki::DIGITAL_SIGNATURE)), "certificate_key_usage"),
        (between().without(19), "certificate_issuer_no_authority"),
        (between().with(pki::purposes(&[pki::SERVER])), "certificate_extended_key_usage"),
        (between().with(pki::purposes(&[pki::ANY_PURPOSE])), "certificate_extended_key_usage"),
        (between().with(pki::unknown(true)), "certificate_critical_extension"),
        (between().valid(pki::PAST), "certificate_expired"),
        (between().valid(pki::FUTURE), "certificate_not_yet_valid"),
        // A constraint of a kind that the signer has a name of, and is not evaluated.
        (between().with(pki::constraint(false, pki::EMAIL, b"acme.example")), "certificate_name_constraint"),
        (between().with(pki::constraint(true, pki::EMAIL, b"other.example")), "certificate_name_constraint"),
        (between().with(pki::constraint(false, pki::DNS, b"acme.example")), "verified"),
        (between().with(pki::constraint(false, 0xa4, &pki::name("x"))), "certificate_name_constraint"),
    ] {
        assert_eq!(outcome_under(&template), code);
    }
}

#[test]
fn a_signer_who_issued_a_certificate() {
    let root = root();
    let first = root.issue(&Template::signer("first"));
    let second = first.issue(&Template::signer("second"));
    let bundle = bundle(&second.key.private(), &[&second.der, &first.der]);
    assert_eq!(outcome(&bundle, &anyone(&root)), "certificate_issuer_no_authority");
}

#[test]
fn a_root_that_does_not_keep_to_its_own_limits() {
    let root = || Template::authority("root");
    let (between, signer) = (Template::authority("between"), Template::signer("signer"));
    for (template, code) in [
        (root().with(pki::authority(Some(1))), "verified"),
        (root().with(pki::authority(Some(0))), "certificate_path_length"),
        (root().with(pki::purposes(&[pki::SERVER])), "certificate_extended_key_usage"),
        (root().with(pki::purposes(&[pki::CODE_SIGNING])), "verified"),
        (root().valid(pki::PAST), "certificate_expired"),
        (root().valid(pki::FUTURE), "certificate_not_yet_valid"),
        (root().with(pki::constraint(true, pki::DNS, b"acme.example")), "verified"),
        (root().with(pki::constraint(true, pki::EMAIL, b"acme.example")), "certificate_name_constraint"),
    ] {
        assert_eq!(outcome_in(&template, &between, &signer), code);
    }
}

#[test]
fn a_host_outside_of_what_an_authority_may_name() {
    let named = |host: &[u8]| Template::signer("signer").with(pki::names(&[(pki::DNS, host)]));
    let (root, permitted) = (Template::authority("root"), Template::authority("b").with(pki::constraint(false, pki::DNS, b"acme.example")));
    let excluded = Template::authority("b").with(pki::constraint(true, pki::DNS, b"acme.example"));
    for (between, host, code) in [
        (&permitted, &b"build.acme.example"[..], "verified"),
        (&permitted, b"acme.example", "verified"),
        (&permitted, b"evilacme.example", "certificate_name_constraint"),
        (&permitted, b"acme.example.evil", "certificate_name_constraint"),
        (&excluded, b"build.acme.example", "certificate_name_constraint"),
        (&excluded, b"evilacme.example", "verified"),
    ] {
        assert_eq!(outcome_in(&root, between, &named(host)), code);
    }
}

// Paths

#[test]
fn a_root_from_the_bundle() {
    let (root, stranger) = (root(), Holder::root(&Template::authority("stranger")));
    let signer = stranger.issue(&Template::signer("signer"));
    let own = Holder::root(&Template::signer("own"));
    assert_eq!(outcome(&bundle(&signer.key.private(), &[&signer.der, &stranger.der]), &anyone(&root)), "certificate_unknown_issuer");
    assert_eq!(outcome(&bundle(&own.key.private(), &[&own.der]), &anyone(&root)), "certificate_unknown_issuer");
    // It may stand there if it is trusted anyway.
    let signer = root.issue(&Template::signer("signer"));
    assert_eq!(outcome(&bundle(&signer.key.private(), &[&signer.der, &root.der]), &anyone(&root)), "verified");
}

#[test]
fn a_certificate_that_the_root_did_not_sign() {
    let (root, impostor) = (root(), self::root());
    assert_eq!(root.name, impostor.name);
    let signer = impostor.issue(&Template::signer("signer"));
    for chain in [vec![&signer.der[..]], vec![&signer.der[..], &impostor.der]] {
        assert_eq!(outcome(&bundle(&signer.key.private(), &chain), &anyone(&root)), "certificate_signature");
    }
    // The certificate of one, the signature of another.
    let honest = root.issue(&Template::signer("signer"));
    assert_eq!(outcome(&bundle(&signer.key.private(), &[&honest.der]), &anyone(&root)), "signature_invalid");
}

#[test]
fn a_bit_of_a_chain_that_nobody_signed() {
    let root = root();
    let between = root.issue(&Template::authority("between"));
    for (template, trust) in [
        (Template::signer("signer"), anyone(&root)),
        (Template::authority_that_signs("signer"), anyone(&root).dangerous().allow_authority_leaf()),
    ] {
        let signer = between.issue(&template);
        let good = bundle(&signer.key.private(), &[&signer.der, &between.der]);
        assert_eq!(outcome(&good, &trust), "verified");
        for which in [0, 1] {
            let Material::CertificateChain(chain) = &good.material else { unreachable!() };
            for place in 0..chain[which].len() * 8 {
                let mut forged = chain.clone();
                forged[which][place / 8] ^= 1 << (place % 8);
                let forged = Bundle { material: Material::CertificateChain(forged), ..good.clone() };
                assert_ne!(outcome(&forged, &trust), "verified", "bit {place} of certificate {which}");
            }
        }
    }
}

// Signers' certificates that are authorities'

fn permitted(root: &Holder) -> TrustedCertificates {
    anyone(root).dangerous().allow_authority_leaf()
}

#[test]
fn an_authority_that_signs_where_nobody_allowed_it() {
    let root = root();
    let between = root.issue(&Template::authority("between"));
    let signer = between.issue(&Template::authority_that_signs("signer"));
    let bundle = bundle(&signer.key.private(), &[&signer.der, &between.der]);
    assert_eq!(outcome(&bundle, &anyone(&root)), "certificate_of_authority");
    assert_eq!(outcome(&bundle, &permitted(&root)), "verified");
    let named = |name: &str| exactly(&root, name).dangerous().allow_authority_leaf();
    assert_eq!(outcome(&bundle, &named("release@acme.example")), "verified");
    assert_eq!(outcome(&bundle, &named("other@acme.example")), "certificate_identity");
    assert_eq!(outcome(&bundle, &permitted(&Holder::root(&Template::authority("other")))), "certificate_unknown_issuer");
    assert_eq!(outcome(&bundle, &permitted(&self::root())), "certificate_signature");
}

#[test]
fn a_check_that_is_left_out_for_authorities_that_sign() {
    let between = Template::authority("between");
    let signer = || Template::authority_that_signs("signer");
    let outcome = |root: &Template, between: &Template, signer: &Template| {
        let root = Holder::root(root);
        let between = root.issue(between);
        let signer = between.issue(signer);
        self::outcome(&bundle(&signer.key.private(), &[&signer.der, &between.der]), &permitted(&root))
    };
    let root = || Template::authority("root");
    for (template, code) in [
        (signer(), "verified"),
        (signer().with(pki::key_usage(pki::DIGITAL_SIGNATURE)), "verified"),
        (Template::signer("signer"), "verified"),
        (signer().with(pki::key_usage(pki::KEY_CERT_SIGN)), "certificate_key_usage"),
        (signer().without(15), "certificate_key_usage"),
        (signer().without(37), "certificate_extended_key_usage"),
        (signer().with(pki::purposes(&[pki::ANY_PURPOSE])), "certificate_extended_key_usage"),
        (signer().valid(pki::PAST), "certificate_expired"),
        (signer().valid(pki::FUTURE), "certificate_not_yet_valid"),
        (signer().with(pki::unknown(true)), "certificate_critical_extension"),
    ] {
        assert_eq!(outcome(&root(), &between, &template), code);
    }
    for (template, code) in [
        (between.clone().with(pki::key_usage(pki::CRL_SIGN)), "certificate_key_usage"),
        (between.clone().valid(pki::PAST), "certificate_expired"),
        (between.clone().with(pki::authority(Some(0))), "certificate_path_length"),
        (between.clone().with(pki::authority(Some(1))), "verified"),
        (between.clone().with(pki::purposes(&[pki::SERVER])), "certificate_extended_key_usage"),
        (between.clone().with(pki::constraint(false, pki::EMAIL, b"acme.example")), "certificate_name_constraint"),
        (between.clone().without(19), "certificate_issuer_no_authority"),
    ] {
        assert_eq!(outcome(&root(), &template, &signer()), code);
    }
    for (template, code) in [
        (root().with(pki::authority(Some(1))), "verified"),
        (root().with(pki::authority(Some(0))), "certificate_path_length"),
        (root().valid(pki::PAST), "certificate_expired"),
        (root().with(pki::constraint(true, pki::EMAIL, b"acme.example")), "certificate_name_constraint"),
        (root().with(pki::purposes(&[pki::SERVER])), "certificate_extended_key_usage"),
    ] {
        assert_eq!(outcome(&template, &between, &signer()), code);
    }
}

#[test]
fn an_authority_that_made_itself() {
    let root = root();
    let own = Holder::root(&Template::authority_that_signs("own"));
    let named_root = Holder::root(&Template::authority_that_signs("root"));
    assert_eq!(outcome(&bundle(&own.key.private(), &[&own.der]), &permitted(&root)), "certificate_unknown_issuer");
    assert_eq!(outcome(&bundle(&own.key.private(), &[&own.der, &root.der]), &permitted(&root)), "certificate_unknown_issuer");
    assert_eq!(outcome(&bundle(&named_root.key.private(), &[&named_root.der]), &permitted(&root)), "certificate_signature");
    // Signed by itself in the root's name.
    let template = Template::authority_that_signs("victim");
    let key = pki::Key::new();
    let der = template.issue(&key.spki(), &root.name, &key);
    assert_eq!(outcome(&bundle(&key.private(), &[&der]), &permitted(&root)), "certificate_signature");
    // A trusted root that signs itself is no signer: nobody stands above it.
    assert_eq!(outcome(&bundle(&own.key.private(), &[&own.der]), &permitted(&own)), "certificate_path");
}

#[test]
fn an_authority_that_widens_its_own_certificate() {
    let root = root();
    // What the root allowed: to issue, under no name, for servers.
    let narrow = Template::authority("authority").with(pki::purposes(&[pki::SERVER]));
    let allowed = root.issue(&narrow);
    let wide = Template::authority_that_signs("authority");
    for issuer in [&root.name, &allowed.name] {
        // The same name and key, and every use and name that it wants, signed by itself.
        let forged = wide.issue(&allowed.key.spki(), issuer, &allowed.key);
        for chain in [vec![&forged[..], &allowed.der], vec![&forged[..], &allowed.der, &root.der], vec![&forged[..]]] {
            let bundle = bundle(&allowed.key.private(), &chain);
            let code = outcome(&bundle, &permitted(&root));
            assert!(["certificate_extended_key_usage", "certificate_signature", "certificate_unknown_issuer"].contains(&code), "{code}");
        }
    }
    // The same where the root did not say for what: only the narrow certificate leads to it, and it is not the signer's.
    let allowed = root.issue(&Template::authority("authority"));
    for issuer in [&root.name, &allowed.name] {
        let forged = wide.issue(&allowed.key.spki(), issuer, &allowed.key);
        for chain in [vec![&forged[..], &allowed.der], vec![&forged[..], &allowed.der, &allowed.der, &root.der]] {
            assert_eq!(outcome(&bundle(&allowed.key.private(), &chain), &permitted(&root)), "certificate_path");
        }
    }
}

#[test]
fn a_certificate_that_is_signed_by_nobody() {
    let root = root();
    let mut template = Template::authority_that_signs("signer");
    template.algorithm = pki::SIGNED_BY_NOBODY;
    let key = pki::Key::new();
    for issuer in [&root.name, &template.subject] {
        let der = template.issue(&key.spki(), issuer, &key);
        for chain in [vec![&der[..]], vec![&der[..], &der], vec![&der[..], &root.der]] {
            let code = outcome(&bundle(&key.private(), &chain), &permitted(&root));
            assert!(["certificate_algorithm", "certificate_signature", "certificate_unknown_issuer"].contains(&code), "{code}");
        }
    }
    // One between the root and an honest authority, and one that is like the library's stand-in.
    let mut between = Template::authority("between");
    between.algorithm = pki::SIGNED_BY_NOBODY;
    let between = root.issue(&between);
    let signer = between.issue(&Template::authority_that_signs("signer"));
    let code = outcome(&bundle(&signer.key.private(), &[&signer.der, &between.der]), &permitted(&root));
    assert!(["certificate_algorithm", "certificate_signature"].contains(&code), "{code}");
    let mut stand_in = Template::signer("").with(pki::purposes(&[pki::CODE_SIGNING]));
    stand_in.algorithm = pki::SIGNED_BY_NOBODY;
    stand_in.subject = vec![0x30, 0];
    let honest = root.issue(&Template::authority_that_signs("signer"));
    let der = stand_in.issue(&honest.key.spki(), &honest.name, &honest.key);
    for chain in [vec![&der[..], &honest.der], vec![&der[..], &honest.der, &root.der]] {
        let code = outcome(&bundle(&honest.key.private(), &chain), &permitted(&root));
        assert!(["certificate_algorithm", "certificate_signature", "certificate_issuer_no_authority"].contains(&code), "{code}");
    }
}

#[test]
fn a_signature_of_an_authority_under_a_name_that_it_does_not_have() {
    let root = root();
    let honest = root.issue(&Template::authority_that_signs("honest"));
    // Somebody took its signature, and made a certificate for its key with another name, as if it were its own.
    let forger = pki::Key::new();
    for algorithm in [pki::SIGNED_BY_NOBODY, pki::ECDSA_SHA256] {
        let mut template = Template::authority_that_signs("forged").with(pki::names(&[(pki::EMAIL, b"victim@acme.example")]));
        template.algorithm = algorithm;
        let forged = template.issue(&honest.key.spki(), &honest.name, &forger);
        let bundle = bundle(&honest.key.private(), &[&forged, &honest.der]);
        let trust = exactly(&root, "victim@acme.example").dangerous().allow_authority_leaf();
        assert_eq!(outcome(&bundle, &trust), "certificate_signature");
    }
}

#[test]
fn an_authority_without_a_name() {
    let root = root();
    let mut template = Template::authority_that_signs("");
    template.subject = vec![0x30, 0];
    let nameless = root.issue(&template);
    // It cannot be told from what the library puts below it, and is refused.
    assert_eq!(outcome(&bundle(&nameless.key.private(), &[&nameless.der]), &permitted(&root)), "certificate_unknown_issuer");
}

#[test]
fn the_samples_of_openssf_model_signing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/oms/historical");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let root = Roots::from_pem(&[read("keys/certificate/ca-cert.pem")]).unwrap();
    let any = || TrustedCertificates::new(root.clone(), ExpectedName::Any);
    for version in ["v0.3.1", "v1.0.0"] {
        let bundle = read(&format!("{version}-certificate/model.sig"));
        let verify = |trust: &dyn Verifier| UnverifiedBundle::parse(&bundle).unwrap().verify::<Statement>(trust);
        let verified = verify(&any().dangerous().allow_authority_leaf()).unwrap();
        assert_eq!(verified.identity().method(), "certificate");
        assert_eq!(verify(&any()).unwrap_err().code(), "certificate_of_authority");
        let named = TrustedCertificates::new(root.clone(), ExpectedName::Exactly("release@acme.example".parse().unwrap()));
        assert_eq!(verify(&named.clone()).unwrap_err().code(), "certificate_of_authority");
        assert_eq!(verify(&named.dangerous().allow_authority_leaf()).unwrap_err().code(), "certificate_identity");
        // The intermediate authority as a root is as good; a stranger is not.
        let between = Roots::from_pem(&[read("keys/certificate/int-ca-cert.pem")]).unwrap();
        let trust = TrustedCertificates::new(between, ExpectedName::Any);
        assert!(verify(&trust.dangerous().allow_authority_leaf()).is_ok());
        let code = verify(&permitted(&self::root())).unwrap_err().code();
        assert_eq!(code, "certificate_unknown_issuer");
    }
}

// Timestamps

/// A root of timestamps, and a clock under it.
fn time_authority() -> (Holder, Holder) {
    let root = Holder::root(&Template::authority("time root"));
    let clock = root.issue(&Template::clock("clock"));
    (root, clock)
}

fn authorities(root: &Holder) -> TimestampAuthorities {
    TimestampAuthorities::from_pem(&[root.pem()]).unwrap()
}

/// A bundle of a certificate of 2021, and trust in its root.
fn of_2021() -> (Bundle, TrustedCertificates) {
    let root = root();
    let signer = root.issue(&Template::signer("signer").valid(pki::PAST));
    (bundle(&signer.key.private(), &[&signer.der]), anyone(&root))
}

#[test]
fn a_timestamp_outside_of_the_certificates_life() {
    let (root, clock) = time_authority();
    let (bundle, trust) = of_2021();
    let trust = trust.with_timestamps(authorities(&root));
    assert_eq!(outcome(&bundle, &trust), "certificate_expired", "without one it is now");
    for (time, code) in [
        ("20210615120000Z", "verified"),
        ("20210101000000Z", "verified"),
        ("20211231235959Z", "verified"),
        ("20201231235959Z", "certificate_not_yet_valid"),
        ("20220101000000Z", "certificate_expired"),
        ("20440101000000Z", "timestamp_in_future"),
    ] {
        let stamp = Clock::new(&clock, &root.name, time).stamp(&bundle.signature);
        let stamped = Bundle { timestamps: vec![stamp], ..bundle.clone() };
        assert_eq!(outcome(&stamped, &trust), code, "{time}");
        if code == "verified" {
            let verified = check(&stamped, &trust).unwrap();
            assert!(verified.signatures()[0].timestamp().is_some());
        }
    }
}

#[test]
fn a_time_of_the_certificates_own() {
    let (root, clock) = time_authority();
    let (bundle, trust) = of_2021();
    let stamp = Clock::new(&clock, &root.name, "20210615120000Z").stamp(&bundle.signature);
    let stamped = Bundle { timestamps: vec![stamp], ..bundle };
    assert_eq!(outcome(&stamped, &trust), "certificate_expired", "no timestamp authority is trusted");
}

#[test]
fn a_timestamp_of_a_stranger_or_of_another_signature() {
    let (root, clock) = time_authority();
    let (stranger_root, stranger) = time_authority();
    let (bundle, trust) = of_2021();
    let trust = trust.with_timestamps(authorities(&root));
    let stamped = |stamps: Vec<Vec<u8>>| Bundle { timestamps: stamps, ..bundle.clone() };
    let time = "20210615120000Z";
    let good = Clock::new(&clock, &root.name, time).stamp(&bundle.signature);
    let foreign = Clock::new(&stranger, &stranger_root.name, time);
    let other = Clock::new(&clock, &root.name, time).stamp(b"another signature");
    assert_eq!(outcome(&stamped(vec![foreign.stamp(&bundle.signature)]), &trust), "timestamp_untrusted");
    let with_its_root = Clock { carried: vec![&stranger.der, &stranger_root.der], ..foreign };
    assert_eq!(outcome(&stamped(vec![with_its_root.stamp(&bundle.signature)]), &trust), "timestamp_untrusted");
    assert_eq!(outcome(&stamped(vec![other.clone()]), &trust), "timestamp_mismatch");
    assert_eq!(outcome(&stamped(vec![b"no timestamp".to_vec()]), &trust), "timestamp_malformed");
    assert_eq!(outcome(&stamped(vec![good.clone(), other]), &trust), "timestamp_mismatch", "all must hold");
    let refused = Clock { status: 2, ..Clock::new(&clock, &root.name, time) };
    assert_eq!(outcome(&stamped(vec![refused.stamp(&bundle.signature)]), &trust), "timestamp_malformed");
    // Something else that the authority signed, which reads like a timestamp.
    let something = Clock { content_type: pki::SIGNED_DATA, ..Clock::new(&clock, &root.name, time) };
    assert_eq!(outcome(&stamped(vec![something.stamp(&bundle.signature)]), &trust), "timestamp_malformed");
    // The earliest counts.
    let later = Clock::new(&clock, &root.name, "20210715120000Z").stamp(&bundle.signature);
    let verified = check(&stamped(vec![later, good]), &trust).unwrap();
    assert_eq!(verified.signatures()[0].timestamp(), Some("2021-06-15T12:00:00Z".parse::<Timestamp>().unwrap()));
}

#[test]
fn a_clock_that_must_not_be_one() {
    let clock = || Template::clock("clock");
    for (template, code) in [
        (clock(), "verified"),
        (clock().without(15), "verified"),
        (clock().with(pki::purposes_said(&[pki::TIME_STAMPING], false)), "timestamp_untrusted"),
        (clock().with(pki::purposes_said(&[pki::TIME_STAMPING, pki::CODE_SIGNING], true)), "timestamp_untrusted"),
        (clock().with(pki::purposes_said(&[pki::ANY_PURPOSE], true)), "timestamp_untrusted"),
        (clock().without(37), "timestamp_untrusted"),
        (clock().with(pki::key_usage(pki::KEY_CERT_SIGN)), "timestamp_untrusted"),
        (clock().with(pki::authority(None)), "timestamp_untrusted"),
        (clock().with(pki::unknown(true)), "timestamp_untrusted"),
        (clock().valid(("220101000000Z", "491231235959Z")), "timestamp_untrusted"),
        (clock().valid(("200101000000Z", "210101000000Z")), "timestamp_untrusted"),
    ] {
        let root = Holder::root(&Template::authority("time root"));
        let clock = root.issue(&template);
        let (bundle, trust) = of_2021();
        let stamp = Clock::new(&clock, &root.name, "20210615120000Z").stamp(&bundle.signature);
        let stamped = Bundle { timestamps: vec![stamp], ..bundle };
        assert_eq!(outcome(&stamped, &trust.with_timestamps(authorities(&root))), code);
    }
}

#[test]
fn an_authority_of_clocks_that_must_not_be_one() {
    let (plain_root, plain) = (Template::authority("time root"), Template::authority("between").with(pki::purposes(&[pki::TIME_STAMPING])));
    for (root, between, code) in [
        (plain_root.clone(), plain.clone(), "verified"),
        // Sigstore's library asks every authority but the root to name the purpose.
        (plain_root.clone(), plain.clone().without(37), "timestamp_untrusted"),
        (plain_root.clone(), plain.clone().with(pki::purposes(&[pki::CODE_SIGNING])), "timestamp_untrusted"),
        (plain_root.clone(), plain.clone().with(pki::key_usage(pki::CRL_SIGN)), "timestamp_untrusted"),
        (plain_root.clone(), plain.clone().without(19), "timestamp_untrusted"),
        (plain_root.clone(), plain.clone().valid(("220101000000Z", "491231235959Z")), "timestamp_untrusted"),
        (plain_root.clone().with(pki::authority(Some(0))), plain.clone(), "timestamp_untrusted"),
        (plain_root.clone().with(pki::purposes(&[pki::CODE_SIGNING])), plain.clone(), "timestamp_untrusted"),
        (plain_root.valid(("220101000000Z", "491231235959Z")), plain, "timestamp_untrusted"),
    ] {
        let root = Holder::root(&root);
        let between = root.issue(&between);
        let clock = between.issue(&Template::clock("clock"));
        let (bundle, trust) = of_2021();
        let made = Clock { carried: vec![&clock.der, &between.der], ..Clock::new(&clock, &between.name, "20210615120000Z") };
        let stamped = Bundle { timestamps: vec![made.stamp(&bundle.signature)], ..bundle };
        assert_eq!(outcome(&stamped, &trust.with_timestamps(authorities(&root))), code);
    }
}

#[test]
fn a_fresh_timestamp_that_is_not_in_the_bundle() {
    let (time_root, clock) = time_authority();
    let root = root();
    let signer = root.issue(&Template::signer("signer"));
    let key = signer.key.private();
    let with_certificate = CertificateSigner::new(&key, &signer.pem(), &[], false).unwrap();
    let clock = Clock::new(&clock, &time_root.name, "20240615120000Z");
    let time = Some("2024-06-15T12:00:00Z".parse::<Timestamp>().unwrap());
    let authorities = authorities(&time_root);
    let by_certificate = sign(&statement(), &with_certificate, Some(&clock)).unwrap();
    let by_key = sign(&statement(), &key, Some(&clock)).unwrap();
    let trust = anyone(&root).with_timestamps(authorities.clone());
    let trusted_key = TrustedKey::new(key.public()).with_timestamps(&authorities);
    for (text, trust) in [(by_certificate, &trust as &dyn Verifier), (by_key, &trusted_key)] {
        let verified: Verified<Statement> = UnverifiedBundle::parse(text.as_bytes()).unwrap().verify(trust).unwrap();
        assert_eq!(verified.signatures()[0].timestamp(), time);
    }
}

#[test]
fn a_timestamp_of_a_stranger_for_a_key() {
    let (root, _) = time_authority();
    let (stranger_root, stranger) = time_authority();
    let key = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let text = sign(&statement(), &key, Some(&Clock::new(&stranger, &stranger_root.name, "20240615120000Z"))).unwrap();
    let read = || UnverifiedBundle::parse(text.as_bytes()).unwrap();
    let authorities = authorities(&root);
    let trust = TrustedKey::new(key.public()).with_timestamps(&authorities);
    assert_eq!(read().verify::<Statement>(&trust).unwrap_err().code(), "timestamp_untrusted");
    // Who trusts no authority does not look at it.
    let verified: Verified<Statement> = read().verify(&TrustedKey::new(key.public())).unwrap();
    assert_eq!(verified.signatures()[0].timestamp(), None);
}

/// An answer that was made for someone else's question.
struct Recorded(Vec<u8>);

impl sentry_trust::Timestamper for Recorded {
    fn timestamp(&self, _: &[u8]) -> Result<Vec<u8>, sentry_trust::TimestampError> {
        Ok(self.0.clone())
    }
}

#[test]
fn an_answer_of_a_timestamp_authority_that_is_written_down_unchecked() {
    let (root, clock) = time_authority();
    let key = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
    // Ed25519 signs the same text in the same way, so that an old answer is about the right signature.
    let signature = key.sign(&pae(&statement().to_payload())).unwrap();
    let made = || Clock::new(&clock, &root.name, "20240615120000Z");
    let hash = Algorithm::Sha256.digest(&signature);
    let nonce = common::integer(&[9; 8]);
    for (answer, code) in [
        (made().stamp(&signature), "timestamp_mismatch"),
        (made().respond(hash.as_bytes(), &nonce), "timestamp_mismatch"),
        (made().stamp(b"another signature"), "timestamp_mismatch"),
        (b"<html>".to_vec(), "timestamp_malformed"),
        (Vec::new(), "timestamp_malformed"),
        (vec![0x30, 5, 0x30, 3, 0x02, 1, 2], "timestamp_malformed"),
    ] {
        match sign(&statement(), &key, Some(&Recorded(answer))) {
            Err(SignError::Timestamp(error)) => assert_eq!(error.code(), code),
            other => panic!("{other:?}"),
        }
    }
    // Refused, and nonetheless with a timestamp, and one that does not carry its certificate.
    let refusing = Clock { status: 2, ..made() };
    let silent = Clock { carried: vec![&root.der], ..made() };
    for clock in [refusing, silent] {
        match sign(&statement(), &key, Some(&clock)) {
            Err(SignError::Timestamp(error)) => assert_eq!(error.code(), "timestamp_malformed"),
            other => panic!("{other:?}"),
        }
    }
}
