//! What commands read besides the model: keys, passwords, and paths that a person typed.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sentry::{Error, KeyError, PrivateKey, PublicKey, Signer, printable_path, read_certificate_signer, read_small_file};
use zeroize::Zeroizing;

use crate::args::SignerArguments;

/// Environment variable with the private key's password.
const PASSWORD_VARIABLE: &str = "SENTRY_KEY_PASSWORD";

/// Calls `sign` with the signer that was named, and its public key; gives the fingerprint of that as well.
pub fn with_signer<T>(
    arguments: &SignerArguments,
    sign: impl FnOnce(&dyn Signer, &PublicKey) -> anyhow::Result<T>,
) -> anyhow::Result<(T, String)> {
    let key = private_key(&arguments.key, arguments.password_file.as_deref())?;
    let signed = match &arguments.certificate {
        Some(certificate) => sign(&read_certificate_signer(&key, certificate, &arguments.chain, arguments.allow_ca_leaf)?, key.public()),
        None => sign(&key, key.public()),
    }?;
    Ok((signed, key.public().fingerprint().to_owned()))
}

fn private_key(path: &Path, password_file: Option<&Path>) -> anyhow::Result<PrivateKey> {
    let text = read_small_file(path, "read the private key")?;
    let key_file = |source| Error::KeyFile { path: path.to_owned(), source };
    match PrivateKey::from_pem(&text, None) {
        Err(KeyError::Encrypted) => {
            let password = existing_password(password_file)?.ok_or_else(|| key_file(KeyError::Encrypted))?;
            Ok(PrivateKey::from_pem(&text, Some(password.as_bytes())).map_err(key_file)?)
        }
        result => Ok(result.map_err(key_file)?),
    }
}

/// The password of a key that exists: from a file, the environment, or a prompt if there is a terminal.
fn existing_password(password_file: Option<&Path>) -> anyhow::Result<Option<Zeroizing<String>>> {
    if let Some(given) = given_password(password_file)? {
        return Ok(Some(given));
    }
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    Ok(Some(rpassword::prompt_password("Password of the private key: ")?.into()))
}

/// The password of a new key; typed twice, since a typing error would lose the key.
pub fn new_password(password_file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let chosen = match given_password(password_file)? {
        Some(given) => given,
        None if std::io::stdin().is_terminal() => {
            let first = Zeroizing::new(rpassword::prompt_password("New password: ")?);
            if *Zeroizing::new(rpassword::prompt_password("Once more: ")?) != *first {
                bail!("the two passwords differ");
            }
            first
        }
        None => bail!("--encrypt needs a password: give --password-file or set {PASSWORD_VARIABLE}"),
    };
    if chosen.is_empty() {
        bail!("an empty password protects nothing");
    }
    Ok(chosen)
}

fn given_password(password_file: Option<&Path>) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(path) = password_file else {
        return Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Zeroizing::new));
    };
    let bytes = read_small_file(path, "read the password")?;
    let text = std::str::from_utf8(&bytes).context("the password is not UTF-8")?;
    Ok(Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
}

/// Turns paths that a person gave, relative to the working directory, into paths relative to the model.
pub fn inside_model(model: &Path, paths: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let root = model.canonicalize().with_context(|| format!("cannot resolve \"{}\"", printable_path(model)))?;
    paths.iter().map(|path| relative_to(&root, path)).collect()
}

fn relative_to(root: &Path, path: &Path) -> anyhow::Result<String> {
    let shown = printable_path(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("--ignore \"{shown}\" names no file or folder inside the model");
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let full = parent.canonicalize().with_context(|| format!("cannot resolve --ignore \"{shown}\""))?.join(name);
    full.symlink_metadata().with_context(|| format!("cannot find --ignore \"{shown}\""))?;
    match full.strip_prefix(root).map(Path::to_str) {
        Ok(Some("")) => bail!("--ignore \"{shown}\" is the model itself"),
        Ok(Some(inside)) => Ok(inside.to_owned()),
        Ok(None) => bail!("--ignore \"{shown}\" is not UTF-8"),
        Err(_) => bail!("--ignore \"{shown}\" does not lie in the model"),
    }
}
