//! The signer's certificate: what it says, and the checks of it that the path builder leaves out.

use sentry_hash::Algorithm;
use sentry_manifest::printable;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::{Certificate, TbsCertificate};

use super::{CertificateError, SubjectName};
use crate::PublicKey;
use crate::verified::Identity;

/// RFC 5280, section 4.2.1.12: `id-kp-codeSigning`.
pub const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");

/// The signer's certificate, parsed.
#[derive(Debug)]
pub struct Leaf {
    pub der: Vec<u8>,
    pub key: PublicKey,
    /// Its subject, escaped for printing.
    pub subject: String,
    issuer: String,
    /// Its subject alternative names of the kinds that are compared.
    pub names: Vec<SubjectName>,
    /// Whether it is one of an authority.
    pub is_authority: bool,
    certificate: Certificate,
}

impl Leaf {
    /// Reads a DER certificate. Nothing about it has been checked but its form.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] or [`CertificateError::Key`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let malformed = |error: x509_cert::der::Error| CertificateError::Malformed { which: 0, reason: error.to_string() };
        let certificate = Certificate::from_der(der).map_err(malformed)?;
        let tbs = &certificate.tbs_certificate;
        let key = tbs.subject_public_key_info.to_der().map_err(malformed)?;
        let constraints = tbs.get::<BasicConstraints>().map_err(malformed)?;
        Ok(Self {
            der: der.to_vec(),
            key: PublicKey::from_spki(&key).map_err(CertificateError::Key)?,
            subject: printable(&tbs.subject.to_string()),
            issuer: printable(&tbs.issuer.to_string()),
            names: names(tbs).map_err(malformed)?,
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            certificate,
        })
    }

    /// Step c of the signer's certificate: it is for signatures (RFC 5280, section 4.2.1.3), and for those over code (section
    /// 4.2.1.12); "any" purpose is none. Both must be said.
    ///
    /// # Errors
    /// [`CertificateError::KeyUsage`], [`CertificateError::ExtendedKeyUsage`].
    pub fn check_usage(&self) -> Result<(), CertificateError> {
        let malformed = |error: x509_cert::der::Error| CertificateError::Malformed { which: 0, reason: error.to_string() };
        let tbs = self.tbs();
        let usage = tbs.get::<KeyUsage>().map_err(malformed)?;
        if !usage.is_some_and(|(_, usage)| usage.digital_signature()) {
            return Err(CertificateError::KeyUsage { whose: "the signer's", expected: "digitalSignature" });
        }
        let purposes = tbs.get::<ExtendedKeyUsage>().map_err(malformed)?;
        if !purposes.is_some_and(|(_, purposes)| purposes.0.contains(&CODE_SIGNING)) {
            return Err(CertificateError::ExtendedKeyUsage);
        }
        Ok(())
    }

    /// The certificate without its signature.
    pub fn tbs(&self) -> &TbsCertificate {
        &self.certificate.tbs_certificate
    }

    /// Its holder, by the name that was trusted if it was one.
    pub fn identity(&self, trusted: Option<SubjectName>) -> Identity {
        Identity::Certificate {
            algorithm: self.key.algorithm(),
            fingerprint: Algorithm::Sha256.digest(&self.der).to_hex(),
            key_fingerprint: self.key.fingerprint(),
            trusted,
            names: self.names.clone(),
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
        }
    }
}

/// The subject alternative names that can be an identity; others, such as IP addresses, are none.
fn names(tbs: &TbsCertificate) -> x509_cert::der::Result<Vec<SubjectName>> {
    let Some((_, SubjectAltName(names))) = tbs.get::<SubjectAltName>()? else {
        return Ok(Vec::new());
    };
    let name = |name: &GeneralName| match name {
        GeneralName::Rfc822Name(text) => Some(SubjectName::Email(text.to_string())),
        GeneralName::UniformResourceIdentifier(text) => Some(SubjectName::Uri(text.to_string())),
        GeneralName::DnsName(text) => Some(SubjectName::Dns(text.to_string())),
        _ => None,
    };
    Ok(names.iter().filter_map(name).collect())
}
