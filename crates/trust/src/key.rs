//! Keys: which kinds are allowed, how they are read and written, and what they sign.
//!
//! The list of algorithms is closed and the verifier's: a bundle can claim a key, never choose an algorithm.
//! Curves are named, encodings are strict DER, and each key is used with one hash only.

mod private;
mod public;

use std::fmt;

use aws_lc_rs::signature as aws;
use pkcs8::der::asn1::ObjectIdentifier;
use pkcs8::der::pem;

use crate::KeyError;

pub use private::PrivateKey;
pub use public::PublicKey;

/// RFC 5480: `id-ecPublicKey`.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 8017: `rsaEncryption`.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 8410: `id-Ed25519`.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// RFC 5480: `secp256r1`, `secp384r1`, `secp521r1`; SEC 2: `secp256k1`, to name what is refused.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// A kind of key with the one way in which it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// ECDSA on P-521 with SHA-512.
    EcdsaP521Sha512,
    /// Ed25519, RFC 8032. Not part of OpenSSF Model Signing v1.0.
    Ed25519,
}

impl KeyAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EcdsaP256Sha256, Self::EcdsaP384Sha384, Self::EcdsaP521Sha512, Self::Ed25519];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::EcdsaP521Sha512 => "ecdsa-p521-sha512",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The name in the `keyDetails` of older bundles (Sigstore's `PublicKeyDetails`).
    pub const fn sigstore_name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "PKIX_ECDSA_P256_SHA_256",
            Self::EcdsaP384Sha384 => "PKIX_ECDSA_P384_SHA_384",
            Self::EcdsaP521Sha512 => "PKIX_ECDSA_P521_SHA_512",
            Self::Ed25519 => "PKIX_ED25519",
        }
    }

    /// The algorithm of a key on a named curve.
    fn of_curve(curve: ObjectIdentifier) -> Result<Self, KeyError> {
        match curve {
            P256 => Ok(Self::EcdsaP256Sha256),
            P384 => Ok(Self::EcdsaP384Sha384),
            P521 => Ok(Self::EcdsaP521Sha512),
            SECP256K1 => Err(KeyError::CurveNotAllowed { found: "secp256k1".to_owned() }),
            other => Err(KeyError::CurveNotAllowed { found: other.to_string() }),
        }
    }

    fn verification(self) -> &'static dyn aws::VerificationAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &aws::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384Sha384 => &aws::ECDSA_P384_SHA384_ASN1,
            Self::EcdsaP521Sha512 => &aws::ECDSA_P521_SHA512_ASN1,
            Self::Ed25519 => &aws::ED25519,
        }
    }

    fn ecdsa_signing(self) -> Option<&'static aws::EcdsaSigningAlgorithm> {
        match self {
            Self::EcdsaP256Sha256 => Some(&aws::ECDSA_P256_SHA256_ASN1_SIGNING),
            Self::EcdsaP384Sha384 => Some(&aws::ECDSA_P384_SHA384_ASN1_SIGNING),
            Self::EcdsaP521Sha512 => Some(&aws::ECDSA_P521_SHA512_ASN1_SIGNING),
            Self::Ed25519 => None,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Decodes the key block of a PEM text. Other tools put words before it, and OpenSSL may put the curve's name in
/// a block of its own there.
fn decode_pem(text: &[u8]) -> Result<(&str, Vec<u8>), KeyError> {
    const PARAMETERS: &[u8] = b"-----BEGIN EC PARAMETERS-----";
    const PARAMETERS_END: &[u8] = b"-----END EC PARAMETERS-----";
    let find = |needle: &[u8]| text.windows(needle.len()).position(|window| window == needle);
    if find(b"Proc-Type:").is_some() {
        return Err(KeyError::LegacyEncryption);
    }
    let key = match (find(PARAMETERS), find(PARAMETERS_END)) {
        (Some(_), Some(end)) => text[end + PARAMETERS_END.len()..].trim_ascii_start(),
        _ => text,
    };
    // Blank lines after a key do no harm, and the parser takes one line end only.
    let key = key.trim_ascii_end();
    if !key.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(KeyError::Pem { reason: "it holds no PEM block".to_owned() });
    }
    pem::decode_vec(key).map_err(|error| KeyError::Pem { reason: error.to_string() })
}

fn der_error(error: &pkcs8::der::Error) -> KeyError {
    KeyError::Pem { reason: format!("its DER is malformed: {error}") }
}
