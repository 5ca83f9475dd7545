//! The grammar of the command line.

mod dataset;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use sentry::{Algorithm, Device, KeyAlgorithm, Reading, default_signature_path, signature_paths};

pub use dataset::{Contributors, Dataset, DatasetCommand, DatasetDiff, DatasetInspect, DatasetSign, DatasetUpdate, DatasetVerify};

/// Sign machine-learning models and datasets, and verify them.
///
/// A publisher signs once: sentry keygen, then sentry sign MODEL --key sentry.key. Everyone who uses the
/// model checks it: sentry verify MODEL --key sentry.pub. Exit codes: 0 verified, 1 rejected, 2 could not check.
#[derive(Parser)]
#[command(name = "sentry", version, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Print no verdicts, remarks and progress: only what was asked for, and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Keygen(Keygen),
    Sign(Sign),
    Verify(Verify),
    Load(Load),
    Hash(Hash),
    Inspect(Inspect),
    Diff(Diff),
    Dataset(Dataset),
    Policy(Policy),
    Doctor(Doctor),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

impl Command {
    /// Whether one JSON document goes to standard output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Sign(Sign { json, .. })
            | Self::Verify(Verify { json, .. })
            | Self::Load(Load { json, .. })
            | Self::Hash(Hash { json, .. })
            | Self::Inspect(Inspect { json, .. })
            | Self::Diff(Diff { json, .. })
            | Self::Policy(Policy { command: PolicyCommand::Check(PolicyCheck { json, .. }) })
            | Self::Doctor(Doctor { json, .. })
            | Self::Bench(Bench { command: BenchCommand::Gpu(BenchGpu { json, .. }) }) => *json,
            Self::Dataset(Dataset { command }) => command.wants_json(),
            Self::Keygen(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }

    /// Whether an error can be a verdict on the artifact; other commands only fail to do what they are asked.
    pub fn gives_verdict(&self) -> bool {
        match self {
            Self::Sign(_) | Self::Verify(_) | Self::Load(_) | Self::Policy(_) => true,
            Self::Dataset(Dataset { command }) => command.gives_verdict(),
            _ => false,
        }
    }

    /// One of the signatures that were given, by its number from 1.
    pub fn signature(&self, number: usize) -> Option<PathBuf> {
        match self {
            Self::Verify(Verify { signed, .. }) | Self::Load(Load { signed, .. }) => {
                signed.signature_paths().into_iter().nth(number.checked_sub(1)?)
            }
            Self::Dataset(Dataset { command: DatasetCommand::Verify(verify) }) => {
                verify.signature_paths().into_iter().nth(number.checked_sub(1)?)
            }
            _ => None,
        }
    }

    /// What an error is about: the artifact, and where its signature is or was to be.
    pub fn subject(&self) -> Subject {
        let (artifact, signature) = match self {
            Self::Sign(arguments) => (Some(&arguments.model), Some(arguments.signature_path())),
            Self::Verify(Verify { signed, .. }) | Self::Load(Load { signed, .. }) => (Some(&signed.path), only(signed.signature_paths())),
            Self::Hash(Hash { model, .. }) => (Some(model), None),
            Self::Diff(Diff { signature, model, .. }) => (Some(model), Some(signature.clone())),
            Self::Inspect(Inspect { signature, .. }) => (None, Some(signature.clone())),
            Self::Doctor(Doctor { model, .. }) => (model.as_ref(), None),
            Self::Dataset(Dataset { command }) => command.subject(),
            Self::Policy(_) | Self::Bench(_) | Self::Keygen(_) | Self::Completions(_) | Self::Man(_) => (None, None),
        };
        let failure = match self {
            Self::Verify(_) | Self::Load(_) | Self::Policy(_) => None,
            Self::Dataset(Dataset { command: DatasetCommand::Verify(_) }) => None,
            Self::Sign(_) | Self::Dataset(Dataset { command: DatasetCommand::Sign(_) | DatasetCommand::Update(_) }) => Some("not signed"),
            _ => Some("error"),
        };
        Subject { artifact: artifact.cloned(), signature, failure }
    }
}

/// The one signature that a report can be about; with several, an error says which it means.
fn only(mut signatures: Vec<PathBuf>) -> Option<PathBuf> {
    signatures.pop().filter(|_| signatures.is_empty())
}

