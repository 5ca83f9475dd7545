//! Private keys: made, read, written and used for signing. They have no `Debug` and no `Serialize`, and their
//! bytes are wiped.

use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use pkcs8::der::pem::{self, LineEnding};
use pkcs8::der::{Decode, ErrorKind, Tag};
use pkcs8::pkcs5::Error::{NoPbes1CryptSupport, UnsupportedAlgorithm as Unsupported};
use pkcs8::pkcs5::pbes2;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use sec1::{EcParameters, EcPrivateKey};
use sentry_bundle::PaeBytes;
use zeroize::Zeroizing;

use super::{EC, ED25519, KeyAlgorithm, PublicKey, RSA, decode_pem, der_error};
use crate::KeyError;

/// Rounds of PBKDF2-HMAC-SHA256 for a new encrypted key (OWASP password storage cheat sheet, 2023).
const PBKDF2_ROUNDS: u32 = 600_000;

/// A private key with its public half.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let library = |_| KeyError::Library { action: "make a key" };
        let pair = match algorithm.ecdsa_signing() {
            Some(signing) => Pair::Ecdsa(EcdsaKeyPair::generate(signing).map_err(library)?),
            None => Pair::Ed25519(Ed25519KeyPair::generate().map_err(library)?),
        };
        Self::new(algorithm, pair)
    }

    /// Reads a key from PEM text: PKCS#8, encrypted PKCS#8, or SEC1 as `openssl ecparam -genkey` writes it.
    ///
    /// # Errors
    /// Every [`KeyError`] about private keys; [`KeyError::Encrypted`] asks for a password.
    pub fn from_pem(text: &[u8], password: Option<&[u8]>) -> Result<Self, KeyError> {
        let (label, der) = decode_pem(text)?;
        let der = Zeroizing::new(der);
        match label {
            "RSA PRIVATE KEY" => Err(KeyError::Rsa),
            "PRIVATE KEY" => Self::from_pkcs8(&der),
            "EC PRIVATE KEY" => Self::from_sec1(&der),
            "ENCRYPTED PRIVATE KEY" => {
                let encrypted = EncryptedPrivateKeyInfoRef::from_der(&der).map_err(|error| der_error(&error))?;
                let decrypted = encrypted.decrypt(password.ok_or(KeyError::Encrypted)?).map_err(|error| match error {
                    pkcs8::Error::EncryptedPrivateKey(error @ (Unsupported { .. } | NoPbes1CryptSupport)) => {
                        KeyError::UnsupportedEncryption { reason: error.to_string() }
                    }
                    _ => KeyError::Password,
                })?;
                Self::from_pkcs8(decrypted.as_bytes())
            }
            found => Err(KeyError::WrongKind { found: found.to_owned(), expected: "a private key" }),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(|error| der_error(&error))?;
        match info.algorithm.oid {
            EC => {
                let curve = super::public::named_curve(info.algorithm.parameters)?;
                let inner = ec_private_key(info.private_key.as_bytes())?;
                if inner.parameters.is_some_and(|inner| inner != EcParameters::NamedCurve(curve)) {
                    return Err(KeyError::Pem { reason: "it names two curves".to_owned() });
                }
                Self::ecdsa(KeyAlgorithm::of_curve(curve)?, der)
            }
            ED25519 => {
                let damaged = |_| KeyError::Pem { reason: "its private and public half disagree".to_owned() };
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(damaged)?;
                Self::new(KeyAlgorithm::Ed25519, Pair::Ed25519(pair))
            }
            RSA => Err(KeyError::Rsa),
            other => Err(KeyError::Unsupported { found: other.to_string() }),
        }
    }

    fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        let key = ec_private_key(der)?;
        let Some(EcParameters::NamedCurve(curve)) = key.parameters else {
            return Err(KeyError::Pem { reason: "it names no curve".to_owned() });
        };
        Self::ecdsa(KeyAlgorithm::of_curve(curve)?, der)
    }

    /// `der` is PKCS#8 or SEC1 with a named curve.
    fn ecdsa(algorithm: KeyAlgorithm, der: &[u8]) -> Result<Self, KeyError> {
        let damaged = || KeyError::Pem { reason: format!("it is no key of {algorithm}") };
        let signing = algorithm.ecdsa_signing().ok_or_else(damaged)?;
        let pair = EcdsaKeyPair::from_private_key_der(signing, der).map_err(|_| damaged())?;
        Self::new(algorithm, Pair::Ecdsa(pair))
    }

    fn new(algorithm: KeyAlgorithm, pair: Pair) -> Result<Self, KeyError> {
        let public = match &pair {
            Pair::Ecdsa(pair) => PublicKey::from_point(algorithm, pair.public_key().as_ref())?,
            Pair::Ed25519(pair) => PublicKey::from_point(algorithm, pair.public_key().as_ref())?,
        };
        Ok(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key as PKCS#8 PEM text, encrypted (PBES2, PBKDF2-HMAC-SHA256, AES-256-CBC) if a password is given.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn to_pem(&self, password: Option<&[u8]>) -> Result<Zeroizing<String>, KeyError> {
        let library = || KeyError::Library { action: "encode a private key" };
        let document = match &self.pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        let document = document.map_err(|_| library())?;
        let encode = |label, der: &[u8]| pem::encode_string(label, LineEnding::LF, der).map(Zeroizing::new).map_err(|_| library());
        let Some(password) = password else {
            return encode("PRIVATE KEY", document.as_ref());
        };
        let info = PrivateKeyInfoRef::from_der(document.as_ref()).map_err(|_| library())?;
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        fill(&mut salt).and_then(|()| fill(&mut iv)).map_err(|_| library())?;
        let scheme = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, &salt, iv).map_err(|_| library())?;
        let encrypted = info.encrypt_with_params(scheme, password).map_err(|_| library())?;
        encode("ENCRYPTED PRIVATE KEY", encrypted.as_bytes())
    }

    /// Signs: strict DER for ECDSA with a fresh random nonce, 64 bytes for Ed25519.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub(crate) fn sign(&self, message: &PaeBytes) -> Result<Vec<u8>, KeyError> {
        let library = |_| KeyError::Library { action: "sign" };
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&SystemRandom::new(), message.as_bytes()).map_err(library)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message.as_bytes()).map_err(library)?.as_ref().to_vec()),
        }
    }
}

/// Parses SEC1 (RFC 5915); the curve, where it is given, is a name.
fn ec_private_key(der: &[u8]) -> Result<EcPrivateKey<'_>, KeyError> {
    EcPrivateKey::from_der(der).map_err(|error| match error.kind() {
        ErrorKind::TagUnexpected { expected: Some(Tag::ObjectIdentifier), actual: Tag::Sequence } => KeyError::ExplicitCurveParameters,
        _ => der_error(&error),
    })
}
