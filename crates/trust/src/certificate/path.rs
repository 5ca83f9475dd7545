//! From a signer's certificate to a root that the caller trusts: built and checked by the webpki library, and beside it what
//! that leaves out.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use sentry_manifest::printable;
use webpki::{EndEntityCert, VerifiedPath, anchor_from_trusted_cert, aws_lc_rs};
use x509_cert::Certificate;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::CertificateError;

/// Most roots of one file; a list of all public authorities has under 200.
const MAX_ROOTS: usize = 1000;

/// RFC 8017: `rsaEncryption`.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// How certificates may be signed. A list of our own: the library's grows with it.
pub(super) const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    aws_lc_rs::ECDSA_P256_SHA256,
    aws_lc_rs::ECDSA_P256_SHA384,
    aws_lc_rs::ECDSA_P256_SHA512,
    aws_lc_rs::ECDSA_P384_SHA256,
    aws_lc_rs::ECDSA_P384_SHA384,
    aws_lc_rs::ECDSA_P384_SHA512,
    aws_lc_rs::ECDSA_P521_SHA256,
    aws_lc_rs::ECDSA_P521_SHA384,
    aws_lc_rs::ECDSA_P521_SHA512,
    aws_lc_rs::ED25519,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    aws_lc_rs::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The library verifies with no shorter RSA key.
const MIN_RSA_BITS: usize = 2048;

