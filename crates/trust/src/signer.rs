//! Signing: a statement in, a bundle out.

use sentry_bundle::{Bundle, DatasetStatement, Material, PaeBytes, PublicKeyMaterial, Statement, TensorsStatement, pae};

use crate::sealed::Sealed;
use crate::timestamp::{self, Timestamper};
use crate::{KeyAlgorithm, KeyError, PrivateKey, SignError, SignedStatement, TrustedKey, UnverifiedBundle, Verifier};

/// Whatever can sign: a key, or a key with a certificate. Only this crate has signers.
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

    /// What a consumer who trusts this signer has, to check a fresh bundle with.
    fn verifier(&self) -> Box<dyn Verifier + '_>;
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

    fn verifier(&self) -> Box<dyn Verifier + '_> {
        Box::new(TrustedKey::new(self.public()))
    }
}

/// What can be signed. Only this crate says what can.
pub trait Signable: SignedStatement {
    /// The payload to sign.
    fn to_payload(&self) -> Vec<u8>;
}

impl Signable for Statement {
    fn to_payload(&self) -> Vec<u8> {
        Self::to_payload(self)
    }
}

impl Signable for TensorsStatement {
    fn to_payload(&self) -> Vec<u8> {
        Self::to_payload(self)
    }
}

impl Signable for DatasetStatement {
    fn to_payload(&self) -> Vec<u8> {
        Self::to_payload(self)
    }
}

/// Signs a statement, and has the signature timestamped if a `timestamper` is given. The text that comes back is a bundle file;
/// it has been read again and verified.
///
/// # Errors
/// Any [`SignError`]; nothing has been written then.
pub fn sign<S: Signable>(statement: &S, signer: &dyn Signer, timestamper: Option<&dyn Timestamper>) -> Result<String, SignError> {
    let payload = statement.to_payload();
    let signature = signer.sign(&pae(&payload))?;
    let timestamps = timestamper.map(|timestamper| timestamp::fetch(timestamper, &signature)).transpose()?.into_iter().collect();
    let bundle = Bundle { material: signer.material(), payload, signature, timestamps };
    let text = bundle.to_json()?;
    UnverifiedBundle::parse(text.as_bytes())?.verify::<S>(&*signer.verifier()).map_err(SignError::SelfCheck)?;
    Ok(text)
}