/// What a report is about.
pub struct Subject {
    pub artifact: Option<PathBuf>,
    pub signature: Option<PathBuf>,
    /// How a failure of the command begins, where it is no verdict.
    failure: Option<&'static str>,
}

impl Subject {
    /// The word before an error's message: the verdict, where there is one.
    pub fn verdict_word<'a>(&self, status: &'a str) -> &'a str {
        self.failure.unwrap_or(status)
    }
}

impl Sign {
    pub fn signature_path(&self) -> PathBuf {
        self.signature.clone().unwrap_or_else(|| default_signature_path(&self.model))
    }
}

impl SignedArtifact {
    /// Where the signatures are, named or not; at least one.
    pub fn signature_paths(&self) -> Vec<PathBuf> {
        signature_paths(&self.path, &self.signature)
    }
}

/// Make a key pair: a private key to sign with, and its public half (.pub) to give away
#[derive(Args)]
pub struct Keygen {
    /// Where to write the private key; the public one goes beside it, with the ending .pub
    #[arg(long, value_name = "FILE", default_value = "sentry.key")]
    pub out: PathBuf,
    /// Kind of key; other OpenSSF tools do not know ed25519
    #[arg(long, value_enum, default_value_t = KeyKind::P256)]
    pub algorithm: KeyKind,
    /// Encrypt the private key with a password
    #[arg(long)]
    pub encrypt: bool,
    /// Read the new password from this file [default: $SENTRY_KEY_PASSWORD, else a prompt]
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    pub password_file: Option<PathBuf>,
}

