//! Key files as OpenSSL and others write them, and our own: read, written, or refused with the right error.
//!
//! `tests/keys/README.md` says where each file comes from.

use std::fs;
use std::path::{Path, PathBuf};

use sentry_bundle::pae;
use sentry_trust::{KeyAlgorithm, KeyError, PrivateKey, PublicKey, SignatureError, Signer};

const ALGORITHMS: [(KeyAlgorithm, &str); 4] = [
    (KeyAlgorithm::EcdsaP256Sha256, "p256"),
    (KeyAlgorithm::EcdsaP384Sha384, "p384"),
    (KeyAlgorithm::EcdsaP521Sha512, "p521"),
    (KeyAlgorithm::Ed25519, "ed25519"),
];

/// The four public keys that OpenSSL wrote: `sha256sum tests/keys/openssl/*.pub.pem`.
const FINGERPRINTS: [(&str, &str); 4] = [
    ("p256", "8754cd109fd5e25fb198c29daee1461d99cd58f4cb86c527610ad9d7f7dc05fc"),
    ("p384", "a531c3505c0cbfc06b70f7573f583823b431d0bf2b9afba74f6f27e9aa363be3"),
    ("p521", "12d3d203e12e33bc19ac61a85601a2d9d195acbf3227a4953eb01e0a77fc4304"),
    ("ed25519", "2b2d0c420b549484ea40fcf0cc50762708535f60a1ae699943db29c9df7ce61c"),
];

