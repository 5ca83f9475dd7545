//! Public keys: read, fingerprinted, and asked for a verdict.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ParsedPublicKey, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use pkcs8::der::asn1::{AnyRef, UintRef};
use pkcs8::der::pem::{self, LineEnding};
use pkcs8::der::{Decode, Reader, SliceReader, Tag, Tagged};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use sentry_bundle::PaeBytes;
use sentry_hash::Algorithm;

use super::{EC, ED25519, KeyAlgorithm, RSA, decode_pem, der_error};
use crate::{KeyError, SignatureError};

/// A public key that has been checked: an allowed algorithm, a named curve, a point on it.
#[derive(Debug)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    key: ParsedPublicKey,
    pem: String,
}

impl PublicKey {
    /// Reads a key from SPKI PEM text (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// Every [`KeyError`] about public keys.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        match decode_pem(text)? {
            ("PUBLIC KEY", der) => Self::from_spki(&der),
            (found, _) => Err(KeyError::WrongKind { found: found.to_owned(), expected: "a public key" }),
        }
    }

    /// Reads a key from DER `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7; RFC 5480; RFC 8410).
    ///
    /// # Errors
    /// As [`PublicKey::from_pem`].
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|error| der_error(&error))?;
        let bits = spki.subject_public_key.as_bytes().ok_or_else(|| KeyError::Pem { reason: "its bits are no whole bytes".to_owned() })?;
        let algorithm = match spki.algorithm.oid {
            EC => KeyAlgorithm::of_curve(named_curve(spki.algorithm.parameters)?)?,
            ED25519 => KeyAlgorithm::Ed25519,
            RSA => return Err(KeyError::Rsa),
            other => return Err(KeyError::Unsupported { found: other.to_string() }),
        };
        Self::from_point(algorithm, bits)
    }

    /// `point` is an encoded curve point (SEC 1, section 2.3.3), or the 32 bytes of an Ed25519 key.
    pub(super) fn from_point(algorithm: KeyAlgorithm, point: &[u8]) -> Result<Self, KeyError> {
        let well_formed = match algorithm {
            KeyAlgorithm::Ed25519 => is_strong_ed25519(point),
            _ => is_encoded_point(point, order(algorithm).len()),
        };
        if !well_formed {
            return Err(KeyError::PointNotOnCurve { algorithm });
        }
        let unparsed = UnparsedPublicKey::new(algorithm.verification(), point);
        let key = unparsed.parse().map_err(|_| KeyError::PointNotOnCurve { algorithm })?;
        let library = |_| KeyError::Library { action: "encode a public key" };
        let spki = key.as_der().map_err(library)?;
        let pem =
            pem::encode_string("PUBLIC KEY", LineEnding::LF, spki.as_ref()).map_err(|error| KeyError::Pem { reason: error.to_string() })?;
        Ok(Self { algorithm, key, pem })
    }

    /// How this key signs.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key as SPKI PEM text: named curve, uncompressed point, 64 columns, LF.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// Lower-case hex SHA-256 of [`PublicKey::to_pem`]: the `hint` of OpenSSF Model Signing.
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(Algorithm::Sha256.digest(self.pem.as_bytes()).as_bytes())
    }

    /// Checks a signature over an encoded payload.
    ///
    /// # Errors
    /// [`SignatureError::Encoding`], [`SignatureError::Scalar`] or [`SignatureError::Invalid`].
    pub fn verify(&self, message: &PaeBytes, signature: &[u8]) -> Result<(), SignatureError> {
        self.verify_message(message.as_bytes(), signature)
    }

    /// Checks a signature over raw bytes; for known-answer tests. Signatures of bundles are over PAE, by
    /// [`PublicKey::verify`].
    ///
    /// # Errors
    /// As [`PublicKey::verify`].
    pub fn verify_message(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.check_encoding(signature)?;
        self.key.verify_sig(message, signature).map_err(|_| SignatureError::Invalid { trusted: self.fingerprint(), hinted: None })
    }

    /// Says precisely what is wrong with a malformed signature. The library refuses it as well.
    fn check_encoding(&self, signature: &[u8]) -> Result<(), SignatureError> {
        let algorithm = self.algorithm;
        let encoding = |reason: String| SignatureError::Encoding { algorithm, reason };
        let order = order(algorithm);
        let below_order = |which, scalar: &[u8]| {
            // Big-endian without leading zeroes: a longer number is larger.
            if (scalar.len(), scalar) < (order.len(), &order[..]) { Ok(()) } else { Err(SignatureError::Scalar { which, algorithm }) }
        };
        if algorithm == KeyAlgorithm::Ed25519 {
            let s = signature.get(32..64).filter(|_| signature.len() == 64);
            let s = s.ok_or_else(|| encoding(format!("it has {} bytes, expected 64", signature.len())))?;
            let big_endian: Vec<u8> = s.iter().rev().copied().skip_while(|&byte| byte == 0).collect();
            return below_order("s", &big_endian);
        }
        let (r, s) = ecdsa_scalars(signature).map_err(|error| encoding(error.to_string()))?;
        for (which, scalar) in [("r", r), ("s", s)] {
            if scalar.as_bytes() == [0] {
                return Err(SignatureError::Scalar { which, algorithm });
            }
            below_order(which, scalar.as_bytes())?;
        }
        Ok(())
    }
}