/// Certificates of authorities that the caller trusts. They come from the caller alone; those in a bundle are never roots.
#[derive(Debug, Clone)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads PEM texts, each with one certificate or more.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`] if there is none, too many, or one that is no authority's.
    pub fn from_pem<T: AsRef<[u8]>>(texts: &[T]) -> Result<Self, CertificateError> {
        const FILE: &str = "the file of roots";
        let mut roots = Vec::new();
        for text in texts {
            roots.extend(certificates_from_pem(text.as_ref(), FILE)?);
        }
        Self::new(roots, FILE)
    }

    fn new(roots: Vec<CertificateDer<'static>>, file: &'static str) -> Result<Self, CertificateError> {
        let unusable = |reason: String| CertificateError::Unusable { file, reason };
        if roots.is_empty() || roots.len() > MAX_ROOTS {
            return Err(unusable(format!("it has {} certificates, from 1 to {MAX_ROOTS} are allowed", roots.len())));
        }
        for root in &roots {
            let parsed = Certificate::from_der(root).map_err(|error| unusable(error.to_string()))?;
            let subject = printable(&parsed.tbs_certificate.subject.to_string());
            let constraints = parsed.tbs_certificate.get::<BasicConstraints>().map_err(|error| unusable(error.to_string()))?;
            if !constraints.is_some_and(|(_, constraints)| constraints.ca) {
                return Err(unusable(format!("\"{subject}\" is not the certificate of an authority")));
            }
            if !may_sign_certificates(root)? {
                return Err(unusable(format!("\"{subject}\" must not sign certificates")));
            }
            anchor_from_trusted_cert(root).map_err(|error| unusable(format!("\"{subject}\": {error}")))?;
        }
        Ok(Self(roots))
    }

    /// The one certificate that a chain ends with, which stands for a root.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`] if it is no authority's.
    pub(super) fn of_chain(last: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        Self::new(vec![last.clone().into_owned()], "the last certificate of the chain to sign with")
    }

    /// The certificates, in DER.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Whether these are the same roots.
    pub(crate) fn are_the_same(&self, other: &Self) -> bool {
        let set = |roots: &Self| roots.0.iter().map(|root| root.to_vec()).collect::<BTreeSet<_>>();
        set(self) == set(other)
    }

    /// Steps a to c for a signer's certificate that is no authority's, and this purpose: code signing, or timestamps.
    ///
    /// # Errors
    /// Every [`CertificateError`] about paths.
    pub(crate) fn check_path(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        purpose: &'static ObjectIdentifier,
        time: Timestamp,
    ) -> Result<(), CertificateError> {
        self.check(&Path { leaf, others, algorithms: ALGORITHMS, signer: None, purpose }, time)
    }

    /// Builds a path and checks it.
    pub(super) fn check(&self, path: &Path<'_>, time: Timestamp) -> Result<(), CertificateError> {
        let Path { leaf, others, algorithms, signer, purpose } = path;
        // The signer's certificate must name its purpose (`Leaf::check_usage`); an authority's only if it names any.
        let usage = webpki::KeyUsage::required_if_present(purpose.as_bytes());
        let anchors: Vec<TrustAnchor<'_>> = self.0.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let refused = |error| match refused(error, leaf, time) {
            // The library does not tell a key that is too short from one that did not sign.
            CertificateError::Signature if self.has_short_key(path) => CertificateError::Algorithm,
            other => other,
        };
        let end = EndEntityCert::try_from(*leaf).map_err(refused)?;
        let seconds = u64::try_from(time.as_second()).map_err(|_| CertificateError::Path { reason: "a time before 1970".to_owned() })?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        // a, b
        let found = end.verify_for_usage(algorithms, &anchors, others, at, usage, None, None).map_err(refused)?;
        let mut authorities = found.intermediate_certificates();
        // Another certificate of the same key and name will not do: usage and identity are those of this one.
        if let Some(signer) = signer
            && authorities.next().is_none_or(|first| first.der().as_ref() != *signer)
        {
            return Err(CertificateError::Path { reason: "it does not begin with the signer's certificate".to_owned() });
        }
        // c
        for authority in authorities {
            if !may_sign_certificates(&authority.der())? {
                return Err(CertificateError::KeyUsage { whose: "an authority's", expected: "keyCertSign" });
            }
        }
        // The signer's certificate, if it is an authority's, is still the last of the path and not between.
        let between = found.intermediate_certificates().count() - usize::from(signer.is_some());
        self.check_root(&found, between, purpose, time)
    }

    /// Whether an authority that certificates of the path name as their issuer has an RSA key that is not allowed.
    fn has_short_key(&self, path: &Path<'_>) -> bool {
        let parse = |der: &CertificateDer<'_>| Certificate::from_der(der).ok();
        let authorities: Vec<Certificate> = path.others.iter().chain(&self.0).filter_map(parse).collect();
        let issued = authorities.iter().cloned().chain(parse(path.leaf));
        let issuers: Vec<_> = issued.map(|certificate| certificate.tbs_certificate.issuer).collect();
        authorities.iter().any(|authority| {
            let tbs = &authority.tbs_certificate;
            issuers.contains(&tbs.subject) && is_short_rsa(&tbs.subject_public_key_info)
        })
    }

    /// The root is valid at that time too, and keeps to its own limits, which the library leaves to whoever chose it (RFC 5280,
    /// section 6.2).
    fn check_root(
        &self,
        path: &VerifiedPath<'_>,
        between: usize,
        purpose: &ObjectIdentifier,
        time: Timestamp,
    ) -> Result<(), CertificateError> {
        let is_anchor = |root: &&CertificateDer<'_>| anchor_from_trusted_cert(root).is_ok_and(|anchor| anchor == *path.anchor());
        let mut last = CertificateError::Path { reason: "the root is none of the trusted ones".to_owned() };
        // The same key can have several certificates; one that holds is enough.
        for root in self.0.iter().filter(is_anchor) {
            match check_validity(root, time).and_then(|()| check_limits(root, between, purpose)) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A path to look for.
pub(super) struct Path<'a> {
    pub leaf: &'a CertificateDer<'a>,
    /// What the bundle has besides: authorities between the signer and a root, in any order.
    pub others: &'a [CertificateDer<'a>],
    pub algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
    /// The signer's certificate, if it is not `leaf` but the one above it.
    pub signer: Option<&'a [u8]>,
    /// What certificates of the path have to be for, if they say what they are for.
    pub purpose: &'static ObjectIdentifier,
}

/// All certificates of a PEM text, at least one.
///
/// # Errors
/// [`CertificateError::Unusable`], also if the text has anything besides, such as a private key.
pub(super) fn certificates_from_pem(text: &[u8], file: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unusable = |reason: &str| CertificateError::Unusable { file, reason: reason.to_owned() };
    let mut certificates = Vec::new();
    for block in <(pem::SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match block {
            Ok((pem::SectionKind::Certificate, der)) => certificates.push(CertificateDer::from(der)),
            Ok(_) => return Err(unusable("it holds something else than certificates")),
            Err(error) => return Err(unusable(&format!("it is no PEM text: {error}"))),
        }
    }
    if certificates.is_empty() { Err(unusable("it holds no certificate (-----BEGIN CERTIFICATE-----)")) } else { Ok(certificates) }
}

