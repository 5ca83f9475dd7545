//! What commands read besides the model: keys, passwords, and paths that a person typed.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, bail};
use sentry::{Error, KeyError, PrivateKey, PublicKey};

use crate::args::Password;

/// Longest key or password file in bytes; real ones have a few thousand.
const MAX_KEY_FILE: u64 = 1 << 20;

/// Environment variable with the private key's password.
const PASSWORD_VARIABLE: &str = "SENTRY_KEY_PASSWORD";

fn read_small(path: &Path, what: &'static str) -> Result<Vec<u8>, Error> {
    let error = |source| Error::Io { action: what, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(error)?.take(MAX_KEY_FILE).read_to_end(&mut bytes).map_err(error)?;
    Ok(bytes)
}

pub fn public_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text = read_small(path, "read the public key")?;
    Ok(PublicKey::from_pem(&text).map_err(Error::Key)?)
}

pub fn private_key(path: &Path, password: &Password) -> anyhow::Result<PrivateKey> {
    let text = read_small(path, "read the private key")?;
    match PrivateKey::from_pem(&text, None) {
        Err(KeyError::Encrypted) => {
            let password = existing_password(password)?.ok_or(Error::Key(KeyError::Encrypted))?;
            Ok(PrivateKey::from_pem(&text, Some(password.as_bytes())).map_err(Error::Key)?)
        }
        result => Ok(result.map_err(Error::Key)?),
    }
}

/// The password of a key that exists: from a file, the environment, or a prompt if there is a terminal.
fn existing_password(password: &Password) -> anyhow::Result<Option<String>> {
    if let Some(given) = given_password(password)? {
        return Ok(Some(given));
    }
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    Ok(Some(rpassword::prompt_password("Password of the private key: ")?))
}

/// The password of a new key; typed twice, since a typing error would lose the key.
pub fn new_password(password: &Password) -> anyhow::Result<String> {
    let chosen = match given_password(password)? {
        Some(given) => given,
        None if std::io::stdin().is_terminal() => {
            let first = rpassword::prompt_password("New password: ")?;
            if rpassword::prompt_password("Once more: ")? != first {
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

fn given_password(password: &Password) -> anyhow::Result<Option<String>> {
    if let Some(path) = &password.password_file {
        let mut text = String::from_utf8(read_small(path, "read the password")?).context("the password is not UTF-8")?;
        let trimmed = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(trimmed);
        return Ok(Some(text));
    }
    Ok(std::env::var(PASSWORD_VARIABLE).ok())
}

/// Turns paths that a person gave, relative to the working directory, into paths relative to the model.
pub fn inside_model(model: &Path, paths: &[impl AsRef<Path>]) -> anyhow::Result<Vec<String>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let root = model.canonicalize().with_context(|| format!("cannot resolve \"{}\"", model.display()))?;
    paths.iter().map(|path| relative_to(&root, path.as_ref())).collect()
}

fn relative_to(root: &Path, path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("--ignore \"{shown}\" names no file or folder inside the model");
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let full = parent.canonicalize().with_context(|| format!("cannot resolve --ignore \"{shown}\""))?.join(name);
    full.symlink_metadata().with_context(|| format!("cannot find --ignore \"{shown}\""))?;
    let inside = full.strip_prefix(root).with_context(|| format!("--ignore \"{shown}\" does not lie in the model"))?;
    inside.to_str().map(str::to_owned).with_context(|| format!("--ignore \"{shown}\" is not UTF-8"))
}
