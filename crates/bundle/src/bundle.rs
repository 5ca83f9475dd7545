//! The Sigstore bundle, version 0.3, as OpenSSF Model Signing uses it.

use sentry_manifest::json::{self, Object};
use sentry_manifest::printable;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_BUNDLE_BYTES, MAX_CHAIN, MAX_TIMESTAMP_BYTES, MAX_TIMESTAMPS};
use crate::uris::{BUNDLE_MEDIA_TYPE, PAYLOAD_TYPE};
use crate::{BundleError, base64};

/// A signature with what is needed to check it. The payload's bytes are kept as they were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// How to verify: which key, certificate or identity is claimed.
    pub material: Material,
    /// The exact bytes of the in-toto statement.
    pub payload: Vec<u8>,
    /// The signature over [`pae`](crate::pae) of the payload.
    pub signature: Vec<u8>,
    /// Timestamps over the signature (RFC 3161): responses or tokens in DER, as an authority returned them.
    pub timestamps: Vec<Vec<u8>>,
}

/// What a bundle says of its signer. It is a claim: a verifier decides by what its caller trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// Method `key`.
    PublicKey(PublicKeyMaterial),
    /// Method `certificate`: DER certificates, the signer's first.
    CertificateChain(Vec<Vec<u8>>),
    /// Method `sigstore`: a DER certificate, with entries of a transparency log.
    Sigstore {
        /// The signer's certificate.
        certificate: Vec<u8>,
        /// How many log entries there are, at least one.
        log_entries: usize,
    },
}

impl Material {
    /// The method's name: `key`, `certificate` or `sigstore`.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::PublicKey(_) => "key",
            Self::CertificateChain(_) => "certificate",
            Self::Sigstore { .. } => "sigstore",
        }
    }
}

/// How a bundle names a public key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeyMaterial {
    /// Lower-case hex SHA-256 of the key as SPKI PEM text. Explains a mismatch, never decides.
    pub hint: Option<String>,
    /// Before model-signing 1.1: the key itself as SPKI PEM text.
    pub raw_bytes: Option<Vec<u8>>,
    /// Before model-signing 1.1: the name of the key's algorithm, such as `PKIX_ECDSA_P384_SHA_384`.
    pub key_details: Option<String>,
}

impl Bundle {
    /// Parses a bundle file.
    ///
    /// # Errors
    /// Any [`BundleError`] about the bundle; the payload is decoded and not looked into.
    pub fn parse(json: &[u8]) -> Result<Self, BundleError> {
        if json.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge { found: json.len() as u64 });
        }
        let bundle: BundleJson = json::parse(json).map_err(|source| BundleError::Json { document: "bundle", source })?;
        if bundle.media_type != BUNDLE_MEDIA_TYPE {
            return Err(BundleError::MediaType { found: printable(&bundle.media_type) });
        }
        let MaterialJson { timestamp_verification_data, .. } = &bundle.verification_material.0;
        let timestamps = timestamp_verification_data.as_ref().map_or(Ok(Vec::new()), |Object(data)| data.check())?;
        let material = bundle.verification_material.0.check()?;
        let EnvelopeJson { payload, payload_type, signatures } = bundle.dsse_envelope.0;
        if payload_type != PAYLOAD_TYPE {
            return Err(BundleError::PayloadType { found: printable(&payload_type) });
        }
        let [signature] = &signatures[..] else {
            return Err(BundleError::SignatureCount { found: signatures.len() });
        };
        let (payload, signature) = (base64::decode("payload", &payload)?, base64::decode("sig", &signature.0.sig)?);
        Ok(Self { material, payload, signature, timestamps })
    }

    /// The bundle as the text of a file, for the methods `certificate`, and `key` with a hint and nothing else.
    ///
    /// # Errors
    /// [`BundleError::VerificationMaterial`] for Sigstore and older forms, and what [`Bundle::parse`] says of a bundle that
    /// nobody would read.
    pub fn to_json(&self) -> Result<String, BundleError> {
        let (public_key, x509_certificate_chain) = match &self.material {
            Material::PublicKey(PublicKeyMaterial { hint: Some(hint), raw_bytes: None, key_details: None }) => {
                (Some(Object(PublicKeyJson { hint: Some(hint.clone()), ..PublicKeyJson::default() })), None)
            }
            Material::CertificateChain(chain) => (None, Some(Object(ChainJson::new(chain)))),
            _ => {
                let reason = "only bundles of the methods certificate, and key with a hint alone, are written";
                return Err(BundleError::VerificationMaterial { reason });
            }
        };
        let json = BundleJson {
            media_type: BUNDLE_MEDIA_TYPE.to_owned(),
            verification_material: Object(MaterialJson {
                public_key,
                x509_certificate_chain,
                certificate: None,
                tlog_entries: Some(Vec::new()),
                timestamp_verification_data: TimestampsJson::new(&self.timestamps).map(Object),
            }),
            dsse_envelope: Object(EnvelopeJson {
                payload: base64::encode(&self.payload),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![Object(SignatureJson { sig: base64::encode(&self.signature), keyid: Some(String::new()) })],
            }),
        };
        let text = serde_json::to_string(&json).expect("strings and lists always serialise");
        if text.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge { found: text.len() as u64 });
        }
        Ok(text)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BundleJson {
    media_type: String,
    #[serde(default)]
    verification_material: Object<MaterialJson>,
    dsse_envelope: Object<EnvelopeJson>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MaterialJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<Object<PublicKeyJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509_certificate_chain: Option<Object<ChainJson>>,
    #[serde(skip_serializing)]
    certificate: Option<Object<CertificateJson>>,
    #[serde(serialize_with = "empty_list")]
    tlog_entries: Option<Vec<IgnoredAny>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<Object<TimestampsJson>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PublicKeyJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing)]
    raw_bytes: Option<String>,
    #[serde(skip_serializing)]
    key_details: Option<String>,
    #[serde(skip_serializing)]
    #[allow(dead_code, reason = "an older field that says nothing about the key itself")]
    valid_for: Option<IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
