//! When a signature existed: timestamps of RFC 3161.
//!
//! An authority signs a hash of the signature together with the time. What it signed is verified by Sigstore's library; here
//! are the choice of its certificate, which the library leaves to its caller, and what RFC 3161 asks of that certificate.

mod error;
#[cfg(test)]
mod published;

use std::time::Duration;

use aws_lc_rs::rand::{SystemRandom, generate};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sentry_hash::Algorithm;
use sigstore_tsa::verify_timestamp_for_authority;
use sigstore_types::{DerCertificate, SignatureBytes, TimestampToken, TsaAuthority};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Int, OctetString, Uint};
use x509_cert::der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::der::{Any, Decode, Encode, Tag};
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion, TstInfo};

pub use error::TimestampError;

use crate::CertificateError;
use crate::certificate::Roots;

/// RFC 3161, section 2.3: `id-kp-timeStamping`.
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// RFC 5754, section 2.2: `id-sha256`.
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// RFC 5652, section 11.1: `id-contentType`.
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// RFC 3161, section 2.4.2: `id-ct-TSTInfo`.
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// RFC 5480: `id-ecPublicKey`.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// RFC 5480, section 2.1.1.1: `secp256r1` and `secp384r1`.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// How far an authority's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Most certificates in a timestamp: a chain, and the roots of some authorities.
const MAX_CERTIFICATES: usize = 16;

/// Roots of timestamp authorities that the caller trusts.
#[derive(Debug, Clone)]
pub struct TimestampAuthorities(Roots);

impl TimestampAuthorities {
    /// Reads PEM texts with certificates of authorities.
    ///
    /// # Errors
    /// As [`Roots::from_pem`].
    pub fn from_pem<T: AsRef<[u8]>>(texts: &[T]) -> Result<Self, CertificateError> {
        Roots::from_pem(texts).map(Self)
    }

    /// When a signature existed by the earliest of its timestamps, all of which must hold; nothing if there is none.
    ///
    /// # Errors
    /// Any [`TimestampError`].
    pub(crate) fn verify(&self, timestamps: &[Vec<u8>], signature: &[u8]) -> Result<Option<Timestamp>, TimestampError> {
        let times = timestamps.iter().map(|timestamp| self.verify_one(timestamp, signature)).collect::<Result<Vec<_>, _>>()?;
        Ok(times.into_iter().min())
    }

    fn verify_one(&self, timestamp: &[u8], signature: &[u8]) -> Result<Timestamp, TimestampError> {
        let parsed = Parsed::read(timestamp)?;
        parsed.check_imprint(signature)?;
        parsed.check_content_type()?;
        let (signer, others) = parsed.signer()?;
        check_signer(&signer)?;
        let der = |certificate: &Certificate| certificate.to_der().map(DerCertificate::new).map_err(malformed);
        let (leaf, others) = (der(&signer)?, others.iter().map(der).collect::<Result<Vec<_>, _>>()?);
        let (token, signature) = (TimestampToken::new(timestamp.to_vec()), SignatureBytes::from_bytes(signature));
        let mut last = TimestampError::Untrusted { reason: "no root was given".to_owned() };
        for root in self.0.certificates() {
            let authority = TsaAuthority::new(leaf.clone(), others.clone(), DerCertificate::new(root.to_vec()), None);
            match verify_timestamp_for_authority(&token, &signature, &authority) {
                Ok(time) if time > Timestamp::now() + CLOCK_SKEW => return Err(TimestampError::InFuture { time }),
                Ok(time) => return self.check_path(&leaf, &others, time).map(|()| time),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// What the library leaves out of the authority's path: key usages, and what the root says of itself.
    fn check_path(&self, leaf: &DerCertificate, others: &[DerCertificate], time: Timestamp) -> Result<(), TimestampError> {
        let others: Vec<CertificateDer<'_>> = others.iter().map(|other| CertificateDer::from(other.as_bytes())).collect();
        let path = self.0.check_path(&CertificateDer::from(leaf.as_bytes()), &others, &TIME_STAMPING, time);
        path.map_err(|error| TimestampError::Untrusted { reason: error.to_string() })
    }
}

/// Gets a timestamp from an authority; over the network, say.
pub trait Timestamper {
    /// Sends a query (`TimeStampReq` in DER) and returns the response (`TimeStampResp`).
    ///
    /// # Errors
    /// [`TimestampError::Unavailable`].
    fn timestamp(&self, query: &[u8]) -> Result<Vec<u8>, TimestampError>;
}

/// A fresh timestamp of a signature, for a bundle: granted, of this signature, and an answer to this query.
///
/// # Errors
/// Any [`TimestampError`]. Whether the authority is one to trust is for verifiers to say.
pub(crate) fn fetch(timestamper: &dyn Timestamper, signature: &[u8]) -> Result<Vec<u8>, TimestampError> {
    let random: [u8; 8] =
        generate(&SystemRandom::new()).map_err(|_| TimestampError::Unavailable { reason: "no randomness".to_owned() })?.expose();
    let nonce = Int::from(Uint::new(&random).map_err(malformed)?);
    let query = TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: AlgorithmIdentifierOwned { oid: SHA256, parameters: Some(Any::new(Tag::Null, []).map_err(malformed)?) },
            hashed_message: OctetString::new(Algorithm::Sha256.digest(signature).as_bytes()).map_err(malformed)?,
        },
        req_policy: None,
        nonce: Some(nonce.clone()),
        // Verifiers have roots; the certificates below come with the timestamp.
        cert_req: true,
        extensions: None,
    };
    let response = timestamper.timestamp(&query.to_der().map_err(malformed)?)?;
    let parsed = Parsed::read(&response)?;
    parsed.check_imprint(signature)?;
    if parsed.info.nonce != Some(nonce) {
        return Err(TimestampError::Mismatch { reason: "it answers another query".to_owned() });
    }
    // Nobody could be told to trust an authority whose timestamps are not read.
    check_signer(&parsed.signer()?.0)?;
    Ok(response)
}

/// The parts of a timestamp. Nothing has been checked but their form.
struct Parsed {
    info: TstInfo,
    signed: SignedData,
}

impl Parsed {
    /// Reads a response, or the token in one alone.
    fn read(der: &[u8]) -> Result<Self, TimestampError> {
        let token = match TimeStampResp::from_der(der) {
            // RFC 3161, section 2.4.2: 0 is granted, 1 granted with changes; nothing else comes with a timestamp.
            Ok(TimeStampResp { status, time_stamp_token: Some(token) }) if (status.status as u8) <= 1 => token,
            Ok(_) => return Err(TimestampError::Malformed { reason: "the authority refused".to_owned() }),
            Err(_) => ContentInfo::from_der(der).map_err(malformed)?,
        };
        let signed: SignedData = token.content.decode_as().map_err(malformed)?;
        let content = signed.encap_content_info.econtent.as_ref();
        let content = content.ok_or_else(|| TimestampError::Malformed { reason: "it has no content".to_owned() })?;
        let info = TstInfo::from_der(content.value()).map_err(malformed)?;
        Ok(Self { info, signed })
    }

