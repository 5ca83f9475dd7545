//! Certificates and timestamps made at test time, by hand, so that a test can make them wrongly.

#![allow(dead_code, reason = "each test program uses its part")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64;
use sentry_hash::Algorithm;
use sentry_trust::{KeyAlgorithm, PrivateKey, TimestampError, Timestamper};
use x509_cert::der::{Decode, Encode};
use x509_tsp::TimeStampReq;

use crate::common::{integer, pem, spki, tlv};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const TRUE: &[u8] = &[0x01, 1, 0xff];

pub const EMAIL: u8 = 0x81;
pub const DNS: u8 = 0x82;
pub const URI: u8 = 0x86;
pub const IP: u8 = 0x87;
/// `keyUsage`: the first eight bits.
pub const DIGITAL_SIGNATURE: u8 = 0x80;
pub const KEY_CERT_SIGN: u8 = 0x04;
pub const CRL_SIGN: u8 = 0x02;
/// `extendedKeyUsage`.
pub const CODE_SIGNING: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3];
pub const TIME_STAMPING: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8];
pub const SERVER: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
pub const ANY_PURPOSE: &[u8] = &[0x06, 4, 0x55, 0x1d, 37, 0];

pub const ECDSA_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// The number for examples (RFC 5612), with which the library's own stand-in is signed.
pub const SIGNED_BY_NOBODY: &[u8] = &[0x06, 8, 0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59];
const SHA256: &[u8] = &[0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
pub const TST_INFO: &[u8] = &[0x06, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 4];
pub const SIGNED_DATA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const CONTENT_TYPE: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
const MESSAGE_DIGEST: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];

/// Serial number of the certificates of clocks.
const CLOCK: u8 = 2;

/// A P-256 key that signs whatever a test wants.
pub struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    pub fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        Self { pair, pkcs8: pkcs8.as_ref().to_vec() }
    }

    pub fn spki(&self) -> Vec<u8> {
        spki(KeyAlgorithm::EcdsaP256Sha256, self.pair.public_key().as_ref())
    }

    /// The same key for Sentry.
    pub fn private(&self) -> PrivateKey {
        PrivateKey::from_pem(&pem("PRIVATE KEY", &self.pkcs8), None).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

/// The key of a Sentry key, as a certificate has it.
pub fn spki_of(key: &PrivateKey) -> Vec<u8> {
    let text: String = key.public().to_pem().lines().filter(|line| !line.starts_with('-')).collect();
    BASE64.decode(text.as_bytes()).unwrap()
}

/// A name of one common name.
pub fn name(common: &str) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(SET, &[&tlv(SEQUENCE, &[&[0x06, 3, 0x55, 4, 3], &tlv(UTF8_STRING, &[common.as_bytes()])])])])
}

fn extension(id: u8, critical: bool, value: &[u8]) -> (u8, Vec<u8>) {
    let critical = if critical { TRUE } else { &[] };
    (id, tlv(SEQUENCE, &[&[0x06, 3, 0x55, 0x1d, id], critical, &tlv(OCTET_STRING, &[value])]))
}

/// `basicConstraints`.
pub fn authority(path_length: Option<u8>) -> (u8, Vec<u8>) {
    let length = path_length.map_or(Vec::new(), |length| integer(&[length]));
    extension(19, true, &tlv(SEQUENCE, &[TRUE, &length]))
}

pub fn key_usage(bits: u8) -> (u8, Vec<u8>) {
    let unused = bits.trailing_zeros() as u8;
    extension(15, true, &tlv(BIT_STRING, &[&[unused, bits]]))
}

pub fn purposes(ids: &[&[u8]]) -> (u8, Vec<u8>) {
    extension(37, ids == [TIME_STAMPING], &tlv(SEQUENCE, ids))
}

/// The same, critical or not whatever it is about.
pub fn purposes_said(ids: &[&[u8]], critical: bool) -> (u8, Vec<u8>) {
    extension(37, critical, &tlv(SEQUENCE, ids))
}

