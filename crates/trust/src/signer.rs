//! Signing: a statement in, a bundle out.

use sentry_bundle::{Bundle, Material, PaeBytes, PublicKeyMaterial, Statement, pae};

use crate::sealed::Sealed;
use crate::{KeyAlgorithm, KeyError, PrivateKey, SignError, TrustedKey, UnverifiedBundle};

/// Whatever can sign: a key here, later a certificate, a token or Sigstore. Only this crate has signers.
pub trait Signer: Sealed {
    /// What the bundle says of the signer.
    fn material(&self) -> Material;

    /// How the key that signs does it.
    fn key_algorithm(&self) -> KeyAlgorithm;

    /// Signs the encoded payload.
    ///
    /// # Errors
    /// [`KeyError`] if the key or its device fails.
    fn sign(&self, message: &PaeBytes) -> Result<Vec<u8>, KeyError>;

    /// Checks a fresh bundle as a consumer would.
    ///
    /// # Errors
    /// [`SignError::SelfCheck`].
    fn check(&self, bundle: &UnverifiedBundle) -> Result<(), SignError>;
}

impl Sealed for PrivateKey {}

impl Signer for PrivateKey {
    fn material(&self) -> Material {
        Material::PublicKey(PublicKeyMaterial { hint: Some(self.public().fingerprint()), ..PublicKeyMaterial::default() })
    }

    fn key_algorithm(&self) -> KeyAlgorithm {
        self.public().algorithm()
    }

    fn sign(&self, message: &PaeBytes) -> Result<Vec<u8>, KeyError> {
        Self::sign(self, message)
    }

    fn check(&self, bundle: &UnverifiedBundle) -> Result<(), SignError> {
        bundle.check(&TrustedKey::new(self.public())).map(|_| ()).map_err(SignError::SelfCheck)
    }
}

/// Signs a statement. The text that comes back is a bundle file; it has been read again and verified.
///
/// # Errors
/// Any [`SignError`]; nothing has been written then.
pub fn sign(statement: &Statement, signer: &dyn Signer) -> Result<String, SignError> {
    let payload = statement.to_payload();
    let signature = signer.sign(&pae(&payload))?;
    let bundle = Bundle { material: signer.material(), payload, signature };
    let text = bundle.to_json()?;
    signer.check(&UnverifiedBundle::parse(text.as_bytes())?)?;
    Ok(text)
}
