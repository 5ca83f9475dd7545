//! Timestamps of authorities that others run, as others published them. `vectors/rfc3161` says where they come from,
//! `docs/spec/certificates.md` what comes out.

use std::fs;
use std::path::Path;

use data_encoding::BASE64_MIME;

use super::TimestampAuthorities;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/rfc3161").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The last certificate of a chain in PEM, or the only one in DER.
fn root(name: &str) -> TimestampAuthorities {
    let chain = file(name);
    let pem = match String::from_utf8(chain) {
        Ok(text) => format!("{BEGIN}{}", text.rsplit_once(BEGIN).unwrap().1),
        Err(der) => format!("{BEGIN}\n{}\n-----END CERTIFICATE-----\n", BASE64_MIME.encode(der.as_bytes()).trim_end()),
    };
    TimestampAuthorities::from_pem(&[pem]).unwrap()
}

/// The time, or the code of the error.
fn judge(root: &TimestampAuthorities, timestamp: &str, of: &[u8]) -> String {
    match root.verify(&[file(timestamp)], of) {
        Ok(time) => time.map_or_else(|| "none".to_owned(), |time| time.to_string()),
        Err(error) => error.code().to_owned(),
    }
}

#[test]
fn a_real_timestamp_that_is_refused_or_a_forged_one_that_is_not() {
    let hello = b"hello".to_vec();
    let client = |folder: &str| root(&format!("rfc3161-client/{folder}/ts_chain.pem"));
    let sigstage = client("sigstage");
    for (authorities, timestamp, of, expected) in [
        (&sigstage, "rfc3161-client/sigstage/response-sha256.tsr", &hello, "2025-05-09T11:58:55Z"),
        (&sigstage, "rfc3161-client/sigstage/response-invalid-signature.tsr", &hello, "timestamp_untrusted"),
        // It names its signer and does not carry the certificate.
        (&sigstage, "rfc3161-client/sigstage/response-no-embedded-cert.tsr", &hello, "timestamp_malformed"),
        (&sigstage, "rfc3161-client/sigstage/response-sha384.tsr", &hello, "timestamp_algorithm_unsupported"),
        (&sigstage, "rfc3161-client/sigstage/response-sha512.tsr", &hello, "timestamp_algorithm_unsupported"),
        (&client("identrust"), "rfc3161-client/identrust/issue-104.tsr", &hello, "timestamp_algorithm_unsupported"),
        (&client("test_tsa"), "rfc3161-client/test_tsa/response.tsr", &hello, "timestamp_algorithm_unsupported"),
        (&client("test_tsa"), "rfc3161-client/test_tsa/other_response.tsr", &hello, "timestamp_algorithm_unsupported"),
        (&client("test_tsa"), "rfc3161-client/test_tsa/response-injected-certs.tsr", &hello, "timestamp_algorithm_unsupported"),
        (&client("test_tsa_full_chain"), "rfc3161-client/test_tsa_full_chain/response.tsr", &hello, "timestamp_algorithm_unsupported"),
        (
            &client("sigstore.mock"),
            "rfc3161-client/sigstore.mock/response-expired.tsr",
            &file("rfc3161-client/sigstore.mock/payload"),
            "timestamp_malformed",
        ),
        (&root("sigstore-tsa/valid_root.pem"), "sigstore-tsa/valid.tsr", &file("sigstore-tsa/valid.sig"), "2025-08-06T18:51:36Z"),
        (
            &root("sigstore-tsa/valid_root.pem"),
            "sigstore-tsa/payload_mismatch.tsr",
            &file("sigstore-tsa/payload_mismatch.sig"),
            "timestamp_mismatch",
        ),
        (
            &root("sigstore-tsa/github_root.pem"),
            "sigstore-tsa/github_sha384.tsr",
            &file("sigstore-tsa/github_sha384.sig"),
            "timestamp_malformed",
        ),
    ] {
        assert_eq!(judge(authorities, timestamp, of), expected, "{timestamp}");
    }
}

#[test]
fn a_timestamp_of_another_text_or_under_another_root() {
    let (ours, other) = (root("rfc3161-client/sigstage/ts_chain.pem"), root("sigstore-tsa/github_root.pem"));
    let timestamp = "rfc3161-client/sigstage/response-sha256.tsr";
    for text in [&b"hello\n"[..], b"Hello", b"", b"hell"] {
        assert_eq!(judge(&ours, timestamp, text), "timestamp_mismatch");
    }
    assert_eq!(judge(&other, timestamp, b"hello"), "timestamp_untrusted");
}

/// Some parts of a response are not signed, and say nothing that is used: its status, versions, names of algorithms, a tag.
#[test]
fn a_bit_that_makes_another_time_of_it() {
    let authorities = root("rfc3161-client/sigstage/ts_chain.pem");
    let good = file("rfc3161-client/sigstage/response-sha256.tsr");
    let time = authorities.verify(std::slice::from_ref(&good), b"hello").unwrap();
    let mut unsigned = 0;
    for (place, bit) in (0..good.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
        let mut forged = good.clone();
        forged[place] ^= 1 << bit;
        if let Ok(found) = authorities.verify(&[forged], b"hello") {
            assert_eq!(found, time, "bit {bit} of byte {place}");
            unsigned += 1;
        }
    }
    assert!(unsigned <= 144, "{unsigned} of {} bits", good.len() * 8);
}
