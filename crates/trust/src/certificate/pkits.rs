//! NIST's Public Key Interoperability Test Suite: all 223 certificates that it has to be judged, with the verdict of each.
//!
//! `vectors/pkits` says where they come from, `docs/spec/certificates.md` what comes out. What is tested is the path, steps a to
//! c. The keys of the suite are RSA keys, with which nobody signs here, and its certificates have no purpose.
//!
//! Every difference to the suite's verdicts stands below, by section and with its reason, so that a new one shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::Roots;
use super::leaf::CODE_SIGNING;

/// The certificates are of 2010 to 2030, apart from those of the tests about validity.
const TIME: &str = "2020-01-01T00:00:00Z";

/// Refused here and valid for the suite: the error's code, the reason, and the tests.
const STRICTER: &[(&str, &str, &[&str])] = &[
    ("certificate_algorithm", "DSA is not allowed", &["4.1.4", "4.1.5"]),
    ("certificate_path", "valid since 1950, and times before 1970 are not read", &["4.2.3"]),
    (
        "certificate_unknown_issuer",
        "names of issuers are compared byte by byte: case, white space and string types make a difference",
        &["4.3.3", "4.3.4", "4.3.5", "4.3.10", "4.3.11"],
    ),
    ("certificate_path", "unique identifiers, which RFC 5280 advises against, are not read", &["4.3.6"]),
    ("certificate_of_authority", "what is judged is an authority's certificate", &["4.6.8", "4.6.14", "4.8.6", "4.14.13"]),
    // An authority with an old and a new key has two certificates; the error is about the one that did not sign.
    ("certificate_signature", "authorities that renewed their own key count towards the path's length", &["4.6.15", "4.6.17"]),
    (
        "certificate_critical_extension",
        "policies are not checked, so a critical extension about them is refused",
        &["4.9.1", "4.9.2", "4.9.4", "4.9.6", "4.10.1", "4.10.3", "4.10.5", "4.10.6", "4.10.9", "4.10.11"],
    ),
    (
        "certificate_critical_extension",
        "the same",
        &["4.10.12", "4.10.13", "4.10.14", "4.11.2", "4.11.4", "4.11.7", "4.12.2", "4.12.3", "4.12.7", "4.12.9"],
    ),
    (
        "certificate_name_constraint",
        "constraints of directory names are refused",
        &["4.13.1", "4.13.4", "4.13.5", "4.13.6", "4.13.11", "4.13.14", "4.13.18", "4.13.27"],
    ),
    ("certificate_signature", "the same, of an authority with an old and a new key", &["4.13.19"]),
    ("certificate_name_constraint", "constraints of e-mail addresses are refused for who has one", &["4.13.21", "4.13.23", "4.13.25"]),
    ("certificate_name_constraint", "constraints of URIs are refused for who has one", &["4.13.34", "4.13.36"]),
];

/// Invalid for the suite because of something else than revocation and policies: the error's code, and the tests.
const REFUSED: &[(&str, &[&str])] = &[
    // A signature that lacks a bit (4.1.2), and one that DER does not allow (4.1.6).
    ("certificate_path", &["4.1.2", "4.1.6"]),
    // The issuer's name has two certificates in 4.5.8; the one of the key that signed is no authority's.
    ("certificate_signature", &["4.1.3", "4.5.8"]),
    ("certificate_not_yet_valid", &["4.2.1", "4.2.2"]),
    ("certificate_expired", &["4.2.5", "4.2.6", "4.2.7"]),
    ("certificate_unknown_issuer", &["4.3.1", "4.3.2"]),
    ("certificate_issuer_no_authority", &["4.6.1", "4.6.2", "4.6.3"]),
    ("certificate_path_length", &["4.6.5", "4.6.9", "4.6.11", "4.6.16"]),
    // Too long a path as well.
    ("certificate_of_authority", &["4.6.6", "4.6.10", "4.6.12"]),
    ("certificate_key_usage", &["4.7.1", "4.7.2"]),
    (
        "certificate_name_constraint",
        &["4.13.2", "4.13.3", "4.13.7", "4.13.8", "4.13.9", "4.13.10", "4.13.12", "4.13.13", "4.13.15", "4.13.16", "4.13.17"],
    ),
    (
        "certificate_name_constraint",
        &["4.13.20", "4.13.22", "4.13.24", "4.13.26", "4.13.28", "4.13.29", "4.13.31", "4.13.33", "4.13.35", "4.13.37", "4.13.38"],
    ),
    ("certificate_critical_extension", &["4.16.2"]),
];

/// Accepted here and invalid for the suite. All are about what is not checked: policies; all other tests of verdict `policies`
/// are refused because the extension in question is critical, or because an authority's certificate is judged.
const POLICIES_ACCEPTED: &[&str] = &["4.8.4", "4.8.5", "4.8.9", "4.8.12"];

