//! `sentry keygen`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sentry::{Error, PrivateKey};

use crate::args::Keygen;
use crate::input::new_password;
use crate::output::Output;

pub fn run(arguments: &Keygen, output: &Output) -> anyhow::Result<ExitCode> {
    let public_path = public_path(&arguments.out)?;
    for path in [&arguments.out, &public_path] {
        if path.symlink_metadata().is_ok() {
            bail!("\"{}\" exists; a key is never overwritten", path.display());
        }
    }
    let password = if arguments.encrypt { Some(new_password(&arguments.password)?) } else { None };
    let key = PrivateKey::generate(arguments.algorithm.into()).map_err(Error::Key)?;
    let private = key.to_pem(password.as_deref().map(str::as_bytes)).map_err(Error::Key)?;
    create(&arguments.out, private.as_bytes(), 0o600)?;
    create(&public_path, key.public().to_pem().as_bytes(), 0o644)?;
    output.say(format!(
        "private key  {}  (keep it secret{})\npublic key   {}  (give it to whoever verifies)\nfingerprint  {} ({})",
        arguments.out.display(),
        if arguments.encrypt { ", encrypted" } else { "" },
        public_path.display(),
        key.public().fingerprint(),
        key.public().algorithm(),
    ));
    Ok(ExitCode::SUCCESS)
}

fn public_path(private: &Path) -> anyhow::Result<PathBuf> {
    let public = private.with_extension("pub");
    if public == private || private.file_name().is_none() {
        bail!("--out \"{}\" is no name for a private key: the public key would have the same", private.display());
    }
    Ok(public)
}

/// Writes a new file; never through a link and never over another.
fn create(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).open(path).with_context(|| format!("cannot create \"{}\"", path.display()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("cannot write \"{}\"", path.display()))
}
