//! NIST's vectors of ECDSA (CAVP, FIPS 186-3): signatures, public points and key pairs.

mod common;
#[path = "../../hash/tests/common/records.rs"]
mod records;

use common::{CURVES, curve, field_len, integer, pem, pkcs8, sec1, spki, tlv};
use data_encoding::HEXLOWER_PERMISSIVE;
use records::records;
use sentry_trust::{KeyAlgorithm, KeyError, PrivateKey, PublicKey};

/// The records of the three curves, which a file has in the order of [`CURVES`], `each` of every curve.
fn by_curve<const N: usize>(name: &str, fields: [&str; N], each: usize) -> impl Iterator<Item = (KeyAlgorithm, [String; N])> {
    let records = records(&format!("vectors/nist/{name}.rsp"), fields, CURVES.len() * each);
    records.into_iter().enumerate().map(move |(index, record)| (CURVES[index / each], record))
}

/// A number in hexadecimal, without leading zeroes, as at least `length` bytes.
fn number(hex: &str, length: usize) -> Vec<u8> {
    let digits = hex.len().next_multiple_of(2).max(2 * length);
    HEXLOWER_PERMISSIVE.decode(format!("{hex:0>digits$}").as_bytes()).unwrap()
}

/// An uncompressed point. A coordinate that is too long is kept so.
fn point(algorithm: KeyAlgorithm, x: &str, y: &str) -> Vec<u8> {
    let length = field_len(algorithm);
    [vec![4], number(x, length), number(y, length)].concat()
}

#[test]
fn signature_verification() {
    let (mut accepted, mut refused) = (0, 0);
    for (algorithm, [message, x, y, r, s, result]) in by_curve("ECDSA_SigVer", ["Msg", "Qx", "Qy", "R", "S", "Result"], 15) {
        let key = PublicKey::from_spki(&spki(algorithm, &point(algorithm, &x, &y))).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let verdict = key.verify_message(&number(&message, 0), &tlv(0x30, &[&integer(&number(&r, 0)), &integer(&number(&s, 0))]));
        match (result.split_once(' ').unwrap().0, verdict) {
            ("P", Ok(())) => accepted += 1,
            ("F", Err(_)) => refused += 1,
            (_, verdict) => panic!("{algorithm}, message {message}: {result}, found {verdict:?}"),
        }
    }
    assert_eq!((accepted, refused), (9, 36));
}

#[test]
fn public_key_validation() {
    let (mut accepted, mut refused) = (0, 0);
    for (algorithm, [x, y, result]) in by_curve("ECDSA_PKV", ["Qx", "Qy", "Result"], 12) {
        match (result.split_once(' ').unwrap().0, PublicKey::from_spki(&spki(algorithm, &point(algorithm, &x, &y)))) {
            ("P", Ok(_)) => accepted += 1,
            ("F", Err(KeyError::PointNotOnCurve { algorithm: found })) if found == algorithm => refused += 1,
            (_, key) => panic!("{algorithm}, x {x}: {result}, found {key:?}"),
        }
    }
    assert_eq!((accepted, refused), (12, 24));
}

#[test]
fn key_pairs() {
    let pairs: Vec<_> = by_curve("ECDSA_KeyPair", ["d", "Qx", "Qy"], 10).collect();
    let mut run = 0;
    for (index, (algorithm, [scalar, x, y])) in pairs.iter().enumerate() {
        let algorithm = *algorithm;
        let scalar = number(scalar, field_len(algorithm));
        let public = point(algorithm, x, y);
        let fingerprint = PublicKey::from_spki(&spki(algorithm, &public)).unwrap().fingerprint();
        let name = Some(curve(algorithm));
        for text in [
            pem("EC PRIVATE KEY", &sec1(name, &scalar, None)),
            pem("EC PRIVATE KEY", &sec1(name, &scalar, Some(&public))),
            pem("PRIVATE KEY", &pkcs8(algorithm, 0, &sec1(None, &scalar, None), &[])),
            pem("PRIVATE KEY", &pkcs8(algorithm, 0, &sec1(name, &scalar, Some(&public)), &[])),
        ] {
            assert_eq!(PrivateKey::from_pem(&text, None).unwrap().public().fingerprint(), fingerprint);
            run += 1;
        }
        // The public half of another key of the same curve.
        let (_, [_, x, y]) = &pairs[index / 10 * 10 + (index + 1) % 10];
        let wrong = sec1(name, &scalar, Some(&point(algorithm, x, y)));
        assert!(matches!(PrivateKey::from_pem(&pem("EC PRIVATE KEY", &wrong), None), Err(KeyError::Pem { .. })));
    }
    assert_eq!(run, 4 * 30);
}
