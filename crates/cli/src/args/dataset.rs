//! The grammar of `sentry dataset`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sentry::default_dataset_signature_path;

use super::{SignedArtifact, SignerArguments, only};

/// Sign the samples of a dataset, verify them, and look at what was signed
///
/// A dataset is a folder or a file: Parquet, Arrow, CSV, JSON Lines, images in folders, WebDataset's archives, or .npy arrays. Its signature
/// is about every sample, so that each can be checked before it is trained on.
#[derive(Args)]
pub struct Dataset {
    #[command(subcommand)]
    pub command: DatasetCommand,
}

#[derive(Subcommand)]
pub enum DatasetCommand {
    Sign(DatasetSign),
    Verify(DatasetVerify),
    Update(DatasetUpdate),
    Diff(DatasetDiff),
    Inspect(DatasetInspect),
}

impl DatasetCommand {
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Sign(DatasetSign { json, .. })
            | Self::Verify(DatasetVerify { json, .. })
            | Self::Update(DatasetUpdate { json, .. })
            | Self::Diff(DatasetDiff { json, .. })
            | Self::Inspect(DatasetInspect { json, .. }) => *json,
        }
    }

    pub fn gives_verdict(&self) -> bool {
        matches!(self, Self::Sign(_) | Self::Verify(_) | Self::Update(_))
    }

    /// The dataset and its signature, for reports.
    pub fn subject(&self) -> (Option<&PathBuf>, Option<PathBuf>) {
        let default = |dataset: &PathBuf, signature: &Option<PathBuf>| {
            Some(signature.clone().unwrap_or_else(|| default_dataset_signature_path(dataset)))
        };
        match self {
            Self::Sign(DatasetSign { dataset, signature, .. })
            | Self::Update(DatasetUpdate { dataset, signature, .. })
            | Self::Diff(DatasetDiff { dataset, signature, .. }) => (Some(dataset), default(dataset, signature)),
            Self::Verify(verify) => (Some(&verify.signed.path), only(verify.signature_paths())),
            Self::Inspect(DatasetInspect { signature, .. }) => (None, Some(signature.clone())),
        }
    }
}

impl DatasetVerify {
    /// Where the signatures are, named or not; at least one.
    pub fn signature_paths(&self) -> Vec<PathBuf> {
        if self.signed.signature.is_empty() {
            vec![default_dataset_signature_path(&self.signed.path)]
        } else {
            self.signed.signature.clone()
        }
    }
}

/// Sign the samples of a dataset
#[derive(Args)]
#[command(after_help = "Exit codes: 0 signed, 1 refused because no signature can cover the dataset, 2 could not sign.")]
pub struct DatasetSign {
    /// The dataset's directory or file
    #[arg(value_name = "PATH")]
    pub dataset: PathBuf,
    #[command(flatten)]
    pub signer: SignerArguments,
    /// Where to write the signature [default: dataset.sig in a directory, NAME.sig beside a file]; its sample tables go beside it
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// The dataset's name [default: the last part of PATH]
    #[arg(long)]
    pub name: Option<String>,
    /// Record the dataset's version, a whole number
    #[arg(long, value_name = "N")]
    pub artifact_version: Option<u64>,
    /// The column of integers that holds each sample's id [default: id, else the number of the row]
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// The column of text that names each sample's source [default: the split, from the names of files and folders]
    #[arg(long, value_name = "COLUMN")]
    pub source: Option<String>,
    /// Write no sample tables: then samples count only once the whole dataset was read, and a wrong one is not named
    #[arg(long)]
    pub no_tables: bool,
    #[command(flatten)]
    pub contributors: Contributors,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Who contributed sources
#[derive(Args)]
pub struct Contributors {
    /// The signature of someone who contributed sources; may be given several times
    #[arg(long, value_name = "SIG", requires = "contributor_key")]
    pub contributor: Vec<PathBuf>,
    /// The public key of that contributor: PEM; one for each --contributor, in the same order
    #[arg(long, value_name = "PUB", requires = "contributor")]
    pub contributor_key: Vec<PathBuf>,
}

/// Verify every sample of a dataset against its signature and those whom you trust: a key, certificates, or a policy
#[derive(Args)]
#[command(after_help = "Exit codes: 0 verified, 1 rejected, 2 could not check.")]
pub struct DatasetVerify {
    #[command(flatten)]
    pub signed: SignedArtifact,
    /// The column that names each sample's source, if the signer named one
    #[arg(long, value_name = "COLUMN")]
    pub source: Option<String>,
    #[command(flatten)]
    pub contributors: Contributors,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Add, replace or remove samples, and sign again: only the files that are named are read
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 signed, 1 refused: the old signature does not hold, or no signature can cover the samples; 2 could not sign."
)]
pub struct DatasetUpdate {
    /// The dataset's directory or file, for its signature
    #[arg(value_name = "PATH")]
    pub dataset: PathBuf,
    #[command(flatten)]
    pub signer: SignerArguments,
    /// The public key of the old signature: PEM [default: that of --key]
    #[arg(long, value_name = "PUB")]
    pub old_key: Option<PathBuf>,
    /// A file or folder whose samples are new, best one that lies in the dataset already; may be given several times
    #[arg(long, value_name = "PATH")]
    pub add: Vec<PathBuf>,
    /// A file or folder whose samples take the place of those of the same ids; may be given several times
    #[arg(long, value_name = "PATH")]
    pub replace: Vec<PathBuf>,
    /// A sample that goes away; where ids are made of paths or keys, these will do as well; may be given several times
    #[arg(long, value_name = "SOURCE:ID")]
    pub remove: Vec<String>,
    /// The signature [default: dataset.sig in a directory, NAME.sig beside a file]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// The new version [default: one more than the old one, if there was one]
    #[arg(long, value_name = "N")]
    pub artifact_version: Option<u64>,
    /// The column that names each sample's source, if the signer named one
    #[arg(long, value_name = "COLUMN")]
    pub source: Option<String>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Show what differs between the samples of a dataset and its signature, without checking who signed
///
/// Exit codes: 0 the same, 1 different, 2 could not compare.
#[derive(Args)]
pub struct DatasetDiff {
    /// The dataset's directory or file
    #[arg(value_name = "PATH")]
    pub dataset: PathBuf,
    /// The signature [default: dataset.sig in a directory, NAME.sig beside a file]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// The column that names each sample's source, if the signer named one
    #[arg(long, value_name = "COLUMN")]
    pub source: Option<String>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Show what a dataset's signature claims, without checking it
#[derive(Args)]
pub struct DatasetInspect {
    /// The signature
    #[arg(value_name = "FILE")]
    pub signature: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}