pub fn names(names: &[(u8, &[u8])]) -> (u8, Vec<u8>) {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, text)| tlv(*tag, &[text])).collect();
    extension(17, false, &tlv(SEQUENCE, &names.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// `nameConstraints`: permitted or excluded subtrees, of one name.
pub fn constraint(excluded: bool, tag: u8, text: &[u8]) -> (u8, Vec<u8>) {
    let tree = tlv(SEQUENCE, &[&tlv(tag, &[text])]);
    extension(30, true, &tlv(SEQUENCE, &[&tlv(if excluded { 0xa1 } else { 0xa0 }, &[&tree])]))
}

/// An extension that nobody knows.
pub fn unknown(critical: bool) -> (u8, Vec<u8>) {
    extension(99, critical, &[0x05, 0])
}

/// What a certificate says, and how it is signed.
#[derive(Clone)]
pub struct Template {
    pub subject: Vec<u8>,
    pub validity: (&'static str, &'static str),
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub serial: u8,
    pub algorithm: &'static [u8],
}

/// 2020 to 2049.
pub const LONG: (&str, &str) = ("200101000000Z", "491231235959Z");
/// The year 2021.
pub const PAST: (&str, &str) = ("210101000000Z", "211231235959Z");
/// From 2045 on.
pub const FUTURE: (&str, &str) = ("450101000000Z", "491231235959Z");

impl Template {
    fn new(subject: &str, extensions: Vec<(u8, Vec<u8>)>) -> Self {
        Self { subject: name(subject), validity: LONG, extensions, serial: 1, algorithm: ECDSA_SHA256 }
    }

    /// An authority's.
    pub fn authority(subject: &str) -> Self {
        Self::new(subject, vec![authority(None), key_usage(KEY_CERT_SIGN)])
    }

    /// A signer's, with the address `release@acme.example`.
    pub fn signer(subject: &str) -> Self {
        let names = names(&[(EMAIL, b"release@acme.example")]);
        Self::new(subject, vec![key_usage(DIGITAL_SIGNATURE), purposes(&[CODE_SIGNING]), names])
    }

    /// A signer's who is an authority.
    pub fn authority_that_signs(subject: &str) -> Self {
        Self::signer(subject).with(authority(None)).with(key_usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN))
    }

    /// Of a timestamp authority.
    pub fn clock(subject: &str) -> Self {
        Self { serial: CLOCK, ..Self::new(subject, vec![key_usage(DIGITAL_SIGNATURE), purposes(&[TIME_STAMPING])]) }
    }

    /// With an extension in place of the one of its kind.
    pub fn with(mut self, extension: (u8, Vec<u8>)) -> Self {
        self = self.without(extension.0);
        self.extensions.push(extension);
        self
    }

    /// Without the extension of this kind.
    pub fn without(mut self, id: u8) -> Self {
        self.extensions.retain(|(kind, _)| *kind != id);
        self
    }

    pub fn valid(self, validity: (&'static str, &'static str)) -> Self {
        Self { validity, ..self }
    }

    /// The certificate in DER for a public key.
    pub fn issue(&self, spki: &[u8], issuer: &[u8], key: &Key) -> Vec<u8> {
        let algorithm = tlv(SEQUENCE, &[self.algorithm]);
        let extensions: Vec<&[u8]> = self.extensions.iter().map(|(_, der)| der.as_slice()).collect();
        let validity = tlv(SEQUENCE, &[&tlv(UTC_TIME, &[self.validity.0.as_bytes()]), &tlv(UTC_TIME, &[self.validity.1.as_bytes()])]);
        let tbs = tlv(
            SEQUENCE,
            &[
                &tlv(0xa0, &[&integer(&[2])]),
                &integer(&[self.serial]),
                &algorithm,
                issuer,
                &validity,
                &self.subject,
                spki,
                &tlv(0xa3, &[&tlv(SEQUENCE, &extensions)]),
            ],
        );
        tlv(SEQUENCE, &[&tbs, &algorithm, &tlv(BIT_STRING, &[&[0], &key.sign(&tbs)])])
    }
}

/// A key with its certificate and name.
pub struct Holder {
    pub key: Key,
    pub name: Vec<u8>,
    pub der: Vec<u8>,
}

impl Holder {
    /// With a certificate signed by itself.
    pub fn root(template: &Template) -> Self {
        let key = Key::new();
        let der = template.issue(&key.spki(), &template.subject, &key);
        Self { key, name: template.subject.clone(), der }
    }

    /// With a new key, and a certificate of this holder's.
    pub fn issue(&self, template: &Template) -> Self {
        let key = Key::new();
        let der = template.issue(&key.spki(), &self.name, &self.key);
        Self { key, name: template.subject.clone(), der }
    }

    pub fn pem(&self) -> Vec<u8> {
        certificates(&[&self.der])
    }
}

/// A file of certificates.
pub fn certificates(ders: &[&[u8]]) -> Vec<u8> {
    ders.iter().flat_map(|der| pem("CERTIFICATE", der)).collect()
}

/// How a timestamp is made.
pub struct Clock<'a> {
    pub holder: &'a Holder,
    /// Name of who issued the holder's certificate.
    pub issuer: &'a [u8],
    /// Certificates that the timestamp carries.
    pub carried: Vec<&'a [u8]>,
    /// When it is: `GeneralizedTime`.
    pub time: &'static str,
    /// What the signed attributes call the content.
    pub content_type: &'static [u8],
    pub status: u8,
}

