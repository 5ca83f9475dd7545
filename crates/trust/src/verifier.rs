//! Who decides whether a bundle was signed by someone whom its caller trusts.

use sentry_bundle::{Bundle, BundleError, Material, PublicKeyMaterial, Statement, pae};
use sentry_manifest::printable;

use crate::sealed::Sealed;
use crate::statement::Facts;
use crate::timestamp::TimestampAuthorities;
use crate::verified::{Identity, VerifiedSignature};
use crate::{PublicKey, SignatureError, VerifyError};

/// Decides whether bundles were signed by those whom its caller trusts. Only this crate has verifiers: one that says yes to
/// everything would make a [`Verified`](crate::Verified) of anything.
pub trait Verifier: Sealed {
    /// Checks steps 2 to 4 of bundles that were given together, and tells whose each is, in the same order.
    ///
    /// # Errors
    /// [`VerifyError::SignatureNumber`] for another number of bundles than this trust is about; else as each method says.
    fn verify(&self, bundles: &[Bundle]) -> Result<Vec<VerifiedSignature>, VerifyError>;

    /// Step 5b: whether what a signature says is what the caller wants to hear. A key or certificate makes no difference.
    ///
    /// # Errors
    /// [`VerifyError::Policy`].
    fn accept(&self, _statement: &Facts, _signature: &VerifiedSignature) -> Result<(), VerifyError> {
        Ok(())
    }

    /// The rule of a policy that decides here, if it is one.
    fn decided_by(&self) -> Option<DecidedBy> {
        None
    }
}

/// The rule of a policy that decided, and under which name the artifact was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedBy {
    /// The rule's name.
    pub rule: String,
    /// What the caller calls the artifact.
    pub artifact: String,
}

/// Trust in one signer, who signs once.
pub(crate) trait SingleSigner: Sealed {
    fn verify_one(&self, bundle: &Bundle) -> Result<VerifiedSignature, VerifyError>;
}

impl<T: SingleSigner> Verifier for T {
    fn verify(&self, bundles: &[Bundle]) -> Result<Vec<VerifiedSignature>, VerifyError> {
        match bundles {
            [bundle] => Ok(vec![self.verify_one(bundle)?]),
            _ => Err(VerifyError::SignatureNumber { found: bundles.len() }),
        }
    }
}

/// Trust in one public key.
#[derive(Debug, Clone)]
pub struct TrustedKey<'a> {
    key: &'a PublicKey,
    timestamps: Option<&'a TimestampAuthorities>,
}

impl<'a> TrustedKey<'a> {
    /// Trusts whoever holds the private half of `key`.
    pub fn new(key: &'a PublicKey) -> Self {
        Self { key, timestamps: None }
    }

    /// Also takes the time of a signature from timestamps of these authorities. A bundle's timestamps must all hold then.
    pub fn with_timestamps(self, authorities: &'a TimestampAuthorities) -> Self {
        Self { timestamps: Some(authorities), ..self }
    }

    /// Step 3. Only older bundles carry a key or the name of its algorithm.
    fn check_labels(&self, material: &PublicKeyMaterial) -> Result<(), SignatureError> {
        let mismatch = |found: &str| SignatureError::LabelMismatch {
            expected: format!("{} {}", self.key.algorithm().sigstore_name(), self.key.fingerprint()),
            found: printable(found),
        };
        if let Some(details) = &material.key_details
            && details != self.key.algorithm().sigstore_name()
        {
            return Err(mismatch(details));
        }
        if let Some(raw) = &material.raw_bytes {
            let carried = PublicKey::from_pem(raw).map_err(|error| mismatch(&error.to_string()))?;
            if carried.to_pem() != self.key.to_pem() {
                return Err(mismatch(&carried.fingerprint()));
            }
        }
        Ok(())
    }

    /// Says of a signature that does not hold why that may be: an old format, or another key. Nothing that it looks at
    /// has been checked.
    fn explain(&self, error: SignatureError, bundle: &Bundle, material: &PublicKeyMaterial) -> VerifyError {
        if matches!(error, SignatureError::Invalid { .. }) && Statement::is_legacy(&bundle.payload) {
            return BundleError::LegacyV02.into();
        }
        let trusted = self.key.fingerprint();
        match material.hint.as_ref().filter(|hint| **hint != trusted) {
            Some(hint) => SignatureError::Invalid { trusted, hinted: Some(printable(hint)) }.into(),
            None => error.into(),
        }
    }
}

impl Sealed for TrustedKey<'_> {}

impl SingleSigner for TrustedKey<'_> {
    fn verify_one(&self, bundle: &Bundle) -> Result<VerifiedSignature, VerifyError> {
        // 2
        let Material::PublicKey(material) = &bundle.material else {
            return Err(VerifyError::Method { found: bundle.material.method(), expected: "key" });
        };
        // 3
        self.check_labels(material)?;
        // 4
        let fingerprint = self.key.fingerprint();
        self.key.verify(&pae(&bundle.payload), &bundle.signature).map_err(|error| self.explain(error, bundle, material))?;
        let timestamp = self.timestamps.map_or(Ok(None), |authorities| authorities.verify(&bundle.timestamps, &bundle.signature))?;
        let identity = Identity::Key { algorithm: self.key.algorithm(), fingerprint };
        Ok(VerifiedSignature::new(identity, &bundle.payload, timestamp))
    }
}
