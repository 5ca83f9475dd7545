//! Paths of a signer's certificate that is one of an authority, for those who ask for it.
//!
//! The library builds paths to certificates that are no authority's only. So it gets one: a certificate that stands below the
//! signer's, is made here and now, and is signed by nobody. One algorithm of this call alone takes its signature for good, and
//! only of these very bytes under the signer's key. The library then checks the signer's certificate as it does any
//! authority's, with path lengths and name constraints, which is stricter than a signer's would be checked.

use jiff::Timestamp;
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use x509_cert::der::asn1::{BitString, OctetString};
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::name::RdnSequence;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};
use x509_cert::{Certificate, TbsCertificate, Version};

use super::CertificateError;
use super::leaf::{CODE_SIGNING, Leaf};
use super::path::{ALGORITHMS, Path, Roots};
use crate::KeyAlgorithm;

/// The number that RFC 5612 sets aside for examples: no real certificate is signed with it.
const SIGNED_BY_NOBODY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473");

/// The same as the contents of a DER `AlgorithmIdentifier`.
const SIGNED_BY_NOBODY_DER: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xfd, 0x59];

/// Steps a to c for a signer's certificate that is an authority's.
///
/// # Errors
/// Every [`CertificateError`] about paths.
pub fn check_path(roots: &Roots, leaf: &Leaf, others: &[CertificateDer<'_>], time: Timestamp) -> Result<(), CertificateError> {
    let malformed = |error: x509_cert::der::Error| CertificateError::Path { reason: error.to_string() };
    let below = below(leaf.tbs()).map_err(malformed)?;
    let key = leaf.tbs().subject_public_key_info.to_der().map_err(malformed)?;
    let spki = SubjectPublicKeyInfoRef::from_der(&key).map_err(|error| CertificateError::Path { reason: error.to_string() })?;
    let nobody = Nobody {
        key_algorithm: match leaf.key.algorithm() {
            KeyAlgorithm::EcdsaP256Sha256 => alg_id::ECDSA_P256,
            KeyAlgorithm::EcdsaP384Sha384 => alg_id::ECDSA_P384,
            KeyAlgorithm::EcdsaP521Sha512 => alg_id::ECDSA_P521,
            KeyAlgorithm::Ed25519 => alg_id::ED25519,
        },
        key: spki.subject_public_key.raw_bytes().to_vec(),
        message: below.to_der().map_err(malformed)?,
    };
    let signature_algorithm = below.signature.clone();
    let signature = BitString::from_bytes(&[0]).map_err(malformed)?;
    let stand_in = Certificate { tbs_certificate: below, signature_algorithm, signature }.to_der().map_err(malformed)?;
    let mut algorithms: Vec<&dyn SignatureVerificationAlgorithm> = ALGORITHMS.to_vec();
    algorithms.push(&nobody);
    let mut all = vec![CertificateDer::from(leaf.der.as_slice())];
    all.extend(others.iter().cloned());
    let path = Path {
        leaf: &CertificateDer::from(stand_in),
        others: &all,
        algorithms: &algorithms,
        signer: Some(&leaf.der),
        purpose: &CODE_SIGNING,
    };
    roots.check(&path, time)
}

/// A certificate that `issuer` could have issued.
fn below(issuer: &TbsCertificate) -> x509_cert::der::Result<TbsCertificate> {
    let usage = Extension {
        extn_id: ExtendedKeyUsage::OID,
        critical: false,
        extn_value: OctetString::new(ExtendedKeyUsage(vec![CODE_SIGNING]).to_der()?)?,
    };
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&[1])?,
        signature: AlgorithmIdentifierOwned { oid: SIGNED_BY_NOBODY, parameters: None },
        issuer: issuer.subject.clone(),
        validity: issuer.validity,
        subject: RdnSequence::default(),
        subject_public_key_info: issuer.subject_public_key_info.clone(),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(vec![usage]),
    })
}

/// Accepts one message under one key.
#[derive(Debug)]
struct Nobody {
    key_algorithm: AlgorithmIdentifier,
    key: Vec<u8>,
    message: Vec<u8>,
}

impl SignatureVerificationAlgorithm for Nobody {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key_algorithm
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(SIGNED_BY_NOBODY_DER)
    }

    fn verify_signature(&self, public_key: &[u8], message: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
        if public_key == self.key && message == self.message { Ok(()) } else { Err(InvalidSignature) }
    }
}