/// The curve's name; spelled-out parameters are refused (RFC 5480, section 2.1.1: "MUST be namedCurve").
pub(super) fn named_curve(parameters: Option<AnyRef<'_>>) -> Result<pkcs8::ObjectIdentifier, KeyError> {
    let parameters = parameters.ok_or_else(|| KeyError::Pem { reason: "it names no curve".to_owned() })?;
    match parameters.tag() {
        Tag::Sequence => Err(KeyError::ExplicitCurveParameters),
        _ => parameters.decode_as().map_err(|error: pkcs8::der::Error| der_error(&error)),
    }
}

/// `SEQUENCE { INTEGER, INTEGER }`, both non-negative, in strict DER (RFC 3279, section 2.2.3).
fn ecdsa_scalars(der: &[u8]) -> Result<(UintRef<'_>, UintRef<'_>), pkcs8::der::Error> {
    let mut reader = SliceReader::new(der)?;
    let scalars = reader.sequence(|inner| Ok::<_, pkcs8::der::Error>((UintRef::decode(inner)?, UintRef::decode(inner)?)))?;
    reader.finish()?;
    Ok(scalars)
}

/// The order of the base point, big-endian without leading zeroes (SEC 2, version 2.0, sections 2.4.2, 2.5.1 and
/// 2.6.1; RFC 8032, section 5.1).
fn order(algorithm: KeyAlgorithm) -> Vec<u8> {
    let hex = match algorithm {
        KeyAlgorithm::EcdsaP256Sha256 => "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        KeyAlgorithm::EcdsaP384Sha384 => "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        KeyAlgorithm::EcdsaP521Sha512 => concat!(
            "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8",
            "899c47aebb6fb71e91386409"
        ),
        KeyAlgorithm::Ed25519 => "1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed",
    };
    HEXLOWER.decode(hex.as_bytes()).expect("a constant")
}

/// Whether `point` is uncompressed (04, x, y) or compressed (02 or 03, x) with coordinates of `size` bytes (SEC 1, version
/// 2.0, section 2.3.3). The library also takes hybrid forms, and a whole key inside of a key. A coordinate has as many
/// bytes as the order of the three curves.
fn is_encoded_point(point: &[u8], size: usize) -> bool {
    match point.first() {
        Some(4) => point.len() == 1 + 2 * size,
        Some(2 | 3) => point.len() == 1 + size,
        _ => false,
    }
}

/// Whether an Ed25519 key is written canonically and is none of the eight points of small order, under which
/// anybody can sign (Taming the many EdDSAs, eprint 2020/1244, table 1).
fn is_strong_ed25519(key: &[u8]) -> bool {
    // y-coordinates, little-endian, the sign bit cleared. The first three have order 1, 2 or 4, the others 8.
    const SMALL_ORDER: [&str; 5] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let Ok(mut y) = <[u8; 32]>::try_from(key) else { return false };
    y[31] &= 0x7f;
    // p = 2^255 - 19: only the last byte of a number in p..2^255 is not all ones.
    let below_prime = y[31] != 0x7f || y[1..31].iter().any(|&byte| byte != 0xff) || y[0] < 0xed;
    below_prime && !SMALL_ORDER.contains(&HEXLOWER.encode(&y).as_str())
}
