//! Keys with one thing wrong in their encoding, built here byte by byte: each is refused with its own error.

mod common;

use common::{CURVES, curve, field_len, pem, pkcs8, sec1, spki, tlv};
use data_encoding::HEXLOWER;
use sentry_trust::{KeyAlgorithm, KeyError, PrivateKey, PublicKey};

/// The encoded point of a new key, uncompressed.
fn new_point(algorithm: KeyAlgorithm) -> Vec<u8> {
    let key = PrivateKey::generate(algorithm).unwrap();
    let (_, der) = pkcs8::der::pem::decode_vec(key.public().to_pem().as_bytes()).unwrap();
    der[der.len() - 1 - 2 * field_len(algorithm)..].to_vec()
}

/// Compressed from uncompressed.
fn compressed(point: &[u8]) -> Vec<u8> {
    let sign = 2 + (point[point.len() - 1] & 1);
    [&[sign], &point[1..=point.len() / 2]].concat()
}

fn is_off_curve(algorithm: KeyAlgorithm, point: &[u8]) -> bool {
    let key = PublicKey::from_spki(&spki(algorithm, point));
    matches!(key, Err(KeyError::PointNotOnCurve { algorithm: found }) if found == algorithm)
}

fn is_malformed(key: Result<impl Sized, KeyError>) -> bool {
    matches!(key, Err(KeyError::Pem { .. }))
}

#[test]
fn both_encodings_of_a_point_are_the_same_key() {
    for algorithm in CURVES {
        let point = new_point(algorithm);
        let [long, short] = [point.clone(), compressed(&point)].map(|point| PublicKey::from_spki(&spki(algorithm, &point)).unwrap());
        assert_eq!(long.fingerprint(), short.fingerprint());
    }
}

#[test]
fn points_off_the_curve_are_refused() {
    for algorithm in CURVES {
        let point = new_point(algorithm);
        let length = field_len(algorithm);
        let last = point.len() - 1;
        for index in [1, length, length + 1, last] {
            let mut moved = point.clone();
            moved[index] ^= 1;
            assert!(is_off_curve(algorithm, &moved), "{algorithm}, byte {index}");
        }
        // The point at infinity, the origin, coordinates that are not below the prime.
        let [mut origin, mut large] = [vec![0; last + 1], vec![0xff; last + 1]];
        (origin[0], large[0]) = (4, 4);
        assert!([&[0][..], &origin, &large].into_iter().all(|point| is_off_curve(algorithm, point)), "{algorithm}");
    }
}

#[test]
fn points_of_another_length_are_refused() {
    for algorithm in CURVES {
        let point = new_point(algorithm);
        let short = compressed(&point);
        let longer = |point: &[u8]| [point, &[0]].concat();
        let shorter = |point: &[u8]| point[..point.len() - 1].to_vec();
        for wrong in [Vec::new(), vec![4], longer(&point), shorter(&point), longer(&short), shorter(&short), point[1..].to_vec()] {
            assert!(is_off_curve(algorithm, &wrong), "{algorithm}, {} bytes", wrong.len());
        }
    }
}

#[test]
fn points_of_another_curve_are_refused() {
    for algorithm in CURVES {
        for other in CURVES.into_iter().filter(|other| *other != algorithm) {
            assert!(is_off_curve(algorithm, &new_point(other)), "a point of {other} as one of {algorithm}");
        }
    }
}

/// RFC 5480, section 2.2: "The hybrid form MUST NOT be used."
#[test]
fn hybrid_points_are_refused() {
    for algorithm in CURVES {
        let mut point = new_point(algorithm);
        point[0] = 6 + (point[point.len() - 1] & 1);
        assert!(is_off_curve(algorithm, &point), "{algorithm}");
    }
}

/// The library takes a whole key where a point belongs, with whatever parameters that has.
#[test]
fn a_key_inside_of_a_key_is_refused() {
    for algorithm in CURVES {
        let inner = spki(algorithm, &new_point(algorithm));
        assert!(is_off_curve(algorithm, &inner), "{algorithm}");
    }
}

#[test]
fn spki_is_strict_der() {
    for algorithm in CURVES {
        let der = spki(algorithm, &new_point(algorithm));
        let longer = [&der[..], &[0]].concat();
        assert!(is_malformed(PublicKey::from_spki(&longer)), "{algorithm}: a byte too many");
        assert!(is_malformed(PublicKey::from_spki(&der[..der.len() - 1])), "{algorithm}: a byte too few");
        assert!(is_malformed(PublicKey::from_spki(&[])), "{algorithm}: nothing");
        // The first byte of the bit string counts the bits that are not used.
        let unused = der.len() - 1 - (2 * field_len(algorithm) + 1);
        let mut bits = der.clone();
        assert_eq!(bits[unused], 0);
        bits[unused] = 1;
        *bits.last_mut().unwrap() &= 0xfe;
        assert!(is_malformed(PublicKey::from_spki(&bits)), "{algorithm}: unused bits");
    }
}