/// Refused here although only a list of revoked certificates would do so: an authority's certificate is judged. All other tests
/// of verdict `revocation` are accepted.
const REVOKED_REFUSED: &[&str] = &["4.14.11"];

struct Case {
    section: String,
    certificate: CertificateDer<'static>,
    /// `valid`, or the part of validation by which it is not: `path`, `policies` or `revocation`.
    verdict: String,
    /// Between it and the root, as the suite's own messages carry them.
    authorities: Vec<CertificateDer<'static>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/pkits")
}

fn certificate(name: &str) -> CertificateDer<'static> {
    let path = folder().join("certs").join(name).with_extension("crt");
    CertificateDer::from(fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("tests.tsv")).unwrap();
    let case = |line: &str| {
        let [section, name, verdict, authorities] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        Case {
            section: section.to_owned(),
            certificate: certificate(name),
            verdict: verdict.to_owned(),
            authorities: authorities.split_whitespace().map(certificate).collect(),
        }
    };
    text.lines().skip(1).map(case).collect()
}

fn root() -> Roots {
    let der = BASE64.encode(&certificate("TrustAnchorRootCertificate"));
    Roots::from_pem(&[format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")]).unwrap()
}

/// The code of the error, or `valid`.
fn judge(case: &Case, others: &[CertificateDer<'_>]) -> &'static str {
    let time: Timestamp = TIME.parse().unwrap();
    root().check_path(&case.certificate, others, &CODE_SIGNING, time).map_or_else(|error| error.code(), |()| "valid")
}

/// What each test is expected to come out as.
fn expected() -> BTreeMap<&'static str, &'static str> {
    let stricter = STRICTER.iter().map(|(code, _, sections)| (*code, *sections));
    let mut expected = BTreeMap::new();
    for (code, sections) in stricter.chain(REFUSED.iter().copied()) {
        for section in sections {
            assert_eq!(expected.insert(*section, code), None, "{section} is listed twice");
        }
    }
    expected
}

#[test]
fn a_path_that_is_refused_or_accepted_otherwise_than_is_written_here() {
    let (expected, mut outcomes) = (expected(), BTreeMap::new());
    for case in cases() {
        let found = judge(&case, &case.authorities);
        *outcomes.entry((case.verdict.clone(), found == "valid")).or_insert(0) += 1;
        let section = case.section.as_str();
        match case.verdict.as_str() {
            "valid" | "path" => {
                assert!(case.verdict == "valid" || expected.contains_key(section), "{section} must be refused");
                assert_eq!(found, expected.get(section).copied().unwrap_or("valid"), "{section}");
            }
            "policies" => assert_eq!(found == "valid", POLICIES_ACCEPTED.contains(&section), "{section}: {found}"),
            "revocation" => assert_eq!(found == "valid", !REVOKED_REFUSED.contains(&section), "{section}: {found}"),
            other => panic!("{section}: {other} is no verdict"),
        }
    }
    let count = |verdict: &str, accepted| outcomes.get(&(verdict.to_owned(), accepted)).copied().unwrap_or(0);
    // 148 tests apply: 99 agree, 49 valid ones are refused, and no invalid one is accepted.
    assert_eq!((count("valid", true), count("valid", false)), (53, 49));
    assert_eq!((count("path", true), count("path", false)), (0, 46));
    // 75 are about what is not checked.
    assert_eq!((count("policies", true), count("policies", false)), (4, 25));
    assert_eq!((count("revocation", true), count("revocation", false)), (45, 1));
}

#[test]
fn certificates_of_others_or_their_order_that_make_a_difference() {
    let all: BTreeMap<Vec<u8>, CertificateDer<'static>> =
        cases().into_iter().flat_map(|case| case.authorities).map(|der| (der.to_vec(), der)).collect();
    let all: Vec<CertificateDer<'static>> = all.into_values().collect();
    let reversed: Vec<CertificateDer<'static>> = all.iter().rev().cloned().collect();
    assert_eq!(all.len(), 181);
    for case in cases() {
        let accepted = judge(&case, &case.authorities) == "valid";
        for others in [&all, &reversed] {
            assert_eq!(judge(&case, others) == "valid", accepted, "{}", case.section);
        }
    }
}

#[test]
fn a_root_that_is_taken_from_the_bundle() {
    let root = certificate("TrustAnchorRootCertificate");
    // Any other authority of the suite as the only root.
    let der = BASE64.encode(&certificate("nameConstraintsDNS1CACert"));
    let foreign = Roots::from_pem(&[format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")]).unwrap();
    let time: Timestamp = TIME.parse().unwrap();
    for case in cases().into_iter().filter(|case| !case.authorities.contains(&certificate("nameConstraintsDNS1CACert"))) {
        let others: Vec<_> = case.authorities.iter().cloned().chain([root.clone()]).collect();
        assert!(foreign.check_path(&case.certificate, &others, &CODE_SIGNING, time).is_err(), "{}", case.section);
    }
}
