//! DER written by hand, so that a test can write it wrongly.

use pkcs8::der::pem::{self, LineEnding};
use sentry_trust::KeyAlgorithm;

/// The three algorithms whose keys are points of a curve.
pub const CURVES: [KeyAlgorithm; 3] = [KeyAlgorithm::EcdsaP256Sha256, KeyAlgorithm::EcdsaP384Sha384, KeyAlgorithm::EcdsaP521Sha512];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const ID_EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const ID_ED25519: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];

/// A tag, the length and the contents.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = match contents.len() {
        short @ 0..=0x7f => vec![short as u8],
        byte @ 0x80..=0xff => vec![0x81, byte as u8],
        long => vec![0x82, (long >> 8) as u8, long as u8],
    };
    [vec![tag], length, contents].concat()
}

/// A non-negative number given as big-endian bytes: no leading zeroes but the one that keeps the sign.
pub fn integer(big_endian: &[u8]) -> Vec<u8> {
    let start = big_endian.iter().position(|&byte| byte != 0).unwrap_or(big_endian.len());
    let digits = &big_endian[start..];
    let sign: &[u8] = if digits.first().is_none_or(|&byte| byte >= 0x80) { &[0] } else { &[] };
    tlv(INTEGER, &[sign, digits])
}

/// The object identifier of the algorithm's curve.
pub fn curve(algorithm: KeyAlgorithm) -> &'static [u8] {
    match algorithm {
        KeyAlgorithm::EcdsaP256Sha256 => &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        KeyAlgorithm::EcdsaP384Sha384 => &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22],
        KeyAlgorithm::EcdsaP521Sha512 => &[0x06, 5, 0x2b, 0x81, 4, 0, 0x23],
        other => panic!("{other} names no curve"),
    }
}

/// Bytes of a coordinate and of a private key.
pub fn field_len(algorithm: KeyAlgorithm) -> usize {
    match algorithm {
        KeyAlgorithm::EcdsaP384Sha384 => 48,
        KeyAlgorithm::EcdsaP521Sha512 => 66,
        _ => 32,
    }
}

fn algorithm_identifier(algorithm: KeyAlgorithm) -> Vec<u8> {
    match algorithm {
        KeyAlgorithm::Ed25519 => tlv(SEQUENCE, &[ID_ED25519]),
        _ => tlv(SEQUENCE, &[ID_EC_PUBLIC_KEY, curve(algorithm)]),
    }
}

/// `SubjectPublicKeyInfo` with any bytes as the key.
pub fn spki(algorithm: KeyAlgorithm, key: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&algorithm_identifier(algorithm), &tlv(BIT_STRING, &[&[0], key])])
}

/// SEC1 `ECPrivateKey`; `point` is the public half, if it is given.
pub fn sec1(curve: Option<&[u8]>, scalar: &[u8], point: Option<&[u8]>) -> Vec<u8> {
    let curve = curve.map_or(Vec::new(), |curve| tlv(0xa0, &[curve]));
    let point = point.map_or(Vec::new(), |point| tlv(0xa1, &[&tlv(BIT_STRING, &[&[0], point])]));
    tlv(SEQUENCE, &[&integer(&[1]), &tlv(OCTET_STRING, &[scalar]), &curve, &point])
}

/// PKCS#8 `PrivateKeyInfo`; `attachment` follows the key.
pub fn pkcs8(algorithm: KeyAlgorithm, version: u8, key: &[u8], attachment: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(INTEGER, &[&[version]]), &algorithm_identifier(algorithm), &tlv(OCTET_STRING, &[key]), attachment])
}

/// PEM text with any label.
pub fn pem(label: &'static str, der: &[u8]) -> Vec<u8> {
    pem::encode_string(label, LineEnding::LF, der).unwrap().into_bytes()
}
