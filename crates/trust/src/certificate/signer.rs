//! Signing with a certificate.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sentry_bundle::limits::MAX_CHAIN;
use sentry_bundle::{Bundle, BundleError, Material, PaeBytes, pae};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::leaf::{CODE_SIGNING, Leaf};
use super::path::{Roots, certificates_from_pem, check_validity};
use super::{CertificateError, authority_leaf};
use crate::sealed::Sealed;
use crate::verified::VerifiedSignature;
use crate::verifier::SingleSigner;
use crate::{KeyAlgorithm, KeyError, PrivateKey, SignError, Signer, Verifier, VerifyError};

/// A private key with the certificate that says whose it is.
pub struct CertificateSigner<'a> {
    key: &'a PrivateKey,
    chain: Vec<Vec<u8>>,
}

impl<'a> CertificateSigner<'a> {
    /// Signs with `key`, whose certificate is the first in `certificate`; the authorities that issued it follow there or in
    /// `chain`, up to the root or to one that it issued. All are PEM texts. What no verifier would accept is refused:
    /// `allow_authority_leaf` lets the certificate be one of an authority, which verifiers accept only if told to.
    ///
    /// # Errors
    /// [`SignError::Certificate`] or, for too many certificates, [`SignError::Bundle`].
    pub fn new(key: &'a PrivateKey, certificate: &[u8], chain: &[Vec<u8>], allow_authority_leaf: bool) -> Result<Self, SignError> {
        let mut certificates = certificates_from_pem(certificate, "the certificate to sign with")?;
        for text in chain {
            certificates.extend(certificates_from_pem(text, "the chain of the certificate to sign with")?);
        }
        if certificates.len() > MAX_CHAIN {
            return Err(BundleError::ChainTooLong { found: certificates.len() }.into());
        }
        let leaf = Leaf::parse(&certificates[0])?;
        let (expected, found) = (key.public().fingerprint(), leaf.key.fingerprint());
        if expected != found {
            return Err(CertificateError::OtherKey { expected, found }.into());
        }
        leaf.check_usage()?;
        if leaf.is_authority && !allow_authority_leaf {
            return Err(CertificateError::AuthorityLeaf { subject: leaf.subject }.into());
        }
        check_order(&leaf, &certificates)?;
        Ok(Self { key, chain: certificates.iter().map(|der| der.to_vec()).collect() })
    }
}

/// The last certificate stands for the root: a chain in disorder, or of others, would be found by the verifiers only.
fn check_order(leaf: &Leaf, certificates: &[CertificateDer<'_>]) -> Result<(), CertificateError> {
    let time = Timestamp::now();
    let [first, between @ .., last] = certificates else {
        return certificates.iter().try_for_each(|only| check_validity(only, time));
    };
    let root = Roots::of_chain(last)?;
    if leaf.is_authority {
        authority_leaf::check_path(&root, leaf, between, time)?;
    } else {
        root.check_path(first, between, &CODE_SIGNING, time)?;
    }
    // Ours is found in any order; other tools read the chain as it stands.
    let chain = certificates.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| CertificateError::Path { reason: error.to_string() })?;
    match chain.windows(2).position(|pair| pair[0].tbs_certificate.issuer != pair[1].tbs_certificate.subject) {
        None => Ok(()),
        Some(before) => Err(CertificateError::Unusable {
            file: "the chain of the certificate to sign with",
            reason: format!("certificate {} did not issue certificate {before}: each comes before the one that issued it", before + 1),
        }),
    }
}

impl Sealed for CertificateSigner<'_> {}

impl Signer for CertificateSigner<'_> {
    fn material(&self) -> Material {
        Material::CertificateChain(self.chain.clone())
    }

    fn key_algorithm(&self) -> KeyAlgorithm {
        self.key.public().algorithm()
    }

    fn sign(&self, message: &PaeBytes) -> Result<Vec<u8>, KeyError> {
        self.key.sign(message)
    }

    fn verifier(&self) -> Box<dyn Verifier + '_> {
        Box::new(OwnSignature(self))
    }
}

/// Checks a fresh signature of one's own. Whether others trust the chain is theirs to say.
struct OwnSignature<'a>(&'a CertificateSigner<'a>);

impl Sealed for OwnSignature<'_> {}

impl SingleSigner for OwnSignature<'_> {
    fn verify_one(&self, bundle: &Bundle) -> Result<VerifiedSignature, VerifyError> {
        let leaf = Leaf::parse(&self.0.chain[0])?;
        if bundle.material != self.0.material() {
            return Err(CertificateError::UnknownIssuer { subject: leaf.subject }.into());
        }
        leaf.key.verify(&pae(&bundle.payload), &bundle.signature)?;
        Ok(VerifiedSignature::new(leaf.identity(None), &bundle.payload, None))
    }
}
