//! Chains of certificates and timestamps, as a bundle carries them.

use std::sync::LazyLock;

use sentry_bundle::{Bundle, Material};
use sentry_trust::{
    CertificateError, ExpectedName, ModelStatement, Roots, TimestampAuthorities, TimestampError, TrustedCertificates, UnverifiedBundle,
    VerifyError,
};

use crate::input::Input;

/// The root of the OpenSSF specification's samples.
const ROOT: &[u8] = include_bytes!("../../../vectors/oms/historical/keys/certificate/ca-cert.pem");
static ROOTS: LazyLock<Roots> = LazyLock::new(|| Roots::from_pem(&[ROOT]).expect("a root"));
static AUTHORITIES: LazyLock<TimestampAuthorities> = LazyLock::new(|| TimestampAuthorities::from_pem(&[ROOT]).expect("a root"));

/// Two certificates, of which the first is the signer's. Nobody has signed the payload with its key.
pub fn chain(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let length = input.below(1 << 16);
    let rest = input.rest();
    let (first, second) = rest.split_at(length.min(rest.len()));
    let chain: Vec<Vec<u8>> = [first, second].into_iter().filter(|der| !der.is_empty()).map(<[u8]>::to_vec).collect();
    let trusted = TrustedCertificates::new(ROOTS.clone(), ExpectedName::Any);
    let strict = refusal(&chain, &[], &trusted);
    let lenient = refusal(&chain, &[], &trusted.dangerous().allow_authority_leaf());
    !matches!(strict, VerifyError::Certificate(CertificateError::Malformed { .. } | CertificateError::Key(_)) | VerifyError::Bundle(_))
        || !matches!(lenient, VerifyError::Certificate(_) | VerifyError::Bundle(_))
}

/// A timestamp. No authority under the root has made one.
pub fn timestamp(data: &[u8]) -> bool {
    let trusted = TrustedCertificates::new(ROOTS.clone(), ExpectedName::Any).with_timestamps(AUTHORITIES.clone());
    match refusal(&[b"no certificate".to_vec()], &[data.to_vec()], &trusted) {
        VerifyError::Timestamp(error) => !matches!(error, TimestampError::Malformed { .. }),
        VerifyError::Bundle(_) => false,
        other => panic!("a timestamp was accepted: {other:?}"),
    }
}

/// Why a bundle is refused.
fn refusal(chain: &[Vec<u8>], timestamps: &[Vec<u8>], trusted: &TrustedCertificates) -> VerifyError {
    let material = Material::CertificateChain(chain.to_vec());
    let bundle = Bundle { material, payload: b"{}".to_vec(), signature: b"no signature".to_vec(), timestamps: timestamps.to_vec() };
    let text = bundle.to_json().expect("a chain is written");
    let parsed = UnverifiedBundle::parse(text.as_bytes());
    let verified = parsed.map_err(VerifyError::from).and_then(|bundle| bundle.verify::<ModelStatement>(trusted));
    verified.expect_err("nobody has signed this")
}
