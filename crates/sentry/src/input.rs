//! Small files that a caller names: keys, certificates, policies.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sentry_trust::{ArtifactName, CertificateSigner, MAX_POLICY_BYTES, Policy, PrivateKey, PublicKey, Roots, TimestampAuthorities};
use zeroize::Zeroizing;

use crate::Error;

/// Longest file of keys or certificates in bytes; real ones have a few thousand.
const MAX_SMALL_FILE: u64 = 1 << 20;

/// Reads a small file, whose bytes are wiped when they are dropped. `action` completes "cannot …" in an error.
///
/// # Errors
/// [`Error::Io`], also for a file of more than 1 MiB.
pub fn read_small_file(path: &Path, action: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let error = |source| Error::Io { action, path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).map_err(error)?.take(MAX_SMALL_FILE + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > MAX_SMALL_FILE {
        return Err(error(io::Error::other("it is longer than 1 MiB")));
    }
    Ok(bytes)
}

/// Reads a public key.
///
/// # Errors
/// [`Error::Io`], [`Error::KeyFile`].
pub fn read_public_key(path: &Path) -> Result<PublicKey, Error> {
    let text = read_small_file(path, "read the public key")?;
    PublicKey::from_pem(&text).map_err(|source| Error::KeyFile { path: path.to_owned(), source })
}

/// Reads roots of certificate authorities.
///
/// # Errors
/// [`Error::Io`], [`Error::CertificateFile`].
pub fn read_roots(paths: &[PathBuf]) -> Result<Roots, Error> {
    Roots::from_pem(&read_all(paths, "read the roots")?).map_err(|source| Error::CertificateFile { paths: paths.to_vec(), source })
}

/// Reads roots of timestamp authorities.
///
/// # Errors
/// [`Error::Io`], [`Error::CertificateFile`].
pub fn read_timestamp_authorities(paths: &[PathBuf]) -> Result<TimestampAuthorities, Error> {
    let texts = read_all(paths, "read the roots of timestamp authorities")?;
    TimestampAuthorities::from_pem(&texts).map_err(|source| Error::CertificateFile { paths: paths.to_vec(), source })
}

/// Reads the certificate of a private key, and those of the authorities that issued it.
///
/// # Errors
/// [`Error::Io`], [`Error::Sign`].
pub fn read_certificate_signer<'a>(
    key: &'a PrivateKey,
    certificate: &Path,
    chain: &[PathBuf],
    allow_authority_leaf: bool,
) -> Result<CertificateSigner<'a>, Error> {
    let certificate = read_small_file(certificate, "read the certificate")?;
    let chain = read_all(chain, "read the chain")?;
    Ok(CertificateSigner::new(key, &certificate, &chain, allow_authority_leaf)?)
}

/// Opens a file to be read. Opening a pipe would otherwise wait for its writer.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn read_all(paths: &[PathBuf], action: &'static str) -> Result<Vec<Vec<u8>>, Error> {
    paths.iter().map(|path| read_small_file(path, action).map(|bytes| bytes.to_vec())).collect()
}

/// Reads a policy, and the keys and certificates that it names, which lie relative to it.
///
/// # Errors
/// [`Error::Io`] if the policy cannot be read, [`Error::Policy`] for what is wrong with it.
pub fn read_policy(path: &Path) -> Result<Policy, Error> {
    let error = |source| Error::Io { action: "read the policy", path: path.to_owned(), source };
    // A key may come from a pipe; a policy is a file.
    let file = open_without_waiting(path).map_err(error)?;
    if !file.metadata().map_err(error)?.is_file() {
        return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_POLICY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(error)?;
    let text = String::from_utf8(bytes).map_err(|_| error(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |name: &str| match read_small_file(&folder.join(name), "read") {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(error.to_string()),
    };
    Policy::parse(&text, &read).map_err(|source| Error::Policy { path: path.to_owned(), source: Box::new(source) })
}

/// What a policy calls the artifact at a path, unless its user says otherwise: the last part of the path, or the
/// `organisation/name` of a snapshot in the hub's cache (`models--organisation--name/snapshots/REVISION`); that of a dataset or
/// space begins with `datasets/` or `spaces/`, as in the hub's addresses.
///
/// # Errors
/// [`Error::Options`] for a path that ends with no name, such as `.`, or with none that a policy can have.
pub fn default_artifact_name(model: &Path) -> Result<ArtifactName, Error> {
    let nameless = || Error::Options { reason: "the path does not say what the policy calls this artifact: give its name" };
    let name = hub_name(model).or_else(|| Some(model.file_name()?.to_str()?.to_owned())).ok_or_else(nameless)?;
    name.parse().map_err(|_| nameless())
}

fn hub_name(snapshot: &Path) -> Option<String> {
    let snapshots = snapshot.parent()?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    let (kind, name) = repository.split_once("--")?;
    if snapshots.file_name()? != "snapshots" {
        return None;
    }
    let name = name.replace("--", "/");
    match kind {
        "models" => Some(name),
        "datasets" | "spaces" => Some(format!("{kind}/{name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_the_name_of_its_path_or_repository() {
        for (path, name) in [
            ("models/llama", "llama"),
            ("llama.safetensors", "llama.safetensors"),
            ("/a/b/", "b"),
            ("hub/models--acme--llama/snapshots/1a2b", "acme/llama"),
            ("hub/models--gpt2/snapshots/1a2b", "gpt2"),
            ("hub/datasets--acme--llama/snapshots/1a2b", "datasets/acme/llama"),
            ("hub/models--acme--llama/blobs/1a2b", "1a2b"),
            ("hub/other--acme--llama/snapshots/1a2b", "1a2b"),
        ] {
            assert_eq!(default_artifact_name(Path::new(path)).unwrap().to_string(), name, "{path}");
        }
        for path in ["", ".", "/", "..", "a/..", "a*"] {
            assert_eq!(default_artifact_name(Path::new(path)).unwrap_err().code(), "usage", "{path}");
        }
    }
}
