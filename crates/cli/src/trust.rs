//! Whom the person at the command line trusts.

use anyhow::{Context, bail};
use sentry::{
    ArtifactName, ExpectedName, Policy, PublicKey, TimestampAuthorities, TrustedCertificates, TrustedKey, Verifier, default_artifact_name,
    read_policy, read_public_key, read_roots, read_timestamp_authorities,
};

use crate::args::SignedArtifact;

/// Trust as it was asked for, with the keys and certificates that were read for it.
pub enum Trust {
    Key { key: PublicKey, timestamps: Option<TimestampAuthorities> },
    Certificates(TrustedCertificates),
    Policy { policy: Policy, artifact: ArtifactName },
}

impl Trust {
    pub fn read(arguments: &SignedArtifact) -> anyhow::Result<Self> {
        // The grammar refuses these too; what it might let pass would be a check that was asked for and not made.
        let names_someone = arguments.identity.is_some() || arguments.any_identity || arguments.allow_ca_leaf;
        if names_someone && arguments.certificate_root.is_empty() {
            bail!("--identity, --any-identity and --allow-ca-leaf are about certificates: they go with --certificate-root");
        }
        if arguments.artifact.is_some() && arguments.policy.is_none() {
            bail!("--artifact is what a policy calls the artifact: it goes with --policy");
        }
        let timestamps = match &arguments.timestamp_root[..] {
            [] => None,
            roots => Some(read_timestamp_authorities(roots)?),
        };
        if let Some(key) = &arguments.key {
            return Ok(Self::Key { key: read_public_key(key)?, timestamps });
        }
        if let Some(policy) = &arguments.policy {
            let artifact = match &arguments.artifact {
                Some(name) => name.parse().context("--artifact")?,
                None => default_artifact_name(&arguments.path)?,
            };
            return Ok(Self::Policy { policy: read_policy(policy)?, artifact });
        }
        let name = match &arguments.identity {
            Some(name) => ExpectedName::Exactly(name.parse().context("--identity")?),
            None => ExpectedName::Any,
        };
        let mut trusted = TrustedCertificates::new(read_roots(&arguments.certificate_root)?, name);
        if let Some(timestamps) = timestamps {
            trusted = trusted.with_timestamps(timestamps);
        }
        Ok(Self::Certificates(if arguments.allow_ca_leaf { trusted.dangerous().allow_authority_leaf() } else { trusted }))
    }

    /// What decides about the signatures.
    pub fn verifier(&self) -> anyhow::Result<Box<dyn Verifier + '_>> {
        Ok(match self {
            Self::Key { key, timestamps: None } => Box::new(TrustedKey::new(key)),
            Self::Key { key, timestamps: Some(authorities) } => Box::new(TrustedKey::new(key).with_timestamps(authorities)),
            Self::Certificates(trusted) => Box::new(trusted.clone()),
            Self::Policy { policy, artifact } => Box::new(policy.decide(artifact).map_err(sentry::Error::from)?),
        })
    }
}