/// RFC 5280, section 4.2.1.3: a certificate that states its key usage signs others only with `keyCertSign`.
fn may_sign_certificates(der: &CertificateDer<'_>) -> Result<bool, CertificateError> {
    let malformed = |error: x509_cert::der::Error| CertificateError::Path { reason: error.to_string() };
    let parsed = Certificate::from_der(der).map_err(malformed)?;
    let usage = parsed.tbs_certificate.get::<KeyUsage>().map_err(malformed)?;
    Ok(usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
}

/// Whether this is an RSA key whose modulus has under 2048 bits (RFC 8017, section A.1.1).
fn is_short_rsa(key: &SubjectPublicKeyInfoOwned) -> bool {
    let modulus = |bits: &[u8]| -> Result<usize, x509_cert::der::Error> {
        let mut reader = SliceReader::new(bits)?;
        reader.sequence(|inner| {
            let modulus = UintRef::decode(inner)?;
            UintRef::decode(inner)?;
            let unused = modulus.as_bytes().first().map_or(0, |first| first.leading_zeros() as usize);
            Ok(modulus.as_bytes().len() * 8 - unused)
        })
    };
    let bits = key.subject_public_key.as_bytes().filter(|_| key.algorithm.oid == RSA);
    bits.is_some_and(|bits| modulus(bits).is_ok_and(|length| length < MIN_RSA_BITS))
}

/// What a root says of itself: how many authorities may stand below it (RFC 5280, section 4.2.1.9), and for what those are, if
/// for anything in particular (section 4.2.1.12).
fn check_limits(root: &CertificateDer<'_>, between: usize, purpose: &ObjectIdentifier) -> Result<(), CertificateError> {
    let malformed = |error: x509_cert::der::Error| CertificateError::Path { reason: error.to_string() };
    let parsed = Certificate::from_der(root).map_err(malformed)?;
    let constraints = parsed.tbs_certificate.get::<BasicConstraints>().map_err(malformed)?;
    let longest = constraints.and_then(|(_, constraints)| constraints.path_len_constraint);
    if longest.is_some_and(|longest| between > usize::from(longest)) {
        return Err(CertificateError::PathLength);
    }
    let purposes = parsed.tbs_certificate.get::<ExtendedKeyUsage>().map_err(malformed)?;
    if purposes.is_some_and(|(_, purposes)| !purposes.0.contains(purpose)) {
        return Err(CertificateError::ExtendedKeyUsage);
    }
    Ok(())
}

/// RFC 5280, section 4.1.2.5.
pub(super) fn check_validity(der: &CertificateDer<'_>, time: Timestamp) -> Result<(), CertificateError> {
    let malformed = |reason: String| CertificateError::Path { reason };
    let parsed = Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
    let validity = parsed.tbs_certificate.validity;
    let instant = |time: x509_cert::time::Time| Timestamp::try_from(time.to_system_time()).map_err(|error| malformed(error.to_string()));
    let (not_before, not_after) = (instant(validity.not_before)?, instant(validity.not_after)?);
    if time < not_before {
        return Err(CertificateError::NotYetValid { not_before, time });
    }
    if time > not_after {
        return Err(CertificateError::Expired { not_after, time });
    }
    Ok(())
}

/// The library's error in our words. What it does not say is left to its own.
fn refused(error: webpki::Error, leaf: &CertificateDer<'_>, time: Timestamp) -> CertificateError {
    use webpki::Error as E;
    let instant = |time: UnixTime| i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let subject =
        || Certificate::from_der(leaf).map_or_else(|_| String::new(), |leaf| printable(&leaf.tbs_certificate.subject.to_string()));
    match error {
        E::CertExpired { not_after, .. } => CertificateError::Expired { not_after: instant(not_after).unwrap_or(Timestamp::MAX), time },
        E::CertNotValidYet { not_before, .. } => {
            CertificateError::NotYetValid { not_before: instant(not_before).unwrap_or(Timestamp::MAX), time }
        }
        E::CaUsedAsEndEntity => CertificateError::AuthorityLeaf { subject: subject() },
        E::EndEntityUsedAsCa => CertificateError::NotAnAuthority,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => CertificateError::ExtendedKeyUsage,
        E::UnknownIssuer => CertificateError::UnknownIssuer { subject: subject() },
        E::PathLenConstraintViolated => CertificateError::PathLength,
        E::NameConstraintViolation | E::MalformedNameConstraint | E::InvalidNetworkMaskConstraint => CertificateError::NameConstraint,
        E::InvalidSignatureForPublicKey => CertificateError::Signature,
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::SignatureAlgorithmMismatch => CertificateError::Algorithm,
        E::UnsupportedCriticalExtension => CertificateError::CriticalExtension,
        E::MaximumPathDepthExceeded => CertificateError::PathLength,
        other => CertificateError::Path { reason: other.to_string() },
    }
}
