//! `sentry keygen`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sentry::{Error, PrivateKey, printable_path};

use crate::args::Keygen;
use crate::input::new_password;
use crate::output::Output;

pub fn run(arguments: &Keygen, output: &Output) -> anyhow::Result<ExitCode> {
    let public_path = public_path(&arguments.out)?;
    for path in [&arguments.out, &public_path] {
        if path.symlink_metadata().is_ok() {
            bail!("\"{}\" exists; a key is never overwritten", printable_path(path));
        }
    }
    let password = if arguments.encrypt { Some(new_password(arguments.password_file.as_deref())?) } else { None };
    let key = PrivateKey::generate(arguments.algorithm.into()).map_err(Error::Key)?;
    let private = key.to_pem(password.as_ref().map(|password| password.as_bytes())).map_err(Error::Key)?;
    create(&arguments.out, private.as_bytes(), 0o600)?;
    create(&public_path, key.public().to_pem().as_bytes(), 0o644).inspect_err(|_| {
        // Half a pair is of no use and would be in the way of the next try.
        let _ = std::fs::remove_file(&arguments.out);
    })?;
    output.say(format!(
        "private key  {}  (keep it secret{})\npublic key   {}  (give it to whoever verifies)\nfingerprint  {} ({})",
        printable_path(&arguments.out),
        if arguments.encrypt { ", encrypted" } else { "" },
        printable_path(&public_path),
        key.public().fingerprint(),
        key.public().algorithm(),
    ));
    Ok(ExitCode::SUCCESS)
}

fn public_path(private: &Path) -> anyhow::Result<PathBuf> {
    let public = private.with_extension("pub");
    if public == private || private.file_name().is_none() {
        bail!("--out \"{}\" is no name for a private key: the public key would have the same", printable_path(private));
    }
    Ok(public)
}

/// Writes a new file; never through a link and never over another.
fn create(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let shown = printable_path(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(|| format!("cannot create \"{shown}\""))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(std::fs::remove_file(path))).with_context(|| format!("cannot write \"{shown}\""))
}