    /// It is of this signature. The library checks this as well; said here, it is told apart from an authority that is not
    /// trusted.
    fn check_imprint(&self, signature: &[u8]) -> Result<(), TimestampError> {
        let imprint = &self.info.message_imprint;
        if imprint.hash_algorithm.oid != SHA256 {
            return Err(TimestampError::AlgorithmUnsupported { found: imprint.hash_algorithm.oid.to_string() });
        }
        if imprint.hashed_message.as_bytes() != Algorithm::Sha256.digest(signature).as_bytes() {
            return Err(TimestampError::Mismatch { reason: "it is of another signature".to_owned() });
        }
        Ok(())
    }

    /// RFC 5652, section 11.1: what the authority signed says that it is a timestamp. The library reads only the unsigned type.
    fn check_content_type(&self) -> Result<(), TimestampError> {
        let attributes = self.signed.signer_infos.0.iter().filter_map(|signer| signer.signed_attrs.as_ref()).flat_map(|set| set.iter());
        let types: Vec<_> = attributes.filter(|attribute| attribute.oid == CONTENT_TYPE).flat_map(|found| found.values.iter()).collect();
        match types[..] {
            [only] if only.decode_as() == Ok(TST_INFO) => Ok(()),
            _ => Err(TimestampError::Malformed { reason: "what its authority signed is not a timestamp".to_owned() }),
        }
    }

    /// The certificate of its one signer, and the others that it carries.
    fn signer(&self) -> Result<(Certificate, Vec<Certificate>), TimestampError> {
        let fail = |reason: &str| TimestampError::Malformed { reason: reason.to_owned() };
        let [signer] = self.signed.signer_infos.0.as_slice() else {
            return Err(fail("it has not exactly one signer"));
        };
        let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
            return Err(fail("it does not name its signer by issuer and serial number"));
        };
        let carried = self.signed.certificates.as_ref().map_or(&[][..], |certificates| certificates.0.as_slice());
        if carried.len() > MAX_CERTIFICATES {
            return Err(fail("it carries too many certificates"));
        }
        let certificate = |choice: &CertificateChoices| match choice {
            CertificateChoices::Certificate(certificate) => Some(certificate.clone()),
            _ => None,
        };
        let is_signer = |certificate: &Certificate| {
            let tbs = &certificate.tbs_certificate;
            tbs.issuer == id.issuer && tbs.serial_number == id.serial_number
        };
        let (mut signers, others): (Vec<_>, Vec<_>) = carried.iter().filter_map(certificate).partition(is_signer);
        match (signers.pop(), signers.is_empty()) {
            (Some(signer), true) => Ok((signer, others)),
            _ => Err(fail("it does not carry its signer's certificate")),
        }
    }
}

/// RFC 3161, section 2.3: the certificate is for timestamps and nothing else, and says so in a critical extension.
fn check_signer(certificate: &Certificate) -> Result<(), TimestampError> {
    let tbs = &certificate.tbs_certificate;
    let is_critical = tbs.extensions.iter().flatten().any(|extension| extension.extn_id == ExtendedKeyUsage::OID && extension.critical);
    let purposes = tbs.get::<ExtendedKeyUsage>().map_err(malformed)?;
    if !is_critical || purposes.is_none_or(|(_, purposes)| purposes.0 != [TIME_STAMPING]) {
        return Err(TimestampError::Untrusted { reason: "its signer's certificate is not for timestamps alone".to_owned() });
    }
    let usage = tbs.get::<KeyUsage>().map_err(malformed)?;
    if usage.is_some_and(|(_, usage)| !usage.digital_signature()) {
        return Err(TimestampError::Untrusted { reason: "its signer's certificate is not for signatures".to_owned() });
    }
    let algorithm = &tbs.subject_public_key_info.algorithm;
    let unsupported = |found: ObjectIdentifier| Err(TimestampError::AlgorithmUnsupported { found: found.to_string() });
    // The library verifies ECDSA only, and on two curves.
    if algorithm.oid != EC {
        return unsupported(algorithm.oid);
    }
    match algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok()) {
        Some(P256 | P384) => Ok(()),
        Some(curve) => unsupported(curve),
        None => Err(TimestampError::Untrusted { reason: "its signer's key does not name its curve".to_owned() }),
    }
}

fn malformed(error: x509_cert::der::Error) -> TimestampError {
    TimestampError::Malformed { reason: error.to_string() }
}