/// Sign a model: a directory or one file
#[derive(Args)]
#[command(after_help = "Exit codes: 0 signed, 1 refused because the model cannot be covered by a signature, 2 could not sign.")]
pub struct Sign {
    /// The model's directory or file
    #[arg(value_name = "PATH")]
    pub model: PathBuf,
    #[command(flatten)]
    pub signer: SignerArguments,
    /// Where to write the signature [default: model.sig in a directory, NAME.sig beside a file]
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Hash of the files; blake3 is the fastest, sha256 is read by every OpenSSF tool
    #[arg(long, value_enum, default_value_t = SignHash::Sha256)]
    pub hash: SignHash,
    /// Sign shards of so many bytes instead of whole files
    #[arg(long, value_name = "BYTES")]
    pub shard_size: Option<u64>,
    /// Leave out this file or folder of the model; may be given several times
    #[arg(long, value_name = "PATH")]
    pub ignore: Vec<PathBuf>,
    /// Follow symbolic links that stay inside the model
    #[arg(long)]
    pub allow_symlinks: bool,
    /// Record the model's version, a whole number
    #[arg(long, value_name = "N")]
    pub artifact_version: Option<u64>,
    /// Add no digests of tensors and no BLAKE3 digests of files
    #[arg(long)]
    pub no_annotations: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// With what to sign
#[derive(Args)]
pub struct SignerArguments {
    /// Private key: PEM, PKCS#8 (encrypted too) or SEC1
    #[arg(long, value_name = "KEY")]
    pub key: PathBuf,
    /// Read the private key's password from this file [default: $SENTRY_KEY_PASSWORD, else a prompt]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The key's certificate: PEM, the certificates of those who issued it may follow in the same file
    #[arg(long, value_name = "PEM")]
    pub certificate: Option<PathBuf>,
    /// Certificates between that one and the root, in their order; may be given several times
    #[arg(long, value_name = "PEM", requires = "certificate")]
    pub chain: Vec<PathBuf>,
    /// Sign with the certificate of an authority; verifiers reject that unless told otherwise
    #[arg(long, requires = "certificate")]
    pub allow_ca_leaf: bool,
    /// Have the signature timestamped by the authority at this address (RFC 3161)
    #[arg(long, value_name = "URL")]
    pub timestamp: Option<String>,
}

/// Verify a model against its signature and those whom you trust: a key, certificates, or a policy
#[derive(Args)]
#[command(after_help = "Exit codes: 0 verified, 1 rejected, 2 could not check.")]
pub struct Verify {
    #[command(flatten)]
    pub signed: SignedArtifact,
    /// Leave out this file or folder, which is not signed; may be given several times
    #[arg(long, value_name = "PATH")]
    pub ignore: Vec<PathBuf>,
    /// Let files that are not signed lie in the model; they are listed
    #[arg(long)]
    pub ignore_unsigned_files: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Load a model's weights to a device, verified, and say how fast that was
///
/// The weights are read once, hashed as they arrive, and compared with what was signed; then their memory is freed. What the first run takes
/// includes all that a process does once, such as loading the driver.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 loaded and verified, 1 rejected, 2 could not load.")]
pub struct Load {
    #[command(flatten)]
    pub signed: SignedArtifact,
    /// Where to load to: cpu, cuda (or cuda:N), or auto for a GPU where there is one
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    pub device: Device,
    /// Which files hold the weights [default: model.safetensors, else those of its index, else the only one]; may be given several times
    #[arg(long, value_name = "NAME")]
    pub weights: Vec<String>,
    /// How to read: auto, through the page cache, or around it where that can be done
    #[arg(long, value_enum, default_value_t = ReadingKind::Auto)]
    pub reading: ReadingKind,
    /// Load so often; the median is reported
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// A model or dataset, whom to trust for it, and its signatures
#[derive(Args)]
#[command(group = ArgGroup::new("trusted").args(["key", "certificate_root", "policy"]).required(true))]
// `requires` alone would be waived where `certificate_root` conflicts with what is given.
#[command(group = ArgGroup::new("whom").args(["identity", "any_identity"]).requires("certificate_root").conflicts_with_all(["key", "policy"]))]
pub struct SignedArtifact {
    /// The directory or file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The public key of the signer whom you trust: PEM
    #[arg(long, value_name = "PUB")]
    pub key: Option<PathBuf>,
    /// Root of the authorities whose certificates you trust: PEM; may be given several times
    #[arg(long, value_name = "PEM", requires = "whom")]
    pub certificate_root: Vec<PathBuf>,
    /// Whom the certificate must name, exactly: an e-mail address, a URI (also spiffe://…), or a host name
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Accept everyone who has a certificate under the roots; for private roots only
    #[arg(long)]
    pub any_identity: bool,
    /// Dangerous: accept the certificate of an authority as the signer's
    #[arg(long, requires = "certificate_root", conflicts_with_all = ["key", "policy"])]
    pub allow_ca_leaf: bool,
    /// Root of the timestamp authorities that you trust: PEM; may be given several times
    #[arg(long, value_name = "PEM", conflicts_with = "policy")]
    pub timestamp_root: Vec<PathBuf>,
    /// The policy that says who may sign what
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// What the policy calls it [default: the last part of PATH, or the repository of a hub cache]
    #[arg(long, value_name = "NAME", requires = "policy", conflicts_with_all = ["key", "certificate_root"])]
    pub artifact: Option<String>,
    /// The signature [default: model.sig (of a dataset dataset.sig) in a directory, NAME.sig beside a file]; several for a policy that asks
    /// for them
    #[arg(long, value_name = "FILE")]
    pub signature: Vec<PathBuf>,
}

/// Hash the files of a model, without any signature
#[derive(Args)]
pub struct Hash {
    /// The model's directory or file
    #[arg(value_name = "PATH")]
    pub model: PathBuf,
    /// Hash of the files
    #[arg(long, value_enum, default_value_t = AnyHash::Sha256)]
    pub hash: AnyHash,
    /// Also hash every tensor of safetensors files (BLAKE3)
    #[arg(long)]
    pub tensors: bool,
    /// Where to hash: cpu, cuda (or cuda:N) for blake3 and the trees, or auto for a GPU where there is one
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    pub device: Device,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Show what a signature claims, without checking it
#[derive(Args)]
pub struct Inspect {
    /// The signature
    #[arg(value_name = "FILE")]
    pub signature: PathBuf,
    /// List the tensors as well
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Show what differs between a model and the list in a signature, without checking who signed
///
/// Exit codes: 0 the same, 1 different, 2 could not compare.
#[derive(Args)]
pub struct Diff {
    /// The signature
    #[arg(value_name = "FILE")]
    pub signature: PathBuf,
    /// The model's directory or file
    #[arg(value_name = "PATH")]
    pub model: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Look at a policy: who may sign what
#[derive(Args)]
pub struct Policy {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Subcommand)]
pub enum PolicyCommand {
    Check(PolicyCheck),
}

/// Say which rule of a policy decides for an artifact, and why
///
/// Exit codes: 0 a rule decides, 1 none does, 2 the policy cannot be used.
#[derive(Args)]
pub struct PolicyCheck {
    /// The policy
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,
    /// The artifact's name, such as acme/llama-3
    #[arg(value_name = "ARTIFACT")]
    pub artifact: String,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Say what this machine has for loading, what it lacks, and how a model would be read
///
/// Each line is what an attempt showed. No signature is looked at, and nothing is loaded; nothing is verified by this.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 whatever was found, 2 bad usage, or a model that cannot be listed.")]
pub struct Doctor {
    /// The model's directory or file
    #[arg(value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Where a load would go to: cpu, cuda (or cuda:N), or auto for all GPUs that there are, and a load to the first
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    pub device: Device,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Measure what this machine can do
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Subcommand)]
pub enum BenchCommand {
    Gpu(BenchGpu),
}

/// Measure how fast a GPU hashes what lies in its memory
///
/// One message of each size, or the tensors of a model (--lengths), of bytes that repeat after 64 MiB. Medians, with the fastest and the
/// slowest in brackets: the GPU's time by itself, and the time of the whole call.
#[derive(Args)]
pub struct BenchGpu {
    /// The GPU
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    pub device: Device,
    /// Algorithms to measure [default: blake3 and the trees]; may be given several times
    #[arg(long, value_enum)]
    pub hash: Vec<AnyHash>,
    /// Largest message in bytes [default: what the GPU's free memory allows, at most 8 GiB]
    #[arg(long, value_name = "BYTES")]
    pub largest: Option<u64>,
    /// Measure one model instead: a file with the length in bytes of each of its tensors, one a line; they are hashed in one call
    #[arg(long, value_name = "FILE", conflicts_with = "largest")]
    pub lengths: Option<PathBuf>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Print a completion script for a shell
#[derive(Args)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

/// Write the manual pages
#[derive(Args)]
pub struct Man {
    /// The folder to write them to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ReadingKind {
    Auto,
    Cached,
    Direct,
}

impl From<ReadingKind> for Reading {
    fn from(kind: ReadingKind) -> Self {
        match kind {
            ReadingKind::Auto => Self::Auto,
            ReadingKind::Cached => Self::Cached,
            ReadingKind::Direct => Self::Direct,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum KeyKind {
    P256,
    P384,
    P521,
    Ed25519,
}

impl From<KeyKind> for KeyAlgorithm {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Self::EcdsaP256Sha256,
            KeyKind::P384 => Self::EcdsaP384Sha384,
            KeyKind::P521 => Self::EcdsaP521Sha512,
            KeyKind::Ed25519 => Self::Ed25519,
        }
    }
}

/// The hashes of OpenSSF Model Signing.
#[derive(Clone, Copy, ValueEnum)]
pub enum SignHash {
    Sha256,
    Blake2b,
    Blake3,
}

impl From<SignHash> for Algorithm {
    fn from(hash: SignHash) -> Self {
        match hash {
            SignHash::Sha256 => Self::Sha256,
            SignHash::Blake2b => Self::Blake2b,
            SignHash::Blake3 => Self::Blake3,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum AnyHash {
    Sha256,
    Blake2b,
    Blake3,
    #[value(name = "sha3-256")]
    Sha3_256,
    Sha256Tree,
    Blake2bTree,
    #[value(name = "sha3-256-tree")]
    Sha3_256Tree,
}

impl From<AnyHash> for Algorithm {
    fn from(hash: AnyHash) -> Self {
        match hash {
            AnyHash::Sha256 => Self::Sha256,
            AnyHash::Blake2b => Self::Blake2b,
            AnyHash::Blake3 => Self::Blake3,
            AnyHash::Sha3_256 => Self::Sha3_256,
            AnyHash::Sha256Tree => Self::Sha256Tree,
            AnyHash::Blake2bTree => Self::Blake2bTree,
            AnyHash::Sha3_256Tree => Self::Sha3_256Tree,
        }
    }
}