struct ChainJson {
    certificates: Vec<Object<CertificateJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateJson {
    raw_bytes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimestampsJson {
    #[serde(default)]
    rfc3161_timestamps: Vec<Object<TimestampJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimestampJson {
    signed_timestamp: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvelopeJson {
    payload: String,
    payload_type: String,
    signatures: Vec<Object<SignatureJson>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson {
    sig: String,
    /// Not used for verification; absent, empty and null are all accepted.
    keyid: Option<String>,
}

/// Log entries are never written: those of a signed bundle come with its Sigstore certificate.
fn empty_list<S: serde::Serializer>(_: &Option<Vec<IgnoredAny>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(std::iter::empty::<()>())
}

impl MaterialJson {
    fn check(self) -> Result<Material, BundleError> {
        let unusable = |reason| Err(BundleError::VerificationMaterial { reason });
        match (self.public_key, self.x509_certificate_chain, self.certificate) {
            (Some(Object(key)), None, None) => key.check(),
            (None, Some(Object(chain)), None) => chain.check(),
            (None, None, Some(Object(certificate))) => match self.tlog_entries.map_or(0, |entries| entries.len()) {
                0 => unusable("a Sigstore certificate without an entry of a transparency log"),
                log_entries => Ok(Material::Sigstore { certificate: certificate.decode()?, log_entries }),
            },
            (None, None, None) => unusable("it names no public key, certificate chain or certificate"),
            _ => unusable("it names more than one of public key, certificate chain and certificate"),
        }
    }
}

impl PublicKeyJson {
    fn check(self) -> Result<Material, BundleError> {
        if self.hint.is_none() && self.raw_bytes.is_none() {
            return Err(BundleError::VerificationMaterial { reason: "the public key has neither hint nor rawBytes" });
        }
        let raw_bytes = self.raw_bytes.map(|text| base64::decode("rawBytes", &text)).transpose()?;
        Ok(Material::PublicKey(PublicKeyMaterial { hint: self.hint, raw_bytes, key_details: self.key_details }))
    }
}

impl ChainJson {
    fn new(chain: &[Vec<u8>]) -> Self {
        let certificate = |der: &Vec<u8>| Object(CertificateJson { raw_bytes: base64::encode(der) });
        Self { certificates: chain.iter().map(certificate).collect() }
    }

    fn check(self) -> Result<Material, BundleError> {
        match self.certificates.len() {
            0 => Err(BundleError::VerificationMaterial { reason: "the certificate chain is empty" }),
            found if found > MAX_CHAIN => Err(BundleError::ChainTooLong { found }),
            _ => {
                let certificates = self.certificates.iter().map(|Object(certificate)| certificate.decode()).collect::<Result<_, _>>()?;
                Ok(Material::CertificateChain(certificates))
            }
        }
    }
}

impl CertificateJson {
    fn decode(&self) -> Result<Vec<u8>, BundleError> {
        base64::decode("certificate", &self.raw_bytes)
    }
}

impl TimestampsJson {
    /// Nothing for no timestamps.
    fn new(timestamps: &[Vec<u8>]) -> Option<Self> {
        let timestamp = |der: &Vec<u8>| Object(TimestampJson { signed_timestamp: base64::encode(der) });
        (!timestamps.is_empty()).then(|| Self { rfc3161_timestamps: timestamps.iter().map(timestamp).collect() })
    }

    fn check(&self) -> Result<Vec<Vec<u8>>, BundleError> {
        let found = self.rfc3161_timestamps.len();
        if found > MAX_TIMESTAMPS {
            return Err(BundleError::TooManyTimestamps { found });
        }
        let decode = |Object(timestamp): &Object<TimestampJson>| {
            let der = base64::decode("signedTimestamp", &timestamp.signed_timestamp)?;
            if der.len() > MAX_TIMESTAMP_BYTES {
                return Err(BundleError::TimestampTooLong { found: der.len() });
            }
            Ok(der)
        };
        self.rfc3161_timestamps.iter().map(decode).collect()
    }
}