/// Every encoding of the eight points of small order, canonical or not (eprint 2020/1244, table 1), and other
/// encodings that are not below the prime.
#[test]
fn weak_ed25519_keys_are_refused() {
    let encodings = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for encoding in encodings {
        let mut key = HEXLOWER.decode(encoding.as_bytes()).unwrap();
        for sign in [0, 0x80] {
            key[31] = key[31] & 0x7f | sign;
            assert!(is_off_curve(KeyAlgorithm::Ed25519, &key), "{encoding}, sign {sign}");
        }
    }
    for length in [0, 31, 33, 64] {
        assert!(is_off_curve(KeyAlgorithm::Ed25519, &[9; 64][..length]), "{length} bytes");
    }
}

/// No x belongs to y = 2 (RFC 8032, section 5.1.3, step 3).
#[test]
fn an_ed25519_key_off_the_curve_verifies_nothing() {
    // y = 2 belongs to no point. The library looks for the point when it verifies, so the key is read.
    let mut key = [0; 32];
    key[0] = 2;
    let spki = [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], &key].concat();
    let key = sentry_trust::PublicKey::from_spki(&spki).unwrap();
    for signature in [[0; 64], [1; 64]] {
        assert!(matches!(
            key.verify_message(b"", &signature),
            Err(sentry_trust::SignatureError::Invalid { .. } | sentry_trust::SignatureError::Scalar { .. })
        ));
    }
}

#[test]
fn private_scalars_out_of_range_are_refused() {
    for algorithm in CURVES {
        let length = field_len(algorithm);
        for scalar in [vec![0; length], vec![0xff; length], Vec::new()] {
            let key = sec1(Some(curve(algorithm)), &scalar, None);
            assert!(is_malformed(PrivateKey::from_pem(&pem("EC PRIVATE KEY", &key), None)), "{algorithm}");
            let key = pkcs8(algorithm, 0, &key, &[]);
            assert!(is_malformed(PrivateKey::from_pem(&pem("PRIVATE KEY", &key), None)), "{algorithm}");
        }
    }
}

#[test]
fn private_keys_whose_parts_disagree_are_refused() {
    for algorithm in CURVES {
        let scalar = vec![7; field_len(algorithm)];
        let scalar = if algorithm == KeyAlgorithm::EcdsaP521Sha512 { [&[0], &scalar[1..]].concat() } else { scalar };
        let name = Some(curve(algorithm));
        let read = |key: &[u8]| PrivateKey::from_pem(&pem("PRIVATE KEY", &pkcs8(algorithm, 0, key, &[])), None);
        assert!(read(&sec1(name, &scalar, None)).is_ok());
        assert!(is_malformed(read(&sec1(name, &scalar, Some(&new_point(algorithm))))), "{algorithm}: another key's public half");
        for other in CURVES.into_iter().filter(|other| *other != algorithm) {
            assert!(is_malformed(read(&sec1(Some(curve(other)), &scalar, None))), "{algorithm} outside, {other} inside");
        }
    }
}

/// The outer name is checked, the inner parameters are read by the library.
#[test]
fn explicit_parameters_inside_of_a_named_private_key_are_refused() {
    let explicit = include_bytes!("keys/openssl/p256.explicit.sec1.pem");
    let (_, der) = pkcs8::der::pem::decode_vec(explicit).unwrap();
    let key = pem("PRIVATE KEY", &pkcs8(KeyAlgorithm::EcdsaP256Sha256, 0, &der, &[]));
    assert!(PrivateKey::from_pem(&key, None).is_err());
}

#[test]
fn private_keys_under_another_label_are_refused() {
    let key = sec1(Some(curve(CURVES[0])), &[7; 32], None);
    assert!(is_malformed(PrivateKey::from_pem(&pem("PRIVATE KEY", &key), None)));
    assert!(is_malformed(PrivateKey::from_pem(&pem("EC PRIVATE KEY", &pkcs8(CURVES[0], 0, &key, &[])), None)));
}

#[test]
fn ed25519_private_keys_are_checked() {
    let seed = [7; 32];
    let public = HEXLOWER.decode(b"ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c").unwrap();
    let read = |version, seed: &[u8], attachment: &[u8]| {
        let key = pkcs8(KeyAlgorithm::Ed25519, version, &tlv(0x04, &[seed]), attachment);
        PrivateKey::from_pem(&pem("PRIVATE KEY", &key), None)
    };
    let attached = |public: &[u8]| tlv(0x81, &[&[0], public]);
    let expected = PublicKey::from_spki(&spki(KeyAlgorithm::Ed25519, &public)).unwrap().fingerprint();
    assert_eq!(read(0, &seed, &[]).unwrap().public().fingerprint(), expected);
    assert_eq!(read(1, &seed, &attached(&public)).unwrap().public().fingerprint(), expected);
    assert!(is_malformed(read(1, &seed, &attached(&[9; 32]))), "another key's public half");
    for length in [0, 31, 33, 64] {
        assert!(is_malformed(read(0, &[7; 64][..length], &[])), "a seed of {length} bytes");
    }
}