fn keys() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(keys().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn private(name: &str, password: Option<&str>) -> Result<PrivateKey, KeyError> {
    PrivateKey::from_pem(&file(name), password.map(str::as_bytes))
}

fn fingerprint(name: &str) -> String {
    PublicKey::from_pem(&file(&format!("openssl/{name}.pub.pem"))).unwrap().fingerprint()
}

/// An error's variant and what it found, without the texts of libraries.
fn describe(error: &KeyError) -> String {
    match error {
        KeyError::Pem { .. } => "Pem".to_owned(),
        KeyError::WrongKind { found, .. } => format!("WrongKind {found}"),
        KeyError::CurveNotAllowed { found } => format!("CurveNotAllowed {found}"),
        KeyError::PointNotOnCurve { algorithm } => format!("PointNotOnCurve {algorithm}"),
        KeyError::Unsupported { found } => format!("Unsupported {found}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn public_keys_of_openssl_are_read_and_written_back() {
    for ((algorithm, name), (same, sum)) in ALGORITHMS.into_iter().zip(FINGERPRINTS) {
        assert_eq!(name, same);
        let text = file(&format!("openssl/{name}.pub.pem"));
        let key = PublicKey::from_pem(&text).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.to_pem().as_bytes(), text);
        assert_eq!(key.fingerprint(), sum);
    }
}

#[test]
fn private_keys_of_openssl_are_read() {
    let files = [
        ("p256", "openssl/p256.sec1.pem"),
        ("p384", "openssl/p384.sec1.pem"),
        ("p521", "openssl/p521.sec1.pem"),
        ("p256", "openssl/p256.pkcs8.pem"),
        ("p384", "openssl/p384.pkcs8.pem"),
        ("p521", "openssl/p521.pkcs8.pem"),
        ("ed25519", "openssl/ed25519.pkcs8.pem"),
        ("p256", "openssl/p256.compressed.sec1.pem"),
        ("p256", "openssl/p256.no-public.sec1.pem"),
    ];
    for (name, path) in files {
        let key = private(path, None).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(key.public().fingerprint(), fingerprint(name), "{path}");
        // A password that is not needed does no harm.
        assert!(private(path, Some("sentry")).is_ok(), "{path}");
    }
}

#[test]
fn compressed_public_keys_have_the_fingerprint_of_uncompressed_ones() {
    for name in ["p256", "p384", "p521"] {
        assert_eq!(fingerprint(&format!("{name}.compressed")), fingerprint(name));
    }
}

#[test]
fn published_keys_that_other_readers_accept_are_read() {
    let files = [
        ("pyca/ecc_private_with_rfc5915_ext.pem", KeyAlgorithm::EcdsaP256Sha256),
        ("pyca/high-bit-set.pem", KeyAlgorithm::EcdsaP256Sha256),
        ("pyca/ed25519-pkcs8.pem", KeyAlgorithm::Ed25519),
    ];
    for (path, algorithm) in files {
        assert_eq!(private(path, None).unwrap().public().algorithm(), algorithm, "{path}");
    }
}

#[test]
fn encrypted_keys_open_with_their_password_only() {
    let files = [
        ("openssl/p384.aes256.pem", "sentry", fingerprint("p384")),
        ("openssl/p521.scrypt.pem", "sentry", fingerprint("p521")),
        ("openssl/ed25519.empty-password.pem", "", fingerprint("ed25519")),
        ("pyca/ed25519-pkcs8-enc.pem", "password", PublicKey::from_pem(&file("pyca/ed25519-pub.pem")).unwrap().fingerprint()),
        ("pyca/ed25519-scrypt.pem", "hunter42", "36d717203cbca1812f05f30e0415251c928b659882092e653221a028571c6853".to_owned()),
    ];
    for (path, password, fingerprint) in files {
        assert_eq!(private(path, Some(password)).unwrap().public().fingerprint(), fingerprint, "{path}");
        assert!(matches!(private(path, None), Err(KeyError::Encrypted)), "{path}");
        for wrong in ["Sentry", "sentry\n", "passwor"] {
            assert!(matches!(private(path, Some(wrong)), Err(KeyError::Password)), "{path} with {wrong:?}");
        }
    }
    assert!(matches!(private("openssl/rsa.aes256.pem", Some("sentry")), Err(KeyError::Rsa)));
}

#[test]
fn outdated_or_unknown_encryption_is_refused() {
    let files = [
        ("openssl/p256.legacy-encrypted.pem", "LegacyEncryption"),
        ("openssl/p256.des3.pem", "Pem"),
        ("openssl/p256.pbe-sha1-3des.pem", "Pem"),
        ("pyca/enc-ec-sha1-128-rc4.pem", "Pem"),
        ("pyca/enc-unknown-algorithm.pem", "Pem"),
        ("pyca/enc-unknown-kdf.pem", "Pem"),
        ("pyca/enc-unknown-pbkdf2-prf.pem", "Pem"),
    ];
    for (path, expected) in files {
        for password in [None, Some("sentry")] {
            assert_eq!(describe(&private(path, password).err().unwrap()), expected, "{path}");
        }
    }
}

#[test]
fn private_keys_of_other_kinds_are_refused() {
    let files = [
        ("openssl/rsa.pkcs1.pem", "Rsa"),
        ("openssl/rsa.pkcs8.pem", "Rsa"),
        ("openssl/rsa-pss.pkcs8.pem", "Unsupported 1.2.840.113549.1.1.10"),
        ("openssl/ed448.pkcs8.pem", "Unsupported 1.3.101.113"),
        ("openssl/x25519.pkcs8.pem", "Unsupported 1.3.101.110"),
        ("openssl/secp256k1.sec1.pem", "CurveNotAllowed secp256k1"),
        ("openssl/secp256k1.pkcs8.pem", "CurveNotAllowed secp256k1"),
        ("openssl/p256.explicit.sec1.pem", "ExplicitCurveParameters"),
        ("openssl/p256.explicit.pkcs8.pem", "ExplicitCurveParameters"),
        ("openssl/p256.explicit-with-parameters.sec1.pem", "ExplicitCurveParameters"),
        ("pyca/explicit_parameters_wap_wsg_idm_ecid_wtls11_private_key.pem", "ExplicitCurveParameters"),
        ("pyca/ec_oid_not_in_reg_private_2.pkcs8.pem", "ExplicitCurveParameters"),
        ("pyca/secp256k1-explicit-no-seed.pem", "ExplicitCurveParameters"),
        ("pyca/secp256r1-explicit-seed.pem", "ExplicitCurveParameters"),
        ("pyca/secp384r1-explicit-seed.pem", "ExplicitCurveParameters"),
        ("pyca/secp521r1-explicit-seed.pem", "ExplicitCurveParameters"),
        ("pyca/ec-inconsistent-curve.pem", "Pem"),
        ("pyca/ec-inconsistent-curve2.pem", "Pem"),
        ("pyca/ec-invalid-private-scalar.pem", "Pem"),
        ("pyca/ec-invalid-version.pem", "Pem"),
        ("pyca/ec-missing-curve.pem", "Pem"),
        ("pyca/secp128r1_private_key.pem", "CurveNotAllowed 1.3.132.0.28"),
    ];
    for (path, expected) in files {
        assert_eq!(describe(&private(path, None).err().unwrap()), expected, "{path}");
    }
}

#[test]
fn public_keys_of_other_kinds_are_refused() {
    let files = [
        ("openssl/rsa.pub.pem", "Rsa"),
        ("openssl/rsa.pkcs1.pub.pem", "WrongKind RSA PUBLIC KEY"),
        ("openssl/ed448.pub.pem", "Unsupported 1.3.101.113"),
        ("openssl/x25519.pub.pem", "Unsupported 1.3.101.110"),
        ("openssl/secp256k1.pub.pem", "CurveNotAllowed secp256k1"),
        ("openssl/p256.explicit.pub.pem", "ExplicitCurveParameters"),
        ("pyca/secp256r1-pub-explicit-seed.pem", "ExplicitCurveParameters"),
        ("pyca/secp384r1-pub-explicit-no-seed.pem", "ExplicitCurveParameters"),
        ("pyca/secp521r1-pub-explicit-seed.pem", "ExplicitCurveParameters"),
        ("pyca/sect163k1-spki.pem", "CurveNotAllowed 1.3.132.0.1"),
        ("pyca/sect233r1-spki.pem", "CurveNotAllowed 1.3.132.0.27"),
    ];
    for (path, expected) in files {
        assert_eq!(describe(&PublicKey::from_pem(&file(path)).unwrap_err()), expected, "{path}");
    }
}

#[test]
fn a_key_of_the_wrong_half_is_refused() {
    let files = [
        ("openssl/p256.sec1.pem", "EC PRIVATE KEY"),
        ("openssl/p256.pkcs8.pem", "PRIVATE KEY"),
        ("openssl/p384.aes256.pem", "ENCRYPTED PRIVATE KEY"),
        ("openssl/p256.certificate.pem", "CERTIFICATE"),
    ];
    for (path, label) in files {
        let error = PublicKey::from_pem(&file(path)).unwrap_err();
        assert!(matches!(&error, KeyError::WrongKind { found, expected: "a public key" } if found == label), "{path}: {error:?}");
    }
    for (path, label) in [("openssl/p256.pub.pem", "PUBLIC KEY"), ("openssl/p256.certificate.pem", "CERTIFICATE")] {
        let error = private(path, None).err().unwrap();
        assert!(matches!(&error, KeyError::WrongKind { found, expected: "a private key" } if found == label), "{path}: {error:?}");
    }
}

#[test]
fn a_new_key_survives_its_own_file() {
    let message = pae(b"{}");
    for (algorithm, _) in ALGORITHMS {
        let key = PrivateKey::generate(algorithm).unwrap();
        for password in [None, Some(&b"correct horse"[..])] {
            let text = key.to_pem(password).unwrap();
            let again = PrivateKey::from_pem(text.as_bytes(), password).unwrap();
            assert_eq!(again.public().fingerprint(), key.public().fingerprint());
            let signature = Signer::sign(&again, &message).unwrap();
            key.public().verify(&message, &signature).unwrap();
            let verdict = key.public().verify(&pae(b"{ }"), &signature);
            assert!(matches!(verdict, Err(SignatureError::Invalid { .. })), "{algorithm}: {verdict:?}");
        }
        let public = PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap();
        assert_eq!(public.fingerprint(), key.public().fingerprint());
    }
}

#[test]
fn a_new_encrypted_key_opens_with_its_password_only() {
    let text = PrivateKey::generate(KeyAlgorithm::EcdsaP384Sha384).unwrap().to_pem(Some(b"correct horse")).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert!(matches!(PrivateKey::from_pem(text.as_bytes(), None), Err(KeyError::Encrypted)));
    for wrong in [&b""[..], b"correct hors", b"correct horse "] {
        assert!(matches!(PrivateKey::from_pem(text.as_bytes(), Some(wrong)), Err(KeyError::Password)), "{wrong:?}");
    }
}

#[test]
fn two_new_keys_differ_and_so_do_two_encryptions_of_one() {
    for (algorithm, _) in ALGORITHMS {
        let [one, other] = [(); 2].map(|()| PrivateKey::generate(algorithm).unwrap());
        assert_ne!(one.public().fingerprint(), other.public().fingerprint());
    }
    let key = PrivateKey::generate(KeyAlgorithm::Ed25519).unwrap();
    assert_ne!(key.to_pem(Some(b"one")).unwrap(), key.to_pem(Some(b"one")).unwrap());
}

/// Text around a PEM block (RFC 7468, sections 2 and 3).
#[test]
fn text_around_a_key() {
    let key = String::from_utf8(file("openssl/p256.pub.pem")).unwrap();
    for (what, text) in [
        ("no newline at the end", key.trim_end().to_owned()),
        ("line ends of Windows", key.replace('\n', "\r\n")),
        ("a blank line before", format!("\n{key}")),
        ("words before", format!("This is my key:\n\n{key}")),
    ] {
        assert!(PublicKey::from_pem(text.as_bytes()).is_ok(), "{what}");
    }
    for (what, text) in [
        ("an empty file", String::new()),
        ("words alone", "This is my key\n".to_owned()),
        ("no end", key[..key.len() / 2].to_owned()),
        ("another label at the end", key.replace("END PUBLIC", "END PRIVATE")),
        ("two keys", format!("{key}{key}")),
        ("a letter that is not base64", key.replace("MFkw", "MF*w")),
        ("a bit set in the padding", key.replace("6g==", "6h==")),
    ] {
        assert_eq!(describe(&PublicKey::from_pem(text.as_bytes()).unwrap_err()), "Pem", "{what}");
    }
}

#[test]
fn blank_lines_after_a_key_do_no_harm() {
    let key = String::from_utf8(file("openssl/p256.pub.pem")).unwrap();
    for after in ["\n", "\n\n", " ", " \n", "\r\n"] {
        assert!(PublicKey::from_pem(format!("{key}{after}").as_bytes()).is_ok(), "{after:?}");
    }
}

/// PBKDF2's default, HMAC-SHA1, which OpenSSL wrote before 1.1.0. The password is the right one.
#[test]
fn an_unsupported_key_derivation_is_not_blamed_on_the_password() {
    let path = "pyca/ec_private_key_encrypted.pem";
    assert!(matches!(private(path, None), Err(KeyError::Encrypted)));
    assert!(matches!(private(path, Some("123456")), Err(KeyError::UnsupportedEncryption { .. })));
}