impl<'a> Clock<'a> {
    pub fn new(holder: &'a Holder, issuer: &'a [u8], time: &'static str) -> Self {
        Self { holder, issuer, carried: vec![&holder.der], time, content_type: TST_INFO, status: 0 }
    }

    /// A response about a text.
    pub fn stamp(&self, of: &[u8]) -> Vec<u8> {
        self.respond(Algorithm::Sha256.digest(of).as_bytes(), &[])
    }

    /// A response about a hash; `nonce` is an integer in DER, or nothing.
    pub fn respond(&self, hash: &[u8], nonce: &[u8]) -> Vec<u8> {
        let sha256 = tlv(SEQUENCE, &[SHA256]);
        let imprint = tlv(SEQUENCE, &[&sha256, &tlv(OCTET_STRING, &[hash])]);
        let time = tlv(GENERALIZED_TIME, &[self.time.as_bytes()]);
        let info = tlv(SEQUENCE, &[&integer(&[1]), &[0x06, 3, 0x2a, 3, 4], &imprint, &integer(&[7]), &time, nonce]);
        let digest = tlv(OCTET_STRING, &[Algorithm::Sha256.digest(&info).as_bytes()]);
        let attributes =
            [tlv(SEQUENCE, &[CONTENT_TYPE, &tlv(SET, &[self.content_type])]), tlv(SEQUENCE, &[MESSAGE_DIGEST, &tlv(SET, &[&digest])])];
        // DER sorts sets; the shorter one comes first.
        let mut attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
        attributes.sort_unstable();
        let signature = self.holder.key.sign(&tlv(SET, &attributes));
        let signer = tlv(
            SEQUENCE,
            &[
                &integer(&[1]),
                &tlv(SEQUENCE, &[self.issuer, &integer(&[CLOCK])]),
                &sha256,
                &tlv(0xa0, &attributes),
                &tlv(SEQUENCE, &[ECDSA_SHA256]),
                &tlv(OCTET_STRING, &[&signature]),
            ],
        );
        let mut carried = self.carried.clone();
        carried.sort_unstable();
        let content = tlv(SEQUENCE, &[TST_INFO, &tlv(0xa0, &[&tlv(OCTET_STRING, &[&info])])]);
        let signed = tlv(SEQUENCE, &[&integer(&[3]), &tlv(SET, &[&sha256]), &content, &tlv(0xa0, &carried), &tlv(SET, &[&signer])]);
        let token = tlv(SEQUENCE, &[SIGNED_DATA, &tlv(0xa0, &[&signed])]);
        tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&integer(&[self.status])]), &token])
    }
}

impl Timestamper for Clock<'_> {
    fn timestamp(&self, query: &[u8]) -> Result<Vec<u8>, TimestampError> {
        let query = TimeStampReq::from_der(query).unwrap();
        let nonce = query.nonce.map_or(Vec::new(), |nonce| nonce.to_der().unwrap());
        Ok(self.respond(query.message_imprint.hashed_message.as_bytes(), &nonce))
    }
}
